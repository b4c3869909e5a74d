"""The detectors that are served, and the threads in which they look at photos.

Each is loaded again when its file is replaced. A file is copied before it is read: its weights are
memory-mapped, and writing over the original must not change a detector at work. A new file is loaded and
tried while the old detector works, and replaces it only if all went well.

There is a thread for each photo, and as many as there are cores.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewbox.config import ServiceConfig
from fewbox.core.arguments import AUTO
from fewbox.core.files import sha256_of, version_of
from fewbox.data.images import read_reduced, read_size_hw
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection import Detections
from fewbox.detection.folder import read_for_both
from fewbox.detection.loading import open_detector
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import DetectorFileError, FewboxError, PhotoError, SettingError
from fewbox.runtimes import files_of

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


_FIRST_GUESS_SECONDS = 0.5
_NEW_SHARE = 0.1  # of each new photo in the mean time a photo takes


class OverdueError(Exception):
    """A photo has waited for a worker longer than it may."""


@dataclass(frozen=True)
class PhotoResult:
    """What was found in one photo, and how long that took."""

    found: Detections
    picture: bytes | None
    """The photo with its detections drawn on it, PNG, if it was asked for."""
    waited_seconds: float
    worked_seconds: float


class WorkerPool:
    """The threads that detect in photos.

    Args:
        config: how many there are, and how long a photo may wait for one.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.num_photos = 0
        self._seconds_per_photo = _FIRST_GUESS_SECONDS
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="worker", initializer=_limit_torch)

    async def detect(
        self, detector: PhotoDetector, photos: Sequence[PhotoBytes], threshold: float, *, draw: bool
    ) -> list[PhotoResult | PhotoError]:
        """Detect in photos; for each, in their order, what was found or why it cannot be read.

        Raises:
            OverdueError: a photo has waited too long.
        """
        loop = asyncio.get_running_loop()
        since = time.monotonic()
        work = [
            loop.run_in_executor(self._pool, self._detect, detector, photo, threshold, draw, since)
            for photo in photos
        ]
        self.num_photos += len(work)
        for future in work:
            future.add_done_callback(self._count)
        try:
            return list(await asyncio.gather(*work))
        finally:
            for future in work:  # one was overdue, or the client has gone
                future.cancel()

    def seconds_till_free(self) -> int:
        """About how many seconds the photos that are here now will take."""
        return max(1, math.ceil(self.num_photos * self._seconds_per_photo / self.config.workers))

    def close(self) -> None:
        """End the threads after the photos they are working on; photos that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _count(self, future: asyncio.Future[PhotoResult | PhotoError]) -> None:
        self.num_photos -= 1
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result()
        if isinstance(result, PhotoResult):
            self._seconds_per_photo += _NEW_SHARE * (result.worked_seconds - self._seconds_per_photo)

    def _detect(
        self, detector: PhotoDetector, photo: PhotoBytes, threshold: float, draw: bool, since: float
    ) -> PhotoResult | PhotoError:
        start = time.monotonic()
        if start - since > self.config.queue_seconds:
            raise OverdueError
        try:
            larger = None
            if draw:
                seen, larger = read_for_both(photo, detector)
            else:
                seen = read_reduced(photo, detector.enough_hw(read_size_hw(photo)))
            found = detector.detect(seen, threshold=threshold)
            picture = None
            if larger is not None:
                png = io.BytesIO()
                drawn = found.draw(larger)
                drawn.save(png, "PNG", compress_level=1)  # 0.3 of the time, 1.2 of the bytes
                picture = png.getvalue()
        except PhotoError as error:
            return error
        return PhotoResult(found, picture, start - since, time.monotonic() - start)


def _limit_torch() -> None:
    """Let torch compute in one thread for each worker, if torch is loaded."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
