"""The network and its parts, by themselves and against what the TensorFlow original computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewbox.core.boxes import nms, nms_per_class
from fewbox.data.images import read_image
from fewbox.models.base import BaseModel, restore
from fewbox.models.boxes import (
    IGNORED,
    NEGATIVE,
    clip_boxes,
    cxcywh_to_xyxy,
    decode_boxes,
    encode_boxes,
    make_anchors,
    match_anchors,
    pairwise_iou,
    xyxy_to_cxcywh,
)
from fewbox.models.families import build_network
from fewbox.models.layers import huber_loss, pad_same, sigmoid_focal_loss
from fewbox.models.ssd.network import SsdDetector, resize_bilinear_legacy
from tiny import tiny_base, tiny_config

SCALES = (10.0, 10.0, 5.0, 5.0)


@st.composite
def boxes(draw: st.DrawFn, most: int = 12) -> torch.Tensor:
    rows = hnp.arrays(np.float32, (draw(st.integers(0, most)), 4), elements=st.integers(0, 60).map(float))
    corners = draw(rows)
    low = np.minimum(corners[:, :2], corners[:, 2:])
    high = np.maximum(corners[:, :2], corners[:, 2:]) + 1
    return torch.from_numpy(np.concatenate((low, high), 1))


# --- the resize, paddings and losses of TensorFlow, by their published values


def test_legacy_resize_up_and_down() -> None:
    ramp = torch.arange(4.0).reshape(4, 1, 1)
    assert resize_bilinear_legacy(ramp, (8, 1)).flatten().tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    ramp = torch.arange(8.0).reshape(1, 8, 1)
    assert resize_bilinear_legacy(ramp, (1, 4)).flatten().tolist() == [0, 2, 4, 6]


def test_same_padding_goes_to_the_bottom_and_right() -> None:
    assert pad_same(torch.ones(1, 1, 4, 4), 3, 2)[0, 0].tolist() == [[1, 1, 1, 1, 0]] * 4 + [[0] * 5]
    assert pad_same(torch.ones(1, 1, 5, 5), 3, 2).shape == (1, 1, 7, 7)
    assert pad_same(torch.ones(1, 1, 6, 6), 1, 2).shape == (1, 1, 6, 6)


def test_focal_loss_is_the_papers() -> None:
    logits, targets = torch.tensor([-2.0, 0.0, 3.0, -2.0, 0.0, 3.0]), torch.tensor([1.0, 1, 1, 0, 0, 0])
    p = torch.sigmoid(logits)
    p_t = torch.where(targets == 1, p, 1 - p)
    alpha_t = torch.where(targets == 1, 0.25, 0.75)
    expected = -alpha_t * (1 - p_t) ** 2 * torch.log(p_t)
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0), expected)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, alpha=None, gamma=0.0), cross_entropy)


def test_focal_loss_of_extreme_logits_is_finite() -> None:
    logits = torch.tensor([-500.0, 500.0, -500.0, 500.0])
    loss = sigmoid_focal_loss(logits, torch.tensor([0.0, 1, 1, 0]), alpha=0.25, gamma=2.0)
    assert loss.tolist() == pytest.approx([0, 0, 125, 375], abs=1e-30)


def test_huber_loss_is_linear_beyond_delta() -> None:
    loss = huber_loss(torch.tensor([0.5, 3.0]), torch.zeros(2), delta=1.0)
    assert loss.tolist() == [0.125, 2.5]


# --- boxes, anchors, matching, suppression


@pytest.mark.slow
@settings(max_examples=50)
@given(boxes(), boxes())
def test_iou_is_that_of_counted_pixels(first: torch.Tensor, second: torch.Tensor) -> None:
    def mask(box: list[float]) -> np.ndarray:
        picture = np.zeros((64, 64), bool)
        x1, y1, x2, y2 = (int(v) for v in box)
        picture[y1:y2, x1:x2] = True
        return picture

    iou = pairwise_iou(first, second)
    for i, a in enumerate(first.tolist()):
        for j, b in enumerate(second.tolist()):
            both, either = (mask(a) & mask(b)).sum(), (mask(a) | mask(b)).sum()
            assert iou[i, j].item() == pytest.approx(both / either, abs=1e-6)


@pytest.mark.slow
@given(boxes())
def test_box_forms_round_trip_and_leave_their_argument(rows: torch.Tensor) -> None:
    before = rows.clone()
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(rows)), rows)
    assert (clip_boxes(rows, (30, 40)) <= torch.tensor([40.0, 30, 40, 30])).all()
    assert torch.equal(rows, before)


def test_anchors_ratio_outer_scale_inner() -> None:
    anchors = make_anchors(
        (640, 640), range(3, 8), anchor_scale=4.0, aspect_ratios=(1.0, 2.0, 0.5), scales_per_octave=2
    )
    assert anchors.shape == (51_150, 4)
    assert anchors[0].tolist() == [-12, -12, 20, 20]
    r = 2**0.5
    expected = [(32, 32), (32 * r, 32 * r), (32 * r, 32 / r), (64, 32), (32 / r, 32 * r), (32, 64)]
    torch.testing.assert_close(anchors[:6, 2:] - anchors[:6, :2], torch.tensor(expected))
    assert anchors[6, 0] - anchors[0, 0] == 8  # along the row first
    assert anchors[6 * 80, 1] - anchors[0, 1] == 8


@pytest.mark.slow
@given(boxes(), st.integers(0, 5))
def test_codes_decode_to_the_boxes(rows: torch.Tensor, seed: int) -> None:
    torch.manual_seed(seed)
    corner = torch.rand(len(rows), 2) * 40
    anchors = torch.cat((corner, corner + 8 + torch.rand(len(rows), 2) * 30), 1)
    decoded = decode_boxes(encode_boxes(rows, anchors, SCALES), anchors, SCALES)
    torch.testing.assert_close(decoded, rows, atol=2e-4, rtol=0)


def test_matching_thresholds_and_forced_matches() -> None:
    anchors = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4], [50, 50, 60, 60], [90, 90, 99, 99]]
    )
    truth = torch.tensor([[0.0, 0, 10, 10], [54, 54, 64, 64]])
    matches = match_anchors(anchors, truth, matched_iou=0.6, unmatched_iou=0.45, force_match=True)
    assert matches.tolist() == [0, 0, NEGATIVE, 1, NEGATIVE]
    matches = match_anchors(anchors, truth, matched_iou=0.7, unmatched_iou=0.5, force_match=False)
    assert matches.tolist() == [0, IGNORED, NEGATIVE, NEGATIVE, NEGATIVE]
    nothing = match_anchors(anchors, truth[:0], matched_iou=0.5, unmatched_iou=0.5, force_match=True)
    assert (nothing == NEGATIVE).all()


def test_first_of_two_boxes_gets_the_anchor_both_want() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [40, 40, 50, 50]])
    truth = torch.tensor([[6.0, 6, 12, 12], [0, 0, 4, 4]])
    matches = match_anchors(anchors, truth, matched_iou=0.5, unmatched_iou=0.5, force_match=True)
    assert matches.tolist() == [0, NEGATIVE]


@pytest.mark.slow
@settings(max_examples=50)
@given(boxes(most=40), st.integers(1, 50), st.sampled_from([0.3, 0.5, 0.6]))
def test_nms_is_greedy(rows: torch.Tensor, most: int, threshold: float) -> None:
    scores = np.random.default_rng(len(rows)).permutation(len(rows)).astype(np.float32)
    kept: list[int] = []
    iou = pairwise_iou(rows, rows)
    for i in np.argsort(-scores):
        if all(iou[i, j] <= threshold for j in kept):
            kept.append(int(i))
    found = nms(rows.numpy(), scores, iou_threshold=threshold, max_kept=most)
    assert found.tolist() == kept[:most]


def test_nms_beyond_one_chunk_equals_one_pass() -> None:
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, 300, (3000, 2))
    rows = np.concatenate((corner, corner + generator.uniform(5, 60, (3000, 2))), 1).astype(np.float32)
    scores = generator.uniform(0, 1, 3000).astype(np.float32)
    everything = nms(rows, scores, iou_threshold=0.5, max_kept=3000)
    assert 100 < len(everything) < 3000
    assert nms(rows, scores, iou_threshold=0.5, max_kept=50).tolist() == everything[:50].tolist()


def test_classes_do_not_suppress_each_other() -> None:
    rows = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    scores = np.array([[0.9, 0.2], [0.8, 0.7]], np.float32)
    index, class_ids = nms_per_class(
        rows, scores, score_threshold=0.3, iou_threshold=0.5, max_per_class=9, max_detections=9
    )
    assert index.tolist() == [0, 1]
    assert class_ids.tolist() == [0, 1]


# --- the network


@pytest.mark.slow
def test_initial_scores_are_low_and_boxes_are_anchors() -> None:
    config, weights, _ = restore(tiny_base(), 2, seed=0)
    network = build_network(config, weights)
    codes, logits = network(network.batch_of([np.full((90, 120, 3), 128, np.uint8)]))
    assert torch.sigmoid(logits).mean().item() == pytest.approx(0.01, abs=0.01)
    assert codes.abs().mean().item() < 2


@pytest.mark.slow
def test_folding_leaves_the_output_and_the_weights() -> None:
    base = tiny_base()
    plain = SsdDetector(base.config)
    plain.load_state_dict({name: torch.tensor(weight) for name, weight in base.weights.items()})
    before = {name: weight.copy() for name, weight in base.weights.items()}
    folded = build_network(base.config, base.weights)
    pixels = torch.randn(2, 3, *base.config.size_hw) * 50
    for ours, theirs in zip(folded(pixels), plain(pixels), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)
    assert all(np.array_equal(base.weights[name], before[name]) for name in before)


def test_boxes_to_input_and_back() -> None:
    network = SsdDetector(tiny_config())
    rows = torch.tensor([[10.0, 20, 30, 40]])
    inside = network.to_input(rows, (256, 512))
    assert inside.tolist() == [[2.5, 10, 7.5, 20]]
    assert network.to_photo(inside, (256, 512)).tolist() == rows.tolist()


# --- parity with the original


@pytest.fixture(scope="module")
def golden(shared: object) -> dict[str, np.ndarray]:
    return dict(np.load(f"{shared}/golden/forward.npz"))


@pytest.mark.slow
@pytest.mark.golden
def test_forward_pass_is_the_originals(
    shared: object, golden_base: BaseModel, golden: dict[str, np.ndarray]
) -> None:
    """Largest difference seen, folded: 4e-4 (logits 4e-4, codes 3e-4, P5 5e-4, pixels 8e-6)."""
    photo = "robertducky1"

    def close(name: str, ours: torch.Tensor, atol: float = 1e-3) -> None:
        np.testing.assert_allclose(ours.numpy(), golden[f"{photo}/{name}"], atol=atol, rtol=0)

    network = build_network(golden_base.config, golden_base.weights)
    image = read_image(f"{shared}/data/ducky/train/{photo}.jpg")
    with torch.inference_mode():
        pixels = network.batch_of([image])
        close("preprocessed_every16", pixels[0].permute(1, 2, 0)[::16, ::16], 1e-4)
        pyramid = network.features(pixels)
        for level, map_ in enumerate(pyramid, start=3):
            cells = 4 if level == 3 else 1
            close(f"P{level}_channels_every16", map_[0].permute(1, 2, 0)[::cells, ::cells, ::16])
        codes, logits = network.heads(network.towers(pyramid))
        close("box_encodings_every31", codes[0, ::31])
        close("class_logits_every31", logits[0, ::31])
        anchors = network.anchors((640, 640))
        np.testing.assert_allclose(
            anchors[::31].numpy()[:, [1, 0, 3, 2]] / 640, golden["anchors_every31"], atol=1e-6
        )
        found, scores, class_ids = network.select(codes[0], logits[0], anchors, 0.03)
    corners = golden[f"{photo}/detection_boxes"][:, [1, 0, 3, 2]] * 640
    wanted = golden[f"{photo}/detection_scores"] >= 0.05
    assert wanted.sum() >= 20
    iou = pairwise_iou(torch.from_numpy(corners[wanted]), clip_boxes(found, (640, 640)))
    for row, score, class_id in zip(
        iou, golden[f"{photo}/detection_scores"], golden[f"{photo}/detection_classes"], strict=False
    ):
        same = (row >= 0.99) & (class_ids == int(class_id)) & ((scores - float(score)).abs() <= 1e-3)
        assert same.any(), f"no counterpart for a detection of class {class_id} with score {score}"
