"""Boxes as numpy arrays: by hand where it can be worked out, and by what torch says of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewbox.core import boxes
from fewbox.models import boxes as torch_boxes

CORNERS = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [2, 3, 2, 9], [20, 0, 30, 4], [-3, -2, 4, 50]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_and_torch_say_the_same(dtype: type) -> None:
    here = CORNERS.astype(dtype)
    there = torch.from_numpy(here.copy())
    pairs = [
        (boxes.pairwise_iou(here, here), torch_boxes.pairwise_iou(there, there)),
        (boxes.paired_iou(here, here[::-1]), torch_boxes.paired_iou(there, there.flip(0))),
        (boxes.box_areas(here), torch_boxes.box_areas(there)),
        (boxes.xyxy_to_cxcywh(here), torch_boxes.xyxy_to_cxcywh(there)),
        (boxes.cxcywh_to_xyxy(here), torch_boxes.cxcywh_to_xyxy(there)),
        (boxes.clip_boxes(here, (8, 12)), torch_boxes.clip_boxes(there, (8, 12))),
    ]
    for ours, theirs in pairs:
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, theirs.numpy())
    np.testing.assert_array_equal(here, CORNERS)


def test_iou_by_hand() -> None:
    iou = boxes.pairwise_iou(CORNERS.astype(np.float64), CORNERS[:2].astype(np.float64))
    assert iou.shape == (5, 2)
    assert iou[0].tolist() == [1, 25 / 175]
    assert iou[2].tolist() == [0, 0]  # has no area
    assert iou[3].tolist() == [0, 0]  # lies elsewhere


def test_photos_have_the_same_objects_in_whatever_order_each_once() -> None:
    near, far, other = [0.0, 0, 100, 100], [200.0, 0, 300, 100], [1.0, 0, 101, 100]
    first = np.array([near, near, far])
    theirs = np.array([[far, near, other], [near, far, far], [near, near, other], [far, near, near]])
    ids = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 1]])
    assert boxes.are_same_boxes([0, 0, 1], first, ids, theirs).tolist() == [True, False, False, False]
    assert boxes.are_same_boxes(["a", "a", "a"], first, ["a"] * 3, theirs[0])
    assert not boxes.are_same_boxes(["a"] * 3, first, ["a"] * 3, theirs[1])
    assert not boxes.are_same_boxes(["a"] * 3, first, ["a"] * 2, first[:2])
    assert boxes.are_same_boxes([], first[:0], [], first[:0])


def test_no_boxes_have_no_iou() -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert boxes.pairwise_iou(nothing, CORNERS.astype(np.float32)).shape == (0, 5)
    assert boxes.nms(nothing, nothing[:, 0], iou_threshold=0.5, max_kept=10).tolist() == []


def test_a_box_inside_out_has_a_negative_area_and_overlaps_nothing() -> None:
    inside_out, other = np.array([[8.0, 0, 2, 10]]), np.array([[0.0, 0, 10, 10]])
    assert boxes.box_areas(inside_out).tolist() == [-60]
    assert boxes.pairwise_iou(inside_out, other).tolist() == [[0]]
