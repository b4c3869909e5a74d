"""A fine-tuned detector at work; no training code here. And what it found in one photo: :class:`Detections`.

What every detector does with a photo is in ``photo_detector.py``, how one is opened in ``loading.py``.

Boxes are in pixels of the upright photo, as everywhere (see ``core/boxes.py``). Here they are numpy
arrays, so that results can be used without torch.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core.arguments import checked_number, checked_threshold, require_kind, takes_score_threshold
from fewbox.data.images import ReducedImage, StrPath, photo_path, read_image, upright_array
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection.drawing import draw_boxes, require_another, save_picture
from fewbox.errors import PhotoError, SettingError

_MAX_SHOWN = 5
_NOTEBOOK_SIDE = 960


class TensorLike(Protocol):
    """A tensor of PyTorch, without importing PyTorch."""

    def detach(self) -> Any:
        """The same numbers, cut off from the graph that computed them."""


Photo = (
    StrPath | bytes | PhotoBytes | BinaryIO | npt.NDArray[np.uint8] | Image.Image | TensorLike | ReducedImage
)
"""What a detector looks at: a file or an address, bytes, or pixels of any kind."""


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
        class_ids: ``[M]`` int64; class ``c`` is ``class_names[c]``.
        class_names: the labels of all classes the detector knows.
        size_hw: height and width of the upright photo.
        source: the photo, its path or pixels. A path is read again for each drawing, so that many results
            do not hold as many photos in memory; an array is held, not copied, but for one that an iterator
            gave to :meth:`Detector.detect`, which may fill the same memory again.
        full_at: where a look at the photo gave as many boxes as the detector can, the score of the last
            one: of those that score less there may be more. 0 if none did.

    Raises:
        ValueError: the arrays do not fit each other, or are not as described above.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> found = fewbox.Detections(  # as a detector returns it
        ...     boxes=np.array([[404, 0, 479, 82], [476, 167, 517, 218]], np.float32),
        ...     scores=np.array([0.99, 0.61], np.float32),
        ...     class_ids=np.array([0, 0], np.int64),
        ...     class_names=("duck",),
        ...     size_hw=(480, 640),
        ...     source=Path("ducks/test/duck_01.jpg"),
        ... )
        >>> for (x1, y1, x2, y2), score, label in found.above(0.5):
        ...     print(f"{label} {score:.0%}, {x2 - x1:.0f} pixels wide")
        duck 99%, 75 pixels wide
        duck 61%, 41 pixels wide
        >>> found.labels
        ['duck', 'duck']
        >>> len(found["duck"]), len(found[found.scores > 0.7]), found[0].score > 0.9
        (2, 1, True)
        >>> found.save("found.jpg")
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    size_hw: tuple[int, int]
    source: Path | npt.NDArray[np.uint8] | None = None
    full_at: float = 0.0

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
        if not ((self.class_ids >= 0) & (self.class_ids < len(self.class_names))).all():
            last = len(self.class_names) - 1
            raise ValueError(f"class_ids must be from 0 to {last}: {self.class_ids.tolist()}")
        if min(self.size_hw) < 1:
            raise ValueError(f"size_hw must be positive: {self.size_hw}")
        names: Any = self.class_names
        if isinstance(names, str):  # whose letters would be classes
            raise ValueError(f"class_names must be a list of texts: write [{names!r}]")
        if isinstance(self.source, np.ndarray):
            self._check_fits(self.source.shape[:2])
        elif isinstance(self.source, str | os.PathLike):
            object.__setattr__(self, "source", photo_path(self.source))

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True)
        for (x1, y1, x2, y2), score, class_id in rows:
            yield Detection((x1, y1, x2, y2), score, self.class_names[class_id])

    @overload
    def __getitem__(self, chosen: int) -> Detection: ...

    @overload
    def __getitem__(self, chosen: str | slice | Sequence[Any] | npt.NDArray[Any]) -> Detections: ...

    def __getitem__(self, chosen: Any) -> Detection | Detections:
        """One detection by its number, or those of a class, a slice, a mask ``[M]`` or numbers.

        What is chosen stays in the order of its scores, the most certain first.

        Raises:
            SettingError: the detector knows no class of that name.
            IndexError: there are not so many.
        """
        if isinstance(chosen, int | np.integer):
            one = self[[int(chosen)]]
            return next(iter(one))
        if isinstance(chosen, str):
            if chosen not in self.class_names:
                raise SettingError(
                    f"no class is called {chosen!r}", hint=f"the classes: {', '.join(self.class_names)}"
                )
            chosen = self.class_ids == self.class_names.index(chosen)
        elif not isinstance(chosen, slice):
            chosen = np.asarray(chosen)
            chosen = chosen if chosen.size else chosen.astype(np.int64)
        rows = np.unique(np.arange(len(self))[chosen])
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], class_ids=self.class_ids[rows])

    def __repr__(self) -> str:
        found = ", ".join(self._tags()[:_MAX_SHOWN]) or "nothing found"
        more = f" and {len(self) - _MAX_SHOWN} more" if len(self) > _MAX_SHOWN else ""
        photo = f"{self.photo_name!r}, " if self.photo_name else ""
        return f"Detections({photo}size_hw={self.size_hw}: {found}{more})"

    @property
    def labels(self) -> list[str]:
        """What each of the M objects is."""
        return [self.class_names[class_id] for class_id in self.class_ids]

    @property
    def photo_name(self) -> str | None:
        """The file name of the photo; None for one that came as an array."""
        return self.source.name if isinstance(self.source, Path) else None

    @takes_score_threshold
    def above(self, threshold: float) -> Detections:
        """The detections with a higher score than ``threshold``, in the same order.

        Raises:
            SettingError: the threshold is no number from 0 to 1.
        """
        return self[self.scores > checked_threshold(threshold)]

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

    def save(self, path: StrPath) -> None:
        """Write the photo with its detections drawn in, as the ending says: ``found.jpg``, ``found.png`` ...

        Raises:
            OutputError: no picture can be written there, or it would replace the photo.
            ValueError: there is no photo to draw on.
            PhotoError: the photo can no longer be read, or has another size now.
        """
        if isinstance(self.source, Path):
            require_another(Path(path), [self.source])
        save_picture(self.draw(), Path(path))

    def show(self) -> None:
        """Open the photo with its detections drawn in, in the system's viewer of pictures."""
        self.draw().show()

    def crops(self, margin: float = 0.0) -> list[npt.NDArray[np.uint8]]:
        """What was found, cut out of the photo: M arrays ``[h, w, 3]``, RGB.

        Args:
            margin: more on each side, as a part of the box's width and height; cut at the photo's edge.

        Raises:
            SettingError: the margin is no number, or leaves nothing.
            ValueError: there is no photo to cut from.
            PhotoError: the photo can no longer be read, or has another size now.
        """
        margin = checked_number(margin, "margin", "0.1 adds a tenth of the box on each side", above=-0.5)
        image = self._photo()
        height, width = image.shape[:2]
        sides = np.tile(self.boxes[:, 2:] - self.boxes[:, :2], 2)
        grown = self.boxes + margin * sides * np.array([-1, -1, 1, 1])
        low = np.floor(grown[:, :2]).clip(0, [width - 1, height - 1]).astype(int)
        high = np.maximum(np.ceil(grown[:, 2:]).clip(0, [width, height]).astype(int), low + 1)
        return [image[y1:y2, x1:x2].copy() for (x1, y1), (x2, y2) in zip(low, high, strict=True)]

    def to_pandas(self) -> Any:
        """One row for each object: photo, label, class_id, score, and the edges x1, y1, x2 and y2.

        Raises:
            SettingError: pandas is not installed.
        """
        edges = {name: self.boxes[:, column] for column, name in enumerate(("x1", "y1", "x2", "y2"))}
        pandas = _imported("pandas")
        labels = pandas.Series(self.labels, dtype=str)  # texts, even if there are none
        return pandas.DataFrame(
            {"photo": self.photo_name, "label": labels, "class_id": self.class_ids, "score": self.scores}
            | edges
        )

    def to_supervision(self) -> Any:
        """The same as a ``supervision.Detections``, for what that draws, counts and tracks.

        Raises:
            SettingError: supervision is not installed.
        """
        return _imported("supervision").Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.copy(),
            data={"class_name": np.array(self.labels, dtype=str)},
        )

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
                    "label": self.class_names[class_id],
                    "class_id": int(class_id),
                    "score": _shortest(score),
                    "box": [_shortest(edge) for edge in box],
                }
                for box, score, class_id in zip(self.boxes, self.scores, self.class_ids, strict=True)
            ],
        }

    def to_coco(
        self, image_id: int | str, category_ids: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """The detections in COCO's format for results, to compare with boxes in a COCO file.

        Args:
            image_id: the photo's id in that file.
            category_ids: the id of each label in that file, ``{one["name"]: one["id"] for one in
                coco["categories"]}``. If not given, class ``c`` has the id ``c + 1``, which fits only a file
                that has the detector's classes in their order; COCO's own ids have gaps.

        Raises:
            SettingError: ``category_ids`` is no mapping, or lacks a label that was found.
        """
        ids = dict(enumerate(range(1, len(self.class_names) + 1)))
        if category_ids is not None:
            hint = "give the ids of the COCO file: {one['name']: one['id'] for one in coco['categories']}"
            require_kind(category_ids, Mapping, "category_ids", SettingError, hint)
            if missing := sorted(set(self.labels) - set(category_ids)):
                raise SettingError(f"category_ids has no {', '.join(missing)}", hint=hint)
            ids = {c: int(category_ids[self.class_names[c]]) for c in self.class_ids.tolist()}
        return [
            {
                "image_id": image_id if isinstance(image_id, str) else int(image_id),
                "category_id": ids[class_id],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, class_id in zip(
                self.boxes.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True
            )
        ]

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, if there is a photo to show, and what was found as text."""
        text = f"<code>{html.escape(repr(self))}</code>"
        if self.source is None:
            return text
        try:
            picture = self.draw()
        except PhotoError:  # moved or changed since: no reason to fill the notebook with a traceback
            return text
        picture.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=90)
        data = base64.b64encode(jpeg.getvalue()).decode()
        return f'<img src="data:image/jpeg;base64,{data}" width="{picture.width}"><br>{text}'

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


def _imported(name: str) -> Any:
    """A library that only those need who hand detections on to it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise SettingError(f"needs {name}, which is not installed", hint=f"pip install {name}") from error


def _shortest(value: np.float32) -> float:
    return float(str(value))
