"""Read a ``pipeline.config`` of the TensorFlow Object Detection API, refusing what is not computed here.

The file is a protobuf in text form. :func:`parse_text_protobuf` turns it into nested
dictionaries; :class:`Message` hands the fields out one by one with the defaults of the
API's ``.proto`` files, and at the end names any field nobody asked for: such a field
would change the result without our knowing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from fewbox.errors import ConfigError

Fields = dict[str, list["str | Fields"]]
T = TypeVar("T")

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<mark>[{}<>\[\]:])
      | (?P<word>[-+]?[\w.+-]+)""",
    re.VERBOSE,
)
_MAX_DEPTH = 50  # real files nest about eight deep; the limit keeps a hostile one from exhausting the stack


def parse_text_protobuf(text: str, where: str) -> Fields:
    """Turn a text protobuf into ``{field name: [values]}``, every field a list as it may repeat.

    Raises:
        ConfigError: the text is not a text protobuf; ``where`` and the line are named.
    """
    return _Parser(text, where).message(closing=None, depth=0)


class _Parser:
    """A cursor over the tokens of one text protobuf."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, line
        self.position = 0
        self._tokenize(text)

    def _tokenize(self, text: str) -> None:
        start = line = 0
        while start < len(text):
            match = _TOKEN.match(text, start)
            if match is None:
                raise ConfigError(f"{self.where}: line {line + 1}: unexpected character: {text[start]!r}")
            if match.lastgroup != "space":
                self.tokens.append((str(match.lastgroup), match.group(), line + 1))
            line += match.group().count("\n")
            start = match.end()

    def message(self, closing: str | None, depth: int) -> Fields:
        fields: Fields = {}
        if depth > _MAX_DEPTH:
            raise self.error("messages nested too deep")
        while self.position < len(self.tokens):
            kind, name, _ = self.take()
            if name == closing:
                return fields
            if kind != "word":
                raise self.error(f"expected the name of a field, found {name!r}")
            fields.setdefault(name, []).extend(self.values(depth))
        if closing is not None:
            raise self.error(f"the file ends before a closing {closing!r}")
        return fields

    def values(self, depth: int) -> list[str | Fields]:
        kind, token, _ = self.take()
        if token == ":":
            kind, token, _ = self.take()
        if kind == "mark" and token in "{<":
            return [self.message("}" if token == "{" else ">", depth + 1)]
        if kind == "mark" and token == "[":
            return self.list_of_values(depth)
        if kind == "mark":
            raise self.error(f"expected a value, found {token!r}")
        return [token[1:-1] if kind == "string" else token]

    def list_of_values(self, depth: int) -> list[str | Fields]:
        values: list[str | Fields] = []
        while self.position < len(self.tokens) and self.tokens[self.position][1] != "]":
            values.extend(self.values(depth))
        self.take()
        return values

    def take(self) -> tuple[str, str, int]:
        if self.position >= len(self.tokens):
            raise self.error("the file ends in the middle of a field")
        token = self.tokens[self.position]
        self.position += 1
        return token

    def error(self, problem: str) -> ConfigError:
        line = self.tokens[self.position - 1][2] if self.tokens else 1
        return ConfigError(f"{self.where}: line {line}: {problem}")


@dataclass
class Message:
    """The fields of one protobuf message, handed out once each.

    Every reader takes the default that the API's ``.proto`` states. :meth:`close` raises
    if a field is left that was neither read nor declared harmless.
    """

    fields: Fields
    path: str
    where: str
    _known: set[str] = field(default_factory=set)

    def number(self, name: str, default: float) -> float:
        """A float or int field."""
        return self._scalar(name, default, float, "a number")

    def integer(self, name: str, default: int) -> int:
        """An integer field."""
        return self._scalar(name, default, int, "a whole number")

    def numbers(self, name: str) -> tuple[float, ...]:
        """A repeated number field, in order; empty where the field is absent."""
        return tuple(self._convert(name, value, float, "a number") for value in self._values(name))

    def word(self, name: str, default: str) -> str:
        """A string or enum field."""
        return self._scalar(name, default, str, "a word")

    def flag(self, name: str, default: bool) -> bool:
        """A boolean field."""
        return self._scalar(name, default, _boolean, "true or false")

    def child(self, name: str) -> Message:
        """A message field; empty, so all defaults, where it is absent."""
        values = self._values(name)
        if len(values) > 1:  # TensorFlow would merge them, field by field
            raise ConfigError(f"{self.where}: {self.path}.{name}: stands {len(values)} times")
        value = values[-1] if values else {}
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where}: {self.path}.{name}: expected a message in braces: {value}")
        return Message(value, f"{self.path}.{name}", self.where)

    def has(self, name: str) -> bool:
        """Whether the field is there; asking does not count as reading it."""
        return name in self.fields

    def require(self, name: str, supported: object, value: object) -> None:
        """Refuse ``value`` of field ``name`` unless it is the one that is computed here."""
        if value != supported:
            message = f"{self.where}: {self.path}.{name}: not supported: {value} (only {supported})"
            raise ConfigError(message, hint="use a base model listed by: fewbox bases")

    def harmless(self, *names: str) -> None:
        """Declare fields that do not change what the network computes."""
        self._known.update(names)

    def close(self) -> None:
        """Raise if a field was neither read nor declared harmless."""
        unknown = sorted(set(self.fields) - self._known)
        if unknown:
            raise ConfigError(
                f"{self.where}: {self.path}.{unknown[0]}: not supported, and it would change the result",
                hint="use a base model listed by: fewbox bases",
            )

    def _values(self, name: str) -> list[str | Fields]:
        self._known.add(name)
        return self.fields.get(name, [])

    def _scalar(self, name: str, default: T, convert: Callable[[str], T], kind: str) -> T:
        values = self._values(name)
        return self._convert(name, values[-1], convert, kind) if values else default

    def _convert(self, name: str, value: str | Fields, convert: Callable[[str], T], kind: str) -> T:
        try:
            if isinstance(value, dict):
                raise ValueError
            return convert(value)
        except ValueError:
            raise ConfigError(f"{self.where}: {self.path}.{name}: expected {kind}: {value}") from None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise ValueError
    return text.lower() in ("true", "1", "t")
