"""YOLOX, the anchor-free detector with a decoupled head, as its public release computes it.

    photo -> prepare -> pixels -> backbone, neck -> two towers -> three heads -> codes, logits

Ge et al., "YOLOX: Exceeding YOLO Series in 2021". The weights have the release's names, so that its
files fit as they are. The heads are 1x1 convolutions, one set for each level, and all that
fine-tuning changes; whatever lies before them is frozen.

Every cell of every level predicts one box from where it lies: an anchor, in the words of the other
networks, is the cell itself. As published, column 0 of the logits says whether it shows any object at
all, and the score of a class is that probability times the class's own. Novel classes may have a head
of their own instead: it reads both towers, so its probability is the whole score.

Coordinates inside are pixels of the network's input: the photo resized into its top left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbox.core.boxes import nms_per_class, vote_boxes
from fewbox.models.boxes import clip_boxes, cxcywh_to_xyxy, nonempty
from fewbox.models.device import batch_for
from fewbox.models.features import Coefficients, Floats
from fewbox.models.layers import Conv2d
from fewbox.models.letterbox import letterbox, letterbox_ratio
from fewbox.models.network import Found, NetworkExtractor, TensorFeatures, TowerMaps
from fewbox.models.yolox import HEAD_CHANNELS, STAGE_CHANNELS, STRIDES, YoloxConfig, head_names
from fewbox.models.yolox.csp_darknet import ConvLayer, CspDarknet, CspLayer, conv3x3
from fewbox.models.yolox.graph import column_scale, grid_cells, novel_head


class Pafpn(nn.Module):
    """Pixels to the pyramid: down it goes what things are, and up again where they are.

    Liu et al., "Path Aggregation Network", 2018, with the stages' CSP layers in place of sums.
    """

    def __init__(self, config: YoloxConfig) -> None:
        super().__init__()
        c3, c4, c5 = map(config.channels, STAGE_CHANNELS)

        def merge(channels_in: int, channels_out: int) -> CspLayer:
            return CspLayer(config, channels_in, channels_out, config.blocks, shortcut=False)

        self.backbone = CspDarknet(config)
        self.lateral_conv0 = ConvLayer(config, c5, c4, 1)
        self.C3_p4 = merge(2 * c4, c4)
        self.reduce_conv1 = ConvLayer(config, c4, c3, 1)
        self.C3_p3 = merge(2 * c3, c3)
        self.bu_conv2 = conv3x3(config, c3, c3, stride=2)
        self.C3_n3 = merge(2 * c3, c4)
        self.bu_conv1 = conv3x3(config, c4, c4, stride=2)
        self.C3_n4 = merge(2 * c4, c5)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to maps of as many channels as C3, C4, C5 and at their strides, finest first."""
        return self.merged(*self.backbone(pixels))

    def merged(self, c3: Tensor, c4: Tensor, c5: Tensor) -> list[Tensor]:
        """The pyramid of the backbone's maps: all that follows from the backbone."""
        p5 = self.lateral_conv0(c5)
        p4 = self.reduce_conv1(self.C3_p4(torch.cat((_doubled(p5), c4), 1)))
        n3 = self.C3_p3(torch.cat((_doubled(p4), c3), 1))
        n4 = self.C3_n3(torch.cat((self.bu_conv2(n3), p4), 1))
        n5 = self.C3_n4(torch.cat((self.bu_conv1(n4), p5), 1))
        return [n3, n4, n5]


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Head(nn.Module):
    """For each level a stem, a tower for what is there, one for where exactly, and what reads them."""

    def __init__(self, config: YoloxConfig) -> None:
        super().__init__()
        channels = config.channels(HEAD_CHANNELS)

        def tower() -> nn.Sequential:
            return nn.Sequential(*(conv3x3(config, channels, channels) for _ in range(2)))

        def predictor(channels_in: int, columns: int) -> nn.Conv2d:
            return Conv2d(channels_in, columns, 1)

        self.stems = nn.ModuleList(ConvLayer(config, config.channels(c), channels, 1) for c in STAGE_CHANNELS)
        self.cls_convs = nn.ModuleList(tower() for _ in STRIDES)
        self.reg_convs = nn.ModuleList(tower() for _ in STRIDES)
        if config.num_base:
            self.cls_preds = nn.ModuleList(predictor(channels, config.num_base) for _ in STRIDES)
        self.reg_preds = nn.ModuleList(predictor(channels, 4) for _ in STRIDES)
        if config.num_base:
            self.obj_preds = nn.ModuleList(predictor(channels, 1) for _ in STRIDES)
        if config.num_novel:
            self.novel_preds = nn.ModuleList(predictor(2 * channels, config.num_novel) for _ in STRIDES)


