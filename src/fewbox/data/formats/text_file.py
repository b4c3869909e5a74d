"""Files of boxes as text: how much is read, in which encoding, and YAML and XML that can do no harm.

Of YAML, a data set needs mappings, lists and texts. Every plain value stays the text that it is, so
that a class called ``no`` or ``1`` keeps its name. Aliases are refused: ten of them on ten lines stand
for ten billion values.

Of XML, a document type declaration is refused, and with it all entities: a few lines of them expand to
gigabytes or name files on this machine. So is nesting beyond what any tool writes. Every complaint
names its place.
"""

from __future__ import annotations

import codecs
import filecmp
import math
import reprlib
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from xml.etree import ElementTree

import yaml

from fewbox.data import SPELLING_HINT
from fewbox.errors import AnnotationError

# The largest file people have, the boxes of COCO's training photos, has 450 MB.
MAX_BYTES = 1_000_000_000

WRITE_AGAIN_HINT = "write the file again with the tool it comes from"
_ENCODING_HINT = "save it again as UTF-8"

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
        raise AnnotationError(f"{path}: no such file", hint=SPELLING_HINT) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise AnnotationError(f"{path}: cannot be read: {reason}", hint=SPELLING_HINT) from error
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


def _decoded(data: bytes, path: Path) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise AnnotationError(f"{path}: not {name} text: byte {error.start}", hint=_ENCODING_HINT) from error


if TYPE_CHECKING:
    from yaml import BaseLoader as _Loader
else:
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


_MAX_ELEMENT_DEPTH = 50
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Node:
    """An XML element and where it stands."""

    where: str
    element: ElementTree.Element

    def refuse(self, what: str, value: str) -> NoReturn:
        """Say that a value is not what it must be.

        Raises:
            AnnotationError: always.
        """
        raise AnnotationError(f"{self.where}: {what}: {reprlib.repr(value)}", hint=WRITE_AGAIN_HINT)

    def children(self, tag: str) -> list[Node]:
        """The elements ``tag`` directly in this one; the first is number 1."""
        found = self.element.findall(tag)
        return [Node(f"{self.where}: {tag} {number}", child) for number, child in enumerate(found, start=1)]

    def child(self, tag: str) -> Node:
        """The only element ``tag`` directly in this one.

        Raises:
            AnnotationError: it is missing, or there are several.
        """
        found = self.element.findall(tag)
        if len(found) != 1:
            is_there = "is missing" if not found else f"stands {len(found)} times"
            raise AnnotationError(f"{self.where}: {tag} {is_there}", hint=WRITE_AGAIN_HINT)
        return Node(f"{self.where}: {tag}", found[0])

    def has(self, tag: str) -> bool:
        """Whether there is an element ``tag`` directly in this one."""
        return self.element.find(tag) is not None

    def text(self, tag: str) -> str:
        """The text of the only element ``tag``, without the spaces around it; errors as :meth:`child`."""
        return (self.child(tag).element.text or "").strip()

    def number(self, tag: str) -> float:
        """The finite number in the only element ``tag``; AnnotationError also if it is something else."""
        return self._number(tag, self.text(tag))

    def attribute(self, name: str) -> str:
        """The attribute ``name``.

        Raises:
            AnnotationError: it is missing.
        """
        value = self.element.get(name)
        if value is None:
            raise AnnotationError(f"{self.where}: {name} is missing", hint=WRITE_AGAIN_HINT)
        return value

    def attribute_number(self, name: str) -> float:
        """The finite number in the attribute ``name``; AnnotationError also if it is something else."""
        return self._number(name, self.attribute(name))

    def flag(self, name: str, text: str) -> bool:
        """What ``text``, the value of ``name``, says: 0, 1, true, false, yes or no; nothing is false.

        Raises:
            AnnotationError: it says something else.
        """
        if not text.strip():
            return False
        truth = _TRUTHS.get(text.strip().lower())
        if truth is None:
            self.refuse(f"{name} must be 0 or 1", text)
        return truth

    def _number(self, name: str, text: str) -> float:
        number = number_in(text)
        if number is None:
            self.refuse(f"{name} must be a number", text)
        return number


# What only an element that marks a place in a photo is called, in the formats that are made of XML.
_PLACES = frozenset(
    {"object", "obj", "bndbox", "robndbox", "bbox", "box", "boundingbox", "rectangle", "polygon", "polyline"}
    | {"objects", "bboxes", "boxes", "region", "regions", "detection", "detections", "instance", "instances"}
    | {"points", "point", "pt", "ellipse", "mask", "cuboid", "skeleton"}
)
# And what its edges are called, as elements or as attributes.
_EDGES = frozenset({"xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "xtl", "ytl", "xbr", "ybr"})


def refuse_unread(
    root: Node, read: Iterable[ElementTree.Element], hint: str, more: Collection[str] = ()
) -> None:
    """Refuse a file in which objects stand where they are not looked for.

    Not read, they would make a photo count as empty.

    Args:
        root: the whole file.
        read: the elements that are read, with all below them.
        hint: where this format has its objects.
        more: other names of elements that may hold objects.

    Raises:
        AnnotationError: an element outside of them is called like one that marks a place, in whatever case.
    """
    known = {id(element) for element in read}
    waiting = [root.element]
    while waiting:
        element = waiting.pop()
        for child in element:
            if id(child) in known:
                continue
            name = child.tag.rpartition("}")[2]
            says = len(child) or child.attrib or (child.text or "").strip()
            is_place = name.lower() in _PLACES.union(_EDGES, more) or _EDGES & set(
                map(str.lower, child.attrib)
            )
            if says and is_place:
                message = f"{root.where}: <{name[:40]}> in <{element.tag[:40]}> would not be read"
                raise AnnotationError(message, hint=hint)
            waiting.append(child)


def load_xml(path: Path, source: str) -> Node:
    """Read an XML file.

    Raises:
        AnnotationError: the file cannot be read, is not XML, declares a document type, or
            nests without end.
    """
    parser = ElementTree.XMLParser(target=_Builder(source))
    try:
        parser.feed(read_bytes(path))
        root = parser.close()
    # ValueError and LookupError: an encoding that is declared and not known.
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{source}: not valid XML: {error}", hint=WRITE_AGAIN_HINT) from error
    return Node(source, root)


def xml_text(root: ElementTree.Element) -> str:
    """An XML document, indented."""
    ElementTree.indent(root)
    declaration = '<?xml version="1.0" encoding="utf-8"?>'
    return f"{declaration}\n{ElementTree.tostring(root, encoding='unicode')}\n"


class _Builder(ElementTree.TreeBuilder):
    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        self._depth = 0

    def doctype(self, name: str, pubid: str, system: str) -> NoReturn:
        hint = "take the line <!DOCTYPE ...> out of it"
        message = f"{self._source}: declares a document type, which can make it expand without end"
        raise AnnotationError(message, hint=hint)

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        self._depth += 1
        if self._depth > _MAX_ELEMENT_DEPTH:
            raise AnnotationError(
                f"{self._source}: more than {_MAX_ELEMENT_DEPTH} elements in each other",
                hint=WRITE_AGAIN_HINT,
            )
        return super().start(tag, attrs)

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)


def have_one_content(first: Path, second: Path) -> bool:
    """Whether one file is a copy of the other; not if one of them cannot be read."""
    try:
        return first == second or filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False
