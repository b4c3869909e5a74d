"""Files of boxes: COCO, CSV, CVAT, labelme, Label Studio, Pascal VOC and YOLO, read and written.

Reading has two steps: a file becomes :class:`RawAnnotations`, what it says; held against the
photos this becomes an ``AnnotationSet``. A file is read whole or refused: what is malformed is
never skipped, as a lost box would teach the detector that the object is background. What a
format can say and we cannot keep is left out and named in a remark. docs/formats.md has the
table of what is read, kept and left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fewbox.core import counted, some_of
from fewbox.core.arguments import checked_path, require_kind
from fewbox.core.progress import console
from fewbox.data import FOLDER_FORMATS, PROJECT_FILE, require_format
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box, require_size
from fewbox.data.formats.coco import read_coco
from fewbox.data.formats.csv_table import read_csv
from fewbox.data.formats.cvat import read_cvat
from fewbox.data.formats.fitting import Fitting
from fewbox.data.formats.folders import folders_of_photos
from fewbox.data.formats.label_studio import read_label_studio
from fewbox.data.formats.labelme import read_labelme
from fewbox.data.formats.photos import AmbiguousPhotoError, PhotoFinder
from fewbox.data.formats.raw import RawAnnotations, RawPhoto, merged, tell_left_out
from fewbox.data.formats.recognition import files_of, recognized_format
from fewbox.data.formats.recognition import possible_formats as possible_formats
from fewbox.data.formats.text_file import require_plain_text
from fewbox.data.formats.voc import read_voc
from fewbox.data.formats.writing import write_annotations as write_annotations
from fewbox.data.formats.writing import write_coco as write_coco
from fewbox.data.formats.yolo import read_yolo
from fewbox.data.images import StrPath, given_places, read_size_hw
from fewbox.data.remote import shown_name
from fewbox.errors import AnnotationError

_SHOWN = 3
"""Names of photos in a message about many."""


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
    if photos is None and format is None and os.path.isfile(Path(boxes, PROJECT_FILE)):  # noqa: PTH113
        from fewbox.data.project import Project  # which is made of parts of this package

        return Project(boxes).annotation_set()
    raw = read_raw(boxes, format)
    for remark in raw.remarks:
        console.print(f"{raw.source}: {remark}")
    return to_annotation_set(raw, photos, label=label, strict=strict, skip_missing=skip_missing)


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
    raw = _read(path, form)
    corners = [box.corners for photo in raw.photos for box in photo.boxes if not box.unit]
    if corners and all(min(edges) >= 0 and 0 < max(edges) <= 1 for edges in corners):
        hint = "these seem to be parts of the photo: multiply by its width and height"
        raise AnnotationError(f"{raw.source}: every box is smaller than one pixel", hint=hint)
    return raw


def _read(path: Path, form: str) -> RawAnnotations:
    folder, files = files_of(path, form)
    raw = read_files(files, folder, form)
    if form in FOLDER_FORMATS or not path.is_dir():
        return raw
    places = (folder, *raw.places, *folders_of_photos(folder))
    return replace(raw, places=tuple(dict.fromkeys(places)))


def read_files(files: Sequence[Path], folder: Path, form: str) -> RawAnnotations:
    """Read what files of one format say, all of which are below ``folder``.

    Raises:
        AnnotationError: one of them is malformed.
    """
    match form:
        case "labelme":
            return read_labelme(files, folder)
        case "voc":
            return read_voc(files, folder)
        case "yolo":
            return read_yolo(files, folder)
    return merged([_read_file(file, form) for file in files], folder)


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
    for name in labels:
        require_plain_text(name, f"{raw.source}: label")
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
        if not (photo.left_out and isinstance(path, AnnotationError))
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
    for photo, path in found:
        if not isinstance(path, AnnotationError):
            yield photo, path


def annotated_image(raw: RawPhoto, path: Path, label: str, fitting: Fitting) -> AnnotatedImage:
    """Hold what a file says of one photo against it; ``label`` is the class where the file names none.

    Raises:
        AnnotationError: the photo has another size, or a box does not fit at all.
        PhotoError: the photo cannot be read.
    """
    size_hw = read_size_hw(path)
    if raw.size_hw is not None:
        require_size(raw.size_hw, size_hw, f"{raw.where}: {path.name}")
    boxes = [
        Box(x1, y1, x2, y2, label if box.label is None else box.label.strip(), box.ignore, box.area)
        for box, (x1, y1, x2, y2) in fitting.fitted(raw, path, size_hw)
    ]
    # A flat box that is left out leaves no empty photo: something was drawn there.
    return AnnotatedImage(path, size_hw, tuple(boxes), raw.reviewed and bool(boxes) == bool(raw.boxes))
