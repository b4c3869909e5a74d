"""What is learnt of an SSD or a RetinaNet: by the linear probe, and by the seed recipe.

AnchorFeatures from a network with anchors: what its class head answers, and the class tower under it.

The box tower is left out: the class head, whose place the novel head takes, does not read it.

What a photo looks like to the heads of an anchor network: frozen features, and what they should answer.

Everything before the heads is frozen, so for one photo it is a constant. It is computed
once here; fitting then touches nothing else. Two facts keep it small and exact:

* the class loss is over every anchor, so the class tower's maps are kept whole;
* the box loss is over matched anchors only (elsewhere its gradient is zero), so of the box
  tower only the 3x3 neighbourhoods under matched anchors are kept, and the tower is run
  only on the part of the map that they depend on.

The two convolutions of an anchor network that are tuned, applied to cached features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fewbox.models.boxes import IGNORED, NEGATIVE, flatten_cells, match_anchors, pairwise_iou
from fewbox.models.device import device_of
from fewbox.models.features import Coefficients, Floats
from fewbox.models.network import AnchorNetwork, Losses, NetworkExtractor, TensorFeatures
from fewbox.models.weights import Weight


class AnchorFeatureExtractor(NetworkExtractor):
    """Reads the anchors of an SSD or a RetinaNet; the head is shared by all levels, so there is one group.

    Raw columns are the cell of the class tower that the anchor lies on. The base's class head reads
    the eight cells around it too; what is learnt on its answers reads them in the same way.

    Args:
        network: the base's own, folded.
    """

    num_groups = 1

    def __init__(self, network: AnchorNetwork) -> None:
        super().__init__(network)
        self.column_scale = np.ones(network.config.num_classes, np.float32)

    def _read(self, image: NDArray[np.uint8]) -> TensorFeatures:
        """One pass over a picture ``[H, W, 3]``; the base logits are those of the base's classes."""
        network = self.network
        maps = network.towers(network.features(network.batch_of([image])))
        codes, logits = network.heads(maps)
        anchors = network.anchors(network.input_size_hw((image.shape[0], image.shape[1])))
        base_logits = logits[0, :, network.background_columns :].float()
        return TensorFeatures(
            base_logits=base_logits,
            cells=torch.cat([level[0].flatten(1).T for level in maps.class_maps]),
            groups=np.zeros(len(anchors), np.int64),
            boxes=network.decode(codes[0].float().cpu(), anchors).numpy(),
            base_score=base_logits.amax(1).cpu().numpy(),
        )

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Floats]:
        """The 3x3 class head, or the one beside it; its background, which no score reads, is 0."""
        network, state = self.network, self.network.state_dict()
        names = network.head_names[2:]
        background, slots = network.background_columns, network.config.anchors_per_cell
        weight, bias = (state[name].float().cpu().numpy() for name in names)
        weight = weight.reshape(slots, -1, *weight.shape[1:])[:, background:]  # [k, Cb, D, 3, 3]
        bias = bias.reshape(slots, -1)[:, background:]  # [k, Cb]
        kernel = np.einsum("bc,kbdyx->kcdyx", coefficients.base_logits, weight, optimize=True)
        kernel[..., 1, 1] += coefficients.tower_features[0].T
        offset = bias @ coefficients.base_logits + coefficients.bias  # [k, C]
        if not keep_classes:
            kernel, offset = (
                np.concatenate((np.zeros((slots, background, *part.shape[2:]), np.float32), part), 1)
                for part in (kernel, offset)
            )
        values = kernel.reshape(-1, *kernel.shape[2:]), offset.reshape(-1)
        return dict(zip(network.novel_names if keep_classes else names, values, strict=True))


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
def features_of_photo(
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
    device = pyramid[0].device
    return PhotoFeatures(
        class_maps=[network.class_map(x, level) for level, x in enumerate(pyramid)],
        class_targets=class_targets.to(device),
        class_weights=(matches != IGNORED).float()[:, None].to(device),
        box_patches=_box_patches(network, pyramid, matched),
        box_slots=(matched % config.anchors_per_cell).to(device),
        box_targets=network.encode(boxes[matches[matched]], anchors[matched]).to(device),
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
        inside = (rows - top) * window.shape[-1] + (columns - left)
        patches.append(unfolded[:, inside.to(unfolded.device)].T)
    if not patches:
        return pyramid[0].new_zeros((0, network.config.tower_channels * 9), dtype=torch.float32)
    return torch.cat(patches).float()  # few enough to be kept, and multiplied, in full precision


def _window(level_map: Tensor, rows: Tensor, columns: Tensor, reach: int | None) -> tuple[Tensor, int, int]:
    """The part of a map that some cells depend on, and the row and column it begins at."""
    if reach is None:
        return level_map, 0, 0
    top, left = (max(int(cells.min()) - reach, 0) for cells in (rows, columns))
    bottom, right = (int(cells.max()) + reach + 1 for cells in (rows, columns))  # slices stop at the border
    window = level_map[:, :, top:bottom, left:right]
    return window.contiguous(memory_format=torch.channels_last), top, left


class AnchorHeads:
    """The last 3x3 convolution of each branch of an anchor network, shared by all levels.

    Args:
        network: gives the losses.
        weights: the four of ``network.head_names``; copied.
    """

    step_scale: ClassVar[float] = 1.0

    def __init__(self, network: AnchorNetwork, weights: Mapping[str, Weight]) -> None:
        self.network = network
        device = device_of(network)
        self.parameters = [
            torch.as_tensor(weights[name], dtype=torch.float32, device=device).clone().requires_grad_()
            for name in network.head_names
        ]
        self.box_weight, self.box_bias, self.class_weight, self.class_bias = self.parameters

    def features(
        self, image: NDArray[np.uint8], boxes: Tensor, class_ids: Tensor, ignored: Tensor
    ) -> PhotoFeatures:
        """What the heads need of a photo; see :func:`features_of_photo`."""
        return features_of_photo(self.network, image, boxes, class_ids, ignored)

    def tensors(self) -> dict[str, Tensor]:
        """The weights under their names in the network, detached, on the processor."""
        pairs = zip(self.network.head_names, self.parameters, strict=True)
        return {name: value.detach().contiguous().cpu() for name, value in pairs}

    def class_logits(self, photo: PhotoFeatures) -> Tensor:
        """Logits of every anchor of a photo, ``[A, B + C]`` float32."""
        dtype = photo.class_maps[0].dtype
        weight = self.class_weight.to(dtype).contiguous(memory_format=torch.channels_last)
        bias = self.class_bias.to(dtype)
        maps = [F.conv2d(x, weight, bias, padding=1) for x in photo.class_maps]
        return torch.cat([flatten_cells(x, photo.class_targets.shape[1])[0] for x in maps]).float()

    def box_codes(self, photo: PhotoFeatures) -> Tensor:
        """Codes of the matched anchors of a photo, ``[P, 4]``."""
        all_slots = F.linear(photo.box_patches, self.box_weight.flatten(1), self.box_bias)  # [P, k * 4]
        per_slot = all_slots.reshape(photo.num_matched, self.network.config.anchors_per_cell, 4)
        rows = torch.arange(photo.num_matched, device=per_slot.device)
        return per_slot[rows, photo.box_slots]

    def loss(self, batch: Sequence[PhotoFeatures]) -> Losses:
        """The loss over a batch; matched anchors are counted over the whole batch, as the seed does."""
        classification, localization = [], []
        for photo in batch:
            loss = self.network.class_loss(self.class_logits(photo), photo.class_targets)
            classification.append((loss * photo.class_weights).sum())
            localization.append(self.network.box_loss(self.box_codes(photo), photo.box_targets).sum())
        normalizer = self.network.normalizer(sum(photo.num_matched for photo in batch))
        return Losses(
            classification=torch.stack(classification).sum() / normalizer,
            localization=torch.stack(localization).sum() / normalizer,
        )
