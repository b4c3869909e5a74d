"""The RetinaNet and its parts, against values worked out by hand from torchvision's description."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewbox.models.retinanet import (
    RETINANET_V1,
    RETINANET_V2,
    RetinanetConfig,
)
from fewbox.models.retinanet.boxes import (
    best_candidates,
    decode_corner_boxes,
    encode_corner_boxes,
    make_corner_anchors,
    suppress_within_classes,
)
from fewbox.models.retinanet.network import RetinanetDetector
from tiny_retinanet import VERSIONS, random_retinanet, tiny_retinanet_config

BOTH = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks() -> dict[str, RetinanetDetector]:
    return {v: random_retinanet(tiny_retinanet_config(config)) for v, config in VERSIONS.items()}


def published(config: RetinanetConfig) -> RetinanetDetector:
    with torch.device("meta"):
        return RetinanetDetector(config)


def noise(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


# --- what is published


def test_sizes_are_those_published() -> None:
    def count(config: RetinanetConfig, *left_out: str) -> int:
        weights = published(config).state_dict().items()
        return sum(w.numel() for name, w in weights if not name.endswith(left_out))

    # A frozen batch-norm, and in the first version it is one, has no parameters that can be learnt.
    norms = ("bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")
    biases = tuple(name.replace("weight", "bias") for name in norms)
    statistics = ("running_mean", "running_var")
    assert count(RETINANET_V1, *norms, *biases, *statistics) == 34_014_999
    assert count(RETINANET_V2, *statistics) == 38_198_935


@BOTH
def test_names_and_shapes_are_those_published(version: str) -> None:
    shapes = {name: list(w.shape) for name, w in published(VERSIONS[version]).state_dict().items()}
    head = {"v1": ["conv.0.0.bias"], "v2": ["conv.0.1.weight", "conv.0.1.bias"]}[version]
    for name, shape in {
        "backbone.body.conv1.weight": [64, 3, 7, 7],
        "backbone.body.bn1.running_var": [64],
        "backbone.body.layer1.0.conv1.weight": [64, 64, 1, 1],
        "backbone.body.layer1.0.downsample.0.weight": [256, 64, 1, 1],
        "backbone.body.layer1.0.downsample.1.bias": [256],
        "backbone.body.layer3.5.conv2.weight": [256, 256, 3, 3],
        "backbone.body.layer4.2.bn3.running_mean": [2048],
        "backbone.fpn.inner_blocks.0.0.weight": [256, 512, 1, 1],
        "backbone.fpn.inner_blocks.2.0.bias": [256],
        "backbone.fpn.layer_blocks.1.0.weight": [256, 256, 3, 3],
        "backbone.fpn.extra_blocks.p6.weight": [256, {"v1": 256, "v2": 2048}[version], 3, 3],
        "backbone.fpn.extra_blocks.p7.bias": [256],
        "head.classification_head.conv.0.0.weight": [256, 256, 3, 3],
        "head.classification_head.cls_logits.weight": [9 * 91, 256, 3, 3],
        "head.regression_head.conv.3.0.weight": [256, 256, 3, 3],
        "head.regression_head.bbox_reg.bias": [36],
        **{
            f"head.{branch}_head.{name}": [256]
            for branch in ("classification", "regression")
            for name in head
        },
    }.items():
        assert shapes[name] == shape, name
    # 53 convolutions with a batch-norm of 4 tensors, the pyramid's 16, 2 towers of 4 layers, 2 heads.
    assert len(shapes) == 53 * 5 + 16 + 2 * 4 * {"v1": 2, "v2": 3}[version] + 4
    assert set(RetinanetDetector.head_names) < shapes.keys()


@BOTH
def test_settings_survive_json(version: str) -> None:
    config = VERSIONS[version]
    assert RetinanetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(TypeError, match="unknown"):
        RetinanetConfig.from_dict({**config.to_dict(), "unknown": 1})


# --- from photo to input


@pytest.mark.parametrize(
    ("photo", "resized", "padded"),
    [
        ((480, 640), (800, 1066), (800, 1088)),  # 640 * 800 / 480 = 1066.7
        ((640, 480), (1066, 800), (1088, 800)),
        ((3000, 4000), (800, 1066), (800, 1088)),
        ((500, 500), (800, 800), (800, 800)),
        ((800, 1333), (800, 1333), (800, 1344)),
        ((1000, 3000), (444, 1333), (448, 1344)),  # the long side decides
        ((9, 7), (1028, 800), (1056, 800)),
        ((1, 5000), (1, 1333), (32, 1344)),
    ],
)
def test_size_of_the_input(photo: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]) -> None:
    network = published(RETINANET_V1)
    assert network.resized_size_hw(photo) == resized
    assert network.input_size_hw(photo) == padded


@pytest.mark.slow
def test_prepare_normalises_resizes_and_pads_with_the_mean_colour(
    networks: dict[str, RetinanetDetector],
) -> None:
    image = noise((45, 60))
    pixels = networks["v1"].prepare(image)
    assert pixels.shape == (3, 96, 128)  # of which the photo is twice its size, 90 by 120
    assert pixels[:, 90:].count_nonzero() == pixels[:, :, 120:].count_nonzero() == 0

    unit = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for axis, out in ((0, 90), (1, 120)):
        # Centres of pixels on centres of pixels; beyond the outermost the colour stays.
        position = ((np.arange(out) + 0.5) * unit.shape[axis] / out - 0.5).clip(0, unit.shape[axis] - 1)
        low = np.floor(position).astype(int)
        high, share = (low + 1).clip(max=unit.shape[axis] - 1), position - low
        share = share.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        unit = unit.take(low, axis) * (1 - share) + unit.take(high, axis) * share
    np.testing.assert_allclose(pixels[:, :90, :120].permute(1, 2, 0), unit, atol=1e-5)


def test_boxes_go_to_the_input_and_come_back() -> None:
    network = published(RETINANET_V1)
    boxes = torch.tensor([[0.0, 0, 640, 480], [64, 48, 320, 240]])
    inside = network.to_input(boxes, (480, 640))
    torch.testing.assert_close(inside, torch.tensor([[0.0, 0, 1066, 800], [106.6, 80, 533, 400]]))
    torch.testing.assert_close(network.to_photo(inside, (480, 640)), boxes)
    outside = torch.tensor([[-5.0, -5, 1080, 810]])
    assert network.to_photo(outside, (480, 640)).tolist() == [[0, 0, 640, 480]]


# --- anchors and codes


def test_anchors_of_one_cell() -> None:
    levels = make_corner_anchors((64, 96), RETINANET_V1)
    assert [len(level) // 9 for level in levels] == [8 * 12, 4 * 6, 2 * 3, 1 * 2, 1 * 1]
    # Half the width and height of sides 32, 40 and 50: over, times and by the root of a half, rounded.
    wide, square, tall = (
        [(23, 11), (28, 14), (35, 18)],
        [(16, 16), (20, 20), (25, 25)],
        [(11, 23), (14, 28), (18, 35)],
    )
    assert levels[0][:9].tolist() == [[-w, -h, w, h] for w, h in wide + square + tall]
    assert levels[0][9:18].tolist() == [[8 - w, -h, 8 + w, h] for w, h in wide + square + tall]
    assert levels[0][12 * 9 + 3].tolist() == [-16, 8 - 16, 16, 8 + 16]
    # 101 / 2, 161 / 2 and 203 / 2 are rounded to the even neighbour.
    assert levels[1][5].tolist() == [-50, -50, 50, 50]
    assert levels[2][4:6].tolist() == [[-80, -80, 80, 80], [-102, -102, 102, 102]]


@pytest.mark.parametrize(
    ("input_size_hw", "level", "cells_hw", "step_hw"),
    [
        ((800, 1088), 5, (25, 34), (32, 32)),
        ((800, 1088), 6, (13, 17), (61, 64)),  # 800 // 13
        ((800, 1088), 7, (7, 9), (114, 120)),
        ((101, 75), 3, (13, 10), (7, 7)),
    ],
)
def test_step_between_cells_is_cut_to_whole_pixels(
    input_size_hw: tuple[int, int], level: int, cells_hw: tuple[int, int], step_hw: tuple[int, int]
) -> None:
    anchors = make_corner_anchors(input_size_hw, RETINANET_V1)[level - 3]
    rows, columns = cells_hw
    assert len(anchors) == rows * columns * 9
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    by_cell = centres.reshape(rows, columns, 9, 2)
    assert (by_cell[..., 1] == torch.arange(rows)[:, None, None] * step_hw[0]).all()
    assert (by_cell[..., 0] == torch.arange(columns)[None, :, None] * step_hw[1]).all()


def test_codes_of_a_box() -> None:
    anchor, box = torch.tensor([[10.0, 20, 30, 60]]), torch.tensor([[15.0, 20, 55, 40]])
    # Its centre lies 15 to the right and 10 up; it is twice as wide and half as high.
    codes = torch.tensor([[15 / 20, -10 / 40, math.log(2), math.log(0.5)]])
    torch.testing.assert_close(encode_corner_boxes(box, anchor), codes)
    torch.testing.assert_close(decode_corner_boxes(codes, anchor), box)


def test_no_code_makes_a_box_more_than_62_times_its_anchor() -> None:
    anchor = torch.tensor([[0.0, 0, 2, 4]])
    box = decode_corner_boxes(torch.tensor([[0.0, 0, 50, -50]]), anchor)
    torch.testing.assert_close(box, torch.tensor([[1 - 62.5, 2, 1 + 62.5, 2]]))


# --- the network


@BOTH
@pytest.mark.parametrize("input_size_hw", [(96, 64), (101, 75)])
def test_a_level_has_a_cell_per_stride_begun(
    networks: dict[str, RetinanetDetector], version: str, input_size_hw: tuple[int, int]
) -> None:
    network = networks[version]
    pyramid = network.features(torch.rand(1, 3, *input_size_hw))
    wanted = [tuple(-(-side // 2**level) for side in input_size_hw) for level in range(3, 8)]
    assert [tuple(x.shape[-2:]) for x in pyramid] == wanted
    codes, logits = network.heads(network.towers(pyramid))
    anchors = network.anchors(input_size_hw)
    assert codes.shape == (1, len(anchors), 4)
    assert logits.shape == (1, len(anchors), 3)


def test_pyramid_spelled_out(networks: dict[str, RetinanetDetector]) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = ((512, 13, 10), (1024, 7, 5), (2048, 4, 3))
    c3, c4, c5 = (torch.randn(1, *shape, generator=generator) for shape in shapes)
    for version, network in networks.items():
        fpn = network.backbone.fpn
        (inner3, inner4, inner5), (layer3, layer4, layer5) = fpn.inner_blocks, fpn.layer_blocks
        m4 = inner4(c4) + inner5(c5)[:, :, torch.arange(7) * 4 // 7][..., torch.arange(5) * 3 // 5]
        m3 = inner3(c3) + m4[:, :, torch.arange(13) * 7 // 13][..., torch.arange(10) * 5 // 10]
        p5 = layer5(inner5(c5))
        p6 = F.conv2d(
            p5 if version == "v1" else c5,
            fpn.extra_blocks.p6.weight,
            fpn.extra_blocks.p6.bias,
            stride=2,
            padding=1,
        )
        p7 = F.conv2d(p6.relu(), fpn.extra_blocks.p7.weight, fpn.extra_blocks.p7.bias, stride=2, padding=1)
        for got, wanted in zip(fpn([c3, c4, c5]), (layer3(m3), layer4(m4), p5, p6, p7), strict=True):
            torch.testing.assert_close(got, wanted)


@BOTH
def test_block_strides_in_its_3x3_convolution(networks: dict[str, RetinanetDetector], version: str) -> None:
    network = networks[version]
    block = network.backbone.body.get_submodule("layer2.0")
    weights = {name: tensor.double() for name, tensor in block.state_dict().items()}
    epsilon = {"v1": 0.0, "v2": 1e-5}[version]

    def conv_norm(x: torch.Tensor, conv: str, norm: str, **where: int) -> torch.Tensor:
        mean, var, scale, shift = (
            weights[f"{norm}.{leaf}"][:, None, None]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (F.conv2d(x, weights[f"{conv}.weight"], **where) - mean) / (
            var + epsilon
        ).sqrt() * scale + shift

    x = torch.randn(1, 256, 9, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    branch = conv_norm(x, "conv1", "bn1").relu()
    branch = conv_norm(branch, "conv2", "bn2", stride=2, padding=1).relu()
    wanted = (
        conv_norm(branch, "conv3", "bn3") + conv_norm(x, "downsample.0", "downsample.1", stride=2)
    ).relu()
    torch.testing.assert_close(block(x.float()), wanted.float(), rtol=1e-4, atol=1e-4)


def test_towers_differ_in_what_follows_a_convolution(networks: dict[str, RetinanetDetector]) -> None:
    x = torch.randn(1, 64, 5, 7, generator=torch.Generator().manual_seed(3))
    for version, network in networks.items():
        wanted = x
        for conv, *between in network.head.regression_head.conv:
            wanted = F.conv2d(wanted, conv.weight, conv.bias, padding=1)
            if version == "v2":
                assert conv.bias is None
                groups = wanted.reshape(32, -1)
                variance, mean = torch.var_mean(groups, 1, correction=0, keepdim=True)
                wanted = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(wanted.shape)
                wanted = wanted * between[0].weight[:, None, None] + between[0].bias[:, None, None]
            wanted = wanted.relu()
        torch.testing.assert_close(network.towers([x]).box_maps[0], wanted, rtol=1e-4, atol=1e-5)


@BOTH
def test_folding_leaves_the_output(networks: dict[str, RetinanetDetector], version: str) -> None:
    network = networks[version]
    folded = RetinanetDetector(network.config)
    folded.load_state_dict(network.state_dict())
    assert folded.fold() is folded
    assert not [name for name in folded.state_dict() if "running" in name]
    image = noise((100, 90))
    for got, wanted in zip(
        folded(folded.batch_of([image])), network(network.prepare(image)[None]), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
    assert folded.fold() is folded  # a second time changes nothing


@BOTH
def test_a_photo_does_not_see_its_neighbours(networks: dict[str, RetinanetDetector], version: str) -> None:
    network = networks[version]
    images = [noise((60, 80), seed) for seed in range(3)]
    together = network(network.batch_of(images))
    for i, image in enumerate(images):
        for got, wanted in zip(together, network(network.batch_of([image])), strict=True):
            torch.testing.assert_close(got[i], wanted[0], rtol=1e-3, atol=1e-4)


# --- from codes and logits to detections


def detect_slowly(
    network: RetinanetDetector, codes: torch.Tensor, logits: torch.Tensor, photo_size_hw: tuple[int, int]
) -> list[tuple[float, int, list[float]]]:
    """Score, class and box of every detection, one candidate at a time."""
    c = network.config
    height, width = network.resized_size_hw(photo_size_hw)
    found, first = [], 0
    for anchors in make_corner_anchors(network.input_size_hw(photo_size_hw), c):
        candidates = []
        for i, (x1, y1, x2, y2) in enumerate(anchors.tolist(), start=first):
            tx, ty, tw, th = codes[i].tolist()
            w, h = (
                (x2 - x1) * math.exp(min(tw, math.log(62.5))),
                (y2 - y1) * math.exp(min(th, math.log(62.5))),
            )
            cx, cy = (x1 + x2) / 2 + tx * (x2 - x1), (y1 + y2) / 2 + ty * (y2 - y1)
            box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            box = [min(max(v, 0.0), limit) for v, limit in zip(box, (width, height) * 2, strict=True)]
            for class_id, logit in enumerate(logits[i].tolist()):
                score = 1 / (1 + math.exp(-logit))
                if score > c.score_threshold:
                    candidates.append((score, class_id, box))
        found += sorted(candidates, reverse=True)[: c.max_per_level]
        first += len(anchors)
    kept: list[tuple[float, int, list[float]]] = []
    for score, class_id, box in sorted(found, reverse=True):
        if all(class_id != other_id or iou(box, other) <= c.iou_threshold for _, other_id, other in kept):
            kept.append((score, class_id, box))
    return kept[: c.max_detections]


def iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    overlap = max(width, 0) * max(height, 0)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (first, second)]
    return overlap / (sum(areas) - overlap) if sum(areas) else 0.0


@pytest.mark.parametrize("limits", [{}, {"max_per_level": 40}, {"max_detections": 7}], ids=str)
def test_select_does_what_is_described(limits: dict[str, int]) -> None:
    config = replace(tiny_retinanet_config(RETINANET_V1), **limits)
    network, photo_size_hw = published(config), (60, 90)  # resized to (90, 135), padded to (96, 160)
    generator = torch.Generator().manual_seed(4)
    count = len(make_corner_anchors(network.input_size_hw(photo_size_hw), config))
    assert count == 5
    total = len(network.anchors(network.input_size_hw(photo_size_hw)))
    codes = torch.randn(total, 4, generator=generator) * 0.5
    logits = torch.randn(total, 3, generator=generator) - 4.5
    boxes, scores, class_ids = network.select(codes, logits, photo_size_hw, 0.0)
    wanted = detect_slowly(network, codes, logits, photo_size_hw)
    assert len(wanted) == limits.get("max_detections", len(wanted)) > 5
    assert class_ids.tolist() == [class_id for _, class_id, _ in wanted]
    np.testing.assert_allclose(scores, [score for score, _, _ in wanted], atol=1e-6)
    np.testing.assert_allclose(boxes, [box for *_, box in wanted], atol=1e-3)
    assert boxes[:, 2].max() == 135  # clipped to the resized photo, not to its padding
    assert boxes[:, 3].max() == 90


def test_select_finds_nothing_below_the_threshold() -> None:
    network = published(tiny_retinanet_config(RETINANET_V2))
    total = len(network.anchors(network.input_size_hw((50, 50))))
    logits = torch.full((total, 3), -5.0)
    logits[7, 2] = 0.0
    for threshold, found in ((0.0, [0.5]), (0.4, [0.5]), (0.5, [])):
        boxes, scores, class_ids = network.select(torch.zeros(total, 4), logits, (50, 50), threshold)
        assert scores.tolist() == found
        assert boxes.shape == (len(found), 4)
        assert class_ids.tolist() == [2] * len(found)


def test_an_anchor_is_a_candidate_once_for_every_class() -> None:
    scores = torch.tensor([[0.6, 0.1, 0.9], [0.8, 0.1, 0.1]])
    rows, best, class_ids = best_candidates(scores, score_threshold=0.5, max_kept=10)
    assert rows.tolist() == [0, 1, 0]
    assert best.tolist() == scores[[0, 1, 0], [2, 0, 0]].tolist()
    assert class_ids.tolist() == [2, 0, 0]


def test_candidates_that_are_as_likely_keep_their_order() -> None:
    scores = torch.ones(300, 2)
    rows, best, class_ids = best_candidates(scores, score_threshold=0.5, max_kept=101)
    assert (2 * rows + class_ids).tolist() == list(range(101))
    assert len(best) == 101


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [0, 0, 10, 5]])
    scores, class_ids = torch.tensor([0.6, 0.9, 0.8, 0.7]), torch.tensor([0, 90, 0, 0])
    kept = suppress_within_classes(boxes, scores, class_ids, iou_threshold=0.5, max_kept=9)
    assert kept.tolist() == [1, 2]  # 5 of 8 overlap, 8 of 10 too
    kept = suppress_within_classes(boxes, scores, class_ids, iou_threshold=0.7, max_kept=2)
    assert kept.tolist() == [1, 2]
    assert (
        suppress_within_classes(boxes[:0], scores[:0], class_ids[:0], iou_threshold=0.5, max_kept=9).tolist()
        == []
    )


@pytest.mark.parametrize(("count", "both_kept"), [(1000, True), (1001, False)])
def test_few_boxes_are_moved_apart_in_float32_and_many_are_not_rounded(count: int, both_kept: bool) -> None:
    # Moved by 90 * 1334, an edge at 50.003 is rounded to 50: their IoU is 0.50003, or no longer above 0.5.
    pair, dots = torch.tensor([[0.0, 0, 1333, 100], [0, 0, 1333, 50.003]]), torch.zeros(count - 2, 4)
    kept = suppress_within_classes(
        torch.cat((pair, dots)),
        torch.linspace(1, 0.1, count),
        torch.tensor([90, 90] + [0] * (count - 2)),
        iou_threshold=0.5,
        max_kept=2,
    )
    assert kept.tolist() == [0, 1 if both_kept else 2]
