"""Sets of boxes into files of each format, and what each of them cannot hold."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fewbox.core import files
from fewbox.core.arguments import checked_path, require_kind
from fewbox.data import FOLDER_FORMATS, FORMATS, require_format, require_plain_text
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats.coco import coco_text
from fewbox.data.formats.csv_table import csv_text
from fewbox.data.formats.cvat import cvat_text
from fewbox.data.formats.fitting import require_set_in_pixels
from fewbox.data.formats.folders import ONE_BY_ONE, written_names
from fewbox.data.formats.label_studio import label_studio_text
from fewbox.data.formats.labelme import labelme_texts
from fewbox.data.formats.voc import voc_texts
from fewbox.data.formats.yolo import yolo_texts
from fewbox.data.images import PHOTO_SUFFIXES, StrPath, read_size_hw
from fewbox.errors import AnnotationError, OutputError, PhotoError, SettingError

# What a name to write to may mean; where it is plain, one.
_BY_SUFFIX = {".json": ("coco",), ".csv": ("csv",), ".xml": ("cvat",), "": FOLDER_FORMATS}


def write_coco(annotations: AnnotationSet, target: StrPath, root: StrPath | None = None) -> None:
    """Write a set as COCO JSON, which ``read_annotations`` reads back.

    Args:
        annotations: the set.
        target: the file to write; what it held before stays if writing fails.
        root: the folder that file names start from; left out, the folder of ``target``.

    Raises:
        AnnotationError: a photo has another size than the set says, or all boxes are in parts of the photo.
        OutputError: the file cannot be written, or has a photo's ending.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/boxes.json")
        >>> few = fewbox.AnnotationSet(photos.images[:5], photos.labels)
        >>> fewbox.write_coco(few, "ducks/train.json")
    """
    target = _checked(annotations, target)
    require_no_photo_name(target)
    folder = target.parent if root is None else checked_path(root, "the root of file names", OutputError)
    files.write_text(target, coco_text(annotations, folder))


def write_annotations(
    annotations: AnnotationSet, target: StrPath, format: str | None = None, *, copy_photos: bool = False
) -> tuple[str, ...]:
    """Write a set in any format, which ``read_annotations`` reads back.

    Args:
        annotations: the set.
        target: the file to write, whole or not at all, in place of one that is there; for a format with
            one file per photo a folder that is not there yet, or empty.
        format: the name of the format; left out, ``.json`` is COCO, ``.csv`` a table and
            ``.xml`` CVAT.
        copy_photos: put the photos into the folder too, where tools of the format expect them; for YOLO
            only those that somebody has looked at, as trainers take any other for background.

    Returns:
        What the format cannot hold of this set, one sentence each; there may be nothing.

    Raises:
        AnnotationError: the format cannot hold a name, a photo has another size than the set says, or all
            boxes are in parts of the photo.
        OutputError: ``target`` cannot be written, has a photo's ending, or is a folder with something in it.
        PhotoError: a photo cannot be copied.
        SettingError: there is no format of this name, ``target`` does not tell it, or it is one
            file and photos were to be copied.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/boxes.json")
        >>> others = fewbox.AnnotationSet(photos.images[5:15], photos.labels)
        >>> fewbox.write_annotations(others, "ducks/test/boxes.csv")  # nothing is lost
        ()
        >>> fewbox.write_annotations(others, "dataset", "yolo", copy_photos=True)
        ()
    """
    path = _checked(annotations, target)
    form = _format_of_target(path) if format is None else require_format(format)
    if copy_photos and form not in FOLDER_FORMATS:
        message = f"photos are not copied for {form}, which is one file"
        raise SettingError(message, hint=f"the formats that are a folder: {', '.join(FOLDER_FORMATS)}")
    _require_plain(annotations, path.parent, form)
    if form in FOLDER_FORMATS:
        _write_folder(annotations, path, form, copy_photos)
    else:
        _require_own_suffix(path, form)
        files.write_text(path, _text(annotations, path.parent, form))
    return tuple(_losses(annotations, form, copy_photos))


def annotation_texts(
    annotations: AnnotationSet, folder: Path, form: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What :func:`write_annotations` would write, as texts.

    Args:
        annotations: the set.
        folder: where the files will lie: names of photos start from it.
        form: the name of the format.

    Returns:
        The texts by the names of their files, one for a format that is one file; and what the format cannot
        hold, one sentence each.

    Raises:
        AnnotationError: the format cannot hold a name.
        SettingError: there is no format of this name.
    """
    _require_plain(annotations, folder, require_format(form))
    if form in FOLDER_FORMATS:
        texts = _texts(annotations, folder, form)
    else:
        texts = {f"boxes{_suffix_of(form)}": _text(annotations, folder, form)}
    return texts, tuple(_losses(annotations, form))


