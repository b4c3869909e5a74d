"""The training of the starter base, on scenes too small to learn anything from."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from goldeneye.errors import SettingError
from goldeneye.finetuning.dense_loss import PADDING_ID, Batch
from goldeneye.finetuning.restore import restore
from goldeneye.models.architectures import build_network
from goldeneye.models.base import read_base
from goldeneye.models.yolox import YoloxDetector, make_cells

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from starter_loss import PORTRAIT_NUMBERS, PORTRAIT_SIDE, assign, portraits_of, starter_loss
from starter_samples import Samples, look_through
from starter_scenes import render_scenes
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
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    render_scenes(folder, 4, side=96, seed=3, workers=1)
    return folder


def settings(**changes: Any) -> TrainSettings:
    return dataclasses.replace(
        TrainSettings(side=SIDE, shortest=32, steps=4, batch_size=2, log_every=2), **changes
    )


# --- scenes


def test_a_broken_off_rendering_goes_on(scenes: Path) -> None:
    lost, kept = scenes / "scene_000002.npz", scenes / "scene_000001.npz"
    boxes, photo, age = np.load(lost)["boxes"], lost.with_suffix(".jpg").read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    render_scenes(scenes, 4, side=96, seed=3, workers=1)
    np.testing.assert_array_equal(np.load(lost)["boxes"], boxes)
    assert lost.with_suffix(".jpg").read_bytes() == photo
    assert kept.stat().st_mtime_ns == age


def test_scenes_of_another_kind_are_not_mixed_in(scenes: Path) -> None:
    with pytest.raises(SettingError, match=r"holds scenes of .*96.* not of .*128"):
        render_scenes(scenes, 4, side=128, seed=3, workers=1)


# --- samples


def test_a_sample_depends_on_its_number_alone(scenes: Path) -> None:
    first, again = (Samples(scenes, seed=0) for _ in range(2))
    for number in (5, 0):
        for one, other in zip(first[number, SIDE], again[number, SIDE], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(first[5, SIDE][0], first[0, SIDE][0])


def test_boxes_lie_inside_their_sample(scenes: Path) -> None:
    samples = Samples(scenes, seed=0)
    boxes = torch.cat([samples[number, SIDE][1] for number in range(40)])
    assert len(boxes) > 20
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 6


@pytest.mark.parametrize("seed", range(4))
def test_boxes_move_with_their_photo(seed: int) -> None:
    photo, box = np.zeros((80, 100, 3), np.uint8), (40, 30, 55, 50)
    photo[30:50, 40:55] = 255
    tile, moved = look_through(
        np.random.default_rng(seed), Image.fromarray(photo), np.array([box], np.float32), (90, 70), 1.5
    )
    assert tile.shape == (90, 70, 3)
    rows, columns = np.nonzero(tile.min(2) > 127)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(seen, moved[0].clip(0, [70, 90, 70, 90]), atol=1)


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


def blank_portraits(
    count: int, cells: torch.Tensor
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Features of nothing, and a painter of what lies in a black photo."""
    colours = torch.full((1, 3 * PORTRAIT_SIDE**2), -1.0)
    portrait = torch.cat((colours, torch.zeros(1, PORTRAIT_NUMBERS - colours.shape[1])), 1)
    return torch.zeros(count, len(cells), 1), lambda rows: portrait.expand(len(rows), -1)


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
    batch = Batch(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), boxes, class_ids)
    codes = torch.stack([outputs_for(boxes[0], cells), outputs_for(boxes[1, :1], cells)])
    loss = starter_loss(codes, torch.zeros(2, len(cells), 4), cells, batch, *blank_portraits(2, cells))
    assert loss.box.item() == pytest.approx(0, abs=1e-4)
    assert loss.portraits.item() == pytest.approx(0, abs=1e-4)
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
    empty = Batch.of(
        [(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0).long())]
    )
    logits = torch.zeros(1, len(cells), 4, requires_grad=True)
    loss = starter_loss(torch.zeros(1, len(cells), 4), logits, cells, empty, *blank_portraits(1, cells))
    loss.total.backward()
    assert loss.num_matched == 0
    assert (logits.grad[..., 0] > 0).all()
    assert (logits.grad[..., 1:] == 0).all()


# --- training


def test_a_batch_can_be_learnt_by_heart(scenes: Path) -> None:
    samples = Samples(scenes, seed=0)
    batch = Batch.of([samples[number, SIDE] for number in range(2)])
    learner = Learner(settings(steps=30, learning_rate=0.005), CPU)
    losses = [learner.learn(batch).total.item() for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_resumed_run_ends_as_an_uninterrupted_one(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(scenes, tmp_path / "whole", settings())
    learn = Learner.learn

    def killed_at_step_2(learner: Learner, batch: Batch) -> object:
        if learner.step == 2:
            raise KeyboardInterrupt
        return learn(learner, batch)

    monkeypatch.setattr(Learner, "learn", killed_at_step_2)
    with pytest.raises(KeyboardInterrupt):
        train(scenes, tmp_path / "broken", settings(save_seconds=0))
    monkeypatch.setattr(Learner, "learn", learn)
    learner = train(scenes, tmp_path / "broken", settings(save_seconds=0))
    assert learner.step == 4
    _, whole = learnt_weights(tmp_path / "whole" / CHECKPOINT_NAME)
    _, resumed = learnt_weights(tmp_path / "broken" / CHECKPOINT_NAME)
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=0)
    with pytest.raises(SettingError, match="another network"):
        train(scenes, tmp_path / "broken", settings(side=96))
    rows = [json.loads(line) for line in (tmp_path / "whole" / LOG_NAME).read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]


def test_an_exported_base_is_read_back_and_can_be_tuned(scenes: Path, tmp_path: Path) -> None:
    train(scenes, tmp_path, settings())
    target = tmp_path / "starter.safetensors"
    export(tmp_path / CHECKPOINT_NAME, target, side=96)
    base = read_base(target)
    assert {w.dtype for w in base.weights.values()} == {torch.float32}
    assert target.stat().st_size < 2.2 * sum(w.numel() for w in base.weights.values())  # two bytes each
    config, weights, report = restore(base, 1, seed=0)
    assert len(report.restored) + len(report.new) == len(weights)
    assert config.size_hw == (96, 96)

    learnt_config, learnt_by_name = learnt_weights(tmp_path / CHECKPOINT_NAME)
    learnt = YoloxDetector(learnt_config)
    learnt.load_state_dict(learnt_by_name)
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255
    exported = build_network(base.config, base.weights)
    for one, other in zip(learnt(pixels), exported(pixels), strict=True):  # type: ignore[operator]
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01)


def test_the_average_follows_the_weights(scenes: Path) -> None:
    learner = Learner(settings(averaging=0), CPU)
    learner.learn(Batch.of([Samples(scenes, seed=0)[n, SIDE] for n in range(2)]))
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
    learner = Learner(settings(), CPU)
    _, logits = learner.network(torch.full((2, 3, SIDE, SIDE), 100.0))
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3)
