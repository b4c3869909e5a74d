"""Try a detector on photos that are not in the project, and take those into it that somebody wants there.

They are kept in a folder of their own until the server ends or newer ones push them out. The page names them
by numbers, never by paths.

A process of its own detects; both of its sides are here. Run as a program with a device, this module reads a
detector's file and a photo from each line of its stdin and writes what it has found as a line of JSON. A
detector's file is opened once, and again when it has changed. The process ends when its stdin closes, as it
does however the server ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fewbox.apps.annotate.previews import make_picture
from fewbox.apps.annotate.questions import NoSuchPhotoError
from fewbox.core import files
from fewbox.core.arguments import AUTO
from fewbox.data.images import PHOTO_SUFFIXES, read_size_hw
from fewbox.data.project import Project
from fewbox.errors import FewboxError, OutputError, PhotoError, SettingError

_MAX_PHOTOS = 50
_MAX_BYTES = 400_000_000
"""Of all photos together."""
_FORBIDDEN = set('<>:"/\\|?*')
"""What some system has in no name of a file."""


@dataclass(frozen=True)
class Proposal:
    """A box that a detector would draw."""

    box: tuple[float, float, float, float]
    """``(x1, y1, x2, y2)`` in pixels of the upright photo."""
    label: str
    score: float


@dataclass(frozen=True)
class Tried:
    """What a detector has found in a photo."""

    boxes: tuple[Proposal, ...]
    """Those above the detector's threshold, the surest first."""
    threshold: float


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
        detect: what is found in a photo; errors as of :meth:`TryingProcess.look`.
    """

    def __init__(self, project: Project, detect: Callable[[Path], Tried]) -> None:
        self._project = project
        self._detect = detect
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._photos: OrderedDict[str, _Photo] = OrderedDict()
        self._count = 0
        self._boxes: dict[str, tuple[str, tuple[Proposal, ...]]] = {}  # with the version of the file

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
            found = self._detect(path)
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
        self._boxes[name] = (files.version_of(self._project.path_of(name)), photo.boxes)
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
        """What was found in a photo of the project when it was tried; nothing in others.

        Nor in one that was turned or replaced since.
        """
        file, boxes = self._boxes.get(name, ("", ()))
        return boxes if boxes and files.version_of(self._project.path_of(name)) == file else ()

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


class TryingProcess:
    """Detects in a process of its own, which is started by the first photo. May be used from several threads.

    Args:
        device: where it computes, as for :func:`fewbox.open_detector`.
    """

    def __init__(self, device: str = AUTO) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def look(self, detector: Path, photo: Path) -> Tried:
        """Detect in a photo.

        Raises:
            PhotoError: the photo cannot be read.
            SettingError: the detector cannot be opened, or the process has ended.
        """
        with self._lock:
            answer = self._ask([str(detector.absolute()), str(photo.absolute())])
        if "error" in answer:
            kind = PhotoError if answer["photo"] else SettingError
            raise kind(answer["error"], hint=answer["hint"])
        boxes = [Proposal(tuple(box), label, score) for box, label, score in answer["boxes"]]
        return Tried(tuple(boxes), answer["threshold"])

    def _ask(self, question: list[str]) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fewbox.apps.annotate.trying", self._device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="ascii",
                start_new_session=True,  # Ctrl-C ends the server, and that ends this, without a traceback
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            hint = "see the terminal that 'fewbox annotate' runs in"
            raise SettingError("the process that tries the detector has ended", hint=hint)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()


class _Opened:
    """The detector that was used last."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._version: object = None
        self._detector: Any = None

    def look(self, file: str, photo: str) -> dict[str, Any]:
        """What is found in a photo, for the line that is written."""
        from fewbox.detection.loading import open_detector

        status = Path(file).stat()
        version = (file, status.st_mtime_ns, status.st_size)
        if version != self._version:
            self._detector = open_detector(file, device=self._device)
            self._version = version
        found = self._detector.detect(photo)
        boxes = [
            ([round(edge, 1) for edge in box], label, round(float(score), 3)) for box, score, label in found
        ]
        return {"boxes": boxes, "threshold": self._detector.threshold}


def main(device: str) -> None:
    """Detect as stdin says, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    opened = _Opened(device)
    for line in sys.stdin:
        detector, photo = json.loads(line)
        try:
            answer = opened.look(detector, photo)
        except FewboxError as error:
            is_photo = isinstance(error, PhotoError)
            answer = {"error": error.message, "hint": error.hint, "photo": is_photo}
        except OSError as error:
            says = f"{detector}: cannot be read: {error.strerror or error}"
            answer = {"error": says, "hint": "press Fine-tune now again", "photo": False}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
