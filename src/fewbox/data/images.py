"""Photos: find them, and read them as upright RGB.

Everywhere in this package an image is ``[H, W, 3]`` uint8 RGB of the *upright* photo: as
a person sees it, with the camera's EXIF orientation applied exactly once. Boxes and sizes
(always ``size_hw``) refer to that upright image and to no other.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core import some_of
from fewbox.core.arguments import checked_least, checked_path, checked_whole_size, kind_of
from fewbox.core.files import drawings_among, is_drawing
from fewbox.core.progress import say_once
from fewbox.data import SPELLING_HINT
from fewbox.data.decoding import RGBArray, decode, divisor_for, lies_sideways, to_rgb, upright_rgb
from fewbox.data.photo_file import (
    PhotoBytes,
    PhotoFile,
    opened,
    png_metadata_is_late,
    told_as_photo_error,
)
from fewbox.data.remote import addresses_at, cached_path, is_remote, path_in, place_here, without_secrets
from fewbox.errors import PhotoError

StrPath = str | os.PathLike[str]
PhotoSource = StrPath | bytes | bytearray | memoryview | PhotoBytes
"""A path or address, or what stands in the file."""
IsNamed = Callable[[Path], bool]
"""Whether what fewbox has drawn in a folder or pattern is named by itself, as by boxes, and so a photo."""

# A saved JPEG is .jfif to Windows and Chrome; .hif is what Canon, Sony and Fujifilm call HEIC; .mpo has
# several JPEGs in it, of which the first is the photo.
PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff"}
    | {".bmp", ".gif", ".heic", ".heif", ".hif", ".avif"}
)

_PHOTO_KINDS = "a path, the bytes of a photo's file, an array [H, W, 3] uint8 RGB, or a Pillow image"
_TO_UINT8 = "of 0 to 255: image.astype('uint8'); of 0 to 1: image * 255 first; of 16 bits: image // 256 first"
_ONLY_DRAWN = ("only pictures that fewbox has drawn", "name one by itself to take it as a photo")
_SUFFIX_HINT = "photos end in " + ", ".join(sorted(PHOTO_SUFFIXES))


def find_photos(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """List the photos that files, folders and glob patterns name.

    Args:
        paths: a folder stands for the photos in it, without its sub-folders; in a glob
            pattern ``**`` stands for any number of folders. All may be addresses such as
            ``s3://bucket/photos/``; the photos there are fetched when they are read.

    Returns:
        Each photo once, in the order given; inside a folder or pattern in natural order (``out2.jpg``
        before ``out10.jpg``), hidden files left out, and what fewbox has drawn, too.

    Raises:
        PhotoError: a path does not exist, is not a photo, or holds none.

    Examples:
        >>> [photo.name for photo in fewbox.find_photos(["ducks/train", "ducks/test/duck_0*.jpg"])][4:7]
        ['duck_05.jpg', 'duck_01.jpg', 'duck_02.jpg']
    """
    return find_named(paths, lambda _: False)


def find_named(paths: StrPath | Iterable[StrPath], is_named: IsNamed) -> list[Path]:
    """As :func:`find_photos`, with those pictures that fewbox has drawn which are named elsewhere."""
    found: dict[str, Path] = {}
    for path in _each_given(paths):
        at = map(cached_path, _addresses(str(path))) if is_remote(path) else _photos_at(Path(path), is_named)
        for photo in at:
            found.setdefault(os.path.realpath(photo), photo)
    return list(found.values())


def photo_places(paths: StrPath | Iterable[StrPath]) -> list[str]:
    """List the photos as :func:`find_photos` does, by where they are: absolute paths and addresses.

    Nothing is noted in the cache, so there may be millions of them.

    Raises:
        PhotoError: as for :func:`find_photos`.
    """
    found: dict[str, str] = {}
    for path in _each_given(paths):
        if is_remote(path):
            found |= {address: address for address in _addresses(str(path))}
        else:
            for photo in _photos_at(Path(path), lambda _: False):
                found.setdefault(os.path.realpath(photo), str(photo.absolute()))
    return list(found.values())


def _each_given(paths: StrPath | Iterable[StrPath]) -> list[StrPath]:
    given = given_places(paths)
    if not given:
        raise PhotoError("no photos given", hint="name photos, folders, or patterns like 'pics/*.jpg'")
    return given


def given_places(places: StrPath | Iterable[StrPath]) -> list[StrPath]:
    """Where photos are said to be, as a list; it may be empty.

    Raises:
        PhotoError: one of them is no path.
    """
    is_one = isinstance(places, str | os.PathLike | bytes) or not isinstance(places, Iterable)
    given: list[Any] = [*map(place_here, [places] if is_one else cast(Any, places))]
    for place in given:
        if not is_remote(place):
            checked_path(place, "a photo or a folder of photos", PhotoError)
    return given


def photo_names_in(folder: Path, is_named: IsNamed) -> list[str]:
    """Names of the photos directly in ``folder`` in natural order; `PhotoError` if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:  # which asks the system once, not once for each of thousands
            listed = list(entries)
            names = {entry.name for entry in listed if _is_photo_name(entry.name) and entry.is_file()}
    except OSError as error:
        raise PhotoError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    beside = drawings_among(entry.name for entry in listed)
    drawn = {name for name in names if name in beside or is_drawing(os.path.join(folder, name))}  # noqa: PTH118
    drawings = {name for name in drawn if not is_named(folder / name)}
    _tell_drawings(folder, drawings)
    return sorted(names - drawings, key=_natural_key)


