"""Let a GPU work on the photos of several threads at once.

A GPU is hardly slower with eight photos than with one, and Python asks it photo by photo. Each thread reads
and prepares a photo of its own; whoever finds the GPU free hands over all that are ready, and the others find
their results done. So a batch is as large as the GPU is slow, and a photo alone waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fewbox.models.device import in_batches

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")


class _Asked(Generic[Result]):
    """An input and, once it is done, what came of it."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.is_done = False
        self.result: Result | None = None
        self.error: Exception | None = None


class Batcher(Generic[Result]):
    """Computes inputs together that several threads ask for at about the same time.

    Args:
        compute: gives one result for each input ``[3, h, w]``; all inputs have one size.
        most_at_once: inputs that it is given at the most; fewer from the first time on that they do not fit
            into memory.
    """

    def __init__(self, compute: Callable[[Sequence[Tensor]], Sequence[Result]], most_at_once: int) -> None:
        self._compute, self._most_at_once = compute, most_at_once
        self._waiting: list[_Asked[Result]] = []
        self._guard, self._turn = threading.Lock(), threading.Lock()

    def run(self, pixels: Tensor) -> Result:
        """What ``compute`` gives for an input, once it is its turn.

        Raises:
            SettingError: there is no memory for a single input.
        """
        mine = _Asked[Result](pixels)
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                self._do(self._next(mine))
        if mine.error is not None:
            raise mine.error
        result: Any = mine.result
        return result  # type: ignore[no-any-return]

    def _next(self, mine: _Asked[Result]) -> list[_Asked[Result]]:
        """Those to compute now: ``mine``, and others of its size that wait."""
        with self._guard:
            alike = [
                one for one in self._waiting if one.pixels.shape == mine.pixels.shape and one is not mine
            ]
            batch = [mine, *alike[: self._most_at_once - 1]]
            self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _do(self, batch: list[_Asked[Result]]) -> None:
        def compute(some: Sequence[_Asked[Result]]) -> Sequence[Result]:
            results = self._compute([one.pixels for one in some])
            largest.append(len(some))
            return results

        largest: list[int] = []
        try:
            for one, result in zip(batch, in_batches(compute, batch, len(batch)), strict=True):
                one.result = result
        except Exception as error:  # for each of the threads that wait for it
            for one in batch:
                one.error = error
        if largest and max(largest) < len(batch):
            self._most_at_once = max(largest)
        for one in batch:
            one.is_done = True
