"""What a network in PyTorch is to the rest of the package.

Letters in shapes: N images, M boxes of one image, A anchors, C classes, D channels.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fewbox.models.device import device_of, in_batches
from fewbox.models.features import SMALL_NETWORK, AnchorFeatures, Floats

if hasattr(os, "register_at_fork"):
    # A fork copies none of OpenMP's threads, and a child that counts on them would wait for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TowerMaps(NamedTuple):
    """What the towers give and the heads read: one map ``[N, D, h, w]`` per level, finest first."""

    class_maps: list[Tensor]
    box_maps: list[Tensor]


class Found(NamedTuple):
    """The detections of one photo, best score first."""

    boxes: Tensor
    """``[K, 4]`` in pixels of the photo, clipped to it."""
    scores: Tensor
    """``[K]``."""
    class_ids: Tensor
    """``[K]`` int64."""


class Network(Protocol):
    """A detector's network. Everything but the weights of ``head_names`` is frozen."""

    architecture: ClassVar[str]
    """What files call it."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """The weights that fine-tuning changes."""
        ...

    def find(self, image: NDArray[np.uint8], score_threshold: float) -> Found:
        """The objects in a photo ``[H, W, 3]`` RGB whose score is above the threshold."""
        ...

    def fold(self) -> Self:
        """Fold every batch-norm into its convolution; returns itself, with the same outputs."""
        ...

    def found(
        self, codes: Tensor, logits: Tensor, photo_size_hw: tuple[int, int], score_threshold: float
    ) -> Found:
        """As :meth:`find`, of what :meth:`forward` gave for one photo, ``[A, 4]`` and ``[A, ...]``.

        What they mean is asked of :meth:`decode` and :meth:`scores` alone. From any device; what is found
        lies in the memory of the processor.
        """
        ...

    def prepare(self, image: NDArray[np.uint8]) -> Tensor:
        """A photo ``[H, W, 3]`` RGB to the network's input ``[3, h, w]`` float32, on the processor."""
        ...

    def batch_of(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Photos as one batch ``[N, 3, h, w]``, where the network is, in its precision and layout."""
        ...

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The pyramid of ``pixels`` ``[N, 3, h, w]``, finest level first."""
        ...

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Box codes ``[N, A, 4]`` and logits ``[N, A, ...]`` of ``pixels`` ``[N, 3, h, w]``."""
        ...

    def anchors(self, input_size_hw: tuple[int, int]) -> Tensor:
        """All anchors ``[A, 4]`` of an input, in the order of the heads' outputs."""
        ...

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """The boxes ``[..., M, 4]`` that ``codes`` ``[..., M, 4]`` make of ``anchors`` ``[M, 4]``."""
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Scores ``[..., C]`` float32 of what the heads give for them."""
        ...

    def input_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the input made of a photo."""
        ...

    def to_input(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Boxes ``[M, 4]`` in pixels of a photo, in pixels of the network's input."""
        ...

    def to_photo(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """The way back from :meth:`to_input`, ``[M, 4]``, cut off at the border of the photo."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All weights by name, as :class:`torch.nn.Module` gives them."""
        ...

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take weights by name, as :class:`torch.nn.Module` does."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """All weights that may learn, as :class:`torch.nn.Module` gives them."""
        ...

    def to(self, target: Any) -> Self:
        """Round the weights to a dtype or send them to a device, as :class:`torch.nn.Module` does."""
        ...

    @staticmethod
    def new_class_head(config: Any, generator: Generator) -> dict[str, Tensor]:
        """The weights of a class head for ``config.num_classes`` classes that has seen nothing."""
        ...


class AnchorNetwork(Network, Protocol):
    """A network that starts from anchors, with a class and a box tower and one 3x3 head after each.

    ``head_names`` are the weight and bias of the box head, then those of the class head. ``config``
    has the fields ``num_classes``, ``anchors_per_cell``, ``tower_channels``, ``matched_iou``,
    ``unmatched_iou`` and ``force_match``.
    """

    config: Any
    novel_names: ClassVar[tuple[str, str]]
    """Weight and bias of the head that novel classes have beside the base's own, if those are kept."""
    background_columns: ClassVar[int]
    """Columns of the class head before the first class."""

    @property
    def box_reach(self) -> int | None:
        """How many cells around it a box head's output depends on; None if on the whole map."""
        ...

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The codes ``[M, 4]`` that make ``boxes`` ``[M, 4]`` of ``anchors`` ``[M, 4]``."""
        ...

    def towers(self, pyramid: list[Tensor]) -> TowerMaps:
        """What the heads read, for every level."""
        ...

    def heads(self, maps: TowerMaps) -> tuple[Tensor, Tensor]:
        """Box codes ``[N, A, 4]`` and class logits ``[N, A, B + C]``, B the background columns."""
        ...

    def class_map(self, level_map: Tensor, level: int) -> Tensor:
        """What the class head reads, ``[N, D, h, w]``, of the pyramid's ``level`` (0 is the finest)."""
        ...

    def box_map(self, level_map: Tensor, level: int) -> Tensor:
        """What the box head reads, ``[N, D, h, w]``."""
        ...

    def class_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of every logit, ``[A, B + C]`` as ``logits`` and ``targets``."""
        ...

    def box_loss(self, codes: Tensor, targets: Tensor) -> Tensor:
        """The loss of every code, ``[P, 4]`` as ``codes`` and ``targets``, of P matched anchors."""
        ...

    def normalizer(self, num_matched: int) -> float:
        """What the summed losses of a batch are divided by."""
        ...


@dataclass(frozen=True, eq=False)
class TensorFeatures:
    """All anchors of a picture as a network gives them: the columns are tensors, wherever that computes."""

    base_logits: Tensor
    """``[A, S]``."""
    cells: Tensor
    """``[A / k, D]``: the tower features of k anchors each."""
    groups: NDArray[np.int64]
    boxes: Floats
    base_score: Floats

    def at(self, rows: NDArray[np.int64]) -> AnchorFeatures:
        """As :meth:`AnchorFeatures.at`."""
        there = torch.from_numpy(rows).to(self.cells.device)
        cells = there // (len(self.base_logits) // len(self.cells))
        return AnchorFeatures(
            self.base_logits[there].cpu().numpy(),
            self.cells[cells].float().cpu().numpy(),
            self.groups[rows],
            self.boxes[rows],
            self.base_score[rows],
        )


class NetworkExtractor(ABC):
    """What a :class:`FeatureExtractor` has in common where a network in PyTorch computes.

    Args:
        network: the base's own, folded.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        is_gpu = device_of(network).type != "cpu"
        # The columns of one picture alone fill tens of megabytes of a GPU.
        self._turn = threading.Lock() if is_gpu else nullcontext()
        self.reads_beside = is_gpu or sum(w.numel() for w in network.parameters()) <= SMALL_NETWORK

    @abstractmethod
    def _read(self, image: NDArray[np.uint8]) -> TensorFeatures:
        """One pass of the network."""

    def read(self, image: NDArray[np.uint8]) -> TensorFeatures:
        """As :meth:`FeatureExtractor.read`.

        Raises:
            SettingError: the device has no memory for it.
        """
        with self._turn, torch.no_grad():
            return next(in_batches(lambda images: [self._read(images[0])], [image], 1))


Features = TypeVar("Features")


@dataclass(frozen=True)
class Losses:
    """The two parts of the loss of one step; their sum is what is minimised."""

    classification: Tensor
    localization: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.classification + self.localization


class Heads(Protocol[Features]):
    """The tuned part of a network. ``Features`` is what it keeps of a photo."""

    step_scale: ClassVar[float]
    """What the learning rate is multiplied with: 1 for the network that the recipe was made for."""
    parameters: list[Tensor]
    """What the gradient descent changes, float32."""

    def features(
        self, image: NDArray[np.uint8], boxes: Tensor, class_ids: Tensor, ignored: Tensor
    ) -> Features:
        """Run the frozen network once on a photo and keep what the heads need.

        Args:
            image: ``[H, W, 3]`` uint8, the upright photo.
            boxes: ``[M, 4]`` in pixels of the photo; M may be 0.
            class_ids: ``[M]`` int64.
            ignored: ``[K, 4]``: regions that teach neither way.
        """
        ...

    def loss(self, batch: Sequence[Features]) -> Losses:
        """The loss over a batch of photos."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The tuned weights under their names in the network, detached, on the processor."""
        ...


PADDING_ID, IGNORED_ID = -1, -2
"""Class ids of rows that fill up a batch's boxes, and of places that are neither object nor background."""


@dataclass(frozen=True)
class Batch:
    """N samples; those with fewer boxes than M have rows of class id ``PADDING_ID``.

    Attributes:
        pixels: ``[N, 3, h, w]`` as the network wants them.
        boxes: ``[N, M, 4]`` in pixels of the input, M at least 1.
        class_ids: ``[N, M]``.
    """

    pixels: Tensor
    boxes: Tensor
    class_ids: Tensor

    @classmethod
    def of(cls, samples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Batch:
        """Put samples together: pixels ``[3, h, w]``, boxes ``[M, 4]`` and class ids ``[M]`` of each."""
        pixels, boxes, class_ids = zip(*samples, strict=True)
        longest = max(1, *(len(ids) for ids in class_ids))
        all_boxes = torch.zeros(len(samples), longest, 4)
        all_ids = torch.full((len(samples), longest), PADDING_ID)
        for number, (some, ids) in enumerate(zip(boxes, class_ids, strict=True)):
            all_boxes[number, : len(ids)], all_ids[number, : len(ids)] = some, ids
        return cls(torch.stack(pixels), all_boxes, all_ids)

    def part(self, start: int, end: int) -> Batch:
        """The samples from ``start`` to before ``end``."""
        return Batch(self.pixels[start:end], self.boxes[start:end], self.class_ids[start:end])

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        tensors = (self.pixels, self.boxes, self.class_ids)
        # Elsewhere what is not waited for may be read too soon.
        return Batch(*(tensor.to(device, non_blocking=device.type == "cuda") for tensor in tensors))


@dataclass(frozen=True)
class BatchLoss:
    """The losses of some samples, summed over cells, and how many cells learnt a box.

    Those of a batch are the sums over its parts divided by the sum of ``num_matched``.
    """

    box: Tensor
    object: Tensor
    classes: Tensor
    num_matched: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised, once divided."""
        return self.box + self.object + self.classes


class Adapter(Protocol):
    """A network whose later layers learn from maps that the frozen ones gave once."""

    network: Any
    parts: Mapping[str, tuple[str, ...]]
    """What learns, in parts that may learn at rates of their own: how the names of their weights begin. Of
    two parts that fit the first counts."""
    map_strides: Sequence[int]
    """Pixels of the input that a cell of each map stands for that the frozen layers give."""
    coarsest_stride: int
    """And that a cell of the coarsest map of the network does. Windows begin at such cells."""

    def frozen(self, pixels: Tensor) -> list[Tensor]:
        """The maps ``[N, D, h, w]``, finest first, of ``pixels`` ``[N, 3, h, w]``."""
        ...

    def outputs(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Codes ``[N, A, 4]`` and logits ``[N, A, C]`` of these maps."""
        ...

    def anchors(self, size_hw: tuple[int, int]) -> Tensor:
        """All anchors ``[A, 4]`` of an input, or of a window of it."""
        ...

    def loss(self, codes: Tensor, logits: Tensor, anchors: Tensor, batch: Batch) -> BatchLoss:
        """The losses of the outputs, summed; divided by ``num_matched`` they are what is minimised."""
        ...
