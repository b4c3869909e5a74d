"""What works on shards in a process of its own, on this machine or another: a detector, loaded once."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fewbox.deploy.place import Place
from fewbox.deploy.run import Run
from fewbox.deploy.shards import Shard, ShardResult, detect_shard
from fewbox.detect.opening import open_detector
from fewbox.errors import OutputError

MOST_DEATHS = 3
"""Of the workers on one shard."""


@dataclass(frozen=True)
class Work:
    """All that a worker must know to begin."""

    output: str
    run: Run
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
        self.place, self.run = Place(work.output), work.run
        self.session, self.threads = work.session, work.threads
        data = self.place.read(work.run.detector)
        if data is None:
            raise OutputError(
                f"{self.place}/{work.run.detector}: not seen from a worker",
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
        times = len(self.place.read(note) or b"")
        if times == MOST_DEATHS:
            return ShardResult(shard.number, 0, 0, 0)
        self.place.write(note, b"x" * (times + 1))
        result = detect_shard(self.detector, shard, self.run.score_threshold, self.place, self.threads)
        self.place.remove(note)
        return result
