"""Boxes that other programs have left beside the photos of a project, to be taken over into it.

Other readers stop at the first fault. Here a person is asked, so what can be read is offered, and what
cannot is told with its place. A photo in which boxes were drawn, that was reviewed or left out, is never
changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewbox.core import quoted
from fewbox.data import FOLDER_FORMATS, FORMATS, PROJECT_FILE, checked_label, photo_key, plain_path
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.formats import cleaned_names, format_of_file, is_no_photo, read_files
from fewbox.data.formats.csv_table import is_box_table
from fewbox.data.formats.fitting import Fitting, annotated_image
from fewbox.data.formats.folders import FOLDERS_OF_PHOTOS, files_below
from fewbox.data.formats.photos import PhotoFinder
from fewbox.data.formats.raw import RawAnnotations, RawPhoto
from fewbox.data.formats.yolo import label_files
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox, PhotoState
from fewbox.errors import AnnotationError, PhotoError

_NOT_OURS = frozenset({PROJECT_FILE, "detections.json"})
_TABLES = (".csv", ".tsv")
_FOLDERS_BESIDE = ("labels", "Annotations", "annotations")
"""Where data sets keep boxes whose photos are in a folder of such a name."""


@dataclass(frozen=True)
class BesideBoxes:
    """What the files of one format say of photos that nobody has looked at in the project.

    Attributes:
        format: one of ``FORMATS``.
        images: by the names of photos in the project; those without boxes were looked at, as the files say.
        problems: what cannot be read, each with its place, and what is left out or changed of what can.
    """

    format: str
    images: dict[str, AnnotatedImage]
    problems: tuple[str, ...]

    @property
    def num_boxes(self) -> int:
        """How many boxes there are to take over."""
        return sum(len(image.boxes) for image in self.images.values())

    @property
    def labels(self) -> list[str]:
        """The labels of the boxes, in the order of first use."""
        return list(dict.fromkeys(box.label for image in self.images.values() for box in image.boxes))


def find_beside(project: Project) -> list[BesideBoxes]:
    """The boxes beside the photos of a project, one entry for each format that is found.

    Raises:
        AnnotationError: the project file is malformed.
        PhotoError: the photos cannot be listed.
    """
    files, problems = _files_by_format(project.folder)
    names = [name for name in project.photo_names() if project.is_there(name)]
    free = [name for name, state in zip(names, project.states(names), strict=True) if _is_untouched(state)]
    found = []
    for form in FORMATS:
        told = problems.get(form, [])
        if free and (files.get(form) or told):
            places = files.get(form, [])
            parts = [part for folder, inside in places for part in _read_each(inside, folder, form, told)]
            photos = tuple(photo for part in parts for photo in part.photos)
            raw = RawAnnotations(form, project.folder.name, photos, None, (project.folder,))
            images = dict(_placed(raw, project, names, set(free), told))
            if images:  # else what the files say beside boxes is of no use here
                told += [f"{part.source}: {remark}" for part in parts for remark in part.remarks]
            found.append(BesideBoxes(form, images, tuple(dict.fromkeys(told))))
    return found


def boxes_beside(folder: Path) -> Path | None:
    """What other programs have left beside the photos in a folder, to be named as their boxes.

    A file if it is the only one, else the folder of a format with one file for each photo; None where there
    is nothing, or more than one thing that may be meant.
    """
    files, _ = _files_by_format(folder)
    places = [(form, *place) for form, found in files.items() for place in found]
    if len(places) != 1:
        return None
    form, place, inside = places[0]
    return inside[0] if len(inside) == 1 and form not in FOLDER_FORMATS else place


def boxes_to_name(project: Project) -> str | None:
    """The photos and the option that name such boxes, where nothing was drawn; None if none can be named."""
    if project.file.exists() or not (beside := boxes_beside(project.folder)):
        return None
    return f"{quoted(photos_of(project))} --boxes {quoted(beside)}"


def photos_of(project: Project) -> Path:
    """The place of its photos as commands take it: who names a data.yaml means those of its folder."""
    return project.folder if project.photos.is_file() else project.photos


def take_over(project: Project, form: str) -> dict[str, list[str]]:
    """Take the boxes of one format into the project, and return the ids of the new ones by photo.

    Raises:
        AnnotationError: there is nothing of this format, or the project file is malformed.
        OutputError: the project file cannot be written; nothing has changed.
    """
    taken: dict[str, list[str]] = {}
    for one in find_beside(project):
        if one.format != form:
            continue
        with project.editing() as content:
            content.add_labels(one.labels)
            for name, image in one.images.items():
                if not _is_untouched(content.photo(name)):  # somebody has just drawn in it
                    continue
                boxes = [DrawnBox(f"{form}-{number}", box) for number, box in enumerate(image.boxes, start=1)]
                content.change_photo(name, image.size_hw, put=boxes, reviewed=True)
                taken[name] = [drawn.id for drawn in boxes]
    if not taken:
        raise AnnotationError(f"no boxes to take over as {form}", hint="reload the page")
    return taken


def _is_untouched(state: PhotoState) -> bool:
    return not (state.boxes or state.reviewed or state.left_out)


def _files_by_format(folder: Path) -> tuple[dict[str, list[tuple[Path, list[Path]]]], dict[str, list[str]]]:
    """By format: pairs of a folder and files below it, and what is wrong with some that may be of it."""
    folders = [folder]
    if folder.resolve().name.lower() in FOLDERS_OF_PHOTOS:
        folders += [place for name in _FOLDERS_BESIDE if (place := folder.resolve().parent / name).is_dir()]
    found: dict[str, list[tuple[Path, list[Path]]]] = {}
    problems: dict[str, list[str]] = {}
    for place in folders:
        files: dict[str, list[Path]] = {}
        if labels := label_files(place):
            files["yolo"] = labels
        for path in files_below(place, (".json", ".xml", *_TABLES)):
            if path.name in _NOT_OURS:
                continue
            try:
                form = format_of_file(path)
            except AnnotationError as error:
                maybe = "voc" if path.suffix.lower() == ".xml" else "coco"
                problems.setdefault(maybe, []).append(error.one_line)
                continue
            if form is not None and (form != "csv" or is_box_table(path)):
                files.setdefault(form, []).append(path)
        for form, inside in files.items():
            found.setdefault(form, []).append((place, inside))
    return found, problems


def _read_each(files: Sequence[Path], folder: Path, form: str, told: list[str]) -> list[RawAnnotations]:
    """What can be read of the files; of the others ``told`` gets the reason."""
    try:
        return [read_files(files, folder, form)]
    except AnnotationError:
        pass  # which of them it was, and what the others say:
    parts: list[RawAnnotations] = []
    for path in files:
        try:
            parts.append(read_files([path], folder, form))
        except AnnotationError as error:
            told.append(error.one_line)
    return parts


def _placed(
    raw: RawAnnotations, project: Project, names: Iterable[str], free: set[str], told: list[str]
) -> Iterator[tuple[str, AnnotatedImage]]:
    """The photos that the files speak of, if their boxes fit; each once, by its name in the project."""
    by_path = {project.path_of(name): name for name in names}
    finder = PhotoFinder(raw, list(by_path))
    fitting, seen = Fitting(strict=False), set[str]()
    paths = finder.find_all(raw.photos)
    stated: dict[tuple[Path, Path | None], dict[str, bool]] = {}  # what each file calls it; is it there?
    for photo, path in zip(raw.photos, paths, strict=True):
        if isinstance(path, Path):
            is_there = _is_at(photo, path)
            stated.setdefault((path, photo.file), {})[photo_key(photo.name)] = is_there
    for photo, path in zip(raw.photos, paths, strict=True):
        if isinstance(path, AnnotationError):
            told += [] if is_no_photo(photo, path) else [path.one_line]
            continue
        name = by_path[path]
        if name not in free or photo.left_out:
            continue
        meant = stated[path, photo.file]
        if len(meant) > 1 and not meant[photo_key(photo.name)]:  # another photo's boxes are worse than none
            told.append(_in_doubt(photo, name, any(meant.values())))
            continue
        image = _fitted(photo, path, fitting, told)
        if image is None or not (image.boxes or image.reviewed):
            continue
        if name in seen:
            told.append(f"{photo.where}: {name} is in another file too, which counts")
            continue
        seen.add(name)
        told += [
            f"found by a name without its signs: {which}"
            for which in cleaned_names(raw.format, [(photo, path)])
        ]
        yield name, image
    if remark := fitting.remark():
        told.append(remark)


def _is_at(photo: RawPhoto, path: Path) -> bool:
    """Whether a photo lies exactly where its file says."""
    return photo.file is not None and (photo.file.parent / plain_path(photo.name)).resolve() == path.resolve()


def _in_doubt(photo: RawPhoto, name: str, is_another: bool) -> str:
    if is_another:
        return f"{photo.where}: {photo.name} is not among the photos of this folder"
    doubt = f"{name} may be this photo, {photo.name}, or another in the file"
    return f"{photo.where}: {doubt}: draw its boxes, or leave the other one out of the file"


def _fitted(photo: RawPhoto, path: Path, fitting: Fitting, told: list[str]) -> AnnotatedImage | None:
    try:
        image = annotated_image(photo, path, "object", fitting)
        labels = tuple(dict.fromkeys(checked_label(box.label) for box in image.boxes))
        (checked,) = AnnotationSet((image,), labels, photo.where)
    except (AnnotationError, PhotoError) as error:
        told.append(error.one_line)
        return None
    return checked
