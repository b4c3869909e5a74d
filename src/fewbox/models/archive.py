"""Find the checkpoint in what a user hands over: an archive, its unpacked folder, or a prefix.

The model zoo offers ``NAME.tar.gz``, which holds

    NAME/pipeline.config
    NAME/checkpoint/checkpoint                      the name of the latest, as text
    NAME/checkpoint/ckpt-0.index
    NAME/checkpoint/ckpt-0.data-00000-of-00001
    NAME/saved_model/...                            not needed here

A prefix is ``NAME/checkpoint/ckpt-0``. An archive is a stranger's: of its members only those
above are written, under a temporary folder, and only as the plain files they must be.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from fewbox.core.files import output_error, temporary_folder
from fewbox.errors import BaseModelError, CheckpointError

_INDEX = re.compile(r"(ckpt-(\d{1,18}))\.index")
_WANTED = re.compile(r"pipeline\.config|checkpoint|ckpt-\d+\.(index|data-\d+-of-\d+)")
_LATEST = re.compile(r'^\s*model_checkpoint_path:\s*"(.*)"', re.MULTILINE)
_FILE_OF_PREFIX = re.compile(r"\.(index|data-\d+-of-\d+)$")

_MAX_UNPACKED = 4 << 30  # the largest of the zoo unpacks to about half of this
_MAX_HEADERS = 20_000
_CHUNK = 1 << 20

_DOWNLOAD_AGAIN = "download the archive again, and compare its size with the original's"
_WHAT_IS_NEEDED = (
    "name the .tar.gz of a model of the TensorFlow 2 Object Detection API, its unpacked folder, "
    "or a prefix such as checkpoint/ckpt-0"
)


@dataclass(frozen=True)
class CheckpointFiles:
    """Where a checkpoint lies, for as long as it is open, and which one it is.

    ``prefix`` is what :meth:`TensorBundle.open` takes. ``sha256`` tells content from other
    content, not a packed checkpoint from an unpacked one: see :func:`content_sha256`.
    """

    prefix: Path
    pipeline_config: Path
    sha256: str


@contextmanager
def open_checkpoint(path: Path) -> Iterator[CheckpointFiles]:
    """The files of the checkpoint at ``path``; an archive is unpacked for the length of the block.

    Of several checkpoints the one is taken that the file ``checkpoint`` calls the latest, else
    the one of the highest number.

    Raises:
        BaseModelError: nothing is there, or something other than a checkpoint of TensorFlow 2.
        CheckpointError: the archive is damaged, or holds what no archive of a model holds.
        OutputError: there is no room to unpack the archive.
    """
    sha256 = content_sha256(path)
    if not _is_archive(path):
        prefix = _find_prefix(path)
        yield CheckpointFiles(prefix, _find_config(prefix, path), sha256)
        return
    with _temporary_folder() as folder:
        names = _unpack(path, folder)
        prefix = _find_in_folder(folder, path, names)
        yield CheckpointFiles(prefix, _find_config(prefix, path), sha256)


def content_sha256(path: Path) -> str:
    """What tells this checkpoint from any other, found without unpacking.

    Of an archive it is the SHA-256 of the file, the one a download page states. Of unpacked
    files it is that of the SHA-256 of ``pipeline.config``, the index and the data files.

    Raises:
        BaseModelError: nothing is there, or something other than a checkpoint of TensorFlow 2.
    """
    try:
        if _is_archive(path):
            return _file_sha256(path).hex()
        prefix = _find_prefix(path)
        data = sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"))
        files = [_find_config(prefix, path), Path(f"{prefix}.index"), *data]
        return hashlib.sha256(b"".join(map(_file_sha256, files))).hexdigest()
    except OSError as error:
        raise BaseModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _file_sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def is_of_checkpoint(path: Path) -> bool:
    """Whether ``path`` is the prefix of a checkpoint's files, or called as one of them."""
    return Path(f"{path}.index").is_file() or _FILE_OF_PREFIX.search(path.name) is not None


