"""What the linear probe is taught by each anchor of a photo."""

from __future__ import annotations

import numpy as np

from fewbox.finetuning.linear_probe import Sample, assign_targets
from fewbox.models.features import AnchorFeatures

ANCHORS = [[0, 0, 10, 10], [2, 0, 12, 10], [40, 40, 50, 50], [60, 60, 70, 70], [88, 88, 108, 108]]


def taught(boxes: list[list[float]], ignored: list[list[float]] = []) -> Sample:  # noqa: B006 - never changed
    """From all anchors that teach anything; the first number of the features of each tells which it is."""
    count = len(ANCHORS)
    features = AnchorFeatures(
        base_logits=np.arange(count, dtype=np.float32)[:, None],
        tower_features=np.zeros((count, 1), np.float32),
        groups=np.zeros(count, np.int64),
        boxes=np.array(ANCHORS, np.float32),
        base_score=np.zeros(count, np.float32),
    )
    given, regions = (np.array(some, np.float32).reshape(-1, 4) for some in (boxes, ignored))
    generator = np.random.RandomState(0)
    ids = np.zeros(len(boxes), np.int64)
    return assign_targets(features, given, ids, regions, generator, num_classes=1, num_background=count)


def anchors_in(sample: Sample) -> list[int]:
    return sample.features.base_logits[:, 0].astype(int).tolist()


def test_the_anchors_of_an_object_weigh_as_one() -> None:
    sample = taught([[1, 0, 11, 10]])
    assert anchors_in(sample) == [0, 1, 2, 3, 4]
    assert sample.targets[:, 0].tolist() == [1, 1, 0, 0, 0]
    assert sample.weights[:, 0].tolist() == [10, 10, 1, 1, 1]


def test_an_object_that_no_anchor_touches_makes_none_of_them_its_own() -> None:
    sample = taught([[200, 200, 201, 201]])
    assert sample.targets.sum() == 0
    assert sample.weights[:, 0].tolist() == [1] * 5


def test_what_lies_in_a_crowd_is_not_taken_for_background() -> None:
    """A region far larger than an anchor overlaps it by little, and holds all of it, or half."""
    assert anchors_in(taught([], [[30, 30, 98, 200]])) == [0, 1]
    assert anchors_in(taught([], [[30, 30, 97, 200]])) == [0, 1, 4]


def test_a_region_as_large_as_an_anchor_goes_by_its_overlap() -> None:
    assert anchors_in(taught([], [[1, 1, 6, 8]])) == [1, 2, 3, 4]


def test_an_object_beside_a_crowd_is_learnt() -> None:
    sample = taught([[40, 40, 50, 50]], [[30, 30, 300, 300]])
    assert anchors_in(sample) == [0, 1, 2]
    assert sample.targets[:, 0].tolist() == [0, 0, 1]
