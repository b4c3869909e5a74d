"""CVAT for images 1.1: one XML file.

Boxes are read, and the box around polygons, ellipses and masks. The attribute ``ignore`` of a
box is our own: CVAT keeps it where the label declares it, as the files written here do. CVAT
lists every photo of a task, looked at or not; ``reviewed="1"`` on a photo tells them apart.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats.folders import written_names
from fewbox.data.formats.raw import (
    NO_INSIDE,
    OUTLINED,
    Corners,
    RawAnnotations,
    RawBox,
    RawPhoto,
    labels_in_use,
    not_read,
    outer_box,
    require_single_outlines,
    turned_corners,
)
from fewbox.data.formats.text_file import WRITE_AGAIN_HINT, Node, load_xml, number_in, refuse_unread, xml_text
from fewbox.errors import AnnotationError

_EDGES = ("xtl", "ytl", "xbr", "ybr")
_OUTLINES = ("polygon", "ellipse", "mask")
_LINES = ("polyline", "points")
_SHAPE_HINT = "an <image> stands directly in <annotations> and has <box>, <polygon>, <ellipse> or <mask>"
_KNOWN_CHILDREN = ("box", *_OUTLINES)
_CHILDREN = (*_KNOWN_CHILDREN, *_LINES, "tag", "cuboid", "skeleton")


def read_cvat(path: Path) -> RawAnnotations:
    """Read a file of CVAT.

    Raises:
        AnnotationError: it is of another kind, or a shape in it is not understood.
    """
    root = load_xml(path, path.name)
    if root.element.tag != "annotations":
        message = f"{root.where}: not CVAT: it begins with <{root.element.tag[:40]}>"
        raise AnnotationError(message, hint="a CVAT file begins with <annotations>")
    if root.has("track"):
        hint = "export the task again as 'CVAT for images 1.1'"
        raise AnnotationError(f"{root.where}: made of tracks: 'CVAT for video'", hint=hint)
    left_out: Counter[str] = Counter()
    images = root.children("image")
    refuse_unread(
        root,
        [*(node.element for node in images), *root.element.iterfind("meta")],
        _SHAPE_HINT,
        ("image", "track"),
    )
    photos = tuple(_photo(node, left_out) for node in images)
    labels = labels_in_use(photos, _declared_labels(root))
    return RawAnnotations("cvat", path.name, photos, labels, (path.parent,), not_read(left_out))


def cvat_text(annotations: AnnotationSet) -> str:
    """The set as one file of CVAT."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    labels = SubElement(task, "labels")
    for name in annotations.labels:
        _declare_label(SubElement(labels, "label"), name)
    names = written_names([image.path for image in annotations])
    for number, (name, image) in enumerate(zip(names, annotations, strict=True)):
        _add_image(root, image, number, name)
    return xml_text(root)


def _declared_labels(root: Node) -> list[str]:
    """The labels of the task or project, those of a skeleton's points left out."""
    declared = [
        node for node in root.element.iterfind("./meta/*/labels/label") if node.find("parent") is None
    ]
    return [name for node in declared if (name := (node.findtext("name") or "").strip())]


def _photo(node: Node, left_out: Counter[str]) -> RawPhoto:
    name = node.attribute("name")
    # What can go wrong from here on is easier found by the photo's name than by its number.
    node = Node(f"{node.where} {name[:200]!r}", node.element)
    strange = next((child.tag for child in node.element if child.tag not in _CHILDREN), None)
    if strange is not None:
        message = f"{node.where}: <{strange[:40]}> would not be read"
        raise AnnotationError(message, hint=_SHAPE_HINT)
    boxes = tuple(_box(child, left_out) for tag in _KNOWN_CHILDREN for child in node.children(tag))
    outlines = [child.element for tag in _OUTLINES for child in node.children(tag)]
    groups = [element.get("group_id", "0") for element in outlines]
    require_single_outlines([group for group in groups if group not in ("", "0")], node.where)
    if node.has("cuboid") or node.has("skeleton"):
        message = f"{node.where}: a cuboid or a skeleton is no box"
        raise AnnotationError(message, hint="draw a box around the object instead")
    left_out.update(NO_INSIDE for tag in _LINES for _ in node.children(tag))
    left_out.update("tags of photos" for _ in node.children("tag"))
    reviewed = node.flag("reviewed", node.element.get("reviewed", ""))
    subset = node.element.get("subset", "")  # of a project: the folder in which it exports the photo
    is_in_it = not subset or name.replace("\\", "/").startswith(f"{subset}/")
    return RawPhoto(node.where, name if is_in_it else f"{subset}/{name}", boxes, reviewed, _size_hw(node))


