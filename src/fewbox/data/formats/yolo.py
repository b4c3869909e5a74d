"""YOLO: one text file per photo, and the names of the classes beside them.

A line is ``class cx cy width height``, in parts of the upright photo. The names stand in a
``data.yaml``, or one a line in ``classes.txt``; they are looked for beside the files and in the
folders above. An empty file says "looked at, nothing there"; a photo without a file was not
looked at. Lines with more numbers are outlines, read as the box around each, or landmarks after a
box: ``kpt_shape`` or ``task`` in ``data.yaml`` say which, or else ``shapes.kind_of`` tells.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fewbox.core import counted
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats.folders import (
    LABELS_NAME,
    files_below,
    files_in,
    images_by_stem,
    name_below,
    places_of,
    source_name,
)
from fewbox.data.formats.raw import (
    COMPUTED,
    LANDMARKS,
    OUTLINED,
    OUTLINES,
    UNCLEAR,
    RawAnnotations,
    RawBox,
    RawPhoto,
    is_tracked,
    is_upright,
    kind_of,
    not_read,
    outer_box,
    upright_box,
)
from fewbox.data.formats.text_file import (
    YAML_HINT,
    load_yaml,
    number_in,
    read_text,
    read_text_of_windows,
    yaml_text,
)
from fewbox.data.images import PHOTO_SUFFIXES
from fewbox.errors import AnnotationError

YAML_SUFFIXES = (".yaml", ".yml")
_LINE_HINT = "a line is: class cx cy width height, all but the class from 0 to 1"
_NAMES_HINT = "put data.yaml with names: [...] beside the folder of labels, or classes.txt into it"
_KIND_HINT = (
    "say in data.yaml what follows the class: kpt_shape: [5, 2] for a box and 5 points x y, "
    "or task: segment for outlines"
)
_COMPUTED_HINT = (
    "a detector or a tracker writes such lines: these boxes were computed, not drawn; "
    "if they are outlines, say task: segment in data.yaml"
)
_LISTS = ("classes.txt", LABELS_NAME, "_darknet.labels")  # the last of Roboflow; others of its suffix differ
_FOLDERS_ABOVE = 3
_CLASS_ID = re.compile(r"(0|[1-9][0-9]{0,8})(\.0+)?")
_LINE = re.compile(r"\s*[0-9]+(\.0+)?(\s+[-+.0-9eE]+){4,}\s*$")

# Boxes a little outside their photo are a fault of one box; beyond this the numbers are pixels.
_MAX_PART = 10.0


@dataclass(frozen=True)
class _Classes:
    """The labels by class id, and where they stand; ``kind``: what longer lines are, if that is said.

    ``landmarks``: ``kpt_shape``, how many points follow a box and how many numbers each has; () if not said.
    ``data_set``: what lines with these classes have in common. A ``data.yaml`` is one of its own; lists
    with the same names may stand in every folder of one.
    """

    where: str
    labels: dict[int, str]
    kind: str | None = None
    data_set: Hashable = None
    landmarks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for label, count in Counter(self.labels.values()).items():
            if count > 1:
                message = f"{self.where}: {count} classes have one label: {label!r}"
                raise AnnotationError(message, hint="rename one of them")


@dataclass(frozen=True)
class _Line:
    """One line: where it stands, its class if that has a name, and its numbers after the class."""

    where: str
    label: str | None
    parts: list[float]
    kind: str | None


def read_yolo(files: Sequence[Path], folder: Path) -> RawAnnotations:
    """Read the label files of a data set.

    Raises:
        AnnotationError: a line is not understood, or no names are there for several classes.
    """
    by_folder = {place: _classes_for(place, folder) for place in dict.fromkeys(path.parent for path in files)}
    source = source_name(files, folder)
    unnamed_ids: set[int] = set()
    lines: list[list[_Line]] = []
    for path in files:
        where, classes = name_below(path, folder), by_folder[path.parent]
        numbered = enumerate(read_text(path).splitlines(), start=1)
        lines.append(
            [
                _line_of(line, classes, f"{where}: line {n}", unnamed_ids)
                for n, line in numbered
                if line.strip()
            ]
        )
    named = [classes for classes in by_folder.values() if classes]
    if unnamed_ids and (named or len(unnamed_ids) > 1):
        ids = ", ".join(map(str, sorted(unnamed_ids)))
        raise AnnotationError(f"{source}: no names for the classes {ids}", hint=_NAMES_HINT)
    left_out: Counter[str] = Counter()
    in_set: dict[Hashable, list[int]] = {}
    for number, path in enumerate(files):
        classes = by_folder[path.parent]
        in_set.setdefault(classes and classes.data_set, []).append(number)
    boxes: dict[int, list[RawBox]] = {}
    for numbers in in_set.values():
        boxes |= zip(numbers, _boxes([lines[n] for n in numbers], left_out), strict=True)
    photos = [
        RawPhoto(
            name_below(path, folder),
            path.stem,
            tuple(boxes[number]),
            reviewed=True,
            file=path,
            may_be_none=not (lines[number] or _is_within_labels(path, folder)),
        )
        for number, path in enumerate(files)
    ]
    labels = tuple(dict.fromkeys(label for classes in named for label in classes.labels.values()))
    places, remarks = places_of("yolo", files, folder), not_read(left_out)
    if unnamed_ids - {0}:  # of the only class nobody expects a name
        remarks += (f"class {unnamed_ids.pop()} has no name, and counts as the only class; {_NAMES_HINT}",)
    return RawAnnotations("yolo", source, tuple(photos), labels if named else None, places, remarks)


def yolo_texts(annotations: AnnotationSet) -> dict[str, str]:
    """The files by name, none of a photo not looked at; AnnotationError where one would be a list of YOLO."""
    class_ids = {label: number for number, label in enumerate(annotations.labels)}
    images = images_by_stem(annotations, states_names=False).items()
    if listed := next((image.path.name for stem, image in images if f"{stem}.txt" in _LISTS), None):
        message = f"{annotations.source}: the boxes of {listed} would lie where YOLO has a list of classes"
        raise AnnotationError(message, hint="rename the photo, or choose a format that is one file: coco")
    texts = {f"labels/{stem}.txt": _lines(image, class_ids) for stem, image in images}
    # No "path": without it the folders are those beside this file. Trainers insist on "val".
    content = {"train": "images", "val": "images", "names": {n: label for label, n in class_ids.items()}}
    return {**texts, "data.yaml": yaml_text(content)}


def label_files(folder: Path) -> list[Path]:
    """The label files in a folder and below.

    In a folder whose name begins with ``labels`` every text file is one; elsewhere those that look like one,
    or lie beside a photo of their name; and, in a folder of some without photos, blank ones that a photo has.
    """
    found = [path for path in files_below(folder, (".txt",)) if path.name not in _LISTS]
    within = [
        path for path in found if any(_is_for_labels(part) for part in path.relative_to(folder).parts[:-1])
    ]
    if within or _is_for_labels(folder.resolve().name):
        return within or found
    photos = {path.with_suffix("") for path in files_below(folder, PHOTO_SUFFIXES)}
    labelled = {path for path in found if path.with_suffix("") in photos or is_label_file(path)}
    apart = {path.parent for path in labelled} - {photo.parent for photo in photos}
    return [path for path in found if path in labelled or (path.parent in apart and _is_blank(path))]


def is_label_file(path: Path) -> bool:
    """Tell whether the first line of a text file is one of YOLO's."""
    try:
        text = read_text(path)
    except AnnotationError:
        return False
    first = next((line for line in text.splitlines() if line.strip()), "")
    return _LINE.match(first) is not None


