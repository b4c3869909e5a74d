"""A step of adapting beside the same step the plain way: whole network forward, same layers backward.

Both learn from eight views with the same loss, in turns; the quickest of the turns counts, in processor
time of one thread. Then what a second thread brings, by the clock, and the least that a step of an SSD
costs: pyramid, towers and heads, there and back.

    python benchmarks/adapt_step.py
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from fewbox.config import FinetuneConfig
from fewbox.data import demo_photos
from fewbox.finetuning.adapt.cache import cache_views
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings
from fewbox.finetuning.deep import trainable
from fewbox.finetuning.linear_probe.recipe import Probe
from fewbox.models.base import load_base
from fewbox.models.families import build_network
from fewbox.models.layers import STAGE_CHANNELS, FeaturePyramid
from fewbox.models.network import Batch
from fewbox.models.ssd.network import Tower
from fewbox.models.yolox import YoloxConfig
from fewbox.models.yolox.adapting import YoloxAdapter
from fewbox.models.yolox.loss import novel_loss
from fewbox.models.yolox.network import YoloxDetector, make_cells
from machine import SHARED, describe_machine, peak_of_this_process_mb

TURNS = 15


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=str(SHARED / "weights/yolox_nano_coco.onnx"))
    parser.add_argument("--windows", type=int, nargs="+", default=[0, 7])
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    base = load_base(parsed.base)
    photos, _ = demo_photos()
    start = Probe.of(photos, base, FinetuneConfig(effort="quick"), show_progress=False).fit().detector
    assert isinstance(start.config, YoloxConfig)

    def adapter() -> YoloxAdapter:
        network = build_network(start.config, {name: w.copy() for name, w in start.weights.items()})
        assert isinstance(network, YoloxDetector)
        return YoloxAdapter(network)

    views = cache_views(adapter(), photos, 4, seed=0)
    batch = list(range(8))
    steps: dict[str, Callable[[], object]] = {"plain": plain(start.config, start.weights, views, batch)}
    for window in parsed.windows:
        settings = replace(AdaptSettings(), window=window)
        learning = Adaptation(adapter(), views, settings)
        steps[f"cached, window {window or 'none'}"] = lambda one=learning: one.learn(batch, 1)  # type: ignore[misc]
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(TURNS):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            best[name] = min(best[name], time.process_time() - begin)
    for name, seconds in best.items():
        print(f"{name}: {1000 * seconds / len(batch):.1f} ms a view, {seconds / best['plain']:.2f} of plain")
    one, two = (1000 * seconds for seconds in by_the_clock(learning, batch))  # the last size of windows
    print(f"a step by the clock: {one:.0f} ms with one thread, {two:.0f} ms with two")
    print(f"peak of memory {peak_of_this_process_mb():.0f} MB")
    for side, count in ((640, 1), (256, 8)):
        words = "whole view" if count == 1 else f"{count} windows of {side} pixels"
        print(f"SSD ResNet-50 FPN 640, {words}: {ssd_step(side, count):.1f} s")


def plain(config: YoloxConfig, weights, views, batch) -> Callable[[], None]:  # type: ignore[no-untyped-def]
    """The step of a network of which the same layers learn, from pixels."""
    network = trainable(config, dict(weights), "neck")
    network.backbone.backbone.dark5.requires_grad_(True)
    pixels = torch.rand(len(batch), 3, *config.size_hw).mul(255).contiguous(memory_format=torch.channels_last)
    cells = make_cells(config.size_hw)
    learnt = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=1e-9, momentum=0.9)

    def step() -> None:
        codes, logits = network(pixels)
        truths = [views.truths[view] for view in batch]
        drawn = Batch.of([(torch.zeros(0), truth.boxes, truth.class_ids) for truth in truths])
        loss = novel_loss(codes, logits, cells, drawn)
        optimizer.zero_grad()
        (loss.total / loss.num_matched.clamp(min=1)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def by_the_clock(learning: Adaptation, batch: list[int]) -> list[float]:
    """Median seconds of a step with one thread and with two, in turns."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(TURNS):
        for threads, turns in seconds.items():
            torch.set_num_threads(threads)
            begin = time.perf_counter()
            learning.learn(batch, 1)
            turns.append(time.perf_counter() - begin)
    torch.set_num_threads(1)
    return [statistics.median(turns) for turns in seconds.values()]


def ssd_step(side: int, count: int) -> float:
    """Seconds of the processor for all that follows the backbone of an SSD, on maps of ``count`` inputs."""
    pyramid = FeaturePyramid(STAGE_CHANNELS[1:], channels=256, max_level=7, epsilon=1e-3)
    towers = [Tower(256, 256, layers=4, levels=5, epsilon=1e-3) for _ in range(2)]
    heads = [torch.nn.Conv2d(256, 6 * numbers, 3, padding=1) for numbers in (4, 2)]
    maps = [
        torch.randn(count, channels, side // stride, side // stride).to(memory_format=torch.channels_last)
        for channels, stride in zip(STAGE_CHANNELS[1:], (8, 16, 32), strict=True)
    ]
    best = math.inf
    for _ in range(3):
        begin = time.process_time()
        levels = pyramid(maps)
        outputs = [
            head(tower(level, number))
            for tower, head in zip(towers, heads, strict=True)
            for number, level in enumerate(levels)
        ]
        sum(output.square().mean() for output in outputs).backward()
        best = min(best, time.process_time() - begin)
    return best


if __name__ == "__main__":
    main()
