"""The seed recipe two ways: a full pass of the network every step, and heads fitted on cached features.

Both do the same 100 steps on the same five photos with the same batches and start from the same
weights. The plain run is cut into pieces and ours is run between them, so that both meet the
machine in the same moods. Peak memory is that of a process of its own for each.

    python benchmarks/finetune_seed.py            about ten minutes
    python benchmarks/finetune_seed.py --steps 20 a quick look
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewbox.config import FinetuneConfig
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations
from fewbox.data.images import read_image
from fewbox.finetuning.seed import features_of, fit_heads, make_schedule
from fewbox.models.anchor_heads import AnchorHeads
from fewbox.models.base import BaseModel, load_base, restore
from fewbox.models.boxes import encode_boxes, match_anchors
from fewbox.models.families import build_network
from fewbox.models.layers import huber_loss, sigmoid_focal_loss
from fewbox.models.ssd.network import SsdDetector
from machine import DUCKY, GOLDEN_BASE, describe_machine, peak_of_this_process_mb

PIECES = 5


class Plain:
    """The recipe as it is usually written: forward, loss, backward, step, nothing kept between steps."""

    def __init__(self, base: BaseModel, photos: AnnotationSet, settings: FinetuneConfig) -> None:
        config, weights, _ = restore(base, 1, settings.seed)
        self.network = SsdDetector(config)
        self.network.load_state_dict(weights)
        self.anchors = self.network.anchors(config.size_hw)
        parameters = dict(self.network.named_parameters())
        self.tuned = [parameters[name].requires_grad_(True) for name in SsdDetector.head_names]
        self.optimizer = torch.optim.SGD(self.tuned, lr=settings.learning_rate, momentum=settings.momentum)
        self.images = [read_image(image.path) for image in photos]
        self.boxes = []
        for image, pixels in zip(photos, self.images, strict=True):
            corners = torch.tensor([[b.x1, b.y1, b.x2, b.y2] for b in image.boxes])
            self.boxes.append(self.network.to_input(corners, (pixels.shape[0], pixels.shape[1])))

    def step(self, batch: Sequence[int]) -> float:
        """One step on the photos of ``batch``; the loss before it."""
        codes, logits = self.network(torch.stack([self.network.prepare(self.images[i]) for i in batch]))
        loss = self.loss(codes, logits, [self.boxes[i] for i in batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def loss(self, codes: Tensor, logits: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The two losses over all anchors, added."""
        c = self.network.config
        class_targets, code_targets, matched = [], [], []
        for truth in boxes:
            limits = {"matched_iou": c.matched_iou, "unmatched_iou": c.unmatched_iou}
            matches = match_anchors(self.anchors, truth, **limits, force_match=c.force_match)
            positive = matches >= 0
            target = torch.zeros(len(self.anchors), 2)
            target[positive, 1] = 1.0
            class_targets.append(target)
            code_targets.append(encode_boxes(truth[matches.clamp(min=0)], self.anchors, c.coder_scales))
            matched.append(positive.float())
        weights = torch.stack(matched)
        count = weights.sum().clamp(min=1)
        focal = sigmoid_focal_loss(
            logits, torch.stack(class_targets), alpha=c.focal_alpha, gamma=c.focal_gamma
        )
        huber = huber_loss(codes, torch.stack(code_targets), delta=c.huber_delta) * weights[..., None]
        return focal.sum() / count + huber.sum() / (count * 4)


class Ours:
    """Features once per photo, then the heads alone."""

    def __init__(self, base: BaseModel, photos: AnnotationSet, settings: FinetuneConfig) -> None:
        self.config, self.weights, _ = restore(base, 1, settings.seed)
        self.network = build_network(self.config, self.weights, getattr(torch, settings.precision))
        self.photos, self.settings = photos, settings

    def run(self, schedule: Sequence[Sequence[int]]) -> tuple[float, float]:
        """Seconds for the features and for the steps."""
        start = time.perf_counter()
        self.heads = AnchorHeads(self.network, self.weights)
        features = features_of(self.heads, self.photos, show_progress=False)
        middle = time.perf_counter()
        self.history = fit_heads(self.heads, features, schedule, self.settings, show_progress=False)
        return middle - start, time.perf_counter() - middle


