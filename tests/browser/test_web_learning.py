"""examples/web/learning beside the Python it was written after: the same photos give the same detector."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from PIL import Image, ImageOps
from web_example import SOURCE, install_page, served, starter_base

import fewbox
from fewbox.config import FinetuneConfig
from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotationSet
from fewbox.detection.detector import Detector
from fewbox.export import compare_found
from fewbox.export.onnx import make_model
from fewbox.finetuning import linear_probe
from fewbox.finetuning.crossval import stratified_folds
from fewbox.finetuning.estimate import Calibration
from fewbox.finetuning.linear_probe import Scale, logits_of, recipe
from fewbox.finetuning.linear_probe.recipe import MAX_STEPS, RIDGE, Fitted, Probe, design_of
from fewbox.models.base import BaseModel, load_base
from fewbox.models.families import build_network
from fewbox.models.features import Coefficients, group_slices
from fewbox.runtimes import read_onnx_header

PARTS = ("boxes", "baseLogits", "towerFeatures", "levels")
_MODULES = """
  const [{ learn }, { headerOf, readBase, writeDetector }, { detect }] = await Promise.all(
    ["fit", "base_file", "detect"].map((name) => import(`/learning/${name}.js`)),
  );
  const bytesOf = async (name) => new Uint8Array(await (await fetch(`/${name}`)).arrayBuffer());
  const asText = (bytes) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1] ?? "");
    reader.readAsDataURL(new Blob([bytes]));
  });
"""
_TELL = """
  const learnt = learn(base, photos, labels, options);
  const file = writeDetector(base, learnt.head, headerOf(base, learnt, labels, photos));
  const found = photos.map(({ features, size }) => detect(base, features, learnt.head, size, threshold));
  const { head, ...told } = learnt;
  const levels = head.levels.map(({ weight, bias }) => ({ weight: [...weight], bias: [...bias] }));
  return { ...told, levels, found, file: await asText(file) };
