"""Files of boxes: COCO, CSV, CVAT, labelme, Label Studio, Pascal VOC and YOLO, read and written.

Reading has two steps: a file becomes :class:`RawAnnotations`, what it says; held against the
photos this becomes an ``AnnotationSet``. A file is read whole or refused: what is malformed is
never skipped, as a lost box would teach the detector that the object is background. What a
format can say and we cannot keep is left out and named in a remark. docs/formats.md has the
table of what is read, kept and left out.

Which format it is shows what is in the file or folder. Nothing is guessed: where a folder holds boxes in two
formats, or two files in one of them, whoever reads it has to say which is meant. A malformed file may be the
one if there is no other, or one of its kind; beside boxes of another kind it is told that it was not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewbox.core import counted, some_of
from fewbox.core.arguments import checked_path, require_kind
from fewbox.core.progress import console
from fewbox.data import FOLDER_FORMATS, FORMATS, PROJECT_FILE, require_format
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.formats.coco import read_coco
from fewbox.data.formats.csv_table import is_box_table, read_csv
from fewbox.data.formats.cvat import read_cvat
from fewbox.data.formats.fitting import Fitting, annotated_image, require_pixels_in
from fewbox.data.formats.folders import (
    files_below,
    folders_of_photos,
    name_without_signs,
    splits_in_words,
)
from fewbox.data.formats.json_file import load_json
from fewbox.data.formats.label_studio import read_label_studio
from fewbox.data.formats.labelme import read_labelme
from fewbox.data.formats.photos import AmbiguousPhotoError, PhotoFinder
from fewbox.data.formats.raw import RawAnnotations, RawPhoto, merged, tell_left_out, tell_unused
from fewbox.data.formats.text_file import load_xml, read_bytes
from fewbox.data.formats.voc import read_voc
from fewbox.data.formats.writing import write_annotations as write_annotations
from fewbox.data.formats.writing import write_coco as write_coco
from fewbox.data.formats.yolo import YAML_SUFFIXES, is_data_yaml, is_label_file, label_files, read_yolo
from fewbox.data.images import StrPath, given_places, read_size_hw
from fewbox.data.remote import shown_name
from fewbox.errors import AnnotationError

_SHOWN = 3
"""Names of photos in a message about many."""

_TABLES = (".csv", ".tsv", ".txt")
_WITH_SUFFIX = {
    ".json": ("coco", "labelme", "labelstudio"),
    ".xml": ("cvat", "voc"),
    **dict.fromkeys((".csv", ".tsv"), ("csv",)),
}
_FORMAT_HINT = "name a file or a folder of boxes in one of the formats: " + ", ".join(FORMATS)
_SAY_HINT = "say which one is meant: --from FORMAT, or format= in Python"

# Of the files of boxes with one suffix in a folder, so many are looked into: folders hold one kind or two.
# Others do not count, such as the file that Google Takeout puts beside each photo.
_LOOKED_INTO = 3


def read_annotations(
    boxes: StrPath,
    photos: StrPath | Sequence[StrPath] | None = None,
    *,
    label: str = "object",
    format: str | None = None,
    strict: bool = False,
    skip_missing: bool = False,
) -> AnnotationSet:
    """Read a file or folder of boxes together with the photos it speaks of.

    What the format says and the set cannot hold is told on stderr, and so is how many boxes
    were cut at the edge of their photo, taken as upright, or left out because they are flat.

    Args:
        boxes: a file; the folder of a format with one file per photo; or a folder with a project
            file, of which photos that are no longer there are left out.
        photos: where the photos are: folders, files or patterns; no others are taken. Left out, the
            folder of ``boxes``, or that folder and those below it, and where the format has them.
            Which photo a name means, docs/formats.md says ("Names of photos").
        label: the name of the class if the file names none.
        format: the name of the format; left out, it is recognized.
        strict: refuse boxes that reach over the edge of their photo by more than a pixel, are
            turned ever so little, or are flat.
        skip_missing: leave out what is said of photos that are not there, and tell how many they are.

    Returns:
        The photos in the order of the file, then those it does not mention, as not looked
        at. Labels are in the order of the file if it has one, or of first use.

    Raises:
        AnnotationError: the file is missing or malformed, speaks of a photo that is not
            there, or of two at once, or its boxes do not fit their photos.
        PhotoError: a photo cannot be read.
        SettingError: there is no format of this name.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/boxes.json")
        >>> len(photos), photos.num_boxes, photos.labels
        (45, 59, ('rubber_duck',))
    """
    checked_path(boxes, "a file or folder of boxes", AnnotationError)
    require_kind(label, str, "label", AnnotationError, "the name of the only class: label='duck'")
    if photos is None and format is None and os.path.isfile(Path(boxes, PROJECT_FILE)):  # noqa: PTH113
        from fewbox.data.project import Project  # which is made of parts of this package

        return Project(boxes).annotation_set(label=label, strict=strict)
    raw = read_raw(boxes, format)
    for remark in raw.remarks:
        console.print(f"{raw.source}: {remark}")
    annotations = to_annotation_set(raw, photos, label=label, strict=strict, skip_missing=skip_missing)
    if parts := splits_in_words(image.path for image in annotations):
        # Who learns from all of them and then evaluates on one has learnt what is asked.
        console.print(f"{raw.source}: photos of several parts: {parts}; to read one alone, name its folder")
    return annotations


def annotation_set(given: AnnotationSet | StrPath) -> AnnotationSet:
    """A set as it is, or read from where it is said to be.

    Raises:
        AnnotationError: it is neither, or as for :func:`read_annotations`.
        PhotoError: a photo cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        return read_annotations(given)
    hint = "read them: fewbox.read_annotations(boxes, photos)"
    require_kind(given, AnnotationSet, "annotations", AnnotationError, hint)
    return given


