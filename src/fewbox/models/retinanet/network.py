"""RetinaNet with ResNet-50 and a feature pyramid, as torchvision computes it.

    photo -> prepare -> pixels -> backbone, pyramid -> two towers -> two heads -> codes, logits

Its parts have the SSD's names where they are the same idea; the weights have torchvision's, so
that a published state dict fits as it is. The differences that a port must not miss:

* The size of the input follows the photo, and with it the anchors.
* The backbone is ResNet-50 v1.5, with ReLU; padding is alike on both sides.
* There is no background column.

Coordinates inside are pixels of the resized photo. The input is that photo with zeros (after
normalisation: the mean colour) added at the right and at the bottom, so they are the input's too.

How a photo becomes the input is here twice: :meth:`RetinanetDetector.prepare`, and the same in steps of ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbox.models.boxes import clip_boxes, flatten_cells, nonempty
from fewbox.models.device import batch_for
from fewbox.models.graph_builder import GraphBuilder, Prepared, touching
from fewbox.models.layers import STAGE_CHANNELS, Conv2d, ResNet50, sigmoid_focal_loss
from fewbox.models.network import Found, TowerMaps
from fewbox.models.retinanet import RetinanetConfig
from fewbox.models.retinanet.boxes import (
    best_candidates,
    decode_corner_boxes,
    encode_corner_boxes,
    make_corner_anchors,
    suppress_within_classes,
)

CHANNEL_MEANS = (0.485, 0.456, 0.406)  # RGB of ImageNet, 0 to 1
CHANNEL_STDS = (0.229, 0.224, 0.225)


class CoarseLevels(nn.Module):
    """P6 and P7, each a strided convolution of the level before."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.p6 = Conv2d(channels_in, channels, 3, stride=2, padding=1)
        self.p7 = Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """A map of stride 32, ``[N, channels_in, h, w]``, to P6 and P7."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6))]


class Pyramid(nn.Module):
    """Maps C3, C4, C5 of the backbone to P3..P7, all of ``channels`` channels.

    Lin et al., "Feature Pyramid Networks", 2017: every level is smoothed, and a finer one is built
    from the level above it as it was before smoothing.
    """

    def __init__(self, channels: int, coarse_source: str) -> None:
        super().__init__()
        widths = STAGE_CHANNELS[1:]
        self.inner_blocks = nn.ModuleList(nn.Sequential(Conv2d(w, channels, 1)) for w in widths)
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(Conv2d(channels, channels, 3, padding=1)) for _ in widths
        )
        self.coarse_source = coarse_source
        self.extra_blocks = CoarseLevels({"c5": widths[-1], "p5": channels}[coarse_source], channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """C3, C4, C5 to P3, P4, ... finest first, level ``l`` ``[N, channels, H/2**l, W/2**l]``."""
        merged = self.inner_blocks[-1](maps[-1])
        pyramid = [self.layer_blocks[-1](merged)]
        for level in reversed(range(len(maps) - 1)):
            lateral = self.inner_blocks[level](maps[level])
            # To the finer map's size, which is not always twice the coarser one's.
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            pyramid.insert(0, self.layer_blocks[level](merged))
        coarsest = {"c5": maps[-1], "p5": pyramid[-1]}[self.coarse_source]
        pyramid.extend(self.extra_blocks(coarsest))
        return pyramid


class Backbone(nn.Module):
    """Pixels to the pyramid."""

    def __init__(self, config: RetinanetConfig) -> None:
        super().__init__()
        self.body = ResNet50(config.norm_epsilon)
        self.fpn = Pyramid(config.tower_channels, config.coarse_source)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to P3, P4, ... finest first."""
        pyramid: list[Tensor] = self.fpn(self.body(pixels))
        return pyramid