def _is_blank(path: Path) -> bool:
    try:
        return path.stat().st_size <= 64 and not read_text(path).strip()
    except AnnotationError:
        return False


def is_data_yaml(path: Path) -> bool:
    """Tell whether a YAML file names classes."""
    try:
        text = read_text(path)
    except AnnotationError:
        return False
    return re.search(r"^\s*[\"']?names[\"']?\s*:", text, re.MULTILINE) is not None


def _is_within_labels(path: Path, folder: Path) -> bool:
    return any(map(_is_for_labels, (folder.resolve().name, *path.relative_to(folder).parts[:-1])))


def _is_for_labels(name: str) -> bool:
    return name.lower().startswith("labels")


def _line_of(line: str, classes: _Classes | None, where: str, unnamed_ids: set[int]) -> _Line:
    first, *columns = line.split()
    class_id = int(float(first)) if _CLASS_ID.fullmatch(first) else None  # NumPy writes 0.000000
    numbers = [number_in(column) for column in columns]
    parts = [number for number in numbers if number is not None]
    if class_id is None or len(parts) < len(numbers) or len(parts) < 4:
        raise AnnotationError(f"{where}: not understood: {line.strip()[:60]!r}", hint=_LINE_HINT)
    if len(parts) == 5:
        hint = "a sixth number is the score of a detection: these boxes were computed, not drawn"
        raise AnnotationError(f"{where}: six numbers", hint=hint)
    kind = classes and classes.kind
    if kind is None and parts[-1] > _MAX_PART > max(map(abs, parts[:-1])) and is_tracked(parts):
        _refuse_tracked(where, parts)
    if max(map(abs, parts)) > _MAX_PART:
        farthest = max(parts, key=abs)
        raise AnnotationError(f"{where}: must be parts of the photo, 0 to 1: {farthest:g}", hint=_LINE_HINT)
    if classes is None:
        unnamed_ids.add(class_id)
        return _Line(where, None, parts, None)
    if classes.landmarks and len(parts) not in (4, 4 + math.prod(classes.landmarks)):
        message = f"{where}: {counted(len(parts), 'number')} after the class"
        shape = f"kpt_shape: {list(classes.landmarks)} in {classes.where}"
        hint = f"{shape} means {4 + math.prod(classes.landmarks)}, or 4 for a box alone; correct one of them"
        raise AnnotationError(message, hint=hint)
    return _Line(where, _label(class_id, classes, where), parts, classes.kind)


