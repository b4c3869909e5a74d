"""A RetinaNet as torchvision computes it: its settings, the two that are published, and how a file is read.

Lin et al., "Focal Loss", 2017, by the numbers of the public release. The second version came five
years later and is 5 AP better. It differs in how it was trained and, in the network, in three
places: those are the fields without a default.

Two spellings are about of the names in a file. Since its second version torchvision wraps every convolution
of the pyramid and of the towers: ``conv.1.0.weight`` is what ``conv.2.weight`` was, as the ReLUs between were
counted too. The network has the later names; the file of the first version has the earlier ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fewbox.models.families import AnchorFamily, Config, weight_shapes
from fewbox.models.letterbox import touching_size_hw

if TYPE_CHECKING:
    from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows
    from fewbox.models.weights import Weight


@dataclass(frozen=True)
class RetinanetConfig(Config):
    """What shapes the network, its targets and its post-processing."""

    norm_epsilon: float
    """Of the batch-norms of the backbone."""
    tower_groups: int | None
    """Groups of the group-norm after each convolution of a tower; with None a bias stands in its place."""
    coarse_source: Literal["p5", "c5"]
    """What P6 is computed from: the pyramid's coarsest map, or the backbone's."""
    num_classes: int = 91
    """Columns of the class head. There is no background column: the scores are independent."""
    tower_layers: int = 4
    tower_channels: int = 256
    """Of the towers, and of the pyramid they read."""
    anchor_scale: float = 4.0
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width."""
    scales_per_octave: int = 3
    min_side: int = 800
    """What the short side of a photo is resized to, if the long side allows it."""
    max_side: int = 1333
    """What the long side of a photo may be resized to."""
    side_multiple: int = 32
    """The sides of the input are padded to multiples of this."""
    class_bias: float = -math.log(99)
    """What the bias of a new class head starts at: a score of 0.01."""
    head_init_std: float = 0.01
    """Standard deviation of the normal distribution a new class head is drawn from."""
    matched_iou: float = 0.5
    unmatched_iou: float = 0.4
    force_match: bool = True
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    max_per_level: int = 1000
    """Candidates of one pyramid level, over all classes, that suppression looks at."""
    max_detections: int = 300
    num_novel: int = 0
    """How many of the classes, the last ones, have a head of their own beside the class head."""

    @property
    def levels(self) -> range:
        """The pyramid levels, finest first; level ``l`` has stride ``2**l``."""
        return range(3, 8)

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at every location of every level."""
        return len(self.aspect_ratios) * self.scales_per_octave

    def resized_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size a photo is resized to, its sides in about the same proportion."""
        height, width = photo_size_hw
        lying = (self.min_side, self.max_side)
        return touching_size_hw(photo_size_hw, lying if height <= width else lying[::-1])

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the network's input: they depend on the photo."""
        return None

    def input_size_of(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the input made of a photo."""
        multiple = self.side_multiple
        height, width = (-(-side // multiple) * multiple for side in self.resized_size_hw(photo_size_hw))
        return height, width

    def covered_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """How much of the input a photo covers."""
        return self.resized_size_hw(photo_size_hw)


# The first version's weights were trained by a release whose frozen batch-norm added nothing to the
# variance. Later ones add 1e-5, and set it back to 0 for exactly these weights.
RETINANET_V1 = RetinanetConfig(norm_epsilon=0.0, tower_groups=None, coarse_source="p5")
"""``retinanet_resnet50_fpn``, weights ``COCO_V1``."""

RETINANET_V2 = RetinanetConfig(norm_epsilon=1e-5, tower_groups=32, coarse_source="c5")
"""``retinanet_resnet50_fpn_v2``, weights ``COCO_V1``."""

_NEEDED = "name a .pth file that torchvision publishes for a RetinaNet, or the release of YOLOX"
_VARIANCE = ".running_var"
_GROUP_NORM = "head.classification_head.conv.0.1.weight"
_CLASS_KERNEL = "head.classification_head.cls_logits.weight"
_EARLIER_TOWER = re.compile(r"(head\.\w+_head\.conv\.)(\d*[02468])(\.(?:weight|bias))")
_EARLIER_PYRAMID = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)(\.(?:weight|bias))")

_WHAT_IS_NEEDED = (
    "name a file of weights that torchvision published for retinanet_resnet50_fpn or "
    "retinanet_resnet50_fpn_v2, or the saved state dict of such a model"
)


def read_retinanet(path: Path) -> tuple[RetinanetConfig, dict[str, Weight]]:
    """The settings and all weights, under their names in ``state_dict``, of the RetinaNet in ``path``.

    Which version it is shows in the names, and for how many classes in the class head.

    Raises:
        CheckpointError: the file cannot be read, is damaged, holds something other than tensors,
            or they are not those of a RetinaNet; what does not fit is named.
    """
    from fewbox.models.weights import BATCH_COUNTER, fit_weights, read_pickled_weights

    stored = read_pickled_weights(path, needed=_WHAT_IS_NEEDED, entry="model")
    tensors = {
        _later_name(name): tensor for name, tensor in stored.items() if not name.endswith(BATCH_COUNTER)
    }
    config = _describe(tensors, counted=any(name.endswith(BATCH_COUNTER) for name in stored))
    return config, fit_weights(path, tensors, weight_shapes(config), needed=_WHAT_IS_NEEDED)


def _describe(tensors: Mapping[str, Weight], *, counted: bool) -> RetinanetConfig:
    """The version with these names, for as many classes as the class head has columns.

    Only the frozen batch-norm of the first version's COCO weights adds nothing to the variance, and only
    a frozen one does not count batches. A model of that version that somebody built without
    pretrained weights has an ordinary batch-norm, which does both. One built on an ImageNet backbone is
    frozen and adds 1e-5, and its file looks like that of one trained on from the COCO weights: it is
    taken for the latter, unless a variance of 0 shows that something was added.
    """
    config = RETINANET_V2 if _GROUP_NORM in tensors else RETINANET_V1
    if counted or any(_is_zero_somewhere(tensors[name]) for name in tensors if name.endswith(_VARIANCE)):
        config = replace(config, norm_epsilon=RETINANET_V2.norm_epsilon)
    columns = int(np.prod(tensors[_CLASS_KERNEL].shape[:1])) if _CLASS_KERNEL in tensors else 0
    return replace(config, num_classes=max(columns // config.anchors_per_cell, 1))


def _is_zero_somewhere(tensor: Weight) -> bool:
    return bool((tensor == 0).any())


def _later_name(name: str) -> str:
    """A name in the spelling of torchvision's second version, whichever it came in."""
    if match := _EARLIER_TOWER.fullmatch(name):
        return f"{match[1]}{int(match[2]) // 2}.0{match[3]}"
    return _EARLIER_PYRAMID.sub(r"\1.0\2", name)


class _Retinanet(AnchorFamily):
    """See :class:`Family`."""

    architecture = "retinanet_resnet50_fpn"
    config_type = RetinanetConfig

    def network_type(self) -> Any:
        from fewbox.models.retinanet.network import RetinanetDetector

        return RetinanetDetector

    def reads(self, path: Path) -> bool:
        if path.suffix.lower() not in (".pth", ".pt"):
            return False
        from fewbox.models.weights import pickled_names

        names = pickled_names(path, needed=_NEEDED, entry="model")
        return any(name.startswith("head.classification_head.") for name in names)

    def read(self, path: Path) -> tuple[RetinanetConfig, dict[str, Weight]]:
        return read_retinanet(path)

    def doubt(self, config: RetinanetConfig) -> str | None:
        if config.norm_epsilon != RETINANET_V1.norm_epsilon:
            return None
        other = f"{RETINANET_V2.norm_epsilon:g}"
        return (
            "does not say what its batch-norms add to the variance; read with "
            f"{RETINANET_V1.norm_epsilon:g}, as models are that torchvision's COCO weights were trained on "
            f"to. One trained from an ImageNet backbone has {other}: say so with "
            f"--batch-norm-eps {other}, in Python load_base(..., batch_norm_eps=...)"
        )

    def prepare(
        self, graph: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: RetinanetConfig
    ) -> Prepared:
        from fewbox.models.retinanet.network import prepare_steps

        return prepare_steps(graph, photos, photo_hw, config)

    def select(
        self,
        graph: GraphBuilder,
        prepared: Prepared,
        boxes: str,
        scores: str,
        threshold: str,
        config: RetinanetConfig,
    ) -> Rows:
        from fewbox.models.retinanet.boxes import select_steps

        return select_steps(graph, prepared, boxes, scores, threshold, config)


FAMILY = _Retinanet()
