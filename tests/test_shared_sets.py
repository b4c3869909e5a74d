"""Every real data set beside the project is read as it was, by a hash over photos, labels and boxes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import fewbox

# Boxes, photos if they are named; then photos with boxes, boxes, and the first digits of the hash.
SETS = (
    ("aerial_cars/boxes_coco.json", "aerial_cars/images", 130, 1764, "c81628001868f5ae"),
    ("chess_pieces/boxes_coco.json", "chess_pieces/images", 149, 1367, "5f0bc4284b342b52"),
    ("coco128_val", None, 128, 898, "59a1701358815f0c"),
    ("coco128_val/labels_yolo", "coco128_val/images", 128, 898, "59a1701358815f0c"),
    ("dental_xray/boxes_coco.json", "dental_xray/images", 86, 506, "f4f26f7a0c71d73b"),
    ("dice/boxes_coco.json", "dice/images", 150, 1115, "eb961fcf8a290480"),
    ("ducky/test_boxes_coco.json", "ducky/test", 49, 49, "57e3e4dde677a976"),
    ("ducky/train_boxes.csv", "ducky/train", 5, 5, "1bb1db2d1d95b5ed"),
    ("microcontrollers/images/test", None, 7, 7, "485ecab1da368a41"),
    ("microcontrollers/images/train", None, 142, 170, "c74de65d069a5279"),
    ("nematode_dish/boxes_coco.json", "nematode_dish/images", 80, 1007, "c01599b5880eec95"),
    ("plants/boxes_coco.json", "plants/images", 135, 696, "7ceda18ee3e6b957"),
    ("raccoon", None, 200, 217, "dd244445e504d1c0"),
    ("raccoon/annotations", "raccoon/images", 200, 217, "dd244445e504d1c0"),
    ("underwater_robosub/boxes_coco.json", "underwater_robosub/images", 107, 229, "88d0aaa246957945"),
)


@pytest.mark.shared
@pytest.mark.parametrize(("boxes", "photos", "with_boxes", "num_boxes", "digest"), SETS)
def test_a_real_set_is_read_as_it_was(
    shared: Path, boxes: str, photos: str | None, with_boxes: int, num_boxes: int, digest: str
) -> None:
    root = shared / "data"
    annotations = fewbox.read_annotations(root / boxes, None if photos is None else root / photos)
    assert sum(bool(image.boxes) for image in annotations) == with_boxes
    assert annotations.num_boxes == num_boxes
    assert _digest(annotations, root) == digest


def _digest(annotations: fewbox.AnnotationSet, root: Path) -> str:
    lines = [repr(annotations.labels)]
    for image in sorted(annotations, key=lambda image: image.path.relative_to(root).as_posix()):
        lines.append(f"{image.path.relative_to(root).as_posix()} {image.size_hw} {image.reviewed}")
        for box in image.boxes:
            edges = " ".join(f"{edge:.3f}" for edge in (box.x1, box.y1, box.x2, box.y2))
            lines.append(f"{edges} {box.label} {box.ignore}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
