"""Other ways to adapt than that of decision 80, each on the same photos, from the same cached maps.

    python benchmarks/adapt_variants.py results.json                    every variant that is not in the file
    python benchmarks/adapt_variants.py results.json --data dice --only "as it is" "SGD, 0.003"

Every one begins with the linear probe at the base's own size of input, and learns for 200 steps, less from
fewer than eight photos. Printed is COCO's AP, in brackets the mean of the classes weighted by their objects.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewbox.config import FinetuneConfig
from fewbox.core.files import write_text
from fewbox.detection.detector import Detector
from fewbox.evaluation.matching import PredictionTable
from fewbox.evaluation.metrics import coco_metrics
from fewbox.finetuning import FEWER_STEPS
from fewbox.finetuning.adapt import views_of
from fewbox.finetuning.adapt.cache import CachedViews, ViewTruth, Window
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings, Descent, inside
from fewbox.finetuning.linear_probe.recipe import Probe
from fewbox.models.base import BaseModel, load_base
from fewbox.models.boxes import NEGATIVE, match_anchors
from fewbox.models.network import Batch, BatchLoss
from fewbox.models.yolox import loss as yolox_loss
from fewbox.models.yolox.adapting import replace_layers
from fewbox.models.yolox.csp_darknet import Bottleneck
from fewshot import TestPhotos, data_set
from machine import SHARED, describe_machine

SHOTS = {
    "dice": 10,
    "chess_pieces": 5,
    "plants": 5,
    "dental_xray": 10,
    "nematode_dish": 10,
    "underwater_robosub": 5,
    "aerial_cars": 10,
}
SETTINGS = AdaptSettings(seed=0)
Results = dict[str, dict[str, float]]
"""By set, draw and variant."""


class Momentum(Descent):
    """SGD with momentum, all weights at one rate."""

    def __init__(self, weights: Sequence[Tensor], rate: float) -> None:
        super().__init__(weights, [1.0] * len(weights), pull=0.0, mean_of=SETTINGS.mean_of)
        self.rate = rate

    @torch.no_grad()
    def step(self, gradients: list[Tensor], share: float) -> None:  # noqa: D102 - as of every Descent
        torch._foreach_mul_(self.first, 0.9)
        torch._foreach_add_(self.first, gradients)
        torch._foreach_add_(self.weights, self.first, alpha=-self.rate * share)
        self.steps += 1
        self.take_into_mean()


class AdamW(Descent):
    """All weights at one rate, and each step 1% of that shorter (Loshchilov and Hutter, 2019)."""

    def __init__(self, weights: Sequence[Tensor], rate: float) -> None:
        super().__init__(weights, [1.0] * len(weights), pull=0.0, mean_of=SETTINGS.mean_of)
        self.sizes = [rate] * len(self.weights)

    @torch.no_grad()
    def step(self, gradients: list[Tensor], share: float) -> None:  # noqa: D102 - as of every Descent
        torch._foreach_mul_(self.weights, 1 - 0.01 * self.sizes[0] * share)
        super().step(gradients, share)


class LowRank(Descent):
    """Kernels change by a product of two matrices (Hu et al., "LoRA", 2022), small ones and biases freely."""

    def __init__(self, weights: Sequence[Tensor], rates: Sequence[float], rank: int) -> None:
        super().__init__(weights, rates, pull=0.0, mean_of=SETTINGS.mean_of)
        generator = torch.Generator().manual_seed(0)
        self.factors: list[tuple[int, Tensor, Tensor]] = []
        parts: list[Tensor] = []
        sizes: list[float] = []
        factored = set()
        for number, (weight, size) in enumerate(zip(self.weights, self.sizes, strict=True)):
            rows, columns = len(weight), weight[0].numel()
            if min(rows, columns) <= rank:
                continue
            left, right = torch.zeros(rows, rank), torch.randn(rank, columns, generator=generator)
            self.factors.append((number, left, right))
            factored.add(number)
            parts += [left, right]
            sizes += [size / math.sqrt(rank), 0.007]
        self.free = [number for number in range(len(self.weights)) if number not in factored]
        parts += [self.weights[number] for number in self.free]
        sizes += [self.sizes[number] for number in self.free]
        self.inner = Descent(parts, [1.0] * len(parts), pull=0.0, mean_of=1)
        self.inner.sizes = sizes

    @torch.no_grad()
    def step(self, gradients: list[Tensor], share: float) -> None:  # noqa: D102 - as of every Descent
        of_parts = []
        for number, left, right in self.factors:
            gradient = gradients[number].reshape(len(left), -1)
            of_parts += [gradient @ right.t(), left.t() @ gradient]
        self.inner.step(of_parts + [gradients[number] for number in self.free], share)
        for number, left, right in self.factors:
            self.weights[number].copy_(self.start[number] + (left @ right).view_as(self.start[number]))
        self.steps += 1
        self.take_into_mean()


class Mosaic(Adaptation):
    """A window is put together of four smaller ones from different views (Bochkovskiy et al., 2020)."""

    side = 4  # cells of each quarter

    def _loss(self, places: Sequence[Window]) -> BatchLoss:
        stride, side = self.adapter.coarsest_stride, self.side
        self.window = side
        views = [place.view for place in places]
        others = [
            self.views.chosen[n] for n in self._places.integers(len(self.views.chosen), size=3 * len(views))
        ]
        quarters = [self._place(view) for view in views + others]
        maps, truths, count = self.views.store.maps(quarters), [], len(views)
        for first in range(count):
            boxes, ids = [], []
            for number, place in enumerate(quarters[first::count]):
                truth = inside(self.views.truths[place.view], place, stride)
                row, column = divmod(number, 2)
                within = truth.boxes.clamp(0, side * stride)  # what reaches over the seam is not there
                boxes.append(within + side * stride * torch.tensor([column, row]).repeat(2))
                ids.append(truth.class_ids)
            truths.append(ViewTruth(torch.cat(boxes), torch.cat(ids)))
        stitched = []
        for level in maps:
            a, b, c, d = (level[n * count : (n + 1) * count] for n in range(4))
            stitched.append(torch.cat([torch.cat([a, b], 3), torch.cat([c, d], 3)], 2))
        codes, logits = self.adapter.outputs(stitched)
        batch = Batch.of([(torch.zeros(0), truth.boxes, truth.class_ids) for truth in truths])
        return self.adapter.loss(codes, logits, self.adapter.anchors((2 * side * stride,) * 2), batch)


class ObjectsFirst(Adaptation):
    """In the first quarter of the steps all classes are one."""

    def _loss(self, places: Sequence[Window]) -> BatchLoss:
        loss = self.adapter.loss
        if len(self.history) < self.settings.steps // 4:

            def of_any(codes: Tensor, logits: Tensor, anchors: Tensor, batch: Batch) -> BatchLoss:
                one = replace(batch, class_ids=batch.class_ids.clamp(max=0))
                return loss(codes, logits.logsumexp(2, keepdim=True), anchors, one)

            self.adapter.loss = of_any  # type: ignore[method-assign]
        try:
            return super()._loss(places)
        finally:
            self.adapter.loss = loss  # type: ignore[method-assign]


class BoxesLast(Adaptation):
    """The box head learns in the second half of the steps."""

    def _learnt_from(self, places: Sequence[Window], most: int) -> Any:
        learnt = super()._learnt_from(places, most)
        if len(self.history) < self.settings.steps // 2:
            for name, gradient in zip(self.names, learnt.gradients, strict=True):
                if name.startswith(self.adapter.parts["boxes"]):
                    gradient.zero_()
        return learnt


class OwnTargets(Adaptation):
    """A cell learns the box that its own box overlaps by 0.6, as in the linear probe, not by SimOTA."""

    def _loss(self, places: Sequence[Window]) -> BatchLoss:
        before = yolox_loss.simota_assign

        def assign(predicted: Tensor, _: Tensor, __: Tensor, boxes: Tensor, is_learnt: Tensor) -> Tensor:
            rows = []
            for cells, some, learnt in zip(predicted, boxes, is_learnt, strict=True):
                kept = learnt.nonzero()[:, 0]
                found = match_anchors(cells, some[kept], matched_iou=0.6, unmatched_iou=0.6, force_match=True)
                rows.append(torch.where(found == NEGATIVE, -1, kept[found.clamp(min=0)] if len(kept) else -1))
            return torch.stack(rows)

        yolox_loss.simota_assign = assign
        try:
            return super()._loss(places)
        finally:
            yolox_loss.simota_assign = before


def with_two_stages(adaptation: Adaptation) -> Adaptation:
    """The same, but the stage before the last of the backbone learns too, from the map before it."""
    adapter: Any = adaptation.adapter
    backbone = adapter.network.backbone.backbone
    for bottleneck in (module for module in backbone.dark4.modules() if isinstance(module, Bottleneck)):
        bottleneck.forward = partial(_added, bottleneck)  # type: ignore[method-assign]
    replace_layers(list(backbone.dark4.modules()))
    backbone.dark4.requires_grad_(True)
    outputs = adapter.outputs
    adapter.outputs = lambda maps: outputs([maps[0], backbone.dark4(maps[0])])
    stages = ("backbone.backbone.dark4.", "backbone.backbone.dark5.")
    adapter.parts = {**adapter.parts, "last stage": stages}
    return type(adaptation)(adapter, adaptation.views, adaptation.settings)


def _added(bottleneck: Bottleneck, x: Tensor) -> Tensor:
    """As its forward, but not in place, which a backward pass does not bear."""
    branch: Tensor = bottleneck.conv2(bottleneck.conv1(x))
    return branch + x if bottleneck.shortcut else branch


@dataclass(frozen=True)
class Variant:
    """One way to adapt."""

    settings: AdaptSettings = SETTINGS
    kind: type[Adaptation] = Adaptation
    descent: Callable[[Adaptation, list[float]], Descent] | None = None
    two_stages: bool = False

    def learnt(self, start: Detector, views: CachedViews, steps_share: float) -> Detector:
        """The detector after the last step."""
        settings = replace(self.settings, steps=round(self.settings.steps * steps_share))
        learning = self.kind.of(start, views, settings)
        if self.two_stages:
            learning = with_two_stages(learning)
        if self.descent is not None:
            rates = [self.settings.rates[learning._part_of(name)] for name in learning.names]
            learning.descent = self.descent(learning, rates)
        *_, last = learning.rounds()
        return Detector(
            config=start.config,
            weights=last.weights,
            labels=start.labels,
            base=start.base,
            provenance=start.provenance,
            history=[],
            threshold=start.threshold,
        )


def rates(**parts: float) -> AdaptSettings:
    """The usual settings with other rates."""
    return replace(SETTINGS, rates={**SETTINGS.rates, **parts})


def one_rate(kind: Callable[[Sequence[Tensor], float], Descent], rate: float) -> Variant:
    """One rate for all weights."""
    return Variant(descent=lambda learning, _: kind(learning.descent.weights, rate))


def low_rank(rank: int) -> Variant:
    """Changes of that rank."""
    return Variant(descent=lambda learning, rates: LowRank(learning.descent.weights, rates, rank))


VARIANTS = {
    "as it is": Variant(),
    **{f"SGD, {rate}": one_rate(Momentum, rate) for rate in (0.0003, 0.001, 0.003)},
    **{f"AdamW, {rate}": one_rate(AdamW, rate) for rate in (0.0003, 0.001)},
    **{f"drawn back by {pull}": Variant(replace(SETTINGS, pull=pull)) for pull in (0.003, 0.01)},
    "the last step, no mean": Variant(replace(SETTINGS, mean_of=1.0)),
    "mean of 60 steps": Variant(replace(SETTINGS, mean_of=60.0)),
    **{f"rank {rank}": low_rank(rank) for rank in (4, 16)},
    "mosaic of windows": Variant(kind=Mosaic),
    "targets of the linear probe": Variant(kind=OwnTargets),
    "first as one class": Variant(kind=ObjectsFirst),
    "box head last": Variant(kind=BoxesLast),
    "box head frozen": Variant(rates(boxes=0.0)),
    "neck frozen": Variant(rates(neck=0.0)),
    "one rate for all parts": Variant(rates(classes=0.007)),
    "last stage frozen": Variant(rates(**{"last stage": 0.0})),
    "last stage at half the rate": Variant(rates(**{"last stage": 0.0035})),
    "last two stages": Variant(two_stages=True),
    "whole views, 60 steps": Variant(replace(SETTINGS, window=0, steps=60)),
    "8 views": Variant(replace(SETTINGS, views=8, most_views=160)),
    "32 views": Variant(replace(SETTINGS, views=32, most_views=640)),
}


def try_all(base: BaseModel, name: str, draw: int, names: Sequence[str], results: Results) -> Iterator[str]:
    """Run the variants of these names on one draw, but for what there is; the key of each that is done."""
    data = data_set(name)
    photos = data.draw(SHOTS[name], draw)
    test = TestPhotos(base, data)
    quick = FinetuneConfig(seed=draw, effort="quick")
    start = Probe.of(photos, base, quick, show_progress=False).fit().detector
    objects = np.bincount(test.truth.class_ids[~test.truth.ignore], minlength=len(data.labels))
    views: dict[int, CachedViews] = {}
    for one in names:
        key, variant = f"{name}|{draw}|{one}", VARIANTS[one]
        if key in results:
            continue
        count = variant.settings.views_of(len(photos))
        if count not in views:  # those of one number at a time: they are large
            views = {count: views_of(photos, start, variant.settings, show_progress=False)}
        begun = time.process_time()
        detector = variant.learnt(start, views[count], steps_share=min(max(len(photos) / 8, FEWER_STEPS), 1))
        seconds = time.process_time() - begun
        found = PredictionTable.of(test.detect(detector, only_heads_learnt=False))
        metrics = coco_metrics(found, test.truth, len(data.labels))
        by_class = np.nan_to_num(metrics.class_ap)
        weighted = float((by_class * objects).sum() / objects.sum())
        results[key] = {"ap": metrics.ap, "weighted": weighted, "seconds": seconds}
        yield key


def main() -> None:
    """Run what is not in the file yet and print a row for each variant: AP, and that weighted by objects."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--data", nargs="+", choices=SHOTS, default=list(SHOTS))
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parsed = parser.parse_args()
    torch.set_num_threads(1)  # with more a step is made on two, and some variants exchange what both call
    results = json.loads(parsed.results.read_text()) if parsed.results.exists() else {}
    print(describe_machine())
    base = load_base(str(SHARED / "weights/yolox_nano_coco.onnx"))
    for name in parsed.data:
        for draw in parsed.draws:
            for key in try_all(base, name, draw, parsed.only, results):
                write_text(parsed.results, json.dumps(results, indent=0))
                print(key, {what: round(value, 3) for what, value in results[key].items()}, flush=True)
    for one in parsed.only:
        cells = []
        for name in parsed.data:
            rows = [results[f"{name}|{draw}|{one}"] for draw in parsed.draws]
            ap, weighted = (100 * statistics.mean(row[what] for row in rows) for what in ("ap", "weighted"))
            cells.append(f"{ap:.1f} ({weighted:.1f})")
        print(f"| {one} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
