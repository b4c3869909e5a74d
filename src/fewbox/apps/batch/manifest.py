"""A run over many photos: its manifest, which shards are done, and its report.

The manifest is ``run.json`` in the output. The same command with the same output goes on from where it
stopped; another detector or another list of photos is refused, as the tables would mix two runs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fewbox import __version__
from fewbox.apps.batch.shards import DETECTIONS, PHOTOS, Storage, read_photo_rows, shard_name, shown_name
from fewbox.config import CLUSTERS
from fewbox.core import FORMER_NAME, NAME, counted
from fewbox.core.arguments import checked_threshold
from fewbox.detection.rows import FullPhotos
from fewbox.errors import OutputError, SettingError
from fewbox.runtimes import files_of

FORMAT_VERSION = 1
_MOST_IN_SHARD = 1000
"""Photos: a worker then needs about a minute for a shard, which is what is lost when it dies."""
_MOST_GPUS = 1024
_SHARDS_PER_WORKER = 8
"""At least, so that all workers finish at about the same time."""

_MANIFEST, _REPORT, _FAILURES = "run.json", "report.json", "failures.csv"


@dataclass(frozen=True)
class Manifest:
    """What a run is about: which detector, which photos.

    Attributes:
        detector: the name of the detector's copy in the output.
        detector_sha256: of the file that was given.
        score_threshold: lowest score in the tables.
        num_photos: in the list.
        photos_sha256: of the list, in its order.
        shard_size: photos in each shard but the last.
        tiles: along the longer side of each photo, or ``"auto"``; None without.
        agnostic_nms: whether each object has one class.
    """

    detector: str
    detector_sha256: str
    score_threshold: float
    num_photos: int
    photos_sha256: str
    shard_size: int
    tiles: int | str | None = None
    agnostic_nms: bool = False

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return math.ceil(self.num_photos / self.shard_size)


def open_manifest(
    storage: Storage,
    detector: tuple[str, bytes],
    threshold: float,
    photos: Sequence[str],
    shard_size: int | None,
    num_workers: int,
    options: Mapping[str, Any],
) -> Manifest:
    """Begin a run, or go on with the one whose results are in ``storage`` already.

    Args:
        storage: where results go.
        detector: the name and contents of the detector's file.
        threshold: only detections with a higher score are reported.
        photos: absolute paths and addresses.
        shard_size: photos per shard; if not given, as in the run to go on with, or else a fitting number.
        num_workers: among how many the shards are divided.
        options: what the detector does beside the usual, as :attr:`PhotoDetector.options` has it.

    Raises:
        OutputError: the output belongs to another run, or has files that the run would take for its own or
            replace; or it cannot be written.
    """
    fitting = min(_MOST_IN_SHARD, math.ceil(len(photos) / (_SHARDS_PER_WORKER * num_workers)))
    begun = storage.read(_MANIFEST)
    before = None if begun is None else _parse(begun, storage)
    manifest = Manifest(
        detector=detector[0],
        detector_sha256=hashlib.sha256(detector[1]).hexdigest(),
        score_threshold=threshold,
        num_photos=len(photos),
        photos_sha256=_sha256_of(photos),
        shard_size=shard_size or (fitting if before is None else before.shard_size),
        **options,
    )
    if before is not None:
        _require_same(before, manifest, storage)
        return before
    _require_free(storage, detector)
    # What is not asked for is left out, as before there was such an option.
    said = {
        name: value for name, value in asdict(manifest).items() if value is not None and value is not False
    }
    document = {"format_version": FORMAT_VERSION, NAME: __version__} | said
    storage.write(_MANIFEST, json.dumps(document, indent=1).encode())
    return manifest


def done_shards(storage: Storage, manifest: Manifest, *, without_failures: bool) -> list[int]:
    """The numbers of the shards that are done; ``without_failures``, of those where every photo was read."""
    names = storage.names(PHOTOS) & storage.names(DETECTIONS)
    done = [number for number in range(manifest.num_shards) if shard_name(number) in names]
    if without_failures:
        return [
            number for number in done if not any(row["failure"] for row in read_photo_rows(storage, number))
        ]
    return done


@dataclass(frozen=True)
class RunSummary:
    """What came of a run so far.

    Attributes:
        output: where the tables are.
        num_photos: in the list.
        done: how many have been looked at, with or without success.
        detections: in all tables.
        failed: how many photos could not be read.
        missing_shards: numbers of the shards that are not done.
        full: photos in which there may be more.
    """

    output: str
    num_photos: int
    done: int
    detections: int
    failed: int
    missing_shards: tuple[int, ...]
    full: FullPhotos = field(default_factory=FullPhotos)

    def __str__(self) -> str:
        photos = counted(self.done - self.failed, "photo")
        lines = [f"{counted(self.detections, 'detection')} in {photos}: {self.output}"]
        if self.full.count:
            lines.append(str(self.full))
        if self.failed:
            where = f"{self.output}/{_FAILURES}"
            lines.append(f"{self.failed} of {counted(self.num_photos, 'photo')} could not be read: {where}")
        if self.missing_shards:
            numbers = ", ".join(map(str, self.missing_shards[:10]))
            lines.append(
                f"{counted(len(self.missing_shards), 'shard is', 'shards are')} not done, "
                f"as their workers died again and again: {numbers}; the same command tries them again"
            )
        return "\n".join(lines)


def write_report(storage: Storage, manifest: Manifest, limit: int) -> RunSummary:
    """Count what is done, list what failed, and write both to files.

    Args:
        storage: where they go.
        manifest: of the run.
        limit: how many boxes the detector gives of one photo, or of each tile.

    Raises:
        OutputError: nothing can be written.
    """
    done = done_shards(storage, manifest, without_failures=False)
    counts = {"done": 0, "detections": 0, "failed": 0}
    full = FullPhotos(limit if manifest.tiles is None else None)
    failures = io.StringIO()
    table = csv.writer(failures, lineterminator="\n")
    table.writerow(("photo", "reason"))
    for number in done:
        for row in read_photo_rows(storage, number):
            counts["done"] += 1
            counts["detections"] += row["detections"]
            if row.get("full"):  # not in a table written by fewbox of before
                full.add(row["photo"])
            if row["failure"] is not None:
                counts["failed"] += 1
                table.writerow((row["photo"], row["failure"]))
    missing = tuple(sorted(set(range(manifest.num_shards)) - set(done)))
    summary = RunSummary(
        output=str(storage), num_photos=manifest.num_photos, missing_shards=missing, full=full, **counts
    )
    storage.write(_FAILURES, failures.getvalue().encode())
    storage.write(_REPORT, json.dumps(asdict(summary), indent=1).encode())
    return summary


def _require_free(storage: Storage, detector: tuple[str, bytes]) -> None:
    """Refuse an output without a manifest that has files called as a run's: nobody knows whose they are."""
    ours = {_REPORT, _FAILURES, *(copy.name for copy in files_of(Path(detector[0])))}
    if storage.read(detector[0]) == detector[1]:  # learnt into the folder where its results go
        ours = {_REPORT, _FAILURES}
    taken = [*(storage.names("") & ours)]
    for folder in (DETECTIONS, PHOTOS):  # each is read as one table, whatever its parts are called
        taken += [f"{folder}/{name}" for name in storage.names(folder) if name.endswith(".parquet")]
    if taken:
        more = f", and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise OutputError(
            f"{storage}/{min(taken)}{more}: not of this run, as there is no {_MANIFEST} that says so",
            hint="choose another output with -o, or remove what is of no use any more",
        )


