"""From what a decoder gives to upright RGB: orientation, transparency, and other depths than 8 bits."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from fewbox.data.jpeg_end import LACKS_END, completed
from fewbox.data.remote import shown_name
from fewbox.progress import console

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


def decode(image: Image.Image) -> Image.Image:
    """Load the pixels; what is given back has them.

    That is another image where the file of a JPEG lacks its end but all its pixels are there.

    Pillow swaps the sides of a TIFF that lies sideways as soon as it is opened. If it then maps the
    pixels into memory instead of decoding them, it takes rows for columns; so it is kept from mapping,
    which it does only to files with a name.
    """
    if image.format == "JPEG":
        try:
            image.load()
        except OSError:
            whole = _completed(image)
            if whole is None:
                raise
            return whole
    if image.format != "TIFF":
        image.load()
        return image
    tiff: Any = image
    tiff.tile = [_in_native_order(tile) for tile in tiff.tile]
    name, tiff.filename = tiff.filename, ""
    try:
        image.load()
    finally:
        tiff.filename = name
    return image


def _in_native_order(tile: Any) -> Any:
    """The part of a TIFF as libtiff gives it, which swaps bytes itself; Pillow knows so of 16 bits only."""
    if tile.codec_name != "libtiff":
        return tile
    native = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
    return tile._replace(args=(native.get(tile.args[0], tile.args[0]), *tile.args[1:]))


_told: set[str] = set()


def _completed(image: Any) -> Image.Image | None:
    """A JPEG that lacks its end as it was to be decoded; None if more is missing. Each file is told once."""
    with contextlib.suppress(Exception):  # what is damaged can raise anything; that it is, is known already
        image.fp.seek(0)
        file = completed(image.fp.read())
        if file is None:
            return None
        whole = Image.open(io.BytesIO(file), formats=["JPEG"])
        if image.decoderconfig:  # to be decoded at a half, a quarter or an eighth
            width, height = whole.size
            whole.draft(None, (width // image.decoderconfig[0], height // image.decoderconfig[0]))
        whole.load()
        name = str(image.filename)  # there is none for what came over a wire
        if name and name not in _told:
            _told.add(name)
            console.print(f"{shown_name(Path(name))}: {LACKS_END}", markup=False)
        return whole
    return None


def upright_rgb(image: Image.Image, divided_by: int = 1) -> RGBArray:
    """The pixels as upright RGB ``[H, W, 3]``; sides are divided by ``divided_by`` and rounded up."""
    # First: it turns a TIFF upright and drops the orientation, so none is left to apply.
    rgb = to_rgb(decode(image))
    if divided_by > 1:
        rgb = rgb.reduce(divided_by)
    turn = _TURNS.get(orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture in mode RGB, as it would look on white paper."""
    if image.mode == "F" or image.mode.startswith("I"):
        bits, is_negative = _grey_of_tiff(image)
        grey = _grey8(np.asarray(image), bits, is_negative)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_of_tiff(image: Image.Image) -> tuple[int, bool]:
    """How many bits the greys of a TIFF have, and whether 0 is white, which Pillow heeds in 8 bits only."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = int(tags.get(ExifTags.Base.BitsPerSample, (16,))[0])
    return bits, tags.get(ExifTags.Base.PhotometricInterpretation) == 0


def _grey8(grey: npt.NDArray[np.generic], bits: int, is_negative: bool) -> RGBArray:
    """Bring grey ``[H, W]`` of more than 8 bits, or of floats, to 8 bits.

    Such files do not say which value is white, except for 12 and 16 bits; of the usual ranges the
    smallest that holds every value is taken. Pixels that are not a number become black.

    Args:
        grey: the values.
        bits: how many of those of a 16-bit value are used.
        is_negative: 0 stands for white.
    """
    if grey.dtype.itemsize == 2:
        upper = (grey.astype(np.uint16) >> (min(max(bits, 8), 16) - 8)).astype(np.uint8)
        return 255 - upper if is_negative else upper
    values = np.nan_to_num(grey.astype(np.float64), posinf=np.inf, neginf=-np.inf)
    low, high = float(values.min()), float(values.max())
    white = next((white for white in (1.0, 255.0, 65535.0) if high <= white), None)
    if low < 0 or white is None:
        raise ValueError(f"its grey values, {low:g} to {high:g}, fit none of 0..1, 0..255, 0..65535")
    if is_negative:
        values = np.where(np.isnan(grey), 0, white - values)
    return np.rint(values * (255 / white)).astype(np.uint8)
