"""A texture laid out without end, to look up sharp near by and averaged far away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from renderer.fields import Floats

_LEVELS = 6


class MipMap:
    """A square texture that repeats, and its smaller copies (Williams 1983)."""

    def __init__(self, texture: Floats) -> None:
        """Take a texture ``[S, S, 3]``; S is a power of two."""
        self._side = len(texture)
        levels = [texture.transpose(2, 0, 1)]
        for _ in range(_LEVELS - 1):
            rows = levels[-1][:, ::2] + levels[-1][:, 1::2]
            levels.append((rows[:, :, ::2] + rows[:, :, 1::2]) / 4)
        self._texels = np.concatenate([level.reshape(3, -1) for level in levels], axis=1).astype(np.float32)
        sizes = [self._side**2 >> (2 * level) for level in range(_LEVELS)]
        self._first = np.cumsum([0, *sizes[:-1]]).astype(np.int32)

    def look_up(self, u: Floats, v: Floats, footprint: Floats) -> Floats:
        """Colours ``[3, P]`` at ``u``, ``v`` (one texture per unit), averaged over ``footprint`` units."""
        level = np.log2(np.maximum(footprint * self._side, 1))
        level = np.minimum(level, _LEVELS - 1.001).astype(np.float32)
        sharper = level.astype(np.int32)
        u, v = u - np.floor(u), v - np.floor(v)
        return _mix(self._at_level(u, v, sharper), self._at_level(u, v, sharper + 1), level - sharper)

    def _at_level(self, u: Floats, v: Floats, level: npt.NDArray[np.int32]) -> Floats:
        side = self._side >> level
        column, row = u * side - np.float32(0.5), v * side - np.float32(0.5)
        left, top = np.floor(column), np.floor(row)
        right_part, lower_part = (column - left).astype(np.float32), (row - top).astype(np.float32)
        last = side - 1
        x0 = left.astype(np.int32) & last
        y0 = top.astype(np.int32) & last
        x1, y1 = (x0 + 1) & last, (y0 + 1) & last
        first = self._first.take(level)
        upper = _mix(self._take(first + y0 * side + x0), self._take(first + y0 * side + x1), right_part)
        lower = _mix(self._take(first + y1 * side + x0), self._take(first + y1 * side + x1), right_part)
        return _mix(upper, lower, lower_part)

    def _take(self, at: npt.NDArray[np.int32]) -> Floats:
        # Several times faster than texels[:, at], which checks every index.
        return self._texels.take(at, axis=1, mode="clip")


def _mix(first: Floats, second: Floats, part: Floats) -> Floats:
    return first + (second - first) * part
