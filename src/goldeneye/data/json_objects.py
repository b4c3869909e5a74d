"""JSON from elsewhere: every complaint says at which place of which file.

A file is checked where it is read, field by field, so that no other code meets a text where
a number belongs.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, NoReturn

from goldeneye.errors import AnnotationError

_JSON_HINT = "write the file again with the tool it comes from; goldeneye reads COCO JSON"


@dataclass(frozen=True)
class JsonObject:
    """A JSON object and where it stands, so that every complaint about it can say so."""

    where: str
    fields: dict[str, Any]

    def value(self, key: str, kind: type, expected: str) -> Any:
        """A field that must be there and of one kind."""
        if key not in self.fields:
            raise AnnotationError(f"{self.where}: {key} is missing", hint=_JSON_HINT)
        value = self.fields[key]
        if not isinstance(value, kind) or isinstance(value, bool):  # to Python True is an int
            self.refuse(key, expected)
        return value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Say what a field must be, and what it is."""
        value = reprlib.repr(self.fields[key])
        raise AnnotationError(f"{self.where}: {key} must be {expected}: {value}", hint=_JSON_HINT)

    def whole(self, key: str) -> int:
        """A whole number."""
        return int(self.value(key, int, "a whole number"))

    def text(self, key: str) -> str:
        """A text."""
        return str(self.value(key, str, "a text"))

    def flag(self, key: str) -> bool:
        """False if it is missing; COCO writes 0 and 1 for false and true."""
        if self.fields.get(key, 0) not in (0, 1):
            self.refuse(key, "true or false")
        return bool(self.fields.get(key, 0))

    def corners(self, key: str) -> list[float]:
        """Four numbers."""
        numbers = self.value(key, list, "four numbers")
        if len(numbers) != 4 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
            self.refuse(key, "four numbers")
        # A whole number too large for a float is as far outside every photo as this one.
        return [max(-1e300, min(1e300, number)) for number in numbers]

    def entries(self, key: str) -> list[JsonObject]:
        """A list of objects."""
        values = self.value(key, list, "a list")
        for number, value in enumerate(values):
            if not isinstance(value, dict):
                message = f"{self.where}: {key}[{number}] must be an object: {reprlib.repr(value)}"
                raise AnnotationError(message, hint=_JSON_HINT)
        return [JsonObject(f"{self.where}: {key}[{number}]", value) for number, value in enumerate(values)]

    def unused_id(self, taken: Container[int]) -> int:
        """Its ``id``, a whole number that is not ``taken`` yet."""
        number = self.whole("id")
        if number in taken:
            self.refuse("id", "different from the ids before it")
        return number


def parse_json_object(text: str, source: str) -> JsonObject:
    """Read the JSON object that ``text`` is.

    Raises:
        AnnotationError: it is not JSON, or something else than an object.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number")

    def finite(digits: str) -> float:
        return number if math.isfinite(number := float(digits)) else refuse(digits)

    try:
        top = json.loads(text, parse_constant=refuse, parse_float=finite)
    except json.JSONDecodeError as error:
        place = f"{source}: line {error.lineno}, column {error.colno}"
        raise AnnotationError(f"{place}: not valid JSON: {error.msg}", hint=_JSON_HINT) from error
    except (ValueError, RecursionError) as error:  # NaN, a number of 5000 digits, nested without end
        raise AnnotationError(f"{source}: not valid JSON: {error}", hint=_JSON_HINT) from error
    if not isinstance(top, dict):
        raise AnnotationError(
            f"{source}: not COCO JSON: it begins with a {type(top).__name__}", hint=_JSON_HINT
        )
    return JsonObject(source, top)