def read_raw(boxes: StrPath, format: str | None = None) -> RawAnnotations:
    """Read what a file or folder of boxes says, without its photos.

    Raises:
        AnnotationError: the file is missing or malformed, or in no known format.
        SettingError: there is no format of this name.
    """
    path = Path(boxes)
    form = recognized_format(path) if format is None else require_format(format)
    folder, files = files_in_format(path, form)
    raw = read_files(files, folder, form)
    if form in FOLDER_FORMATS or not path.is_dir():
        return raw
    places = (folder, *raw.places, *folders_of_photos(folder))
    return replace(raw, places=tuple(dict.fromkeys(places)))


def read_files(files: Sequence[Path], folder: Path, form: str) -> RawAnnotations:
    """Read what files of one format say, all of which are below ``folder``.

    Raises:
        AnnotationError: one of them is malformed, or all boxes are in parts of the photo where pixels belong.
    """
    match form:
        case "labelme":
            raw = read_labelme(files, folder)
        case "voc":
            raw = read_voc(files, folder)
        case "yolo":
            raw = read_yolo(files, folder)
        case _:
            raw = merged([_read_file(file, form) for file in files], folder)
    require_pixels_in(raw)
    return raw


def _read_file(path: Path, form: str) -> RawAnnotations:
    """Read a format that is one file for many photos."""
    readers = {"coco": read_coco, "csv": read_csv, "cvat": read_cvat, "labelstudio": read_label_studio}
    raw = readers[form](path)
    return replace(raw, photos=tuple(replace(photo, file=path) for photo in raw.photos))


def to_annotation_set(
    raw: RawAnnotations,
    photos: StrPath | Sequence[StrPath] | None = None,
    *,
    label: str = "object",
    strict: bool = False,
    skip_missing: bool = False,
) -> AnnotationSet:
    """Hold what a file says against the photos; arguments and errors as for :func:`read_annotations`."""
    tell_unused(label, raw)
    fitting = Fitting(strict)
    finder = PhotoFinder(raw, None if photos is None else given_places(photos))
    mentioned: dict[str, RawPhoto] = {}  # by its real path, as one photo may be reached in two ways
    images = []
    for photo, path in _found(raw, finder, skip_missing=skip_missing):
        first = mentioned.setdefault(os.path.realpath(path), photo)
        if first is not photo:
            hint = f"{first.where} is about it too: keep one of the two, with the boxes of both"
            raise AnnotationError(f"{photo.where}: a photo is listed twice: {shown_name(path)}", hint=hint)
        if not photo.left_out:
            images.append(annotated_image(photo, path, label, fitting))
    rest = [photo for photo in finder.found if os.path.realpath(photo) not in mentioned]
    images += [AnnotatedImage(photo, read_size_hw(photo), (), reviewed=False) for photo in rest]
    tell_left_out([photo.name for photo in raw.photos if photo.left_out])
    labels = (label,) if raw.labels is None else tuple(name.strip() for name in raw.labels)
    annotations = AnnotationSet(tuple(images), labels, raw.source)
    if remark := fitting.remark():
        console.print(f"{raw.source}: {remark}")
    return annotations


