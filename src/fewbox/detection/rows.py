"""The rows of ``detections.json`` while they come: on the disk, where they need no memory.

A run over many photos keeps them in the output folder, a line for each photo that is done. If it is killed,
the same command leaves these photos out, but for those whose picture is no longer the one that was drawn;
at its end the file is removed. Another run is kept from it meanwhile by a lock beside it.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from fewbox.core import counted, escaped
from fewbox.core.boxes import FoundArrays
from fewbox.core.files import output_error, replacing, temporary_place, version_of
from fewbox.data.remote import short_names
from fewbox.errors import OutputError

if TYPE_CHECKING:
    from filelock import FileLock

    from fewbox.detection.photo_detector import PhotoDetector

LEAST_PHOTOS = 100
"""Fewer are looked at again in a few seconds."""
_UNFINISHED = ".detections.unfinished.jsonl"
_LOCK = ".detections.unfinished.lock"
_NAMED = 5  # photos in a line about many
_IN_MEMORY = 2**20  # bytes of the rows of few photos


class RowFile:
    """The rows of some photos, to be read in the order of the photos.

    Args:
        photos: all that are looked at.
        output: the folder of the results.
        decided_by: what decides the rows beside the photos; each must say by its ``repr`` what it is.

    Raises:
        OutputError: the folder cannot be written, or another run keeps its rows there.
    """

    def __init__(self, photos: Sequence[Path], output: Path, *decided_by: object) -> None:
        self._photos, self._output = photos, output
        self.names = short_names(photos)
        """What each photo is called, which another run may call otherwise: it depends on all of them."""
        self._key = hashlib.sha256(repr(decided_by).encode()).hexdigest()[:16]
        self._starts: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._full: set[int] = set()
        self._path = output / _UNFINISHED if len(photos) >= LEAST_PHOTOS else None
        self._file: IO[bytes]
        if self._path is None:
            self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
            return
        try:
            output.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(output)
            self._file = self._path.open("a+b")
            self._find_done()
        except OSError as error:
            raise self._no_room(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *about: object) -> None:
        try:
            self._file.close()  # writes again what a full disk has refused
            if self._path is not None and (error is None or not self._starts):
                self._path.unlink(missing_ok=True)
        except OSError as failure:
            if error is None:
                raise self._no_room(failure) from failure
        finally:
            if self._path is not None:
                # While it is held: who has opened it by then sees that it has no name any more.
                with contextlib.suppress(OSError):  # Windows, which removes it afterwards
                    self._output.joinpath(_LOCK).unlink()
                self._lock.release()

    def __contains__(self, number: object) -> bool:
        """Whether there is a row of the photo of this number."""
        return number in self._starts

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def num_detections(self) -> int:
        """In all rows."""
        return sum(self._counts[number] for number in self._starts)

    def full_photos(self) -> list[str]:
        """The names of those in which there may be more."""
        return [self.names[number] for number in sorted(self._full.intersection(self._starts))]

    def add(self, number: int, row: dict[str, Any], *, is_full: bool = False) -> None:
        """Keep the row of the photo of this number, in which there may be more if it ``is_full``.

        Raises:
            OutputError: the disk is full.
        """
        try:
            stamps = self._stamps(number, row)
            line = json.dumps([self._key, *stamps, is_full, row]).encode() + b"\n"
            self._full.update([number] if is_full else [])
            self._starts[number], self._counts[number] = self._file.seek(0, 2), len(row["detections"])
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> OutputError:
        """Rows of few photos outgrow the memory set aside for them, too, and go to a temporary file."""
        return output_error(self._path or temporary_place() / "fewbox-rows", error)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, in the order of the photos.

        Raises:
            OutputError: another program has written into their file, on a disk without locks.
        """
        for number in sorted(self._starts):
            self._file.seek(self._starts[number])
            try:
                _, photo, *_, row = json.loads(self._file.readline())
            except (ValueError, TypeError):
                photo = row = None
            if photo != str(self._photos[number]):
                told = f"{self._path}: another program has written into it"
                raise OutputError(told, hint="run the command again, and no other one into this folder")
            yield row | {"photo": self.names[number]}

    def _stamps(self, number: int, row: dict[str, Any]) -> list[str | int]:
        """What tells a photo and its picture from others; whatever draws into the folder may replace this."""
        picture = version_of(self._output / row["picture"]) if "picture" in row else "none"
        return [*_stamp(self._photos[number]), picture]

    def _find_done(self) -> None:
        """Find the rows that a run like this one has left; if it was another, begin anew."""
        numbers = {str(photo): number for number, photo in enumerate(self._photos)}
        self._file.seek(0)
        start = 0
        for line in self._file:
            try:
                key, *stamp, is_full, row = json.loads(line)
            except (ValueError, TypeError):  # half a line: the process was killed while it wrote
                key, stamp, is_full, row = None, [], False, {}
            if key not in (self._key, None):
                self._starts.clear()
                break
            number = numbers.get(stamp[0]) if stamp and isinstance(stamp[0], str) else None
            if number is not None and line.endswith(b"\n") and stamp == self._stamps(number, row):
                self._starts[number], self._counts[number] = start, len(row["detections"])
                self._full.update([number] if is_full else [])
            start += len(line)
        if not self._starts:
            self._file.truncate(0)
        elif not line.endswith(b"\n"):
            self._file.write(b"\n")


