"""The names of the classes that a base trained on COCO finds."""

from __future__ import annotations

COCO_LABELS = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog"),
    *("horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag"),
    *("tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat"),
    *("baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork"),
    *("knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog"),
    *("pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv"),
    *("laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
"""The 80 names in the order of their category ids."""

_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def base_labels(base_name: str, num_classes: int) -> tuple[str, ...]:
    """A name for each class of a base: COCO's, if it has as many as COCO; else its number.

    Networks have 80 classes; or 90, one for each category id from 1 on, used or not; or 91, from 0 on.
    """
    numbered = [f"{base_name} class {number}" for number in range(num_classes)]
    if num_classes == len(COCO_LABELS):
        return COCO_LABELS
    if num_classes in (90, 91):
        used = [category for category in range(1, 91) if category not in _UNUSED_IDS]
        for category, label in zip(used, COCO_LABELS, strict=True):
            numbered[category - (91 - num_classes)] = label
    return tuple(numbered)
