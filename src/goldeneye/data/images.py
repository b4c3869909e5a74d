"""Photos: find them, and read them as upright RGB.

Everywhere in this package an image is ``[H, W, 3]`` uint8 RGB of the *upright* photo: as
a person sees it, with the camera's EXIF orientation applied exactly once. Boxes and sizes
(always ``size_hw``) refer to that upright image and to no other.
"""

from __future__ import annotations

import glob
import importlib
import os
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from goldeneye.errors import PhotoError

StrPath = str | os.PathLike[str]
RGBArray = npt.NDArray[np.uint8]

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif"}
)

# The largest phone cameras make 200 megapixels (16320 x 12240). One such photo takes
# 600 MB as RGB; anything larger is more likely a mistake or an attack than a photo.
MAX_PIXELS = 200_000_000

# The only decoders Pillow may use. Its others include EPS, which starts Ghostscript.
_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})

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
_SIDEWAYS = frozenset({5, 6, 7, 8})

_RESAVE_HINT = "open it in a photo viewer and save it again as JPEG or PNG, or leave it out"
_SMALLER_HINT = "make the photo smaller, or leave it out"
_SPELLING_HINT = "check the spelling, and the folder you are in"
_SUFFIX_HINT = "photos end in " + ", ".join(sorted(PHOTO_SUFFIXES))


def find_photos(paths: StrPath | Sequence[StrPath]) -> list[Path]:
    """List the photos that files, folders and glob patterns name.

    Args:
        paths: a folder stands for the photos in it, without its sub-folders; in a glob
            pattern ``**`` stands for any number of folders.

    Returns:
        Each photo once, in the order given; inside a folder or pattern in natural order
        (``out2.jpg`` before ``out10.jpg``), hidden files left out.

    Raises:
        PhotoError: a path does not exist, is not a photo, or holds none.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise PhotoError("no photos given", hint="name photos, folders, or patterns like 'pics/*.jpg'")
    found: dict[str, Path] = {}
    for path in given:
        for photo in _photos_at(Path(path)):
            found.setdefault(os.path.realpath(photo), photo)
    return list(found.values())


def photos_in_folder(folder: Path) -> list[Path]:
    """List the photos directly in ``folder`` in natural order; there may be none.

    Raises:
        PhotoError: the folder cannot be listed.
    """
    try:
        return sorted((path for path in folder.iterdir() if _is_photo(path)), key=_natural_order)
    except OSError as error:
        raise PhotoError(f"{folder}: cannot be listed: {error.strerror or error}") from error


def _photos_at(path: Path) -> list[Path]:
    if not os.path.lexists(path) and any(sign in str(path) for sign in "*?["):
        return _photos_matching(path)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {error.strerror or error}") from error
    if is_folder:
        photos = photos_in_folder(path)
        if not photos:
            hint = f"{_SUFFIX_HINT}; sub-folders are searched only by a pattern: '{path / '**' / '*.jpg'}'"
            raise PhotoError(f"{path}: no photos in this folder", hint=hint)
        return photos
    if not is_file:
        raise PhotoError(f"{path}: no such photo or folder", hint=_SPELLING_HINT)
    if path.suffix.lower() not in PHOTO_SUFFIXES:
        raise PhotoError(f"{path}: not a photo by its name", hint=_SUFFIX_HINT)
    return [path]


def _photos_matching(pattern: Path) -> list[Path]:
    matches = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    photos = sorted(filter(_is_photo, map(Path, matches)), key=_natural_order)
    if not photos:
        raise PhotoError(f"{pattern}: no photo matches this pattern", hint=_SUFFIX_HINT)
    return photos


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural_order(path: Path) -> list[tuple[list[str | int], str]]:
    """Compare the digits in a path as numbers; the plain text settles what is then equal."""
    keys = []
    for part in path.parts:
        # Words and numbers take turns in the list, so only like is compared with like.
        pieces = re.split(r"([0-9]+)", part.lower())
        keys.append(([int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], part))
    return keys


def read_image(path: StrPath) -> RGBArray:
    """Read a photo as upright RGB ``[H, W, 3]``.

    Transparent parts become white, 16-bit grey keeps its upper 8 bits, and of an
    animation the first frame is read.

    Raises:
        PhotoError: the file is missing, damaged, too large, or not a photo.
    """
    with _opened(Path(path)) as image:
        return _upright_rgb(image)


def read_size_hw(path: StrPath) -> tuple[int, int]:
    """Read height and width of the upright photo without decoding its pixels.

    Only a PNG that goes on after its pixels is decoded: its orientation may stand there.

    Raises:
        PhotoError: the file is missing, damaged, too large, or not a photo.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow has swapped the sides of a TIFF by itself
            return height, width
        if image.format == "PNG" and _png_metadata_is_late(path):
            image.load()
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def upright_array(image: npt.NDArray[np.generic] | Image.Image) -> RGBArray:
    """Turn an image given in memory into upright RGB ``[H, W, 3]``.

    Args:
        image: an array ``[H, W, 3]`` RGB, ``[H, W, 4]`` RGBA or ``[H, W]`` grey, uint8 and
            taken as upright; or a Pillow image, whose EXIF orientation is applied.

    Returns:
        The array itself if it is RGB, contiguous and writable already, else a new one.

    Raises:
        ValueError: the array has another shape or type, or no pixels.
        PhotoError: the Pillow image cannot be decoded.
    """
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"an image needs at least one pixel: {image.size[0]} x {image.size[1]}")
        with _told_as_photo_error(Path(getattr(image, "filename", "") or "image")):
            return _upright_rgb(image)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)) or image.size == 0:
        raise ValueError(f"an image array is [H, W, 3], [H, W, 4] or [H, W]: {list(image.shape)}")
    if image.dtype != np.uint8:
        raise ValueError(f"an image array is uint8, 0 to 255: {image.dtype}")
    pixels = image.astype(np.uint8, copy=False)
    if pixels.shape[2:] == (3,):
        return np.require(pixels, requirements=["C", "W"])  # what torch takes: rows in order, not read-only
    return np.array(_rgb(Image.fromarray(np.ascontiguousarray(pixels))))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a photo and read its header; what fails inside the block is told as a PhotoError."""
    with _told_as_photo_error(path), _pillow_limit_raised():
        try:
            image = _open_with_pillow(path)
        except UnidentifiedImageError:
            image = _open_as_heic(path)
        with image:
            _check_size(path, image.size)
            yield image


def _open_with_pillow(path: Path) -> Image.Image:
    Image.init()
    return Image.open(path, formats=[name for name in _PILLOW_FORMATS if name in Image.OPEN])


def _open_as_heic(path: Path) -> Image.Image:
    """Open what Pillow alone does not know, going by its content: phones name HEIC ``.jpg`` too."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise PhotoError(f"{path}: the file is empty", hint="copy the photo again, or leave it out")
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIC_BRANDS:
        raise PhotoError(f"{path}: not a photo in a format that can be read here", hint=_RESAVE_HINT)
    try:
        importlib.import_module("pi_heif").register_heif_opener()
    except ImportError as error:
        hint = "pip install 'goldeneye[heic]', or save the photo as JPEG"
        raise PhotoError(f"{path}: a HEIC photo, which needs the extra goldeneye[heic]", hint=hint) from error
    return _open_with_pillow(path)


