"""Files: written whole or not at all, and where those lie that can be fetched or made again.

Everything fewbox writes goes through :func:`replacing`: the bytes go to a temporary
file beside the target, are flushed to the disk, and only then take the target's name.
A full disk, Ctrl-C or a killed process leaves what was there before; the temporary file
of a process that was killed goes when something is to be written into its folder again,
unless it is of use as it is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from fewbox.core import environment_variable
from fewbox.core.arguments import checked_path
from fewbox.errors import OutputError

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\.\w+)?")
_ABANDONED_S = 3600.0  # another machine's process may be at work in a shared folder
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""What videos are written as."""
TABLE_HEAD = "frame,time_s,track,x1,y1,x2,y2,score,label"
"""How every table of tracks begins."""
_MAX_NAME_BYTES = 255  # of the usual file systems; a Japanese letter takes three
_HEAD_BYTES = 4096
MARK = "drawn by fewbox"
"""The comment in every picture, animation and film with boxes, by which it is known from an original."""
_DRAWN_AS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif")  # as what pictures and animations are written
DRAWN = rf"(?s).*{MARK}"
"""How a picture or an animation with boxes begins, as a regular expression."""
NETWORK_XML = r"(<\?xml[^>]*>\s*)?<net[\s>]"
"""How a network of OpenVINO begins, as a regular expression; VOC and CVAT keep boxes in XML too."""
_asking_for_umask = threading.Lock()


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write; when the block ends well it becomes ``target``.

    The temporary file lies in the target's folder (a rename is atomic only inside one
    file system) and keeps its suffix, from which some writers choose their format.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(target)
    if not target.name:
        raise OutputError(f"{target}: cannot be written: it is a folder", hint="name a file")
    temporary = _temporary_beside(target)
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(_mode_for(target))
            temporary.replace(target)
            _flush_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(target, error) from error


def _temporary_beside(target: Path) -> Path:
    """Where ``target`` is written first; of a name that leaves no room for more, a digest stands for it."""
    for stem in (target.stem, hashlib.sha256(os.fsencode(target.stem)).hexdigest()[:32]):
        name = f".{stem}.{_writer()}.tmp{target.suffix}"
        if len(os.fsencode(name)) <= _MAX_NAME_BYTES:
            break
    return target.with_name(name)


def _writer() -> str:
    """Who writes, the process last: two threads that write one file must not share a temporary one."""
    if threading.current_thread() is threading.main_thread():
        return str(os.getpid())
    return f"{threading.get_native_id()}.{os.getpid()}"


def _flush_folder(folder: Path) -> None:
    """Bring the new name of a file to the disk too; Windows does so by itself and opens no folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder to fill; when the block ends well it becomes ``target``.

    Raises:
        OutputError: ``target`` is there and not an empty folder, it cannot be made or written, or
            the disk is full.
    """
    target = Path(target)
    try:
        # The folder one is in is filled as it is: if it were replaced, the shell would be in one gone.
        is_here = target.is_dir() and target.samefile(Path())
        temporary = (target if is_here else target.parent) / f".{target.name}.{_writer()}.tmp"
        if target.is_dir() and any(target.iterdir()):
            hint = "choose another name, or remove the folder"
            raise OutputError(f"{target}: the folder is not empty", hint=hint)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if is_here:
                for path in list(temporary.iterdir()):
                    path.rename(target / path.name)
                return
            if target.is_dir():
                target.rmdir()  # a rename onto an empty folder works on some systems only
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise output_error(target, error) from error


