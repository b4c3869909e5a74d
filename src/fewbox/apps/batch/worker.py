"""What works on shards, in a process of its own.

What works on shards in a process of its own, on this machine or another: a detector, loaded once.

Workers on this machine alone, by the standard library: a process for each, started anew if it dies.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from fewbox.apps.batch.manifest import Manifest
from fewbox.apps.batch.shards import Shard, ShardResult, detect_shard
from fewbox.apps.batch.storage import Storage
from fewbox.detection.loading import open_detector
from fewbox.errors import OutputError, SettingError

MOST_DEATHS = 3
"""Of the workers on one shard."""


@dataclass(frozen=True)
class Work:
    """All that a worker must know to begin."""

    output: str
    run: Manifest
    threads: int
    engine: str
    """What computes, as for :func:`open_detector`."""
    session: str
    """A name for this call of the run: what killed workers in an earlier one may be cured."""


class ShardWorker:
    """Looks at the photos of one shard after the other.

    Its detector is the copy in the run's output, which every worker sees anyway.

    Raises:
        OutputError: the copy is not there.
        DetectorFileError: it cannot be read.
        SettingError: the engine is not installed here.
    """

    def __init__(self, work: Work) -> None:
        self.storage, self.run = Storage(work.output), work.run
        self.session, self.threads = work.session, work.threads
        data = self.storage.read(work.run.detector)
        if data is None:
            raise OutputError(
                f"{self.storage}/{work.run.detector}: not seen from a worker",
                hint="the output must be a folder that all machines share, or an address such as s3://...",
            )
        # Kept as long as the worker: the weights are read from the file when they are needed.
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        path = Path(self._folder.name) / work.run.detector
        path.write_bytes(data)
        self.detector = open_detector(path, engine=work.engine, num_threads=work.threads)
        if torch := sys.modules.get("torch"):  # else there is none to tell
            torch.set_num_threads(work.threads)

    def work(self, shard: Shard) -> ShardResult:
        """Do one shard; see :func:`detect_shard`.

        How often it was begun is noted beside the tables. What dies with no error, for example for want of
        memory, would take one worker after the other with it: after ``MOST_DEATHS`` it is left undone.
        """
        note = f"begun/{self.session}-{shard.number}"
        times = len(self.storage.read(note) or b"")
        if times == MOST_DEATHS:
            return ShardResult(shard.number, 0, 0, 0)
        self.storage.write(note, b"x" * (times + 1))
        result = detect_shard(self.detector, shard, self.run.score_threshold, self.storage, self.threads)
        self.storage.remove(note)
        return result


_NONE_LIVES = "the workers die, one after the other, before they have done anything"


class _Process:
    """One worker, and the shard it is at."""

    def __init__(self, work: Work, shard: Shard) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads half
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the worker does
        self.give(shard)

    def give(self, shard: Shard) -> None:
        """Let it work on a shard."""
        self.shard = shard
        with suppress(OSError):  # if it has died, that is seen when its answer is awaited
            self.connection.send(shard)

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def work_in_processes(work: Work, shards: Iterable[Shard], num_workers: int) -> Iterator[ShardResult]:
    """Do all shards; gives each one's result when it is done, in any order.

    A shard whose worker dies is given to a new one, which leaves it out if that happens time and again.

    Raises:
        FewboxError: no worker can begin, or a table cannot be written.
    """
    todo = iter(shards)
    workers: dict[Connection, _Process] = {}

    def begin(shard: Shard) -> None:
        worker = _Process(work, shard)
        workers[worker.connection] = worker

    deaths = 0  # without an answer in between
    try:
        for _, first in zip(range(num_workers), todo, strict=False):
            begin(first)
        while workers:
            for ready in wait(list(workers)):
                worker = workers[ready]  # type: ignore[index]
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    workers.pop(worker.connection).stop()
                    deaths += 1
                    if deaths > MOST_DEATHS * num_workers:
                        raise SettingError(_NONE_LIVES, hint="look at the memory; try --workers 1") from None
                    begin(worker.shard)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                deaths = 0
                yield answer
                if following := next(todo, None):
                    worker.give(following)
                else:
                    workers.pop(worker.connection).stop()
    finally:
        for worker in workers.values():
            worker.stop()


def _serve(connection: Connection, work: Work) -> None:
    """What a worker does until its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    try:
        worker = ShardWorker(work)
        while True:
            connection.send(worker.work(connection.recv()))
    except (EOFError, BrokenPipeError):  # the process that started it is gone
        return
    except BaseException as error:
        error.add_note(traceback.format_exc())
        connection.send(error)
