"""Few-shot accuracy: data sets, numbers of shots and seeded draws, every recipe on the same photos.

A draw takes photos from a data set's pool until every class has its shots, or as many photos as asked for;
the test photos are always the same. ``probe`` is a crude recipe to compare with, for YOLOX alone,
``linear`` the linear probe at the base's own size of input, and
``neck:RATE:EPOCHS`` and ``all:RATE:EPOCHS`` are full fine-tuning as people do it elsewhere;
``adapt:SIDE:STEPS:MIXING`` adapts with an input of SIDE pixels and goes that part of the way, where ``best``
chooses all three; ``:VIEWS`` after it is how many views of all photos there are at the most. All runs are
kept in one JSON file, so a run that was stopped goes on where it was. The frozen base sees the test photos
once: a tuned head is tried on what it saw then.

    python benchmarks/fewshot.py results.json                     everything there is not yet
    python benchmarks/fewshot.py results.json --draws 3 --shots 5 a quick look
    python benchmarks/fewshot.py results.json --data far --photos 5 10 15 --recipes best/normal neck:0.01:60
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farsets import GROUPINGS, far_set
from fewbox.config import DeepConfig, FinetuneConfig
from fewbox.core.files import write_text
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import read_annotations
from fewbox.data.images import read_image
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.metrics import coco_metrics, expected_calibration_error
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning import finetune
from fewbox.finetuning.adapt import adapt
from fewbox.finetuning.adapt.learn import AdaptSettings
from fewbox.finetuning.deep import finetune_deep
from fewbox.finetuning.input_size import with_input_size
from fewbox.finetuning.linear_probe.recipe import Probe
from fewbox.models.base import BaseModel, load_base
from fewbox.models.device import ProcessGroup
from fewbox.models.families import build_network
from fewbox.models.network import TowerMaps
from fewshot_tables import recipe_rows
from machine import DUCKY, SHARED, describe_machine
from probe import probe

MIN_SCORE = 0.001
SHOWN_SCORE = 0.05
"""Scores from here on are asked whether they mean what they say."""
TEST_PHOTOS = 60
RUBBER_DUCK = "rubber_ducky"  # as the test ducks are called
RECIPES = ("seed", "probe", "linear/normal", "best/quick", "best/normal")


@dataclass(frozen=True)
class DataSet:
    """Photos to draw from, and photos to test on."""

    name: str
    pool: tuple[AnnotatedImage, ...]
    test: tuple[AnnotatedImage, ...]
    labels: tuple[str, ...]

    def draw(self, shots: int, number: int) -> AnnotationSet:
        """Photos with ``shots`` boxes of every class, or as near to it as whole photos come."""
        order = np.random.default_rng((shots, number)).permutation(len(self.pool))
        chosen: list[int] = []
        counts = dict.fromkeys(self.labels, 0)
        for exact in (True, False):
            for place in order:
                labels = [box.label for box in self.pool[place].objects]
                wanted = any(counts[label] < shots for label in labels)
                fits = all(counts[label] + labels.count(label) <= shots for label in labels)
                if place not in chosen and wanted and (fits or not exact):
                    chosen.append(place)
                    for label in labels:
                        counts[label] += 1
        return AnnotationSet(tuple(self.pool[place] for place in chosen), self.labels, self.name)

    def draw_photos(self, count: int, number: int) -> AnnotationSet:
        """``count`` photos, as a person picks them: first such as show a class that none has shown yet."""
        order = np.random.default_rng((count, number, 1)).permutation(len(self.pool)).tolist()
        chosen: list[int] = []
        shown: set[str] = set()
        for place in order:
            labels = {box.label for box in self.pool[place].objects}
            if len(chosen) < count and not labels <= shown:
                chosen.append(place)
                shown |= labels
        chosen += [place for place in order if place not in chosen][: count - len(chosen)]
        return AnnotationSet(tuple(self.pool[place] for place in chosen), self.labels, self.name)


def ducky() -> DataSet:
    """Five photos of one rubber duck, and 49 frames of a film with it."""
    train = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label=RUBBER_DUCK)
    test = read_annotations(DUCKY / "test_boxes_coco.json", DUCKY / "test", label=RUBBER_DUCK)
    return DataSet("ducky", train.images, test.images, (RUBBER_DUCK,))


def raccoon() -> DataSet:
    """Raccoons, each photo another place."""
    folder = SHARED / "data/raccoon"
    return _divided("raccoon", read_voc(folder / "annotations", folder / "images"), ("raccoon",))


def microcontrollers() -> DataSet:
    """Four kinds of circuit board on a desk."""
    folder = SHARED / "data/microcontrollers/images"
    images = read_voc(folder / "train", folder / "train") + read_voc(folder / "test", folder / "test")
    labels = sorted({box.label for image in images for box in image.boxes})
    return _divided("microcontrollers", images, tuple(labels))


DATA_SETS: dict[str, Callable[[], DataSet]] = {
    "ducky": ducky,
    "raccoon": raccoon,
    "microcontrollers": microcontrollers,
}
FAR_SETS = tuple(GROUPINGS)


def data_set(name: str) -> DataSet:
    """One of the sets by name."""
    if name in DATA_SETS:
        return DATA_SETS[name]()
    divided = far_set(name)
    return DataSet(name, divided.pool, divided.test, divided.labels)


def _divided(name: str, images: list[AnnotatedImage], labels: tuple[str, ...]) -> DataSet:
    order = np.random.default_rng(123).permutation(len(images)).tolist()
    test, pool = sorted(order[:TEST_PHOTOS]), sorted(order[TEST_PHOTOS:])
    return DataSet(name, tuple(images[i] for i in pool), tuple(images[i] for i in test), labels)


def read_voc(annotations: Path, photos: Path) -> list[AnnotatedImage]:
    """The photos of a folder of Pascal VOC files, in the order of their names."""
    images = []
    for path in sorted(annotations.glob("*.xml")):
        root = ET.parse(path).getroot()
        boxes = []
        for item in root.iter("object"):
            corners = [
                float(item.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")
            ]
            boxes.append(Box(*corners, label=item.findtext("name", "")))
        photo = photos / f"{path.stem}.jpg"
        height, width = read_image(photo).shape[:2]
        images.append(AnnotatedImage(photo, (height, width), tuple(boxes), reviewed=True))
    return images


class TestPhotos:
    """The test photos of a data set as the frozen base sees them."""

    def __init__(self, base: BaseModel, data: DataSet) -> None:
        network: Any = build_network(base.config, base.weights)
        self.images = [read_image(image.path) for image in data.test]
        with torch.inference_mode():
            self.maps = [network.towers(network.features(network.batch_of([image]))) for image in self.images]
        self.truth = GroundTruthTable.of(data.test, data.labels)
        self.input_size_hw = base.config.input_size_hw

    def detect(self, detector: Detector, *, only_heads_learnt: bool = True) -> list[Detections]:
        """What a detector made from the base finds in every photo."""
        detector = detector.with_precision("float32")
        if not only_heads_learnt:
            return [detector.detect(image, threshold=MIN_SCORE) for image in self.images]
        network: Any = detector.network
        results = []
        for image, maps in zip(self.images, self.maps, strict=True):
            if detector.config.input_size_hw == self.input_size_hw:  # else the network sees other pixels
                network.features = lambda _: []
                network.towers = lambda _, maps=maps: TowerMaps(*maps)
            results.append(detector.detect(image, threshold=MIN_SCORE))
        return results


def learnt(base: BaseModel, photos: AnnotationSet, recipe: str, seed: int) -> Detector:
    """The detector that a recipe makes of photos."""
    name, _, effort = recipe.partition("/")
    if name == "probe":
        return probe(photos, base)
    if name.startswith("adapt:"):
        _, side, steps, mixing, *most_views = name.split(":")
        sized = base if int(side) == base.config.input_size_hw[0] else with_input_size(base, int(side))
        quick = FinetuneConfig(seed=seed, effort="quick")
        start = Probe.of(photos, sized, quick, show_progress=False).fit().detector
        how = AdaptSettings(seed=seed, steps=int(steps), mixing=float(mixing))
        if most_views:
            how = replace(how, most_views=int(most_views[0]))
        return adapt(photos, start, how, show_progress=False)
    if ":" in name:
        layers, rate, epochs = name.split(":")
        settings = DeepConfig(
            layers=layers,
            learning_rate=float(rate),
            epochs=int(epochs),
            batch_size=min(16, len(photos)),
            precision="float32",
            loaders=0,
            seed=seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.pt"
            group = ProcessGroup(0, 1, torch.device("cpu"))
            return finetune_deep(photos, base, checkpoint, group, config=settings, show_progress=False)
    config = FinetuneConfig(seed=seed, effort=effort or "normal")
    if name == "linear":  # at the base's own size of input
        return Probe.of(photos, base, config, show_progress=False).fit().detector
    return finetune(photos, base, recipe=name, config=config, show_progress=False)


def run(
    base: BaseModel, data: DataSet, test: TestPhotos, size: str, draw: int, recipe: str, keep: Path | None
) -> dict[str, Any]:
    """Fine-tune on one draw with one recipe and test; ``size`` is shots, or photos as in ``10 photos``."""
    count, _, is_photos = size.partition(" ")
    photos = data.draw_photos(int(count), draw) if is_photos else data.draw(int(count), draw)
    start, start_cpu = time.perf_counter(), time.process_time()
    detector = learnt(base, photos, recipe, draw)
    row: dict[str, Any] = {"seconds": time.perf_counter() - start, "photos": len(photos)}
    row |= {"cpu_seconds": time.process_time() - start_cpu, "steps": len(detector.history)}
    if keep is not None:
        name = f"{data.name}_{size}_{draw}_{recipe}".replace(" ", "_").replace("/", "_")
        detector.save(keep / f"{name}.safetensors")
    plan = detector.provenance.get("plan", ())
    is_adapted = ":" in recipe or any(line.startswith("adapted") for line in plan)
    found = PredictionTable.of(test.detect(detector, only_heads_learnt=not is_adapted))
    metrics = coco_metrics(found, test.truth, len(data.labels))
    row |= {"ap": metrics.ap, "ap50": metrics.ap50, "recall": metrics.ar_100}
    outcomes = Outcomes.of(found, test.truth)
    counts = (outcomes.is_true_positive | outcomes.is_false_positive) & (found.scores >= SHOWN_SCORE)
    scores, right = found.scores[counts], outcomes.is_true_positive[counts]
    row["ece"] = expected_calibration_error(scores, right)
    if "estimate" in detector.provenance:
        expected = detector.provenance["estimate"]
        if expected["overall"]["objects"]:
            row |= {key: expected["overall"][key] for key in ("low", "high", "objects")}
            row["expected"] = expected["overall"]["ap50"]
        row["ece_before"] = expected_calibration_error(uncalibrated(scores, expected["calibration"]), right)
    return row


def uncalibrated(scores: np.ndarray[Any, Any], calibration: dict[str, float]) -> np.ndarray[Any, Any]:
    """The scores before calibration."""
    inside = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = (np.log(inside / (1 - inside)) - calibration["shift"]) / calibration["stretch"]
    return 1 / (1 + np.exp(-logits))


def runs_of(
    data: DataSet, shots: list[int], photos: list[int], draws: int, recipes: list[str]
) -> Iterator[tuple[str, int, str]]:
    """Draw by draw, so that a run that was stopped has something of everything."""
    for draw in range(draws):
        for count in shots:
            if count <= sum(len(image.boxes) for image in data.pool) // len(data.labels):
                yield from ((str(count), draw, recipe) for recipe in recipes)
        for count in photos:
            if count <= len(data.pool):
                yield from ((f"{count} photos", draw, recipe) for recipe in recipes)


def recipe_of(text: str) -> str:
    """A recipe by name, full fine-tuning as ``LAYERS:RATE:EPOCHS``, or ``adapt:SIDE:STEPS:MIXING:VIEWS``."""
    named = (*RECIPES, "best/long", "adapt/normal")
    if text in named or re.fullmatch(r"(towers|neck|all):[\d.e-]+:\d+|adapt:\d+:\d+:[\d.]+(:\d+)?", text):
        return text
    raise argparse.ArgumentTypeError(f"no recipe: {text}")


def main() -> None:
    """Run what is not in the file yet and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--bases", nargs="+", default=[str(SHARED / "weights/yolox_nano_coco.onnx")])
    choices = [*DATA_SETS, *FAR_SETS, "far"]
    parser.add_argument("--data", nargs="+", choices=choices, default=list(DATA_SETS))
    parser.add_argument("--shots", nargs="*", type=int, default=[1, 3, 5, 10])
    parser.add_argument("--photos", nargs="+", type=int, default=[])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--recipes", nargs="+", type=recipe_of, default=list(RECIPES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the detectors, for far_pictures.py")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(parsed.results.read_text()) if parsed.results.exists() else {}
    print(describe_machine())
    for base in map(load_base, parsed.bases):
        names = dict.fromkeys(n for name in parsed.data for n in (FAR_SETS if name == "far" else [name]))
        for data in map(data_set, names):
            test = None
            sizes = runs_of(data, parsed.shots, parsed.photos, parsed.draws, parsed.recipes)
            for size, draw, recipe in sizes:
                key = f"{base.name}|{data.name}|{size}|{draw}|{recipe}"
                if key not in results:
                    test = test or TestPhotos(base, data)
                    results[key] = run(base, data, test, size, draw, recipe, parsed.keep)
                    write_text(parsed.results, json.dumps(results, indent=0))
                    print(key, json.dumps({k: round(v, 3) for k, v in results[key].items()}), flush=True)
    print(recipe_rows(results))


if __name__ == "__main__":
    main()
