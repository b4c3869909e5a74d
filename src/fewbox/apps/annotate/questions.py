"""What the page sends, checked field by field."""

from __future__ import annotations

from dataclasses import dataclass

from fewbox.data.annotations import Box
from fewbox.data.formats.json_file import Entry, parse_object
from fewbox.data.project_file import DrawnBox
from fewbox.errors import AnnotationError


@dataclass(frozen=True)
class PhotoChange:
    """A change to one photo; see :meth:`ProjectFile.change_photo`."""

    put: tuple[DrawnBox, ...]
    delete: tuple[str, ...]
    reviewed: bool | None
    left_out: bool | None = None
    seen: str | None = None
    """The version of what is said of the photo, as it was changed; None if the page does not know."""
    content: str | None = None
    """The hash of the photo's file in which boxes were drawn; None if the page does not know."""


@dataclass(frozen=True)
class LostLabel:
    """A label that was removed, merged or deleted, to be brought back."""

    label: str
    category_id: int
    photos: tuple[tuple[str, PhotoChange], ...]
    """Names of photos that are not there, and what brings back their boxes."""


@dataclass(frozen=True)
class LabelChange:
    """Labels to add, then one to rename, then some to remove that no box has.

    Then one to merge into another, some to delete with their boxes, and one to bring back.
    """

    add: tuple[str, ...]
    rename: tuple[str, str] | None
    remove: tuple[str, ...]
    merge: tuple[str, str] | None = None
    delete: tuple[str, ...] = ()
    restore: LostLabel | None = None


class NoSuchPhotoError(Exception):
    """The page has asked for a photo that is not there."""


class BadRequestError(Exception):
    """The page has sent something that it should not."""


def read_photo_change(body: bytes) -> PhotoChange:
    """Read ``{"put": [box, ...], "delete": [id, ...], "reviewed": true, "seen": "f00", "content": "ba5"}``.

    None of them is needed, nor is ``"left_out": false``.

    Raises:
        BadRequestError: it is malformed; the message says where.
    """
    request = _parse(body)
    try:
        return _read_change(request)
    except AnnotationError as error:
        raise BadRequestError(error.message) from error


def _read_change(request: Entry) -> PhotoChange:
    put = tuple(map(_read_box, request.entries("put"))) if "put" in request.fields else ()
    reviewed, left_out = (
        request.flag(key) if request.fields.get(key) is not None else None for key in ("reviewed", "left_out")
    )
    seen, content = (request.text(key) if key in request.fields else None for key in ("seen", "content"))
    return PhotoChange(put, _texts(request, "delete"), reviewed, left_out, seen, content)


def _read_lost(entry: Entry) -> LostLabel:
    photos = tuple((photo.text("name"), _read_change(photo)) for photo in entry.entries("photos"))
    return LostLabel(entry.text("label"), entry.whole("id"), photos)


def read_label_change(body: bytes) -> LabelChange:
    """Read what is to be done with labels; each part may be left out.

    ``{"labels": ["mug"], "rename": {"old": "new"}, "remove": ["a"], "merge": {"b": "c"}, "delete": ["d"],
    "restore": {"label": "e", "id": 1, "photos": [{"name": "a.jpg", "put": [box, ...], "reviewed": true}]}}``

    Raises:
        BadRequestError: it is malformed; the message says where.
    """
    request = _parse(body)
    try:
        rename, merge = _pair(request, "rename"), _pair(request, "merge")
        remove, delete = _texts(request, "remove"), _texts(request, "delete")
        restore = _read_lost(request.entry("restore")) if "restore" in request.fields else None
        return LabelChange(_texts(request, "labels"), rename, remove, merge, delete, restore)
    except AnnotationError as error:
        raise BadRequestError(error.message) from error


def _parse(body: bytes) -> Entry:
    try:
        return parse_object(body.decode("utf-8"), "request")
    except UnicodeDecodeError as error:
        raise BadRequestError("request: not UTF-8") from error
    except AnnotationError as error:
        raise BadRequestError(error.message) from error


def _read_box(entry: Entry) -> DrawnBox:
    x1, y1, x2, y2 = entry.numbers("box", 4)
    box = Box(x1, y1, x2, y2, entry.text("label"), entry.flag("ignore"))
    return DrawnBox(entry.text("id"), box)


def read_format(body: bytes) -> str:
    """Read ``{"format": "voc"}``.

    Raises:
        BadRequestError: it is malformed.
    """
    request = _parse(body)
    try:
        return request.text("format")
    except AnnotationError as error:
        raise BadRequestError(error.message) from error


def _pair(request: Entry, key: str) -> tuple[str, str] | None:
    if key not in request.fields:
        return None
    pairs = request.value(key, dict, "an object")
    if len(pairs) != 1 or not all(isinstance(label, str) for label in pairs.values()):
        request.refuse(key, f'one label to {key}: {{"old": "new"}}')
    ((old, new),) = pairs.items()
    return old, new


def _texts(request: Entry, key: str) -> tuple[str, ...]:
    if key not in request.fields:
        return ()
    values = request.value(key, list, "a list of texts")
    if not all(isinstance(value, str) for value in values):
        request.refuse(key, "a list of texts")
    return tuple(values)
