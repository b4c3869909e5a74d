"""What works on shards: a detector in a process of its own, on this machine or on a Ray cluster.

On this machine workers are started by the standard library, and started anew when they die. On a cluster
they are Ray Data's pool of actors: Ray restarts an actor that dies and gives it its shard again. A shard
that kills its worker every time is left out by :class:`ShardWorker`, here and there.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fewbox.apps.batch.manifest import Manifest
from fewbox.apps.batch.shards import Shard, ShardResult, Storage, detect_shard
from fewbox.core.files import output_error, temporary_folder
from fewbox.detection.loading import open_detector
from fewbox.errors import FewboxError, OutputError, SettingError
from fewbox.runtimes import files_of

MOST_DEATHS = 3
"""Of the workers on one shard."""
_OBJECT_STORE_BYTES = 200_000_000  # of a cluster started here; what travels is names and counts


@dataclass(frozen=True)
class Workers:
    """How many workers, and what each is given: cores, and GPUs, of which it may be a part."""

    count: int | None = None
    """None takes as many as there is room for."""
    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Work:
    """All that a worker must know before it can begin."""

    output: str
    manifest: Manifest
    threads: int
    engine: str
    """What computes, as for :func:`open_detector`."""
    device: str
    """Where, as for :func:`open_detector`."""
    session: str
    """Names this call: what killed workers in an earlier one may be cured by now."""


class ShardWorker:
    """Does one shard after the other.

    Its detector is the copy in the run's output, which every worker can see anyway.

    Args:
        work: what all workers of the run are told.
        place: the folder in which it keeps its detector; the system's for such if not given.

    Raises:
        OutputError: the copy is not there.
        DetectorFileError: it cannot be read.
        SettingError: the engine is not installed here.
    """

    def __init__(self, work: Work, place: str | None = None) -> None:
        self.storage, self.manifest = Storage(work.output), work.manifest
        self.session, self.threads = work.session, work.threads
        data = self.storage.read(work.manifest.detector)
        if data is None:
            raise OutputError(
                f"{self.storage}/{work.manifest.detector}: a worker cannot see it",
                hint="the output must be a folder that all machines share, or an address such as s3://...",
            )
        # Kept as long as the worker: the weights are read from the file when they are needed.
        self._folder = temporary_folder(within=place)
        path = Path(self._folder.name) / work.manifest.detector
        beside = {file: self.storage.read(file.name) or b"" for file in files_of(path)[1:]}
        try:
            for file, content in ({path: data} | beside).items():
                file.write_bytes(content)
        except OSError as error:
            raise output_error(path, error) from error
        detector = open_detector(path, engine=work.engine, num_threads=work.threads, device=work.device)
        asked = work.manifest
        self.detector = detector.with_tiles(asked.tiles).with_agnostic_nms(asked.agnostic_nms)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(work.threads)

    def work(self, shard: Shard) -> ShardResult:
        """Do one shard; see :func:`detect_shard`.

        How often it was begun is noted beside the tables. A shard on which workers die without an error, for
        example for want of memory, is left undone after ``MOST_DEATHS``.
        """
        note = f"begun/{self.session}-{shard.number}"
        times = len(self.storage.read(note) or b"")
        if times == MOST_DEATHS:
            return ShardResult(shard.number, 0, 0, 0)
        self.storage.write(note, b"x" * (times + 1))
        result = detect_shard(self.detector, shard, self.manifest.score_threshold, self.storage, self.threads)
        self.storage.remove(note)
        return result


_NONE_LIVES = "the workers die, one after the other, before they have done anything"
_NONE_LIVES_HINT = (
    "look at the memory; try --workers 1; a Python script has to call detect_batch below "
    "if __name__ == '__main__': as each worker imports the script"
)


class _Process:
    """One worker, and the shard it works on."""

    shard: Shard

    def __init__(self, work: Work, place: str) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads half
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, place), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the worker does

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


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A process that is started within never hears Ctrl-C, not even while it imports all it needs.

    It inherits what this thread holds back. Another thread, such as one of a library, may get the signal all
    the same, and Python would raise it in here: so it is only noted, and raised at the end. A start that is
    cut off leaves a process that complains of it.
    """
    noted: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    is_raised_here = callable(handler) and threading.current_thread() is threading.main_thread()
    holds_back = hasattr(signal, "pthread_sigmask")  # not on Windows
    if holds_back:
        resource_tracker.ensure_running()  # or the first start would start it, which ends the holding back
    if is_raised_here:
        signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    if holds_back:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        if holds_back:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_raised_here:
            signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)


def work_in_processes(work: Work, shards: Iterable[Shard], num_workers: int) -> Iterator[ShardResult]:
    """Do all shards; yield each one's result when it is done, in any order.

    A shard whose worker dies is given to a new one; after ``MOST_DEATHS`` it is left out.

    Raises:
        FewboxError: no worker can begin, or a table cannot be written.
    """
    todo = iter(shards)
    workers: dict[Connection, _Process] = {}
    place = temporary_folder()  # here, as workers are killed, and then remove nothing

    def begin(shard: Shard) -> None:
        with _deaf_to_ctrl_c():  # until it is known, and so will be ended
            worker = _Process(work, place.name)
            workers[worker.connection] = worker
        worker.give(shard)

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
                        raise SettingError(_NONE_LIVES, hint=_NONE_LIVES_HINT) from None
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
        place.cleanup()