def _tell_drawings(place: Path, drawings: Iterable[str]) -> None:
    if drawings:
        say_once(f"{place}: drawn by fewbox, and no photos: {some_of(sorted(drawings, key=_natural_key))}")


def _photos_at(path: Path, is_named: IsNamed) -> list[Path]:
    if not os.path.lexists(path) and any(sign in str(path) for sign in "*?["):
        return _photos_matching(path, is_named)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {error.strerror or error}") from error
    if is_folder:
        photos = [path / name for name in photo_names_in(path, is_named)]
        if not photos:
            hint = f"{_SUFFIX_HINT}; sub-folders are searched only by a pattern: '{path / '**' / '*.jpg'}'"
            are_drawn = any(_is_photo_name(each.name) and each.is_file() for each in path.iterdir())
            told, hint = _ONLY_DRAWN if are_drawn else ("no photos in this folder", hint)
            raise PhotoError(f"{path}: {told}", hint=hint)
        return photos
    if not is_file:
        raise PhotoError(f"{path}: no such photo or folder", hint=SPELLING_HINT)
    if path.suffix.lower() not in PHOTO_SUFFIXES:
        raise PhotoError(f"{path}: not a photo by its name", hint=_SUFFIX_HINT)
    return [path]


def _photos_matching(pattern: Path, is_named: IsNamed) -> list[Path]:
    matches = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    those = {path for path in map(Path, matches) if _is_photo_name(path.name) and path.is_file()}
    drawings = {path for path in those if is_drawing(path) and not is_named(path)}
    _tell_drawings(pattern, [str(path) for path in drawings])
    photos = sorted(those - drawings, key=_natural_order)
    if not photos:
        told, hint = _ONLY_DRAWN if drawings else ("no photo matches this pattern", _SUFFIX_HINT)
        raise PhotoError(f"{pattern}: {told}", hint=hint)
    return photos


def _addresses(address: str) -> list[str]:
    if not (addresses := addresses_at(address, PHOTO_SUFFIXES)):
        raise PhotoError(f"{without_secrets(address)}: no photos there", hint=_SUFFIX_HINT)
    addresses.sort(key=lambda found: _natural_order(path_in(found)))
    return addresses


def _file_of(photo: PhotoSource) -> PhotoFile:
    if isinstance(photo, PhotoBytes):
        return photo
    if isinstance(photo, bytes | bytearray | memoryview):
        return PhotoBytes("photo", bytes(photo))
    return photo_path(photo)


def photo_path(photo: StrPath) -> Path:
    """The path of a photo; for an address that of its copy, which is fetched when it is read.

    Raises:
        PhotoError: it is no path, or that of a folder.
    """
    if is_remote(photo := place_here(photo)):
        return cached_path(str(photo))
    path = checked_path(photo, "a photo", PhotoError, _PHOTO_KINDS)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on names that are too long for the system
        hint = f"list the photos in it: fewbox.find_photos({str(path)!r})"
        raise PhotoError(f"{path}: cannot be read: it is a folder, not a photo", hint=hint)
    return path


