"""Workers on a Ray cluster, or on one that is started here for the occasion: Ray Data's pool of actors.

Ray restarts an actor that dies and gives it its shard again, as often as that happens; a shard that always
kills its worker is left out by :class:`ShardWorker`. Shards travel as text, as a table of lists would be
turned into arrays on the way.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from fewbox.apps.batch.shards import Shard, ShardResult
from fewbox.apps.batch.worker import ShardWorker, Work
from fewbox.errors import FewboxError, OutputError, SettingError

_OBJECT_STORE_BYTES = 200_000_000  # of a cluster started here; what travels is names and counts


@dataclass(frozen=True)
class Workers:
    """How many workers, and what each is given: cores, and GPUs, of which it may be a part."""

    count: int | None = None
    """None takes as many as there is room for."""
    cpus: int = 1
    gpus: float = 0.0


class _Actor:
    """A worker as Ray Data calls it: batches of one row, a shard as text, give a row with the answer."""

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
        except Exception:  # told to the one who started the run, else it would count as a death
            return json.dumps({"fault": traceback.format_exc()})


@contextmanager
def ray_cluster(address: str | None, workers: Workers) -> Iterator[int]:
    """Connect to a cluster, or start one here; gives the number of workers there is room for.

    Raises:
        SettingError: Ray is not installed, or there is no cluster at the address.
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
    if is_ours:
        _connect(ray, address, workers)
    try:
        if workers.count is not None:
            yield workers.count
        else:
            yield _room(ray.cluster_resources(), workers)
    finally:
        if is_ours:
            ray.shutdown()


def work_on_cluster(
    work: Work, shards: Sequence[Shard], num_workers: int, workers: Workers
) -> Iterator[ShardResult]:
    """Do all shards; gives each one's result when it is done, in any order. Inside :func:`ray_cluster`.

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
