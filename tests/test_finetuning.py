"""Fine-tuning on cached features: what it should equal, and what a user gets from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fewbox.config import FinetuneConfig
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import read_annotations
from fewbox.data.images import read_image
from fewbox.detection.detector import Detector
from fewbox.errors import AnnotationError, CheckpointError, FinetuneError, SettingError
from fewbox.finetuning import finetune
from fewbox.finetuning.seed import fit_heads, make_schedule
from fewbox.models.anchor_heads import AnchorHeads, PhotoFeatures, features_of_photo
from fewbox.models.base import BaseModel, load_base, restore
from fewbox.models.boxes import encode_boxes, match_anchors, pairwise_iou
from fewbox.models.families import build_network
from fewbox.models.layers import huber_loss, sigmoid_focal_loss
from fewbox.models.ssd.network import SsdDetector
from tiny import make_base, make_photos, tiny_base
from tiny_retinanet import VERSIONS, random_retinanet, tiny_retinanet_config
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = pytest.mark.usefixtures("in_float32")

Tuned = tuple[SsdDetector, dict[str, Tensor], list[PhotoFeatures]]

QUICK = FinetuneConfig(steps=6, batch_size=2)


def plain_loss(
    network: SsdDetector, images: Sequence[NDArray[np.uint8]], truth: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """The seed's loss done the plain way: the whole network, all anchors, in one pass."""
    config, anchors = network.config, network.anchors(network.config.size_hw)
    codes, logits = network(torch.stack([network.prepare(image) for image in images]))
    classification = localization = torch.zeros(())
    positives = 0
    for n, (image, (boxes, class_ids)) in enumerate(zip(images, truth, strict=True)):
        boxes = network.to_input(boxes, (image.shape[0], image.shape[1]))
        matches = match_anchors(anchors, boxes, matched_iou=0.5, unmatched_iou=0.5, force_match=True)
        is_match = matches >= 0
        target = torch.zeros_like(logits[n])
        target[is_match] = F.one_hot(class_ids[matches[is_match]] + 1, config.num_classes + 1).float()
        classification = classification + sigmoid_focal_loss(logits[n], target, alpha=0.25, gamma=2.0).sum()
        wanted = torch.zeros_like(codes[n])
        wanted[is_match] = encode_boxes(boxes[matches[is_match]], anchors[is_match], config.coder_scales)
        error = huber_loss(codes[n], wanted, delta=1.0) * is_match[:, None]
        localization = localization + error.sum()
        positives += int(is_match.sum())
    return (classification + localization / 4) / max(positives, 1)


