"""JSON whose every complaint names its place: file, path to the value, and the value."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Collection, Container
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn

from fewbox.data import FORMATS
from fewbox.data.formats.text_file import WRITE_AGAIN_HINT, number_in, read_text
from fewbox.errors import AnnotationError

# A whole number too large for a float is as far outside every photo as this one.
_HUGE = 1e300

_TRUTHS = {"0": 0, "1": 1}
_MAX_SHOWN = 80


def _shown(value: Any) -> str:
    """A value as messages show it, in a line's length."""
    text = reprlib.repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


@dataclass(frozen=True)
class Entry:
    """A JSON object and where it stands."""

    where: str
    fields: dict[str, Any]

    def value(self, key: str, kind: type | UnionType, expected: str) -> Any:
        """The field ``key``, which must be a ``kind``."""
        if key not in self.fields:
            raise AnnotationError(f"{self.where}: {key} is missing", hint=WRITE_AGAIN_HINT)
        value = self.fields[key]
        if not isinstance(value, kind) or isinstance(value, bool):  # to Python True is an int
            self.refuse(key, expected)
        return value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Say what the field ``key`` must be."""
        value = _shown(self.fields[key])
        raise AnnotationError(f"{self.where}: {key} must be {expected}: {value}", hint=WRITE_AGAIN_HINT)

    def whole(self, key: str) -> int:
        """A whole number; some tools write 640.0."""
        value = self.value(key, int | float, "a whole number")
        if value != int(value):
            self.refuse(key, "a whole number")
        return int(value)

    def id(self, key: str) -> str:
        """A whole number or a text that links entries; 7, 7.0 and "7" are one id."""
        expected = "a whole number or a text"
        value = self.value(key, int | float | str, expected)
        if value == "" or (isinstance(value, float) and value != int(value)):
            self.refuse(key, expected)
        return value if isinstance(value, str) else str(int(value))

    def text(self, key: str) -> str:
        """A text; it may be empty."""
        return str(self.value(key, str, "a text"))

    def flag(self, key: str) -> bool:
        """False if it is missing or null; 0 and 1, also as texts, stand for false and true."""
        value = self.fields.get(key)
        value = _TRUTHS.get(value, value) if isinstance(value, str) else value
        if value not in (None, 0, 1):
            self.refuse(key, "true or false")
        return bool(value)

    def number(self, key: str) -> float:
        """A finite number."""
        number = number_of(self.value(key, int | float | str, "a number"))
        return self.refuse(key, "a number") if number is None else number

    def stated_area(self) -> float | None:
        """The ``area`` of an annotation; none if it is missing or no finite number from 0."""
        area = number_of(self.fields.get("area"))
        return area if area is not None and area >= 0 else None

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        """A list of finite numbers, ``count`` of them if that is given."""
        expected = {2: "two numbers", 4: "four numbers", None: "a list of numbers"}[count]
        values = [number_of(value) for value in self.value(key, list, expected)]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or len(known) != (count or len(known)):
            self.refuse(key, expected)
        return known

    def points(self, key: str) -> list[tuple[float, float]]:
        """A list of ``[x, y]``."""
        points = []
        for value in self.value(key, list, "a list of points"):
            x, y = map(number_of, value) if isinstance(value, list) and len(value) == 2 else (None, None)
            if x is None or y is None:
                self.refuse(key, "a list of points [x, y]")
            points.append((x, y))
        return points

    def size_hw(self, height: str, width: str) -> tuple[int, int] | None:
        """Height and width of a photo from two fields: 480, 480.0 or "480".

        None if both are missing, null or 0, as some tools write where they do not know.
        """
        if not self.fields.get(height) and not self.fields.get(width):
            return None
        for key in (height, width):
            if self.number(key) != int(self.number(key)):
                self.refuse(key, "a whole number")
        return int(self.number(height)), int(self.number(width))

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
            message = f"{where}[{number}] must be an object: {_shown(value)}"
            raise AnnotationError(message, hint=WRITE_AGAIN_HINT)
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


# What only an object that marks a place in a photo has, whatever the tool calls it.
_PLACES = frozenset(
    {"bbox", "box", "bndbox", "boundingbox", "rect", "rectangle", "coordinates", "points", "polygon"}
    | {"segmentation", "vertices", "rle", "xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2"}
)


def refuse_unread(entry: Entry, read: Collection[str]) -> None:
    """Refuse an object in which boxes stand where they are not looked for.

    Not read, they would make a photo count as empty.

    Args:
        entry: the object.
        read: its fields that are read.

    Raises:
        AnnotationError: another field is a list, or an object of objects, that marks places.
    """
    for key, value in entry.fields.items():
        if key in read:
            continue
        members = list(value.values()) if isinstance(value, dict) else value
        if isinstance(members, list) and any(
            isinstance(member, dict) and _PLACES & {name.lower().replace("_", "") for name in member}
            for member in members
        ):
            message = f"{entry.where}: {_shown(key)} holds boxes that would not be read"
            raise AnnotationError(message, hint="put them where this format has its boxes")


def load_json(path: Path, source: str) -> Any:
    """Read JSON without what JSON does not have, NaN and infinity, and without one key twice in an object.

    Raises:
        AnnotationError: the file cannot be read, or is not JSON.
    """
    return parse_json(read_text(path), source)


def parse_json(text: str, source: str) -> Any:
    """As :func:`load_json`, of a text; errors too."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_fields)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno == 2:
            hint = "write it in one of the formats: " + ", ".join(FORMATS)
            raise AnnotationError(f"{source}: not valid JSON, but JSON in lines", hint=hint) from error
        place = f"{source}: line {error.lineno}, column {error.colno}"
        raise AnnotationError(f"{place}: not valid JSON: {error.msg}", hint=WRITE_AGAIN_HINT) from error
    except (ValueError, RecursionError) as error:  # those below; a number of 5000 digits; nested without end
        raise AnnotationError(f"{source}: not valid JSON: {error}", hint=WRITE_AGAIN_HINT) from error


def load_object(path: Path, source: str) -> Entry:
    """Read JSON that must be an object.

    Raises:
        AnnotationError: as for :func:`load_json`, or it is something else.
    """
    return parse_object(read_text(path), source)


def parse_object(text: str, source: str) -> Entry:
    """As :func:`load_object`, of a text; errors too."""
    top = parse_json(text, source)
    if not isinstance(top, dict):
        message = f"{source}: must be an object: {_shown(top)}"
        raise AnnotationError(message, hint=WRITE_AGAIN_HINT)
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
        raise ValueError(f"{double!r} stands twice in the object {_shown(fields)}")
    return fields


def number_of(value: object) -> float | None:
    """A finite number, or the one that a text is; of anything else none."""
    if isinstance(value, str):
        return number_in(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(max(-_HUGE, min(_HUGE, value))) if abs(value) < math.inf else None
