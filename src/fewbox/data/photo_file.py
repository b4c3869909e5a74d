"""Open the file of a photo: which formats are decoded, how large one may be, and what can go wrong."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from fewbox.core.files import sha256_of
from fewbox.data import SPELLING_HINT
from fewbox.data.remote import fetch_missing, shown_name
from fewbox.errors import PhotoError

# The largest phone cameras make 200 megapixels (16320 x 12240). One such photo takes
# 600 MB as RGB; anything larger is more likely a mistake or an attack than a photo.
MAX_PIXELS = 200_000_000


# The only decoders Pillow may use. Its others include EPS, which starts Ghostscript.
_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
# Greys of a TIFF in which 0 is white, and which Pillow reads only where 0 is black: by byte order,
# PhotometricInterpretation, SampleFormat, FillOrder, BitsPerSample and ExtraSamples, as its own table.
_MORE_TIFFS: dict[Any, Any] = {
    (b"MM", 0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
    (b"II", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
    (b"II", 0, (1,), 1, (32,), ()): ("I", "I;32N"),
    (b"MM", 0, (1,), 1, (32,), ()): ("I", "I;32BS"),
    (b"MM", 1, (1,), 1, (32,), ()): ("I", "I;32BS"),
}
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})

_RESAVE_HINT = "open it in a photo viewer and save it again as JPEG or PNG, or leave it out"
_OPEN_HINT = "open it for reading bytes: open(path, 'rb')"
_SMALLER_HINT = "make the photo smaller, or leave it out"


@dataclass(frozen=True)
class PhotoBytes:
    """A photo's file that is in memory, as it came over a wire.

    Attributes:
        name: what to call it in messages.
        data: what would stand in the file.
        max_pixels: a larger photo is refused before it is decoded.
    """

    name: str
    data: bytes
    max_pixels: int = MAX_PIXELS

    def __str__(self) -> str:
        return self.name


PhotoFile = Path | PhotoBytes


def open_file(photo: PhotoFile) -> BinaryIO:
    """The bytes of the photo's file, from its beginning."""
    return io.BytesIO(photo.data) if isinstance(photo, PhotoBytes) else photo.open("rb")


def read_opened(file: Any, name: str) -> bytes:
    """What is left to read of an opened file of any kind; ``name`` begins the messages.

    Raises:
        PhotoError: it is closed, was opened as text, cannot be read, or was read to its end before.
    """
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # a closed one, and text that is none
        raise PhotoError(f"{name}: the opened file cannot be read: {error}", hint=_OPEN_HINT) from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise PhotoError(f"{name}: the opened file does not give bytes", hint=_OPEN_HINT)
    if not data:
        hint = "begin again: file.seek(0)"
        raise PhotoError(f"{name}: the opened file is empty, or was read to its end", hint=hint)
    return bytes(data)


def content_hash(path: Path) -> str | None:
    """The SHA-256 of the photo's file; None if it is not there to be read."""
    with contextlib.suppress(OSError):
        about = path.stat()
        return _hash_of(path, about.st_size, about.st_mtime_ns)
    return None


@lru_cache(1 << 16)  # deep fine-tuning asks after every epoch
def _hash_of(path: Path, *_as_it_is: int) -> str:
    """The hash of a file; its size and age tell it from what was there before."""
    return sha256_of(path)


@contextmanager
def opened(path: PhotoFile) -> Iterator[Image.Image]:
    """Open a photo and read its header; what fails inside the block is told as a PhotoError."""
    with told_as_photo_error(path), _pillow_widened():
        if isinstance(path, Path):
            fetch_missing(path)
        try:
            image = _open_with_pillow(path)
        except UnidentifiedImageError:
            image = _open_as_heic(path)
        with image:
            _check_size(path, image.size)
            yield image


def _open_with_pillow(path: PhotoFile) -> Image.Image:
    Image.preinit()  # JPEG, PNG, BMP and GIF; importing what reads the others takes a while
    try:
        return _open_in_known_format(path)
    except UnidentifiedImageError:
        Image.init()
        return _open_in_known_format(path)


def _open_in_known_format(path: PhotoFile) -> Image.Image:
    source = path if isinstance(path, Path) else open_file(path)  # a path, so that Pillow closes the file
    return Image.open(source, formats=[name for name in _PILLOW_FORMATS if name in Image.OPEN])