def _is_archive(path: Path) -> bool:
    """Whether ``path`` is to be unpacked; else it is a folder or a prefix.

    Raises:
        BaseModelError: nothing is there, or a file that is known to be something else.
    """
    if path.is_dir() or is_of_checkpoint(path):
        return False
    other = _other_kind([path.name])
    if other is not None:
        raise BaseModelError(f"{path}: {other}", hint=_WHAT_IS_NEEDED)
    if not path.is_file():
        raise BaseModelError(f"{path}: no such file or folder", hint=_WHAT_IS_NEEDED)
    return True


def _find_prefix(path: Path) -> Path:
    """The prefix that ``path`` is, names a file of, or is a folder around."""
    absolute = path.absolute()  # has a parent, which a name alone has not
    if path.is_dir():
        names = (child.name for shape in ("*", "*/*") for child in path.glob(shape))
        return _find_in_folder(absolute, path, names)
    prefix = absolute.with_name(_FILE_OF_PREFIX.sub("", path.name))
    meta = Path(f"{prefix}.meta")
    if meta.is_file():
        raise BaseModelError(f"{meta}: {_other_kind([meta.name])}", hint=_WHAT_IS_NEEDED)
    if not Path(f"{prefix}.index").is_file():
        raise BaseModelError(f"{prefix}.index: no such file", hint=_WHAT_IS_NEEDED)
    return prefix


def _find_in_folder(folder: Path, path: Path, names: Iterable[str]) -> Path:
    """The prefix of the latest checkpoint under ``folder``; a problem is reported of ``path``.

    It is looked for in the folder itself, as the archive has it, and in a folder around that.
    """
    for shape in ("ckpt-*.index", "checkpoint/ckpt-*.index", "*/ckpt-*.index", "*/checkpoint/ckpt-*.index"):
        indexes = [index for index in sorted(folder.glob(shape)) if _INDEX.fullmatch(index.name)]
        homes = sorted({index.parent for index in indexes})
        if len(homes) > 1:
            found = ", ".join(str(home.relative_to(folder)) for home in homes)
            raise BaseModelError(f"{path}: several models: {found}", hint="name the folder of one of them")
        if indexes:
            return homes[0] / _latest(homes[0], [index.name for index in indexes])
    other = _other_kind(names)
    problem = "holds no checkpoint (ckpt-0.index and its data)"
    raise BaseModelError(f"{path}: {problem if other is None else other}", hint=_WHAT_IS_NEEDED)


def _latest(folder: Path, indexes: list[str]) -> str:
    """The name of the checkpoint to take; ``indexes`` are the names of the index files."""
    numbers = {match[1]: int(match[2]) for match in map(_INDEX.fullmatch, indexes) if match}
    state = folder / "checkpoint"
    if state.is_file():
        with state.open("rb") as file:
            stated = _LATEST.search(file.read(_CHUNK).decode(errors="replace"))
        # The path may be one of the machine where it was trained: only its name says something.
        name = PurePosixPath(stated[1].replace("\\", "/")).name if stated else ""
        if name in numbers:
            return name
    return max(numbers, key=lambda name: numbers[name])


def _find_config(prefix: Path, path: Path) -> Path:
    """The ``pipeline.config`` beside the checkpoint, or one folder up as in the archive."""
    for folder in (prefix.parent, prefix.parent.parent):
        if (folder / "pipeline.config").is_file():
            return folder / "pipeline.config"
    hint = "it says how the network is built: put the one of the same archive beside the checkpoint"
    raise BaseModelError(f"{path}: no pipeline.config beside {prefix.name} or one folder up", hint=hint)


