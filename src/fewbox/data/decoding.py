"""From an opened photo to upright RGB: orientation, transparency, and other depths than 8 bits.

Before that come JPEGs that lack their end marker. Cameras and downloads that stop a moment early leave
such files, and every viewer shows them. Pillow refuses them, as it cannot tell them from files of which
half is missing. Here it is told by what follows: if all pixels are there, the picture does not depend
on it.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageChops

from fewbox.core.progress import console
from fewbox.data.remote import shown_name

LACKS_END = "lacks its end marker, but all its pixels are there"
"""What is said of such a file."""
_END = b"\xff\xd9"
_SCAN, _RESTART_INTERVAL = 0xDA, 0xDD
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
# Of two of them, the first bit of what is missing would be 1 in the one and 0 in the other.
_CONTINUATIONS = (_END, b"\xaa\x33" * 64 + _END, b"\x55\xcc" * 64 + _END)
# In compressed pixels 0xff is followed by 0, or by one of eight marks at which decoding can restart.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class _Segment(NamedTuple):
    """One segment of a JPEG: its marker, what it says, and where that ends."""

    marker: int
    body: bytes
    end: int


def lacks_end(data: bytes) -> bool:
    """Whether the picture in the file of a JPEG has no end marker; one inside its metadata is none."""
    return not any(segment.marker == _END[1] for segment in _segments(data))


def completed(data: bytes) -> bytes | None:
    """The file of a JPEG that lacks its end marker, with one; None if pixels are missing."""
    if not lacks_end(data) or not _has_all_scans(data):
        return None
    whole = data.rstrip(b"\xff")  # half an end marker
    picture, *others = (_decoded(whole + continuation) for continuation in _CONTINUATIONS)
    is_same = all(ImageChops.difference(picture, other).getbbox() is None for other in others)
    return whole + _END if is_same else None


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    image.load()
    return image


def _segments(data: bytes) -> Iterator[_Segment]:
    """Every segment up to the end marker or the end of the file; compressed pixels are passed over."""
    place = 2  # behind the start marker
    while match := _NEXT_MARKER.search(data, place):
        marker, place = match[0][-1], match.end()
        if marker == _END[1]:
            yield _Segment(marker, b"", place)
            return
        if marker in _STANDALONE:
            continue
        length = int.from_bytes(data[place : place + 2])
        if length < 2 or place + length > len(data):
            return
        place += length
        yield _Segment(marker, data[place - length + 2 : place], place)


def _has_all_scans(data: bytes) -> bool:
    """Whether every scan has begun, and the last one has all its restarts.

    A progressive JPEG comes in several scans, each of them the whole picture but coarser than the next: all
    are there if each of the 64 coefficients of every component is there to its last bit.
    """
    frame, interval = b"", 0
    lowest_bits: dict[int, list[int]] = {}
    has_restarts = False
    for marker, body, end in _segments(data):
        if marker in _FRAMES:
            frame = body
            lowest_bits = {component: [-1] * 64 for component in frame[6::3]}
        elif marker == _RESTART_INTERVAL:
            interval = int.from_bytes(body)
        elif marker == _SCAN:
            components, (first, last, bits) = body[1:-3:2], body[-3:]
            for component in components:
                lowest_bits[component][first : last + 1] = [bits & 0x0F] * (last + 1 - first)
            units = _num_units(frame, components)
            has_restarts = not interval or len(_RESTART.findall(data, end)) >= (units - 1) // interval
    return has_restarts and not any(map(any, lowest_bits.values()))


def _num_units(frame: bytes, components: bytes) -> int:
    """How many units a scan of these components has: blocks of 8 x 8, or groups of them if it has several."""
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    sampling = {name: (hv >> 4, hv & 0x0F) for name, hv in zip(frame[6::3], frame[7::3], strict=True)}
    across = max(horizontal for horizontal, _ in sampling.values())
    down = max(vertical for _, vertical in sampling.values())
    if len(components) == 1:
        of_width, of_height = sampling[components[0]]
        width, height = -(-width * of_width // across), -(-height * of_height // down)
        across = down = 1
    return -(-width // (8 * across)) * -(-height // (8 * down))


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
_XMP = frozenset({"xmp", "XML:com.adobe.xmp"})  # what Pillow calls it
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that trade height and width."""


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the photo states none that can be read."""
    try:
        stated = int(_own_tags(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF can raise anything; viewers then show the photo as stored
        return 1
    return stated if stated in _TURNS else 1


def _own_tags(image: Image.Image) -> Any:
    """What EXIF says, or the tags of a TIFF; not XMP, by which Pillow turns a photo and no browser does."""
    if _XMP.isdisjoint(image.info):
        # Not image.getexif(): for a PNG that would decode the pixels (see read_size_hw).
        return Image.Image.getexif(image)
    if hasattr(image, "tag_v2"):
        return image.tag_v2
    bare = Image.new("1", (1, 1))
    bare.info = {key: value for key, value in image.info.items() if key not in _XMP}
    return bare.getexif()


def divisor_for(size_hw: tuple[int, ...], at_least_hw: tuple[float, float]) -> int:
    """What a photo's sides may be divided by, of what libjpeg decodes to at once, to be no less than that."""
    times = min(side / max(least, 1) for side, least in zip(size_hw, at_least_hw, strict=True))
    return next((divisor for divisor in (8, 4, 2) if divisor <= times), 1)


