"""What is written on pictures: its fonts, texts cut to a width, and where the tags of boxes go.

Tags hide neither each other nor the boxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

# What draws East Asian labels on Linux, macOS and Windows. U+2E80 is where these scripts begin.
_FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_EAST_ASIAN_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc")
_EAST_ASIAN_FROM = "\u2e80"

# Whole pixels: left, top, and the first column and row past the end.
Rect = tuple[int, int, int, int]

_LEAST_TEXT = 11
_SMALLER = 0.6
"""Of the size of letters, where there is no room for larger ones."""
_MOST_HIDDEN = 0.2
"""The share of a box that tags may hide."""
_MOST_COVERED = 0.25
"""The share of a picture that large letters may take; what is not boxed is looked at too."""


class Tag(NamedTuple):
    """A text with its place in a picture."""

    text: str
    font: ImageFont.FreeTypeFont
    padding: int
    area: Rect


def place_tags(
    size_wh: tuple[int, int], outlines: Sequence[Rect], texts: Sequence[str], text_size: int
) -> list[Tag | None]:
    """The tag of each box, the first with first choice; None if it is empty, or would hide what it may not.

    Args:
        size_wh: of the picture.
        outlines: of the boxes in it.
        texts: of their tags.
        text_size: of letters, in pixels, where there is room.
    """
    texts = [" ".join(text.split()) for text in texts]
    small = max(_LEAST_TEXT, round(_SMALLER * text_size))
    font = font_for("".join(texts), text_size)
    covered = sum(_length(text, font) for text in texts) * sum(font.getmetrics())
    is_crowded = covered > _MOST_COVERED * size_wh[0] * size_wh[1] and len(texts) > 1
    places = _Places(size_wh, outlines, [small] if is_crowded else list(dict.fromkeys((text_size, small))))
    return [places.take(number, text) for number, text in enumerate(texts)]


class _Places:
    """The room in a picture that tags may take.

    Args:
        size_wh: of the picture.
        outlines: of all boxes in it.
        sizes: of letters, in pixels, the best first.
    """

    def __init__(self, size_wh: tuple[int, int], outlines: Sequence[Rect], sizes: Sequence[int]) -> None:
        self._width, self._height = size_wh
        self._outlines = np.array(outlines, np.int64).reshape(-1, 4)
        sides = self._outlines[:, 2:] - self._outlines[:, :2]
        self._may_hide = _MOST_HIDDEN * sides.prod(1)
        self._hidden = np.zeros(len(outlines))
        self._taken, self._num_taken = np.zeros((len(outlines), 4), np.int64), 0
        self._sizes = sizes

    def take(self, number: int, text: str) -> Tag | None:
        """Place the tag of a box; None if it is empty, or would hide boxes or other tags.

        Best are places that hide no other box; then such for smaller letters; then those that hide little.
        """
        tags = [tag for size in self._sizes for tag in self._set(number, text, size)]
        if not tags:
            return None
        areas = np.array([tag.area for tag in tags], np.int64)
        hides = _shared(areas, self._outlines)
        is_free = ~_shared(areas, self._taken[: self._num_taken]).any(1)
        for may_hide in (0 * self._may_hide, self._may_hide):
            is_good = is_free & ~self._hides_too_much(number, areas, hides, may_hide)
            if is_good.any():
                best = int(is_good.argmax())
                self._hidden += hides[best]
                self._taken[self._num_taken] = areas[best]
                self._num_taken += 1
                return tags[best]
        return None

    def _set(self, number: int, text: str, size: int) -> Iterator[Tag]:
        """The tag in letters of a size, in each of its places, the best first."""
        font = font_for(text, size)
        padding = max(2, size // 4)
        line = cut_to_width(text, font, self._width - 2 * padding)
        width, height = math.ceil(_length(line, font)) + 2 * padding, sum(font.getmetrics())
        if not line or height > self._height:
            return
        left, top, right, bottom = self._outlines[number].tolist()
        # It begins where its box begins, or ends where its box ends; above it, below it,
        # beside it, or else inside.
        starts = [min(max(x, 0), self._width - width) for x in (left, right - width)]
        inside = min(top, self._height - height)
        places = [(x, y) for y in (top - height, bottom) for x in starts]
        places += [(right, inside), (left - width, inside), *((x, inside) for x in starts)]
        for x, y in places:
            if 0 <= x <= self._width - width and 0 <= y <= self._height - height:
                yield Tag(line, font, padding, (x, y, x + width, y + height))

    def _hides_too_much(
        self,
        number: int,
        areas: NDArray[np.int64],
        hides: NDArray[np.int64],
        may_hide: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """Which areas ``[P, 4]`` hide more of a box than they may; ``hides [P, N]`` says how much of each."""
        is_too_much = (hides > 0) & (self._hidden + hides > may_hide)
        # Of its own box a tag hides something wherever there is no room above and below.
        _, top, _, bottom = self._outlines[number].tolist()
        heights = areas[:, 3] - areas[:, 1]
        has_room = (top >= heights) | (bottom + heights <= self._height)
        is_too_much[:, number] = has_room & (hides[:, number] > self._may_hide[number])
        return np.asarray(is_too_much.any(1))


def _shared(areas: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pixels each rectangle ``[P, 4]`` shares with each of the others ``[N, 4]``, ``[P, N]``."""
    left, top, right, bottom = (
        pick(areas[:, None, side], others[None, :, side])
        for side, pick in enumerate((np.maximum, np.maximum, np.minimum, np.minimum))
    )
    return np.asarray(np.maximum(right - left, 0) * np.maximum(bottom - top, 0))


def _is_east_asian(text: str) -> bool:
    return any(letter >= _EAST_ASIAN_FROM for letter in text)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that has the letters of ``text``."""
    return _font(size, east_asian=_is_east_asian(text))


@lru_cache(maxsize=32)
def _font(size: int, *, east_asian: bool) -> ImageFont.FreeTypeFont:
    """A font for most scripts, DejaVu Sans: Pillow's own has no letters beyond ASCII, not even an é.

    East Asian labels need a font of the system's; where none of those known is installed, their
    letters appear as empty frames.
    """
    for name in _EAST_ASIAN_FONTS if east_asian else ():
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.truetype(_FONT, size)


@lru_cache(maxsize=4096)
def _length(text: str, font: ImageFont.FreeTypeFont) -> float:
    """In pixels, and kept: the tags of a film are much the same from frame to frame."""
    return font.getlength(text)


def caption_to_width(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As :func:`cut_to_width`, but of ``name: what`` it is the middle of the name that is left out."""
    line = " ".join(text.split())
    name, between, what = line.rpartition(": ")
    if not between or font.getlength(line) <= width:
        return cut_to_width(line, font, width)
    for length in range(len(name) - 1, 0, -1):
        cut = f"{name[: (length + 1) // 2]}…{name[len(name) - length // 2 :]}{between}{what}"
        if font.getlength(cut) <= width:
            return cut
    return cut_to_width(what, font, width)


def cut_to_width(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """One line of ``text``, its end replaced by ``…`` if it is wider than ``width``; maybe nothing."""
    line = " ".join(text.split())
    if _length(line, font) <= width:
        return line
    cuts = (line[:length].rstrip() + "…" for length in range(len(line) - 1, 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "")