def require_writable(target: str | os.PathLike[str], suffixes: Sequence[str]) -> None:
    """Refuse a target that could not be written, before the work whose result it is to hold.

    The folder is not made yet, in case the work is refused. What a process that was killed has left in it,
    half-written, is removed, but for films and tables of tracks, which can be used as far as they go.

    Raises:
        OutputError: it is no path, its name ends in none of ``suffixes``, it is a folder, or its folder
            cannot be written.
    """
    target = checked_path(target, "the file to write", OutputError)
    if target.suffix.lower() not in suffixes:
        what = f"cannot be written as {target.suffix!r}" if target.suffix else "no ending says what to write"
        raise OutputError(f"{target}: {what}", hint=f"use a name that ends in one of: {', '.join(suffixes)}")
    if os.path.isdir(target):  # noqa: PTH112 - as in is_there
        raise OutputError(f"{target}: cannot be written: it is a folder", hint="name a file")
    try:
        there = next(folder for folder in (target.parent, *target.parent.parents) if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
        if there == target.parent:
            _remove_abandoned(there)
    except OSError as error:
        raise output_error(target, error) from error


def require_not_read(target: Path, *sources: str | os.PathLike[str] | None) -> None:
    """Refuse to write over a file that the work reads, and that cannot be made again from the result.

    Args:
        target: what is to be written.
        sources: files that are read; names that are no files, and None, are passed over.

    Raises:
        OutputError: ``target`` is one of them, by whatever name.
    """
    for source in sources:
        if source is not None and is_there(target) and is_there(Path(source)) and target.samefile(source):
            raise OutputError(f"{target}: would replace the file that is read", hint="choose another name")


def require_own(target: Path, beginning: str = DRAWN) -> None:
    """Refuse to replace what fewbox has not written, before the work whose result is to go there.

    Names of photos and films repeat from folder to folder, so that a result may be called as somebody's own.

    Args:
        target: what is to be written.
        beginning: how a result begins, as a regular expression.

    Raises:
        OutputError: a file is there that begins otherwise, or cannot be read.
    """
    if not is_own(target, beginning):
        raise not_own(target)


def is_own(target: Path, beginning: str = DRAWN) -> bool:
    """Whether nothing but a result of fewbox would be lost with a file, if there is one; as `require_own`.

    Raises:
        OutputError: it cannot be read.
    """
    if not os.path.isfile(target):  # noqa: PTH113 - as in is_there
        return True
    try:
        with target.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise output_error(target, error) from error
    return not head or re.match(beginning.encode(), head) is not None  # nothing is lost with an empty file


def require_own_weights(network: Path) -> None:
    """Refuse to replace the ``.bin`` beside an OpenVINO network's name, where no such network is there.

    Nothing in it says whose it is; many programs call files of theirs so.

    Raises:
        OutputError: a ``.bin`` is there, and the file ``network`` is not, or is no network.
    """
    weights = network.with_suffix(".bin")
    if not os.path.isfile(weights) or not weights.stat().st_size:  # noqa: PTH113 - as in is_there
        return
    if not is_there(network) or not network.stat().st_size:
        raise not_own(weights)
    require_own(network, NETWORK_XML)


def not_own(target: Path) -> OutputError:
    """Say that ``target`` is not replaced, as somebody else may have written it."""
    hint = (
        "name another file or an empty folder; or remove it, if it is a result of another version of fewbox, "
        "say, or was saved again by another program"
    )
    return OutputError(f"{target}: is there already, and does not say that fewbox has written it", hint=hint)


def is_temporary(path: Path) -> bool:
    """Whether a file is called as those that :func:`replacing` writes first."""
    return _TEMPORARY.fullmatch(path.name) is not None and stat.S_ISREG(path.lstat().st_mode)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files whose process has ended, untouched for long; not what was written for hours."""
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and path.suffix.lower() not in VIDEO_SUFFIXES:
            with suppress(OSError, OutputError):  # somebody else has removed it, or has it open
                about = path.lstat()
                is_old = time.time() - about.st_mtime > _ABANDONED_S
                is_table = path.suffix.lower() == ".csv" and about.st_size and is_own(path, TABLE_HEAD)
                if stat.S_ISREG(about.st_mode) and is_old and not is_table and not _runs(int(match[1])):
                    path.unlink()


def _runs(process_id: int) -> bool:
    """Whether there is such a process; on Windows, where asking would end it, nobody knows."""
    if os.name == "nt":
        return False
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _mode_for(target: Path) -> int:
    """The permissions of the file that is replaced, or of any new file: some writers make theirs private."""
    if target.exists():
        return target.stat().st_mode & 0o777
    with _asking_for_umask:  # the system tells it only to who sets it; two at once would keep what was set
        umask = os.umask(0o022)
        os.umask(umask)
    return 0o666 & ~umask


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text to ``target``, whole or not at all.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def output_error(target: Path, error: OSError) -> OutputError:
    """Say in a user's words why ``target`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free some space on the disk that holds {target.parent}, then try again"
        return OutputError(f"{target}: no space left on the disk", hint=hint)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"{target}: not allowed to write here", hint="choose another place, or another user"
        )
    return OutputError(f"{target}: cannot be written: {error.strerror or error}")


