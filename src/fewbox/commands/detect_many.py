"""``fewbox detect`` with many workers: the options it adds, and what it does then."""

from __future__ import annotations

import argparse
import sys

from fewbox.commands.detect_video import refuse_photo_options
from fewbox.data.remote import is_remote
from fewbox.errors import SettingError

_CLUSTERS = ("processes", "ray")


def add_many_options(detect: argparse.ArgumentParser) -> None:
    """Add the options that only a run with many workers has."""
    many = detect.add_argument_group(
        "for any number of photos, by many workers, into tables in place of pictures"
    )
    many.add_argument(
        "--engine-cluster",
        choices=_CLUSTERS,
        help="who does it: processes of this machine, or those of a Ray cluster",
    )
    many.add_argument(
        "--cluster-address",
        metavar="ADDRESS",
        help="the Ray cluster, host:6379 or auto (default: one is started on this machine)",
    )
    many.add_argument("--workers", type=int, metavar="N", help="how many workers (default: as many as fit)")
    many.add_argument("--cpus-per-worker", type=int, metavar="N", help="cores of each worker (default: 1)")
    many.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="X",
        help="GPUs of each worker, in a Ray cluster (default: 0)",
    )
    many.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help="photos that are done and written at once (default: up to 1000)",
    )
    many.add_argument(
        "--retry-failed",
        action="store_true",
        help="do the shards again that have photos which could not be read",
    )


def is_about_many(parsed: argparse.Namespace) -> bool:
    """Whether many workers are to do it.

    Raises:
        SettingError: the options do not go together.
    """
    if parsed.engine_cluster is not None:
        refuse_photo_options(parsed, "not for a run into tables")
        if parsed.engine_cluster != "ray" and (parsed.cluster_address or parsed.gpus_per_worker):
            raise SettingError(
                "--cluster-address and --gpus-per-worker are for a Ray cluster",
                hint="add --engine-cluster ray",
            )
        return True
    for option in ("cluster_address", "workers", "cpus_per_worker", "gpus_per_worker", "shard_size"):
        if getattr(parsed, option) is not None:
            raise SettingError(
                f"--{option.replace('_', '-')} is for a run with many workers",
                hint="add --engine-cluster processes, or ray",
            )
    if parsed.retry_failed or is_remote(parsed.output):
        what = "--retry-failed" if parsed.retry_failed else f"an address as output: {parsed.output}"
        raise SettingError(
            f"only for a run with many workers: {what}", hint="add --engine-cluster processes, or ray"
        )
    return False


def run_detect_many(parsed: argparse.Namespace) -> int:
    """Detect with many workers, into tables."""
    from fewbox.deploy.many import detect_many
    from fewbox.deploy.ray_cluster import Workers

    try:
        summary = detect_many(
            parsed.detector,
            parsed.photos,
            parsed.output,
            cluster=parsed.engine_cluster,
            address=parsed.cluster_address,
            workers=Workers(
                parsed.workers,
                1 if parsed.cpus_per_worker is None else parsed.cpus_per_worker,
                parsed.gpus_per_worker or 0.0,
            ),
            score_threshold=parsed.threshold,
            shard_size=parsed.shard_size,
            retry_failed=parsed.retry_failed,
            base=parsed.base,
            engine=parsed.engine,
        )
    except KeyboardInterrupt:
        print("what is done is kept; the same command goes on from there", file=sys.stderr)
        raise
    print(summary)
    return 2 if summary.failed or summary.missing_shards else 0
