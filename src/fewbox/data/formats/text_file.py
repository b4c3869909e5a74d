"""Files of boxes as bytes and text: how much is read, and in which encoding."""

from __future__ import annotations

import codecs
import math
import unicodedata
from pathlib import Path

from fewbox.errors import AnnotationError

# The largest file people have, the boxes of COCO's training photos, has 450 MB.
MAX_BYTES = 1_000_000_000

_SPELLING_HINT = "check the spelling, and the folder you are in"
_ENCODING_HINT = "save it again as UTF-8"

# Controls, surrogates, unassigned, line and paragraph separators.
_NOT_PLAIN = ("Cc", "Cs", "Cn", "Zl", "Zp")

# The longer mark first: UTF-32 in little-endian order begins as UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file whole.

    Raises:
        AnnotationError: it is missing, no ordinary file, unreadable, or larger than ``max_bytes``.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise AnnotationError(f"{path}: cannot be read: not a file", hint="name a file of boxes")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: no such file", hint=_SPELLING_HINT) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise AnnotationError(f"{path}: cannot be read: {reason}", hint=_SPELLING_HINT) from error
    if len(data) > max_bytes:
        hint = "split it, or leave it out"
        raise AnnotationError(f"{path}: larger than {max_bytes:,} bytes", hint=hint)
    return data


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Read UTF-8, or what a byte order mark says.

    Raises:
        AnnotationError: as for :func:`read_bytes`, or the file is not text in this encoding.
    """
    return _decoded(read_bytes(path, max_bytes), path)


def read_text_of_windows(path: Path) -> tuple[str, bool]:
    """Read as :func:`read_text` does, or else as Windows-1252, and say if it was that.

    Spreadsheets and small tools on Windows write Windows-1252 without saying so.

    Raises:
        AnnotationError: as for :func:`read_text`.
    """
    data = read_bytes(path)
    try:
        return _decoded(data, path), False
    except AnnotationError:
        if data.startswith(tuple(mark for mark, _ in _MARKS)):
            raise
        try:
            return data.decode("cp1252"), True
        except UnicodeDecodeError:
            pass
        raise


def number_in(text: str) -> float | None:
    """The finite number that a text is, or none; Python's ``1_000`` is no number to other tools."""
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def require_plain_text(text: str, where: str) -> None:
    """Refuse a text that not every format could hold, or that would come back changed.

    Raises:
        AnnotationError: there are blanks around it, or it has line breaks, control signs or
            halves of a sign.
    """
    if text != text.strip() or any(unicodedata.category(sign) in _NOT_PLAIN for sign in text):
        message = f"{where}: has blanks around it or signs that do not print: {text[:100]!r}"
        raise AnnotationError(message, hint="rename it")


def _decoded(data: bytes, path: Path) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise AnnotationError(f"{path}: not {name} text: byte {error.start}", hint=_ENCODING_HINT) from error