def has_rows(output: Path) -> bool:
    """Whether a run that did not end has kept its rows in this folder."""
    return (output / _UNFINISHED).is_file()


def _locked(output: Path) -> FileLock:
    """Keep other runs from the rows in a folder; where a disk has no locks, nothing does.

    Raises:
        OutputError: another run is at work there.
    """
    from filelock import FileLock, Timeout

    # A soft lock, which is a file that is there, would outlive a run that is killed.
    lock = FileLock(output / _LOCK, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise OutputError(
            f"{output}: another run is writing into this folder",
            hint="wait until it has ended, or choose another folder with -o",
        ) from error
    except OSError as error:
        if error.filename is not None:  # the lock's file cannot be made
            raise
    return lock


def write_rows(
    target: Path, head: dict[str, Any], rows: Iterator[dict[str, Any]], failed: Sequence[str]
) -> None:
    """Write ``detections.json``, a row at a time, laid out as ``json.dumps`` would lay out all of it.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(head, indent=1).removesuffix("\n}"))
        file.write(',\n "photos": [')
        between = "\n"
        for row in rows:
            file.write(f"{between}  {_indented(row, 2)}")
            between = ",\n"
        file.write("]" if between == "\n" else "\n ]")
        file.write(f',\n "failed": {_indented(failed, 1)}\n}}\n')


def write_counts(target: Path, labels: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    """Write how many objects of each class are in each photo, as a table: a row a photo, a column a class.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        # Who reads the table by the names of its columns needs them to differ.
        columns = ["photo (class)" if label == "photo" else label for label in labels]
        table.writerow(["photo", *columns])
        for row in rows:
            counts = Counter(found["class_id"] for found in row["detections"])
            table.writerow([escaped(row["photo"]), *(counts[number] for number in range(len(labels)))])


def _indented(value: object, depth: int) -> str:
    return json.dumps(value, indent=1).replace("\n", "\n" + depth * " ")


def _stamp(photo: Path) -> tuple[str, int, int]:
    """What tells a photo from another, and from itself after a change."""
    try:
        about = photo.stat()
    except OSError:
        return str(photo), -1, -1
    return str(photo), about.st_size, about.st_mtime_ns


_FULL_LOOKS: ContextVar[list[float] | None] = ContextVar("_FULL_LOOKS", default=None)


@contextlib.contextmanager
def noting_full_looks() -> Iterator[list[float]]:
    """Gather what :func:`noted` is told meanwhile in this thread: the lowest score of each full look."""
    scores: list[float] = []
    token = _FULL_LOOKS.set(scores)
    try:
        yield scores
    finally:
        _FULL_LOOKS.reset(token)


def noted(found: FoundArrays, most: int) -> FoundArrays:
    """What a look has found, most certain first; if that are as many as can be, it is noted."""
    scores, full_looks = found[1], _FULL_LOOKS.get()
    if full_looks is not None and len(scores) >= most:
        full_looks.append(float(scores[most - 1]))
    return found


@dataclass
class FullPhotos:
    """The photos, or frames, in which a look has found as many boxes as the detector gives of one."""

    limit: int | None = None
    """Of the detector; None if that is not known, as with tiles, of which each may have so many."""
    what: str = "photo"
    count: int = 0
    names: list[str] = field(default_factory=list)
    """Of the first of them."""

    def add(self, name: str) -> None:
        """Note such a photo."""
        if self.limit is not None:
            self.count += 1
            self.names += [name] if self.count <= _NAMED else []

    def __str__(self) -> str:
        """A line that says which they are; nothing if there are none."""
        if self.limit is None or not self.count:
            return ""
        more = f" and {self.count - _NAMED} more" if self.count > _NAMED else ""
        names = ", ".join(self.names) + more
        who = f"{names} has" if self.count == 1 else f"{counted(self.count, self.what)} ({names}) have"
        boxes = counted(self.limit, "box")
        return (
            f"{who} {boxes} at one look, the most that this detector gives of one {self.what}; "
            "there may be more: look at parts too, with --tiles"
        )


def limit_of(detector: PhotoDetector) -> int | None:
    """How many boxes it gives of one photo; None with tiles, of which each may have so many."""
    return None if "tiles" in detector.options else detector.config.most_detections
