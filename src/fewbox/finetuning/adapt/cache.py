"""What the frozen layers give for views of photos: computed once, kept in half precision.

    photo -> views -> frozen layers -> maps in half precision, in memory or, if they are many, in a file

Half precision keeps 11 bits of what float32 keeps 24; the maps are activations of a network whose
answers do not hang on the others. A view of a YOLOX-nano takes 0.5 MB.

Letters in shapes: V views, M boxes of a view.
"""

from __future__ import annotations

import errno
import math
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbox.core.files import output_error, temporary_place
from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.detection.parallel import run_parallel
from fewbox.finetuning.augment import AugmentedView, with_views
from fewbox.finetuning.features import MIN_VISIBLE, image_of
from fewbox.finetuning.resume import Arrays, ComputedArrays
from fewbox.models.device import device_of, in_batches
from fewbox.models.families import Config
from fewbox.models.network import IGNORED_ID, Adapter

VIEWS_AT_ONCE = 16
"""Of a photo, that a GPU looks at."""
MOST_IN_MEMORY = 400 * 2**20
"""Bytes of maps that are kept in memory; more go to a temporary file, which the system keeps in memory
as far as there is room."""


@dataclass(frozen=True, eq=False)
class ViewTruth:
    """What there is in a view. Boxes are in pixels of the network's input."""

    boxes: Tensor
    """``[M, 4]``."""
    class_ids: Tensor
    """``[M]`` int64, some of them ``IGNORED_ID``."""


_Looked = tuple[list[Tensor], ViewTruth]
"""Of a view: its maps ``[1, D, h, w]`` in half precision, and what there is in it."""


@dataclass(frozen=True)
class Window:
    """A part of a view, in cells of the network's coarsest map."""

    view: int
    top: int
    left: int
    rows: int
    columns: int


