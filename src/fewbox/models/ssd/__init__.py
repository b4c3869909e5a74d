"""An SSD ResNet FPN detector of the Object Detection API: its settings, and how a checkpoint is read.

Every number that shapes the network or its losses comes from its ``pipeline.config``, none is a constant of
the code.

A checkpoint names tensors by the path of Python attributes that led to them when it was
written. A variable that several parents share may be stored under any of them, so paths are
walked through the checkpoint's own object graph, and several are tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbox.errors import CheckpointError
from fewbox.models.families import AnchorFamily, Config, weight_shapes

if TYPE_CHECKING:
    from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows
    from fewbox.models.ssd.tf_checkpoint import TensorBundle
    from fewbox.models.weights import Weight

_EXTRACTOR = "model/_feature_extractor"
_PREDICTOR = "model/_box_predictor"
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_CONV = {"weight": "kernel", "bias": "bias"}

# Tensors of a checkpoint that are no weights of the network: bookkeeping and what a trainer kept.
_NOT_WEIGHTS = ("save_counter", "step", "global_step", "optimizer/")


@dataclass(frozen=True)
class SsdConfig(Config):
    """What ``pipeline.config`` says about the network, its targets, losses and post-processing."""

    size_hw: tuple[int, int]
    """Height and width that every photo is resized to."""
    num_classes: int
    backbone_depth: int
    """Layers of the ResNet: 50, 101 or 152."""
    max_level: int
    """Coarsest pyramid level; the finest is 3, and level ``l`` has stride ``2**l``."""
    fpn_channels: int
    extractor_norm_epsilon: float
    tower_layers: int
    tower_channels: int
    tower_norm_epsilon: float
    class_bias: float
    """What the bias of a new class head starts at."""
    head_init_std: float
    """Standard deviation of the normal distribution a new class head is drawn from."""
    anchor_scale: float
    aspect_ratios: tuple[float, ...]
    scales_per_octave: int
    coder_scales: tuple[float, float, float, float]
    """Multipliers of the codes ``(ty, tx, th, tw)``."""
    matched_iou: float
    unmatched_iou: float
    force_match: bool
    focal_alpha: float | None
    focal_gamma: float
    huber_delta: float
    class_weight: float
    box_weight: float
    normalize_by_matches: bool
    normalize_by_code_size: bool
    score_threshold: float
    iou_threshold: float
    max_per_class: int
    max_detections: int
    num_novel: int = 0
    """How many of the classes, the last ones, have a head of their own beside the class head."""

    @property
    def levels(self) -> range:
        """The pyramid levels, finest first."""
        return range(3, self.max_level + 1)

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at every location of every level."""
        return len(self.aspect_ratios) * self.scales_per_octave

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the network's input."""
        return self.size_hw

    def covered_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """How much of the input a photo covers: all."""
        return self.size_hw

    @property
    def most_detections(self) -> int:
        """How many of a photo can be found, of all classes together."""
        return min(self.max_detections, self.num_classes * self.max_per_class)


def read_ssd_weights(bundle: TensorBundle, config: SsdConfig) -> dict[str, Weight]:
    """All weights of the network that ``config`` describes, under their names in ``state_dict``.

    Raises:
        CheckpointError: a weight is missing, has another shape or is not finite, or the checkpoint has
            a tensor that no part of the network takes. Each is named.
    """
    from fewbox.models.weights import require_finite

    expected = weight_shapes(config)
    weights: dict[str, Weight] = {}
    used: set[str] = set()
    for name, paths in tensor_paths(config):
        key = next((k for path in paths if (k := bundle.key_at(path)) is not None), None)
        if key is None:
            raise _misfit(bundle, f"tensor missing: {paths[0]}")
        weights[name] = _in_our_layout(bundle.read(key))
        used.add(key)
        if tuple(weights[name].shape) != expected[name]:
            found, wanted = list(weights[name].shape), list(expected[name])
            raise _misfit(bundle, f"{key}: shape {found}, but pipeline.config describes {wanted}")
    left_over = sorted(key for key in set(bundle.keys()) - used if not is_bookkeeping(key))
    if left_over:
        raise _misfit(bundle, f"tensor that no part of the network takes: {left_over[0]}")
    assert weights.keys() == expected.keys()
    require_finite(bundle.prefix, weights)
    return weights