def peak_memory_mb(which: str) -> float:
    """Peak memory of a fresh process that does a few steps one way; the weights' mapped file counts."""
    command = [sys.executable, __file__, "--only", which, "--steps", "3"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(printed.split()[-1])


def main() -> None:
    """Run both and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=GOLDEN_BASE)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", choices=["plain", "float32", "bfloat16", "nothing"], help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    photos = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train")
    base = load_base(parsed.base)
    settings = {p: FinetuneConfig(steps=parsed.steps, precision=p) for p in ("float32", "bfloat16")}
    schedule = make_schedule(len(photos), settings["float32"])
    if parsed.only:
        if parsed.only == "plain":
            plain = Plain(base, photos, settings["float32"])
            [plain.step(batch) for batch in schedule]
        elif parsed.only != "nothing":
            Ours(base, photos, settings[parsed.only]).run(schedule)
        print(peak_of_this_process_mb())
        return

    print(describe_machine())
    plain, ours = (
        Plain(base, photos, settings["float32"]),
        {p: Ours(base, photos, s) for p, s in settings.items()},
    )
    plain_seconds, plain_losses = 0.0, []
    seconds: dict[str, list[tuple[float, float]]] = {p: [] for p in settings}
    for piece in np.array_split(np.arange(parsed.steps), PIECES):
        start = time.perf_counter()
        plain_losses += [plain.step(schedule[i]) for i in piece]
        plain_seconds += time.perf_counter() - start
        for precision, method in ours.items():
            seconds[precision].append(method.run(schedule))
        print(f"plain: {len(plain_losses)} steps in {plain_seconds:.0f} s", file=sys.stderr)

    report(plain, plain_seconds, plain_losses, ours, seconds)


def report(
    plain: Plain,
    plain_seconds: float,
    plain_losses: Sequence[float],
    ours: dict[str, Ours],
    seconds: dict[str, list[tuple[float, float]]],
) -> None:
    """Print the table and check that both ways ended at the same weights."""
    floor = peak_memory_mb("nothing")
    print(f"\n| {len(plain_losses)} steps, 5 photos | features s | steps s | total s | ratio | peak MB |")
    print("|---|---|---|---|---|---|")
    figures = f"{plain_seconds:.1f} | {plain_seconds:.1f} | 1 | {peak_memory_mb('plain'):.0f}"
    print(f"| plain, float32 | | {figures} |")
    for precision in ours:
        features, steps = (statistics.median(column) for column in zip(*seconds[precision], strict=True))
        total = features + steps
        ratio, memory = plain_seconds / total, peak_memory_mb(precision)
        figures = f"{features:.2f} | {steps:.2f} | {total:.2f} | {ratio:.0f} | {memory:.0f}"
        print(f"| cached, {precision} | {figures} |")
    print(f"\nA process that only loads everything peaks at {floor:.0f} MB.")
    for precision, method in ours.items():
        losses = np.array([row["total"] for row in method.history])
        first = np.abs(losses[:5] / np.array(plain_losses[:5]) - 1).max()
        pairs = zip(method.heads.tensors().values(), plain.tuned, strict=True)
        weights = max((torch.norm(a - b) / torch.norm(b)).item() for a, b in pairs)
        print(
            f"{precision} against plain: first 5 losses within {first:.1e}, "
            f"last loss {losses[-1]:.5f} against {plain_losses[-1]:.5f}, "
            f"tuned weights within {weights:.1e} of their norm"
        )
        if precision == "float32" and first > 1e-3:
            sys.exit("the two ways do not agree")


if __name__ == "__main__":
    main()
