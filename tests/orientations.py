"""How a camera stores an upright photo for each EXIF orientation, written with numpy alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda up: up,
    2: np.fliplr,
    3: lambda up: np.rot90(up, 2),
    4: np.flipud,
    5: lambda up: up.swapaxes(0, 1),
    6: lambda up: np.rot90(up, 1),
    7: lambda up: np.rot90(up, 2).swapaxes(0, 1),
    8: lambda up: np.rot90(up, -1),
}


def orientation(value: int) -> Image.Exif:
    """EXIF that states an orientation and nothing else."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif
