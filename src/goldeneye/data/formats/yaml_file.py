"""YAML as far as a data set needs it: mappings, lists, and texts.

Every plain value stays the text that it is, so that a class called ``no`` or ``1`` keeps its
name. Aliases are refused: ten of them on ten lines stand for ten billion values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from goldeneye.data.formats.text_file import read_text
from goldeneye.errors import AnnotationError

YAML_HINT = "data.yaml must name the classes: names: [duck, cup], or names: {0: duck, 1: cup}"

# A thousand names of classes take 20 kB. PyYAML without its C library reads less than 100 kB a second.
_MAX_BYTES = 100_000
_MAX_DEPTH = 20
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(path: Path, source: str) -> Any:
    """Read the only document of a YAML file as dicts, lists and texts.

    Raises:
        AnnotationError: the file cannot be read, is not YAML, is too large or nested, or
            has an alias or one key twice.
    """
    text = read_text(path, _MAX_BYTES)
    try:
        events = yaml.parse(text, Loader=_LOADER)
        documents = [
            _value(events, event, source, 0) for event in events if isinstance(event, yaml.NodeEvent)
        ]
    # ValueError and UnicodeError: a sign by number that is none.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise AnnotationError(f"{source}: not valid YAML: {reason[:200]}", hint=YAML_HINT) from error
    if len(documents) != 1:
        raise AnnotationError(f"{source}: {len(documents)} YAML documents instead of one", hint=YAML_HINT)
    return documents[0]


def yaml_text(content: dict[str, Any]) -> str:
    """A YAML document with its fields in this order."""
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _value(events: Iterator[yaml.Event], event: yaml.Event, source: str, depth: int) -> Any:
    """Build the value that begins with ``event``, and take its other events."""
    line = _line(event)
    if depth > _MAX_DEPTH:
        raise AnnotationError(f"{source}: line {line}: nested too deeply", hint=YAML_HINT)
    if isinstance(event, yaml.ScalarEvent):
        return event.value
    if isinstance(event, yaml.SequenceStartEvent):
        return [_value(events, item, source, depth + 1) for item in _until(events, yaml.SequenceEndEvent)]
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(events, source, depth)
    raise AnnotationError(f"{source}: line {line}: an alias", hint="write the value out")


def _mapping(events: Iterator[yaml.Event], source: str, depth: int) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for event in _until(events, yaml.MappingEndEvent):
        key, line = _value(events, event, source, depth + 1), _line(event)
        if not isinstance(key, str) or key in mapping:
            message = f"{source}: line {line}: a key that is no text, or stands twice: {str(key)[:40]!r}"
            raise AnnotationError(message, hint=YAML_HINT)
        mapping[key] = _value(events, next(events), source, depth + 1)
    return mapping


def _until(events: Iterator[yaml.Event], end: type[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        if isinstance(event, end):
            return
        yield event
