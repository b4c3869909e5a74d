"""What every detector does with a photo, its mirror image and tiles, whatever computes boxes. No torch."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from fewbox.core.arguments import (
    CPU,
    checked_threshold,
    former_threshold,
    own_labels,
    own_threshold,
    takes_score_threshold,
)
from fewbox.core.boxes import (
    FoundArrays,
    checked_tiles,
    is_cut,
    merge_looks,
    merge_views,
    nms,
    seen_whole,
    tile_grid,
)
from fewbox.data.images import (
    ReducedImage,
    as_rgb,
    photo_path,
    read_image,
    read_reduced,
    read_size_hw,
    upright_array,
)
from fewbox.data.photo_file import PhotoBytes, read_opened
from fewbox.detection import Detections, Photo
from fewbox.detection.parallel import each_drawn
from fewbox.detection.rows import noting_full_looks
from fewbox.models.families import SUPPRESSION_IOU, Config

_MIN_OVERSIZE = 2
"""A photo is reduced while it is read, but stays at least this many times larger than the network's input."""
_MOST_LOOKED_FOR_BGR = 3
_LOWEST_SCORE = 0.001
"""Of a partner in the mirror image; one whatever the threshold, or boxes and scores would depend on it."""


class PhotoDetector(ABC):
    """Finds the classes it was taught in any photo.

    Attributes:
        config: the settings of the network; ``config.num_classes`` is ``len(labels)``.
        labels: the name of each class.
        base: where the weights that were not tuned came from.
        provenance: how the detector was made; JSON-ready.
        precision: that of the computation, ``"float32"``, ...
        threshold: :meth:`detect` returns detections with a higher score.
        options: what it does beside the usual, such as ``{"tiles": "auto"}``; JSON-ready.
    """

    config: Config
    labels: tuple[str, ...] = own_labels()
    base: dict[str, str]
    provenance: dict[str, Any]
    precision: str
    threshold: float = own_threshold()
    options: Mapping[str, Any] = MappingProxyType({})
    score_threshold = former_threshold()
    _looked_for_bgr = 0

    @property
    def runs_on(self) -> str:
        """What computes: ``cpu``, or a GPU and its name."""
        return CPU

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.labels)}; base {self.base.get('name')})"

    @abstractmethod
    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        """The objects in ``image`` ``[H, W, 3]``, upright RGB, whose score is above the threshold."""

    def _find_each_class(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        """As :meth:`_find`, before class-agnostic NMS, which comes after all looks have been joined."""
        return self._find(image, threshold)

    @overload
    def detect(
        self,
        photos: Photo,
        *,
        threshold: float | None = None,
        tiles: int | str | None = None,
        agnostic_nms: bool = False,
        bgr: bool = False,
    ) -> Detections: ...
    @overload
    def detect(
        self,
        photos: list[Any] | tuple[Any, ...] | Iterator[Any],
        *,
        threshold: float | None = None,
        tiles: int | str | None = None,
        agnostic_nms: bool = False,
        bgr: bool = False,
    ) -> list[Detections]: ...

    @takes_score_threshold
    def detect(
        self,
        photos: Photo | list[Any] | tuple[Any, ...] | Iterator[Any],
        *,
        threshold: float | None = None,
        tiles: int | str | None = None,
        agnostic_nms: bool = False,
        bgr: bool = False,
    ) -> Detections | list[Detections]:
        """Find the objects in a photo; for several, in a list, generator or batch, a list in their order.

        Args:
            photos: paths or addresses, photo files opened or as their bytes, arrays ``[H, W, 3]`` uint8
                RGB, Pillow images, tensors ``[3, H, W]`` or ``[H, W, 3]`` uint8 RGB, batches of either with
                one axis more, or photos read by :func:`read_reduced`. A photo in a file that is at least
                four times as large as the network's input is read at a half to an eighth of its size; boxes
                are always in pixels of the whole photo. Pixels that an iterator gives are copied.
            threshold: only detections with a higher score; the detector's own if not given.
            tiles: for large photos with small objects: look at overlapping tiles too, so many along the
                longer side, 2 to 8, or ``"auto"``; see :class:`TiledDetector`.
            agnostic_nms: one class for each object; see :class:`AgnosticDetector`.
            bgr: arrays, tensors and the pixels of a :class:`ReducedImage` are BGR, as OpenCV reads photos.
                Files and Pillow images say themselves what they are.

        Raises:
            PhotoError: a photo cannot be read, or is given as something else.
            SettingError: the threshold is no number from 0 to 1, or there cannot be so many tiles.
        """
        if getattr(photos, "ndim", 0) == 4:  # a batch
            photos = list(cast(Iterable[Any], photos))
        several = isinstance(photos, list | tuple | Iterator) and not hasattr(photos, "read")
        if tiles is not None or agnostic_nms:
            other = self.with_tiles(tiles).with_agnostic_nms(agnostic_nms)
            return other.detect(photos, threshold=threshold, bgr=bgr)
        threshold = checked_threshold(self.threshold if threshold is None else threshold)
        if several:
            return self._detect_each(each_drawn(cast(Iterable[Any], photos), bgr), threshold)
        return self._detect_one(as_rgb(photos, "photo") if bgr else photos, threshold, "photo")

    def _detect_each(self, photos: Iterable[Any], threshold: float) -> list[Detections]:
        return [
            self._detect_one(photo, threshold, f"photos[{number}]") for number, photo in enumerate(photos)
        ]

    def _detect_one(self, photo: Any, threshold: float, name: str) -> Detections:
        source: Path | NDArray[np.uint8] | None = None
        if isinstance(photo, str | os.PathLike):
            source = photo_path(photo)
            read = read_reduced(source, self.enough_hw(read_size_hw(source)))
        elif isinstance(photo, bytes | bytearray | memoryview | PhotoBytes) or hasattr(photo, "read"):
            photo = read_opened(photo, name) if hasattr(photo, "read") else photo
            file = photo if isinstance(photo, PhotoBytes) else PhotoBytes(name, bytes(photo))
            read = read_reduced(file, self.enough_hw(read_size_hw(file)))
            source = read.image if read.size_hw == read.image.shape[:2] else read_image(file)
        elif isinstance(photo, ReducedImage):
            read = photo
        else:
            source = upright_array(photo, name)
            read = ReducedImage(source, (source.shape[0], source.shape[1]))
        with noting_full_looks() as full_looks:
            boxes, scores, class_ids = self._find(read.image, threshold)
        if len(scores) == 0 and hasattr(photo, "ndim"):
            self._remark_if_bgr(read.image, threshold)
        return Detections(
            boxes=boxes * read.scale_xyxy,
            scores=scores,
            class_ids=class_ids,
            class_names=self.labels,
            size_hw=read.size_hw,
            source=source,
            full_at=max(full_looks, default=0.0),
        )

    def _remark_if_bgr(self, image: NDArray[np.uint8], threshold: float) -> None:
        """Say so if an array in which nothing is found makes sense as BGR; the first few are looked at."""
        if not self._is_early_look():
            return
        if len(self._find(np.ascontiguousarray(image[..., ::-1]), threshold)[1]):
            warnings.warn(
                "nothing was found in an array taken as RGB, but something with red and blue swapped: if it "
                "is BGR, as OpenCV reads photos, say so: detect(..., bgr=True)",
                stacklevel=5,
            )

    def _is_early_look(self) -> bool:
        """Whether this is one of the first looks for BGR, which are counted."""
        self._looked_for_bgr += 1
        return self._looked_for_bgr <= _MOST_LOOKED_FOR_BGR

    def enough_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """The smallest size at which :meth:`detect` loses nothing of a photo."""
        height, width = self.config.covered_hw(photo_size_hw)
        return _MIN_OVERSIZE * height, _MIN_OVERSIZE * width

    def with_tiles(self, tiles: int | str | None) -> PhotoDetector:
        """The same detector looking at tiles of each photo too; as it is if ``tiles`` is None.

        Raises:
            SettingError: there cannot be so many tiles.
        """
        return self if tiles is None else TiledDetector(self, tiles)

    def with_agnostic_nms(self, wanted: bool) -> PhotoDetector:
        """The same detector giving each object one class; as it is if that is not ``wanted``."""
        return AgnosticDetector(self) if wanted else self


class _AskingDetector(PhotoDetector):
    """Asks another detector, and makes something else of what that finds."""

    def __init__(self, detector: PhotoDetector) -> None:
        self.detector = detector
        self.config, self.labels, self.base = detector.config, detector.labels, detector.base
        self.provenance, self.precision = detector.provenance, detector.precision
        self.threshold, self.options = detector.threshold, detector.options

    @property
    def runs_on(self) -> str:
        """What computes for the detector that it asks."""
        return self.detector.runs_on

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        found = self._find_each_class(image, threshold)
        if "agnostic_nms" not in self.options:  # neither of this one nor of any that it asks
            return found
        boxes, scores, class_ids = found
        kept = nms(boxes, scores, iou_threshold=self.config.iou_threshold, max_kept=len(scores))
        return boxes[kept], scores[kept], class_ids[kept]

    @abstractmethod
    def _find_each_class(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        """What is made of what the other finds."""

    def _is_early_look(self) -> bool:
        """Counted where they last: what asks may be made anew for each photo."""
        return self.detector._is_early_look()

    def _set_on(self, other: PhotoDetector) -> PhotoDetector:
        """Another one with what was set on this one since it was made."""
        other.threshold, other.labels = self.threshold, self.labels
        return other

    def enough_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """The smallest size at which :meth:`detect` loses nothing of a photo."""
        return self.detector.enough_hw(photo_size_hw)


class TtaDetector(_AskingDetector):
    """Test-time augmentation: detects in each photo and in its mirror image.

    That finds a little more and takes twice as long. A detection's score is the mean of both passes, where a
    pass that did not find it counts as 0; its box is the mean of both boxes, weighted by score.

    Args:
        detector: detects in both.
    """

    def __init__(self, detector: PhotoDetector) -> None:
        super().__init__(detector)
        self.options = {**detector.options, "mirror": True}

    def _find_each_class(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        plain = self.detector._find_each_class(image, _LOWEST_SCORE)
        flipped = np.ascontiguousarray(image[:, ::-1])
        mirrored, their_scores, their_ids = self.detector._find_each_class(flipped, _LOWEST_SCORE)
        boxes_back = mirrored.copy()  # in pixels of the photo
        boxes_back[:, [0, 2]] = image.shape[1] - mirrored[:, [2, 0]]
        boxes, scores, class_ids = merge_looks(plain, (boxes_back, their_scores, their_ids))
        order = np.argsort(-scores, kind="stable")
        kept = order[scores[order] > threshold]
        return boxes[kept], scores[kept], class_ids[kept]


class TiledDetector(_AskingDetector):
    """Detects in each photo whole and in overlapping tiles of it, so that small objects are not lost.

    Tiles and the photo whole are views of the same objects. NMS joins what several of them show. A box that
    a tile's edge may have cut is dropped if a neighbouring tile shows the place whole, for that one to
    judge; else, as an object may be longer than tiles overlap, it yields to a better view of the object.
    A photo hardly larger than the network's input has no tiles, and the result is that of ``detector``.

    One tile is cut out at a time: beside the photo itself, memory does not grow with their number.

    Args:
        detector: detects in all views.
        tiles: along the longer side of a photo, 2 to 8, or ``"auto"``: so many that no more than two pixels
            become one.

    Raises:
        SettingError: there cannot be so many tiles.
    """

    def __init__(self, detector: PhotoDetector, tiles: int | str) -> None:
        super().__init__(detector)
        self.tiles = checked_tiles(tiles)
        self.options = {**detector.options, "tiles": self.tiles}

    def tiles_of(self, photo_size_hw: tuple[int, int]) -> NDArray[np.int64]:
        """The tiles ``[T, 4]`` of a photo, in its pixels; none if it is looked at only whole."""
        covered = np.array(self.config.covered_hw(photo_size_hw))
        pixels = np.array(photo_size_hw) / covered  # of the photo in one of the input, down and across
        # An input that squeezes photos squeezes their tiles alike, as these have the photo's proportions.
        held = np.array(self.config.input_size_hw or covered) * pixels / pixels[np.argmax(photo_size_hw)]
        return tile_grid(photo_size_hw, (float(held[0]), float(held[1])), self.tiles)

    def enough_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """The smallest size at which :meth:`detect` loses nothing of a photo or its tiles."""
        tiles = self.tiles_of(photo_size_hw)
        if not len(tiles):
            return self.detector.enough_hw(photo_size_hw)
        width, height = (tiles[0, 2:] - tiles[0, :2]).tolist()
        enough_h, enough_w = self.detector.enough_hw((height, width))
        return enough_h * photo_size_hw[0] / height, enough_w * photo_size_hw[1] / width

    def with_tiles(self, tiles: int | str | None) -> PhotoDetector:
        """The same detector with other tiles."""
        return self if tiles is None else self._set_on(TiledDetector(self.detector, tiles))

    def _find_each_class(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        size_hw = image.shape[0], image.shape[1]
        tiles = self.tiles_of(size_hw)
        if not len(tiles):
            return self.detector._find_each_class(image, threshold)
        low = threshold / 2  # what scores half as much may still replace a piece of an object
        found = [self._find_in_whole(image, low)]
        doubtful = [seen_whole(found[0][0], tiles, size_hw)]  # a tile sees them larger
        for number, (x1, y1, x2, y2) in enumerate(tiles.tolist()):
            tile = np.ascontiguousarray(image[y1:y2, x1:x2])
            boxes, scores, class_ids = self.detector._find_each_class(tile, low)
            boxes = boxes + np.array((x1, y1, x1, y1), np.float32)
            cut = is_cut(boxes, tiles[number], size_hw)
            left = ~(cut & seen_whole(boxes, tiles, size_hw))
            found.append((boxes[left], scores[left], class_ids[left]))
            doubtful.append(cut[left])
        return self._merged(found, np.concatenate(doubtful), tiles, threshold)

    def _find_in_whole(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        """What is found in the photo whole, which is first made smaller, as it would have been read."""
        size_hw = image.shape[0], image.shape[1]
        smaller = ReducedImage(image, size_hw).reduced(self.detector.enough_hw(size_hw))
        boxes, scores, class_ids = self.detector._find_each_class(smaller.image, threshold)
        return boxes * smaller.scale_xyxy, scores, class_ids

    def _merged(
        self,
        found: list[FoundArrays],
        doubtful: NDArray[np.bool_],
        tiles: NDArray[np.int64],
        threshold: float,
    ) -> FoundArrays:
        """What was found in the photo whole, which comes first, and in its tiles, as one; best first."""
        boxes, scores = (np.concatenate([one[part] for one in found]) for part in (0, 1))
        class_ids = np.concatenate([one[2] for one in found])
        too_large = ((boxes[:, 2:] - boxes[:, :2]) > tiles[0, 2:] - tiles[0, :2]).any(1)
        iou = min(self.config.iou_threshold, SUPPRESSION_IOU)
        kept = []
        for class_id in np.unique(class_ids):
            rows = np.flatnonzero(class_ids == class_id)
            kept.append(rows[merge_views(boxes[rows], scores[rows], doubtful[rows], too_large[rows], iou)])
        order = np.concatenate([np.zeros(0, np.int64), *kept])
        order = order[np.argsort(-scores[order], kind="stable")]
        order = order[scores[order] > threshold]
        return boxes[order], scores[order], class_ids[order]


class AgnosticDetector(_AskingDetector):
    """Class-agnostic NMS: of boxes that overlap, the surest stays, whatever their classes.

    Else each class is suppressed by itself, so that one part may be "ok" and "scratched" at once. Not for
    objects of different classes that share a box, such as a shirt and who wears it.
    """

    def __init__(self, detector: PhotoDetector) -> None:
        super().__init__(detector)
        self.options = {**detector.options, "agnostic_nms": True}

    def with_tiles(self, tiles: int | str | None) -> PhotoDetector:
        """The same detector looking at tiles of each photo too, which are joined before classes are."""
        return self if tiles is None else self._set_on(AgnosticDetector(self.detector.with_tiles(tiles)))

    def _find_each_class(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        return self.detector._find_each_class(image, threshold)
