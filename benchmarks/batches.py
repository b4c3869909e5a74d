"""Milliseconds per photo: several photos at once through the network, or one after the other.

Only the network is timed: what a batch could save. All ways take turns over the same photos.

    python benchmarks/batches.py                 about a minute
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from fewbox.data.images import find_photos, read_image
from fewbox.models.base import load_base
from fewbox.models.families import build_network
from machine import DUCKY, SHARED, describe_machine

NUM_PHOTOS = 8


def main() -> None:
    """Time all ways and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default=str(SHARED / "weights/yolox_nano_coco.onnx"))
    parser.add_argument("--rounds", type=int, default=8)
    parsed = parser.parse_args()
    print(describe_machine())
    torch.set_num_threads(1)
    base = load_base(parsed.base)
    network = build_network(base.config, base.weights)
    photos = [read_image(path) for path in find_photos(DUCKY / "test")[:NUM_PHOTOS]]
    pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))

    @torch.inference_mode()
    def forward(count: int, first: int) -> None:
        network(network.batch_of(photos[first : first + count]))

    def in_turn(count: int) -> Callable[[], object]:
        return lambda: [forward(count, first) for first in range(0, NUM_PHOTOS, count)]

    ways = {f"batches of {count}, 1 thread": in_turn(count) for count in (1, 2, 4, 8)}
    ways["one by one, 2 threads of 1 each"] = lambda: list(
        pool.map(lambda first: forward(1, first), range(NUM_PHOTOS))
    )
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(parsed.rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1000 / NUM_PHOTOS)
    print(f"\n| {base.name}, network only, median of {parsed.rounds} | ms a photo | ratio |\n|---|---|---|")
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first warms up
    for name, median in medians.items():
        print(f"| {name} | {median:.1f} | {median / medians['batches of 1, 1 thread']:.2f} |")


if __name__ == "__main__":
    main()