def _require_plain(annotations: AnnotationSet, folder: Path, form: str) -> None:
    """Refuse names of photos that the format cannot hold; a set has no such labels."""
    if form in ("csv", "cvat", "voc"):  # the others write any name, or none
        for name in written_names([image.path for image in annotations], folder if form == "csv" else None):
            require_plain_text(name, f"{annotations.source}: name of a photo")


def _checked(annotations: AnnotationSet, target: StrPath) -> Path:
    hint = "read them: fewbox.read_annotations(boxes, photos)"
    require_kind(annotations, AnnotationSet, "annotations", AnnotationError, hint)
    path = checked_path(target, "the file to write", OutputError)
    require_set_in_pixels(annotations)
    _require_own_sizes(annotations)
    return path


def _require_own_sizes(annotations: AnnotationSet) -> None:
    """Refuse a size made up in Python: in YOLO's files it would move every box, others are not read again."""
    for image in annotations:
        if not os.path.isfile(image.path):  # noqa: PTH113 - raises nothing; and nothing is fetched for it
            continue
        try:
            size_hw = read_size_hw(image.path)
        except PhotoError:  # whoever needs the photo will say so
            continue
        if size_hw != image.size_hw:
            told = f"size_hw is {image.size_hw}, and (height, width) of the photo {size_hw}"
            hint = "its boxes are in pixels of the upright photo: size_hw=fewbox.read_image(path).shape[:2]"
            raise AnnotationError(f"{annotations.source}: {image.path.name}: {told}", hint=hint)


def require_no_photo_name(target: Path) -> None:
    """Refuse to write text into a file that is called as photos are: it may be one.

    Raises:
        OutputError: ``target`` is called so.
    """
    if target.suffix.lower() in PHOTO_SUFFIXES:
        raise OutputError(f"{target}: only photos are called {target.suffix}", hint="choose another name")


def _suffix_of(form: str) -> str:
    """What the file of a format that is one file is called at its end."""
    return {"csv": ".csv", "cvat": ".xml"}.get(form, ".json")


def _require_own_suffix(target: Path, form: str) -> None:
    """Refuse a name by which the file would be taken for one in another format, and not be read."""
    require_no_photo_name(target)
    suffix = target.suffix.lower()
    if suffix in _BY_SUFFIX and suffix not in ("", _suffix_of(form)):
        message = f"{target}: a file in the format {form} is called {_suffix_of(form)}"
        raise OutputError(message, hint=f"name it {target.with_suffix(_suffix_of(form)).name}")


def target_formats(target: Path) -> tuple[str, ...]:
    """The formats that a name to write to may stand for: one where it ends as the files of a format do."""
    return _BY_SUFFIX.get(target.suffix.lower(), tuple(FORMATS))


def _format_of_target(target: Path) -> str:
    formats = target_formats(target)
    if len(formats) > 1:
        hint = "say which one with format=: " + ", ".join(formats)
        raise SettingError(f"{target}: the name does not tell the format", hint=hint)
    return formats[0]


def _text(annotations: AnnotationSet, folder: Path, form: str) -> str:
    match form:
        case "coco":
            return coco_text(annotations, folder)
        case "csv":
            return csv_text(annotations, folder)
        case "cvat":
            return cvat_text(annotations)
        case _:
            return label_studio_text(annotations)


