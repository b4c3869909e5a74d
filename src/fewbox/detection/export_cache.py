"""Exports that fewbox keeps for itself, so that a detector starts without PyTorch the next time.

Importing PyTorch takes longer than looking at a photo. So once ``fewbox detect`` has answered from a
``.safetensors`` file, a process of its own exports that detector into the cache, as ``fewbox export`` would
and checked as every export is; nobody waits for it and nothing is printed::

    python -m fewbox.detection.export_cache duck.safetensors

An export's name says of which file, by which fewbox, and what is in it: KEY-DIGEST.onnx. One that is
damaged is therefore seen to be, and made anew.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewbox import __version__
from fewbox.core.files import cache_folder, cached_files, keep_newest, output_error, replacing, sha256_of
from fewbox.data.images import StrPath
from fewbox.errors import FewboxError, OutputError

if TYPE_CHECKING:
    from fewbox.detection.detector import Detector

GRAPH = 2
"""Counts what changed in how an export finds things, so that one of before is made anew.

2: whatever the threshold, the same boxes have a say in where those above it are.
"""
MAX_EXPORTS = 20
"""Those that were used last are kept; each is as large as its detector."""
SWITCH = "FEWBOX_BACKGROUND_EXPORT"
"""The environment variable that, set to 0, keeps ``fewbox`` from exporting unasked."""
_ABANDONED_S = 3600.0  # a half-written file this old is of a process that was killed
_REFUSED = ".refused"  # in place of an export: it was tried, and does not find the same


def find_export(path: Path) -> Path | None:
    """The cached export of the detector file at ``path``, whole; None if there is none.

    It goes by what is in the file, so a copy has the same, and a file that is replaced has another.

    Raises:
        OSError: the file cannot be read.
    """
    for kept in _kept(_key(path)):
        with contextlib.suppress(OSError):
            if kept.stem.endswith(_digest(kept)):
                with contextlib.suppress(OSError):  # somebody else's, which this user may only read
                    os.utime(kept)  # the ones used last are kept
                return kept
            kept.unlink()
    return None


def keep_export(path: Path, detector: Detector) -> Path:
    """Export ``detector``, which was read from ``path``, into the cache; the way there.

    Raises:
        ExportError, SettingError, OutputError: as :func:`fewbox.export_detector`.
    """
    from fewbox.export import export_detector

    key, folder = _key(path), _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".half-", dir=folder) as half:
            written = Path(half) / "detector.onnx"
            export_detector(detector, written)
            kept = folder / f"{key}-{_digest(written)}.onnx"
            written.replace(kept)
    except OSError as error:
        raise output_error(folder, error) from error
    _forget_all_but_newest()
    return kept


def export_later(path: StrPath, *, base: StrPath | None = None) -> None:
    """Have ``path`` exported into the cache by a process that nobody waits for, if that is of use.

    Not if it is there already, cannot be, or ``FEWBOX_BACKGROUND_EXPORT=0`` forbids it. What goes wrong goes
    wrong in silence: the detector runs in PyTorch as before.
    """
    path = Path(path).absolute()
    if os.environ.get(SWITCH) == "0" or path.suffix.lower() != ".safetensors" or "torch" not in sys.modules:
        return  # without PyTorch: it was the export that answered
    try:
        if _is_decided(_key(path)):
            return
    except OSError:
        return
    from fewbox.export import can_export

    if not can_export():
        return
    sys.stdout.flush()  # the answer comes first
    # -P: a file of the user's that is called onnx.py must not be taken for the package.
    command = [sys.executable, "-P", "-m", __name__, str(path), *([] if base is None else [str(base)])]
    nobody = subprocess.DEVNULL
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.IDLE_PRIORITY_CLASS
    with contextlib.suppress(OSError):
        subprocess.Popen(
            command,
            stdin=nobody,
            stdout=nobody,
            stderr=nobody,
            start_new_session=True,
            creationflags=flags,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )


def export_now(path: Path, base: str | None = None) -> Path | None:
    """Export ``path`` into the cache, if no other process is exporting; None if nothing came of it."""
    from filelock import FileLock, Timeout

    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock").acquire(timeout=0):
            key = _key(path)
            if _is_decided(key):
                return find_export(path)
            from fewbox.detection.detector import Detector

            detector = Detector.load(path, base=base)
            try:
                kept = keep_export(path, detector)
            except OutputError:
                return None  # a full disk says nothing of the detector
            except FewboxError as error:
                with replacing(folder / f"{key}{_REFUSED}") as temporary:
                    temporary.write_text(f"{error}\n", encoding="utf-8")
                return None
            if _key(path) != key:  # replaced meanwhile: whose export is it?
                kept.unlink()
                return None
            return kept
    except (OSError, Timeout, FewboxError):
        return None


def _folder() -> Path:
    return cache_folder() / "exports"


def _key(path: Path) -> str:
    return f"{_digest(path)}-{__version__}-{GRAPH}"


def _digest(path: Path) -> str:
    return sha256_of(path)[:32]


def _kept(key: str) -> list[Path]:
    return cached_files(_folder(), f"{key}-*.onnx")


def _is_decided(key: str) -> bool:
    """Whether there is an export already, or it was tried in vain."""
    return bool(_kept(key)) or (_folder() / f"{key}{_REFUSED}").exists()


def _forget_all_but_newest() -> None:
    """Keep the cache within bounds."""
    folder = _folder()
    for pattern in ("*.onnx", f"*{_REFUSED}"):
        keep_newest(folder.glob(pattern), MAX_EXPORTS)
    for half in folder.glob(".half-*"):
        with contextlib.suppress(OSError):  # removed by another process
            if time.time() - half.stat().st_mtime > _ABANDONED_S:
                for path in half.iterdir():
                    path.unlink()
                half.rmdir()


def main(arguments: Sequence[str]) -> None:
    """Export the file that is named, with the base that is named after it."""
    if hasattr(os, "nice"):
        os.nice(19)
    export_now(Path(arguments[0]), arguments[1] if len(arguments) > 1 else None)


if __name__ == "__main__":
    main(sys.argv[1:])