def _refuse_tracked(where: str, parts: Sequence[float]) -> NoReturn:
    score, track = parts[-2:]
    message = f"{where}: the last two numbers may be a score and the number of a track: {score:g} {track:g}"
    raise AnnotationError(message, hint=_COMPUTED_HINT)


def _are_tracked(lines: Sequence[Sequence[_Line]]) -> bool:
    """Whether all long lines of the files end as a tracker's do; in one photo no two have one number."""
    numbers = [[line.parts[-1] for line in of_file if len(line.parts) > 4] for of_file in lines]
    return all(len(set(of_file)) == len(of_file) for of_file in numbers) and all(
        line.kind is None and is_tracked(line.parts)
        for of_file in lines
        for line in of_file
        if len(line.parts) > 4
    )


def _boxes(lines: list[list[_Line]], left_out: Counter[str]) -> list[list[RawBox]]:
    """The boxes of the lines of each file of one data set; what longer lines are, all tell together."""
    longer = [line for of_file in lines for line in of_file if len(line.parts) > 4]
    doubtful = [line for line in longer if line.kind is None]
    kind = kind_of([line.parts for line in doubtful]) if doubtful else None
    if doubtful and kind != LANDMARKS and _are_tracked(lines):
        _refuse_tracked(doubtful[0].where, doubtful[0].parts)
    if kind == COMPUTED:
        message = f"{doubtful[0].where}: each point after the box seems to have a score"
        raise AnnotationError(message, hint=_COMPUTED_HINT)
    if kind == UNCLEAR:
        count = len(doubtful[0].parts) + 1
        message = f"{doubtful[0].where}: lines of {count} numbers may be outlines, or landmarks after a box"
        raise AnnotationError(message, hint=_KIND_HINT)
    outlines = [_outline(line) for line in longer if (line.kind or kind) == OUTLINES]
    # A data set of outlines has some with other numbers of corners; else these are turned boxes.
    corner_counts = {len(points) for points in outlines if not (len(points) == 4 and is_upright(points))}
    are_turned = corner_counts == {4} and not any(line.kind == OUTLINES for line in longer)
    return [[_box(line, line.kind or kind, are_turned, left_out) for line in of_file] for of_file in lines]


def _box(line: _Line, kind: str | None, are_turned: bool, left_out: Counter[str]) -> RawBox:
    if len(line.parts) == 4 or kind == LANDMARKS:
        left_out.update([] if len(line.parts) == 4 else ["poses" if line.kind else "landmarks"])
        cx, cy, width, height = line.parts[:4]
        corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        return RawBox(line.where, corners, line.label, unit=True)
    points = _outline(line)
    if len(points) == 4 and is_upright(points):
        return RawBox(line.where, outer_box(points, line.where), line.label, unit=True)
    if are_turned:
        return RawBox(line.where, upright_box(points), line.label, unit=True, turned=tuple(points))
    left_out[OUTLINED] += 1
    return RawBox(line.where, outer_box(points, line.where), line.label, unit=True)


def _outline(line: _Line) -> list[tuple[float, float]]:
    if len(line.parts) % 2:
        message = f"{line.where}: an outline of {counted(len(line.parts), 'number')}"
        raise AnnotationError(message, hint=f"an outline is: class x y x y ...; {_KIND_HINT}")
    return list(zip(line.parts[::2], line.parts[1::2], strict=True))