"""
LEARN = f"""async ({{ photos, labels, options, threshold }}) => {{{_MODULES}
  for (const [number, photo] of photos.entries()) {{
    const read = async (part) => (await bytesOf(`${{number}}.${{part}}`)).buffer;
    const floats = async (part) => new Float32Array(await read(part));
    const [boxes, baseLogits, towerFeatures] = await Promise.all({list(PARTS[:3])}.map(floats));
    photo.features = {{ boxes, baseLogits, towerFeatures, levels: new Uint8Array(await read("levels")) }};
  }}
  const base = readBase(await bytesOf("base.onnx"));
{_TELL}}}"""
LOOK_AND_LEARN = f"""async ({{ photos, labels, options, threshold }}) => {{{_MODULES}
  const ort = await import("/runtime/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("/runtime/", location.href).href;
  const {{ Base }} = await import("/learning/base.js");
  const {{ readPixels }} = await import("/pixels.js");
  const opened = await Base.open(ort, await bytesOf("base.onnx"));
  const base = opened.file;
  const texts = [];
  for (const photo of photos) {{
    const {{ image, width, height }} = await readPixels(new Blob([await bytesOf(photo.name)]));
    photo.size = {{ width, height }};
    photo.features = await opened.look(image);
    photo.mirrored = await opened.lookMirrored(image);
    for (const own of [photo.features, photo.mirrored]) {{
      texts.push(await Promise.all({list(PARTS)}.map((part) => asText(own[part]))));
    }}
  }}
  const answer = await (async () => {{{_TELL}}})();
  await opened.close();
  return {{ ...answer, texts }};
}}"""
THRESHOLD = 0.05
EXACTLY = {"maxSteps": 1000, "tolerance": 1e-13}
"""Until no step brings anything: then both come to the one minimum, whatever is rounded on the way."""


class InPython(NamedTuple):
    """What Python makes of the photos, views off."""

    base: BaseModel
    annotations: AnnotationSet
    probe: Probe

    def fit(self) -> tuple[Coefficients, Fitted]:
        """The coefficients, and the detector with the calibration."""
        coefficients, _ = design_of(self.probe.photos, self.probe.extractor).fit(RIDGE, MAX_STEPS)
        return coefficients, self.probe.fit()

    def fit_exactly(self, monkeypatch: pytest.MonkeyPatch) -> Coefficients:
        """The coefficients at the minimum, in 64 bits."""
        monkeypatch.setattr(linear_probe, "TOLERANCE", EXACTLY["tolerance"])
        design = design_of(self.probe.photos, self.probe.extractor)
        wide = {
            name: getattr(design.rows, name).astype(np.float64)
            for name in ("base_logits", "tower_features", "targets", "weights")
        }
        scale = Scale(*(getattr(design.scale, field.name).astype(np.float64) for field in fields(Scale)))
        design = replace(design, rows=replace(design.rows, **wide), scale=scale)
        coefficients, _ = design.fit(RIDGE, EXACTLY["maxSteps"])
        parts = (coefficients.base_logits, coefficients.tower_features, coefficients.bias)
        return Coefficients(*(part.astype(np.float32) for part in parts))

    def question(self, **options: float) -> dict[str, Any]:
        """What the page is asked."""
        photos = [
            {
                "name": image.path.name,
                "size": {"height": image.size_hw[0], "width": image.size_hw[1]},
                "boxes": [[b.x1, b.y1, b.x2, b.y2] for b in image.objects],
                "ignored": [[b.x1, b.y1, b.x2, b.y2] for b in image.boxes if b.ignore],
                "classIds": [self.annotations.labels.index(b.label) for b in image.objects],
            }
            for image in self.annotations
        ]
        labels = list(self.annotations.labels)
        return {"photos": photos, "labels": labels, "options": options, "threshold": THRESHOLD}


def in_python(annotations: AnnotationSet, monkeypatch: pytest.MonkeyPatch) -> InPython:
    monkeypatch.setitem(recipe.AUGMENTED_VIEWS, "quick", 0)
    base = load_base("starter")
    probe = Probe.of(annotations, base, FinetuneConfig(effort="quick"), show_progress=False)
    return InPython(base, annotations, probe)


def ducks(folder: Path, num_classes: int = 1) -> AnnotationSet:
    """Five photos of the demo.

    With two classes, every second photo is a negative of blue ducks, one duck is to be ignored, and one photo
    is empty.
    """
    train, _ = demo_photos()
    images = [
        replace(image, boxes=tuple(replace(box, label=f"duck {number % num_classes}") for box in image.boxes))
        for number, image in enumerate(train.images[:5])
    ]
    if num_classes > 1:
        for number in (1, 3):
            negative = folder / f"{number}.png"
            ImageOps.invert(Image.open(images[number].path).convert("RGB")).save(negative)
            images[number] = replace(images[number], path=negative)
        first, second = images[1].boxes
        images[1] = replace(images[1], boxes=(first, replace(second, ignore=True)))
        images[4] = replace(images[4], boxes=())
    return replace(
        train, images=tuple(images), labels=tuple(f"duck {number}" for number in range(num_classes))
    )


@pytest.fixture
def base_file() -> Path:
    return starter_base()


@pytest.fixture
def ask(tmp_path: Path, base_file: Path, open_page: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """Let the modules learn from the features that Python has."""
    folder = tmp_path / "page"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "runtime"))
    prepare_folder(folder, base_file)
    with served(folder) as url:

        def start(known: InPython, **options: float) -> dict[str, Any]:
            for number, photo in enumerate(known.probe.photos):
                own = photo.features
                levels = own.groups.astype(np.uint8)
                for part, values in zip(
                    PARTS, (own.boxes, own.base_logits, own.tower_features, levels), strict=True
                ):
                    (folder / f"{number}.{part}").write_bytes(values.tobytes())
            answer: dict[str, Any] = open_page(f"{url}").page.evaluate(LEARN, known.question(**options))
            (tmp_path / "duck.onnx").write_bytes(base64.b64decode(answer["file"]))
            return answer

        yield start


def prepare_folder(folder: Path, base_file: Path) -> None:
    shutil.copy(base_file, folder / "base.onnx")
    (folder / "index.html").write_text("<!doctype html><title>blank</title><link rel=icon href='data:,'>")


def detector_with(known: InPython, answer: dict[str, Any]) -> Detector:
    """A detector in PyTorch with the head that the page learnt."""
    like = known.probe.fit_without([]).config
    width = known.probe.photos[0].features.tower_features.shape[1]
    head = {}
    for level, own in enumerate(answer["levels"]):
        head[f"head.novel_preds.{level}.weight"] = np.array(own["weight"], np.float32).reshape(
            -1, width, 1, 1
        )
        head[f"head.novel_preds.{level}.bias"] = np.array(own["bias"], np.float32)
    bare = {
        name: weight for name, weight in known.base.weights.items() if "_preds" not in name or "reg" in name
    }
    return Detector(
        config=like,
        weights=bare | head,
        labels=known.annotations.labels,
        base=known.base.origin(),
        provenance={},
    )


def assert_logits_within(
    known: InPython, answer: dict[str, Any], expected: Coefficients, tolerance: float
) -> None:
    """Of all anchors of all photos, before the scores are calibrated."""
    stretch, shift = (answer["estimate"]["calibration"][name] for name in ("stretch", "shift"))
    weights = detector_with(known, answer).weights
    for photo in known.probe.photos:
        own = photo.features
        sizes = own.group_sizes(known.probe.extractor.num_groups)
        logits = np.concatenate(
            [
                own.tower_features[part] @ weights[f"head.novel_preds.{level}.weight"][:, :, 0, 0].T
                + weights[f"head.novel_preds.{level}.bias"]
                for level, part in enumerate(group_slices(sizes))
            ]
        )
        difference = (logits - shift) / stretch - logits_of(expected, own)
        assert float(np.abs(difference).max()) < tolerance


def assert_found_alike(known: InPython, answer: dict[str, Any]) -> None:
    """What the page finds in each photo is what PyTorch finds with the same head."""
    network = detector_with(known, answer).network
    for image, rows in zip(known.annotations, answer["found"], strict=True):
        found = network.find(np.array(Image.open(image.path)), THRESHOLD)
        boxes = np.array([row["box"] for row in rows], np.float32).reshape(-1, 4)
        scores = np.array([row["score"] for row in rows], np.float32)
        class_ids = np.array([row["classId"] for row in rows], np.int64)
        expected = (found.boxes.numpy(), found.scores.numpy(), found.class_ids.numpy())
        same = compare_found(expected, (boxes, scores, class_ids), network.config.iou_threshold)
        assert same.num_boxes > 0
        assert same.holds, same


@pytest.mark.parametrize("num_classes", [1, 2])
def test_both_come_to_the_same_head(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_classes: int
) -> None:
    known = in_python(ducks(tmp_path, num_classes), monkeypatch)
    _, fitted = known.fit()
    answer = ask(known, **EXACTLY)
    assert_logits_within(known, answer, known.fit_exactly(monkeypatch), 1e-3)
    assert_found_alike(known, answer)
    assert_same_estimate(answer["estimate"], fitted.estimate.to_dict())
    assert_is_the_export(tmp_path / "duck.onnx", detector_with(known, answer))


@pytest.mark.usefixtures("ask")
def test_both_hold_the_same_photos_out(open_page: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    class_ids = [generator.integers(0, 6, generator.integers(0, 7)).tolist() for _ in range(23)]
    with served(tmp_path / "page") as url:
        told = open_page(f"{url}").page.evaluate(
            "async (classIds) => (await import('/learning/fit.js')).stratifiedFolds(classIds, 4)", class_ids
        )
    assert told == stratified_folds([np.array(shown, np.int64) for shown in class_ids], 4)


@pytest.mark.shared
def test_real_ducks_with_the_settings_of_quick(
    ask: Any, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    folder = shared / "data/ducky"
    known = in_python(fewbox.read_annotations(folder / "train_boxes.csv", folder / "train"), monkeypatch)
    coefficients, fitted = known.fit()
    answer = ask(known)
    assert_logits_within(known, answer, coefficients, 1e-3)
    assert_found_alike(known, answer)
    assert_same_estimate(answer["estimate"], fitted.estimate.to_dict())
    assert len(answer["losses"]) == len(fitted.detector.history)


def assert_same_estimate(told: dict[str, Any], expected: dict[str, Any]) -> None:
    """But for what is drawn in Python, in the last percent."""
    assert told["remarks"] == list(expected["remarks"])
    for name in ("score_threshold", "precise_threshold"):
        assert told[name] == pytest.approx(expected[name], abs=0.01)
    for one, other in zip(
        (told["overall"], *told["classes"]), (expected["overall"], *expected["classes"]), strict=True
    ):
        assert (one["label"], one["objects"]) == (other["label"], other["objects"])
        for name in ("ap50", "low", "high"):
            assert one[name] == pytest.approx(other[name], abs=0.021)
    calibration, other = (Calibration(**each["calibration"]) for each in (told, expected))
    scores = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(calibration.applied(scores), other.applied(scores), atol=0.01)


def assert_is_the_export(written: Path, detector: Detector) -> None:
    """The page's file is, but for what it says of its making, what ``fewbox export`` writes for the head."""
    header = read_onnx_header(written)
    expected = make_model(
        build_network(detector.config, detector.weights), detector.config, header, raw=False
    )
    model = onnx.load(written)
    assert header["config"] == detector.config.to_dict() | {"size_hw": list(detector.config.size_hw)}
    assert [entry.key for entry in model.metadata_props] == ["fewbox"]
    for one in (model, expected):
        del one.metadata_props[:]
    assert model.SerializeToString() == expected.SerializeToString()


def test_from_pixels_to_a_file_that_fewbox_opens(
    tmp_path: Path, base_file: Path, open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install_page(tmp_path / "page")
    prepare_folder(folder, base_file)
    images = []
    for image in ducks(tmp_path).images[:3]:
        png = folder / f"{image.path.stem}.png"
        Image.open(image.path).save(png)  # decoders of JPEG differ in the last bit
        images.append(replace(image, path=png))
    known = in_python(replace(ducks(tmp_path), images=tuple(images)), monkeypatch)
    with served(folder) as url:
        answer = open_page(f"{url}").page.evaluate(LOOK_AND_LEARN, known.question())
    assert_features_alike(known, answer["texts"])
    (tmp_path / "duck.onnx").write_bytes(base64.b64decode(answer["file"]))
    assert_found_alike(known, answer)
    detector = fewbox.open_detector(tmp_path / "duck.onnx", engine="onnxruntime")
    assert detector.provenance["plan"] == ["3 photos, effort quick: 1 view of each beside the photo itself"]
    for image, rows in zip(known.annotations, answer["found"], strict=True):
        told = detector.engine.run(np.array(Image.open(image.path))[None], THRESHOLD)
        is_one = told.class_ids[0] >= 0
        np.testing.assert_allclose([row["score"] for row in rows], told.scores[0, is_one], atol=1e-3)
        np.testing.assert_allclose([row["box"] for row in rows], told.boxes[0, is_one], atol=0.1)
    assert fewbox.evaluate(detector, known.annotations, show_progress=False).metrics.ap50 > 0.9


def assert_features_alike(known: InPython, texts: list[list[str]]) -> None:
    """What the page reads of each photo and its mirror image, and what PyTorch does."""
    for number, image in enumerate(known.annotations):
        pixels = np.array(Image.open(image.path))
        for view, text in zip((pixels, pixels[:, ::-1].copy()), texts[2 * number :], strict=False):
            boxes, logits, towers = (np.frombuffer(base64.b64decode(part), np.float32) for part in text[:3])
            seen = known.probe.extractor.read(view)
            own = seen.at(np.arange(len(seen.boxes)))
            np.testing.assert_allclose(logits, own.base_logits.ravel(), atol=5e-3)
            np.testing.assert_allclose(towers, own.tower_features.ravel(), atol=5e-3)
            likeliest = np.argsort(-own.base_score)[:50]
            np.testing.assert_allclose(boxes.reshape(-1, 4)[likeliest], own.boxes[likeliest], atol=0.05)
            assert base64.b64decode(text[3]) == own.groups.astype(np.uint8).tobytes()
