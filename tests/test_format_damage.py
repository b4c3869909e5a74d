"""Damaged files of boxes: each is a clear error or a set, never a traceback or a hang.

Eight hundred of them, the same in every run; "make fuzz" tries ten thousand others.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

import fewbox.data.formats
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations
from fewbox.errors import FewboxError

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
PER_FORMAT = 1429 if FUZZ else 115  # of seven formats
MAX_SECONDS = 2.0
SIZE_HW = (60, 100)

COCO = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 100, "height": 60, "license": 1},
        {"id": 3, "file_name": "b.png", "reviewed": True},
    ],
    "annotations": [
        {"id": 50, "image_id": 7, "category_id": 4, "bbox": [20, 6, 20, 24], "iscrowd": 0},
        {"id": 51, "image_id": 7, "category_id": 2, "bbox": [0.5, 0.5, 9, 9.25], "iscrowd": 1,
         "attributes": {"rotation": 0.0}},
    ],
    "categories": [{"id": 4, "name": "duck"}, {"id": 2, "name": "cup"}],
}  # fmt: skip
LABELME = {
    "version": "5.5.0",
    "imagePath": "..\\photos\\a.png",
    "imageData": None,
    "imageHeight": 60,
    "imageWidth": 100,
    "shapes": [
        {
            "label": "duck",
            "shape_type": "rectangle",
            "points": [[40, 30], [20, 6.5]],
            "flags": {"ignore": True},
        },
        {"label": "cup", "shape_type": "polygon", "points": [[1, 2], [9, 3], [5, 9]], "group_id": 1},
        {"label": "cup", "shape_type": "circle", "points": [[30, 30], [30, 35]], "group_id": None},
        {"label": "cup", "shape_type": "point", "points": [[30, 30]]},
    ],
}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
        "annotations": [
            {
                "was_cancelled": False,
                "result": [
                    {
                        "id": "x", "type": "rectanglelabels", "original_width": 100, "original_height": 60,
                        "image_rotation": 0, "meta": {"text": ["ignore"]},
                        "value": {"x": 1, "y": 2, "width": 3.5, "height": 4, "rotation": 0,
                                  "rectanglelabels": ["duck"]},
                    },
                    {"id": "y", "type": "polygonlabels",
                     "value": {"points": [[1, 2], [9, 3], [5, 9]], "polygonlabels": ["cup"]}},
                ],
            }
        ],
        "predictions": [],
    },
    {"id": 2, "data": {"image": "/data/local-files/?d=photos/b.png"}, "annotations": [{"result": []}]},
]  # fmt: skip
VOC = """<?xml version="1.0" encoding="utf-8"?>
<annotation verified="yes"><folder>x</folder><filename>a.png</filename>
<size><width>100</width><height>60</height><depth>3</depth></size>
<object><name>duck</name><pose>Unspecified</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>20</xmin><ymin>6</ymin><xmax>40</xmax><ymax>30.5</ymax></bndbox></object>
<object><name>cup</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"""
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>duck</name></label></labels></task></meta>
<image id="0" name="a.png" width="100" height="60">
<box label="duck" xtl="20.5" ytl="6" xbr="40" ybr="30" rotation="0.0" occluded="1">
<attribute name="ignore">true</attribute></box>
<polygon label="cup" points="1,2;9,3;5,9" group_id="1"/><ellipse label="cup" cx="50" cy="20" rx="5" ry="6"/>
<mask label="cup" rle="3, 4" left="10" top="10" width="6" height="5"/>
<points label="cup" points="1,2"/></image>
<image id="1" name="b.png" reviewed="1"/></annotations>"""
CSV = "image,x1,y1,x2,y2,label,ignore\na.png,20,6,40,30,duck,\na.png,1,2,3.5,4,cup,1\nb.png,,,,,,\n"
LABELS = "0 0.3 0.3 0.2 0.4\n1 0.02 0.1 0.01 0.05\n1 0.1 0.1 0.2 0.3 0.15 0.4\n"
DATA_YAML = "train: images\nval: images\nnc: 2\nnames:\n  0: duck\n  1: cup\n"

JSON_JUNK = (None, True, -1, 3, 50, 2.5, 1e300, 10**400, "", "a.png", "../a.png", "\ud800", "\0", "x" * 5000,
             "duck", "rectangle", [], {}, [{}], [1, 2, 3, 4], [[1, 2], [3, 4]])  # fmt: skip
TEXT_JUNK = ("", " ", "-1", "0", "1e400", "nan", "1_0", "٣", "x" * 5000, "a.png", "b", "../a.png", "dück",
             "1,2", "true", "0.5", "30", "{a: b}", "[1, 2]", "&x", "*x", "\\", '"', "%41")  # fmt: skip
BYTES_JUNK = (
    *(
        b"",
        b"",
        b" ",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"]]>",
        b"<!DOCTYPE a [",
        b"&lt;",
    ),
    *'0 1 9 . - _ , ; " { ] [[[[ < </ > e5 nan 1e999 null ä a.png ../ \\ud800 \\n'.encode().split(),
)