def _is_photo_name(name: str) -> bool:
    return name.lower().endswith(tuple(PHOTO_SUFFIXES)) and not name.startswith(".")


def _natural_order(path: PurePath) -> list[tuple[list[str | int], str]]:
    """Compare the digits in a path as numbers; the plain text settles what is then equal."""
    return [_natural_key(part) for part in path.parts]


def _natural_key(part: str) -> tuple[list[str | int], str]:
    # Words and numbers take turns in the list, so only like is compared with like.
    pieces = re.split(r"([0-9]+)", part.lower())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], part


def read_image(path: PhotoSource) -> RGBArray:
    """Read a photo as upright RGB ``[H, W, 3]``.

    Transparent parts become white, 16-bit grey keeps its upper 8 bits, and of an
    animation the first frame is read.

    Raises:
        PhotoError: the file is missing, damaged, too large, or not a photo.

    Examples:
        >>> image = fewbox.read_image("ducks/train/duck_01.jpg")
        >>> image.shape, image.dtype
        ((480, 640, 3), dtype('uint8'))
    """
    with opened(_file_of(path)) as image:
        return upright_rgb(image)


@dataclass(frozen=True, eq=False)
class ReducedImage:
    """A photo read smaller than it is.

    Attributes:
        image: ``[h, w, 3]`` uint8 RGB, upright.
        size_hw: height and width of the whole photo.

    Raises:
        PhotoError: ``image`` is no uint8 image with its channels last.
        SettingError: ``size_hw`` is not two whole numbers, or ``image`` is larger or has other proportions.

    Examples:
        >>> import numpy as np
        >>> photo = fewbox.ReducedImage(np.zeros((240, 320, 3), np.uint8), size_hw=(480, 640))
        >>> (np.array([10, 20, 30, 40]) * photo.scale_xyxy).tolist()
        [20.0, 40.0, 60.0, 80.0]
    """

    image: RGBArray
    size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        image = upright_array(self.image, "ReducedImage")  # its rows in order, as networks take them
        stretched = isinstance(self, StretchedImage)
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "size_hw", checked_whole_size(self.size_hw, image.shape, stretched))

    @property
    def scale_xyxy(self) -> npt.NDArray[np.float32]:
        """``[4]``: boxes of ``image`` times this are boxes of the photo; divided by it, the other way."""
        (height, width), (h, w) = self.size_hw, self.image.shape[:2]
        return np.array((width / w, height / h) * 2, np.float32)

    def reduced(self, at_least_hw: tuple[float, float]) -> ReducedImage:
        """The photo as small as :func:`read_reduced` would have read it."""
        divisor = divisor_for(self.image.shape[:2], at_least_hw)
        smaller = Image.fromarray(self.image).reduce(divisor) if divisor > 1 else self.image
        return replace(self, image=np.asarray(smaller))


class StretchedImage(ReducedImage):
    """A frame as a player shows it; ``size_hw`` is that of its pixels as they are stored, not square ones."""


