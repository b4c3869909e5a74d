"""Learning from cached maps, in rounds, after each of which there is a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fewbox.errors import FinetuneError
from fewbox.finetuning.adapt.cache import CachedViews
from fewbox.finetuning.adapt.descent import Descent, share_at
from fewbox.finetuning.adapt.layers import make_learning
from fewbox.finetuning.adapt.loss import adapt_loss
from fewbox.models.architectures import build_network
from fewbox.models.yolox import YoloxConfig
from fewbox.models.yolox.network import YoloxDetector, make_cells

PARTS: dict[str, tuple[str, ...]] = {
    "neck": ("backbone.",),
    "towers": ("head.stems", "head.cls_convs", "head.reg_convs"),
    "boxes": ("head.reg_preds",),
    "classes": ("head.novel_preds",),
}
"""How the names of the weights of each part begin."""


@dataclass(frozen=True)
class AdaptSettings:
    """How an adaptation learns."""

    steps: int = 120
    rounds: int = 4
    batch_size: int = 8
    rates: Mapping[str, float] = field(
        default_factory=lambda: {"neck": 0.01, "towers": 0.01, "boxes": 0.01, "classes": 0.02}
    )
    """The highest step of each part, as a share of the size of its weights; 0 keeps it frozen."""
    pull: float = 0.0
    mean_of: float = 20.0
    max_gradient: float = 20.0
    seed: int = 0


@dataclass(frozen=True)
class Round:
    """What is known after a round."""

    number: int
    steps: int
    loss: float
    weights: dict[str, Tensor]
    """All weights of a folded network, of the mean of its last steps."""


class Adaptation:
    """A network that learns from cached views.

    Args:
        config: of the network, folded, with a novel head.
        weights: where learning starts; left as they are.
        views: what is learnt from.
        settings: how.
    """

    def __init__(
        self,
        config: YoloxConfig,
        weights: Mapping[str, Tensor],
        views: CachedViews,
        settings: AdaptSettings,
    ) -> None:
        self.views, self.settings = views, settings
        network = build_network(config, {name: w.detach().clone() for name, w in weights.items()})
        assert isinstance(network, YoloxDetector)
        self.network = network
        make_learning(network)
        self.cells = make_cells(config.size_hw)
        rates = {name: settings.rates[part_of(name)] for name, w in network.named_parameters() if w.requires_grad}
        for name, weight in network.named_parameters():
            weight.requires_grad_(rates.get(name, 0) > 0)
        learnt = [(name, w) for name, w in network.named_parameters() if w.requires_grad]
        self.names = [name for name, _ in learnt]
        self.descent = Descent(
            [w for _, w in learnt],
            [rates[name] for name in self.names],
            pull=settings.pull,
            mean_of=settings.mean_of,
        )
        self.history: list[dict[str, float]] = []

    def outputs(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Codes ``[N, A, 4]`` and logits ``[N, A, C]`` of the backbone's maps of N views."""
        network = self.network
        return network.heads(network.towers(network.backbone.merged(*maps)))

    def run(self, on_round: Callable[[Round], None] = lambda _: None) -> None:
        """Learn; ``on_round`` is told after each round.

        Raises:
            FinetuneError: the loss is no longer a finite number.
        """
        steps, rounds = self.settings.steps, self.settings.rounds
        ends = {math.ceil(steps * number / rounds): number for number in range(1, rounds + 1)}
        begun = 0
        for step, batch in enumerate(self._batches(), start=1):
            self._learn(batch, step)
            if step in ends:
                loss = float(np.mean([row["total"] for row in self.history[begun:]]))
                on_round(Round(ends[step], step, loss, self.weights()))
                begun = step

    def weights(self) -> dict[str, Tensor]:
        """The weights as they are now: of what learns the mean of the last steps."""
        now = {name: w.detach().clone() for name, w in self.network.state_dict().items()}
        return now | {n: w.clone() for n, w in zip(self.names, self.descent.mean, strict=True)}

    def _batches(self) -> Iterator[list[int]]:
        """The views of each step: every view once before any comes again, in an order of its own."""
        generator = np.random.default_rng(self.settings.seed)
        waiting: list[int] = []
        for _ in range(self.settings.steps):
            batch: list[int] = []
            while len(batch) < self.settings.batch_size:
                waiting = waiting or generator.permutation(len(self.views.truths)).tolist()
                batch.append(waiting.pop())
            yield batch

    def _learn(self, batch: list[int], step: int) -> None:
        codes, logits = self.outputs(self.views.store.maps(batch))
        loss = adapt_loss(codes, logits, self.cells, [self.views.truths[view] for view in batch])
        total = float(loss.total)
        if not math.isfinite(total):
            raise FinetuneError(f"step {step}: the loss is not finite")
        gradients = list(torch.autograd.grad(loss.total, self.descent.weights))
        norm = float(torch.stack(torch._foreach_norm(gradients)).square().sum().sqrt())
        if norm > self.settings.max_gradient:
            torch._foreach_mul_(gradients, self.settings.max_gradient / norm)
        self.descent.step(gradients, share_at(step - 1, self.settings.steps))
        count = max(int(loss.num_matched), 1)
        row = {"step": step, "total": total, "localization": float(loss.box) / count}
        self.history.append(row | {"classification": float(loss.classes) / count})


def part_of(name: str) -> str:
    """The part of the network that a weight belongs to."""
    return next(part for part, begins in PARTS.items() if name.startswith(begins))
