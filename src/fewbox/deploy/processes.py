"""Workers on this machine alone, by the standard library: a process for each, started anew if it dies."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from fewbox.deploy.shard_worker import MOST_DEATHS, ShardWorker, Work
from fewbox.deploy.shards import Shard, ShardResult
from fewbox.errors import SettingError

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
