"""What a photo looks like to the heads of an anchor network: frozen features, and what they should answer.

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

from fewbox.models.boxes import pairwise_iou
from fewbox.models.matching import IGNORED, NEGATIVE, match_anchors
from fewbox.models.network import AnchorNetwork


@dataclass(frozen=True)
class PhotoFeatures:
    """One photo's frozen features and targets. P is the number of its matched anchors."""

    class_maps: list[Tensor]
    """``[1, D, h, w]`` per level, finest first: the class tower's output."""
    class_targets: Tensor
    """``[A, B + C]``, 1 for the class an anchor should show; the B background columns are always 0."""
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
    network: AnchorNetwork,
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
    config, size_hw = network.config, (image.shape[0], image.shape[1])
    anchors, boxes = network.anchors(network.input_size_hw(size_hw)), network.to_input(boxes, size_hw)
    matches = match_anchors(
        anchors,
        boxes,
        matched_iou=config.matched_iou,
        unmatched_iou=config.unmatched_iou,
        force_match=config.force_match,
    )
    matches = _ignore(matches, anchors, network.to_input(ignored, size_hw), config.matched_iou)
    matched = (matches >= 0).nonzero()[:, 0]  # [P]
    class_targets = torch.zeros(len(anchors), network.background_columns + config.num_classes)
    class_targets[matched, network.background_columns + class_ids[matches[matched]]] = 1.0

    pyramid = network.features(network.batch_of([image]))
    return PhotoFeatures(
        class_maps=[network.class_map(x, level) for level, x in enumerate(pyramid)],
        class_targets=class_targets,
        class_weights=(matches != IGNORED).float()[:, None],
        box_patches=_box_patches(network, pyramid, matched),
        box_slots=matched % config.anchors_per_cell,
        box_targets=network.encode(boxes[matches[matched]], anchors[matched]),
    )


def _ignore(matches: Tensor, anchors: Tensor, ignored: Tensor, iou_threshold: float) -> Tensor:
    """Mark negatives that lie on an ignored region: nobody says what is there."""
    if len(ignored):
        on_region = pairwise_iou(ignored, anchors).amax(0) >= iou_threshold
        matches = torch.where(on_region & (matches == NEGATIVE), IGNORED, matches)
    return matches


def _box_patches(network: AnchorNetwork, pyramid: list[Tensor], matched: Tensor) -> Tensor:
    """What the box head reads, the 3x3 cells ``[P, D * 9]`` around each of the ``matched`` anchors ``[P]``.

    The tower is run on the matched cells' bounding rectangle widened by its reach; inside it the
    result is that of the whole map.
    """
    cells = matched // network.config.anchors_per_cell
    patches, first = [], 0
    for level, level_map in enumerate(pyramid):
        height, width = level_map.shape[-2:]
        here = cells[(cells >= first) & (cells < first + height * width)] - first
        first += height * width
        if len(here) == 0:
            continue
        rows, columns = here // width, here % width
        window, top, left = _window(level_map, rows, columns, network.box_reach)
        unfolded = F.unfold(network.box_map(window, level), 3, padding=1)[0]  # [D * 9, cells of the window]
        patches.append(unfolded[:, (rows - top) * window.shape[-1] + (columns - left)].T)
    # Few enough to be kept, and multiplied, in full precision.
    return torch.cat(patches).float() if patches else torch.zeros(0, network.config.tower_channels * 9)


def _window(level_map: Tensor, rows: Tensor, columns: Tensor, reach: int | None) -> tuple[Tensor, int, int]:
    """The part of a map that some cells depend on, and the row and column it begins at."""
    if reach is None:
        return level_map, 0, 0
    top, left = (max(int(cells.min()) - reach, 0) for cells in (rows, columns))
    bottom, right = (int(cells.max()) + reach + 1 for cells in (rows, columns))  # slices stop at the border
    window = level_map[:, :, top:bottom, left:right]
    return window.contiguous(memory_format=torch.channels_last), top, left
