"""The tables of docs/far.md and docs/accuracy.md from what ``fewshot.py`` measured.

    python benchmarks/fewshot_tables.py results.json [more.json ...]                  every recipe, a row each
    python benchmarks/fewshot_tables.py results.json --beside linear/normal best/normal neck:0.01:60
                                            the recipes beside each other, a table for each number of shots

Of a run that is in several files, the first counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Run = dict[str, Any]
"""What ``fewshot.run`` measured of one draw."""


def recipe_rows(results: dict[str, Run]) -> str:
    """One row per data set, number of shots and recipe."""
    lines = [
        "| base, data, shots | recipe | draws | AP | AP50 | recall | AP against seed's "
        "| AP50 in interval | ECE before, after | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], dict[str, Run]] = {}
    for key, run in results.items():
        base, data, shots, draw, recipe = key.split("|")
        groups.setdefault((f"{base}, {data}, {shots}", recipe), {})[draw] = run
    for (where, recipe), runs in sorted(groups.items()):
        seeds = groups.get((where, "seed"), {})
        paired = [run["ap"] - seeds[draw]["ap"] for draw, run in runs.items() if draw in seeds]
        values = list(runs.values())
        columns = [spread([run[key] for run in values]) for key in ("ap", "ap50", "recall")]
        columns += [
            spread(paired) if paired and recipe != "seed" else "",
            in_interval(values),
            calibration_errors(values),
            f"{statistics.median(run['seconds'] for run in values):.1f}",
        ]
        lines.append(f"| {where} | {recipe} | {len(runs)} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def beside_each_other(results: dict[str, Run], recipes: Sequence[str]) -> str:
    """For each number of shots or photos a table with a row per data set and the last line their mean.

    Interval, calibration and seconds are those of the recipe ``best``, the seconds of one processor.
    """
    sizes: dict[str, dict[str, dict[str, list[Run]]]] = {}
    for key, run in results.items():
        _, data, size, _, recipe = key.split("|")
        sizes.setdefault(size, {}).setdefault(data, {}).setdefault(recipe, []).append(run)
    tables = []
    for size, sets in sizes.items():
        names = [f"AP, {name}" for name in recipes] + [f"AP50, {name}" for name in recipes]
        titles = ["objects", "photos", "draws", *names, "in interval", "ECE as learnt, given", "s"]
        rows = [_row(data, sets[data], recipes) for data in sets]
        table = [titles, ["---"] * len(titles), *rows, _means(sets, recipes)]
        lines = "\n".join("| " + " | ".join(row) + " |" for row in table)
        tables.append(f"{size if 'photos' in size else f'Shots: {size}'}:\n\n{lines}\n")
    return "\n".join(tables)


def _row(data: str, by_recipe: dict[str, list[Run]], recipes: Sequence[str]) -> list[str]:
    best = by_recipe.get("best/normal", [])
    every = [run for runs in by_recipe.values() for run in runs]
    photos = f"{statistics.median(run['photos'] for run in every):.0f}"
    draws = str(max(map(len, by_recipe.values())))
    ap = [spread([run["ap"] for run in by_recipe.get(name, [])]) for name in recipes]
    ap50 = [_hundredths(run["ap50"] for run in by_recipe.get(name, [])) for name in recipes]
    seconds = f"{statistics.median(run['cpu_seconds'] for run in best):.0f}" if best else ""
    return [data, photos, draws, *ap, *ap50, in_interval(best), calibration_errors(best), seconds]


def _means(sets: dict[str, dict[str, list[Run]]], recipes: Sequence[str]) -> list[str]:
    """The means over the data sets of what is a mean over the draws of each."""

    def mean_of(key: str, recipe: str) -> str:
        known = [runs[recipe] for runs in sets.values() if recipe in runs]
        return _hundredths(statistics.mean(run[key] for run in runs) for runs in known)

    best = [runs.get("best/normal", []) for runs in sets.values()]
    every = [run for runs in best for run in runs]
    cells = [mean_of(key, name) for key in ("ap", "ap50") for name in recipes]
    seconds = f"{statistics.median(run['cpu_seconds'] for run in every):.0f}" if every else ""
    return ["mean", "", "", *cells, in_interval(every), calibration_errors(every, digits=3), seconds]


def _hundredths(values: Iterable[float]) -> str:
    known = list(values)
    return f"{100 * statistics.mean(known):.1f}" if known else ""


def spread(values: list[float]) -> str:
    """Mean and standard deviation, times 100."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.pstdev(values):.1f}" if values else ""


def in_interval(runs: Sequence[Run]) -> str:
    """In how many runs the measured AP50 lay in the predicted interval, of those that have one."""
    known = [run for run in runs if "low" in run]
    held = [run["low"] <= run["ap50"] <= run["high"] for run in known]
    return f"{sum(held)} of {len(held)}" if held else ""


def calibration_errors(runs: Sequence[Run], digits: int = 2) -> str:
    """The mean expected calibration error of scores as learnt, where that is known, and as they are given."""
    columns = ([run[key] for run in runs if key in run] for key in ("ece_before", "ece"))
    return ", ".join(f"{statistics.mean(column):.{digits}f}" for column in columns if column)


def main() -> None:
    """Print the tables of all files together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--beside", nargs="+", metavar="RECIPE")
    parsed = parser.parse_args()
    results: dict[str, Run] = {}
    for path in reversed(parsed.results):
        results |= json.loads(path.read_text())
    print(beside_each_other(results, parsed.beside) if parsed.beside else recipe_rows(results))


if __name__ == "__main__":
    main()
