"""Which size of the input photos held out speak for, draw by draw, and by which number.

Where adapting follows, the size is chosen by AP50 with all classes in one ranking, the mean of before and
after a few steps of it. Beside it are the same number of the linear probe, by which the recipe ``probe``
chooses, and the mean of the classes' AP50, by which both once chose. Draws of one set should agree.

    python benchmarks/input_sizes.py
    python benchmarks/input_sizes.py --photos --shots 10 --draws 2
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

import torch

from fewbox.config import FinetuneConfig
from fewbox.data.annotations import AnnotationSet
from fewbox.finetuning.adapt import ap50_of_brief_adapting
from fewbox.finetuning.estimate import mean_ap50
from fewbox.finetuning.input_size import (
    clearly_best,
    outcomes_at,
    photos_to_try,
    pooled_ap50,
    sides_to_try,
    with_input_size,
)
from fewbox.models.base import BaseModel, load_base
from fewshot import FAR_SETS, DataSet, data_set
from machine import SHARED, describe_machine

NUMBERS = ("mean of the classes", "linear probe", "brief adapting")


def judged(base: BaseModel, drawn: AnnotationSet, draw: int) -> dict[str, dict[str, float]]:
    """AP50 by size, for each of ``NUMBERS``; nothing where no size is worth a try, or none can be tried."""
    found: dict[str, dict[str, float]] = {number: {} for number in NUMBERS}
    photos, settings = photos_to_try(drawn), FinetuneConfig(seed=draw)
    larger = sides_to_try(drawn, base.config)
    if not larger:
        return {}
    for side in [base.config.input_size_hw[0], *larger]:
        sized = with_input_size(base, side)
        outcomes = outcomes_at(photos, sized, settings)
        adapted = ap50_of_brief_adapting(photos, sized, settings)
        if outcomes is None or adapted is None:
            return {}
        values = (mean_ap50(outcomes, len(drawn.labels)), pooled_ap50(outcomes), adapted)
        for number, value in zip(NUMBERS, values, strict=True):
            found[number][str(side)] = value
    return found


def draws_of(
    data: DataSet, photos: list[int], shots: list[int], draws: int
) -> Iterator[tuple[str, int, AnnotationSet]]:
    """What to call a draw, its number, and its photos."""
    for draw in range(draws):
        yield from ((f"{count} photos", draw, data.draw_photos(count, draw)) for count in photos)
        yield from ((f"{count} shots", draw, data.draw(count, draw)) for count in shots)


def main() -> None:
    """Print a row for each draw, then how often each size was chosen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default=str(SHARED / "weights/yolox_nano_coco.onnx"))
    parser.add_argument("--data", nargs="+", choices=FAR_SETS, default=list(FAR_SETS))
    parser.add_argument("--photos", nargs="*", type=int, default=[5, 10, 15])
    parser.add_argument("--shots", nargs="*", type=int, default=[])
    parser.add_argument("--draws", type=int, default=3)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    base = load_base(parsed.base)
    for data in map(data_set, parsed.data):
        chosen = {number: Counter[str]() for number in NUMBERS}
        for size, draw, drawn in draws_of(data, parsed.photos, parsed.shots, parsed.draws):
            found = judged(base, drawn, draw)
            for number, ap50 in found.items():
                chosen[number][clearly_best(ap50)] += 1
                values = ", ".join(f"{side}: {value:.2f}" for side, value in ap50.items())
                print(f"{data.name}, {size}, draw {draw}, {number}: {values}", flush=True)
        for number, sizes in chosen.items():
            if sizes:
                counts = ", ".join(f"{side} in {n}" for side, n in sorted(sizes.items()))
                print(f"{data.name}, by {number}: {counts}")


if __name__ == "__main__":
    main()