@pytest.mark.parametrize(
    ("recipe", "setting", "says"),
    [
        ("best", {"steps": 500}, "steps is a setting of seed, not of the recipe best\nhint: .*--effort long"),
        ("adapt", {"learning_rate": 0.1}, "learning_rate is a setting of seed, not of the recipe adapt"),
        ("seed", {"effort": "long"}, "effort is a setting of best, probe and adapt, not of the recipe seed"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(
    tmp_path: Path, recipe: str, setting: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingError, match=says):
        finetune(make_photos(tmp_path), tiny_base(), recipe=recipe, config=FinetuneConfig(**setting))


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_network() -> None:
    generator = np.random.default_rng(3)
    images = [generator.integers(0, 255, (90, 140, 3), dtype=np.uint8) for _ in range(3)]
    # In the middle, at every border, several in one photo, and none.
    truth = [
        (torch.tensor([[40.0, 30, 80, 70], [0, 0, 30, 25]]), torch.tensor([0, 1])),
        (torch.tensor([[110.0, 60, 140, 90], [0, 0, 140, 90]]), torch.tensor([1, 0])),
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]
    config, weights, _ = restore(tiny_base(), 2, seed=1)
    plain = SsdDetector(config)
    plain.load_state_dict({name: torch.tensor(weight) for name, weight in weights.items()})
    heads_of_plain = dict(plain.named_parameters())
    for name in SsdDetector.head_names:
        heads_of_plain[name].requires_grad_(True)
    loss = plain_loss(plain, images, truth)
    expected = torch.autograd.grad(loss, [heads_of_plain[name] for name in SsdDetector.head_names])

    network = build_network(config, weights)
    none = torch.zeros(0, 4)
    photos = [features_of_photo(network, image, *t, none) for image, t in zip(images, truth, strict=True)]
    heads = AnchorHeads(network, weights)
    ours = heads.loss(photos).total
    assert ours.item() == pytest.approx(loss.item(), rel=1e-4)
    for gradient, wanted in zip(torch.autograd.grad(ours, heads.parameters), expected, strict=True):
        assert torch.norm(gradient - wanted) <= 1e-3 * torch.norm(wanted)


@pytest.mark.slow
def test_same_seed_same_detector_other_seed_another(tmp_path: Path) -> None:
    photos, base = make_photos(tmp_path), tiny_base()
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, seed in zip(files, (5, 5, 6), strict=True):
        config = replace(QUICK, seed=seed, steps=2)
        detector = finetune(photos, base, config=config, recipe="seed", show_progress=False)
        detector.save(path, heads_only=True)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


@pytest.mark.slow
def test_learns_the_squares_it_was_shown(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, count=4)
    config = FinetuneConfig(steps=100, learning_rate=0.002)
    detector = finetune(photos, tiny_base(), config=config, recipe="seed", show_progress=False)
    assert detector.labels == ("square",)
    assert detector.history[-1]["total"] < detector.history[0]["total"] / 3
    for image in photos:
        found = detector.detect(image.path, threshold=0.01)
        wanted = image.boxes[0]
        best = found.boxes[0]
        overlap_w = min(best[2], wanted.x2) - max(best[0], wanted.x1)
        overlap_h = min(best[3], wanted.y2) - max(best[1], wanted.y1)
        assert overlap_w > 15
        assert overlap_h > 15


@pytest.mark.slow
def test_empty_photos_teach_and_unseen_ones_are_refused(tmp_path: Path) -> None:
    photos = make_photos(tmp_path)
    empty = replace(photos.images[2], boxes=(), reviewed=True)
    with_negative = replace(photos, images=(*photos.images[:2], empty))
    detector = finetune(with_negative, tiny_base(), config=QUICK, recipe="seed", show_progress=False)
    photo = detector.provenance["photos"][2]
    assert (photo["name"], photo["boxes"]) == ("photo2.png", 0)
    unseen = replace(photos, images=(*photos.images[:2], replace(empty, reviewed=False)))
    with pytest.raises(AnnotationError, match=r"1 of 3 photos .* not marked as reviewed: photo2\.png"):
        finetune(unseen, tiny_base(), config=QUICK, recipe="seed", show_progress=False)


@pytest.mark.slow
def test_ignored_regions_teach_nothing() -> None:
    config, weights, _ = restore(tiny_base(), 1, seed=0)
    network = build_network(config, weights)
    image = np.full((128, 128, 3), 90, np.uint8)
    region, none = torch.tensor([[40.0, 40, 80, 80]]), torch.zeros(0, 4)
    no_ids = torch.zeros(0, dtype=torch.int64)
    seen = features_of_photo(network, image, none, no_ids, region)
    assert 0 < (seen.class_weights == 0).sum() < 100
    assert seen.num_matched == 0
    # A real box on the same place still counts.
    both = features_of_photo(network, image, region, torch.tensor([0]), region)
    assert both.class_weights[both.class_targets[:, 1] == 1].min() == 1


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_the_parts_named(tmp_path: Path) -> None:
    base = tiny_base()
    broken = replace(base, weights=base.weights | {"box_head.bias": np.full(24, np.inf, np.float32)})
    with pytest.raises(FinetuneError, match="step 1: the loss is not finite: localization inf") as caught:
        finetune(make_photos(tmp_path), broken, config=QUICK, recipe="seed", show_progress=False)
    assert "--learning-rate" in str(caught.value)


def test_schedule_takes_each_photo_at_most_once_a_step() -> None:
    schedule = make_schedule(5, FinetuneConfig(steps=50, batch_size=4, seed=3))
    assert all(len(set(step)) == 4 for step in schedule)
    assert {i for step in schedule for i in step} == set(range(5))
    assert make_schedule(2, FinetuneConfig(steps=1, batch_size=4))[0] in ([0, 1], [1, 0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batchsize": 3}, r"unknown setting: 'batchsize'\nhint: did you mean 'batch_size'\?"),
        ({"steps": 0}, "steps must be a number from 1 to 1000000: 0"),
        ({"momentum": 1.0}, "momentum must be a number from 0 to 0.9999"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16: 'float16'"),
    ],
)
def test_settings_out_of_their_limits(settings: dict[str, object], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        FinetuneConfig.from_dict(settings)


@pytest.mark.slow
def test_restore_reports_and_refuses_misfits() -> None:
    base = tiny_base()
    _, weights, report = restore(base, 5, seed=0)
    assert set(report.restored) | set(report.new) == set(weights)
    assert set(report.new) == set(report.left_over) == {"class_head.weight", "class_head.bias"}
    assert weights["class_head.weight"].shape[0] == 6 * 6
    missing = {n: w for n, w in base.weights.items() if n != "backbone.stem.conv.weight"}
    with pytest.raises(CheckpointError, match=r"tensor missing: backbone\.stem\.conv\.weight"):
        restore(replace(base, weights=missing), 1, seed=0)
    misshapen = base.weights | {"box_head.bias": np.zeros(7, np.float32)}
    with pytest.raises(CheckpointError, match=r"box_head\.bias has shape \[7\], expected \[24\]"):
        restore(replace(base, weights=misshapen), 1, seed=0)
    with pytest.raises(CheckpointError, match="no part of the network takes: extra"):
        restore(replace(base, weights=base.weights | {"extra": np.zeros(1, np.float32)}), 1, seed=0)


@pytest.mark.slow
def test_several_classes_and_a_box_to_ignore(tmp_path: Path) -> None:
    first, second, third = make_photos(tmp_path).images
    other = Box(100, 60, 150, 110, "other")
    images = (
        replace(first, boxes=(*first.boxes, other)),
        second,
        AnnotatedImage(third.path, third.size_hw, (replace(third.boxes[0], ignore=True),), reviewed=True),
    )
    detector = finetune(
        AnnotationSet(images, ("square", "other")),
        tiny_base(),
        recipe="seed",
        config=QUICK,
        show_progress=False,
    )
    assert detector.labels == ("square", "other")
    assert detector.config.num_classes == 2


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_retinanet_learns_by_the_same_commands(tmp_path: Path, version: str) -> None:
    config = tiny_retinanet_config(VERSIONS[version])
    base = make_base(config, random_retinanet(config).state_dict())
    photos = make_photos(tmp_path, count=3)
    settings = FinetuneConfig(steps=100, batch_size=3, learning_rate=0.0005)
    detector = finetune(photos, base, config=settings, recipe="seed", show_progress=False)
    assert detector.history[-1]["total"] < detector.history[0]["total"] / 2
    detector.save(tmp_path / "d.safetensors", heads_only=True)
    loaded = Detector.load(tmp_path / "d.safetensors", base=base)
    found = loaded.detect(photos.images[0].path, threshold=0.05)
    assert len(found) > 0
    assert loaded.network.architecture == "retinanet_resnet50_fpn"


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_box_patches_of_a_window_are_those_of_the_whole_map(version: str) -> None:
    """With group-norm the window has to be the whole map; without, a part gives the same."""
    config = replace(tiny_retinanet_config(VERSIONS[version]), num_classes=1)
    network = random_retinanet(config)
    image = np.random.default_rng(0).integers(0, 255, (96, 144, 3), dtype=np.uint8)
    corners, ids = torch.tensor([[50.0, 40, 80, 70], [0, 0, 20, 20]]), torch.tensor([0, 0])
    photo = AnchorHeads(network, network.state_dict()).features(image, corners, ids, torch.zeros(0, 4))
    codes, _ = network(network.batch_of([image]))
    heads = AnchorHeads(network, network.state_dict())
    matched = photo.class_targets[:, 0].nonzero()[:, 0]
    torch.testing.assert_close(heads.box_codes(photo), codes[0, matched], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_yolox_learns_by_the_same_commands(tmp_path: Path) -> None:
    config = tiny_yolox_config()
    base = make_base(config, random_yolox(config).state_dict())
    photos = make_photos(tmp_path, count=3)
    settings = FinetuneConfig(steps=50, batch_size=3)
    detector = finetune(photos, base, config=settings, recipe="seed", show_progress=False)
    assert detector.history[-1]["total"] < detector.history[0]["total"] / 2
    detector.save(tmp_path / "d.safetensors", heads_only=True)
    loaded = Detector.load(tmp_path / "d.safetensors", base=base)
    photo = photos.images[0].path
    found, again = (d.detect(photo, threshold=0.01) for d in (detector, loaded))
    assert len(found) > 0
    assert np.array_equal(found.boxes, again.boxes)
    assert loaded.network.architecture == "yolox"


@pytest.mark.slow
@pytest.mark.shared
def test_yolox_nano_finds_ducks_after_five_photos(shared: Path) -> None:
    """Seen: the best box of every frame tried overlaps the duck by 0.7 and more."""
    annotations = read_annotations(
        shared / "data/ducky/train_boxes.csv", shared / "data/ducky/train", label="duck"
    )
    base = load_base(shared / "weights/yolox_nano_coco.onnx")
    detector = finetune(annotations, base, recipe="seed", show_progress=False)
    test = read_annotations(shared / "data/ducky/test_boxes_coco.json", shared / "data/ducky/test")
    hits = 0
    frames = [image for image in test if any(not box.ignore for box in image.boxes)][::16]
    assert len(frames) >= 3
    for image in frames:
        found = torch.from_numpy(detector.detect(image.path, threshold=0.05).boxes[:1])
        truth = torch.tensor([[b.x1, b.y1, b.x2, b.y2] for b in image.boxes])
        hits += bool(len(found)) and pairwise_iou(found, truth).max().item() >= 0.5
    assert hits >= len(frames) - 1


# --- parity with the original


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "golden/finetune.npz"))


def golden_weights(golden: dict[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    tensors = (torch.from_numpy(golden[f"{prefix}{i}"]) for i in range(4))
    return {
        name: (t.permute(3, 2, 0, 1) if t.ndim == 4 else t).contiguous()
        for name, t in zip(SsdDetector.head_names, tensors, strict=True)
    }


@pytest.fixture(scope="module")
def tuned(shared: Path, golden_base: BaseModel, golden: dict[str, np.ndarray]) -> Tuned:
    config, weights, report = restore(golden_base, 1, seed=0)
    assert len(report.restored) == 461  # all 463 weights of the checkpoint but the class head's two
    np.testing.assert_array_equal(
        weights["box_head.weight"], golden_weights(golden, "init")["box_head.weight"]
    )
    weights |= golden_weights(golden, "init")
    network = build_network(config, weights)
    annotations = read_annotations(
        shared / "data/ducky/train_boxes.csv", shared / "data/ducky/train", label="duck"
    )
    photos = []
    for image in annotations:
        box = image.boxes[0]
        corners = torch.tensor([[box.x1, box.y1, box.x2, box.y2]])
        photos.append(
            features_of_photo(network, read_image(image.path), corners, torch.tensor([0]), torch.zeros(0, 4))
        )
    return network, weights, photos


@pytest.mark.slow
@pytest.mark.golden
def test_first_step_is_the_originals(tuned: Tuned, golden: dict[str, np.ndarray]) -> None:
    """Seen: losses within 1e-6, gradients within 8e-5 of their norm."""
    network, weights, photos = tuned
    heads = AnchorHeads(network, weights)
    losses = heads.loss([photos[i] for i in golden["schedule"][0]])
    localization, classification = golden["losses_localization_classification"][0]
    assert losses.localization.item() == pytest.approx(localization, rel=1e-4)
    assert losses.classification.item() == pytest.approx(classification, rel=1e-4)
    gradients = torch.autograd.grad(losses.total, heads.parameters)
    for gradient, wanted in zip(gradients, golden_weights(golden, "grad0_").values(), strict=True):
        assert torch.norm(gradient - wanted) <= 1e-3 * torch.norm(wanted)


@pytest.mark.slow
@pytest.mark.golden
def test_steps_are_the_originals(
    tuned: Tuned,
    golden: dict[str, np.ndarray],
) -> None:
    """The first 25 of a hundred, all of which are alike: by then the loss is a hundredth of the first."""
    network, weights, photos = tuned
    settings = FinetuneConfig()
    schedule = golden["schedule"][:25].tolist()
    totals = golden["losses_localization_classification"].sum(1)[:25]

    heads = AnchorHeads(network, weights)
    fit_heads(heads, photos, schedule[:5], settings, show_progress=False)
    for name, wanted in golden_weights(golden, "after5_").items():
        assert torch.norm(heads.tensors()[name] - wanted) <= 1e-2 * torch.norm(wanted)

    heads = AnchorHeads(network, weights)
    history = fit_heads(heads, photos, schedule, settings, show_progress=False)
    ours = np.array([row["total"] for row in history])
    np.testing.assert_allclose(ours[:5], totals[:5], rtol=1e-2)
    np.testing.assert_allclose(ours[-1], totals[-1], rtol=0.05)


@pytest.mark.slow
@pytest.mark.golden
def test_tuned_detector_finds_what_the_original_finds(
    shared: Path, golden_base: BaseModel, golden: dict[str, np.ndarray]
) -> None:
    """The original's tuned heads in our network, on a frame they were not tuned on."""
    config, weights, _ = restore(golden_base, 1, seed=0)
    network = build_network(config, weights | golden_weights(golden, "final"))
    wanted = np.load(shared / "golden/finetuned_detections.npz")
    frame = "out25"
    image = read_image(shared / f"data/ducky/test/{frame}.jpg")
    with torch.inference_mode():
        codes, logits = network(network.batch_of([image]))
        boxes, scores, _ = network.select(codes[0], logits[0], network.anchors((640, 640)), 1e-8)
    certain = wanted[f"{frame}/detection_scores"] >= 0.05
    corners = np.clip(wanted[f"{frame}/detection_boxes"][certain][:, [1, 0, 3, 2]] * 640, 0, 640)
    for corner, score in zip(corners, wanted[f"{frame}/detection_scores"][certain], strict=True):
        near = np.abs(boxes.numpy().clip(0, 640) - corner).max(1) < 2
        assert (near & (np.abs(scores.numpy() - score) < 1e-3)).any()
