"""When the frames of a camera came: what its own times, if it sends any, do not say."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

_WAITED = 0.25
"""Of the usual time between two frames: what took longer to come did not lie there yet."""
_NUM_INTERVALS = 8


class Arrivals:
    """Tells which packets of a live source had to be waited for, and when the others came, probably.

    Where frames are worked on more slowly than they come, they lie in buffers that nobody can look into.
    Behind one that had to be waited for there is none.

    Args:
        rate: frames per second, as the source says.
    """

    def __init__(self, rate: Fraction) -> None:
        self.came_at = 0.0
        """When the last one came, on the clock of :meth:`note`."""
        self._usual_s = 1 / float(rate)
        self._intervals: deque[float] = deque(maxlen=_NUM_INTERVALS)
        self._num, self._waited = 0, False

    def note(self, asked_at: float, now: float) -> bool:
        """Whether one that was asked for at a time, and is here now, had to be waited for."""
        waited_before, self._waited = self._waited, now - asked_at > _WAITED * self._usual_s
        if self._waited and waited_before:
            self._intervals.append(now - self.came_at)
        if self._waited or not self._num:
            self.came_at = now
        else:
            # The shortest of the last intervals: rather too late for a while than later and later.
            self.came_at = min(self.came_at + min(self._intervals, default=self._usual_s), now)
        self._num += 1
        return self._waited