def _found(
    raw: RawAnnotations, finder: PhotoFinder, *, skip_missing: bool
) -> Iterator[tuple[RawPhoto, Path]]:
    """What is said of each photo, and the photo; photos that are not there are refused, or left out."""
    found = [
        (photo, path)
        for photo, path in zip(raw.photos, finder.find_all(raw.photos), strict=True)
        # One that was left out may have gone, as nobody wants it.
        if not (photo.left_out and isinstance(path, AnnotationError)) and not is_no_photo(photo, path)
    ]
    doubts = [(photo, path) for photo, path in found if isinstance(path, AnnotationError)]
    for _, error in doubts:
        is_the_only_one = len(doubts) == 1 and not skip_missing
        if isinstance(error, AmbiguousPhotoError) or is_the_only_one or len(doubts) == len(found):
            raise error
    if doubts:
        names = some_of([photo.name[:200] for photo, _ in doubts], _SHOWN)
        are = "are" if len(doubts) > 1 else "is"
        told = f"{len(doubts)} of {counted(len(found), 'photo')} {are} not there: {names}"
        if not skip_missing:
            hint = "name their folder, or leave them out: --skip-missing (skip_missing=True in Python)"
            raise AnnotationError(f"{raw.source}: {told}", hint=hint)
        console.print(f"{raw.source}: {told}; left out")
    there = [(photo, path) for photo, path in found if not isinstance(path, AnnotationError)]
    cleaned = cleaned_names(raw.format, there)
    if cleaned:
        number = counted(len(cleaned), "photo")
        console.print(f"{raw.source}: {number} found by a name without its signs: {some_of(cleaned, _SHOWN)}")
    yield from there


def is_no_photo(photo: RawPhoto, path: Path | AnnotationError) -> bool:
    """Whether a file turns out to be of no photo, which it need not be."""
    return photo.may_be_none and not isinstance(path, Path | AmbiguousPhotoError)


def cleaned_names(form: str, found: Iterable[tuple[RawPhoto, Path]]) -> list[str]:
    """Of the photos found those that are like their names in a file only without signs, in words."""
    if form == "labelstudio":  # it cleans the name of each photo that it takes in
        return []
    told = (name_without_signs((photo.name, *photo.other_names), path) for photo, path in found)
    return list(filter(None, told))


def possible_formats(path: Path) -> tuple[str, ...]:
    """The formats that a file or a folder may be in: one as a rule, several if it is not plain.

    Raises:
        AnnotationError: there are no boxes in it, or it cannot be read.
    """
    found = _formats_below(path) if path.is_dir() else list(filter(None, [format_of_file(path)]))
    if not found:
        raise AnnotationError(f"{path}: no boxes in a format that can be read here", hint=_FORMAT_HINT)
    return tuple(form for form in FORMATS if form in found)


def recognized_format(path: Path) -> str:
    """The format that a file or a folder is in.

    Raises:
        AnnotationError: as for :func:`possible_formats`, or there are several.
    """
    found = possible_formats(path)
    if len(found) > 1:
        raise AnnotationError(f"{path}: boxes in several formats: {', '.join(found)}", hint=_SAY_HINT)
    return found[0]


def files_in_format(path: Path, form: str) -> tuple[Path, list[Path]]:
    """The files of one format, and the folder that they are below.

    Args:
        path: one file, or a folder; for YOLO the ``data.yaml`` stands for its folder.
        form: one of ``FORMATS``. Of one that is a single file there may be
            one in each folder, for each part of the data set.

    Raises:
        AnnotationError: there is none, or several where one was expected.
    """
    if path.suffix.lower() in YAML_SUFFIXES and form == "yolo" and path.is_file():
        path = path.parent
    if not path.is_dir():
        return path.parent, [path]
    match form:
        case "voc":
            return path, _some(files_below(path, (".xml",)), path, form)
        case "labelme":
            return path, _some(files_below(path, (".json",)), path, form)
        case "yolo":
            return path, _some(label_files(path), path, form)
        case "csv":
            tables = [table for table in files_below(path, _TABLES) if is_box_table(table)]
            known = [table for table in tables if is_box_table(table, is_known=True)]
            return path, _one_a_folder(known or tables, path, form)
        case "cvat":
            return path, _one_a_folder(_in_format(path, ".xml", form), path, form)
        case _:
            return path, _one_a_folder(_in_format(path, ".json", form), path, form)