def make_tower(config: RetinanetConfig) -> nn.Sequential:
    """Convolutions shared by all levels, each followed by its group-norm, if it has one, and ReLU."""
    channels, groups = config.tower_channels, config.tower_groups
    tower = nn.Sequential()
    for _ in range(config.tower_layers):
        layer = nn.Sequential(Conv2d(channels, channels, 3, padding=1, bias=groups is None))
        if groups is not None:
            layer.append(nn.GroupNorm(groups, channels))
        tower.append(layer.append(nn.ReLU(inplace=True)))
    return tower


class ClassificationHead(nn.Module):
    """What is at each anchor: the tower and the convolution that reads it."""

    def __init__(self, config: RetinanetConfig) -> None:
        super().__init__()
        channels, k = config.tower_channels, config.anchors_per_cell
        self.conv = make_tower(config)
        self.cls_logits = Conv2d(channels, k * config.num_base, 3, padding=1)
        if config.num_novel:
            self.novel_logits = Conv2d(channels, k * config.num_novel, 3, padding=1)


class RegressionHead(nn.Module):
    """Where exactly it is: the tower and the convolution that reads it."""

    def __init__(self, config: RetinanetConfig) -> None:
        super().__init__()
        self.conv = make_tower(config)
        self.bbox_reg = Conv2d(config.tower_channels, config.anchors_per_cell * 4, 3, padding=1)


class Head(nn.Module):
    """Both branches; they share nothing but what they read."""

    def __init__(self, config: RetinanetConfig) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(config)
        self.regression_head = RegressionHead(config)


