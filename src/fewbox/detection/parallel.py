"""Share the cores, or a GPU, among many photos: how many at once, and how many threads for each.

Each photo is read, detected in and drawn by one thread of Python. All three let other threads run meanwhile,
so those of different photos overlap by themselves. One thread for each photo is best on most machines, see
``docs/decisions/0034-one-thread-a-photo-no-micro-batches.md``; before a long run that is measured, once for
each machine and detector.

A GPU is hardly slower with eight photos than with one, and Python asks it photo by photo. Whoever of the
threads finds the GPU free hands over all photos that are ready, and the others find their results done. So a
batch is as large as the GPU is slow, and a photo alone waits for nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from PIL import Image

from fewbox.core import WhileAnyone, num_cores
from fewbox.core.files import cache_folder, sha256_of, write_text
from fewbox.data.images import ReducedImage, as_rgb, upright_array
from fewbox.data.photo_file import PhotoBytes, read_opened
from fewbox.errors import OutputError, PhotoError
from fewbox.models.device import in_batches

if TYPE_CHECKING:
    from torch import Tensor

    from fewbox.detection.photo_detector import PhotoDetector

_MEASURED_FROM = 200
"""From so many photos on, measuring is worth the seconds it takes."""
_TRIED_PHOTOS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], num_threads: int
) -> Iterator[Future[Result]]:
    """Do ``work`` for every item, each with ``num_threads`` threads, as many at once as there are cores.

    One more is under way, as one may be waiting for a disk or a network at any time.

    Returns:
        The results in the order of the items. Only a few items are begun before their results are asked for,
        and no more once nobody asks any longer, as after an error or Ctrl-C.
    """
    at_once = num_cores() // num_threads + 1
    with (
        _torch_threads_kept(),
        ThreadPoolExecutor(at_once, initializer=_limit_torch, initargs=(num_threads,)) as pool,
    ):
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 2 * at_once:
                    yield ahead.popleft()
            yield from ahead
        finally:
            for waiting in ahead:
                waiting.cancel()


def run_each(
    work: Callable[[Item], Result], items: Iterable[Item], *, beside: bool
) -> Iterator[Future[Result]]:
    """Do ``work`` for every item: one after the other, each with all threads; or many beside each other.

    The latter where a GPU computes, as the cores read and prepare photos meanwhile, and where an item has too
    little work for more than one thread.

    Returns:
        The results in the order of the items.
    """
    if beside:
        yield from run_parallel(work, items, 1)
        return
    for item in items:
        done: Future[Result] = Future()
        try:
            done.set_result(work(item))
        except Exception as error:
            done.set_exception(error)
        yield done


def each_drawn(photos: Iterable[Any], bgr: bool) -> Iterator[Any]:
    """The photos as they come, pixels that are BGR as RGB.

    What an iterator gives may change once it is asked for the next: a camera fills one buffer, Pillow turns
    the pages of one image. So it is held as it is now, also for drawing on it. A list keeps its photos.

    Raises:
        PhotoError: one of them cannot be read.
    """
    for number, photo in enumerate(photos):
        name = f"photos[{number}]"
        rgb = as_rgb(photo, name) if bgr else photo
        yield _held(rgb, name) if rgb is photo and isinstance(photos, Iterator) else rgb


def _held(photo: Any, name: str) -> Any:
    """A photo with pixels of its own; a path or bytes, which nobody changes, as they are."""
    if isinstance(photo, Image.Image):
        return Image.fromarray(upright_array(photo, name))
    if isinstance(photo, ReducedImage):
        return replace(photo, image=photo.image.copy())
    if isinstance(photo, bytearray | memoryview):
        return bytes(photo)
    if hasattr(photo, "read"):
        return PhotoBytes(name, read_opened(photo, name))
    return np.array(upright_array(photo, name)) if hasattr(photo, "ndim") else photo


def threads_per_photo(
    detector: Path, photos: Sequence[Path], engine: str, open_with: Callable[[int], PhotoDetector]
) -> int:
    """How many threads to give each photo of a run; measured for many photos, once.

    Args:
        detector: its file.
        photos: those of the run.
        engine: what computes, as the user asked for it.
        open_with: opens the detector for so many threads a photo.

    Raises:
        DetectorFileError: the detector cannot be read.
    """
    choices = [threads for threads in (1, 2, 4, 8, 16, 32) if threads <= num_cores()]
    if len(photos) < _MEASURED_FROM or len(choices) == 1 or not detector.is_file():
        return 1
    known = cache_folder() / "threads" / f"{_identity(detector, engine)}.json"
    try:
        remembered = int(json.loads(known.read_text(encoding="utf-8"))["threads"])
        if remembered in choices:
            return remembered
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or the cache is damaged
    seconds = {threads: _seconds(open_with(threads), photos[:_TRIED_PHOTOS], threads) for threads in choices}
    best = min(choices, key=lambda threads: seconds[threads])
    with contextlib.suppress(OutputError):  # then it is measured again
        write_text(known, json.dumps({"threads": best, "seconds": seconds}) + "\n")
    return best


def _seconds(detector: PhotoDetector, photos: Sequence[Path], num_threads: int) -> float:
    """How long detecting in ``photos`` takes; the second time, when everything has been used before."""

    def detect(path: Path) -> None:
        with contextlib.suppress(PhotoError):  # the run itself will report it
            detector.detect(path)

    durations = []
    for _ in range(2):
        start = time.perf_counter()
        deque(run_parallel(detect, photos, num_threads), maxlen=0)
        durations.append(time.perf_counter() - start)
    return durations[-1]


def _identity(detector: Path, engine: str) -> str:
    """What names the machine, the detector and the engine."""
    parts = [sha256_of(detector), engine, platform.node(), platform.machine(), str(num_cores())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@contextlib.contextmanager
def _torch_threads_set_again() -> Iterator[None]:
    """What a thread limits PyTorch to holds for all threads too that ask it for the first time afterwards."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    yield
    if torch and sys.modules.get("torch") is torch:  # where Python ends, modules are gone before generators
        torch.set_num_threads(before)


