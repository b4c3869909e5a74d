"""What is learnt from a project: its file read as any COCO file is, and held against the photos beside it.

So boxes of another program in ``annotations.json`` are read as the same file is by its name: what nearly fits
is made to, and what is rotated or in parts of the photo is refused. Where no box has been drawn here yet, its
photos too are found as those of any file; what was drawn here is of the photo at its path, and of no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fewbox.core import some_of
from fewbox.core.progress import console
from fewbox.data import PROJECT_FILE, photo_key, plain_path
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.formats.coco import read_coco
from fewbox.data.formats.fitting import Fitting, annotated_image, require_pixels_in
from fewbox.data.formats.folders import folders_of_photos
from fewbox.data.formats.photos import AmbiguousPhotoError, PhotoFinder
from fewbox.data.formats.raw import RawAnnotations, RawBox, RawPhoto, tell_left_out, tell_unused
from fewbox.data.formats.text_file import read_bytes
from fewbox.data.images import find_named, photo_names_in
from fewbox.data.project_file import PhotoState
from fewbox.errors import AnnotationError


def raw_project(folder: Path) -> RawAnnotations:
    """What the project file in a folder says, under the plain paths of the photos.

    Raises:
        AnnotationError: it is malformed, or has a photo twice.
    """
    raw = read_coco(folder / PROJECT_FILE)
    require_pixels_in(raw)
    if is_of_another_tool(raw, folder):
        raw, missing = with_photos_found(raw, folder)
        for photo in raw.photos:
            if isinstance(error := missing.get(photo.where), AmbiguousPhotoError) and not photo.left_out:
                raise error
    photos: dict[str, RawPhoto] = {}
    for photo in raw.photos:
        if photo_key(photo.name) in photos:
            hint = "keep one of the two entries, with the boxes of both"
            raise AnnotationError(f"{photo.where}: a photo is listed twice: {photo.name}", hint=hint)
        photos[photo_key(photo.name)] = replace(photo, name=plain_path(photo.name))
    return replace(raw, photos=tuple(photos.values()))


def is_drawn_here(folder: Path) -> bool:
    """Whether boxes of its project file were drawn on the page: each is of the photo at its path alone."""
    return b'"box_id"' in read_bytes(folder / PROJECT_FILE)


def is_of_another_tool(raw: RawAnnotations, folder: Path) -> bool:
    """Whether a project file has boxes and none was drawn here: its photos are found as those of any file."""
    return any(photo.boxes for photo in raw.photos) and not is_drawn_here(folder)


def has_photos(folder: Path) -> bool:
    """Whether one of the photos that its project file speaks of is there, or nobody wants any.

    Raises:
        AnnotationError: none is, and its boxes were drawn here: they are of no photo in another place.
    """
    try:
        raw = raw_project(folder)
    except AnnotationError:
        return True  # whoever reads the project is told
    wanted = [photo.name for photo in raw.photos if not photo.left_out]
    if not wanted or any(_lies_in(folder, name) for name in wanted):
        return True
    if is_drawn_here(folder):
        message = f"{folder / PROJECT_FILE}: none of its photos is there: {some_of(wanted)}"
        raise AnnotationError(message, hint="put them back, or say where the photos are")
    return False


def without_others(raw: RawAnnotations, folder: Path, asked: Iterable[str]) -> RawAnnotations:
    """The same without photos that are there and were not asked for: those of a test are not to be learnt.

    Args:
        raw: what the project file in ``folder`` says.
        folder: that of the project.
        asked: the names of the photos that were asked for.
    """
    known = {photo_key(name) for name in asked}
    kept = (p for p in raw.photos if photo_key(p.name) in known or not _lies_in(folder, p.name))
    return replace(raw, photos=tuple(kept))


def _lies_in(folder: Path, name: str) -> bool:
    # os.path, as the methods of Path raise on names that are too long for the system.
    return os.path.exists(folder / plain_path(name))  # noqa: PTH110


def at_own_place(photo: RawPhoto, path: Path | AnnotationError, folder: Path) -> Path | AnnotationError:
    """Where a photo was found, if that is the place where its boxes were drawn; else that it is gone."""
    if isinstance(path, Path) and path.is_relative_to(folder):
        if photo_key(path.relative_to(folder).as_posix()) == photo_key(photo.name):
            return path
    elif isinstance(path, AnnotationError) and not isinstance(path, AmbiguousPhotoError):
        return path
    if _lies_in(folder, photo.name):
        return folder / plain_path(photo.name)
    return AnnotationError(f"{photo.where}: no such photo: {photo.name}")


def with_photos_found(raw: RawAnnotations, folder: Path) -> tuple[RawAnnotations, dict[str, AnnotationError]]:
    """The same with the photos under the names at which they are found; those that are not there keep theirs.

    Returns:
        What the file says, and why a photo was not found, by its place in the file.
    """
    stated = [replace(photo, file=folder / PROJECT_FILE) for photo in raw.photos]
    places = tuple(dict.fromkeys((folder, *folders_of_photos(folder))))
    finder = PhotoFinder(replace(raw, photos=tuple(stated), places=places))
    photos, missing = list[RawPhoto](), dict[str, AnnotationError]()
    for photo, path in zip(raw.photos, finder.find_all(stated), strict=True):
        if isinstance(path, AnnotationError):
            missing[photo.where] = path
        elif path.is_relative_to(folder):
            photo = replace(photo, name=path.relative_to(folder).as_posix())
        photos.append(photo)
    return replace(raw, photos=tuple(photos)), missing


def found_for_learning(
    raw: RawAnnotations, folder: Path, asked: Iterable[str] | None
) -> list[tuple[RawPhoto, Path | AnnotationError]]:
    """What another tool's file says of each photo, and where that is: those that a project is learnt from.

    Args:
        raw: what the file says.
        folder: that of the project.
        asked: the names of the photos that were asked for; None is all.
    """
    stated = {photo.where: photo for photo in raw.photos}
    named, missing = with_photos_found(raw, folder)
    found = list[tuple[RawPhoto, Path | AnnotationError]]()
    for photo in (named if asked is None else without_others(named, folder, asked)).photos:
        error = missing.get(photo.where) or AnnotationError(f"{photo.where}: no such photo: {photo.name}")
        is_there = not isinstance(error, AmbiguousPhotoError) and _lies_in(folder, photo.name)
        found.append((stated[photo.where], folder / plain_path(photo.name) if is_there else error))
    return found


def project_set(
    raw: RawAnnotations, folder: Path, found: list[str], *, label: str, strict: bool
) -> AnnotationSet:
    """The photos ``found``, then others that the file speaks of, with their boxes.

    Those that somebody has left out are not in it, nor are those that are no longer there.

    Raises:
        AnnotationError: boxes do not fit the photos.
        PhotoError: a photo cannot be read.
    """
    stated = {photo_key(photo.name): photo for photo in raw.photos}
    tell_unused(label, raw)
    tell_left_out([photo.name for photo in raw.photos if photo.left_out])
    fitting, images, missing = Fitting(strict), list[AnnotatedImage](), list[str]()
    for name in with_mentioned(found, [photo.name for photo in raw.photos]):
        photo = stated.get(photo_key(name), RawPhoto(PROJECT_FILE, name, (), reviewed=False))
        path = folder / name
        if photo.left_out:
            continue
        if path.exists():
            images.append(_image(photo, path, label, fitting))
        else:
            missing.append(name)
    labels = raw.labels
    if labels is None:
        labels = (label,) if any(image.boxes for image in images) else ()
    annotations = AnnotationSet(tuple(images), labels, PROJECT_FILE)
    if missing:
        console.print(f"left out, no longer there: {', '.join(missing)}")
    for remark in filter(None, (*raw.remarks, fitting.remark())):
        console.print(f"{PROJECT_FILE}: {remark}")
    return annotations


def stated_image(name: str, path: Path, state: PhotoState) -> AnnotatedImage:
    """One photo with its boxes as :func:`project_set` has them.

    Raises:
        AnnotationError: the photo has another size than when its boxes were drawn.
        PhotoError: it cannot be read.
    """
    where = f"{PROJECT_FILE}: {name}"
    boxes = [
        RawBox(where, (box.x1, box.y1, box.x2, box.y2), box.label, box.ignore, area=box.area)
        for box in (drawn.box for drawn in state.boxes)
    ]
    return _image(
        RawPhoto(PROJECT_FILE, name, tuple(boxes), state.reviewed, state.size_hw), path, "object", Fitting()
    )


def _image(photo: RawPhoto, path: Path, label: str, fitting: Fitting) -> AnnotatedImage:
    """Without boxes it does not matter which size a photo had."""
    size_hw = photo.size_hw if photo.boxes else None
    return annotated_image(replace(photo, where=PROJECT_FILE, size_hw=size_hw), path, label, fitting)


def names_found(photos: Path, folder: Path, mentioned: Iterable[str]) -> list[str]:
    """The photos in the project's folder, or that a pattern of photos in it matches: paths below the folder.

    Raises:
        PhotoError: the folder cannot be listed, or nothing matches the pattern.
    """
    known = {photo_key(name) for name in mentioned}

    def is_named(picture: Path) -> bool:
        return photo_key(picture.relative_to(folder).as_posix()) in known

    if photos != folder:
        return [photo.relative_to(folder).as_posix() for photo in find_named(photos, is_named)]
    return photo_names_in(folder, is_named)


def with_mentioned(found: list[str], mentioned: Iterable[str]) -> list[str]:
    """The photos that were found, then those that the project file speaks of and are not among them."""
    known = {photo_key(name) for name in found}
    return found + [name for name in mentioned if photo_key(name) not in known]
