"""What a photo looks like to the heads: frozen features and what they should answer.

Everything before the heads is frozen, so for one photo it is a constant. It is computed
once here; fitting then touches nothing else. Two facts keep it small and exact:

* the class loss is over every anchor, so the class tower's maps are kept whole;
* the box loss is over matched anchors only (elsewhere its gradient is zero), so of the box
  tower only the 3x3 neighbourhoods under matched anchors are kept, and the tower is run
  only on the part of the map that they depend on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from goldeneye.models.anchors import encode_boxes
from goldeneye.models.boxes import pairwise_iou
from goldeneye.models.matching import IGNORED, NEGATIVE, match_anchors
from goldeneye.models.ssd import SsdDetector


@dataclass(frozen=True)
class PhotoFeatures:
    """One photo's frozen features and targets. P is the number of its matched anchors."""

    class_maps: list[Tensor]
    """``[1, D, h, w]`` per level, finest first: the class tower's output."""
    class_targets: Tensor
    """``[A, 1 + C]``, 1 for the class an anchor should show; the background slot is always 0."""
    class_weights: Tensor
    """``[A, 1]``, 0 for ignored anchors, else 1."""
    box_patches: Tensor
    """``[P, D * 9]``: the box tower's output in the 3x3 cells around each matched anchor."""
    box_slots: Tensor
    """``[P]`` int64: which of its cell's anchors each matched anchor is."""
    box_targets: Tensor
    """``[P, 4]``: the codes the box head should give."""

    @property
    def num_matched(self) -> int:
        """How many anchors learn a box."""
        return len(self.box_targets)


@torch.no_grad()  # not inference_mode: the heads are fitted on these tensors
def extract_features(
    network: SsdDetector,
    image: NDArray[np.uint8],
    boxes: Tensor,
    class_ids: Tensor,
    ignored: Tensor,
) -> PhotoFeatures:
    """Run the frozen network once on a photo and keep what the heads need, in the network's precision.

    Args:
        network: folded.
        image: ``[H, W, 3]`` uint8, the upright photo.
        boxes: ``[M, 4]`` in pixels of the photo; M may be 0.
        class_ids: ``[M]`` int64.
        ignored: ``[K, 4]``: regions that teach neither way.
    """
    config, anchors, size_hw = network.config, network.anchors(), (image.shape[0], image.shape[1])
    boxes = network.to_input(boxes, size_hw)
    matches = match_anchors(
        anchors,
        boxes,
        matched_iou=config.matched_iou,
        unmatched_iou=config.unmatched_iou,
        force_match=config.force_match,
    )
    matches = _ignore(matches, anchors, network.to_input(ignored, size_hw), config.matched_iou)
    matched = (matches >= 0).nonzero()[:, 0]  # [P]
    class_targets = torch.zeros(len(anchors), config.num_classes + 1)
    class_targets[matched, class_ids[matches[matched]] + 1] = 1.0

    pyramid = network.features(network.batch_of([image]))
    return PhotoFeatures(
        class_maps=[network.class_tower(x, level) for level, x in enumerate(pyramid)],
        class_targets=class_targets,
        class_weights=(matches != IGNORED).float()[:, None],
        box_patches=_box_patches(network, pyramid, matched),
        box_slots=matched % config.anchors_per_cell,
        box_targets=encode_boxes(boxes[matches[matched]], anchors[matched], config.coder_scales),
    )


def _ignore(matches: Tensor, anchors: Tensor, ignored: Tensor, iou_threshold: float) -> Tensor:
    """Mark negatives that lie on an ignored region: nobody says what is there."""
    if len(ignored):
        on_region = pairwise_iou(ignored, anchors).amax(0) >= iou_threshold
        matches = torch.where(on_region & (matches == NEGATIVE), IGNORED, matches)
    return matches


def _box_patches(network: SsdDetector, pyramid: list[Tensor], matched: Tensor) -> Tensor:
    """The box tower's 3x3 neighbourhoods ``[P, D * 9]`` under the ``matched`` anchors ``[P]``.

    A 3x3 layer reaches one cell further, so the tower is run on the matched cells' bounding
    rectangle widened by its depth and one; inside it the result is that of the whole map.
    """
    k = network.config.anchors_per_cell
    reach = network.config.tower_layers + 1
    cells, patches, first = matched // k, [], 0
    for level, x in enumerate(pyramid):
        height, width = x.shape[-2:]
        here = cells[(cells >= first) & (cells < first + height * width)] - first
        first += height * width
        if len(here) == 0:
            continue
        rows, columns = here // width, here % width
        top, left = (max(int(i.min()) - reach, 0) for i in (rows, columns))
        bottom, right = (
            int(rows.max()) + reach + 1,
            int(columns.max()) + reach + 1,
        )  # slices stop at the border
        window = x[:, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
        columns_of_window = window.shape[-1]
        unfolded = F.unfold(network.box_tower(window, level), 3, padding=1)[0]  # [D * 9, cells]
        patches.append(unfolded[:, (rows - top) * columns_of_window + (columns - left)].T)
    # Few enough to be kept, and multiplied, in full precision.
    return torch.cat(patches).float() if patches else torch.zeros(0, network.config.tower_channels * 9)
