"""Adam, drawn back to where it began, and the mean of its last steps.

Written out because torch.optim imports the compiler: about a second.

Kingma and Ba, "Adam", 2015; Li et al., "Explicit Inductive Bias for Transfer Learning" (L2-SP), 2018. A step
is as long as a layer's weights are large (Shazeer and Stern, "Adafactor", 2018, section 8), so that
one rate fits layers with and without batch-norms folded into them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.99)
EPSILON = 1e-8
LEAST_SIZE = 0.01
"""Weights that are all smaller, such as biases at 0, step as if they were as large as this."""


class Descent:
    """The weights with all that their learning carries from step to step.

    Args:
        weights: what is learnt; changed in place.
        rates: for each the highest step, as a part of the root mean square of its numbers.
        pull: what part of the way back to the start each step of full size goes.
        mean_of: of about how many of the last steps the mean is kept.
    """

    def __init__(
        self, weights: Sequence[Tensor], rates: Sequence[float], *, pull: float, mean_of: float
    ) -> None:
        self.weights = list(weights)
        self.pull, self.mean_of = pull, mean_of
        self.start = [w.detach().clone() for w in self.weights]
        self.mean = [w.detach().clone() for w in self.weights]
        self.first = [torch.zeros_like(w) for w in self.weights]
        self.second = [torch.zeros_like(w) for w in self.weights]
        self.sizes = [
            rate * max(float(w.detach().square().mean().sqrt()), LEAST_SIZE)
            for rate, w in zip(rates, self.weights, strict=True)
        ]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: list[Tensor], share: float) -> None:
        """One step of ``share``, 0 to 1, of the highest size."""
        self.steps += 1
        beta, gamma = BETAS
        torch._foreach_lerp_(self.first, gradients, 1 - beta)
        torch._foreach_mul_(self.second, gamma)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - gamma)
        correction = math.sqrt(1 - gamma**self.steps) / (1 - beta**self.steps)
        below = torch._foreach_sqrt(self.second)
        torch._foreach_add_(below, EPSILON)
        moves = torch._foreach_div(self.first, below)
        torch._foreach_mul_(moves, [-size * share * correction for size in self.sizes])
        if self.pull:
            torch._foreach_lerp_(self.weights, self.start, self.pull * share)
        torch._foreach_add_(self.weights, moves)
        kept = min(1 - 1 / self.mean_of, self.steps / (self.steps + 3)) if self.mean_of > 1 else 0.0
        torch._foreach_lerp_(self.mean, self.weights, 1 - kept)


def share_at(step: int, steps: int, warm_up: float = 0.05) -> float:
    """The size of a step, from 0, as part of the highest: up in a line, down in half a cosine."""
    rising = max(round(warm_up * steps), 1)
    if step < rising:
        return (step + 1) / rising
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) / 2