@contextmanager
def _told_as_photo_error(path: Path) -> Iterator[None]:
    try:
        yield
    except PhotoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except MemoryError as error:
        raise PhotoError(f"{path}: not enough memory to read this photo", hint=_SMALLER_HINT) from error
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: no such photo", hint=_SPELLING_HINT) from error
    except Exception as error:
        # On damaged bytes Pillow's decoders raise SyntaxError, struct.error, IndexError and
        # more; any list of them would be too short. Only an error of the system has an errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise PhotoError(f"{path}: cannot be read: {error.strerror}") from error
        raise PhotoError(f"{path}: the photo is damaged or incomplete: {error}", hint=_RESAVE_HINT) from error


_limit_lock = threading.Lock()
_limit_before: int | None = None
_photos_open = 0


@contextmanager
def _pillow_limit_raised() -> Iterator[None]:
    """Let Pillow open photos up to MAX_PIXELS while any thread here is reading one.

    Pillow warns from 89 megapixels on and refuses from 179 on, by a number that belongs to
    the whole process; a program that uses this package finds it as it was.
    """
    global _limit_before, _photos_open
    with _limit_lock:
        if _photos_open == 0:
            _limit_before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        _photos_open += 1
    try:
        yield
    finally:
        with _limit_lock:
            _photos_open -= 1
            if _photos_open == 0:
                Image.MAX_IMAGE_PIXELS = _limit_before


def _check_size(path: Path, size_wh: tuple[int, int]) -> None:
    if size_wh[0] * size_wh[1] > MAX_PIXELS:
        raise _too_large(path)
    if 0 in size_wh:
        raise PhotoError(f"{path}: the photo has no pixels", hint=_RESAVE_HINT)


def _too_large(path: Path) -> PhotoError:
    limit = MAX_PIXELS // 1_000_000
    return PhotoError(f"{path}: larger than {limit} megapixels", hint=_SMALLER_HINT)


def _png_metadata_is_late(path: Path) -> bool:
    """Tell whether a PNG says something after its pixels, where Pillow looks only once it has them."""
    pixels_seen = False
    with path.open("rb") as file:
        file.seek(8)  # signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if pixels_seen and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels_seen = pixels_seen or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)  # the chunk and its checksum
    return False


def _orientation(image: Image.Image) -> int:
    try:
        # Not image.getexif(): for a PNG that would decode the pixels (see read_size_hw).
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF can raise anything; viewers then show the photo as stored
        return 1


def _upright_rgb(image: Image.Image) -> RGBArray:
    image.load()  # first: it turns a TIFF upright and drops the orientation, so none is left to apply
    rgb = _rgb(image)
    turn = _TURNS.get(_orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _rgb(image: Image.Image) -> Image.Image:
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
