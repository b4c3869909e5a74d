"""Photos that somebody tries the detector on, and how they get into the project.

They are kept in a folder of their own until the server ends or newer ones push them out. The page names them
by numbers, never by paths.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fewbox.apps.annotate.background import Learner
from fewbox.apps.annotate.previews import make_picture
from fewbox.apps.annotate.questions import NoSuchPhotoError
from fewbox.apps.annotate.trying import Proposal
from fewbox.core import files
from fewbox.data.images import PHOTO_SUFFIXES, read_size_hw
from fewbox.data.project import Project
from fewbox.errors import FewboxError, OutputError, PhotoError

_MAX_PHOTOS = 50
_MAX_BYTES = 400_000_000
"""Of all photos together."""
_FORBIDDEN = set('<>:"/\\|?*')
"""What some system has in no name of a file."""


@dataclass(frozen=True)
class _Photo:
    name: str
    path: Path
    num_bytes: int
    boxes: tuple[Proposal, ...]


class TriedPhotos:
    """The photos that were tried. May be used from several threads.

    Args:
        project: where photos are taken into.
        learner: whose detector is tried.
    """

    def __init__(self, project: Project, learner: Learner) -> None:
        self._project = project
        self._learner = learner
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._photos: OrderedDict[str, _Photo] = OrderedDict()
        self._count = 0
        self._boxes: dict[str, tuple[Proposal, ...]] = {}

    def look(self, name: str, content: bytes) -> dict[str, Any]:
        """Detect in a photo, and say what was found.

        Raises:
            PhotoError: it is no photo, or broken.
            SettingError: there is no detector yet, or it cannot be opened.
            OutputError: there is no room for the photo.
        """
        name = _checked_name(name)
        key, path = self._place(name)
        try:
            path.write_bytes(content)
            height, width = read_size_hw(path)
            found = self._learner.try_photo(path)
        except OSError as error:
            path.unlink(missing_ok=True)  # a part of it would keep the disk full
            raise files.output_error(path, error) from error
        except FewboxError as error:
            path.unlink(missing_ok=True)
            # The person knows the photo by its name, and nothing of the folder.
            raise type(error)(error.message.replace(str(path), name), hint=error.hint) from error
        with self._lock:
            self._photos[key] = _Photo(name, path, len(content), found.boxes)
            self._forget_oldest()
        boxes = [{"box": each.box, "label": each.label, "score": each.score} for each in found.boxes]
        size = {"width": width, "height": height}
        return {"id": key, "name": name, **size, "boxes": boxes, "threshold": found.threshold}

    def _place(self, name: str) -> tuple[str, Path]:
        with self._lock:
            if self._folder is None:
                self._folder = files.temporary_folder("fewbox-try-")
            self._count += 1
            key = str(self._count)
            return key, Path(self._folder.name) / f"{key}{Path(name).suffix}"

    def _forget_oldest(self) -> None:
        while len(self._photos) > 1 and (
            len(self._photos) > _MAX_PHOTOS
            or sum(photo.num_bytes for photo in self._photos.values()) > _MAX_BYTES
        ):
            _, oldest = self._photos.popitem(last=False)
            oldest.path.unlink(missing_ok=True)

    def image(self, key: str, side: int | None) -> bytes:
        """The photo, upright, as a JPEG."""
        return make_picture(self._photo(key).path, side)

    def take(self, key: str) -> str:
        """Copy a photo into the folder of the project; what was found in it is proposed there.

        Returns:
            Its name in the project: its own, with a number if that is taken.

        Raises:
            OutputError: it cannot be written.
        """
        photo = self._photo(key)
        try:
            name = self._copy(photo)
        except OSError as error:
            raise files.output_error(self._project.folder / photo.name, error) from error
        self._project.change_photo(name)  # so that it belongs to the project whatever pattern that has
        self._boxes[name] = photo.boxes
        return name

    def _copy(self, photo: _Photo) -> str:
        content = photo.path.read_bytes()
        stem, suffix = Path(photo.name).stem, Path(photo.name).suffix
        known = {name.lower() for name in self._project.known_names()}  # also of what lies in the trash
        for number in range(1, 10_000):
            name = photo.name if number == 1 else f"{stem}-{number}{suffix}"
            if name.lower() in known:
                continue
            target = self._project.path_of(name)
            try:
                with target.open("xb") as file:  # never over another one
                    try:
                        file.write(content)
                    except OSError:
                        target.unlink()
                        raise
            except FileExistsError:
                continue
            return name
        raise OutputError(f"{photo.name}: too many photos are called so", hint="rename it")

    def proposals(self, name: str) -> tuple[Proposal, ...]:
        """What was found in a photo of the project when it was tried; nothing in others."""
        return self._boxes.get(name, ())

    def _photo(self, key: str) -> _Photo:
        with self._lock:
            if key not in self._photos:
                raise NoSuchPhotoError("this photo is no longer kept; drop it again")
            return self._photos[key]


def _checked_name(name: str) -> str:
    """The name that a photo gets in the project, without folders and what some system cannot write.

    Raises:
        PhotoError: no photo is called so.
    """
    plain = PurePosixPath(name.replace("\\", "/")).name
    kept = "".join("_" if sign in _FORBIDDEN or not sign.isprintable() else sign for sign in plain)
    kept = kept.lstrip(". ")
    stem, suffix = os.path.splitext(kept)  # noqa: PTH122 - a name, not a path
    if suffix.lower() not in PHOTO_SUFFIXES:
        hint = f"photos end in {', '.join(sorted(PHOTO_SUFFIXES))}"
        raise PhotoError(f"{kept or 'this'}: not a photo by its name", hint=hint)
    while len(os.fsencode(f"{stem}{suffix}")) > 200:
        stem = stem[:-1]
    return f"{stem or 'photo'}{suffix}"