class HangError(BaseException):
    """Not an ``Exception``, as readers of photos tell each of those as a damaged photo."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Stop what takes longer than ``MAX_SECONDS``, on systems that can."""

    def stop(*_: object) -> None:
        raise HangError

    if not hasattr(signal, "SIGVTALRM"):
        yield
        return
    # Counts the time of this process: on a busy machine much more passes while nothing happens here.
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, put in or taken from elsewhere."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 0, 1, 1, 3, 20)))
        kind = rng.randrange(8)
        if kind == 0:
            data = data[:start]
        elif kind == 1 and start < len(data):
            data = data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :]
        elif kind == 2:
            data = data[:end] + data[start:]
        else:
            piece = rng.choice((*BYTES_JUNK, data[rng.randrange(len(data) + 1) :][:25]))
            data = data[:start] + piece + data[end:]
    return data


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every key or index below ``node``, with the object or list it belongs to."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """Values of another kind, taken away, doubled or exchanged."""
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        node, key = rng.choice(places(content))
        other, other_key = rng.choice(places(content))
        match rng.randrange(5):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.append(node[key])
            case 2:
                node[key] = json.loads(json.dumps(other[other_key]))
            case 3 if isinstance(node, dict):
                node[rng.choice(("id", "x", "points", "type", "flags"))] = node.pop(key)
            case _:
                node[key] = deepcopy(rng.choice(JSON_JUNK))
        if not places(content):
            break
    return json.dumps(content, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1))).encode(
        errors="surrogatepass"
    )


def damaged_xml(data: bytes, rng: random.Random) -> bytes:
    """Elements renamed, taken away, doubled or moved; texts and attributes of another kind."""
    root = ElementTree.fromstring(data)
    for _ in range(rng.choice((1, 1, 2))):
        parent = rng.choice([node for node in root.iter() if len(node)] or [root])
        node = rng.choice(list(parent) or [root])
        match rng.randrange(6):
            case 0 if node is not root:
                parent.remove(node)
            case 1:
                parent.append(ElementTree.fromstring(ElementTree.tostring(node)))
            case 2:
                node.tag = rng.choice([other.tag for other in root.iter()])
            case 3:
                rng.choice(list(root.iter())).append(ElementTree.fromstring(ElementTree.tostring(node)))
            case 4 if node.attrib:
                node.set(rng.choice(list(node.attrib)), rng.choice(TEXT_JUNK))
            case _:
                node.text = rng.choice(TEXT_JUNK)
    return ElementTree.tostring(root, encoding=rng.choice(("utf-8", "utf-16", "iso-8859-1")))


def damaged_text(data: bytes, rng: random.Random) -> bytes:
    """Words of another kind, taken away, doubled or exchanged; lines too."""
    words = re.split(r"([\s,:]+)", data.decode())
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(len(words))
        match rng.randrange(4):
            case 0:
                words[number] = ""
            case 1:
                words[number] = rng.choice(words)
            case 2:
                words[number:number] = words[number : number + rng.randrange(12)]
            case _:
                words[number] = rng.choice(TEXT_JUNK)
    text = "".join(words).replace("\n", rng.choice(("\n", "\n", "\r\n", "\r")))
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), errors="replace")


CASES = {
    "coco": ("boxes.json", json.dumps(COCO, indent=1), damaged_json),
    "csv": ("boxes.csv", CSV, damaged_text),
    "cvat": ("boxes.xml", CVAT, damaged_xml),
    "labelme": ("a.json", json.dumps(LABELME), damaged_json),
    "labelstudio": ("boxes.json", json.dumps(LABEL_STUDIO), damaged_json),
    "voc": ("a.xml", VOC, damaged_xml),
    "yolo": ("labels/a.txt", LABELS, damaged_text),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos of 100 x 60 pixels, whose sizes are not read ten thousand times."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", SIZE_HW[::-1]).save(tmp_path / name)
    read_size_hw = fewbox.data.formats.read_size_hw
    monkeypatch.setattr(
        fewbox.data.formats,
        "read_size_hw",
        lambda path: SIZE_HW if path.suffix == ".png" else read_size_hw(path),
    )
    monkeypatch.setattr(fewbox.data.formats.console, "print", lambda *_, **__: None)
    return tmp_path


def check_error(error: FewboxError) -> None:
    """It is one line, and names the file, the folder or the photo."""
    assert len(error.message.splitlines()) == 1, error.message
    assert re.search(r"boxes\.|a\.|b\.png|data\.yaml|test_damage", error.message), error.message
    assert len(error.message) < 1500


def check_set(annotations: AnnotationSet) -> None:
    for image in annotations:
        height, width = image.size_hw
        assert all(0 <= b.x1 < b.x2 <= width and 0 <= b.y1 < b.y2 <= height for b in image.boxes)
        assert all(box.label in annotations.labels for box in image.boxes)


@pytest.mark.slow
@pytest.mark.hypothesis  # so that "make fuzz" runs it
@pytest.mark.parametrize("form", CASES)
def test_damage(folder: Path, form: str) -> None:
    rng = random.Random() if FUZZ else random.Random(form)
    name, whole, damaged_structure = CASES[form]
    damaged = path = folder / name
    path.parent.mkdir(exist_ok=True)
    intact = {path: whole.encode()}
    if form == "yolo":
        intact[folder / "data.yaml"] = DATA_YAML.encode()
    for file, data in intact.items():
        file.write_bytes(data)
    assert read_annotations(path, folder).images[0].boxes
    outcomes = {"error": 0, "set": 0}
    for number in range(PER_FORMAT):
        damaged.write_bytes(intact[damaged])
        damaged = rng.choice(list(intact))
        damage = damaged_structure if number % 2 else damaged_bytes
        damaged.write_bytes(damage(intact[damaged], rng))
        given = None if number % 3 else form
        try:
            with time_limit():
                got = read_annotations(path, folder, format=given)
        except FewboxError as error:
            check_error(error)
            outcomes["error"] += 1
        else:
            check_set(got)
            outcomes["set"] += 1
    assert min(outcomes.values()) > PER_FORMAT / 20, outcomes
