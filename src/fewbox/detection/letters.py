"""Fonts for what is written on pictures, and cutting a text to a width."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

# What draws East Asian labels on Linux, macOS and Windows. U+2E80 is where these scripts begin.
_FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_EAST_ASIAN_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc")
_EAST_ASIAN_FROM = "\u2e80"


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
    if font.getlength(line) <= width:
        return line
    cuts = (line[:length].rstrip() + "…" for length in range(len(line) - 1, 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "")
