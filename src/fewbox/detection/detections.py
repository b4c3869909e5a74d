"""What a detector found in one photo.

Boxes are in pixels of the upright photo, as everywhere (see ``core/boxes.py``). Here they are numpy
arrays, so that results can be used without torch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core.arguments import checked_threshold
from fewbox.data.images import ReducedImage, StrPath, read_image, upright_array
from fewbox.detection.drawing import draw_boxes
from fewbox.errors import PhotoError

_MAX_SHOWN = 5
_NOTEBOOK_SIDE = 960


class Detection(NamedTuple):
    """One object found: ``(x1, y1, x2, y2)``, how certain the detector is (0 to 1), and what it is."""

    box: tuple[float, float, float, float]
    score: float
    label: str


@dataclass(frozen=True, eq=False)
class Detections:
    """All that was found in one photo, the most certain first; it may be nothing.

    Whether boxes lie inside the photo is not checked: detectors promise that.

    Attributes:
        boxes: ``[M, 4]`` float32.
        scores: ``[M]`` float32, 0 to 1, descending.
        class_ids: ``[M]`` int64; class ``c`` is ``labels[c]``.
        labels: the labels of all classes the detector knows.
        size_hw: height and width of the upright photo.
        source: the photo. A path is read again for each drawing, so that many results do not
            hold as many photos in memory; an array is held, not copied.

    Raises:
        ValueError: the arrays do not fit each other, or are not as described above.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> found = fewbox.Detections(  # as a detector returns it
        ...     boxes=np.array([[404, 0, 479, 82], [476, 167, 517, 218]], np.float32),
        ...     scores=np.array([0.99, 0.61], np.float32),
        ...     class_ids=np.array([0, 0], np.int64),
        ...     labels=("duck",),
        ...     size_hw=(480, 640),
        ...     source=Path("ducks/test/duck_01.jpg"),
        ... )
        >>> for (x1, y1, x2, y2), score, label in found.above(0.5):
        ...     print(f"{label} {score:.0%}, {x2 - x1:.0f} pixels wide")
        duck 99%, 75 pixels wide
        duck 61%, 41 pixels wide
        >>> found.draw().save("found.jpg")
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    size_hw: tuple[int, int]
    source: Path | npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        _check_array("boxes", self.boxes, np.float32, (count, 4))
        _check_array("scores", self.scores, np.float32, (count,))
        _check_array("class_ids", self.class_ids, np.int64, (count,))
        if not np.isfinite(self.boxes).all():
            raise ValueError("boxes must be finite")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores must be from 0 to 1")
        if (np.diff(self.scores) > 0).any():
            raise ValueError("scores must be descending")
        if not ((self.class_ids >= 0) & (self.class_ids < len(self.labels))).all():
            raise ValueError(f"class_ids must be from 0 to {len(self.labels) - 1}: {self.class_ids.tolist()}")
        if min(self.size_hw) < 1:
            raise ValueError(f"size_hw must be positive: {self.size_hw}")
        if isinstance(self.source, np.ndarray):
            self._check_fits(self.source.shape[:2])

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True)
        for (x1, y1, x2, y2), score, class_id in rows:
            yield Detection((x1, y1, x2, y2), score, self.labels[class_id])

    def __repr__(self) -> str:
        found = ", ".join(self._tags()[:_MAX_SHOWN]) or "nothing found"
        more = f" and {len(self) - _MAX_SHOWN} more" if len(self) > _MAX_SHOWN else ""
        photo = f"{self.photo_name!r}, " if self.photo_name else ""
        return f"Detections({photo}size_hw={self.size_hw}: {found}{more})"

    @property
    def photo_name(self) -> str | None:
        """The file name of the photo; None for one that came as an array."""
        return self.source.name if isinstance(self.source, Path) else None

    def above(self, score_threshold: float) -> Detections:
        """The detections with a higher score than ``score_threshold``, in the same order.

        Raises:
            SettingError: the threshold is no number from 0 to 1.
        """
        higher = self.scores > checked_threshold(score_threshold)
        kept = int(higher.sum())  # scores descend: the first so many
        return replace(
            self, boxes=self.boxes[:kept], scores=self.scores[:kept], class_ids=self.class_ids[:kept]
        )

    def draw(
        self, image: StrPath | npt.NDArray[np.uint8] | Image.Image | ReducedImage | None = None
    ) -> Image.Image:
        """Draw every detection on the photo, with its label and score.

        Args:
            image: the photo, to draw on it instead of on ``source``: its path, the upright photo
                ``[H, W, 3]`` or a Pillow image; or the photo read smaller, for a smaller picture.

        Raises:
            ValueError: there is neither ``image`` nor ``source``, or ``image`` has another size.
            PhotoError: the photo can no longer be read, or has another size now.
        """
        if image is None:
            image = self._photo()
        elif not isinstance(image, ReducedImage):
            image = read_image(image) if isinstance(image, str | os.PathLike) else upright_array(image)
        read = image if isinstance(image, ReducedImage) else ReducedImage(image, image.shape[:2])
        self._check_fits(read.size_hw)
        return draw_boxes(read.image, self.boxes / read.scale_xyxy, self._tags(), self.class_ids)

    def to_dict(self) -> dict[str, Any]:
        """The detections as plain values, ready for JSON.

        Numbers are the shortest that still mean the same float32: 0.97, not 0.9700000286102295.
        """
        height, width = self.size_hw
        return {
            "photo": self.photo_name,
            "width": int(width),
            "height": int(height),
            "detections": [
                {
                    "label": self.labels[class_id],
                    "class_id": int(class_id),
                    "score": _shortest(score),
                    "box": [_shortest(edge) for edge in box],
                }
                for box, score, class_id in zip(self.boxes, self.scores, self.class_ids, strict=True)
            ],
        }

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The detections in COCO's format for results; category ids begin at 1, as in COCO.

        Args:
            image_id: the photo's id in the COCO file these are compared with.
        """
        return [
            {
                "image_id": image_id,
                "category_id": class_id + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, class_id in zip(
                self.boxes.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True
            )
        ]

    def _repr_png_(self) -> bytes | None:
        """The picture a notebook shows; None, and so only the text, if there is no photo to show."""
        if self.source is None:
            return None
        try:
            picture = self.draw()
        except PhotoError:  # moved or changed since: no reason to fill the notebook with a traceback
            return None
        picture.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        png = io.BytesIO()
        picture.save(png, "PNG")
        return png.getvalue()

    def _photo(self) -> npt.NDArray[np.uint8]:
        if self.source is None:
            raise ValueError("these detections do not know their photo: draw(image) with the photo's array")
        if isinstance(self.source, np.ndarray):
            return self.source
        image = read_image(self.source)
        if image.shape[:2] != tuple(self.size_hw):
            raise PhotoError(
                f"{self.source}: the photo has changed since objects were looked for in it: it was "
                f"{self.size_hw[1]} x {self.size_hw[0]}, now it is {image.shape[1]} x {image.shape[0]}",
                hint="detect again",
            )
        return image

    def _check_fits(self, size_hw: tuple[int, ...]) -> None:
        if size_hw != tuple(self.size_hw):
            raise ValueError(f"the image is of {size_hw}, these detections are of {self.size_hw}")

    def _tags(self) -> list[str]:
        return [f"{found.label} {found.score:.0%}" for found in self]


def _check_array(name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        expected = f"{np.dtype(dtype)} {list(shape)}"
        raise ValueError(f"{name} must be {expected}: {array.dtype} {list(array.shape)}")


def _shortest(value: np.float32) -> float:
    return float(str(value))
