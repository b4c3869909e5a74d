"""XML whose every complaint names its place, read without anything a data file has no use for.

A document type declaration is refused, and with it all entities: a few lines of them expand
to gigabytes or name files on this machine. So is nesting beyond what any tool writes.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from fewbox.data.formats.text_file import number_in, read_bytes
from fewbox.errors import AnnotationError

XML_HINT = "write the file again with the tool it comes from"

_MAX_DEPTH = 50
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Node:
    """An XML element and where it stands."""

    where: str
    element: ElementTree.Element

    def refuse(self, what: str, value: str) -> NoReturn:
        """Say that a value is not what it must be."""
        raise AnnotationError(f"{self.where}: {what}: {reprlib.repr(value)}", hint=XML_HINT)

    def children(self, tag: str) -> list[Node]:
        """The elements ``tag`` directly in this one; the first is number 1."""
        found = self.element.findall(tag)
        return [Node(f"{self.where}: {tag} {number}", child) for number, child in enumerate(found, start=1)]

    def child(self, tag: str) -> Node:
        """The only element ``tag`` directly in this one."""
        found = self.element.findall(tag)
        if len(found) != 1:
            is_there = "is missing" if not found else f"stands {len(found)} times"
            raise AnnotationError(f"{self.where}: {tag} {is_there}", hint=XML_HINT)
        return Node(f"{self.where}: {tag}", found[0])

    def has(self, tag: str) -> bool:
        """Whether there is an element ``tag`` directly in this one."""
        return self.element.find(tag) is not None

    def text(self, tag: str) -> str:
        """The text of the only element ``tag``, without the spaces around it; it may be empty."""
        return (self.child(tag).element.text or "").strip()

    def number(self, tag: str) -> float:
        """The finite number in the only element ``tag``."""
        return self._number(tag, self.text(tag))

    def attribute(self, name: str) -> str:
        """The attribute ``name``, which must be there."""
        value = self.element.get(name)
        if value is None:
            raise AnnotationError(f"{self.where}: {name} is missing", hint=XML_HINT)
        return value

    def attribute_number(self, name: str) -> float:
        """The finite number in the attribute ``name``."""
        return self._number(name, self.attribute(name))

    def flag(self, name: str, text: str) -> bool:
        """What ``text``, the value of ``name``, says: 0, 1, true, false, yes or no; nothing is false."""
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
        raise AnnotationError(f"{source}: not valid XML: {error}", hint=XML_HINT) from error
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
        if self._depth > _MAX_DEPTH:
            raise AnnotationError(
                f"{self._source}: more than {_MAX_DEPTH} elements in each other", hint=XML_HINT
            )
        return super().start(tag, attrs)

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)
