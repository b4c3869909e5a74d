"""Detect in any number of photos, with many workers, into tables.

    photos -> list -> shards -> workers -> Parquet tables -> report

Shards and tables are the same whether the workers are processes of this machine or of a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from fewbox.apps.batch.manifest import (
    Manifest,
    RunSummary,
    done_shards,
    open_manifest,
    require_possible,
    write_report,
)
from fewbox.apps.batch.shards import Shard, ShardResult, Storage, cut_into_shards, require_pyarrow
from fewbox.apps.batch.workers import (
    Work,
    Workers,
    ray_cluster,
    work_in_processes,
    work_on_cluster,
)
from fewbox.core import counted, num_cores
from fewbox.core.arguments import AUTO, CPU, checked_device, takes_score_threshold
from fewbox.core.boxes import checked_tiles
from fewbox.core.files import is_there, temporary_folder
from fewbox.core.progress import console, progress_bar
from fewbox.data.images import StrPath, photo_places
from fewbox.detection.folder import names_a_file
from fewbox.detection.loading import EXPORT_SUFFIXES, load_in_torch, open_detector
from fewbox.errors import OutputError
from fewbox.runtimes import files_of


@takes_score_threshold
def detect_batch(
    detector: StrPath,
    photos: StrPath | Sequence[StrPath],
    output: StrPath,
    *,
    cluster: str = "processes",
    address: str | None = None,
    workers: Workers | None = None,
    threshold: float | None = None,
    shard_size: int | None = None,
    retry_failed: bool = False,
    base: str | None = None,
    engine: str = AUTO,
    device: str = AUTO,
    tiles: int | str | None = None,
    agnostic_nms: bool = False,
    show_progress: bool = True,
) -> RunSummary:
    """Run a detector over photos with many workers; write tables of what it finds, and a report.

    The same call with the same output goes on from where it stopped.

    Args:
        detector: a file that :func:`open_detector` opens.
        photos: folders, files, patterns or addresses.
        output: the folder or address for the tables, which all workers must see under this name.
        cluster: ``"processes"`` of this machine, or ``"ray"``.
        address: of a Ray cluster; without it one is started on this machine for this run.
        workers: how many, and what each is given.
        threshold: only detections with a higher score are reported; the detector's own if not given.
        shard_size: photos per shard; a fitting number if not given.
        retry_failed: do again the shards with photos that could not be read.
        base: the base model of a file with only the heads.
        engine: what computes, as for :func:`open_detector`.
        device: where each worker computes, as for :func:`open_detector`.
        tiles: look at tiles of each photo too; see :class:`TiledDetector`.
        agnostic_nms: one class for each object; see :class:`AgnosticDetector`.
        show_progress: show how far the work has come.

    Raises:
        DetectorFileError: the detector cannot be read.
        PhotoError: no photos there.
        SettingError: a setting is out of its limits, or what it needs is not installed.
        OutputError: the output belongs to another run, or cannot be written.
    """
    wanted = workers or Workers()
    require_possible(cluster, threshold, shard_size, wanted.count, wanted.cpus, wanted.gpus)
    options = {} if tiles is None else {"tiles": checked_tiles(tiles)}
    options |= {"agnostic_nms": True} if agnostic_nms else {}
    require_pyarrow()
    _require_folder_name(str(output))
    all_photos, storage = photo_places(photos), Storage(str(output))
    file, own_threshold, limit = _whole_file(Path(detector), base, engine)
    _require_not_replaced(Path(detector), storage, file)
    threshold = own_threshold if threshold is None else threshold
    with ExitStack() as stack:
        count = max(num_cores() // wanted.cpus, 1) if wanted.count is None else wanted.count
        if cluster == "ray":
            count = stack.enter_context(ray_cluster(address, wanted))
        manifest = open_manifest(storage, file, threshold, all_photos, shard_size, count, options)
        if storage.read(manifest.detector) != file[1]:
            sources, copies = files_of(Path(detector)), files_of(Path(manifest.detector))
            for source, copy in zip(sources[1:], copies[1:], strict=True):
                storage.write(copy.name, source.read_bytes())
            storage.write(manifest.detector, file[1])  # last: where it is, its weights are too
        work = Work(storage.where, manifest, wanted.cpus, engine, checked_device(device), uuid4().hex[:8])
        todo = _what_is_left(storage, manifest, all_photos, retry_failed, show_progress)
        if todo and cluster == "ray":
            _follow(work_on_cluster(work, todo, min(count, len(todo)), wanted), todo, show_progress)
        elif todo:
            _follow(work_in_processes(work, todo, min(count, len(todo))), todo, show_progress)
    return write_report(storage, manifest, limit)


def _require_folder_name(output: str) -> None:
    if names_a_file(Path(output)):
        raise OutputError(f"{output}: the tables go into a folder", hint="name a folder: -o found/")


def _what_is_left(
    storage: Storage, manifest: Manifest, all_photos: Sequence[str], retry_failed: bool, show_progress: bool
) -> list[Shard]:
    """The shards that are to be done."""
    done = set(done_shards(storage, manifest, without_failures=retry_failed))
    if show_progress and done:
        are = "is" if len(done) == 1 else "are"
        console.print(f"{len(done)} of {counted(manifest.num_shards, 'shard')} {are} done already")
    return [shard for shard in cut_into_shards(all_photos, manifest.shard_size) if shard.number not in done]


def _follow(results: Iterator[ShardResult], todo: Sequence[Shard], show_progress: bool) -> None:
    """Wait for all results and show how far the work has come."""
    begun, photos, num_photos = time.monotonic(), 0, sum(len(shard.photos) for shard in todo)
    with progress_bar("detecting", num_photos, show=show_progress) as advance:
        for result in results:
            photos += result.photos
            rate = photos / max(time.monotonic() - begun, 1e-9)
            advance(f"{rate:.1f} photos/s", result.photos)


def _require_not_replaced(detector: Path, storage: Storage, copy: tuple[str, bytes]) -> None:
    """Refuse an output where a detector that holds only the heads is called as its copy with all weights.

    Raises:
        OutputError: it is.
    """
    target = Path(storage.where) / copy[0]  # of an address there is no such file
    is_same = is_there(target) and is_there(detector) and target.samefile(detector)
    if is_same and storage.read(copy[0]) != copy[1]:
        hint = "choose another output with -o, or rename the detector"
        raise OutputError(f"{target}: would be replaced by the detector with its base", hint=hint)


def _whole_file(path: Path, base: str | None, engine: str) -> tuple[tuple[str, bytes], float, int]:
    """The name and contents of a file with all of the detector's weights, its score threshold and limit.

    A file that holds only the heads is completed from its base.
    """
    name = f"detector{path.suffix.lower()}"
    if path.suffix.lower() in EXPORT_SUFFIXES:
        exported = open_detector(path, engine=engine, device=CPU)
        return (name, path.read_bytes()), exported.threshold, exported.config.most_detections
    detector, name = load_in_torch(path, base, CPU), "detector.safetensors"
    with temporary_folder() as folder:
        copy = Path(folder) / name
        detector.save(copy)
        return (name, copy.read_bytes()), detector.threshold, detector.config.most_detections
