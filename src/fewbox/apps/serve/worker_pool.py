"""The threads that detect in photos: one for each photo, and as many as there are cores."""

from __future__ import annotations

import asyncio
import io
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fewbox.config import ServiceConfig
from fewbox.data.images import read_reduced, read_size_hw
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection.detections import Detections
from fewbox.detection.folder import for_detector, for_picture, read_for_picture
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import PhotoError

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
            if draw:
                read = read_for_picture(photo, detector)
            else:
                read = read_reduced(photo, detector.enough_hw(read_size_hw(photo)))
            found = detector.detect(for_detector(read, detector), threshold=threshold)
            picture = None
            if draw:
                png = io.BytesIO()
                drawn = found.draw(for_picture(read, detector))
                drawn.save(png, "PNG", compress_level=1)  # 0.3 of the time, 1.2 of the bytes
                picture = png.getvalue()
        except PhotoError as error:
            return error
        return PhotoResult(found, picture, start - since, time.monotonic() - start)


def _limit_torch() -> None:
    """Let torch compute in one thread for each worker, if torch is loaded."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
