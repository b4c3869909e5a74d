"""Detectors that are served, each loaded again when its file is replaced.

A file is copied before it is read: its weights are memory-mapped, and writing over the original must not
change a detector at work. A new file is loaded and tried while the old detector works, and replaces it only
if all went well.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewbox.core.arguments import AUTO
from fewbox.core.files import sha256_of, version_of
from fewbox.detection.loading import open_detector
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import DetectorFileError, FewboxError, SettingError
from fewbox.runtimes.header import files_of

_log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often files are checked for a change."""


@dataclass(frozen=True)
class Loaded:
    """A detector, and which contents of its file it came from."""

    detector: PhotoDetector
    sha256: str
    loaded_at: float
    """Seconds since 1970."""


class ServedDetector:
    """A detector by name, following its file.

    Args:
        name: what requests call it.
        path: the file.
        base: the base model of a file that holds only the heads.
        engine: what computes; see :func:`open_detector`.
        device: where; see :func:`open_detector`.

    Raises:
        SettingError: there is no such engine.
        DetectorFileError: the file cannot be read, or the detector in it fails on a photo.
    """

    def __init__(
        self, name: str, path: Path, base: str | None = None, engine: str = AUTO, device: str = AUTO
    ) -> None:
        self.name = name
        self.path = path
        self.base = base
        self.engine, self.device = engine, device
        self._state = _state_of(path)
        self.current = load_copy(path, base, engine, device)
        self.error: str | None = None
        """Why the file that is there now is not the one being served; None if it is."""
        self.num_reloads = 0

    def has_changed(self) -> bool:
        """Whether the file has changed since the last call."""
        state = _state_of(self.path)
        changed = state != self._state
        self._state = state
        return changed

    def reload(self) -> None:
        """Load the file, then replace the detector at work; a bad file changes only ``error``."""
        try:
            self.current = load_copy(self.path, self.base, self.engine, self.device)
        except FewboxError as error:
            self.error = error.message
        except Exception:  # a fault of ours or of an engine: the files are followed on all the same
            _log.exception("%s: cannot be loaded", self.path)
            self.error = f"{self.path.name}: cannot be loaded; the service's log says why"
        else:
            self.error = None
            self.num_reloads += 1


async def follow_files(served: Sequence[ServedDetector]) -> None:
    """Reload each detector whose file changes, for ever."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        for one in served:
            if one.has_changed():
                await asyncio.to_thread(one.reload)


def load_copy(path: Path, base: str | None, engine: str = AUTO, device: str = AUTO) -> Loaded:
    """Load a detector from a copy of its file, and try it on an empty photo.

    Raises:
        DetectorFileError: the file cannot be read, or the detector fails on the photo. Messages name the
            file without its folder, as strangers may read them.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="fewbox-", ignore_cleanup_errors=True) as folder:
            copy = Path(folder) / path.name
            for source, target in zip(files_of(path), files_of(copy), strict=True):
                shutil.copyfile(source, target)
            return Loaded(_opened(copy, base, engine, device), sha256_of(copy), time.time())
    except OSError as error:  # there may be no room for the copy
        raise DetectorFileError(f"{path.name}: cannot be read: {error.strerror or error}") from error


def _opened(copy: Path, base: str | None, engine: str, device: str) -> PhotoDetector:
    """The detector in a file, once it has looked at an empty photo; errors as for :func:`load_copy`."""
    try:
        detector = open_detector(copy, engine=engine, base=base, num_threads=1, device=device)
        detector.detect(np.full((64, 64, 3), 127, np.uint8))
    except FewboxError as error:
        message = error.message.replace(f"{copy.parent}{os.sep}", "")
        raise DetectorFileError(message, hint=error.hint) from error
    except ValueError as error:  # such as scores that are not a number
        raise DetectorFileError(f"{copy.name}: what it finds makes no sense: {error}") from error
    return detector


def name_detectors(paths: Sequence[Path]) -> Mapping[str, Path]:
    """A name for each file, that of the file without its suffix; in the same order.

    Raises:
        SettingError: two files have one name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if path.stem in named:
            raise SettingError(
                f"two detectors have one name: {named[path.stem]} and {path}", hint="rename one of the files"
            )
        named[path.stem] = path
    return named


def _state_of(path: Path) -> list[str] | None:
    """What tells a detector's files from those that replace them; None while one is missing."""
    try:
        versions = [version_of(one) for one in files_of(path)]
    except OSError:
        return None
    return versions if all(versions) else None