def _label(class_id: int, classes: _Classes, where: str) -> str:
    if class_id not in classes.labels:
        message = f"{where}: class {class_id} has no name in {classes.where}"
        raise AnnotationError(message, hint="name it there, or correct the line")
    return classes.labels[class_id]


def _classes_for(place: Path, root: Path) -> _Classes | None:
    """The classes of the label files in a folder, from beside them or from a folder above.

    Raises:
        AnnotationError: two files in one folder, or below ``root``, give a class different names.
    """
    found: list[tuple[Path, _Classes]] = []
    resolved, root = place.resolve(), root.resolve()
    for number, folder in enumerate((resolved, *resolved.parents)):
        is_in_set = folder.is_relative_to(root)
        if not is_in_set and (found or number > _FOLDERS_ABOVE):
            break
        found += [(folder, classes) for classes in _classes_in(folder)]
    for folder, classes in found[1:]:
        nearest, first = found[0]
        shared = first.labels.keys() & classes.labels
        differ = next((n for n in shared if first.labels[n] != classes.labels[n]), None)
        if differ is not None:
            names = f"{first.labels[differ]!r} in {first.where}, but {classes.labels[differ]!r}"
            message = f"{nearest}: class {differ} is {names} in {folder / classes.where}"
            raise AnnotationError(message, hint="keep the file that is right")
    return found[0][1] if found else None


def _classes_in(folder: Path) -> list[_Classes]:
    """The classes that the files in a folder name, the best first."""
    files = files_in(folder)
    yamls = [path for path in files if path.suffix.lower() in YAML_SUFFIXES and is_data_yaml(path)]
    if len(yamls) > 1:
        message = f"{folder}: two files name the classes: {yamls[0].name}, {yamls[1].name}"
        raise AnnotationError(message, hint="keep one of them")
    found = [_classes_of_yaml(path) for path in yamls]
    for path in files:
        if path.name in _LISTS or path.suffix.lower() == ".names":
            lines = enumerate(read_text_of_windows(path)[0].splitlines())
            labels = {number: line.strip() for number, line in lines if line.strip()}
            found.append(_Classes(path.name, labels, data_set=tuple(labels.items())))
    return found


def _classes_of_yaml(path: Path) -> _Classes:
    content = load_yaml(path, path.name)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise AnnotationError(f"{path.name}: names must be a list of texts", hint=YAML_HINT)
    wrong = next((key for key in names if not _CLASS_ID.fullmatch(key) or "." in key), None)
    if wrong is not None:
        message = f"{path.name}: names: a class id must be a whole number: {wrong[:40]!r}"
        raise AnnotationError(message, hint=YAML_HINT)
    if "nc" in content and content["nc"] != str(len(names)):
        named = counted(len(names), "class has a name", "classes have names")
        message = f"{path.name}: nc is {str(content['nc'])[:40]}, but {named}"
        raise AnnotationError(message, hint=YAML_HINT)
    labels = {class_id: names[str(class_id)] for class_id in sorted(map(int, names))}
    task = content.get("task")
    landmarks = _landmarks(content.get("kpt_shape"), path.name)
    kind = LANDMARKS if landmarks or task == "pose" else OUTLINES if task == "segment" else None
    return _Classes(path.name, labels, kind, path, landmarks)


def _landmarks(shape: object, where: str) -> tuple[int, ...]:
    """What ``kpt_shape`` says, if it is there and filled in."""
    if shape in (None, "", "null", "~", []):
        return ()
    match shape:
        case [str(points), "2" | "3" as each] if re.fullmatch("[1-9][0-9]{0,3}", points):
            return int(points), int(each)
    hint = "it is the number of points and of numbers each has: [5, 2] for x y, or [5, 3] with a flag"
    raise AnnotationError(f"{where}: kpt_shape is not understood: {str(shape)[:40]}", hint=hint)


def _lines(image: AnnotatedImage, class_ids: dict[str, int]) -> str:
    return "".join(_line(box, image.size_hw, class_ids[box.label]) for box in image.boxes)


def _line(box: Box, size_hw: tuple[int, int], class_id: int) -> str:
    height, width = size_hw
    centre = ((box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height)
    sides = ((box.x2 - box.x1) / width, (box.y2 - box.y1) / height)
    return " ".join([str(class_id), *(f"{part:.12g}" for part in (*centre, *sides))]) + "\n"
