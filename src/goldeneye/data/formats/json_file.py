"""JSON whose every complaint names its place: file, path to the value, and the value."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeGuard

from goldeneye.data.formats.text_file import read_text
from goldeneye.errors import AnnotationError

JSON_HINT = "write the file again with the tool it comes from"

# A whole number too large for a float is as far outside every photo as this one.
_HUGE = 1e300


@dataclass(frozen=True)
class Entry:
    """A JSON object and where it stands."""

    where: str
    fields: dict[str, Any]

    def value(self, key: str, kind: type | UnionType, expected: str) -> Any:
        """The field ``key``, which must be a ``kind``."""
        if key not in self.fields:
            raise AnnotationError(f"{self.where}: {key} is missing", hint=JSON_HINT)
        value = self.fields[key]
        if not isinstance(value, kind) or isinstance(value, bool):  # to Python True is an int
            self.refuse(key, expected)
        return value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Say what the field ``key`` must be."""
        value = reprlib.repr(self.fields[key])
        raise AnnotationError(f"{self.where}: {key} must be {expected}: {value}", hint=JSON_HINT)

    def whole(self, key: str) -> int:
        """A whole number."""
        return int(self.value(key, int, "a whole number"))

    def text(self, key: str) -> str:
        """A text; it may be empty."""
        return str(self.value(key, str, "a text"))

    def flag(self, key: str) -> bool:
        """False if it is missing; 0 and 1 stand for false and true."""
        if self.fields.get(key, 0) not in (0, 1):
            self.refuse(key, "true or false")
        return bool(self.fields.get(key, 0))

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.value(key, int | float, "a number")
        if not _is_number(value):
            self.refuse(key, "a number")
        return _as_float(value)

    def stated_area(self) -> float | None:
        """The ``area`` of an annotation; none if it is missing or no finite number from 0."""
        value = self.fields.get("area")
        return _as_float(value) if _is_number(value) and value >= 0 else None

    def numbers(self, key: str, count: int) -> list[float]:
        """A list of ``count`` finite numbers."""
        expected = {2: "two numbers", 4: "four numbers"}[count]
        values = self.value(key, list, expected)
        if len(values) != count or not all(map(_is_number, values)):
            self.refuse(key, expected)
        return [_as_float(value) for value in values]

    def points(self, key: str) -> list[tuple[float, float]]:
        """A list of ``[x, y]``."""
        points = []
        for value in self.value(key, list, "a list of points"):
            if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
                self.refuse(key, "a list of points [x, y]")
            points.append((_as_float(value[0]), _as_float(value[1])))
        return points

    def size_hw(self, height: str, width: str) -> tuple[int, int] | None:
        """Height and width of a photo from two fields, or none if both are missing or null."""
        if self.fields.get(height) is None and self.fields.get(width) is None:
            return None
        return self.whole(height), self.whole(width)

    def entry(self, key: str) -> Entry:
        """An object within this one."""
        return Entry(f"{self.where}: {key}", self.value(key, dict, "an object"))

    def entries(self, key: str) -> list[Entry]:
        """A list of objects within this one."""
        return entries(self.value(key, list, "a list"), f"{self.where}: {key}")


def entries(values: list[Any], where: str) -> list[Entry]:
    """The objects of a list that stands at ``where``.

    Raises:
        AnnotationError: an element is not an object.
    """
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            message = f"{where}[{number}] must be an object: {reprlib.repr(value)}"
            raise AnnotationError(message, hint=JSON_HINT)
    return [Entry(f"{where}[{number}]", value) for number, value in enumerate(values)]


def unused_id(entry: Entry, taken: Container[int]) -> int:
    """The ``id`` of an entry, a whole number that is not ``taken``.

    Raises:
        AnnotationError: it is another, or taken.
    """
    number = entry.whole("id")
    if number in taken:
        entry.refuse("id", "different from the ids before it")
    return number


def load_json(path: Path, source: str) -> Any:
    """Read JSON without what JSON does not have, NaN and infinity, and without one key twice in an object.

    Raises:
        AnnotationError: the file cannot be read, or is not JSON.
    """
    return parse_json(read_text(path), source)


def parse_json(text: str, source: str) -> Any:
    """As :func:`load_json`, of a text."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_fields)
    except json.JSONDecodeError as error:
        place = f"{source}: line {error.lineno}, column {error.colno}"
        raise AnnotationError(f"{place}: not valid JSON: {error.msg}", hint=JSON_HINT) from error
    except (ValueError, RecursionError) as error:  # those below; a number of 5000 digits; nested without end
        raise AnnotationError(f"{source}: not valid JSON: {error}", hint=JSON_HINT) from error


def load_object(path: Path, source: str) -> Entry:
    """Read JSON that must be an object.

    Raises:
        AnnotationError: as for :func:`load_json`, or it is something else.
    """
    return parse_object(read_text(path), source)


def parse_object(text: str, source: str) -> Entry:
    """As :func:`load_object`, of a text."""
    top = parse_json(text, source)
    if not isinstance(top, dict):
        message = f"{source}: must be an object: {reprlib.repr(top)}"
        raise AnnotationError(message, hint=JSON_HINT)
    return Entry(source, top)


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits)


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{double!r} stands twice in the object {reprlib.repr(fields)}")
    return fields


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _as_float(value: float) -> float:
    return float(max(-_HUGE, min(_HUGE, value)))
