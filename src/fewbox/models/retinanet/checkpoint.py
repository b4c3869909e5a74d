"""Read the weights of a RetinaNet from a state dict that torchvision published, or in its form.

Two spellings are about. Since its second version torchvision wraps every convolution of the pyramid
and of the towers: ``conv.1.0.weight`` is what ``conv.2.weight`` was, as the ReLUs between were
counted too. The network has the later names; the file of the first version has the earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewbox.models.families import weight_shapes
from fewbox.models.retinanet import RETINANET_V1, RETINANET_V2, RetinanetConfig
from fewbox.models.weights import Weight, fit_weights, read_pickled_weights

_COUNTER = ".num_batches_tracked"  # how long a batch-norm was trained: of no use once it is frozen
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
    stored = read_pickled_weights(path, needed=_WHAT_IS_NEEDED, entry="model")
    tensors = {_later_name(name): tensor for name, tensor in stored.items() if not name.endswith(_COUNTER)}
    config = _describe(tensors, counted=any(name.endswith(_COUNTER) for name in stored))
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
