"""A picture for each set far from COCO: ground truth beside detections, before adapting and after.

The detectors are those that fewshot.py keeps, of the first draw of ten shots. The photo is the test photo
with the median number of boxes.

    python benchmarks/fewshot.py results.json --data far --shots 10 --keep detectors
    python benchmarks/far_pictures.py detectors docs/images/far
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fewbox.data.annotations import AnnotatedImage
from fewbox.data.images import read_image
from fewbox.detection.detector import Detector
from fewbox.detection.drawing import contact_sheet, draw_boxes, save_picture
from fewshot import FAR_SETS, DataSet, data_set

WIDTH = 480
"""Pixels of each of the three parts."""
KEPT = {"linear probe": "linear_normal", "best": "best_normal"}


def picture_of(data: DataSet, photo: AnnotatedImage, detectors: Path) -> Image.Image:
    """Ground truth, what the linear probe finds, and what ``best`` finds, beside each other."""
    image, known = read_image(photo.path), photo.objects
    ids = [data.labels.index(box.label) for box in known]
    corners = [(box.x1, box.y1, box.x2, box.y2) for box in known]
    drawn, captions = (
        [draw_boxes(image, corners, _tags(ids, data.labels), ids)],
        [f"ground truth: {len(ids)}"],
    )
    for name, kept in KEPT.items():
        detector = Detector.load(detectors / f"{data.name}_10_0_{kept}.safetensors")
        found = detector.detect(image)
        found_ids = found.class_ids.tolist()
        drawn.append(draw_boxes(image, found.boxes, _tags(found_ids, data.labels), found_ids))
        captions.append(f"{name}: {len(found)} above {detector.threshold:.2f}")
    return contact_sheet(drawn, 3, WIDTH, captions)


def _tags(ids: list[int], labels: Sequence[str]) -> list[str]:
    """Labels, where there is more than one."""
    return [labels[i] if len(labels) > 1 else "" for i in ids]


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detectors", type=Path)
    parser.add_argument("output", type=Path)
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    for name in FAR_SETS:
        data = data_set(name)
        by_boxes = sorted(data.test, key=lambda photo: (len(photo.boxes), photo.path.name))
        picture = picture_of(data, by_boxes[len(by_boxes) // 2], parsed.detectors)
        save_picture(picture, parsed.output / f"{name}.jpg")
        print(f"wrote {parsed.output / name}.jpg")


if __name__ == "__main__":
    main()
