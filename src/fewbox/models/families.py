"""The families of networks: each is a folder of its own and a line in ``FAMILIES``.

A folder's ``__init__`` has the settings of its networks and ``FAMILY``, which leads to everything else that
is special about them: the network itself, how official files are read, what the recipes learn, what an
exported graph does before and after the network. Nothing outside the folder asks what kind a network is.

No torch is imported here, nor by a family's ``__init__``: exported detectors run without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from fewbox.core.boxes import clip_boxes
from fewbox.errors import SettingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fewbox.models.features import BaseGraph, Coefficients, FeatureExtractor
    from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows
    from fewbox.models.network import Adapter, Batch, BatchLoss, Heads, Network
    from fewbox.models.weights import Weight

FAMILIES = ("fewbox.models.retinanet", "fewbox.models.yolox", "fewbox.models.ssd")
"""In the order in which they are asked whether a file is theirs."""

SUPPRESSION_IOU = 0.5
"""At most, for novel classes alone: YOLOX's own 0.65 leaves several nested boxes on one object."""


class Config:
    """What shapes a network and its post-processing; it travels in the header of a file.

    A family's settings are a frozen dataclass, each field a plain value of JSON or a tuple of them. All
    families have the fields named here.
    """

    if TYPE_CHECKING:

        @property
        def num_classes(self) -> int:
            """How many classes it finds."""

        @property
        def num_novel(self) -> int:
            """How many of the classes, the last ones, are found by a head beside the base's own."""

        @property
        def score_threshold(self) -> float:
            """Lower scores are never reported."""

        @property
        def iou_threshold(self) -> float:
            """Of NMS."""

        @property
        def max_detections(self) -> int:
            """In a photo."""

    @property
    def most_detections(self) -> int:
        """How many of a photo can be found, of all classes together."""
        return self.max_detections

    @property
    def num_base(self) -> int:
        """How many of the classes, the first ones, are found by the base's own head."""
        return self.num_classes - self.num_novel

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the network's input; None if they depend on the photo."""
        raise NotImplementedError

    def covered_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """How much of the input a photo covers, before it is cut to whole pixels."""
        raise NotImplementedError

    def input_size_of(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the input made of a photo."""
        size_hw = self.input_size_hw
        assert size_hw is not None  # else the family says
        return size_hw

    def to_input(self, boxes: NDArray[Any], photo_size_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Boxes ``[M, 4]`` in pixels of a photo, in pixels of the network's input."""
        return boxes.astype(np.float32) * self._input_per_photo(photo_size_hw)

    def to_photo(self, boxes: NDArray[Any], photo_size_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Boxes ``[M, 4]`` in pixels of the network's input, in pixels of the photo, clipped to it."""
        return clip_boxes(boxes.astype(np.float32) / self._input_per_photo(photo_size_hw), photo_size_hw)

    def _input_per_photo(self, photo_size_hw: tuple[int, int]) -> NDArray[np.float32]:
        """How many pixels of the input one of the photo becomes, for each edge of a box, ``[4]``."""
        (covered_h, covered_w), (height, width) = self.covered_hw(photo_size_hw), photo_size_hw
        return np.array((covered_w / width, covered_h / height) * 2, np.float32)

    def changed(self, **fields: Any) -> Self:
        """The same settings but for ``fields``."""
        return cast(Self, dataclasses.replace(cast(Any, self), **fields))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values."""
        return dataclasses.asdict(cast(Any, self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; JSON's lists become tuples again.

        Raises:
            TypeError: a field is missing or unknown.
        """
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**fields)


class Family:
    """What is special about the networks of one family."""

    architecture: ClassVar[str]
    """What files call it."""
    config_type: ClassVar[type[Config]]
    trained_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """How the names of the weights begin that deep fine-tuning trains, for each choice of layers, from few
    to all; empty where it is not offered."""
    writes_graphs: ClassVar[bool] = False
    """Whether it writes its networks as graphs, for which PyTorch is not needed."""
    input_sides: ClassVar[tuple[int, ...]] = ()
    """Sides of a square input that are worth a try, rising; empty where the size cannot be chosen."""
    one_class_per_anchor: ClassVar[bool] = False
    """Whether of the novel classes an anchor shows the likeliest alone."""

    def network_type(self) -> Any:
        """The class of its networks; a :class:`~fewbox.models.network.Network`."""
        raise NotImplementedError

    def reads(self, path: Path) -> bool:
        """Whether an official file or folder seems to be one of the family; :meth:`read` checks the rest."""
        raise NotImplementedError

    def read(self, path: Path) -> tuple[Any, dict[str, Weight]]:
        """The settings and weights in an official file.

        Raises:
            CheckpointError: it is damaged, or not the family's.
            ConfigError: it asks for what is not computed here.
        """
        raise NotImplementedError

    def doubt(self, config: Any) -> str | None:
        """What :meth:`read` had to assume about a file, and how to say otherwise; None if nothing."""
        return None

    def feature_extractor(self, network: Any) -> FeatureExtractor:
        """What reads from a network the features that the linear probe learns on."""
        raise NotImplementedError

    def weight_shapes(self, config: Any) -> dict[str, tuple[int, ...]]:
        """The shape of every weight of a network, by name."""
        import torch

        with torch.device("meta"):
            network = self.network_type()(config)
        return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}

    def head_names(self, config: Any) -> tuple[str, ...]:
        """The weights that fine-tuning changes; all else is frozen."""
        import torch

        with torch.device("meta"):
            return tuple(self.network_type()(config).head_names)

    def base_graph(self, config: Any, weights: Mapping[str, Weight]) -> BaseGraph:
        """A base as a graph that gives what the linear probe learns on, where the family writes graphs."""
        raise NotImplementedError

    def add_network(
        self,
        graph: GraphBuilder,
        images: str,
        config: Any,
        weights: Mapping[str, Weight],
        *,
        rounds: bool = False,
    ) -> tuple[str, str]:
        """A network in steps of ONNX, made of its weights alone, where the family writes graphs.

        Args:
            graph: where the steps go.
            images: ``[N, 3, h, w]``, as :meth:`prepare` gives them.
            config: of the network.
            weights: all of them, by name.
            rounds: round wherever a network that computes in bfloat16 does.

        Returns:
            The boxes ``[N, A, 4]`` in pixels of the input, and scores ``[N, A, C]``, of all anchors.
        """
        raise NotImplementedError

    def novel_head(self, coefficients: Coefficients, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """What was learnt on the columns of :meth:`base_graph`, as a head; ``weights`` are the base's."""
        raise NotImplementedError

    def base_columns(self, weights: Mapping[str, Weight]) -> list[tuple[Weight, Weight]] | None:
        """Kernels ``[S, D]`` and biases ``[S]`` that make base logits of what a novel head reads, by group.

        None where heads read more than a cell; then none can be learnt in a browser. ``weights``: the base's.
        """
        return None

    def probe_config(self, config: Any, num_novel: int, *, keep_classes: bool) -> Any:
        """The settings of the base's network with a novel head in place of its own, or beside it."""
        return config.changed(
            num_classes=num_novel + (config.num_classes if keep_classes else 0),
            num_novel=num_novel if keep_classes else 0,
            iou_threshold=config.iou_threshold
            if keep_classes
            else min(config.iou_threshold, SUPPRESSION_IOU),
        )

    def with_input_size(self, config: Any, side: int) -> Any:
        """The settings of a network with the same weights for an input of ``side`` x ``side`` pixels.

        Only where there are ``input_sides``; ``side`` need not be one of them.
        """
        raise NotImplementedError

    def heads(self, network: Any, weights: Mapping[str, Weight]) -> Heads[Any]:
        """What the seed recipe tunes, starting from ``weights``."""
        raise NotImplementedError

    def batch_loss(self, codes: Tensor, logits: Tensor, anchors: Tensor, batch: Batch) -> BatchLoss:
        """The losses that deep fine-tuning minimises.

        Args:
            codes: ``[N, A, 4]``, what the network gives.
            logits: ``[N, A, ...]``.
            anchors: ``[A, 4]``.
            batch: the ground truth.
        """
        raise NotImplementedError

    def adapts(self, config: Any) -> bool:
        """Whether the later layers of such a network can learn from cached maps."""
        return False

    def adapter(self, network: Any) -> Adapter:
        """A folded network, ready to learn from cached maps; it is changed in place."""
        raise NotImplementedError

    def adapted_weights(
        self, folded: Mapping[str, Weight], before: Mapping[str, Weight], config: Any
    ) -> dict[str, Weight]:
        """The weights of an adapted, folded network under the names of those ``before``."""
        raise NotImplementedError

    def calibrated_weights(
        self, weights: Mapping[str, Weight], stretch: float, shift: float
    ) -> dict[str, Weight]:
        """The weights with the logits of novel classes stretched, then shifted."""
        raise NotImplementedError

    def prepare(self, graph: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: Any) -> Prepared:
        """The first steps of an exported graph: photos of any size become the network's input.

        The same as ``batch_of`` of the network, in steps of ONNX.

        Args:
            graph: where the steps go.
            photos: ``[N, H, W, 3]`` uint8, RGB, upright.
            photo_hw: H and W, int64 without a shape.
            config: of the network.
        """
        raise NotImplementedError

    def select(
        self, graph: GraphBuilder, prepared: Prepared, boxes: str, scores: str, threshold: str, config: Any
    ) -> Rows:
        """The last steps of an exported graph: the detections among all anchors, the same as ``find``.

        Args:
            graph: where the steps go.
            prepared: what the first steps know of the photos.
            boxes: ``[N, A, 4]`` in pixels of the input.
            scores: ``[N, A, C]``.
            threshold: without a shape; only higher scores are selected.
            config: of the network.
        """
        raise NotImplementedError

    def prepared_array(self, photo: NDArray[np.uint8], config: Any) -> NDArray[np.float32] | None:
        """The network's input ``[1, 3, h, w]`` of a photo ``[H, W, 3]``; None where the graph is quicker."""
        return None


class AnchorFamily(Family):
    """A family whose networks are each an :class:`~fewbox.models.network.AnchorNetwork`."""

    def feature_extractor(self, network: Any) -> FeatureExtractor:
        """The class tower under the class head, and what that answers."""
        from fewbox.models.anchor_heads import AnchorFeatureExtractor

        return AnchorFeatureExtractor(network)

    def heads(self, network: Any, weights: Mapping[str, Weight]) -> Heads[Any]:
        """The class head and the box head."""
        from fewbox.models.anchor_heads import AnchorHeads

        return AnchorHeads(network, weights)


def families() -> list[Family]:
    """All families."""
    return [import_module(name).FAMILY for name in FAMILIES]


def family_of(config: Config) -> Family:
    """The family of the networks that ``config`` describes."""
    return next(family for family in families() if type(config) is family.config_type)


def require_adaptable(config: Config, name: str) -> None:
    """Refuse a base of a family that does not adapt.

    Raises:
        SettingError: it is none.
    """
    if not family_of(config).adapts(config):
        raise SettingError(
            f"adapting is for a YOLOX or the starter, and new classes alone: {name}",
            hint="for example: --base yolox_nano",
        )


def config_from_dict(architecture: str, values: Mapping[str, Any]) -> Config:
    """The settings of a network as a file's header states them.

    Raises:
        ValueError: there is no such kind of network.
        TypeError: a field is missing or unknown.
    """
    for family in families():
        if family.architecture == architecture:
            return family.config_type.from_dict(values)
    raise ValueError(f"unknown kind of network: {architecture!r}")


def network_type(config: Config) -> Any:
    """The class of the network that ``config`` describes; a :class:`~fewbox.models.network.Network`."""
    return family_of(config).network_type()


def weight_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a network, by name."""
    return dict(_weight_shapes(config))


@lru_cache(maxsize=8)
def _weight_shapes(config: Config) -> Mapping[str, tuple[int, ...]]:
    return family_of(config).weight_shapes(config)


def build_network(
    config: Config,
    weights: Mapping[str, Weight | Tensor],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Network:
    """The network with ``weights``, folded and laid out for inference; ``weights`` stay as they are.

    Args:
        config: its settings.
        weights: by name; tensors will do.
        dtype: what it computes in; float32 if not given.
        device: where it computes; on the processor if not given.

    Raises:
        RuntimeError: the weights do not fit ``config``.
    """
    import torch

    with torch.device("meta"):
        network = network_type(config)(config)
    network.load_state_dict({name: torch.as_tensor(w) for name, w in weights.items()}, assign=True)
    folded: Network = network.fold()
    dtype = dtype or torch.float32
    if any(parameter.dtype != dtype for parameter in folded.parameters()):
        folded = folded.to(dtype)  # folded in full precision, then rounded
    # The same numbers on every device: they are folded before they go there.
    return folded if device is None or device.type == "cpu" else folded.to(device)
