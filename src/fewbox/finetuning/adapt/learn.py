"""Learning from cached maps, in rounds, after each of which there is a network; and how a step is made.

A step is Adam, drawn back to where learning began; what comes out is the mean of the last steps, or lies
between that and the start. Written out because torch.optim imports the compiler: about a second.

Kingma and Ba, "Adam", 2015; Li et al., "Explicit Inductive Bias for Transfer Learning" (L2-SP), 2018;
Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), 2022, equation 1. A step is as long as a
layer's weights are large (Shazeer and Stern, "Adafactor", 2018, section 8), so that one rate fits layers with
and without batch-norms folded into them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbox.detection.detector import Detector
from fewbox.detection.parallel import run_parallel
from fewbox.errors import FinetuneError
from fewbox.finetuning.adapt.cache import CachedViews, ViewTruth, Window
from fewbox.models.device import as_fits
from fewbox.models.families import build_network, family_of
from fewbox.models.network import IGNORED_ID, Adapter, Batch, BatchLoss
from fewbox.models.weights import Weight

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
    def mixed(self, mixing: float) -> list[Tensor]:
        """The weights that lie that part of the way from the start to the mean of the last steps."""
        return list(torch._foreach_lerp(self.start, self.mean, mixing))

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
        self.take_into_mean()

    @torch.no_grad()
    def take_into_mean(self) -> None:
        """Let the mean of the last steps follow the weights as they are after one more."""
        kept = min(1 - 1 / self.mean_of, self.steps / (self.steps + 3)) if self.mean_of > 1 else 0.0
        torch._foreach_lerp_(self.mean, self.weights, 1 - kept)


def share_at(step: int, steps: int, warm_up: float = 0.05) -> float:
    """The size of a step, from 0, as part of the highest: up in a line, down in half a cosine."""
    rising = max(round(warm_up * steps), 1)
    if step < rising:
        return (step + 1) / rising
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) / 2


LEAST_WINDOW = 7
"""Cells of the coarsest map, 224 pixels: smaller windows teach nothing about what is around the objects."""
WELL_INSIDE = 0.75
"""The part of a window's side that an object may take."""
FEWEST_STEPS = 30
"""However large the objects are."""