def lies_sideways(image: Image.Image) -> bool:
    """Whether height and width trade places when the photo is turned upright."""
    return orientation(image) in SIDEWAYS


def decode(image: Image.Image, *, is_chosen: bool = False) -> Image.Image:
    """Load the pixels; what is given back has them. Of several pages this one ``is_chosen``, or is the first.

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
        if not is_chosen and _is_animation(image):
            _tell(image, _FIRST_FRAME, once=True)
        return image
    tiff: Any = image
    if tiff.is_animated and not is_chosen:  # a stack, or a series, whose other pages may be meant
        _tell(tiff, _FIRST_PAGE, once=True)
    if ExifTags.Base.Orientation not in tiff.tag_v2:  # else Pillow would turn it by XMP
        tiff.getexif().pop(ExifTags.Base.Orientation, None)
    tiff.tile = [_in_native_order(_whole_plane(tile, tiff)) for tile in tiff.tile]
    name, tiff.filename = tiff.filename, ""
    try:
        image.load()
    finally:
        tiff.filename = name
    return image


def _is_animation(image: Any) -> bool:
    """Whether there are more frames; a JPEG with several pictures shows one thing in several sizes."""
    if image.format not in ("GIF", "PNG", "WEBP", "AVIF"):
        return False
    with contextlib.suppress(Exception):  # of a GIF the next frame is looked for, which may be damaged
        return bool(getattr(image, "is_animated", False))
    return False


def _whole_plane(tile: Any, tiff: Any) -> Any:
    """The part of a TIFF that has its channels apart: of 16 bits each, Pillow would take them for 8."""
    channel, *more = tile.args
    bits = tiff.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))[0]
    if tile.codec_name != "raw" or len(channel) > 1 or bits != 16:
        return tile
    return tile._replace(args=(f"{channel};16{'B' if tiff.tag_v2.prefix == b'MM' else 'L'}", *more))


def _in_native_order(tile: Any) -> Any:
    """The part of a TIFF as libtiff gives it, which swaps bytes itself; Pillow knows so of 16 bits only."""
    if tile.codec_name != "libtiff":
        return tile
    native = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
    return tile._replace(args=(native.get(tile.args[0], tile.args[0]), *tile.args[1:]))


_told: set[str] = set()
_FIRST_PAGE = "only the first of its pages is read, as of every TIFF with several"
_FIRST_FRAME = (
    "only the first of its frames is read, as of every animation; fewbox detect reads all of a GIF where it "
    "writes a film: -o boxes.mp4"
)
_TRANSPARENT = "transparent everywhere, so that it is white; save such photos without transparency"
_DARK = 32  # a camera that uses 12 bits of a 16-bit file leaves a photo without a grey above 15
_TOO_DARK = (
    "almost black, as where a camera uses 12 bits of 16; make such photos brighter, all by the same factor, "
    "those to learn from and those to look in (fewbox check lists them)"
)


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
        _tell(image, LACKS_END)
        return whole
    return None


def _tell(image: Any, what: str, *, once: bool = False) -> None:
    """Say on stderr what there is to say of a photo's file: once of each, or ``once`` for all of them."""
    name = str(getattr(image, "filename", ""))  # there is none for what came over a wire
    key = what if once else name
    if name and key not in _told:
        _told.add(key)
        console.print(f"{shown_name(Path(name))}: {what}")


def upright_rgb(image: Image.Image, divided_by: int = 1, *, is_chosen: bool = False) -> RGBArray:
    """The pixels as upright RGB ``[H, W, 3]``; sides are divided by ``divided_by`` and rounded up."""
    # First: it turns a TIFF upright and drops the orientation, so none is left to apply.
    is_deep = _has_deep_colours(image)
    rgb = to_rgb(decode(image, is_chosen=is_chosen))
    if is_deep and np.asarray(rgb).max() < _DARK:
        _tell(image, _TOO_DARK, once=True)
    if divided_by > 1:
        rgb = rgb.reduce(divided_by)
    turn = _TURNS.get(orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _has_deep_colours(image: Any) -> bool:
    """Whether a photo that is not decoded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    if image.mode not in ("RGB", "RGBA") or not getattr(image, "tile", None):
        return False
    if image.format == "TIFF":
        return bool(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))[0] == 16)
    return image.format == "PNG" and ";16" in str(image.tile[0][3])


def to_rgb(image: Image.Image) -> Image.Image:
    """The same picture in mode RGB, as it would look on white paper."""
    if image.mode == "F" or image.mode.startswith("I"):
        bits, is_negative = _grey_of_tiff(image)
        grey = _grey8(np.asarray(image), bits, is_negative)
        if grey.max() < _DARK:
            _tell(image, _TOO_DARK, once=True)
        transparent = image.info.get("transparency")  # one of the greys of a PNG
        if isinstance(transparent, int):
            grey = np.where(np.asarray(image) == transparent, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() == (0, 0):
            _tell(image, _TRANSPARENT, once=True)
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