def tensor_paths(config: SsdConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every weight's name and the object paths at which a checkpoint may hold it."""
    yield from _backbone_paths(config.backbone_depth)
    fpn = f"{_EXTRACTOR}/_fpn_features_generator"
    # The checkpoint counts from the coarsest level, we from the finest.
    for ours, theirs in {2: "top_layers/0", 1: "residual_blocks/0/0", 0: "residual_blocks/1/0"}.items():
        yield from _leaves(f"pyramid.laterals.{ours}", _CONV, f"{fpn}/{theirs}")
    for ours, theirs in {1: "conv_layers/0", 0: "conv_layers/1"}.items():
        yield from _conv_norm(f"pyramid.smooth.{ours}", f"{fpn}/{theirs}/0", f"{fpn}/{theirs}/1")
    for i in range(config.max_level - 5):
        coarse = f"{_EXTRACTOR}/_coarse_feature_layers/{i}"
        yield from _conv_norm(f"pyramid.coarse.{i}", f"{coarse}/0", f"{coarse}/1")
    yield from _tower_paths(config, "box_tower", "BoxPredictionTower", "box_encodings")
    classes = "class_predictions_with_background"
    yield from _tower_paths(config, "class_tower", "ClassPredictionTower", classes)
    yield from _leaves("box_head", _CONV, f"{_PREDICTOR}/_box_prediction_head/_box_encoder_layers/0")
    yield from _leaves(
        "class_head", _CONV, f"{_PREDICTOR}/_prediction_heads/{classes}/_class_predictor_layers/0"
    )


def is_bookkeeping(key: str) -> bool:
    """Whether a checkpoint's key is no weight: a counter, the object graph, an optimizer's memory."""
    return key.startswith(_NOT_WEIGHTS) or ".OPTIMIZER_SLOT/" in key


def _backbone_paths(depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    from fewbox.models.layers import BLOCKS_PER_STAGE

    # Keras numbers layers in the order of their creation, in which a projection's convolution
    # comes before the block's last one and its batch-norm after it.
    layers = [("stem", "conv"), ("stem", "norm")]
    for stage, blocks in enumerate(BLOCKS_PER_STAGE[depth]):
        for block in range(blocks):
            at = f"stages.{stage}.{block}"
            layers += [(f"{at}.{conv}", part) for conv in ("conv1", "conv2") for part in ("conv", "norm")]
            if block == 0:
                layers += [(f"{at}.shortcut", "conv"), (f"{at}.conv3", "conv")]
                layers += [(f"{at}.shortcut", "norm"), (f"{at}.conv3", "norm")]
            else:
                layers += [(f"{at}.conv3", "conv"), (f"{at}.conv3", "norm")]
    for number, (name, part) in enumerate(layers):
        path = f"{_EXTRACTOR}/classification_backbone/layer_with_weights-{number}"
        leaves = {"weight": "kernel"} if part == "conv" else _NORM
        yield from _leaves(f"backbone.{name}.{part}", leaves, path)


def _tower_paths(
    config: SsdConfig, tower: str, scope: str, head: str
) -> Iterator[tuple[str, tuple[str, ...]]]:
    by_head = f"{_PREDICTOR}/_base_tower_layers_for_heads/{head}"
    for i in range(config.tower_layers):
        # In a level's list each layer is convolution, batch-norm, activation.
        shared = f"{_PREDICTOR}/_head_scope_conv_layers/{scope}/{i}"
        aliases = [shared, *(f"{by_head}/{level}/{3 * i}" for level in range(len(config.levels)))]
        yield f"{tower}.convs.{i}.weight", tuple(f"{alias}/kernel" for alias in aliases)
        for level in range(len(config.levels)):
            yield from _leaves(f"{tower}.norms.{level}.{i}", _NORM, f"{by_head}/{level}/{3 * i + 1}")


def _conv_norm(name: str, conv: str, norm: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{name}.conv.weight", (f"{conv}/kernel",)
    yield from _leaves(f"{name}.norm", _NORM, norm)


def _leaves(name: str, leaves: dict[str, str], path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for ours, theirs in leaves.items():
        yield f"{name}.{ours}", (f"{path}/{theirs}",)


def _in_our_layout(array: np.ndarray) -> Weight:
    """A copy in our layout: kernels HWIO become OIHW."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    return np.array(array, dtype=np.float32, order="C")


def _misfit(bundle: TensorBundle, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{bundle.prefix}: {problem}",
        hint="the checkpoint and its pipeline.config do not belong together, or it is another kind of model",
    )


class _Ssd(AnchorFamily):
    """See :class:`Family`."""

    architecture = "ssd_resnet_fpn"
    config_type = SsdConfig

    def network_type(self) -> Any:
        from fewbox.models.ssd.network import SsdDetector

        return SsdDetector

    def reads(self, path: Path) -> bool:
        return True  # what is no file of its own is an archive of TensorFlow, a folder, or a prefix

    def read(self, path: Path) -> tuple[SsdConfig, dict[str, Weight]]:
        from fewbox.models.archive import open_checkpoint
        from fewbox.models.ssd.pipeline_config import read_ssd_config
        from fewbox.models.ssd.tf_checkpoint import TensorBundle

        with open_checkpoint(path) as files:
            config = read_ssd_config(files.pipeline_config)
            with TensorBundle.open(files.prefix) as bundle:
                return config, read_ssd_weights(bundle, config)

    def prepare(
        self, graph: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: SsdConfig
    ) -> Prepared:
        from fewbox.models.ssd.network import prepare_steps

        return prepare_steps(graph, photos, photo_hw, config)

    def select(
        self,
        graph: GraphBuilder,
        prepared: Prepared,
        boxes: str,
        scores: str,
        threshold: str,
        config: SsdConfig,
    ) -> Rows:
        from fewbox.models.ssd.network import select_steps

        return select_steps(graph, prepared, boxes, scores, threshold, config)


FAMILY = _Ssd()