def _parse(document: bytes, storage: Storage) -> Manifest:
    try:
        fields: dict[str, Any] = json.loads(document)
        version = fields.pop("format_version")
        fields.pop(NAME if NAME in fields else FORMER_NAME)
        if version == FORMAT_VERSION:
            return Manifest(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise OutputError(
        f"{storage}/{_MANIFEST}: not written by this version of fewbox, or damaged",
        hint="choose another output with -o",
    )


def _require_same(before: Manifest, now: Manifest, storage: Storage) -> None:
    """Refuse to mix two runs in one output."""
    hint = "choose another output with -o, or give the same as before to go on"
    where = f"{storage}/{_MANIFEST}"
    if before.detector_sha256 != now.detector_sha256:
        raise OutputError(f"{where}: begun with another detector than {now.detector}", hint=hint)
    if before.num_photos != now.num_photos:
        raise OutputError(
            f"{where}: begun with {counted(before.num_photos, 'photo')}, not {now.num_photos}", hint=hint
        )
    if before.photos_sha256 != now.photos_sha256:
        raise OutputError(f"{where}: begun with as many photos, but others or in another order", hint=hint)
    for name, before_value, value in (
        ("a threshold", before.score_threshold, now.score_threshold),
        ("a shard size", before.shard_size, now.shard_size),
        ("tiles", before.tiles or "none", now.tiles or "none"),
    ):
        if before_value != value:
            raise OutputError(f"{where}: begun with {name} of {before_value}, not {value}", hint=hint)
    if before.agnostic_nms != now.agnostic_nms:
        begun = "with --agnostic-nms, not without" if before.agnostic_nms else "without --agnostic-nms"
        raise OutputError(f"{where}: begun {begun}", hint=hint)


def require_possible(
    cluster: str,
    threshold: float | None,
    shard_size: int | None,
    num_workers: int | None,
    cpus: int,
    gpus: float,
) -> None:
    """Refuse settings that make no sense.

    Raises:
        SettingError: which one, and what it may be.
    """
    if cluster not in CLUSTERS:
        raise SettingError(
            f"unknown cluster engine: {cluster!r}", hint=f"choose one of: {', '.join(CLUSTERS)}"
        )
    if threshold is not None:
        checked_threshold(threshold)
    for name, value, most in (
        ("--shard-size", shard_size, 1_000_000),
        ("--workers", num_workers, 100_000),
        ("--cpus-per-worker", cpus, 1024),
    ):
        if value is not None and not 1 <= value <= most:
            raise SettingError(f"{name} must be a number from 1 to {most}: {value}")
    if not 0 <= gpus <= _MOST_GPUS or (gpus > 1 and gpus % 1):
        raise SettingError(
            f"--gpus-per-worker must be a part from 0 to 1, or a whole number up to {_MOST_GPUS}: {gpus:g}"
        )


def _sha256_of(photos: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(shown_name(photo).encode() + b"\n")
    return digest.hexdigest()
