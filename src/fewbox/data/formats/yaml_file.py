"""YAML as far as a data set needs it: mappings, lists, and texts.

Every plain value stays the text that it is, so that a class called ``no`` or ``1`` keeps its
name. Aliases are refused: ten of them on ten lines stand for ten billion values.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fewbox.data.formats.text_file import read_text
from fewbox.errors import AnnotationError

if TYPE_CHECKING:
    from yaml import BaseLoader as _Loader
else:  # with the C library where PyYAML has it: ten times faster
    _Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

YAML_HINT = "data.yaml must name the classes: names: [duck, cup], or names: {0: duck, 1: cup}"

# A thousand names of classes take 20 kB. PyYAML without its C library reads less than 100 kB a second.
_MAX_BYTES = 100_000
_MAX_DEPTH = 20


def load_yaml(path: Path, source: str) -> Any:
    """Read the only document of a YAML file as dicts, lists and texts.

    Raises:
        AnnotationError: the file cannot be read, is not YAML, is too large or nested, or
            has an alias or one key twice.
    """
    text = read_text(path, _MAX_BYTES)
    try:
        _refuse_what_grows(text, source)
        return yaml.load(text, Loader=_Texts)
    except yaml.constructor.ConstructorError as error:
        message = f"{source}: {_line(error.problem_mark)}: {error.problem}"
        raise AnnotationError(message, hint=YAML_HINT) from error
    # ValueError and UnicodeError: a sign by number that is none.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise AnnotationError(f"{source}: not valid YAML: {reason[:200]}", hint=YAML_HINT) from error


def yaml_text(content: dict[str, Any]) -> str:
    """A YAML document with its fields in this order."""
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}"


def _refuse_what_grows(text: str, source: str) -> None:
    """Refuse aliases, deep nesting, and any number of documents but one, before anything is built."""
    documents = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        where = f"{source}: {_line(event.start_mark)}"
        if isinstance(event, yaml.NodeEvent) and depth > _MAX_DEPTH:
            raise AnnotationError(f"{where}: nested too deeply", hint=YAML_HINT)
        if isinstance(event, yaml.AliasEvent):
            raise AnnotationError(f"{where}: an alias", hint="write the value out")
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
    if documents != 1:
        raise AnnotationError(f"{source}: {documents} YAML documents instead of one", hint=YAML_HINT)


class _Texts(_Loader):
    """Every plain value as text, as in ``BaseLoader``, which would let the second of two equal keys win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping, unless a key is no text or stands twice."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in seen:
                problem = f"a key that is no text, or stands twice: {str(key)[:40]!r}"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
