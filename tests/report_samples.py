"""Evaluations to make reports of: one of plain photos, and one whose names are an attack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.evaluation import Evaluation, evaluate
from known_detector import KnownDetector, corners
from tiny import make_photos

EVIL_LABEL = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
EVIL_NAME = "\"><img src=x onerror=document.title='pwned'>.png"


def evaluation_of(photos: AnnotationSet, labels: tuple[str, str] = ("square", "circle")) -> Evaluation:
    """Of four photos: one right at 0.9, one at 0.6, one missed, one taken for the other class at 0.7."""
    boxes = [corners(image.boxes[0]) for image in photos]
    names = [image.path.name for image in photos]
    found = {
        names[0]: [(boxes[0], 0.9, 0)],
        names[1]: [(boxes[1], 0.6, 0), ((0, 0, 8, 8), 0.3, 0)],
        names[3]: [(boxes[3], 0.7, 1)],
    }
    return evaluate(KnownDetector(found, labels), replace(photos, labels=labels))


def evil_evaluation(folder: Path) -> Evaluation:
    """An evaluation whose label, detector and photos are called what an attacker would call them."""
    photos = make_photos(folder, count=4)
    images = []
    for number, image in enumerate(photos):
        path = image.path.rename(image.path.with_name(f"{number}{EVIL_NAME}"))
        boxes = tuple(replace(box, label=EVIL_LABEL) for box in image.boxes)
        images.append(AnnotatedImage(path, image.size_hw, boxes, reviewed=True))
    return evaluation_of(AnnotationSet(tuple(images), (EVIL_LABEL,)), (EVIL_LABEL, "circle"))
