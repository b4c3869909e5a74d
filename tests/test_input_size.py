"""The size of the network's input: asked for, chosen where boxes are small, and kept with the detector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fewbox
from fewbox import finetuning
from fewbox.cli import main
from fewbox.config import DeepConfig, FinetuneConfig
from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import write_coco
from fewbox.detection.detector import Detector
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import FewboxError, FinetuneError, SettingError
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning import adapt as adapting
from fewbox.finetuning import input_size
from fewbox.finetuning.deep import finetune_deep
from fewbox.finetuning.estimate import mean_ap50
from fewbox.finetuning.input_size import (
    choose_input_size,
    clearly_best,
    photos_to_try,
    pooled_ap50,
    sides_to_try,
)
from fewbox.finetuning.linear_probe import recipe
from fewbox.finetuning.linear_probe.recipe import Probe, budget_for
from fewbox.models.base import BaseModel, load_base
from fewbox.models.device import process_group
from fewbox.models.yolox import YOLOX_SIZES
from made_once import made_once
from tiny import make_base, make_photos, tiny_base
from tiny_retinanet import VERSIONS, random_retinanet, tiny_retinanet_config
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = pytest.mark.usefixtures("in_float32")

NANO = YOLOX_SIZES["nano"]


def photos_with(short_side: float, photo_hw: tuple[int, int], count: int = 5) -> AnnotationSet:
    """Photos that are nowhere, each with one box."""
    box = Box(10, 10, 10 + 2 * short_side, 10 + short_side, "thing")
    images = (AnnotatedImage(Path(f"{n}.jpg"), photo_hw, (box,), reviewed=True) for n in range(count))
    return AnnotationSet(tuple(images), ("thing",))


@cache
def square_base() -> BaseModel:
    """A tiny YOLOX whose photos are far larger than its input."""
    config = replace(tiny_yolox_config(), size_hw=(320, 320))
    return make_base(config, random_yolox(config).state_dict())


@pytest.mark.parametrize(
    ("short_side", "photo_hw", "sides"),
    [
        (100, (960, 1280), []),  # 32.5 pixels of 416
        (60, (960, 1280), [640, 1024]),  # 19.5 pixels; 1024 make 48 of them
        (90, (960, 1280), [512, 768]),  # 29 pixels; 768 make 54
        (40, (600, 800), [512, 768]),  # 896 would be more than the photo has
        (20, (300, 400), []),  # so would any
        (30, (480, 520), [512]),
    ],
)
def test_sizes_worth_a_try(short_side: float, photo_hw: tuple[int, int], sides: list[int]) -> None:
    assert sides_to_try(photos_with(short_side, photo_hw), NANO) == sides


def test_regions_to_ignore_are_no_small_boxes() -> None:
    photos = photos_with(400, (960, 1280))
    specks = tuple(Box(5 * n, 0, 5 * n + 4, 4, "thing", ignore=True) for n in range(50))
    crowded = [replace(image, boxes=(*image.boxes, *specks)) for image in photos]
    assert sides_to_try(replace(photos, images=tuple(crowded)), NANO) == []


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ({"416": 0.40}, "416"),
        ({"416": 0.40, "640": 0.41}, "416"),
        ({"416": 0.40, "640": 0.45, "896": 0.46}, "896"),
        ({"416": 0.40, "640": 0.45, "896": 0.45}, "640"),
        ({"416": 0.40, "640": 0.41, "896": 0.45}, "896"),
        ({"416": 0.40, "640": 0.50, "896": 0.30}, "640"),
    ],
)
def test_a_larger_size_must_win_clearly(found: dict[str, float], best: str) -> None:
    assert clearly_best(found) == best


@pytest.mark.parametrize("side", [-32, 1, 288, 333, 1056, 640.5, True])
@pytest.mark.parametrize("settings", [FinetuneConfig, DeepConfig])
def test_sizes_that_no_network_takes_are_refused(settings: type, side: object) -> None:
    with pytest.raises(SettingError, match="input_size must be"):
        settings(input_size=side)


@cache
def retinanet_base() -> BaseModel:
    config = tiny_retinanet_config(VERSIONS["v1"])
    return make_base(config, random_retinanet(config).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("base", [tiny_base, retinanet_base])
@pytest.mark.parametrize("name", ["best", "seed"])
def test_a_family_without_a_choice_refuses_one(tmp_path: Path, base: object, name: str) -> None:
    photos = make_photos(tmp_path, 2)
    with pytest.raises(FewboxError, match="size of its input cannot be chosen: tiny"):
        fewbox.finetune(
            photos, base(), recipe=name, config=FinetuneConfig(input_size=640), show_progress=False
        )
    assert sides_to_try(photos, base().config) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best", "seed"])
def test_the_size_asked_for_is_taken_and_told(tmp_path: Path, name: str) -> None:
    photos = make_photos(tmp_path, 2)
    work = {"steps": 2} if name == "seed" else {"effort": "quick"}
    config = FinetuneConfig(**work, input_size=352)
    base = square_base()
    detector = fewbox.finetune(photos, base, recipe=name, config=config, show_progress=False)
    assert detector.config.size_hw == (352, 352)
    assert detector.provenance["plan"][0] == "input 352x352, as asked for, instead of 320x320"
    assert base.config.size_hw == (320, 320)


@pytest.mark.slow
def test_deep_fine_tuning_takes_the_size_asked_for(tmp_path: Path) -> None:
    settings = DeepConfig(epochs=1, batch_size=2, loaders=0, input_size=320)
    config = tiny_yolox_config()
    base = make_base(config, random_yolox(config).state_dict())
    with process_group() as group:
        detector = finetune_deep(
            make_photos(tmp_path, 2), base, tmp_path / "c.pt", group, config=settings, show_progress=False
        )
    assert detector.config.size_hw == (320, 320)


@pytest.mark.parametrize(
    ("effort", "keep_classes", "count"), [("quick", False, 5), ("normal", True, 5), ("normal", False, 3)]
)
def test_where_no_size_is_tried_the_option_is_named(
    monkeypatch: pytest.MonkeyPatch, effort: str, keep_classes: bool, count: int
) -> None:
    monkeypatch.setattr(input_size, "held_out_ap50", lambda *_: pytest.fail("tried"))
    photos, base = photos_with(60, (960, 1280), count), load_base("starter")
    sized = choose_input_size(photos, base, FinetuneConfig(effort=effort), keep_classes=keep_classes)
    assert sized.base is base
    (reason,) = sized.reasons
    assert reason.startswith("half the boxes are smaller than 20 pixels at 416x416; ")
    told = "; the base's own classes then get other scores than they had" if keep_classes else ""
    assert reason.endswith(f"--input-size 1024 (input_size=1024 in Python){told}")


def test_that_kept_classes_get_other_scores_with_another_input_is_told() -> None:
    photos, base = photos_with(60, (960, 1280)), load_base("starter")
    for side, keep_classes, said in ((640, True, 1), (640, False, 0), (416, True, 0)):
        settings = FinetuneConfig(input_size=side)
        reasons = choose_input_size(photos, base, settings, keep_classes=keep_classes).reasons
        assert "; ".join(reasons).count("the base's own classes then get other scores than they had") == said


@pytest.mark.parametrize(
    ("how", "judge"),
    [
        ({"recipe": "best"}, "adapting"),
        ({"recipe": "adapt"}, "adapting"),
        ({"recipe": "probe"}, "probe"),
        ({"recipe": "best", "effort": "quick"}, None),
        ({"recipe": "best", "keep_classes": True}, None),
    ],
)
def test_sizes_are_compared_by_what_follows(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], judge: str | None
) -> None:
    asked = []
    monkeypatch.setattr(input_size, "held_out_ap50", lambda *_: asked.append("probe"))
    monkeypatch.setattr(adapting, "ap50_of_brief_adapting", lambda *_: asked.append("adapting"))
    with pytest.raises(FewboxError, match=r"0\.jpg"):  # it is not there, but its size is known
        fewbox.finetune(photos_with(60, (960, 1280)), "starter", show_progress=False, **how)
    assert asked == ([] if judge is None else [judge])


@pytest.mark.parametrize("error", [FinetuneError("step 3: the loss is not finite"), MemoryError()])
def test_where_adapting_is_hindered_the_size_stays_and_the_option_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def adapt(*_: object) -> float:
        raise error

    monkeypatch.setattr(adapting, "ap50_of_brief_adapting", adapt)
    base, settings = load_base("starter"), FinetuneConfig()
    judge = finetuning._judge_of_sizes(base, settings, "best")
    sized = choose_input_size(photos_with(60, (960, 1280)), base, settings, judge=judge)
    assert sized.base is base
    (reason,) = sized.reasons
    assert reason.endswith("--input-size 1024 (input_size=1024 in Python)")


@pytest.mark.slow
def test_far_away_ducks_are_found_better_by_a_larger_input_after_brief_adapting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "BRIEF_STEPS", 3)
    monkeypatch.setattr(adapting, "BRIEF_VIEWS", 2)
    train, _ = demo_photos()
    train, base = far_away(train, tmp_path / "train", 4), load_base("starter")
    judged = {
        name: adapting.ap50_of_brief_adapting(train, sized, FinetuneConfig())
        for name, sized in (("416", base), ("640", input_size.with_input_size(base, 640)))
    }
    assert clearly_best(judged) == "640"
    one = replace(train, images=train.images[:1])
    assert adapting.ap50_of_brief_adapting(one, base, FinetuneConfig()) is None


def test_held_out_photos_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    worth = {416: 0.31, 640: 0.42, 1024: 0.41}
    monkeypatch.setattr(input_size, "held_out_ap50", lambda _, base, *__: worth[base.config.size_hw[0]])
    photos, base = photos_with(60, (960, 1280)), load_base("starter")
    sized = choose_input_size(photos, base, FinetuneConfig())
    assert sized.base.config == base.config.changed(size_hw=(640, 640))
    assert sized.reasons == (
        "input 640x640 instead of 416x416: half the boxes are smaller than 20 pixels at 416x416; "
        "AP50 on held-out photos 42% instead of 31%",
    )
    worth[640] = 0.32
    worth[1024] = 0.3
    sized = choose_input_size(photos, base, FinetuneConfig())
    assert sized.base.config == base.config
    assert sized.reasons == (
        "input 416x416: half the boxes are smaller than 20 pixels at 416x416, "
        "but AP50 on held-out photos is 31%, and 32% with 640x640 and 30% with 1024x1024",
    )


def outcomes_of(finds: Sequence[bool], class_ids: Sequence[int]) -> Outcomes:
    """One detection for each object, which it covers or not."""
    ids, left = np.array(class_ids), 20.0 * np.arange(len(finds))
    boxes = np.stack((left, 0 * left, left + 10, 0 * left + 10), 1)
    where = np.where(np.array(finds)[:, None], boxes, boxes + 50)
    photos, scores = 0 * ids, np.linspace(0.9, 0.5, len(finds))
    return Outcomes.of(
        PredictionTable(photos, ids, where, scores),
        GroundTruthTable(photos, ids, boxes, np.zeros(len(ids), bool)),
    )


def test_one_object_of_a_rare_class_does_not_outweigh_ten_of_another() -> None:
    class_ids = [0] * 10 + [1]
    small, large = (
        outcomes_of(found, class_ids) for found in ([True] * 4 + [False] * 6 + [True], [True] * 10 + [False])
    )
    assert mean_ap50(small, 2) > mean_ap50(large, 2) + 0.1
    assert pooled_ap50(large) > pooled_ap50(small) + 0.3
    assert pooled_ap50(outcomes_of([True, False], [0, 0])) == mean_ap50(outcomes_of([True, False], [0, 0]), 1)


def test_of_many_photos_some_are_tried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(input_size, "held_out_ap50", lambda some, *_: seen.append(some))
    photos = photos_with(60, (960, 1280), count=101)
    choose_input_size(photos, load_base("starter"), FinetuneConfig())
    assert len(seen[0]) == 30
    assert (seen[0][0], seen[0][-1]) == (photos[0], photos[-1])


@pytest.mark.parametrize(
    "at", [range(6), range(0, 300, 10), range(290, 300), range(100, 200), [7], range(300)]
)
def test_photos_that_show_something_are_among_them(at: Sequence[int]) -> None:
    photos = photos_with(60, (960, 1280), count=300)
    speck = replace(photos[0].boxes[0], ignore=True)
    images = tuple(
        image if number in at else replace(image, boxes=(speck,) if number % 2 else ())
        for number, image in enumerate(photos)
    )
    tried = photos_to_try(replace(photos, images=images))
    assert len(tried) == len(set(tried)) == 30
    assert list(tried) == [image for image in images if image in set(tried)]
    showing = sum(any(not box.ignore for box in image.boxes) for image in tried)
    assert showing == (30 if len(at) == 300 else min(len(at), 20))


def test_where_nothing_can_be_held_out_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_size, "held_out_ap50", lambda *_: None)
    (reason,) = choose_input_size(
        photos_with(60, (960, 1280)), load_base("starter"), FinetuneConfig()
    ).reasons
    assert reason.endswith("--input-size 1024 (input_size=1024 in Python)")


def test_a_heavy_base_tries_fewer_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(input_size, "held_out_ap50", lambda _, base, *__: tried.append(base.config.size_hw))
    photos, base = photos_with(60, (960, 1280), count=10), load_base("starter")
    num_weights = sum(weight.size for weight in base.weights.values())
    monkeypatch.setattr(input_size, "MAX_WORK", 20 * num_weights * (416**2 + 640**2))
    choose_input_size(photos, base, FinetuneConfig())
    assert tried == [(416, 416)]  # nothing could be held out, so the others need no look
    assert input_size._affordable([640, 1024], 10, base) == [640]


@pytest.mark.slow
def test_large_objects_keep_the_size_and_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_size, "held_out_ap50", lambda *_: pytest.fail("tried"))
    few, base = make_photos(tmp_path, 2, size_hw=(270, 360)), square_base()
    detector = fewbox.finetune(few, base, recipe="probe", show_progress=False)
    before = Probe.of(few, base, FinetuneConfig(), show_progress=False).fit().detector
    assert detector.config == before.config
    assert detector.provenance["plan"] == before.provenance["plan"]
    assert all(np.array_equal(detector.weights[name], before.weights[name]) for name in before.weights)


def far_away(photos: AnnotationSet, folder: Path, count: int) -> AnnotationSet:
    """The first photos as if seen from further away: a third as large, on a canvas of their mean colour."""
    folder.mkdir()
    images = []
    for number, image in enumerate(photos.images[:count]):
        near, (height, width) = Image.open(image.path).convert("RGB"), image.size_hw
        canvas = Image.new("RGB", near.size, tuple(np.asarray(near).mean((0, 1)).astype(int).tolist()))
        x, y = 137 * number % (2 * width // 3), 71 * number % (2 * height // 3)
        canvas.paste(near.resize((width // 3, height // 3), Image.Resampling.LANCZOS), (x, y))
        canvas.save(folder / f"{number}.png")
        boxes = (Box(x + b.x1 / 3, y + b.y1 / 3, x + b.x2 / 3, y + b.y2 / 3, b.label) for b in image.boxes)
        images.append(AnnotatedImage(folder / f"{number}.png", (height, width), tuple(boxes), reviewed=True))
    return AnnotationSet(tuple(images), photos.labels)


@pytest.mark.slow
def test_small_objects_get_a_larger_input_and_are_found_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "budget_for", lambda count, _: budget_for(count, "quick"))
    train, test = demo_photos()
    train, test = far_away(train, tmp_path / "train", 4), far_away(test, tmp_path / "test", 4)
    detector = fewbox.finetune(train, "starter", recipe="probe")
    reason, *_ = detector.provenance["plan"]
    assert " instead of 416x416: half the boxes are smaller than 17 pixels at 416x416; AP50 on" in reason
    assert reason in capsys.readouterr().err.replace("\n", " ")
    assert detector.config.size_hw > (416, 416)
    as_asked = FinetuneConfig(input_size=416)
    before = fewbox.finetune(train, "starter", recipe="probe", config=as_asked, show_progress=False)
    worse, better = (fewbox.evaluate(one, test, show_progress=False).metrics.ap for one in (before, detector))
    assert better > worse + 0.05


@pytest.mark.slow
def test_the_size_goes_wherever_the_detector_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command line into the file, into a file of the heads alone, and into exports."""
    train, test = demo_photos()
    few, photo = replace(train, images=train.images[:2]), test.images[0].path
    write_coco(few, tmp_path / "boxes.json")
    duck, heads = (tmp_path / name for name in ("duck.safetensors", "heads.safetensors"))
    options = ["--effort", "quick", "--input-size", "352", "--keep-classes", "--base", "starter"]
    photos = [str(image.path) for image in few]
    assert (
        main(["finetune", *photos, "--boxes", str(tmp_path / "boxes.json"), "-o", str(duck), *options]) == 0
    )
    detector = Detector.load(duck).with_precision("float32")
    assert detector.config.size_hw == (352, 352)
    detector.save(heads, heads_only=True)
    assert heads.stat().st_size < duck.stat().st_size / 4
    assert_same_found(Detector.load(heads), detector, photo)
    other = make_base(load_base("starter").config, {"w": torch.zeros(1)})
    with pytest.raises(FewboxError, match="made from another base model"):
        Detector.load(heads, base=other)
    capsys.readouterr()
    assert main(["show", str(heads)]) == 0
    shown = capsys.readouterr().out
    assert "input:       352x352 pixels\n" in shown
    assert "\n  input 352x352, as asked for, instead of 416x416" in shown

    pytest.importorskip("onnxscript", reason="needs what exports detectors: pip install '.[train]'")
    exported = made_once("input_of_352", lambda folder: export_resized(folder, few, photo))
    detector, onnx = Detector.load(exported / "duck.safetensors"), exported / "duck.onnx"
    assert_same_found(fewbox.open_detector(onnx), detector, photo)
    assert main(["show", str(onnx), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input_size_hw"] == [352, 352]


def export_resized(folder: Path, photos: AnnotationSet, photo: Path) -> None:
    config = FinetuneConfig(effort="quick", input_size=352, precision="float32")
    detector = fewbox.finetune(photos, "starter", config=config, keep_classes=True, show_progress=False)
    detector.save(folder / "duck.safetensors")
    assert fewbox.export_detector(detector, folder / "duck.onnx", photos=[photo]).num_boxes > 0


def assert_same_found(one: PhotoDetector, other: PhotoDetector, photo: Path) -> None:
    found, expected = (detector.detect(photo, threshold=0.1) for detector in (one, other))
    assert len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
