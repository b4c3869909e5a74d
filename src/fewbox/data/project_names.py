"""Names of classes and of photos in the project file, which programs and systems spell in several ways."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

from fewbox.errors import AnnotationError

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


def plain_path(name: str) -> str:
    """The path of a photo, plainly spelled: Windows has its own slash, and some tools write ``./a.jpg``."""
    path = name.replace("\\", "/")
    return str(PurePosixPath(path)) if "./" in path or "//" in path else path


def photo_key(name: str) -> str:
    """What photos are compared by: their paths, of which macOS spells an accent as a sign of its own."""
    return unicodedata.normalize("NFC", plain_path(name))