def format_of_file(path: Path) -> str | None:
    """The format that one file is in; None if it holds no boxes.

    Raises:
        AnnotationError: it is malformed, or cannot be read.
    """
    suffix = path.suffix.lower()
    start = {".json": b"{", ".xml": b"<"}.get(suffix) or _first_sign(path)
    if start in (b"{", b"["):
        return _format_of_json(load_json(path, path.name))
    if start == b"<":
        return {"annotation": "voc", "annotations": "cvat"}.get(load_xml(path, path.name).element.tag)
    if suffix in YAML_SUFFIXES:
        return "yolo" if is_data_yaml(path) else None
    if suffix == ".txt" and is_label_file(path):
        return "yolo"
    return "csv" if suffix in _TABLES else None


def _first_sign(path: Path) -> bytes:
    """The first byte that is no blank, nor of a byte order mark, nor half of a sign in UTF-16."""
    return read_bytes(path).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1]


def _format_of_json(content: Any) -> str | None:
    """Tell the formats apart by the fields that only one of them has."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return None
    if "data" in first and first.keys() & {"annotations", "completions", "predictions"}:
        return "labelstudio"
    if first is content and "shapes" in first:
        return "labelme"
    # Categories alone are a list of classes: Label Studio puts one beside its labels of YOLO. Annotations
    # alone are those of one photo in formats of other tools, such as V7 Darwin.
    drawn = first.get("annotations")
    is_of_many = isinstance(drawn, list) and any(isinstance(one, dict) and "image_id" in one for one in drawn)
    return "coco" if first is content and ("images" in first or is_of_many) else None


def _formats_below(folder: Path) -> list[str]:
    """The formats of the files in a folder."""
    found = ["yolo"] if label_files(folder) else []
    tables, malformed = list[str](), list[tuple[str, AnnotationError]]()
    looked_into: dict[tuple[Path, str], int] = {}
    for path in files_below(folder, (".json", ".xml", ".csv", ".tsv")):
        place = (path.parent, path.suffix.lower())
        if looked_into.get(place, 0) == _LOOKED_INTO:
            continue
        try:
            form = format_of_file(path)
        except AnnotationError as error:  # it need not be one of boxes, as a log of JSON in lines is none
            malformed.append((place[1], error))
            continue
        if form is None or (form == "csv" and not is_box_table(path)):
            continue
        looked_into[place] = looked_into.get(place, 0) + 1
        # A table that another tool made of the boxes beside it does not make the folder doubtful.
        (found if form != "csv" or is_box_table(path, is_known=True) else tables).append(form)
    for suffix, fault in malformed:
        if not found or any(form in found for form in _WITH_SUFFIX[suffix]):
            raise fault
    if malformed:
        console.print(f"not read: {some_of([error.message for _, error in malformed], _SHOWN)}")
    return found or tables


def _in_format(folder: Path, suffix: str, form: str) -> list[Path]:
    """The files of a format that is one file."""
    return [path for path in files_below(folder, (suffix,)) if format_of_file(path) == form]


def _some(files: list[Path], folder: Path, form: str) -> list[Path]:
    if not files:
        raise AnnotationError(f"{folder}: no file in the format {form}", hint=_FORMAT_HINT)
    return files


def _one_a_folder(files: Iterable[Path], folder: Path, form: str) -> list[Path]:
    found = _some(list(files), folder, form)
    if len({path.parent for path in found}) < len(found):  # else each is of a part of the data set
        names = ", ".join(path.relative_to(folder).as_posix() for path in found[:3])
        message = f"{folder}: {len(found)} files in the format {form}: {names}"
        raise AnnotationError(message, hint="name one of them instead of the folder")
    return found