def _serve(connection: Connection, work: Work, place: str) -> None:
    """What a worker does until its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    threading.Thread(target=_end_with_parent, args=(place,), daemon=True).start()
    try:
        worker = ShardWorker(work, place)
        while True:
            connection.send(worker.work(connection.recv()))
    except (EOFError, BrokenPipeError):  # the process that started it is gone
        return
    except BaseException as error:
        error.add_note(traceback.format_exc())
        connection.send(error)


def _end_with_parent(place: str) -> None:
    """End this worker when the process that started it is gone, and could not end it: not after its shard.

    What it was writing has a temporary name. Copies of the detector, in ``place``, go too.
    """
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        shutil.rmtree(place, ignore_errors=True)
        os._exit(1)


class _Actor:
    """A worker as Ray Data calls it: with batches of one row, a shard; it returns a row with the answer.

    Shards travel as text, as a table of lists would be turned into arrays on the way.
    """

    def __init__(self, work: Work) -> None:
        try:
            self.worker: ShardWorker | None = ShardWorker(work)
        except FewboxError as error:
            self.worker, self.refusal = None, error

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """The answers to a batch."""
        return {"answer": [self._answer(str(text)) for text in batch["shard"]]}

    def _answer(self, text: str) -> str:
        try:
            if self.worker is None:
                raise self.refusal
            return json.dumps({"result": asdict(self.worker.work(Shard.from_json(text)))})
        except FewboxError as error:
            return json.dumps({"message": error.message, "hint": error.hint})
        except Exception:  # reported to whoever started the run; else it would count as a death
            return json.dumps({"fault": traceback.format_exc()})


@contextmanager
def ray_cluster(address: str | None, workers: Workers) -> Iterator[int]:
    """Connect to a cluster, or start one here; yields the number of workers there is room for.

    Raises:
        SettingError: Ray is not installed, there is no cluster at the address, or no room for a worker.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing calls home
    # Else it warns of the arguments with which Ray Data itself makes its actors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SettingError("a cluster needs Ray, which is missing", hint='pip install ".[ray]"') from error
    is_ours = not ray.is_initialized()
    on_terminate = signal.getsignal(signal.SIGTERM)
    if is_ours:
        _connect(ray, address, workers)
    try:
        starts_here = is_ours and address is None
        # A cluster elsewhere may grow when it is asked for more; what this machine lacks it lacks for ever.
        room = _room(ray.cluster_resources(), workers) if workers.count is None or starts_here else 0
        yield room if workers.count is None else workers.count
    finally:
        if is_ours:
            ray.shutdown()
            # Ray has taken it away, without Python's knowledge: findings/ray_shutdown_signals.sh.
            with suppress(ValueError, TypeError):  # in another thread than the first; not one of Python's
                signal.signal(signal.SIGTERM, on_terminate)


def work_on_cluster(
    work: Work, shards: Sequence[Shard], num_workers: int, workers: Workers
) -> Iterator[ShardResult]:
    """Do all shards; yield each one's result when it is done, in any order. Inside :func:`ray_cluster`.

    Raises:
        FewboxError: a worker cannot begin, or a table cannot be written.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [{"shard": shard.to_json()} for shard in shards]
    # A block is what is done again when a worker dies: one shard.
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=2),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
        fn_constructor_args=(work,),
    )
    for row in answers.iter_rows():
        answer = json.loads(row["answer"])
        if "fault" in answer:
            raise RuntimeError(f"on a worker:\n{answer['fault']}")
        if "message" in answer:
            raise OutputError(answer["message"], hint=answer["hint"])
        yield ShardResult(**answer["result"])


def _connect(ray: Any, address: str | None, workers: Workers) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        count = workers.count or max((os.cpu_count() or 1) // workers.cpus, 1)
        # One more than the workers take: reading the list of shards wants one too, and would wait for ever.
        num_cpus = count * workers.cpus + 1
        limits = {"num_cpus": num_cpus, "object_store_memory": _OBJECT_STORE_BYTES}
        ray.init(address="local", include_dashboard=False, **limits, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingError(
            f"--cluster-address: no Ray cluster there: {address}",
            hint="'ray start --head' on one machine tells the address, host:6379; '--cluster-address auto' "
            "is the cluster that this machine belongs to",
        ) from error


def _room(resources: dict[str, float], workers: Workers) -> int:
    """How many workers fit; one core is left for what Ray does itself."""
    fit = int((resources.get("CPU", 1.0) - 1) // workers.cpus)
    if workers.gpus:
        fit = min(fit, int(resources.get("GPU", 0.0) // workers.gpus))
    if fit < 1:
        have = f"{resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs"
        raise SettingError(
            f"no room for a worker of {workers.cpus} cores and {workers.gpus:g} GPUs: the cluster has {have}",
            hint="one core is kept for Ray itself; add machines, or ask for less",
        )
    return fit