class RetinanetDetector(nn.Module):
    """The whole network for ``config.num_classes`` classes.

    Its weights are whatever they are when made; see :func:`read_retinanet` for pretrained ones.
    """

    architecture: ClassVar[str] = "retinanet_resnet50_fpn"
    novel_names: ClassVar[tuple[str, str]] = (
        "head.classification_head.novel_logits.weight",
        "head.classification_head.novel_logits.bias",
    )
    head_names: tuple[str, ...] = (
        "head.regression_head.bbox_reg.weight",
        "head.regression_head.bbox_reg.bias",
        "head.classification_head.cls_logits.weight",
        "head.classification_head.cls_logits.bias",
    )
    background_columns: ClassVar[int] = 0

    def __init__(self, config: RetinanetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.head = Head(config)
        if config.num_novel:
            self.head_names = self.novel_names
        self.eval().requires_grad_(False)

    def fold(self) -> RetinanetDetector:
        """Fold every batch-norm into its convolution and lay kernels out for the CPU; returns itself.

        The outputs stay the same. The weights can no longer be saved under their names. The towers'
        group-norms stay: they depend on the photo.
        """
        self.backbone.body.fold()
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def resized_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size a photo is resized to, its sides in about the same proportion."""
        return self.config.resized_size_hw(photo_size_hw)

    def input_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the input that :meth:`prepare` makes of a photo."""
        return self.config.input_size_of(photo_size_hw)

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """A photo ``[H, W, 3]`` RGB to the network's input ``[3, h, w]`` float32."""
        photo_size_hw = (image.shape[0], image.shape[1])
        height, width = self.resized_size_hw(photo_size_hw)
        input_h, input_w = self.input_size_hw(photo_size_hw)
        unit = torch.from_numpy(image).permute(2, 0, 1).contiguous().float() / 255  # [3, H, W]
        means, stds = (unit.new_tensor(values)[:, None, None] for values in (CHANNEL_MEANS, CHANNEL_STDS))
        normalised = ((unit - means) / stds)[None]
        resized = F.interpolate(normalised, size=(height, width), mode="bilinear", align_corners=False)[0]
        return F.pad(resized, (0, input_w - width, 0, input_h - height))

    def batch_of(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Photos, each ``[H, W, 3]``, as one batch ``[N, 3, h, w]`` in the network's precision and layout.

        Their inputs must have one size: padded to each other's, a photo's detections would depend
        on its neighbours.
        """
        weight = self.head.regression_head.bbox_reg.weight
        return batch_for(weight, [self.prepare(image) for image in images])

    def to_input(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of a photo, in pixels of the network's input."""
        return boxes * _ratios(boxes, self.resized_size_hw(photo_size_hw), photo_size_hw)

    def to_photo(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of the network's input, in pixels of the photo, clipped to it."""
        in_photo = boxes * _ratios(boxes, photo_size_hw, self.resized_size_hw(photo_size_hw))
        return clip_boxes(in_photo, photo_size_hw)

    def anchors(self, input_size_hw: tuple[int, int]) -> Tensor:
        """All anchors ``[A, 4]`` of an input, in the order of the heads' outputs."""
        return torch.cat(make_corner_anchors(input_size_hw, self.config))

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The codes ``[M, 4]`` that make ``boxes`` ``[M, 4]`` of ``anchors`` ``[M, 4]``."""
        return encode_corner_boxes(boxes, anchors)

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """The boxes ``[M, 4]`` that ``codes`` ``[M, 4]`` make of ``anchors`` ``[M, 4]``."""
        return decode_corner_boxes(codes, anchors)

    def scores(self, logits: Tensor) -> Tensor:
        """Scores ``[..., C]`` of logits ``[..., C]``."""
        return torch.sigmoid(logits.float())

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The pyramid P3, P4, ... of ``pixels`` ``[N, 3, h, w]``."""
        pyramid: list[Tensor] = self.backbone(pixels)
        return pyramid

    def class_map(self, level_map: Tensor, level: int) -> Tensor:
        """What the class head reads of a level of the pyramid; all levels are treated alike."""
        output: Tensor = self.head.classification_head.conv(level_map)
        return output

    def box_map(self, level_map: Tensor, level: int) -> Tensor:
        """What the box head reads of a level of the pyramid."""
        output: Tensor = self.head.regression_head.conv(level_map)
        return output

    @property
    def box_reach(self) -> int | None:
        """Each 3x3 layer sees one cell further; a group-norm sees the whole map."""
        return self.config.tower_layers + 1 if self.config.tower_groups is None else None

    def towers(self, pyramid: list[Tensor]) -> TowerMaps:
        """What the heads read, for every level."""
        return TowerMaps(
            [self.class_map(x, level) for level, x in enumerate(pyramid)],
            [self.box_map(x, level) for level, x in enumerate(pyramid)],
        )

    def heads(self, maps: TowerMaps) -> tuple[Tensor, Tensor]:
        """Box codes ``(tx, ty, tw, th)`` ``[N, A, 4]`` and class logits ``[N, A, C]``."""
        class_head, box_head = self.head.classification_head.cls_logits, self.head.regression_head.bbox_reg
        codes = [flatten_cells(box_head(x), 4) for x in maps.box_maps]
        c = self.config
        logits = torch.cat([flatten_cells(class_head(x), c.num_base) for x in maps.class_maps], 1)
        if c.num_novel:
            novel_head = self.head.classification_head.novel_logits
            novel = [flatten_cells(novel_head(x), c.num_novel) for x in maps.class_maps]
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
        """As :meth:`find`, of what :meth:`forward` gave for one photo, ``[A, 4]`` and ``[A, C]``."""
        boxes, scores, class_ids = self.select(codes, logits, photo_size_hw, score_threshold)
        boxes = self.to_photo(boxes, photo_size_hw)
        inside = nonempty(boxes)  # the others lie in the padding
        return Found(boxes[inside], scores[inside], class_ids[inside])

    def select(
        self, codes: Tensor, logits: Tensor, photo_size_hw: tuple[int, int], score_threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one photo: boxes ``[K, 4]`` in input pixels, scores ``[K]``, class ids ``[K]``.

        Best score first. Boxes are clipped to the resized photo *before* suppression; one that lies
        wholly in the padding comes back without area.

        Args:
            codes: ``[A, 4]``.
            logits: ``[A, C]``.
            photo_size_hw: of the photo that the input was made of.
            score_threshold: only higher scores are returned.
        """
        c = self.config
        threshold = max(score_threshold, c.score_threshold)
        anchors = make_corner_anchors(self.input_size_hw(photo_size_hw), c)
        lengths = [len(level) for level in anchors]
        codes_of, scores_of = torch.split(codes.float(), lengths), torch.split(self.scores(logits), lengths)
        found = []
        for level_codes, level_scores, level_anchors in zip(codes_of, scores_of, anchors, strict=True):
            rows, best, ids = best_candidates(
                level_scores, score_threshold=threshold, max_kept=c.max_per_level
            )
            chosen = level_codes[rows.to(codes.device)].cpu()
            found.append((self.decode(chosen, level_anchors[rows]), best, ids))
        boxes, scores, class_ids = (torch.cat(parts) for parts in zip(*found, strict=True))
        boxes = clip_boxes(boxes, self.resized_size_hw(photo_size_hw))
        kept = suppress_within_classes(
            boxes, scores, class_ids, iou_threshold=c.iou_threshold, max_kept=c.max_detections
        )
        return boxes[kept], scores[kept], class_ids[kept]

    def class_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The focal loss of every logit."""
        c = self.config
        return sigmoid_focal_loss(logits, targets, alpha=c.focal_alpha, gamma=c.focal_gamma)

    def box_loss(self, codes: Tensor, targets: Tensor) -> Tensor:
        """The absolute difference of every code."""
        return (codes - targets).abs()

    def normalizer(self, num_matched: int) -> float:
        """What the summed losses of a batch are divided by."""
        return max(num_matched, 1)

    @staticmethod
    def new_class_head(config: RetinanetConfig, generator: torch.Generator) -> dict[str, Tensor]:
        """A class head for ``config.num_classes`` that has seen nothing: it finds everything unlikely."""
        channels = config.anchors_per_cell * config.num_classes
        kernel = torch.randn((channels, config.tower_channels, 3, 3), generator=generator)
        return {
            "head.classification_head.cls_logits.weight": kernel * config.head_init_std,
            "head.classification_head.cls_logits.bias": torch.full((channels,), config.class_bias),
        }


def _ratios(boxes: Tensor, to_size_hw: tuple[int, int], from_size_hw: tuple[int, int]) -> Tensor:
    """What to multiply ``(x1, y1, x2, y2)`` with, in the precision of ``boxes``."""
    (to_h, to_w), (from_h, from_w) = to_size_hw, from_size_hw
    return boxes.new_tensor((to_w / from_w, to_h / from_h) * 2)


def prepare_steps(
    g: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: RetinanetConfig
) -> Prepared:
    """As ``RetinanetDetector.prepare``."""
    height, width = photo_hw
    is_low = g.op("LessOrEqual", height, width)
    short, long = g.number(config.min_side), g.number(config.max_side)
    frame_hw = g.op("Where", is_low, short, long), g.op("Where", is_low, long, short)
    covered_hw = touching(g, photo_hw, frame_hw)
    planes = g.to_float(g.op("Transpose", photos, perm=[0, 3, 1, 2]))
    batch, channels = g.size(photos, 0), g.number(3)
    resized = g.op(
        "Resize",
        planes,
        "",
        "",
        g.row([batch, channels, *covered_hw]),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    means, stds = (np.array(values, np.float32)[:, None, None] for values in (CHANNEL_MEANS, CHANNEL_STDS))
    normalised = g.op("Div", g.op("Sub", resized, g.constant(means * 255)), g.constant(stds * 255))
    nothing, multiple = g.number(0), g.number(config.side_multiple)
    missing = [
        g.op("Mod", g.op("Sub", multiple, g.op("Mod", side, multiple)), multiple) for side in covered_hw
    ]
    images = g.op("Pad", normalised, g.row([nothing] * 6 + missing), g.real(0))
    down, across = (
        g.op("Div", g.to_float(length), g.to_float(side))
        for length, side in zip(photo_hw, covered_hw, strict=True)
    )
    return Prepared(images, photo_hw, covered_hw, g.row([across, down, across, down]))
