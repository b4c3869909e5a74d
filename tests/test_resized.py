"""Photos that have another size than when their boxes were drawn: nothing is learnt or counted in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fewbox import evaluate, finetune
from fewbox.data.annotations import AnnotationSet
from fewbox.errors import AnnotationError
from fewbox.finetuning.samples import AugmentedDataset
from fewbox.models.base import BaseModel
from tiny import make_base, make_photos, tiny_base
from tiny_yolox import random_yolox, tiny_yolox_config

DIFFER = r"photo0\.png: width x height differ: 160 x 120 in the file, 50 x 40 upright"


@pytest.fixture
def resized(tmp_path: Path) -> AnnotationSet:
    photos = make_photos(tmp_path, count=2)
    for image in photos:
        Image.new("RGB", (50, 40)).save(image.path)
    return photos


def tiny_yolox() -> BaseModel:
    return make_base(tiny_yolox_config(), random_yolox(tiny_yolox_config()).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["probe", "adapt", "seed"])
def test_nothing_is_learnt_from_them(resized: AnnotationSet, recipe: str) -> None:
    base, effort = (tiny_base(), None) if recipe == "seed" else (tiny_yolox(), "quick")
    with pytest.raises(AnnotationError, match=DIFFER):
        finetune(resized, base, recipe=recipe, effort=effort, show_progress=False)
    if recipe == "adapt":
        with pytest.raises(AnnotationError, match="width x height differ"):
            AugmentedDataset(resized, random_yolox(tiny_yolox_config()), 0)[0]


@pytest.mark.slow
def test_nothing_is_counted_in_them(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, count=2)
    detector = finetune(photos, tiny_yolox(), effort="quick", show_progress=False)
    Image.new("RGB", (50, 40)).save(photos.images[0].path)
    first, second = photos.images
    empty = replace(first, boxes=(), reviewed=True)  # nothing in it is anywhere
    assert evaluate(detector, replace(photos, images=(empty, second)), show_progress=False).metrics
    with pytest.raises(AnnotationError, match=DIFFER):
        evaluate(detector, photos, show_progress=False)
