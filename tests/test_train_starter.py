"""The training of the starter base, on scenes too small to learn anything from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewbox.errors import SettingError
from fewbox.models.base import read_base, restore
from fewbox.models.families import build_network
from fewbox.models.network import PADDING_ID, Batch
from fewbox.models.yolox.network import YoloxDetector, make_cells
from starter_cast import GROUP_SIDE, AlmostTheSame, cast_scene, play
from starter_loss import PORTRAIT_SIDE, Tutors, assign, portraits_of, starter_loss
from starter_samples import CastBatch, ScenePool, mix
from starter_scenes import SceneKind, render_scenes
from starter_training import (
    CHECKPOINT_NAME,
    LOG_NAME,
    Learner,
    TrainSettings,
    learnt_weights,
    train,
)
from train_starter import export, main

SIDE = 64
KIND = SceneKind(side=96, seed=3, groups=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    render_scenes(folder, 4, KIND, workers=1)
    return folder


def settings(**changes: Any) -> TrainSettings:
    return dataclasses.replace(
        TrainSettings(side=SIDE, shortest=32, steps=4, batch_size=2, log_every=2), **changes
    )


# --- scenes


@pytest.mark.slow
def test_a_broken_off_rendering_goes_on(scenes: Path) -> None:
    lost, kept = scenes / "scene_000002.npz", scenes / "scene_000001.npz"
    boxes, photo, age = np.load(lost)["boxes"], lost.with_suffix(".jpg").read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    render_scenes(scenes, 4, KIND, workers=1)
    np.testing.assert_array_equal(np.load(lost)["boxes"], boxes)
    assert lost.with_suffix(".jpg").read_bytes() == photo
    assert kept.stat().st_mtime_ns == age


def test_scenes_of_another_kind_are_not_mixed_in(scenes: Path) -> None:
    with pytest.raises(SettingError, match=r"holds scenes of .*side=96.* not of .*side=128"):
        render_scenes(scenes, 4, dataclasses.replace(KIND, side=128), workers=1)


# --- the cast


def looks(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A character's form and main colours, as it comes in one scene."""
    thing = play(np.random.default_rng(seed), number, floating=False)
    return thing.solid.high - thing.solid.low, thing.materials[0].colors


@pytest.mark.slow
def test_a_character_is_never_quite_the_same_and_always_like_itself() -> None:
    for number in range(0, 3 * GROUP_SIDE**2, 7):
        appearances = [looks(number, seed) for seed in range(4)]
        forms, colors = (np.stack(values) for values in zip(*appearances, strict=True))
        families = {play(np.random.default_rng(seed), number, floating=True).family for seed in range(4)}
        assert len(families) == 1
        assert not np.array_equal(colors[0], colors[1])
        assert colors.std(0).max() < 0.25
        assert (forms.std(0) / forms.mean(0)).max() < 0.5


def test_in_a_group_every_form_has_every_finish() -> None:
    cast = [play(np.random.default_rng(0), number, floating=False) for number in range(GROUP_SIDE**2)]
    for first in range(GROUP_SIDE):
        same_form = cast[first * GROUP_SIDE : (first + 1) * GROUP_SIDE]
        assert len({thing.family for thing in same_form}) == 1
        same_finish = cast[first::GROUP_SIDE]
        assert len({thing.materials[0].pattern is None for thing in same_finish}) == 1
        spread = np.stack([thing.materials[0].colors for thing in same_finish]).std(0).max()
        assert spread < np.stack([thing.materials[0].colors for thing in same_form]).std(0).max()


def test_numbers_change_within_their_range_only() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([AlmostTheSame((5,), 0.2, rng).uniform(2.0, 4.0) for _ in range(200)])
    assert 2 <= drawn.min() < drawn.max() <= 4
    assert 0.1 < drawn.std() < 0.5
    plain = np.random.Generator(np.random.PCG64((5,)))
    assert AlmostTheSame((5,), 0.0, rng).uniform(2.0, 4.0) == plain.uniform(2.0, 4.0)
    assert AlmostTheSame((5,), 0.2, rng).uniform(size=(3, 1)).shape == (3, 1)


