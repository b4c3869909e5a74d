"""A project: photos, and ``annotations.json`` beside them with what was drawn in them.

What a person drew cannot be made again, so:

* a change is on the disk before it is acknowledged: the new file is written beside the old one,
  flushed, and takes its name; the version before stays as ``annotations.json.bak``;
* several programs and windows may change one project. Each change is a few boxes, put or deleted
  by their ids; it is applied to the file as it then is, under a lock, so that nobody writes over
  what somebody else drew meanwhile;
* a file that cannot be understood is an error, and is never written over.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from filelock import FileLock, Timeout

from fewbox.core import files, quoted
from fewbox.data import PROJECT_FILE
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats.text_file import WRITE_AGAIN_HINT
from fewbox.data.images import StrPath, read_size_hw
from fewbox.data.project_file import DrawnBox, PhotoState, ProjectFile
from fewbox.data.project_set import names_found, project_set, raw_project, with_mentioned, without_others
from fewbox.data.remote import is_remote, place_here
from fewbox.errors import AnnotationError, OutputError, PhotoError

TRASH = ".fewbox-trash"
"""The folder beside the project file that photos are moved to when they are deleted from the page."""
LOCK_SECONDS = 10
"""How long to wait for another program; it holds the file for some milliseconds."""


@dataclass(frozen=True)
class _Loaded:
    """The project file as it was read or written last."""

    version: str
    data: bytes
    content: ProjectFile
    version_before: str = ""
    """That of the file to which the last change was made."""


class Project:
    """Photos and their project file. May be used from several threads.

    Args:
        photos: a folder, for the photos in it; or a pattern such as ``photos/**/*.jpg``. The project
            file is in that folder, or in the one before the first ``*``.

    Raises:
        PhotoError: the photos are on another machine.
    """

    def __init__(self, photos: StrPath) -> None:
        if is_remote(photos := place_here(photos)):
            hint = "copy the photos here, or name a file of boxes"
            raise PhotoError(f"{photos}: boxes are kept beside photos, not at addresses", hint=hint)
        self.photos = Path(photos)
        self.folder = _folder_of(self.photos)
        # Resolved: a link to the file stays a link when the file is replaced.
        self.file = Path(os.path.realpath(self.folder / PROJECT_FILE))
        self.backup = self.file.with_name(f"{self.file.name}.bak")
        self._lock = threading.RLock()
        self._loaded: _Loaded | None = None
        self._tidied = False
        self._found: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Project({str(self.photos)!r})"

    @property
    def is_whole(self) -> bool:
        """Whether all photos of the folder were asked for, and not those of a pattern, or one."""
        return self.photos == self.folder

    def photo_names(self) -> list[str]:
        """The photos: paths below the folder, with ``/``.

        Those in the folder, or that match the pattern, in natural order; then others that the project
        file speaks of, whether or not they are still there. Photos outside the folder are not
        listed, nor those that were left out and are no longer there.

        Raises:
            AnnotationError: the project file is malformed.
            PhotoError: the folder cannot be listed, or nothing matches the pattern.
        """
        return [name for name in self._all_names() if name in self._found or _is_below(name)]

    def _all_names(self) -> list[str]:
        with self._lock:
            content = self._load().content
            names = names_found(self.photos, self.folder, content.names)
            self._found = frozenset(names)
            is_out = {name for name in content.names if content.photo(name).left_out}
        return with_mentioned(names, [n for n in content.names if n not in is_out or self.is_there(n)])

    def known_names(self) -> set[str]:
        """The photos that the project file speaks of, also those that are no longer there."""
        with self._lock:
            return set(self._load().content.names)

    @property
    def version(self) -> str:
        """Changes whenever the project file does, whoever has written it."""
        return files.version_of(self.file)

    def is_there(self, name: str) -> bool:
        """Whether the photo ``name`` is where it should be."""
        return name in self._found or self.path_of(name).exists()

    def path_of(self, name: str) -> Path:
        """Where the photo ``name`` is."""
        return self.folder / name

    def whereabouts(self, name: str) -> Path:
        """Where the photo ``name`` is, or where :meth:`trash` has moved it last."""
        path = self.path_of(name)
        return path if path.exists() else [path, *self._trashed(name)][-1]

    def labels(self) -> list[str]:
        """The labels in the order of their category ids.

        Raises:
            AnnotationError: the project file is malformed.
        """
        with self._lock:
            return self._load().content.labels

    def states(self, names: Sequence[str]) -> list[PhotoState]:
        """What is said about photos, in the order of ``names``.

        Raises:
            AnnotationError: the project file is malformed.
        """
        with self._lock:
            content = self._load().content
            return [content.photo(name) for name in names]

    def change_photo(
        self,
        name: str,
        *,
        put: Sequence[DrawnBox] = (),
        delete: Sequence[str] = (),
        reviewed: bool | None = None,
        left_out: bool | None = None,
    ) -> PhotoState:
        """Change a photo as :meth:`exchange_photo` does, and return what is now said about it."""
        return self.exchange_photo(name, put=put, delete=delete, reviewed=reviewed, left_out=left_out)[1]

    def exchange_photo(
        self,
        name: str,
        *,
        put: Sequence[DrawnBox] = (),
        delete: Sequence[str] = (),
        reviewed: bool | None = None,
        left_out: bool | None = None,
    ) -> tuple[PhotoState, PhotoState]:
        """Change a photo as :meth:`ProjectFile.change_photo` does.

        Returns:
            What was said about it right before, with what others had changed by then, and what is said now.

        Raises:
            PhotoError: the photo cannot be read; it can be left out all the same.
            AnnotationError: a box does not fit the photo, or the project file is malformed.
            OutputError: the file cannot be written; nothing has changed.
        """
        try:
            size_hw = read_size_hw(self.path_of(name))
        except PhotoError:
            if put or left_out is None:
                raise
            size_hw = None
        with self.editing() as content:
            before = content.photo(name)
            content.change_photo(name, size_hw, put=put, delete=delete, reviewed=reviewed, left_out=left_out)
            return before, content.photo(name)

    def trash(self, name: str) -> Path:
        """Move a photo into the folder :data:`TRASH` beside the project file; what is said of it is kept.

        It is marked as left out, so that it is neither missed nor listed.

        Returns:
            Where it is now.

        Raises:
            PhotoError: it is not there.
            OutputError: it cannot be moved, or the project file cannot be written; nothing has changed.
        """
        path = self.path_of(name)
        if not path.exists():
            raise PhotoError(f"{name}: no longer there", hint="O takes it off the list")
        with self._lock:  # or it could be listed half way, as left out and still there
            (before,) = self.states([name])
            place = self._free_place(name)
            self.change_photo(name, left_out=True)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
            except OSError as error:
                with self.editing() as content:  # whatever size the photo has by now
                    content.change_photo(name, None, left_out=before.left_out, reviewed=before.reviewed)
                raise files.output_error(place, error) from error
            self._found -= {name}
            return place

    def restore(self, name: str) -> None:
        """Move a photo back that :meth:`trash` has moved, the one moved last; it stays left out.

        Raises:
            PhotoError: it is not in the trash, or there is another photo of its name.
            OutputError: it cannot be moved.
        """
        path, places = self.path_of(name), self._trashed(name)
        if not places:
            raise PhotoError(f"{name}: not in {TRASH}", hint="somebody may have moved or deleted it")
        if path.exists():
            hint = f"rename one of them, then move it back: {places[-1]}"
            raise PhotoError(f"{name}: another photo has this name", hint=hint)
        try:
            places[-1].rename(path)
        except OSError as error:
            raise files.output_error(path, error) from error

    def _trashed(self, name: str) -> list[Path]:
        """The photos that had this name when they were moved into the trash, the last one last."""
        places: list[Path] = []
        while (place := self._place(name, len(places))).exists():
            places.append(place)
        return places

    def _free_place(self, name: str) -> Path:
        return self._place(name, len(self._trashed(name)))

    def _place(self, name: str, number: int) -> Path:
        """Where a photo is kept if ``number`` others of its name are there; no other name leads there."""
        trash = self.folder / TRASH
        return trash / f"~{number}" / name if number else trash / name

    @contextmanager
    def editing(self) -> Iterator[ProjectFile]:
        """Give the content of the file to change; it is on the disk when the block has ended well.

        Raises:
            AnnotationError: the project file is malformed.
            OutputError: the file cannot be written; nothing has changed.
        """
        with self._lock, self._alone():
            self._remove_leftovers()
            loaded = self._load()
            self._loaded = None  # whatever goes wrong from here on, the file is read again
            yield loaded.content
            data = loaded.content.to_bytes()
            if data != loaded.data:
                self._write(data)
            self._loaded = _Loaded(files.version_of(self.file), data, loaded.content, loaded.version)

    @contextmanager
    def noting(self) -> Iterator[list[str]]:
        """Give a list that holds, once a block with one change has ended, the versions right around it."""
        versions: list[str] = []
        with self._lock:
            yield versions
            assert self._loaded is not None
            versions += [self._loaded.version_before, self._loaded.version]

    def annotation_set(
        self, *, label: str = "object", strict: bool = False, only_asked: bool = False
    ) -> AnnotationSet:
        """All photos with their boxes, to learn from, without those that somebody has left out.

        What is no longer there is not in it either. Boxes of another program are read as in any COCO file.

        Args:
            label: as for ``read_annotations``.
            strict: as there.
            only_asked: of a pattern or a photo, without others that the project file speaks of.

        Raises:
            AnnotationError: there is no project file, it is malformed, or its boxes do not fit the photos.
            PhotoError: a photo cannot be read.
        """
        if not self.file.exists():
            place = quoted(self.photos)
            hint = f"draw boxes with: fewbox annotate {place}; or name a file of boxes: --boxes FILE"
            raise AnnotationError(f"{self.folder / PROJECT_FILE}: no such file", hint=hint)
        with self._naming_the_cure():
            raw = raw_project(self.folder)
        found = names_found(self.photos, self.folder, [photo.name for photo in raw.photos])
        if only_asked and not self.is_whole:
            raw = without_others(raw, self.folder, found)
        return project_set(raw, self.folder, found, label=label, strict=strict)

    def _load(self) -> _Loaded:
        """The file as it is, read again if another program has written it."""
        version = files.version_of(self.file)
        if self._loaded is None or self._loaded.version != version:
            self._loaded = self._read(version)
        return self._loaded

    def _read(self, version: str) -> _Loaded:
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return _Loaded("", b"", ProjectFile(None, PROJECT_FILE))
        except OSError as error:
            raise AnnotationError(f"{self.file}: cannot be read: {error.strerror or error}") from error
        try:
            with self._naming_the_cure():
                return _Loaded(version, data, ProjectFile(data.decode("utf-8-sig"), PROJECT_FILE))
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{self.file}: not UTF-8 text", hint=self._cure()) from error

    @contextmanager
    def _naming_the_cure(self) -> Iterator[None]:
        try:
            yield
        except AnnotationError as error:
            own = f"{error.hint}; or " if error.hint not in (None, WRITE_AGAIN_HINT) else ""
            raise AnnotationError(f"{self.folder}: {error.message}", hint=own + self._cure()) from error

    def _cure(self) -> str:
        if self.backup.exists():
            return f"mend the file, or go back to the version before it: copy {self.backup} over it"
        return "mend the file, or move it away to begin anew"

    def _write(self, content: bytes) -> None:
        with files.replacing(self.file) as temporary:
            temporary.write_bytes(content)
            self._keep_version_before()

    def _keep_version_before(self) -> None:
        """Give the file as it is the name of the backup, at no moment leaving that name without a file."""
        spare = self.backup.with_name(f".{self.backup.name}.tmp")
        spare.unlink(missing_ok=True)
        if not self.file.exists():
            return
        try:
            os.link(self.file, spare)
        except OSError:  # no links on this file system
            shutil.copyfile(self.file, spare)
        spare.replace(self.backup)
        spare.unlink(missing_ok=True)  # still there if both were links to one file

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other programs from changing the file meanwhile."""
        lock = self.file.with_name(f".{PROJECT_FILE}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock).acquire(timeout=LOCK_SECONDS, poll_interval=0.01):
                yield
        except Timeout as error:
            hint = "end other programs that use these photos, then try again"
            raise OutputError(f"{self.file}: another program does not let go of it", hint=hint) from error
        except OSError as error:
            raise files.output_error(self.file, error) from error

    def _remove_leftovers(self) -> None:
        """Remove what a program that was killed had begun to write; nobody else is writing now."""
        if self._tidied:
            return
        self._tidied = True
        for leftover in self.file.parent.glob(f".{self.file.stem}.*.tmp{self.file.suffix}"):
            leftover.unlink(missing_ok=True)


def _folder_of(photos: Path) -> Path:
    """A folder itself; of a photo, the folder it is in; of a pattern, what is before the first wildcard."""
    if os.path.lexists(photos):
        return photos if photos.is_dir() else photos.parent
    fixed = list(photos.parts)
    while any(sign in part for part in fixed for sign in "*?["):
        fixed.pop()
    return Path(*fixed)


def _is_below(name: str) -> bool:
    """Whether a path in a file stays in the folder: a file from a stranger must not open other folders."""
    anchored = PurePosixPath(name).anchor or PureWindowsPath(name).anchor
    return not anchored and ".." not in PurePosixPath(name).parts
