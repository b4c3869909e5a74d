"""A JPEG that lacks its end marker: whether all its pixels are there, and then its pixels.

Cameras and downloads that stop a moment early leave such files, and every viewer shows them. Pillow
refuses them, as it cannot tell them from files of which half is missing. Here it is told by what
follows: if all pixels are there, the picture does not depend on it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageChops

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
