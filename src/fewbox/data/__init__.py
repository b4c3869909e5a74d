"""Photos and their boxes, what their formats, classes and files are called, and the photos that come along.

Names of classes and of photos are spelled in several ways by programs and systems; what they are compared by
is said here.

Nothing in this folder imports torch. What stands here is light: the command line names the formats and
the demo's photos in its ``--help``, so what needs numpy is imported when it is asked for.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fewbox.core.arguments import names_of_classes, require_distinct
from fewbox.errors import AnnotationError, SettingError

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet
    from fewbox.data.formats.raw import RawAnnotations

FORMATS = {
    "coco": "COCO JSON, one file",
    "csv": "a table, one file",
    "cvat": "CVAT for images 1.1 XML, one file",
    "labelme": "labelme JSON, a file per photo",
    "labelstudio": "Label Studio JSON, one file",
    "voc": "Pascal VOC XML, a file per photo",
    "yolo": "YOLO, a text file per photo and data.yaml",
}
"""What each name stands for."""

PROJECT_FILE = "annotations.json"
"""What the boxes drawn with ``fewbox annotate`` are kept in, beside the photos."""

SPELLING_HINT = "check the spelling, and the folder you are in"
"""Where a file is not there."""

FOLDER_FORMATS = ("labelme", "voc", "yolo")
"""The formats that are a folder with one file per photo."""


def require_format(name: str) -> str:
    """Return ``name`` if it is that of a format.

    Raises:
        SettingError: it is not; the nearest one is suggested.
    """
    if not isinstance(name, str):
        raise SettingError(f"unknown format: {name!r}", hint=f"the formats are: {', '.join(FORMATS)}")
    if name in FORMATS:
        return name
    near = difflib.get_close_matches(name.lower(), FORMATS, n=1, cutoff=0.4)
    hint = (f"did you mean {near[0]}? " if near else "") + f"the formats are: {', '.join(FORMATS)}"
    raise SettingError(f"unknown format: {name!r}", hint=hint)


MAX_LABEL_LENGTH = 100
"""Longer names of classes are a slip: they fit no list and no picture."""

_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))  # Persian and the scripts of India are written with them


def checked_label(label: str) -> str:
    """The name of a class without blanks around it, its accents spelled in the usual one of two ways.

    Raises:
        AnnotationError: nothing is left, or it is too long or not one line of text.
    """
    name = plain_label(label)
    seen = name.translate(_JOINERS)
    if not seen or len(name) > MAX_LABEL_LENGTH or not seen.isprintable():
        hint = f"use a name of 1 to {MAX_LABEL_LENGTH} characters, all of them visible"
        raise AnnotationError(f"not a name for a class: {label[:120]!r}", hint=hint)
    return name


def plain_label(label: str) -> str:
    """What labels are compared by."""
    return unicodedata.normalize("NFC", label).strip()


def checked_labels(given: Any, source: str) -> tuple[str, ...]:
    """The names of the classes of a set.

    Raises:
        AnnotationError: they are no texts, or one is empty, has blanks around it or signs that do not print,
            or is the same as another, also if an accent is spelled in another way.
    """
    # Subclasses of str, such as numpy's, are not written by every format.
    labels = tuple(map(str.__str__, names_of_classes(given, source, AnnotationError)))
    for label in filter(str.strip, labels):  # an empty one is told as that
        require_plain_text(label, f"{source}: label")
    require_distinct(labels, source, AnnotationError)
    seen: dict[str, str] = {}
    for label in labels:
        if (same := seen.setdefault(plain_label(label), label)) != label:
            told = f"{same!a} and {label!a}, which spell an accent in two ways"
            hint = "rename one of them, or make them one"
            raise AnnotationError(f"{source}: two classes have one label: {told}", hint=hint)
    return labels


_NOT_PLAIN = ("Cc", "Cs", "Cn", "Zl", "Zp")
"""Controls, surrogates, unassigned, line and paragraph separators."""


def has_plain_signs(text: str) -> bool:
    """Whether it has no line breaks, control signs or halves of a sign, such as of bytes that are no text."""
    return not any(unicodedata.category(sign) in _NOT_PLAIN for sign in text)


def require_plain_text(text: str, where: str) -> None:
    """Refuse a text that not every format could hold, or that would come back changed.

    Raises:
        AnnotationError: there are blanks around it, or it has line breaks, control signs or
            halves of a sign.
    """
    if text != text.strip() or not has_plain_signs(text):
        message = f"{where}: has blanks around it or signs that do not print: {text[:100]!r}"
        raise AnnotationError(message, hint="rename it")


_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def plain_path(name: str) -> str:
    """The path of a photo, plainly spelled: Windows has its own slash, and some tools write ``./a.jpg``.

    An address stays as it is: its two slashes are no slip.
    """
    if _ADDRESS.match(name):
        return name
    path = name.replace("\\", "/")
    return str(PurePosixPath(path)) if "./" in path or "//" in path else path


def photo_key(name: str) -> str:
    """What photos are compared by: their paths, of which macOS spells an accent as a sign of its own."""
    return unicodedata.normalize("NFC", plain_path(name))


class NamedDrawings:
    """Which of the pictures that fewbox has drawn are photos all the same, as boxes name them.

    Args:
        raw: what files of boxes say; none where there are photos only.
    """

    def __init__(self, raw: RawAnnotations | None) -> None:
        photos = raw.photos if raw else ()
        names = [name for photo in photos for name in (photo.name, *photo.other_names)]
        if raw and raw.format in FOLDER_FORMATS:  # whose files are called as their photos
            names += [photo.file.stem for photo in photos if photo.file]
        self._names = {photo_key(name).rpartition("/")[2].casefold() for name in names}
        self._found: set[Path] = set()

    def has(self, picture: Path) -> bool:
        """Whether boxes name it."""
        if is_named := not self._names.isdisjoint(_called(picture)):
            self._found.add(picture)
        return is_named

    def without_doubles(self, photos: list[Path]) -> list[Path]:
        """The photos without what is drawn and has its name from another: cup.png, of cup.jpg, by cup.txt."""
        if not self._found.intersection(photos):
            return photos
        self._names -= {name for photo in photos if photo not in self._found for name in _called(photo)}
        return [photo for photo in photos if photo not in self._found or self.has(photo)]


def _called(photo: Path) -> tuple[str, str]:
    name = photo_key(photo.name).casefold()
    return name, name.rpartition(".")[0]


DEMO_FOLDER = Path(__file__).parents[1] / "rubber_ducks"
"""Photos of rubber ducks: what ``fewbox demo`` learns from and looks in.

They are rendered, by ``tools/demo_photos.py``, so their boxes are known exactly.
"""
DEMO_BOXES_NAME = "boxes.json"
"""One file with the boxes of all photos, in COCO's format."""


def demo_photos() -> tuple[AnnotationSet, AnnotationSet]:
    """Photos of rubber ducks that come with fewbox, with their boxes: those of ``fewbox demo``.

    They are rendered, so every box is known exactly.

    Returns:
        5 photos to learn from, and 40 others to look in; all reviewed.

    Examples:
        >>> train, test = fewbox.demo_photos()
        >>> len(train), len(test), train.labels
        (5, 40, ('rubber_duck',))
    """
    from fewbox.data.formats import read_raw, to_annotation_set

    everything = to_annotation_set(read_raw(DEMO_FOLDER / DEMO_BOXES_NAME, "coco"))
    train, test = (
        tuple(image for image in everything if image.path.parent.name == name) for name in ("train", "test")
    )
    return replace(everything, images=train, source="train"), replace(everything, images=test, source="test")