@dataclass(frozen=True)
class AdaptSettings:
    """How an adaptation learns."""

    steps: int = 200
    rounds: int = 4
    batch_size: int = 8
    rates: Mapping[str, float] = field(
        default_factory=lambda: {
            "last stage": 0.007,
            "neck": 0.007,
            "towers": 0.007,
            "boxes": 0.007,
            "classes": 0.014,
        }
    )
    """The highest step of each part, as a share of the size of its weights; 0 keeps it frozen."""
    pull: float = 0.0
    """What part of the way back to the start a step of full size goes (L2-SP)."""
    mean_of: float = 20.0
    """Of about how many of the last steps the result is the mean."""
    mixing: float = 1.0
    """What part of the way from the start to where learning ends the result lies (WiSE-FT)."""
    max_gradient: float = 20.0
    """Norm that a step's gradient is cut to."""
    window: int | None = None
    """Cells of the coarsest map along a side of the windows that are learnt from; 0 for whole views, None
    for what fits the objects."""
    random_windows: float = 0.2
    """The share of the windows that lie anywhere; the others are around a box."""
    views: int = 16
    """Of each photo, itself among them, while there are few photos."""
    most_views: int = 480
    """Of all photos."""
    seed: int = 0

    def views_of(self, num_photos: int) -> int:
        """How many views each of so many photos gets."""
        return max(min(self.views, self.most_views // num_photos), 1)


@dataclass(frozen=True)
class Round:
    """What is known after a round."""

    number: int
    steps: int
    loss: float
    weights: dict[str, Weight]
    """All weights of a folded network, of the mean of its last steps."""


class _Learnt(NamedTuple):
    """Of one step, or of a part of its windows."""

    losses: NDArray[np.float64]
    """``[4]`` sums: all, of boxes, of classes; and how many places are matched, which they are divided by."""
    gradients: list[Tensor]
    """Of what learns; of a whole step of the mean, of a part of it of the sum."""


class Adaptation:
    """A network that learns from cached views.

    Args:
        adapter: of the network in which learning starts.
        views: what is learnt from.
        settings: how.
    """

    def __init__(self, adapter: Adapter, views: CachedViews, settings: AdaptSettings) -> None:
        self.adapter, self.views, self.settings = adapter, views, settings
        self._places = np.random.default_rng((settings.seed, 1))
        self.window = usual_window(views) if settings.window is None else settings.window
        rates = {
            name: settings.rates[self._part_of(name)]
            for name, weight in adapter.network.named_parameters()
            if weight.requires_grad
        }
        learnt = []
        for name, weight in adapter.network.named_parameters():
            weight.requires_grad_(rates.get(name, 0) > 0)
            if weight.requires_grad:
                learnt.append((name, weight))
        self.names = [name for name, _ in learnt]
        self.descent = Descent(
            [weight for _, weight in learnt],
            [rates[name] for name in self.names],
            pull=settings.pull,
            mean_of=settings.mean_of,
        )
        self.history: list[dict[str, float]] = []
        self._most_at_once = settings.batch_size

    @classmethod
    def of(cls, start: Detector, views: CachedViews, settings: AdaptSettings) -> Adaptation:
        """One that starts in a copy of a detector's weights."""
        weights = {name: weight.copy() for name, weight in start.weights.items()}
        adapter = family_of(start.config).adapter(build_network(start.config, weights, device=start.device))
        return cls(adapter, views, settings)

    def rounds(self) -> Iterator[Round]:
        """Learn; what is known after each round.

        Raises:
            FinetuneError: the loss is no longer a finite number.
        """
        steps, rounds = self.settings.steps, self.settings.rounds
        ends = {math.ceil(steps * number / rounds): number for number in range(1, rounds + 1)}
        begun = 0
        for step, batch in enumerate(self._batches(), start=1):
            self.learn(batch, step)
            if step in ends:
                loss = float(np.mean([row["total"] for row in self.history[begun:]]))
                yield Round(ends[step], step, loss, self.weights())
                begun = step

    @torch.no_grad()
    def detect(self, view: int, threshold: float, mixing: float) -> tuple[Tensor, Tensor, Tensor]:
        """What the mean of the last weights, mixed with the start, finds in a whole view.

        Boxes ``[K, 4]`` in pixels of the network's input, scores ``[K]`` and class ids ``[K]``.
        """
        learnt, network = self.descent.weights, self.adapter.network
        latest = [w.detach().clone() for w in learnt]
        torch._foreach_copy_(learnt, self.descent.mixed(mixing))
        codes, logits = self.adapter.outputs(self.views.store.maps([self.views.store.whole(view)]))
        torch._foreach_copy_(learnt, latest)
        anchors = network.anchors(network.config.input_size_hw)
        found: tuple[Tensor, Tensor, Tensor] = network.select(codes[0], logits[0], anchors, threshold)
        return found

    def weights(self) -> dict[str, Weight]:
        """The weights as they are now: of what learns the mean of the last steps, mixed with the start."""
        now = {name: w.detach().clone().cpu() for name, w in self.adapter.network.state_dict().items()}
        mixed = self.descent.mixed(self.settings.mixing)
        now |= {n: w.cpu() for n, w in zip(self.names, mixed, strict=True)}
        return {name: weight.numpy() for name, weight in now.items()}

    def _batches(self) -> Iterator[list[int]]:
        """The views of each step: every view once before any comes again, in an order of its own."""
        generator = np.random.default_rng(self.settings.seed)
        waiting: list[int] = []
        for _ in range(self.settings.steps):
            batch: list[int] = []
            while len(batch) < self.settings.batch_size:
                waiting = waiting or generator.permutation(self.views.chosen).tolist()
                batch.append(waiting.pop())
            yield batch

    def learn(self, chosen: list[int], step: int) -> None:
        """One step, number ``step`` from 1, from some views.

        Raises:
            FinetuneError: the loss is not finite.
        """
        places = [self._place(view) for view in chosen]
        learnt, self._most_at_once = as_fits(lambda most: self._learnt_from(places, most), self._most_at_once)
        total, box, classes = (learnt.losses[:3] / max(learnt.losses[3], 1)).tolist()
        if not math.isfinite(total):
            raise FinetuneError(f"step {step}: the loss is not finite")
        norm = float(torch.stack(torch._foreach_norm(learnt.gradients)).square().sum().sqrt())
        if norm > self.settings.max_gradient:
            torch._foreach_mul_(learnt.gradients, self.settings.max_gradient / norm)
        self.descent.step(learnt.gradients, share_at(step - 1, self.settings.steps))
        row = {"step": step, "total": total, "localization": box, "classification": classes}
        self.history.append(row)

    def _learnt_from(self, places: Sequence[Window], most: int) -> _Learnt:
        """One step, from parts of ``most`` windows if the memory does not hold all."""
        # PyTorch's threads wait for each other at every layer; two of Python's with half of the windows each,
        # only at the end.
        threads = torch.get_num_threads()
        beside = most >= len(places) > 1 and threads > 1 and self.views.store.device.type == "cpu"
        if beside:
            most = math.ceil(len(places) / 2)
        elif most >= len(places):
            return self._learnt_of(places, whole=True)
        parts = [places[start : start + most] for start in range(0, len(places), most)]
        learnt: Iterator[_Learnt] = map(self._learnt_of, parts)
        if beside:
            learnt = (one.result() for one in run_parallel(self._learnt_of, parts, threads // 2))
        losses, gradients = next(learnt)
        for part in learnt:
            losses = losses + part.losses
            torch._foreach_add_(gradients, part.gradients)
        torch._foreach_div_(gradients, max(float(losses[3]), 1.0))
        return _Learnt(losses, gradients)

    def _learnt_of(self, places: Sequence[Window], *, whole: bool = False) -> _Learnt:
        loss = self._loss(places)
        minimised = loss.total / max(int(loss.num_matched), 1) if whole else loss.total
        gradients = list(torch.autograd.grad(minimised, self.descent.weights))
        sums = (loss.total, loss.box, loss.classes, loss.num_matched)
        return _Learnt(np.array([float(one.detach()) for one in sums]), gradients)

    def _loss(self, places: Sequence[Window]) -> BatchLoss:
        """Of some windows, summed."""
        stride, device = self.adapter.coarsest_stride, self.views.store.device
        anchors = self.adapter.anchors((places[0].rows * stride, places[0].columns * stride))
        codes, logits = self.adapter.outputs(self.views.store.maps(places))
        truths = [inside(self.views.truths[place.view], place, stride) for place in places]
        batch = Batch.of([(torch.zeros(0), truth.boxes, truth.class_ids) for truth in truths])
        return self.adapter.loss(codes, logits, anchors.to(device), batch.to(device))

    def _part_of(self, name: str) -> str:
        return next(part for part, begins in self.adapter.parts.items() if name.startswith(begins))

    def _place(self, view: int) -> Window:
        whole, side = self.views.store.whole(view), self.window
        if not side or side >= min(whole.rows, whole.columns):
            return whole
        draw, truth = self._places, self.views.truths[view]
        learnt = truth.boxes[truth.class_ids >= 0]
        most = np.array([whole.columns - side, whole.rows - side])
        if len(learnt) == 0 or draw.random() < self.settings.random_windows:
            left, top = draw.integers(0, most + 1).tolist()
            return Window(view, top, left, side, side)
        box = learnt[draw.integers(len(learnt))].double().numpy() / self.adapter.coarsest_stride
        first, last = starts_around(box, side, most)
        left, top = draw.integers(first, last + 1).tolist()
        return Window(view, top, left, side, side)


def steps_in_time(steps: int, views: CachedViews) -> int:
    """As many as take the time of ``steps`` from the least windows, where large objects need larger ones.

    Measured, halfway: five raccoons, 57 AP with 125 steps from whole views, 55 with 31.
    """
    window = min(usual_window(views), views.store.whole(views.chosen[0]).rows)
    larger = max(window, LEAST_WINDOW) / LEAST_WINDOW
    return max(round(steps / larger**2), min(steps, FEWEST_STEPS))


def usual_window(views: CachedViews) -> int:
    """As :func:`fitting_window`, for the views that are learnt from."""
    return fitting_window([views.truths[view] for view in views.chosen], views.stride)


def fitting_window(truths: Sequence[ViewTruth], stride: int) -> int:
    """Cells along a side of the least window in which half of the objects are well inside.

    Args:
        truths: of the views that are learnt from.
        stride: pixels of the input that a cell stands for.
    """
    boxes = torch.cat([truth.boxes[truth.class_ids >= 0] for truth in truths])
    if len(boxes) == 0:
        return 0
    usual = float((boxes[:, 2:] - boxes[:, :2]).amax(1).median())
    return max(LEAST_WINDOW, math.ceil(usual / WELL_INSIDE / stride))


def starts_around(
    box: NDArray[np.float64], side: int, most: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where windows that hold a box may begin, or its centre if it does not fit: the first ``[2]``, the last.

    Args:
        box: corners ``[4]`` in cells.
        side: of the window, in cells.
        most: ``[2]`` the last left and top that there are.
    """
    first, last = np.ceil(box[2:] - side), np.floor(box[:2])
    fits, centre = first <= last, (box[:2] + box[2:]) / 2
    first = np.where(fits, first, np.floor(centre - side) + 1).clip(0, most).astype(np.int64)
    last = np.where(fits, last, np.floor(centre)).clip(first, most).astype(np.int64)
    return first, last


def inside(truth: ViewTruth, place: Window, stride: int) -> ViewTruth:
    """What there is in a window, from its corner on.

    A box whose centre lies in it is learnt whole, as the maps have seen all of it; a place that a box
    reaches into from outside teaches nothing.
    """
    corner = stride * torch.tensor([place.left, place.top])
    size = stride * torch.tensor([place.columns, place.rows])
    boxes = truth.boxes - corner.repeat(2)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    holds = ((centres >= 0) & (centres < size)).all(1)
    reaches = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < size).all(1)
    ids = torch.where(holds, truth.class_ids, IGNORED_ID)
    return ViewTruth(boxes[reaches], ids[reaches])