def _other_kind(names: Iterable[str]) -> str | None:
    """What kind of model these file names belong to, if it is one that is often mistaken for ours."""
    files = {PurePosixPath(name).name for name in names}
    suffixes = {PurePosixPath(name).suffix for name in files}
    kinds = {
        "a checkpoint of TensorFlow 1 (.meta), which names its variables otherwise": ".meta" in suffixes,
        "a SavedModel, which keeps no checkpoint that can be tuned": "saved_model.pb" in files,
        "a frozen graph (.pb), whose weights cannot be tuned": ".pb" in suffixes,
        "weights of Keras": bool(suffixes & {".h5", ".keras"}),
        "a TensorFlow Lite model, whose weights cannot be tuned": ".tflite" in suffixes,
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder to make and unpack to, in a folder where nothing of others lies beside it."""
    with temporary_folder() as outer:
        yield Path(outer) / "unpacked"


def _unpack(archive: Path, folder: Path) -> set[str]:
    """Write the members that are wanted under ``folder``; the names of all are returned."""
    names = set()
    try:
        with archive.open("rb") as file, _opened_tar(archive, file) as (tar, stream):
            folder.mkdir()
            for member in tar:
                name = _checked_name(archive, member)
                if _WANTED.fullmatch(name.name) and not member.isdir():
                    _write(archive, tar, member, folder / name)
                names.add(str(name))
            while stream.read(_CHUNK):  # the checksum of the archive is at its very end
                pass
    except OSError as error:  # what goes wrong with reading is a CheckpointError by now
        raise output_error(folder.parent, error) from error
    return names


def _checked_name(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    """The member's path, which must stay inside the folder it is unpacked to."""
    strictest = PureWindowsPath(member.name)  # takes both kinds of slash, and letters of drives
    if strictest.anchor or ".." in strictest.parts:
        raise CheckpointError(
            f"{archive}: a member lies outside of the archive's folder: {member.name[:200]!r}",
            hint="no official archive has such a name: do not use it",
        )
    return PurePosixPath(member.name)


def _write(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        message = f"{archive}: {member.name}: a link or a device, where a plain file must be"
        raise CheckpointError(message, hint="no official archive has such a member: do not use it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{archive}: {member.name}: another member has the same name"
        raise CheckpointError(message, hint=_DOWNLOAD_AGAIN) from error
    with file, content:
        while chunk := content.read(_CHUNK):
            file.write(chunk)


@contextmanager
def _opened_tar(archive: Path, file: BinaryIO) -> Iterator[tuple[tarfile.TarFile, _BoundedStream]]:
    """The members of an archive; whatever is wrong with it becomes a CheckpointError."""
    is_gzip = file.read(2) == b"\x1f\x8b"  # a browser may have taken the .gz off
    file.seek(0)
    stream = _BoundedStream(gzip.GzipFile(fileobj=file) if is_gzip else file)
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            yield tar, stream
    # On hostile headers tarfile raises more than its own errors.
    except (tarfile.TarError, ArithmeticError, LookupError, ValueError, RecursionError) as error:
        problem = "damaged or cut short" if is_gzip else "not a .tar.gz archive, or damaged"
        raise CheckpointError(f"{archive}: {problem}: {error}", hint=_DOWNLOAD_AGAIN) from error


class _BoundedStream(io.RawIOBase):
    """What tarfile reads from: it ends where no archive of a model goes on.

    A few kilobytes can unpack to terabytes, and a header can ask for any amount of memory.
    """

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self._stream = stream
        self._headers = 0

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._headers += size <= tarfile.BLOCKSIZE
        if not 0 <= size <= _CHUNK or self._headers > _MAX_HEADERS:
            raise tarfile.ReadError("it has absurd headers")
        with self._guarded(self.tell() + size):
            return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._guarded(offset):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    @contextmanager
    def _guarded(self, end: int) -> Iterator[None]:
        if end > _MAX_UNPACKED:
            raise tarfile.ReadError(f"it unpacks to more than {_MAX_UNPACKED >> 30} GiB")
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            raise tarfile.ReadError(str(error)) from error