class MapStore:
    """Room for the maps of a number of views.

    Args:
        num_views: V.
        shapes: ``(D, h, w)`` of each of a view's maps.
        scales: how many cells of each map lie along a side of a window's cell.
        most_in_memory: bytes; if the maps need more they are kept in a file that nobody else sees.
        device: where they are used.

    Raises:
        OutputError: the disk has no room for that file.
    """

    def __init__(
        self,
        num_views: int,
        shapes: Sequence[tuple[int, int, int]],
        scales: Sequence[int],
        most_in_memory: int = MOST_IN_MEMORY,
        device: torch.device | None = None,
    ) -> None:
        self.shapes, self.scales, self.device = list(shapes), list(scales), device or torch.device("cpu")
        self._ends = np.cumsum([math.prod(shape) for shape in self.shapes]).tolist()
        size = (num_views, int(self._ends[-1]))
        num_bytes = 2 * size[0] * size[1]
        self.is_spilled = num_bytes > most_in_memory
        self._file = _file_of(num_bytes) if self.is_spilled else None
        self._rows: NDArray[np.float16]
        if self._file is None:
            self._rows = np.empty(size, np.float16)
        else:
            self._rows = np.memmap(self._file, np.float16, "w+", shape=size)

    def put(self, view: int, maps: Sequence[Tensor]) -> None:
        """Keep the maps, each ``[1, D, h, w]``, of a view."""
        flat = [x.permute(0, 2, 3, 1).reshape(-1) for x in maps]  # channels last: as the layers want them
        self._rows[view] = torch.cat(flat).half().cpu().numpy()

    def maps(self, places: Sequence[Window]) -> list[Tensor]:
        """The maps ``[N, D, h, w]`` float32, channels last, of N windows of one size."""
        ranges = zip([0, *self._ends[:-1]], self._ends, strict=True)
        maps = []
        for (start, end), (depth, h, w), scale in zip(ranges, self.shapes, self.scales, strict=True):
            parts = []
            for place in places:
                whole = self._rows[place.view, start:end].reshape(h, w, depth)
                top, left, rows, columns = (
                    scale * n for n in (place.top, place.left, place.rows, place.columns)
                )
                parts.append(whole[top : top + rows, left : left + columns])
            maps.append(torch.from_numpy(np.stack(parts)).to(self.device).float().permute(0, 3, 1, 2))
        return maps

    def whole(self, view: int) -> Window:
        """All of a view."""
        _, h, w = self.shapes[-1]
        return Window(view, 0, 0, h // self.scales[-1], w // self.scales[-1])


def _file_of(num_bytes: int) -> IO[bytes]:
    """A temporary file of so many bytes."""
    try:
        file = tempfile.TemporaryFile(prefix="fewbox-maps-")  # noqa: SIM115 - it lives as long as its maps
        _set_aside(file, num_bytes)
    except OSError as error:
        raise output_error(temporary_place() / "fewbox-maps", error) from error
    return file


def _set_aside(file: IO[bytes], num_bytes: int) -> None:
    """Have the disk keep room for a file, where it can; else the process that finds it full is ended."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot
            raise


@dataclass(frozen=True, eq=False)
class CachedViews:
    """The views of all photos, those of a photo together."""

    store: MapStore
    truths: list[ViewTruth]
    photos: list[int]
    """Which photo each is a view of."""
    chosen: list[int]
    """The numbers of those that are learnt from."""
    stride: int
    """Pixels of the input that a cell of the coarsest map stands for."""

    def of_photo(self, photo: int) -> int:
        """The number of the view that is the photo itself."""
        return self.photos.index(photo)

    def without(self, photos: Sequence[int]) -> CachedViews:
        """The same, but for learning from the views of all other photos."""
        left_out = set(photos)
        kept = [view for view in self.chosen if self.photos[view] not in left_out]
        return replace(self, chosen=kept)


def cache_views(
    adapter: Adapter,
    annotations: AnnotationSet,
    views: int,
    seed: int,
    *,
    show_progress: bool = False,
    most_in_memory: int = MOST_IN_MEMORY,
    computed: ComputedArrays | None = None,
) -> CachedViews:
    """Show ``views`` views of every photo, itself the first, to the frozen layers.

    Args:
        adapter: of the network.
        annotations: photos, all looked at.
        views: 1 or more.
        seed: with a photo's place, what its views are drawn from.
        show_progress: show how far the work has come.
        most_in_memory: as for :class:`MapStore`.
        computed: what a run before has computed, and where this one keeps it; None keeps nothing.
    """
    store: MapStore | None = None
    one_makes_it = threading.Lock()
    truths: list[ViewTruth] = []
    photos: list[int] = []

    def look(number: int) -> list[ViewTruth]:
        photo, generator = annotations.images[number], np.random.default_rng((seed, number))
        compute = partial(_views_of_photo, adapter, photo, annotations.labels, views, generator)
        if computed is None:
            return kept(number, compute())
        unpack = partial(_from_arrays, device=device_of(adapter.network))
        return kept(number, computed.of_photo(number, photo, compute, _to_arrays, unpack))

    def kept(number: int, looked: Sequence[_Looked]) -> list[ViewTruth]:
        """What is in the views of a photo. Their maps are stored at once: those of many photos may wait."""
        nonlocal store
        with one_makes_it:
            if store is None:
                maps, _ = looked[0]
                shapes = [(x.shape[1], x.shape[2], x.shape[3]) for x in maps]
                scales = [adapter.coarsest_stride // stride for stride in adapter.map_strides]
                store = MapStore(views * len(annotations), shapes, scales, most_in_memory, maps[0].device)
        for place, (maps, _) in enumerate(looked, start=number * views):
            store.put(place, maps)
        return [truth for _, truth in looked]

    # One thread a photo: faster than all threads on one after the other, and the same on any machine.
    looks = run_parallel(look, range(len(annotations)), 1)
    with progress_bar("looking at the photos", len(annotations), show=show_progress) as advance:
        for number, looked in enumerate(looks):
            truths += looked.result()
            photos += [number] * views
            advance(annotations.images[number].path.name)
    if show_progress and computed is not None and computed.num_found:
        console.print(computed.in_words(len(annotations)))
    assert store is not None  # a set that may be learnt from has photos
    return CachedViews(store, truths, photos, list(range(len(truths))), adapter.coarsest_stride)


@torch.no_grad()
def _views_of_photo(
    adapter: Adapter, photo: AnnotatedImage, labels: Sequence[str], views: int, generator: np.random.Generator
) -> list[_Looked]:
    """The frozen layers' maps of the views of a photo, and what there is in each."""
    network = adapter.network
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
    shown = with_views(network.config, image_of(photo), corners, views - 1, generator)

    def look(some: Sequence[AugmentedView]) -> list[_Looked]:
        maps = adapter.frozen(network.batch_of([view.image for view in some]))
        halves = [torch.split(x.half(), 1) for x in maps]
        of_views = zip(some, zip(*halves, strict=True), strict=True)
        return [(list(own), _truth(network.config, photo, view, labels)) for view, own in of_views]

    if device_of(network).type == "cpu":  # one at a time: measured, more at once are no faster
        return [look([view])[0] for view in shown]
    return list(in_batches(look, list(shown), VIEWS_AT_ONCE))


def _to_arrays(views: Sequence[_Looked]) -> Arrays:
    """The views of a photo, as they are written to a file."""
    arrays: Arrays = {}
    for view, (maps, truth) in enumerate(views):
        arrays |= {f"{view}.boxes": truth.boxes.numpy(), f"{view}.class_ids": truth.class_ids.numpy()}
        arrays |= {f"{view}.map{level}": one.cpu().numpy() for level, one in enumerate(maps)}
    return arrays


def _from_arrays(arrays: Arrays, device: torch.device) -> list[_Looked]:
    """What :func:`_to_arrays` was given, with the maps where they are used."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    views = sum(name.endswith(".boxes") for name in tensors)
    levels = sum(name.startswith("0.map") for name in tensors)
    return [
        (
            [tensors[f"{view}.map{level}"].to(device) for level in range(levels)],
            ViewTruth(tensors[f"{view}.boxes"], tensors[f"{view}.class_ids"]),
        )
        for view in range(views)
    ]


def _truth(config: Config, photo: AnnotatedImage, view: AugmentedView, labels: Sequence[str]) -> ViewTruth:
    ids = np.array([IGNORED_ID if b.ignore else labels.index(b.label) for b in photo.boxes], np.int64)
    ids[view.visible < MIN_VISIBLE] = IGNORED_ID
    boxes = config.to_input(view.boxes, (view.image.shape[0], view.image.shape[1]))
    shown = view.visible > 0
    return ViewTruth(torch.from_numpy(boxes[shown]), torch.from_numpy(ids[shown]))
