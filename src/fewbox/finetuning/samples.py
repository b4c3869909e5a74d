"""An endless stream of samples of annotated photos: each epoch every photo once, as a view never seen before.

Sample number ``n`` follows from the seed and ``n`` alone. So a run that is gone on with sees what it would
have seen, and several processes can share out the numbers of a step without a word to each other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import read_reduced
from fewbox.finetuning.dense_loss import IGNORED_ID
from fewbox.finetuning.seen import MIN_VISIBLE
from fewbox.finetuning.views import ZOOM, random_view
from fewbox.models.letterbox import letterbox_ratio
from fewbox.models.yolox import YoloxDetector

Sample = tuple[Tensor, Tensor, Tensor]
"""Pixels ``[3, h, w]``, boxes ``[M, 4]`` in them, class ids ``[M]``, of which some may be ``IGNORED_ID``."""


class Samples(Dataset[Sample]):
    """Views of annotated photos for ``network``, by number, without end."""

    def __init__(self, annotations: AnnotationSet, network: YoloxDetector, seed: int) -> None:
        self.annotations, self.seed = annotations, seed
        self.prepare, self.size_hw = network.prepare, network.config.size_hw
        self._epoch, self._order = -1, np.arange(0)

    def __getitem__(self, number: int) -> Sample:
        epoch, place = divmod(number, len(self.annotations))
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.annotations))
            self._epoch, self._order = epoch, order
        photo = self.annotations.images[self._order[place]]
        height, width = photo.size_hw
        ratio = letterbox_ratio(photo.size_hw, self.size_hw)
        # Read no larger than a view can show it.
        read = read_reduced(photo.path, (ZOOM[1] * ratio * height, ZOOM[1] * ratio * width))
        corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
        scales_wh = ratio * read.scale_xyxy[:2].astype(np.float64)
        view = random_view(
            read.image,
            corners / read.scale_xyxy,
            (float(scales_wh[0]), float(scales_wh[1])),
            self.size_hw,
            np.random.default_rng((self.seed, 1, number)),
        )
        labels = self.annotations.labels
        ids = np.array([IGNORED_ID if b.ignore else labels.index(b.label) for b in photo.boxes], np.int64)
        ids[view.visible < MIN_VISIBLE] = IGNORED_ID
        seen = view.visible > 0
        boxes = torch.from_numpy(view.boxes[seen]).float()
        return self.prepare(view.image), boxes, torch.from_numpy(ids[seen])