def drawn_beside(output: Path) -> tuple[Path, Path]:
    """The pictures that learning writes beside a detector: its losses, and photos held out."""
    return output.with_name(f"{output.stem}_loss.png"), output.with_name(f"{output.stem}_held_out.jpg")


def drawings_among(names: Iterable[str]) -> set[str]:
    """What the pictures beside the detectors in a folder are called, of all names in it."""
    detectors = [Path(name) for name in names if name.lower().endswith((".safetensors", ".onnx"))]
    return {drawing.name for detector in detectors for drawing in drawn_beside(detector)}


def is_drawing(picture: str | os.PathLike[str]) -> bool:
    """Whether fewbox has drawn a picture or an animation, by the mark at its beginning.

    Not of a named pipe, which may never end, nor of what cannot be read: that is told when its turn comes.
    """
    path = os.fspath(picture)
    if not path.lower().endswith(_DRAWN_AS):
        return False
    try:
        about = os.stat(path)  # noqa: PTH116 - there may be thousands
        return stat.S_ISREG(about.st_mode) and _has_mark(path, about.st_ino, about.st_size, about.st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=2**15)  # the page of fewbox annotate lists its photos again and again
def _has_mark(path: str, *_version: int) -> bool:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return MARK.encode() in file.read(_HEAD_BYTES)


def is_there(path: Path) -> bool:
    """Whether there is such a file; not where nobody may look for it, as ``Path.exists`` would raise."""
    return os.path.exists(path)  # noqa: PTH110


def temporary_place() -> Path:
    """The system's folder for temporary files, to name it where there is no room."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # none of those that were tried can be written
        return Path(os.environ.get("TMPDIR", "/tmp"))


def temporary_folder(
    prefix: str = "fewbox-", *, within: str | None = None
) -> tempfile.TemporaryDirectory[str]:
    """A folder for what is of use only meanwhile, where the system keeps such, or ``within`` another.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        # On Windows a file that is still mapped cannot be deleted; it is left to the system.
        return tempfile.TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True)
    except OSError as error:
        raise output_error(Path(within or temporary_place()) / prefix.rstrip("-"), error) from error


def keep_newest(paths: Iterable[Path], count: int) -> None:
    """Remove all but the ``count`` files that were changed last; what another process holds stays."""
    changed: list[tuple[float, Path]] = []
    for path in paths:
        with suppress(OSError):  # removed by another process
            changed.append((path.stat().st_mtime, path))
    for _, path in sorted(changed, reverse=True)[count:]:
        with suppress(OSError):
            path.unlink()


def cache_folder() -> Path:
    """``FEWBOX_CACHE`` if set, or the platform's folder for such things."""
    chosen = environment_variable("FEWBOX_CACHE")
    if chosen:
        return Path(chosen)
    try:
        import platformdirs
    except ModuleNotFoundError:  # an exported detector runs without it
        return Path.home() / ".cache" / "fewbox"
    return Path(platformdirs.user_cache_dir("fewbox", appauthor=False))


def cached_files(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder of the cache, by name; none where this user may not look into it."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def sha256_of(path: Path) -> str:
    """The hash of what is in a file, as it is written in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_of(path: Path) -> str:
    """Changes whenever a file does; empty while there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