class YoloxDetector(nn.Module):
    """The whole network for ``config.num_classes`` classes.

    Its weights are whatever they are when made; see ``checkpoint.py`` for pretrained ones.
    """

    architecture: ClassVar[str] = "yolox"

    def __init__(self, config: YoloxConfig) -> None:
        super().__init__()
        self.config = config
        self.head_names = head_names(config)
        self.backbone = Pafpn(config)
        self.head = Head(config)
        self.eval().requires_grad_(False)

    def fold(self) -> YoloxDetector:
        """Fold every batch-norm into its convolution and lay kernels out for the CPU; returns itself.

        The outputs stay the same. The weights are then those that the new ``config`` describes.
        """
        for module in self.modules():
            if isinstance(module, ConvLayer):
                module.fold()
        self.config = replace(self.config, norm_epsilon=None)
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """A photo ``[H, W, 3]`` RGB to the network's input ``[3, h, w]`` float32: 0 to 255, blue first."""
        blue_first = letterbox(image, self.config.size_hw)[..., ::-1].copy()
        return torch.from_numpy(blue_first).permute(2, 0, 1).float()

    def batch_of(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Photos, each ``[H, W, 3]``, as one batch ``[N, 3, h, w]`` in the network's precision and layout."""
        weight = self.get_parameter(self.head_names[0])
        return batch_for(weight, [self.prepare(image) for image in images])

    def to_input(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of a photo, in pixels of the network's input."""
        return boxes * letterbox_ratio(photo_size_hw, self.config.size_hw)

    def to_photo(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of the network's input, in pixels of the photo, clipped to it."""
        return clip_boxes(boxes / letterbox_ratio(photo_size_hw, self.config.size_hw), photo_size_hw)

    def input_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the input made of a photo: always the same."""
        return self.config.size_hw

    def anchors(self, input_size_hw: tuple[int, int]) -> Tensor:
        """All cells ``[A, 4]`` of an input, in the order of the heads' outputs."""
        return make_cells(input_size_hw)

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """The boxes ``[..., M, 4]`` that ``codes`` ``[..., M, 4]`` make of ``anchors`` ``[M, 4]``."""
        return decode_cells(codes, anchors)

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The pyramid, finest level first, of ``pixels`` ``[N, 3, h, w]``."""
        pyramid: list[Tensor] = self.backbone(pixels)
        return pyramid

    def towers(self, pyramid: list[Tensor]) -> TowerMaps:
        """What the heads read, for every level."""
        head = self.head
        inputs = [stem(x) for stem, x in zip(head.stems, pyramid, strict=True)]
        return TowerMaps(
            [tower(x) for tower, x in zip(head.cls_convs, inputs, strict=True)],
            [tower(x) for tower, x in zip(head.reg_convs, inputs, strict=True)],
        )

    def heads(self, maps: TowerMaps) -> tuple[Tensor, Tensor]:
        """Box codes ``[N, A, 4]`` and logits, for :meth:`scores`.

        Logits are ``[N, A, 1 + C]``: of any object, then of each class. The first column is not there
        if all classes are novel.
        """
        head, (class_maps, box_maps) = self.head, maps
        codes, columns = _apply(head.reg_preds, box_maps), []  # codes first: the order in ONNX files
        if self.config.num_base:
            columns += [_apply(head.obj_preds, box_maps), _apply(head.cls_preds, class_maps)]
        if self.config.num_novel:
            both = [torch.cat(pair, 1) for pair in zip(class_maps, box_maps, strict=True)]
            columns.append(_apply(head.novel_preds, both))
        return codes, torch.cat(columns, 2)

    def scores(self, logits: Tensor) -> Tensor:
        """Scores ``[..., C]`` float32 of logits ``[..., 1 + C]``, or ``[..., C]`` if all are novel."""
        probabilities = torch.sigmoid(logits.float())
        base = self.config.num_base
        if base == 0:
            return probabilities
        of_base = probabilities[..., :1] * probabilities[..., 1 : 1 + base]
        return torch.cat((of_base, probabilities[..., 1 + base :]), -1)

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
        """As :meth:`find`, of what :meth:`forward` gave for one photo, ``[A, 4]`` and ``[A, ...]``."""
        anchors = self.anchors(self.config.size_hw)
        boxes, scores, class_ids = self.select(codes, logits, anchors, score_threshold)
        boxes = self.to_photo(boxes, photo_size_hw)
        inside = nonempty(boxes)  # the others lie in the padding
        return Found(boxes[inside], scores[inside], class_ids[inside])

    def select(
        self, codes: Tensor, logits: Tensor, anchors: Tensor, score_threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one photo: boxes ``[K, 4]`` in input pixels, scores ``[K]``, class ids ``[K]``.

        Best score first. A cell stands for one object, of its likeliest class; novel classes compete
        among themselves, so that the base's are found as they were without them. Boxes are not clipped.

        Args:
            codes: ``[A, 4]``.
            logits: ``[A, 1 + C]``, or as :meth:`scores`.
            anchors: ``[A, 4]``.
            score_threshold: only higher scores are returned. Where the returned boxes are does not depend on
                it: all cells above the threshold of the config have a say.
        """
        c = self.config
        threshold = max(score_threshold, c.score_threshold)
        parts = torch.split(self.scores(logits), [c.num_base, c.num_novel], 1)
        scores = torch.cat([_likeliest_alone(part) for part in parts if part.shape[1]], 1)  # [A, C]
        lowest = threshold if c.vote_iou is None else c.score_threshold
        candidates = (scores > lowest).any(1).nonzero()[:, 0]
        # Few are left; what follows is done on the processor.
        codes, scores = codes[candidates].float().cpu(), scores[candidates].cpu()
        boxes = self.decode(codes, anchors[candidates.cpu()]).numpy()
        index, class_ids = nms_per_class(
            boxes,
            scores.numpy(),
            score_threshold=threshold,
            iou_threshold=c.iou_threshold,
            max_per_class=c.max_detections,
            max_detections=c.max_detections,
        )
        kept = boxes[index]
        if c.vote_iou is not None:
            novel = class_ids >= c.num_base
            kept[novel] = vote_boxes(boxes, scores.numpy(), index[novel], class_ids[novel], c.vote_iou)
        chosen, chosen_ids = torch.from_numpy(index), torch.from_numpy(class_ids)
        return torch.from_numpy(kept), scores[chosen, chosen_ids], chosen_ids

    @staticmethod
    def new_class_head(config: YoloxConfig, generator: torch.Generator) -> dict[str, Tensor]:
        """A class head for ``config.num_classes`` that has seen nothing: it finds everything unlikely.

        As in the public release: kernels are drawn as PyTorch draws those of any new convolution.
        Whether a cell shows an object at all is for another head, which knows more than the new classes.
        """
        channels = config.channels(HEAD_CHANNELS)
        weights = {}
        for level in range(len(STRIDES)):
            kernel = torch.rand((config.num_classes, channels, 1, 1), generator=generator)
            weights[f"head.cls_preds.{level}.weight"] = (2 * kernel - 1) / channels**0.5
            weights[f"head.cls_preds.{level}.bias"] = torch.full((config.num_classes,), config.class_bias)
        return weights


def make_cells(size_hw: tuple[int, int]) -> Tensor:
    """Every cell ``[A, 4]`` as a box in pixels of an input of ``size_hw``: level by level, row by row."""
    return torch.from_numpy(grid_cells(size_hw))


def decode_cells(codes: Tensor, cells: Tensor) -> Tensor:
    """Boxes ``[..., M, 4]`` that the codes ``(tx, ty, tw, th)`` ``[..., M, 4]`` make of ``cells`` ``[M, 4]``.

    A centre is counted from the cell's top left corner in sides of the cell; a size is the side times
    ``exp`` of its code (Ge et al., 2021, section 2.1, and the public release).
    """
    corners, sides = cells[:, :2], cells[:, 2:] - cells[:, :2]
    return cxcywh_to_xyxy(torch.cat((codes[..., :2] * sides + corners, codes[..., 2:].exp() * sides), -1))


def _apply(predictors: nn.ModuleList, maps: list[Tensor]) -> Tensor:
    """One kind of head on the maps ``[N, D, h, w]`` of all levels: ``[N, A, columns]``."""
    outputs = [predict(x).flatten(2).transpose(1, 2) for predict, x in zip(predictors, maps, strict=True)]
    return torch.cat(outputs, 1)


def _likeliest_alone(scores: Tensor) -> Tensor:
    """Scores ``[A, C]`` with all but the highest of each row set to 0."""
    best, best_ids = scores.max(1)
    return best[:, None] * F.one_hot(best_ids, scores.shape[1])


class YoloxFeatureExtractor(NetworkExtractor):
    """Reads the cells of a YOLOX; a group is a level.

    The columns are linear in the towers, so what is learnt on them is a 1x1 convolution of both.

    Args:
        network: the base's own, folded.
    """

    num_groups = len(STRIDES)

    def __init__(self, network: YoloxDetector) -> None:
        super().__init__(network)
        self.column_scale = column_scale(network.config.num_classes)

    def _read(self, image: NDArray[np.uint8]) -> TensorFeatures:
        """One pass over a picture ``[H, W, 3]``; the last base logit is the base's objectness."""
        network = self.network
        pixels = network.batch_of([image])
        maps = network.towers(network.features(pixels))
        codes, logits = network.heads(maps)
        logits = logits[0].float()
        towers = [torch.cat(pair, 1)[0].flatten(1).T for pair in zip(*maps, strict=True)]
        size_hw = (pixels.shape[2], pixels.shape[3])
        return TensorFeatures(
            base_logits=torch.cat((logits[:, 1:], logits[:, :1]), 1),
            cells=torch.cat(towers),
            groups=np.repeat(np.arange(len(towers)), [len(level) for level in towers]),
            boxes=decode_cells(codes[0].float().cpu(), network.anchors(size_hw)).numpy(),
            base_score=logits[:, 0].cpu().numpy(),
        )

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Floats]:
        """The 1x1 convolution of both towers for every level; the base's heads are others, kept or not."""
        state = self.network.state_dict()
        return novel_head(
            coefficients, {name: weight.float().cpu().numpy() for name, weight in state.items()}
        )