def _open_as_heic(path: PhotoFile) -> Image.Image:
    """Open what Pillow alone does not know, going by its content: phones name HEIC ``.jpg`` too."""
    name = _shown(path)
    with open_file(path) as file:
        head = file.read(12)
    if not head:
        raise PhotoError(f"{name}: the file is empty", hint="copy the photo again, or leave it out")
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS and "AVIF" in Image.OPEN:
        raise PhotoError(f"{name}: the photo is damaged or incomplete", hint=_RESAVE_HINT)
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIC_BRANDS:
        raise PhotoError(f"{name}: not a photo in a format that can be read here", hint=_RESAVE_HINT)
    try:
        importlib.import_module("pi_heif").register_heif_opener()
    except ImportError as error:
        hint = "pip install '.[heic]', or save the photo as JPEG"
        raise PhotoError(f"{name}: a HEIC photo, which needs the extra fewbox[heic]", hint=hint) from error
    return _open_with_pillow(path)


@contextmanager
def told_as_photo_error(path: PhotoFile) -> Iterator[None]:
    """Tell whatever reading the photo at ``path`` raises as a PhotoError that names it."""
    try:
        yield
    except PhotoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except MemoryError as error:
        name = _shown(path)
        raise PhotoError(f"{name}: not enough memory to read this photo", hint=_SMALLER_HINT) from error
    except FileNotFoundError as error:
        is_pattern = any(sign in str(path) for sign in "*?[")
        hint = "of a pattern list the photos: fewbox.find_photos(...)" if is_pattern else SPELLING_HINT
        raise PhotoError(f"{_shown(path)}: no such photo", hint=hint) from error
    except Exception as error:
        name = _shown(path)
        # On damaged bytes Pillow's decoders raise SyntaxError, struct.error, IndexError and
        # more; any list of them would be too short. Only an error of the system has an errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotoError(f"{name}: cannot be read: {error.strerror}") from error
        what = "the photo is damaged or incomplete"
        if str(error).startswith("unknown raw mode"):  # Pillow's, where it knows no such layout of pixels
            what = "its pixels are laid out in a way that cannot be read here"
        raise PhotoError(f"{name}: {what}: {error}", hint=_RESAVE_HINT) from error


_limit_lock = threading.Lock()
_limit_before: int | None = None
_tiffs_before: dict[Any, Any] = {}
_photos_open = 0


@contextmanager
def _pillow_widened() -> Iterator[None]:
    """Let Pillow open photos up to MAX_PIXELS, and some more TIFFs, while any thread here is reading one.

    Pillow warns from 89 megapixels on and refuses from 179 on, by a number that belongs to
    the whole process; a program that uses this package finds it, and Pillow's table, as they were.
    """
    global _limit_before, _photos_open
    with _limit_lock:
        if _photos_open == 0:
            _limit_before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
            _tiffs_before.update(TiffImagePlugin.OPEN_INFO)
            TiffImagePlugin.OPEN_INFO.update(_MORE_TIFFS | _tiffs_before)
        _photos_open += 1
    try:
        yield
    finally:
        with _limit_lock:
            _photos_open -= 1
            if _photos_open == 0:
                Image.MAX_IMAGE_PIXELS = _limit_before
                for kind in _MORE_TIFFS.keys() - _tiffs_before.keys():
                    TiffImagePlugin.OPEN_INFO.pop(kind, None)
                _tiffs_before.clear()


def _check_size(path: PhotoFile, size_wh: tuple[int, int]) -> None:
    if size_wh[0] * size_wh[1] > _max_pixels(path):
        raise _too_large(path, f": {size_wh[0]} x {size_wh[1]}")
    if 0 in size_wh:
        raise PhotoError(f"{_shown(path)}: the photo has no pixels", hint=_RESAVE_HINT)


def _max_pixels(path: PhotoFile) -> int:
    return path.max_pixels if isinstance(path, PhotoBytes) else MAX_PIXELS


def _shown(path: PhotoFile) -> str:
    return path.name if isinstance(path, PhotoBytes) else shown_name(path)


def _too_large(path: PhotoFile, size: str = "") -> PhotoError:
    limit = _max_pixels(path) // 1_000_000
    return PhotoError(f"{_shown(path)}: larger than {limit} megapixels{size}", hint=_SMALLER_HINT)


def png_metadata_is_late(photo: PhotoFile) -> bool:
    """Tell whether a PNG says something after its pixels, where Pillow looks only once it has them.

    Raises:
        PhotoError: the file is missing.
    """
    pixels_seen = False
    with open_file(photo) as file:
        file.seek(8)  # signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if pixels_seen and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels_seen = pixels_seen or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)  # the chunk and its checksum
    return False