def _write_folder(annotations: AnnotationSet, target: Path, form: str, copy_photos: bool) -> None:
    if target.suffix.lower() in _BY_SUFFIX and target.suffix:
        raise OutputError(f"{target}: {form} is a folder, a file per photo", hint="name a folder")
    photo_folder = target / "images" if form == "yolo" else target
    if copy_photos:
        if form == "yolo":  # its trainers take a photo without a file of boxes for background
            annotations = annotations.reviewed_only()
        _require_different_names(annotations)
        moved = [replace(image, path=photo_folder / image.path.name) for image in annotations]
        written = replace(annotations, images=tuple(moved))
    else:
        written = annotations
    texts = _texts(written, target, form)
    with files.new_folder(target) as folder:
        for name, text in texts.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        if copy_photos:
            copies = folder / photo_folder.relative_to(target)
            copies.mkdir(exist_ok=True)
            for image in annotations:
                _copy(image.path, copies / image.path.name)


@dataclass(frozen=True)
class AnnotationFile:
    """A set in one file, to download."""

    name: str
    content: bytes
    remarks: tuple[str, ...]
    """What the format cannot hold."""


def annotation_file(annotations: AnnotationSet, folder: Path, form: str) -> AnnotationFile:
    """The boxes as ``fewbox convert`` writes them; a format with a file per photo as a ZIP.

    Names of photos start from ``folder``, after which the file is called.

    Raises:
        AnnotationError: the format, or a ZIP, cannot hold a name.
        PhotoError: a photo cannot be read.
        SettingError: there is no format of this name.
    """
    texts, remarks = annotation_texts(annotations, folder, form)
    stem = f"{folder.resolve().name or 'boxes'}_{form}"
    if len(texts) == 1 and not any("/" in name for name in texts):
        ((name, text),) = texts.items()
        return AnnotationFile(f"{stem}{Path(name).suffix}", text.encode(), remarks)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            try:
                archive.writestr(name, text.encode())
            except UnicodeEncodeError as error:  # bytes that Linux allows, and are no text
                hint = "rename the photo, or export the boxes as coco"
                raise AnnotationError(f"{name!r}: no name for a file in a ZIP", hint=hint) from error
    return AnnotationFile(f"{stem}.zip", file.getvalue(), remarks)


def _require_different_names(annotations: AnnotationSet) -> None:
    seen: dict[str, AnnotatedImage] = {}
    for image in annotations:
        other = seen.setdefault(image.path.name.casefold(), image)
        if other.path != image.path:
            message = f"{annotations.source}: {other.path} and {image.path} would have one name as copies"
            hint = "rename one of them, or write without --copy-photos"
            if other.reviewed and image.reviewed:  # their files of boxes would have one name too
                hint = f"rename one of them, {ONE_BY_ONE}"
            raise AnnotationError(message, hint=hint)


def _copy(photo: Path, target: Path) -> None:
    try:
        shutil.copyfile(photo, target)
    except OSError as error:
        if error.filename != str(photo):
            raise
        raise PhotoError(f"{photo}: cannot be copied: {error.strerror}") from error


def _texts(annotations: AnnotationSet, folder: Path, form: str) -> dict[str, str]:
    match form:
        case "labelme":
            return labelme_texts(annotations, folder)
        case "voc":
            return voc_texts(annotations)
        case _:
            return yolo_texts(annotations)


def _losses(annotations: AnnotationSet, form: str, copy_photos: bool = False) -> Iterator[str]:
    """What a format cannot hold of a set."""
    boxes = [box for image in annotations for box in image.boxes]
    unseen = sum(not image.reviewed for image in annotations)
    if unseen and form in ("csv", *FOLDER_FORMATS):
        not_copied = "; they are not copied" if copy_photos and form == "yolo" else ""
        yield f"{form} does not list photos that nobody has looked at: {unseen}{not_copied}"
    ignored = sum(box.ignore for box in boxes)
    if ignored and form == "yolo":
        yield f"yolo has no boxes to ignore; they are written as ordinary ones: {ignored}"
    own_areas = sum(_has_own_area(box) for box in boxes)
    if own_areas and form != "coco":
        yield f"{form} has no areas; these objects will count as large as their boxes: {own_areas}"
    if form in ("csv", "labelstudio") and annotations.labels != tuple(dict.fromkeys(b.label for b in boxes)):
        yield f"{form} has no list of classes; it keeps those with boxes, in the order of first use"


def _has_own_area(box: Box) -> bool:
    """Whether its area is another than that of its box, by more than the digits that tools round to."""
    of_box = (box.x2 - box.x1) * (box.y2 - box.y1)
    return box.area is not None and abs(box.area - of_box) > 0.01 * of_box + 0.01
