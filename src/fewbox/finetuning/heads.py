"""What is tuned: a network's heads, fitted on features that are computed once per photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
        """The tuned weights under their names in the network, detached."""
        ...
