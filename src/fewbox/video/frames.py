"""Pick the frames of a film that are worth annotating: the sharpest, and those that differ most.

The film is read twice, first to choose and then to write, so that only a few numbers of each frame are
kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core import files
from fewbox.core.progress import progress_bar
from fewbox.data.similar import NEARLY_SAME, SAME, PerceptualHash, perceptual_hash
from fewbox.errors import VideoError
from fewbox.video.reader import Frame, VideoReader, as_shown

CANDIDATES = 8
"""Of so many stretches of the film for each frame that is wanted, the sharpest frame may be picked."""
_LOOKED_AT_SIDE = 320  # pixels: blur that matters is seen, and the grain of the film is not
_QUALITY = 95


@dataclass(frozen=True)
class _Look:
    """What is kept of a frame."""

    number: int
    sharpness: float
    perceptual_hash: PerceptualHash


def write_frames(film: Path, folder: Path, count: int) -> int:
    """Write frames of a film as JPEGs into a new folder; ``film_000123.jpg`` is frame 123, counted from 0.

    Args:
        film: a film, read with PyAV.
        folder: is not there yet, or empty.
        count: how many frames at most; fewer if more would show the same.

    Returns:
        How many were written.

    Raises:
        VideoError: the film cannot be read, or shows nothing.
        OutputError: the folder is not empty, or cannot be written.
    """
    chosen = set(_choose(_looks(film), count))
    if not chosen:
        raise VideoError(f"{film}: no frame shows anything", hint="choose another film")
    with files.new_folder(folder) as place:
        for number, frame in _frames(film, "writing frames"):
            if number in chosen:
                path = place / f"{film.stem}_{number:06d}.jpg"
                Image.fromarray(frame).save(path, quality=_QUALITY)
    return len(chosen)


def _frames(film: Path, title: str) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The frames of a film as they are shown, ``[H, W, 3]``, with their numbers."""
    reader = VideoReader(str(film))
    number = 0
    with progress_bar(title, reader.total) as advance:
        for item in reader:
            if isinstance(item, Frame):
                yield number, as_shown(item.image, reader.pixel_aspect).image
                number += 1
                advance("")


def _looks(film: Path) -> list[_Look]:
    """Every frame that shows something."""
    looks = []
    for number, image in _frames(film, "looking for the sharpest frames"):
        small = Image.fromarray(image)
        small.thumbnail((_LOOKED_AT_SIDE, _LOOKED_AT_SIDE), Image.Resampling.BILINEAR)
        bits = perceptual_hash(np.asarray(small))
        if bits is not None:
            looks.append(_Look(number, sharpness(np.asarray(small.convert("L"))), bits))
    return looks


def sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """The variance of the Laplacian of an image ``[H, W]``: the usual measure of focus, lower with blur."""
    pixels = grey.astype(np.float32)
    middle = 4 * pixels[1:-1, 1:-1]
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return float((middle - around).var())


def _choose(looks: Sequence[_Look], count: int) -> list[int]:
    """The numbers of the frames to take.

    The sharpest frame of each stretch of the film is a candidate. The sharpest of all is taken; then, again
    and again, the one that differs most from those taken before, or a sharper one that shows nearly the same
    as this one, until the rest shows what has been taken.
    """
    if not looks:
        return []
    stretches = np.array_split(np.arange(len(looks)), min(len(looks), CANDIDATES * count))
    candidates = [max((looks[i] for i in part), key=lambda look: look.sharpness) for part in stretches]
    bits = np.array([look.perceptual_hash for look in candidates])  # [n, 512]
    sharp = np.array([look.sharpness for look in candidates])
    taken = [int(sharp.argmax())]
    nearest = _distances(bits, taken[0])
    while len(taken) < count and nearest.max() > SAME:
        alike = _distances(bits, int(nearest.argmax())) <= NEARLY_SAME
        taken.append(int(np.where(alike & (nearest > SAME), sharp, -1).argmax()))
        nearest = np.minimum(nearest, _distances(bits, taken[-1]))
    return [candidates[i].number for i in taken]


def _distances(bits: npt.NDArray[np.bool_], number: int) -> npt.NDArray[np.float64]:
    """How far each hash is from one of them, 0 to 1."""
    far: npt.NDArray[np.float64] = (bits != bits[number]).mean(axis=1)
    return far
