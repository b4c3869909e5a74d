"""Pascal VOC XML, one file per photo.

Corners are read as they stand. VOC itself counted pixels from 1 and included the last one, so
that a box was one pixel less to the left and above; most tools that write VOC today do not,
and no file says which it does. ``difficult`` is a box to ignore. A file without objects says
"looked at, nothing there"; a photo without a file was not looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from fewbox.data import has_plain_signs
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats.folders import (
    LABELS_NAME,
    images_by_stem,
    labels_text,
    listed_labels,
    name_below,
    places_of,
    source_name,
)
from fewbox.data.formats.raw import RawAnnotations, RawBox, RawPhoto, labels_in_use, not_read, refuse_rotated
from fewbox.data.formats.text_file import WRITE_AGAIN_HINT, Node, load_xml, number_in, refuse_unread, xml_text
from fewbox.data.remote import path_in_address
from fewbox.errors import AnnotationError

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_KNOWN_FIELDS = frozenset({"name", "difficult", "bndbox", *_EDGES})
_ANGLES = ("angle", "theta")  # of the box; elsewhere they may be of anything, such as the camera
_ROTATION = re.compile(r"rot(at(e|ed|ion))?([_-].*|angle|degrees?|radians?)?", re.IGNORECASE)
_OBJECT_HINT = "an <object> stands directly in <annotation> and has a <name> and a <bndbox>"
_SAYS_NOTHING = frozenset({"", "0", "unspecified"})


def read_voc(files: Sequence[Path], folder: Path) -> RawAnnotations:
    """Read the XML files of a folder.

    Raises:
        AnnotationError: a file is not Pascal VOC, or a box in it is not understood.
    """
    left_out: Counter[str] = Counter()
    photos = []
    for path in files:
        root = load_xml(path, name_below(path, folder))
        if root.element.tag != "annotation":
            message = f"{root.where}: not Pascal VOC: it begins with <{root.element.tag[:40]}>"
            raise AnnotationError(message, hint="a Pascal VOC file begins with <annotation>")
        photos.append(_photo(root, path, left_out))
    labels = labels_in_use(photos, listed_labels(files, folder))
    source, places = source_name(files, folder), places_of("voc", files, folder)
    return RawAnnotations("voc", source, tuple(photos), labels, places, not_read(left_out))


def voc_texts(annotations: AnnotationSet) -> dict[str, str]:
    """The files of a folder by name; photos that nobody has looked at have none."""
    texts = {f"{stem}.xml": _text(image) for stem, image in images_by_stem(annotations).items()}
    return {**texts, LABELS_NAME: labels_text(annotations)}


def _photo(root: Node, path: Path, left_out: Counter[str]) -> RawPhoto:
    name, folder, full = (root.text(tag) if root.has(tag) else "" for tag in ("filename", "folder", "path"))
    paths = (f"{folder}/{name}", full) if folder or full else ()
    objects = root.children("object")
    refuse_unread(root, [node.element for node in objects], _OBJECT_HINT)
    boxes = tuple(_box(node, left_out) for node in objects)
    return RawPhoto(root.where, name or path.stem, boxes, True, _size_hw(root), file=path, paths=paths)


def _size_hw(root: Node) -> tuple[int, int] | None:
    if not root.has("size"):
        return None
    size = root.child("size")
    height, width = int(size.number("height")), int(size.number("width"))
    # Tools that did not know the size have written zeros.
    return None if height == width == 0 else (height, width)


def _box(node: Node, left_out: Counter[str]) -> RawBox:
    if tags := ["robndbox"] * node.has("robndbox") or _angles(node.element):
        refuse_rotated(f"{node.where}: {tags[0][:40]}")
    bounds = node.child("bndbox")
    x1, y1, x2, y2 = (bounds.number(edge) for edge in _EDGES)
    label = node.text("name")
    if not label:
        raise AnnotationError(f"{node.where}: name is empty", hint=WRITE_AGAIN_HINT)
    for child in (*node.element, *bounds.element):
        says = (child.text or "").strip().lower()
        if child.tag not in _KNOWN_FIELDS and (len(child) or says not in _SAYS_NOTHING):
            left_out[child.tag[:40]] += 1
    ignore = node.has("difficult") and node.flag("difficult", node.text("difficult"))
    return RawBox(node.where, (x1, y1, x2, y2), label, ignore)


def _angles(thing: Element) -> list[str]:
    """What elements of an object that turn its box are called: angles that are not 0."""
    return [
        child.tag
        for element in thing.iter()
        for child in element
        if _ROTATION.fullmatch(child.tag)
        or (child.tag in _ANGLES and (element is thing or "box" in element.tag.lower()))
        if number_in((child.text or "").strip())
    ]


def _text(image: AnnotatedImage) -> str:
    root = Element("annotation")
    folder = (path_in_address(image.path) or image.path.absolute()).parent.name
    if has_plain_signs(folder):  # XML holds no others; the photo is found without it
        SubElement(root, "folder").text = folder
    SubElement(root, "filename").text = image.path.name
    size = SubElement(root, "size")
    height, width = image.size_hw
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(size, tag).text = str(value)
    SubElement(root, "segmented").text = "0"
    for box in image.boxes:
        _add_object(root, box)
    return xml_text(root)


def _add_object(root: Element, box: Box) -> None:
    node = SubElement(root, "object")
    fields = {"name": box.label, "pose": "Unspecified", "truncated": "0", "difficult": str(int(box.ignore))}
    for tag, text in fields.items():
        SubElement(node, tag).text = text
    bounds = SubElement(node, "bndbox")
    for tag, edge in zip(_EDGES, (box.x1, box.y1, box.x2, box.y2), strict=True):
        SubElement(bounds, tag).text = f"{edge:.12g}"