def read_reduced(path: PhotoSource, at_least_hw: tuple[float, float]) -> ReducedImage:
    """Read a photo at a half, a quarter or an eighth of its size, for a network or a preview.

    That takes a fraction of the time and memory. Each pixel is the mean of those it stands for, so a
    network gives slightly different numbers than of the whole photo; see ``docs/photos.md``.

    A JPEG is decoded at that size; other formats are decoded whole, then made smaller.

    Args:
        path: the photo.
        at_least_hw: neither side is made smaller than this, so a small photo is read as it is.

    Raises:
        PhotoError: the file is missing, damaged, too large, or not a photo.
        SettingError: ``at_least_hw`` is not two numbers.

    Examples:
        >>> photo = fewbox.read_reduced("ducks/train/duck_01.jpg", at_least_hw=(200, 200))
        >>> photo.image.shape, photo.size_hw
        ((240, 320, 3), (480, 640))
    """
    least_hw = checked_least(at_least_hw)
    with opened(_file_of(path)) as image:
        if image.format not in ("JPEG", "MPO"):
            decode(image)  # only now is the orientation of a TIFF or PNG certain
        stored_wh = image.size
        size_hw = stored_wh if lies_sideways(image) else stored_wh[::-1]
        divisor = divisor_for(size_hw, least_hw)
        image.draft(None, (stored_wh[0] // divisor, stored_wh[1] // divisor))  # does nothing but for JPEG
        is_whole = image.size == stored_wh
        return ReducedImage(upright_rgb(image, divided_by=divisor if is_whole else 1), size_hw)


def read_size_hw(path: PhotoSource) -> tuple[int, int]:
    """Read height and width of the upright photo without decoding its pixels.

    Only a PNG that goes on after its pixels is decoded: its orientation may stand there.

    Raises:
        PhotoError: the file is missing, damaged, too large, or not a photo.
    """
    file = _file_of(path)
    with opened(file) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow has swapped the sides of a TIFF by itself
            return height, width
        if image.format == "PNG" and png_metadata_is_late(file):
            image.load()
        return (width, height) if lies_sideways(image) else (height, width)


def as_rgb(photo: Any, name: str) -> Any:
    """BGR pixels as RGB; a file or a Pillow image, which say themselves what they are, as it is."""
    if isinstance(photo, ReducedImage):
        return replace(photo, image=photo.image[..., ::-1])
    if isinstance(photo, memoryview) or not hasattr(photo, "ndim"):
        return photo
    return np.ascontiguousarray(upright_array(photo, name)[..., ::-1])


def upright_array(image: Any, name: str = "image") -> RGBArray:
    """Turn an image given in memory into upright RGB ``[H, W, 3]``.

    Args:
        image: an array ``[H, W, 3]`` RGB, ``[H, W, 4]`` RGBA, or ``[H, W]`` or ``[H, W, 1]`` grey, uint8
            and taken as upright; a tensor of PyTorch, which may have its channels first; or a Pillow
            image, whose EXIF orientation is applied.
        name: what messages call it.

    Returns:
        The array itself if it is RGB, contiguous and writable already, else a new one.

    Raises:
        PhotoError: it is something else, has another shape or type, or cannot be decoded.
    """
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise PhotoError(f"{name}: an image needs at least one pixel: {image.size[0]} x {image.size[1]}")
        with told_as_photo_error(Path(getattr(image, "filename", "") or name)):
            return upright_rgb(image, is_chosen=True)  # whoever opened it can turn its pages
    pixels = _pixels_of(image, name)
    if pixels.shape[2:] == (3,):
        return np.require(pixels, requirements=["C", "W"])  # what torch takes: rows in order, not read-only
    return np.array(to_rgb(Image.fromarray(np.ascontiguousarray(pixels))))


def _pixels_of(image: Any, name: str) -> RGBArray:
    """An array or tensor as an array ``[H, W, 3]``, ``[H, W, 4]`` or ``[H, W]``; errors as above."""
    array = image
    if hasattr(image, "detach") and hasattr(image, "cpu"):  # a tensor; PyTorch is not imported here
        try:
            array = image.detach().cpu().numpy()
        except TypeError as error:  # numpy has no bfloat16
            raise PhotoError(f"{name}: an image is uint8, 0 to 255: {image.dtype}", hint=_TO_UINT8) from error
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
            array = array.transpose(1, 2, 0)
    if not isinstance(array, np.ndarray):
        raise PhotoError(f"{name}: nothing that a photo is given as: {kind_of(image)}", hint=_PHOTO_KINDS)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.size == 0:
        hint = _PHOTO_KINDS
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "put the channels last: image.transpose(1, 2, 0)"
        elif array.ndim == 4:
            hint = "give a list of images: list(batch)"
        told = f"{name}: an image array is [H, W, 3], [H, W, 4] or [H, W]: {list(array.shape)}"
        raise PhotoError(told, hint=hint)
    if array.dtype != np.uint8:
        raise PhotoError(f"{name}: an image array is uint8, 0 to 255: {array.dtype}", hint=_TO_UINT8)
    return np.asarray(array, np.uint8)
