"""Which photos show the same: a fingerprint that survives resizing, saving again and a little light.

The fingerprint of a photo says for each place of a 16 x 16 grid whether the next place to the right
is brighter, and the next one below: a difference hash, 512 bits. The distance of two photos is the
share of bits in which they differ, about 0.5 for photos that have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

Fingerprint = npt.NDArray[np.bool_]

SAME = 0.03
"""Up to this distance two files hold one photo: saved again, resized, or made brighter."""
NEARLY_SAME = 0.12
"""Up to this distance two photos were taken from one place within moments, as frames of a video are.

Measured by ``benchmarks/likeness.py``: photos of one scene with other things in it begin beyond.
"""

_SIDE = 16
FINGERPRINT_BITS = 2 * _SIDE * _SIDE
_MIN_CONTRAST = 3.0  # below it the fingerprint is one of noise
_ROWS_AT_ONCE = 512


def fingerprint(image: npt.NDArray[np.uint8]) -> Fingerprint | None:
    """The fingerprint ``[512]`` of an image ``[H, W, 3]``; None of one that shows nothing."""
    grey = Image.fromarray(image).convert("L")
    across, down = (
        np.asarray(grey.resize(size_wh, Image.Resampling.LANCZOS)).astype(np.int16)
        for size_wh in ((_SIDE + 1, _SIDE), (_SIDE, _SIDE + 1))
    )
    if across.std() < _MIN_CONTRAST:
        return None
    brighter = (across[:, 1:] > across[:, :-1], down[1:] > down[:-1])
    return np.concatenate([part.ravel() for part in brighter])


def like_pairs(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], max_distance: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs ``(i, j, distance)`` of the fingerprints ``[N, 512]`` and ``[M, 512]`` that are alike."""
    signs, others = (2 * prints.astype(np.float32) - 1 for prints in (first, second))
    for start in range(0, len(signs), _ROWS_AT_ONCE):
        distances = 0.5 - signs[start : start + _ROWS_AT_ONCE] @ others.T / (2 * signs.shape[1])  # [n, M]
        for i, j in np.argwhere(distances <= max_distance).tolist():
            yield start + i, j, float(distances[i, j])
