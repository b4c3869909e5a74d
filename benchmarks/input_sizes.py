"""Which size of the input photos held out speak for, draw by draw, and by which number.

The size is chosen by AP50 with all classes in one ranking; beside it is the mean of the classes' AP50, by
which it was chosen before. Draws of one set should agree.

    python benchmarks/input_sizes.py
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch

from fewbox.config import FinetuneConfig
from fewbox.finetuning.estimate import mean_ap50
from fewbox.finetuning.input_size import (
    clearly_best,
    outcomes_at,
    photos_to_try,
    pooled_ap50,
    sides_to_try,
    with_input_size,
)
from fewbox.models.base import load_base
from fewshot import FAR_SETS, data_set
from machine import SHARED, describe_machine


def main() -> None:
    """Print a row for each draw, then how often each size was chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=str(SHARED / "weights/yolox_nano_coco.onnx"))
    parser.add_argument("--data", nargs="+", choices=FAR_SETS, default=list(FAR_SETS))
    parser.add_argument("--photos", nargs="+", type=int, default=[5, 10, 15])
    parser.add_argument("--draws", type=int, default=3)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    base = load_base(parsed.base)
    for name in parsed.data:
        data, chosen = data_set(name), {"mean": Counter[str](), "pooled": Counter[str]()}
        for count in parsed.photos:
            for draw in range(parsed.draws):
                drawn = data.draw_photos(count, draw)
                sides = [base.config.input_size_hw[0], *sides_to_try(drawn, base.config)]
                photos, settings = photos_to_try(drawn), FinetuneConfig(seed=draw)
                at = {side: outcomes_at(photos, with_input_size(base, side), settings) for side in sides}
                known = {str(side): found for side, found in at.items() if found is not None}
                if len(known) < 2:
                    continue
                mean = {side: mean_ap50(found, len(data.labels)) for side, found in known.items()}
                pooled = {side: pooled_ap50(found) for side, found in known.items()}
                for by, ap50 in (("mean", mean), ("pooled", pooled)):
                    chosen[by][clearly_best(ap50)] += 1
                numbers = ", ".join(f"{side}: {mean[side]:.2f} {pooled[side]:.2f}" for side in known)
                print(f"{name}, {count} photos, draw {draw}: {numbers}", flush=True)
        for by, sizes in chosen.items():
            if sizes:
                print(
                    f"{name}, by the {by}: "
                    + ", ".join(f"{size} in {n}" for size, n in sorted(sizes.items()))
                )


if __name__ == "__main__":
    main()
