"""What deep fine-tuning learns from: augmented views of photos, read by processes of their own."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fewbox.core import counted
from fewbox.core.progress import console
from fewbox.data.annotations import AnnotationSet, require_size
from fewbox.data.images import read_reduced
from fewbox.errors import FewboxError, FinetuneError
from fewbox.finetuning.augment import ZOOM, augment
from fewbox.finetuning.features import MIN_VISIBLE
from fewbox.models.letterbox import letterbox_ratio
from fewbox.models.network import IGNORED_ID, Batch

_SHARED = Path("/dev/shm")  # of Linux; in a container of Docker 64 MB
_AHEAD = 2  # batches that PyTorch lets each loader have ready
_BYTES_OF_A_NUMBER = 4
_SILENT_S = 3600  # a batch of photos from slow servers may take long

Example = tuple[Tensor, Tensor, Tensor]
"""Pixels ``[3, h, w]``, boxes ``[M, 4]`` in them, class ids ``[M]``, of which some may be ``IGNORED_ID``."""


class AugmentedDataset(Dataset[Example]):
    """Augmented views of annotated photos for ``network``, by number; each photo once an epoch."""

    def __init__(self, annotations: AnnotationSet, network: Any, seed: int) -> None:
        self.annotations, self.seed = annotations, seed
        self.prepare, self.size_hw = network.prepare, network.config.size_hw
        self._epoch, self._order = -1, np.arange(0)

    def __getitem__(self, number: int) -> Example:
        epoch, place = divmod(number, len(self.annotations))
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.annotations))
            self._epoch, self._order = epoch, order
        photo = self.annotations.images[self._order[place]]
        height, width = photo.size_hw
        ratio = letterbox_ratio(photo.size_hw, self.size_hw)
        # Read no larger than a view can show it.
        read = read_reduced(photo.path, (ZOOM[1] * ratio * height, ZOOM[1] * ratio * width))
        if photo.boxes:
            require_size(photo.size_hw, read.size_hw, photo.path.name)
        corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
        scales_wh = ratio * read.scale_xyxy[:2].astype(np.float64)
        view = augment(
            read.image,
            corners / read.scale_xyxy,
            (float(scales_wh[0]), float(scales_wh[1])),
            self.size_hw,
            np.random.default_rng((self.seed, 1, number)),
        )
        labels = self.annotations.labels
        ids = np.array([IGNORED_ID if b.ignore else labels.index(b.label) for b in photo.boxes], np.int64)
        ids[view.visible < MIN_VISIBLE] = IGNORED_ID
        in_view = view.visible > 0
        boxes = torch.from_numpy(view.boxes[in_view]).float()
        return self.prepare(view.image), boxes, torch.from_numpy(ids[in_view])

    def __getitems__(self, numbers: Sequence[int]) -> list[Example] | FewboxError:
        """Several, as PyTorch asks for them; or why not: of what is raised it would make a traceback."""
        try:
            return [self[number] for number in numbers]
        except FewboxError as error:
            return error


def batches_of(
    dataset: AugmentedDataset, numbers: list[list[int]], *, loaders: int, pin_memory: bool
) -> Iterator[Batch]:
    """A batch of each of the lists of ``numbers``.

    Raises:
        PhotoError: a photo cannot be read.
        FinetuneError: a loader has ended, or is silent.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=numbers,
        num_workers=loaders,
        collate_fn=_batch_or_error,
        pin_memory=pin_memory,
        timeout=_SILENT_S if loaders else 0,
    )
    try:
        for batch in loader:
            if isinstance(batch, FewboxError):
                raise batch
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader"):
            raise
        raise FinetuneError(
            f"a process that reads photos has failed: {str(error).splitlines()[0]}",
            hint="read them in the process that trains: --loaders 0; what is done is kept",
        ) from error


def loaders_with_room(loaders: int, size_hw: tuple[int, int], batch_size: int, *, show: bool) -> int:
    """``loaders``, or none where what they read would not fit into the memory they share with who trains.

    A loader that finds no room there says so to nobody, and training would wait for it for ever.

    Args:
        loaders: processes that read photos.
        size_hw: of the network's input.
        batch_size: over all processes that train, as they may be on one machine.
        show: say so.
    """
    if not loaders or not _SHARED.is_dir():
        return loaders
    needed = (_AHEAD * loaders + 1) * batch_size * 3 * math.prod(size_hw) * _BYTES_OF_A_NUMBER
    free = shutil.disk_usage(_SHARED).free
    if needed <= free:
        return loaders
    if show:
        console.print(
            f"photos are read by the process that trains: {counted(loaders, 'loader')} may fill "
            f"{needed / 1e6:.0f} MB of {_SHARED}, which has {free / 1e6:.0f}; for more, start the container "
            f"with: docker run --shm-size={math.ceil(1.1 * needed / 2**20)}m"
        )
    return 0


def _batch_or_error(examples: list[Example] | FewboxError) -> Batch | FewboxError:
    return examples if isinstance(examples, FewboxError) else Batch.of(examples)
