"""The SSD detector with a ResNet and a feature pyramid, as the Object Detection API computes it.

    photo -> prepare -> pixels -> backbone, pyramid -> two towers -> two heads -> codes, logits

The heads are one 3x3 convolution each, shared by all levels, and all that the seed recipe
tunes; whatever lies before them is frozen. Class slot 0 of the class head is a background
slot: it exists in the weights and in the loss and nowhere outside this module.

Coordinates inside are pixels of the network's input. Boxes of a photo become such by
:meth:`SsdDetector.to_input` and come back by :meth:`SsdDetector.to_photo`.

What an exported graph does before and after the network stands at the end, in steps of ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbox.core.boxes import nms_per_class
from fewbox.models.boxes import clip_boxes, decode_boxes, encode_boxes, flatten_cells, make_anchors, nonempty
from fewbox.models.device import batch_for
from fewbox.models.graph_builder import (
    GraphBuilder,
    Prepared,
    Rows,
    classes_first,
    neighbours_within,
    nms_steps,
)
from fewbox.models.layers import (
    STAGE_CHANNELS,
    Conv2d,
    FeaturePyramid,
    FrozenBatchNorm,
    ResNet,
    folded,
    huber_loss,
    sigmoid_focal_loss,
)
from fewbox.models.network import Found, TowerMaps
from fewbox.models.ssd import SsdConfig

CHANNEL_MEANS = (123.68, 116.779, 103.939)  # RGB means of ImageNet, subtracted from 0..255, not divided


class Tower(nn.Module):
    """Convolutions shared by all levels, each followed by the level's own batch-norm and ReLU6."""

    def __init__(self, channels_in: int, channels: int, layers: int, levels: int, epsilon: float) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * layers
        self.convs = nn.ModuleList(Conv2d(w, channels, 3, padding=1, bias=False) for w in widths[:-1])
        self.norms = nn.ModuleList(
            nn.ModuleList(FrozenBatchNorm(channels, epsilon) for _ in range(layers)) for _ in range(levels)
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        """``[N, D_in, h, w]`` of the pyramid to ``[N, D, h, w]``; ``level`` 0 is the finest."""
        norms = self.norms[level]
        assert isinstance(norms, nn.ModuleList)
        for conv, norm in zip(self.convs, norms, strict=True):
            x = F.relu6(norm(conv(x)), inplace=True)
        return x


class FoldedTower(nn.Module):
    """The same tower with each level's batch-norm folded into its own copy of the kernels."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for norms in tower.norms:
            assert isinstance(norms, nn.ModuleList)
            layers = nn.Sequential()
            for conv, norm in zip(tower.convs, norms, strict=True):
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(norm, FrozenBatchNorm)
                kernel, bias = folded(conv.weight, norm)
                layer = Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, device="meta")
                layer.weight, layer.bias = nn.Parameter(kernel, False), nn.Parameter(bias, False)
                layers.extend((layer, nn.ReLU6(inplace=True)))
            self.levels.append(layers)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """As :meth:`Tower.forward`."""
        output: Tensor = self.levels[level](x)
        return output


class SsdDetector(nn.Module):
    """The whole network for ``config.num_classes`` classes.

    Its weights are whatever they are when made; see ``models/base.py`` for pretrained ones.
    """

    architecture: ClassVar[str] = "ssd_resnet_fpn"
    novel_names: ClassVar[tuple[str, str]] = ("novel_head.weight", "novel_head.bias")
    head_names: tuple[str, ...] = (
        "box_head.weight",
        "box_head.bias",
        "class_head.weight",
        "class_head.bias",
    )
    background_columns: ClassVar[int] = 1

    def __init__(self, config: SsdConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNet(config.backbone_depth, config.extractor_norm_epsilon)
        self.pyramid = FeaturePyramid(
            STAGE_CHANNELS[1:], config.fpn_channels, config.max_level, config.extractor_norm_epsilon
        )
        shape = (config.fpn_channels, config.tower_channels, config.tower_layers, len(config.levels))
        self.class_tower: Tower | FoldedTower = Tower(*shape, config.tower_norm_epsilon)
        self.box_tower: Tower | FoldedTower = Tower(*shape, config.tower_norm_epsilon)
        k = config.anchors_per_cell
        self.class_head = Conv2d(config.tower_channels, k * (config.num_base + 1), 3, padding=1)
        if config.num_novel:
            self.novel_head = Conv2d(config.tower_channels, k * config.num_novel, 3, padding=1)
            self.head_names = self.novel_names
        self.box_head = Conv2d(config.tower_channels, k * 4, 3, padding=1)
        self.eval().requires_grad_(False)

    def fold(self) -> SsdDetector:
        """Fold every batch-norm into its convolution and lay kernels out for the CPU; returns itself.

        The outputs stay the same. The weights can no longer be saved under their names.
        """
        for module in list(self.modules()):
            fold = getattr(module, "fold", None)
            if module is not self and fold is not None:
                fold()
        for name in ("class_tower", "box_tower"):
            tower = getattr(self, name)
            if isinstance(tower, Tower):
                setattr(self, name, FoldedTower(tower))
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """A photo ``[H, W, 3]`` RGB to the network's input ``[3, h, w]`` float32 (``h, w = size_hw``)."""
        resized = resize_bilinear_legacy(torch.from_numpy(image), self.config.size_hw)  # [h, w, 3]
        return (resized - resized.new_tensor(CHANNEL_MEANS)).permute(2, 0, 1)

    def batch_of(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Photos, each ``[H, W, 3]``, as one batch ``[N, 3, h, w]`` in the network's precision and layout."""
        return batch_for(self.box_head.weight, [self.prepare(image) for image in images])

    def to_input(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of a photo, in pixels of the network's input."""
        return boxes * (1 / self._photo_per_input(boxes, photo_size_hw))

    def to_photo(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of the network's input, in pixels of the photo, clipped to it."""
        return clip_boxes(boxes * self._photo_per_input(boxes, photo_size_hw), photo_size_hw)

    def _photo_per_input(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        (photo_h, photo_w), (h, w) = photo_size_hw, self.config.size_hw
        return boxes.new_tensor((photo_w / w, photo_h / h) * 2)

    def input_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the input made of a photo: always the same."""
        return self.config.size_hw

    def anchors(self, input_size_hw: tuple[int, int]) -> Tensor:
        """All anchors ``[A, 4]`` of an input, in the order of the heads' outputs."""
        c = self.config
        return make_anchors(
            input_size_hw,
            c.levels,
            anchor_scale=c.anchor_scale,
            aspect_ratios=c.aspect_ratios,
            scales_per_octave=c.scales_per_octave,
        )

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The codes ``[M, 4]`` that make ``boxes`` ``[M, 4]`` of ``anchors`` ``[M, 4]``."""
        return encode_boxes(boxes, anchors, self.config.coder_scales)

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """The boxes ``[M, 4]`` that ``codes`` ``[M, 4]`` make of ``anchors`` ``[M, 4]``."""
        return decode_boxes(codes, anchors, self.config.coder_scales)

    def scores(self, logits: Tensor) -> Tensor:
        """Scores ``[..., C]`` of logits ``[..., 1 + C]``: the background's are left out."""
        return torch.sigmoid(logits[..., 1:].float())

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The pyramid P3, P4, ... of ``pixels`` ``[N, 3, h, w]``."""
        pyramid: list[Tensor] = self.pyramid(self.backbone(pixels))
        return pyramid

    def class_map(self, level_map: Tensor, level: int) -> Tensor:
        """What the class head reads of a level of the pyramid, 0 being the finest."""
        output: Tensor = self.class_tower(level_map, level)
        return output

    def box_map(self, level_map: Tensor, level: int) -> Tensor:
        """What the box head reads of a level of the pyramid."""
        output: Tensor = self.box_tower(level_map, level)
        return output

    @property
    def box_reach(self) -> int | None:
        """Each 3x3 layer of the tower, and the head, sees one cell further."""
        return self.config.tower_layers + 1

    def towers(self, pyramid: list[Tensor]) -> TowerMaps:
        """What the heads read, for every level."""
        return TowerMaps(
            [self.class_map(x, level) for level, x in enumerate(pyramid)],
            [self.box_map(x, level) for level, x in enumerate(pyramid)],
        )

    def heads(self, maps: TowerMaps) -> tuple[Tensor, Tensor]:
        """Box codes ``[N, A, 4]`` and class logits ``[N, A, 1 + C]`` (slot 0 is background)."""
        codes = [flatten_cells(self.box_head(x), 4) for x in maps.box_maps]
        c = self.config
        logits = torch.cat([flatten_cells(self.class_head(x), c.num_base + 1) for x in maps.class_maps], 1)
        if c.num_novel:
            novel = [flatten_cells(self.novel_head(x), c.num_novel) for x in maps.class_maps]
            logits = torch.cat((logits, torch.cat(novel, 1)), 2)
        return torch.cat(codes, 1), logits

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and logits, as :meth:`heads`, of ``pixels`` ``[N, 3, h, w]``."""
        return self.heads(self.towers(self.features(pixels)))

    @torch.inference_mode()
    def find(self, image: NDArray[np.uint8], score_threshold: float) -> Found:
        """The objects in a photo ``[H, W, 3]`` RGB whose score is above the threshold."""
        codes, logits = self(self.batch_of([image]))
        return self.found(codes[0], logits[0], (image.shape[0], image.shape[1]), score_threshold)

    def found(
        self, codes: Tensor, logits: Tensor, photo_size_hw: tuple[int, int], score_threshold: float
    ) -> Found:
        """As :meth:`find`, of what :meth:`forward` gave for one photo, ``[A, 4]`` and ``[A, 1 + C]``."""
        anchors = self.anchors(self.config.size_hw)
        boxes, scores, class_ids = self.select(codes, logits, anchors, score_threshold)
        return Found(self.to_photo(boxes, photo_size_hw), scores, class_ids)

    def select(
        self, codes: Tensor, logits: Tensor, anchors: Tensor, score_threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one photo: boxes ``[K, 4]`` in input pixels, scores ``[K]``, class ids ``[K]``.

        Best score first. Only anchors with a score above the threshold are decoded. Boxes wholly
        outside the input are dropped, the others are not clipped yet, as the suppression compares
        whole boxes.

        Args:
            codes: ``[A, 4]``.
            logits: ``[A, 1 + C]``.
            anchors: ``[A, 4]``.
            score_threshold: only higher scores are returned.
        """
        c = self.config
        threshold = max(score_threshold, c.score_threshold)
        scores = self.scores(logits)  # [A, C]
        candidates = (scores > threshold).any(1).nonzero()[:, 0]
        # Few are left; what follows is done on the processor.
        codes, scores = codes[candidates].float().cpu(), scores[candidates].cpu()
        boxes = self.decode(codes, anchors[candidates.cpu()])
        index, class_ids = nms_per_class(
            boxes.numpy(),
            scores.numpy(),
            score_threshold=threshold,
            iou_threshold=c.iou_threshold,
            max_per_class=c.max_per_class,
            max_detections=c.max_detections,
        )
        chosen, chosen_ids = torch.from_numpy(index), torch.from_numpy(class_ids)
        boxes, scores = boxes[chosen], scores[chosen, chosen_ids]
        inside = nonempty(clip_boxes(boxes, c.size_hw))
        return boxes[inside], scores[inside], chosen_ids[inside]

    def class_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The focal loss of every logit."""
        c = self.config
        return c.class_weight * sigmoid_focal_loss(logits, targets, alpha=c.focal_alpha, gamma=c.focal_gamma)

    def box_loss(self, codes: Tensor, targets: Tensor) -> Tensor:
        """The Huber loss of every code."""
        c = self.config
        weight = c.box_weight / (4 if c.normalize_by_code_size else 1)
        return weight * huber_loss(codes, targets, delta=c.huber_delta)

    def normalizer(self, num_matched: int) -> float:
        """What the summed losses of a batch are divided by."""
        return max(num_matched, 1) if self.config.normalize_by_matches else 1

    @staticmethod
    def new_class_head(config: SsdConfig, generator: torch.Generator) -> dict[str, Tensor]:
        """A class head for ``config.num_classes`` that has seen nothing: it finds everything unlikely.

        Kernels are drawn from a normal distribution and the bias starts low (Lin et al., "Focal
        Loss", 2017, section 4.1), both as the base's ``pipeline.config`` says.
        """
        channels = config.anchors_per_cell * (config.num_classes + 1)
        kernel = torch.randn((channels, config.tower_channels, 3, 3), generator=generator)
        return {
            "class_head.weight": kernel * config.head_init_std,
            "class_head.bias": torch.full((channels,), config.class_bias),
        }


def resize_bilinear_legacy(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize ``[H, W, D]`` to ``[h, w, D]`` float32 as TensorFlow 1 did.

    Output pixel ``i`` reads position ``i * in / out`` (corner to corner, no half-pixel shift, no
    smoothing when shrinking): ``tf.compat.v1.image.resize_bilinear`` with both flags off.
    """
    for axis, out in enumerate(size_hw):
        length = image.shape[axis]
        position = torch.arange(out, dtype=torch.float32) * (length / out)
        low = position.floor().long().clamp(max=length - 1)
        high = (low + 1).clamp(max=length - 1)
        fraction = (position - low).reshape([-1] + [1] * (2 - axis))
        image = torch.lerp(
            image.index_select(axis, low).float(), image.index_select(axis, high).float(), fraction
        )
    return image


def prepare_steps(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: SsdConfig) -> Prepared:
    """As ``SsdDetector.prepare``: see its ``resize_bilinear_legacy``."""
    size_hw = config.size_hw
    image = photos
    for axis, (length, out) in enumerate(zip(photo_hw, size_hw, strict=True), start=1):
        counted = g.constant(np.arange(out, dtype=np.float32))
        position = g.op("Mul", counted, g.op("Div", g.to_float(length), g.real(out)))
        low = g.op("Floor", position)
        fraction = g.op("Unsqueeze", g.op("Sub", position, low), g.numbers(*range(1, 4 - axis)))
        first, second = (
            g.to_float(g.op("Gather", image, rows, axis=axis))
            for rows in neighbours_within(g, g.to_int(low), length)
        )
        image = g.op("Add", first, g.op("Mul", g.op("Sub", second, first), fraction))
    centred = g.op("Sub", image, g.constant(np.array(CHANNEL_MEANS, np.float32)))
    height, width = (
        g.op("Div", g.to_float(length), g.real(side)) for length, side in zip(photo_hw, size_hw, strict=True)
    )
    images = g.op("Transpose", centred, perm=[0, 3, 1, 2])
    return Prepared(images, photo_hw, None, g.row([width, height, width, height]))


def select_steps(
    g: GraphBuilder, _: Prepared, boxes: str, scores: str, threshold: str, config: SsdConfig
) -> Rows:
    """As ``SsdDetector.find``."""
    return nms_steps(g, boxes, classes_first(g, scores), threshold, config, config.max_per_class)