def _size_hw(node: Node) -> tuple[int, int] | None:
    if node.element.get("height") is None and node.element.get("width") is None:
        return None
    return int(node.attribute_number("height")), int(node.attribute_number("width"))


def _box(node: Node, left_out: Counter[str]) -> RawBox:
    label = node.attribute("label")
    if node.element.tag in _OUTLINES:
        left_out[OUTLINED] += 1
    if node.element.get("occluded", "0") not in ("", "0"):
        left_out["occluded"] += 1
    ignore = False
    for attribute in node.children("attribute"):
        if attribute.attribute("name") == "ignore":
            ignore = attribute.flag("ignore", attribute.element.text or "")
        else:
            left_out["attributes"] += 1
    corners = _corners(node)
    degrees = node.attribute_number("rotation") if "rotation" in node.element.attrib else 0.0
    turned = turned_corners(corners, degrees, node.where)
    return RawBox(node.where, corners, label, ignore, turned=turned)


def _corners(node: Node) -> Corners:
    match node.element.tag:
        case "box":
            x1, y1, x2, y2 = map(node.attribute_number, _EDGES)
            return x1, y1, x2, y2
        case "ellipse":
            x, y, across, down = map(node.attribute_number, ("cx", "cy", "rx", "ry"))
            return x - across, y - down, x + across, y + down
        case "mask":
            x, y, width, height = map(node.attribute_number, ("left", "top", "width", "height"))
            return x, y, x + width, y + height
        case _:
            return outer_box(_points(node), node.where)


def _points(node: Node) -> list[tuple[float, float]]:
    text = node.attribute("points")
    points = []
    for pair in filter(None, re.split(r"[;\s]+", text)):
        numbers = [number_in(part) for part in pair.split(",")]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            raise AnnotationError(
                f"{node.where}: points must be x,y;x,y;...: {pair[:40]!r}", hint=WRITE_AGAIN_HINT
            )
        points.append((numbers[0], numbers[1]))
    return points


def _declare_label(node: Element, name: str) -> None:
    SubElement(node, "name").text = name
    attribute = SubElement(SubElement(node, "attributes"), "attribute")
    fields = {"name": "ignore", "mutable": "False", "input_type": "checkbox", "default_value": "false"}
    for tag, text in {**fields, "values": "false"}.items():
        SubElement(attribute, tag).text = text


def _add_image(root: Element, image: AnnotatedImage, number: int, name: str) -> None:
    height, width = image.size_hw
    fields = {"id": str(number), "name": name, "width": str(width), "height": str(height)}
    node = SubElement(root, "image", {**fields, "reviewed": str(int(image.reviewed))})
    for box in image.boxes:
        _add_box(node, box)


def _add_box(node: Element, box: Box) -> None:
    edges = [f"{edge:.12g}" for edge in (box.x1, box.y1, box.x2, box.y2)]
    fields = {
        "label": box.label,
        "source": "manual",
        "occluded": "0",
        **dict(zip(_EDGES, edges, strict=True)),
    }
    element = SubElement(node, "box", {**fields, "z_order": "0"})
    SubElement(element, "attribute", name="ignore").text = str(box.ignore).lower()
