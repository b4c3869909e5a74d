"""One part of a data set that is checked: its photos, what is said about them, and what each looks like."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fewbox.core import counted, some_of
from fewbox.core.arguments import checked_path, require_kind
from fewbox.core.progress import progress_bar
from fewbox.data import PROJECT_FILE, SPELLING_HINT, checked_labels, plain_label
from fewbox.data.checks.findings import Finding, finding, photo_not_found
from fewbox.data.decoding import SIDEWAYS, lacks_end, orientation
from fewbox.data.formats import cleaned_names, is_no_photo, read_raw
from fewbox.data.formats.photos import AmbiguousPhotoError, PhotoFinder
from fewbox.data.formats.raw import RawAnnotations, RawPhoto, left_out_in_words
from fewbox.data.images import StrPath, find_photos, given_places, read_reduced
from fewbox.data.photo_file import opened
from fewbox.data.project import Project
from fewbox.data.project_set import (
    at_own_place,
    found_for_learning,
    is_drawn_here,
    is_of_another_tool,
    without_others,
)
from fewbox.data.remote import is_remote, short_names, shown_name
from fewbox.data.similar import HASHED_HW, PerceptualHash, perceptual_hash
from fewbox.errors import AnnotationError, PhotoError

_READERS = 4  # each may hold a photo of 200 megapixels


@dataclass(frozen=True)
class Look:
    """What one photo looks like."""

    size_hw: tuple[int, int]
    orientation: int
    lacks_end: bool
    brightest: int
    perceptual_hash: PerceptualHash | None
    pixels: bytes
    """A digest of the photo, reduced: two with the same are one picture."""

    @property
    def is_sideways(self) -> bool:
        """Whether the photo is stored on its side."""
        return self.orientation in SIDEWAYS


@dataclass
class Part:
    """One part of the data set: its photos, what is said about them, and what was found so far."""

    source: str
    boxes: Path | None = None
    label: str = ""  # of boxes without one
    is_annotated: bool = False
    stated: list[tuple[RawPhoto, Path]] = field(default_factory=list)
    photos: list[Path] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)  # of photos, with folders where names repeat
    looks: dict[Path, Look] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def read_part(
    boxes: StrPath | None,
    places: StrPath | Sequence[StrPath] | None,
    label: str,
    *,
    skip_missing: bool,
    reviewed_only: bool,
    show_progress: bool,
) -> Part:
    """Read what is said about the photos, find them, and look at each."""
    if boxes is not None:
        boxes = checked_path(boxes, "a file or folder of boxes", AnnotationError)
    require_kind(label, str, "label", AnnotationError, "the name of the only class: label='duck'")
    drawn = _drawn_in(boxes, places)
    boxes = drawn.file if drawn else boxes
    part = Part("photos" if boxes is None else boxes.resolve().name, boxes, label)
    raw = _read_boxes(part, boxes)
    finder = PhotoFinder(raw, None if places is None else given_places(places))
    photos: dict[str, Path] = {}  # by their real path: one photo may be reached in two ways
    left_out: dict[str, str] = {}  # real paths by the names of photos that somebody has left out
    stated, found = _found(raw, finder, drawn)
    missing: list[tuple[RawPhoto, AnnotationError]] = []
    for photo, path in zip(stated, found, strict=True):
        if photo.left_out:
            left_out[photo.name] = "" if isinstance(path, AnnotationError) else os.path.realpath(path)
        elif isinstance(path, AnnotationError):
            missing += [] if is_no_photo(photo, path) else [(photo, path)]
        else:
            part.stated.append((photo, photos.setdefault(os.path.realpath(path), path)))
    if raw is not None and (cleaned := cleaned_names(raw.format, part.stated)):
        part.findings.append(finding("photo-cleaned", part.source, some_of(cleaned)))
    # Where none is there at all, it is the folder that is wrong.
    _tell_missing(part, missing, len(stated), skips=skip_missing and bool(part.stated), is_drawn=bool(drawn))
    for path in finder.found:
        if os.path.realpath(path) not in left_out.values():
            photos.setdefault(os.path.realpath(path), path)
    if left_out:
        part.findings.append(finding("not-read", part.source, left_out_in_words(list(left_out))))
    if boxes is None and places is not None and not photos:
        find_photos(places)  # which says why there are none
    part.photos = list(photos.values())
    if reviewed_only and raw is not None:
        _leave_out_unreviewed(part)
    part.names = dict(zip(part.photos, short_names(part.photos), strict=True))
    if raw is not None:
        part.is_annotated = True
        named = [name.strip() for name in raw.labels or (label,)]
        part.labels.update(dict.fromkeys(named, 0))
        part.findings += _refused_labels(named, part.source)
    for photo, _ in part.stated:
        learnt = (box for box in photo.boxes if not box.ignore)
        part.labels.update(label if box.label is None else box.label.strip() for box in learnt)
    _look_at_all(part, show_progress)
    return part


def _refused_labels(labels: Sequence[str], source: str) -> Iterator[Finding]:
    """What learning refuses of the names of classes; an empty one is told where its boxes are."""
    seen: dict[str, list[str]] = {}
    for label in filter(None, labels):
        names = [*seen.get(plain_label(label), ()), label]
        seen.setdefault(plain_label(label), [label])
        try:
            checked_labels(names, source)
        except AnnotationError as error:
            what = error.message.removeprefix(f"{source}: ")
            yield finding("label-refused", source, what, cure=error.hint)


def _drawn_in(boxes: Path | None, photos: StrPath | Sequence[StrPath] | None) -> Project | None:
    """The project, if no other boxes are named than those drawn in the photos, and there are such."""
    if boxes is not None:
        return Project(boxes) if photos is None and (boxes / PROJECT_FILE).is_file() else None
    places = given_places(photos or ())
    if len(places) != 1 or is_remote(places[0]):
        return None
    project = Project(places[0])
    return project if project.file.exists() else None


def _found(
    raw: RawAnnotations | None, finder: PhotoFinder, project: Project | None
) -> tuple[Sequence[RawPhoto], list[Path | AnnotationError]]:
    """What is said of the photos that were asked for, and where each is; a project as it is learnt."""
    if raw is None:
        return (), []
    if project is None:
        return raw.photos, finder.find_all(raw.photos)
    folder = project.folder
    names = [photo.relative_to(folder).as_posix() for photo in finder.found] if not project.is_whole else None
    if is_of_another_tool(raw, folder):
        rows = found_for_learning(raw, folder, names)
        return [photo for photo, _ in rows], [path for _, path in rows]
    if names is not None:
        raw = without_others(raw, folder, names)
    found = finder.find_all(raw.photos)
    if is_drawn_here(folder):
        found = [at_own_place(*row, folder) for row in zip(raw.photos, found, strict=True)]
    return raw.photos, found


def _tell_missing(
    part: Part,
    missing: Sequence[tuple[RawPhoto, AnnotationError]],
    num_stated: int,
    *,
    skips: bool,
    is_drawn: bool,
) -> None:
    """Note the photos that are not there: each, or in one line if they are left out."""
    gone = [row for row in missing if skips and not is_drawn and not isinstance(row[1], AmbiguousPhotoError)]
    for photo, error in missing:
        if (photo, error) not in gone:
            part.findings.append(photo_not_found(photo, error, is_drawn=is_drawn))
    if gone:
        names = some_of([photo.name[:200] for photo, _ in gone])
        are = "are" if len(gone) > 1 else "is"
        what = f"{len(gone)} of {counted(num_stated, 'photo')} {are} not there, left out: {names}"
        part.findings.append(finding("not-read", part.source, what))


def _leave_out_unreviewed(part: Part) -> None:
    """Leave out the photos that nobody has looked at."""
    part.stated = [row for row in part.stated if row[0].boxes or row[0].reviewed]
    kept = {path for _, path in part.stated}
    num_left = len(part.photos) - len(kept)
    part.photos = [path for path in part.photos if path in kept]
    if num_left:
        what = f"{counted(num_left, 'photo')} that nobody has looked at, left out"
        part.findings.append(finding("not-read", part.source, what))


def _read_boxes(part: Part, boxes: StrPath | None) -> RawAnnotations | None:
    if boxes is None:
        return None
    if not Path(boxes).exists():
        raise AnnotationError(f"{boxes}: no such file", hint=SPELLING_HINT)
    try:
        raw = read_raw(boxes)
    except AnnotationError as error:
        reason = error.message.removeprefix(f"{part.source}: ")
        part.findings.append(finding("boxes-malformed", part.source, reason, cure=error.hint))
        return None
    part.findings += [finding("not-read", part.source, remark) for remark in raw.remarks]
    return raw


def _look_at_all(part: Part, show_progress: bool) -> None:
    """Read every photo; many at once, as decoding takes most of the time and needs no lock."""
    with (
        ThreadPoolExecutor(_READERS) as readers,
        progress_bar("looking at the photos", len(part.photos), show=show_progress) as advance,
    ):
        for path, look in zip(part.photos, readers.map(_look_at, part.photos), strict=True):
            if isinstance(look, PhotoError):
                reason = look.message.removeprefix(f"{shown_name(path)}: ")
                part.findings.append(finding("photo-unreadable", part.names[path], reason, cure=look.hint))
            else:
                part.looks[path] = look
            advance(path.name)


def _look_at(path: Path) -> Look | PhotoError:
    try:
        with opened(path) as image:
            turned, is_jpeg = orientation(image), image.format == "JPEG"
        reduced = read_reduced(path, HASHED_HW)
        has_no_end = is_jpeg and lacks_end(path.read_bytes())
    except PhotoError as error:
        return error
    brightest = int(reduced.image.max())
    pixels = hashlib.sha256(reduced.image.tobytes() + repr(reduced.image.shape).encode()).digest()
    return Look(reduced.size_hw, turned, has_no_end, brightest, perceptual_hash(reduced.image), pixels)
