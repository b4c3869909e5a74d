"""The sets that accuracy is measured on: nothing that is tested on looks like what was learnt from.

And the README has what the pages of accuracy say of them.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewbox.finetuning.crossval import checked_classes, stratified_folds

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def farsets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("farsets", BENCHMARKS / "farsets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["farsets"] = module  # dataclasses look for their module by name
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def far_set(farsets: ModuleType, shared: Path) -> Callable[[str], Any]:  # noqa: ARG001
    """Each set divided once: that takes up to a second."""
    return functools.cache(farsets.far_set)


@pytest.mark.parametrize(
    ("name", "photos", "groups"),
    [
        ("plants", ["IMG_1_frame0000.jpg", "IMG_1_frame0278.jpg", "IMG_2_frame0000.jpg"], 2),
        ("nematode_dish", ["frame_000_t0s_0232.jpg", "frame_000_t0s_0405.jpg", "frame_001_t20s_0001.jpg"], 2),
        ("aerial_cars", ["DJI_0031_t11.jpg", "DJI_0031_t12.jpg", "DJI_0030_t11.jpg"], 2),
        ("aerial_cars", ["MOS155_t10.jpg", "MOS158_t10.jpg", "MOS76_t00.jpg", "Munich-MOS76_t00.jpg"], 3),
        ("underwater_robosub", ["3.jpg", "13.jpg", "31.jpg", "106.jpg"], 2),
        ("dice", ["a.jpg", "b.jpg"], 2),
    ],
)
def test_photos_that_look_alike_are_one_group(
    farsets: ModuleType, name: str, photos: list[str], groups: int
) -> None:
    assert len(set(farsets.GROUPINGS[name](photos))) == groups


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        "dice",
        "chess_pieces",
        "plants",
        "dental_xray",
        "nematode_dish",
        "underwater_robosub",
        "aerial_cars",
    ],
)
def test_no_group_is_on_both_sides_and_every_class_is(
    farsets: ModuleType, far_set: Callable[[str], Any], name: str
) -> None:
    division = far_set(name)
    pool, test = ([image.path.name for image in side] for side in (division.pool, division.test))
    group = farsets.GROUPINGS[name]
    of = dict(zip(pool + test, group(pool + test), strict=True))
    assert not {of[photo] for photo in pool} & {of[photo] for photo in test}
    assert 30 <= len(test) <= farsets.MOST_TEST_PHOTOS <= len(pool)
    for side in (division.pool, division.test):
        assert {box.label for image in side for box in image.boxes} == set(division.labels)


@pytest.mark.slow
@pytest.mark.shared
def test_a_set_is_always_divided_alike(farsets: ModuleType, far_set: Callable[[str], Any]) -> None:
    division, again = far_set("underwater_robosub"), farsets.far_set("underwater_robosub")
    assert again is not division
    for side in ("pool", "test"):
        paths, same = ([image.path for image in getattr(one, side)] for one in (division, again))
        assert paths == same


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["chess_pieces", "dental_xray", "underwater_robosub"])
def test_ten_photos_are_divided_so_that_all_that_can_be_is_checked(
    far_set: Callable[[str], Any], name: str
) -> None:
    """Of these, halves of every second photo leave 13 classes unchecked that two photos show."""
    division = far_set(name)
    for first in range(0, len(division.pool) - 9, 10):
        shown = [
            [division.labels.index(box.label) for box in image.objects] for image in division.pool[first:]
        ]
        photos: Any = [SimpleNamespace(class_ids=np.array(ids)) for ids in shown[:10]]
        folds = stratified_folds([photo.class_ids for photo in photos], 2)
        checked = checked_classes(photos, folds, len(division.labels))
        seen_in = Counter(class_id for ids in shown[:10] for class_id in set(ids))
        assert set(np.flatnonzero(checked)) == {class_id for class_id, count in seen_in.items() if count > 1}


def test_the_accuracy_that_the_readme_tells_is_that_of_the_pages() -> None:
    root = BENCHMARKS.parent
    table = (root / "README.md").read_text(encoding="utf-8").partition("| object | learnt from |")[2]
    told = re.findall(r"^\|[^|]+\| 10 boxes[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", table, re.M)
    assert len(told) == 5
    rows = [
        set(re.findall(r"(?<=\| )[\d.]+", line))
        for page in ("accuracy.md", "far.md")
        for line in (root / "docs" / page).read_text(encoding="utf-8").splitlines()
    ]
    for numbers in told:
        assert any(row >= set(numbers) for row in rows), f"not on the pages: {numbers}"