def test_scenes_are_cast_from_one_group_above_all() -> None:
    scenes = [cast_scene(np.random.default_rng(seed), 150) for seed in range(50)]
    assert all(0 <= number < 150 * GROUP_SIDE**2 for scene in scenes for number in scene)
    shares = [max(np.bincount([n // GROUP_SIDE**2 for n in scene])) / len(scene) for scene in scenes]
    assert 0.5 < np.mean(shares) < 0.95


# --- samples


def pool_of(scenes: Path) -> ScenePool:
    return ScenePool(scenes, CPU)


@pytest.mark.slow
def test_a_batch_depends_on_its_seed_alone(scenes: Path) -> None:
    first, again, other = (mix(pool_of(scenes), np.random.default_rng(seed), 5, SIDE) for seed in (0, 0, 1))
    for field in dataclasses.fields(CastBatch):
        torch.testing.assert_close(getattr(first, field.name), getattr(again, field.name), rtol=0, atol=0)
    assert not torch.equal(first.pixels, other.pixels)


def test_boxes_lie_inside_their_sample(scenes: Path) -> None:
    batch = mix(pool_of(scenes), np.random.default_rng(0), 40, SIDE)
    real = batch.class_ids != PADDING_ID
    assert torch.equal(real, batch.characters != PADDING_ID)
    assert real.any(0).all()  # no more rows than the fullest sample has boxes
    boxes = batch.boxes[real]
    assert len(boxes) > 20
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 6
    assert batch.characters[real].max() < KIND.num_characters


@pytest.mark.parametrize("seed", range(4))
def test_boxes_move_with_their_photo(scenes: Path, seed: int) -> None:
    pool = pool_of(scenes)
    pool.pixels[:], pool.ids[:], pool.boxes[:] = 0, PADDING_ID, 0
    pool.pixels[:, :, 40:64, 30:55] = 255
    pool.boxes[:, 0], pool.ids[:, :, 0] = torch.tensor([30.0, 40, 55, 64]), 7
    batch = mix(pool, np.random.default_rng(seed), 6, 160)
    alone = 0
    for pixels, boxes, ids in zip(batch.pixels, batch.boxes, batch.class_ids, strict=True):
        grey = pixels.float().mean(0)
        for left, top, right, bottom in boxes[ids == 7].tolist():
            inside = grey[int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]
            assert inside.min() > 20 + grey.min()
            assert inside.amax() - inside.amin() < 30
        if (ids == 7).sum() == 1:
            rows, columns = (grey > grey.max() - 30).nonzero(as_tuple=True)
            seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            alone += int((seen - boxes[ids == 7][0]).abs().max() <= 2)
    assert alone >= 2


@pytest.mark.slow
def test_scenes_rendered_meanwhile_join_in(scenes: Path, tmp_path: Path) -> None:
    render_scenes(tmp_path, 1, KIND, workers=1)
    pool = pool_of(tmp_path)
    assert pool.count == 1
    first = pool.pixels[0].clone()
    for path in scenes.glob("scene_000002.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    pool.load_new()
    assert pool.count == 1  # a batch that is being mixed sees no change
    pool.take_in()
    assert pool.count == 2
    assert torch.equal(pool.pixels[0], first)
    assert torch.equal(pool.pixels[1], pool_of(scenes).pixels[2])


def test_a_batch_fills_up_its_boxes() -> None:
    image = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    none = (image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    two = (image, torch.ones(2, 4), torch.tensor([3, 5]))
    batch = Batch.of([none, two])
    assert batch.boxes.shape == (2, 2, 4)
    assert batch.class_ids.tolist() == [[PADDING_ID, PADDING_ID], [3, 5]]
    assert Batch.of([none]).boxes.shape == (1, 1, 4)


# --- the loss


def outputs_for(boxes: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """The codes with which every cell predicts the first box that is nearest to it."""
    sides = cells[:, 2:] - cells[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    nearest = torch.cdist((cells[:, :2] + cells[:, 2:]) / 2, centres).argmin(1)
    chosen = boxes[nearest]
    codes_xy = (centres[nearest] - cells[:, :2]) / sides
    return torch.cat((codes_xy, ((chosen[:, 2:] - chosen[:, :2]) / sides).log()), 1)


def tutors_of_nothing(cells: torch.Tensor, count: int) -> tuple[torch.Tensor, Tutors]:
    """Features of nothing, and tutors who take it for a black photo of any of two characters."""
    tutors = Tutors(1, 2).requires_grad_(False)
    tutors.portraits.bias[:] = 0
    tutors.portraits.bias[: 3 * PORTRAIT_SIDE**2] = -1
    tutors.characters.bias[:] = 0
    return torch.zeros(count, len(cells), 1), tutors


def test_a_portrait_has_the_colours_of_its_box() -> None:
    pixels = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    pixels[0, 0, 16:48, 16:32] = 255  # the left half of the box is blue
    boxes = torch.tensor([[[16.0, 16, 48, 48], [0, 0, 0, 0]]])
    batch = Batch(pixels, boxes, torch.tensor([[0, PADDING_ID]]))
    portrait = portraits_of(batch)[0, 0].view(7, PORTRAIT_SIDE, PORTRAIT_SIDE)
    expected = torch.full_like(portrait[:3], -1)
    expected[0, :, :3] = 1
    torch.testing.assert_close(portrait[:3], expected)
    across, down, *_ = portrait[3:]
    assert across[1:-1, 2:4].min() > 0.5  # the edge between the halves
    assert across[1:-1, 1].max().item() == pytest.approx(0, abs=1e-5)
    assert down[1:-1].max().item() == pytest.approx(0, abs=1e-5)


def test_cells_around_the_middle_learn_a_box() -> None:
    cells = make_cells((SIDE, SIDE))
    boxes = torch.tensor([[[4.0, 4, 24, 28], [30, 30, 60, 60]], [[8, 8, 40, 40], [0, 0, 0, 0]]])
    class_ids = torch.tensor([[0, 1], [2, PADDING_ID]])
    black = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    batch = CastBatch(black, boxes, class_ids, class_ids.clamp(max=1))
    codes = torch.stack([outputs_for(boxes[0], cells), outputs_for(boxes[1, :1], cells)])
    loss = starter_loss(codes, torch.zeros(2, len(cells), 4), cells, batch, *tutors_of_nothing(cells, 2))
    assert loss.box.item() == pytest.approx(0, abs=1e-4)
    assert loss.portraits.item() == pytest.approx(0, abs=1e-4)
    assert loss.characters.item() == pytest.approx(np.log(2), abs=1e-4)
    predicted = torch.stack([boxes[0, :1].expand(len(cells), 4), boxes[1, :1].expand(len(cells), 4)])
    matches = assign(predicted, torch.zeros(2, len(cells), 4), cells, batch)
    assert (matches == 1)[0].sum() == 1  # nothing fits it: the one nearest cell alone
    assert (matches == 0)[0].sum() == 10
    assert set(matches[1].tolist()) == {-1, 0}
    middles = (cells[:, :2] + cells[:, 2:]) / 2
    gaps = (middles[matches[1] == 0] - 24).abs().amax(1) / (cells[:, 2] - cells[:, 0])[matches[1] == 0]
    assert gaps.max() < 1.5


def test_photos_without_objects_teach_that_there_is_none() -> None:
    cells = make_cells((SIDE, SIDE))
    none = torch.full((1, 1), PADDING_ID)
    empty = CastBatch(
        torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), torch.zeros(1, 1, 4), none, none.clone()
    )
    logits = torch.zeros(1, len(cells), 4, requires_grad=True)
    loss = starter_loss(torch.zeros(1, len(cells), 4), logits, cells, empty, *tutors_of_nothing(cells, 1))
    loss.total.backward()
    assert loss.num_matched == 0
    assert (logits.grad[..., 0] > 0).all()
    assert (logits.grad[..., 1:] == 0).all()


# --- training


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Learner, Path]:
    """What a run of few steps has learnt, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    return train(scenes, folder, settings()), folder


@pytest.mark.slow
def test_a_batch_can_be_learnt_by_heart(scenes: Path) -> None:
    batch = mix(pool_of(scenes), np.random.default_rng(0), 2, SIDE)
    learner = Learner(settings(steps=30, learning_rate=0.005), KIND.num_characters, CPU)
    losses = [learner.learn(batch).total.item() for _ in range(20)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    scenes: Path, trained: tuple[Learner, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Learner.learn

    def killed_at_step_2(learner: Learner, batch: CastBatch) -> object:
        if learner.step == 2:
            raise KeyboardInterrupt
        return learn(learner, batch)

    monkeypatch.setattr(Learner, "learn", killed_at_step_2)
    with pytest.raises(KeyboardInterrupt):
        train(scenes, tmp_path / "broken", settings(save_seconds=0))
    monkeypatch.setattr(Learner, "learn", learn)
    learner = train(scenes, tmp_path / "broken", settings(save_seconds=0))
    assert learner.step == 4
    _, whole = learnt_weights(trained[1] / CHECKPOINT_NAME, 5)
    _, resumed = learnt_weights(tmp_path / "broken" / CHECKPOINT_NAME, 5)
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=0)
    with pytest.raises(SettingError, match="another network"):
        train(scenes, tmp_path / "broken", settings(side=96))
    rows = [json.loads(line) for line in (trained[1] / LOG_NAME).read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]


@pytest.mark.slow
def test_an_exported_base_is_read_back_and_can_be_tuned(
    trained: tuple[Learner, Path], tmp_path: Path
) -> None:
    checkpoint, target = trained[1] / CHECKPOINT_NAME, tmp_path / "starter.safetensors"
    export(checkpoint, target, side=96, num_classes=5)
    base = read_base(target)
    assert {w.dtype for w in base.weights.values()} == {np.dtype(np.float32)}
    assert target.stat().st_size < 2.2 * sum(w.size for w in base.weights.values())  # two bytes each
    config, weights, report = restore(base, 1, seed=0)
    assert len(report.restored) + len(report.new) == len(weights)
    assert config.size_hw == (96, 96)

    learnt_config, learnt_by_name = learnt_weights(checkpoint, 5)
    learnt = YoloxDetector(learnt_config)
    learnt.load_state_dict(learnt_by_name)
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255
    exported = build_network(base.config, base.weights)
    for one, other in zip(learnt(pixels), exported(pixels), strict=True):  # type: ignore[operator]
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01)


@pytest.mark.slow
def test_the_classes_of_a_base_are_characters(trained: tuple[Learner, Path]) -> None:
    learner, folder = trained
    every, some = (learnt_weights(folder / CHECKPOINT_NAME, n)[1] for n in (KIND.num_characters, 3))
    for level in range(3):
        name = f"head.cls_preds.{level}.weight"
        torch.testing.assert_close(every[name].flatten(1), learner.tutors.characters.weight.detach())
        assert torch.equal(some[name], every[name][[0, (KIND.num_characters - 1) // 2, -1]])


@pytest.mark.slow
def test_a_run_may_begin_with_the_weights_of_another(trained: tuple[Learner, Path]) -> None:
    first, folder = trained
    second = Learner(settings(seed=1), KIND.num_characters, CPU)
    second.start_from(folder / CHECKPOINT_NAME)
    assert second.step == 0
    for name, weight in second.network.state_dict().items():
        torch.testing.assert_close(weight, first.average[name], rtol=0, atol=0)
    torch.testing.assert_close(second.tutors.state_dict(), first.tutors.state_dict(), rtol=0, atol=0)
    with pytest.raises(SettingError, match="another cast"):
        Learner(settings(), KIND.num_characters + 1, CPU).start_from(folder / CHECKPOINT_NAME)


@pytest.mark.slow
def test_the_average_follows_the_weights(scenes: Path) -> None:
    learner = Learner(settings(averaging=0), KIND.num_characters, CPU)
    learner.learn(mix(pool_of(scenes), np.random.default_rng(0), 2, SIDE))
    for name, weight in learner.network.state_dict().items():
        if weight.is_floating_point():
            torch.testing.assert_close(learner.average[name], weight)


@pytest.mark.parametrize("progress", [0.0, 0.03, 0.5, 1.0])
def test_the_step_size_rises_and_falls(progress: float) -> None:
    rate, highest = settings().rate_at(progress), settings().learning_rate
    assert 0 < rate <= highest * 1.001
    assert (rate == pytest.approx(highest)) == (progress == 0.03)


def test_a_run_has_one_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--steps", "3", "--minutes", "1"]):
        assert main(["train", str(tmp_path), *arguments]) == 2
        assert "either steps or minutes" in capsys.readouterr().err


def test_training_needs_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), "--steps", "3", "--side", "64"]) == 2
    assert "no scenes" in capsys.readouterr().err


def test_at_first_nothing_is_likely_anywhere() -> None:
    learner = Learner(settings(), KIND.num_characters, CPU)
    _, logits = learner.network(torch.full((2, 3, SIDE, SIDE), 100.0))
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3)