_torch_threads_kept = WhileAnyone(_torch_threads_set_again)


def _limit_torch(num_threads: int) -> None:
    """Let PyTorch use so many threads for what this thread asks of it, if it is loaded."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)


class _Asked(Generic[Result]):
    """An input and, once it is done, what came of it."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.is_done = False
        self.result: Result | None = None
        self.error: Exception | None = None


class Batcher(Generic[Result]):
    """Computes inputs together that several threads ask for at about the same time.

    Args:
        compute: gives one result for each input ``[3, h, w]``; all inputs have one size.
        most_at_once: inputs that it is given at the most; fewer from the first time on that they do not fit
            into memory.
    """

    def __init__(self, compute: Callable[[Sequence[Tensor]], Sequence[Result]], most_at_once: int) -> None:
        self._compute, self._most_at_once = compute, most_at_once
        self._waiting: list[_Asked[Result]] = []
        self._guard, self._turn = threading.Lock(), threading.Lock()

    def run(self, pixels: Tensor) -> Result:
        """What ``compute`` gives for an input, once it is its turn.

        Raises:
            SettingError: there is no memory for a single input.
        """
        mine = _Asked[Result](pixels)
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                self._do(self._next(mine))
        if mine.error is not None:
            raise mine.error
        result: Any = mine.result
        return result  # type: ignore[no-any-return]

    def _next(self, mine: _Asked[Result]) -> list[_Asked[Result]]:
        """Those to compute now: ``mine``, and others of its size that wait."""
        with self._guard:
            alike = [
                one for one in self._waiting if one.pixels.shape == mine.pixels.shape and one is not mine
            ]
            batch = [mine, *alike[: self._most_at_once - 1]]
            self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _do(self, batch: list[_Asked[Result]]) -> None:
        def compute(some: Sequence[_Asked[Result]]) -> Sequence[Result]:
            results = self._compute([one.pixels for one in some])
            largest.append(len(some))
            return results

        largest: list[int] = []
        try:
            for one, result in zip(batch, in_batches(compute, batch, len(batch)), strict=True):
                one.result = result
        except Exception as error:  # for each of the threads that wait for it
            for one in batch:
                one.error = error
        if largest and max(largest) < len(batch):
            self._most_at_once = max(largest)
        for one in batch:
            one.is_done = True
