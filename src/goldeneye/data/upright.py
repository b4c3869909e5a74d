"""From what a decoder gives to upright RGB: orientation, transparency, and other depths than 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

RGBArray = npt.NDArray[np.uint8]

# How to turn a stored photo upright, by its EXIF orientation; 1 is upright already.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that trade height and width."""


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the photo states none that can be read."""
    try:
        # Not image.getexif(): for a PNG that would decode the pixels (see read_size_hw).
        stated = int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF can raise anything; viewers then show the photo as stored
        return 1
    return stated if stated in _TURNS else 1


def lies_sideways(image: Image.Image) -> bool:
    """Whether height and width trade places when the photo is turned upright."""
    return orientation(image) in SIDEWAYS


def decode(image: Image.Image) -> None:
    """Load the pixels.

    Pillow swaps the sides of a TIFF that lies sideways as soon as it is opened. If it then maps the
    pixels into memory instead of decoding them, it takes rows for columns; so it is kept from mapping,
    which it does only to files with a name.
    """
    if image.format != "TIFF":
        image.load()
        return
    named: Any = image
    name, named.filename = named.filename, ""
    try:
        image.load()
    finally:
        named.filename = name


def upright_rgb(image: Image.Image, divided_by: int = 1) -> RGBArray:
    """The pixels as upright RGB ``[H, W, 3]``; sides are divided by ``divided_by`` and rounded up."""
    decode(image)  # first: it turns a TIFF upright and drops the orientation, so none is left to apply
    rgb = to_rgb(image)
    if divided_by > 1:
        rgb = rgb.reduce(divided_by)
    turn = _TURNS.get(orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture in mode RGB, as it would look on white paper."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_grey8(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey8(grey: npt.NDArray[np.generic]) -> RGBArray:
    """Bring 16-bit, 32-bit and float grey ``[H, W]`` to 8 bits.

    Such files do not say which value is white, except for 16 bits; of the usual ranges the
    smallest that holds every value is taken. Pixels that are not a number become black.
    """
    if grey.dtype.itemsize == 2:
        return (grey.astype(np.uint16) >> 8).astype(np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), posinf=np.inf, neginf=-np.inf)
    low, high = float(values.min()), float(values.max())
    white = next((white for white in (1.0, 255.0, 65535.0) if high <= white), None)
    if low < 0 or white is None:
        raise ValueError(f"its grey values, {low:g} to {high:g}, fit none of 0..1, 0..255, 0..65535")
    return np.rint(values * (255 / white)).astype(np.uint8)
