"""What a person waits for: commands in fresh processes, here and in another checkout, in turns.

Each row is one thing a person does. Every run is a process of its own, timed from the command to the moment
the file is there ("answer") and to the prompt ("all"), with the processor time of everything it started. The
two checkouts take turns, as the speed of a shared machine drifts; what they are compared by are medians.

    git worktree add ../before v0.1.0
    python benchmarks/waiting.py --against ../before

Python keeps its bytecode in both, or each run would compile PyTorch's sources anew.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fewbox.data import DEMO_BOXES_NAME, DEMO_FOLDER
from machine import DUCKY, describe_machine

HERE = Path(__file__).resolve().parents[1]


class Seconds(NamedTuple):
    """Of one run."""

    answer: float
    """Until the file that was asked for is there."""
    all: float
    """Until the command has ended."""
    processor: float
    """Of all threads, until the command has ended."""


class Checkout:
    """A source tree, with a cache and files of its own."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONDONTWRITEBYTECODE", "FEWBOX_BACKGROUND_EXPORT")
        } | {"PYTHONPATH": str(source / "src"), "FEWBOX_CACHE": str(folder / "cache")}

    def run(self, *arguments: str, answer: Path, environment: dict[str, str] | None = None) -> Seconds:
        """Run one command of fewbox, and wait for its end."""
        answer.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "fewbox.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment | (environment or {}),
            text=True,
        )
        answered = None
        while process.poll() is None:
            if answered is None and answer.exists():
                answered = time.perf_counter() - start
            time.sleep(0.005)
        ended = time.perf_counter() - start
        printed = process.communicate()[0]
        if process.returncode != 0:
            sys.exit(f"{' '.join(arguments)}:\n{printed}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Seconds(answered or ended, ended, processor)


def finetune_five_ducks(checkout: Checkout) -> Seconds:
    """``fewbox finetune`` of five photos with the starter, effort normal."""
    detector = checkout.folder / "duck.safetensors"
    if DUCKY.is_dir():
        photos, boxes = DUCKY / "train", DUCKY / "train_boxes.csv"
        asked = [str(photos), "--boxes", str(boxes), "--label", "rubber_duck"]
    else:
        photos = DEMO_FOLDER / "train"
        asked = [str(photos), "--boxes", str(DEMO_FOLDER / DEMO_BOXES_NAME)]
    return checkout.run("finetune", *asked, "--base", "starter", "-o", str(detector), answer=detector)


def detect_second_time(checkout: Checkout) -> Seconds:
    """``fewbox detect`` of one photo, by a detector that has answered before."""
    detector, found = checkout.folder / "duck.safetensors", checkout.folder / "found.jpg"
    if not detector.exists():
        finetune_five_ducks(checkout)
    photo = sorted(((DUCKY if DUCKY.is_dir() else DEMO_FOLDER) / "test").glob("*.*"))[0]
    asked = ("detect", str(detector), str(photo), "-o", str(found))
    marker = checkout.folder / "seen-before"
    if not marker.exists():
        checkout.run(*asked, answer=found)
        wait_for_export(checkout)
        marker.touch()
    return checkout.run(*asked, answer=found)


def wait_for_export(checkout: Checkout) -> None:
    """Wait for what is made behind the first answer, if that is made at all."""
    exports = checkout.folder / "cache" / "exports"
    until = time.monotonic() + 5  # by then it has begun, where it is made
    while time.monotonic() < until and not exports.exists():
        time.sleep(0.1)
    until = time.monotonic() + 300
    while exports.exists() and not list(exports.glob("*.onnx")) and time.monotonic() < until:
        time.sleep(0.2)


ROWS: dict[str, Callable[[Checkout], Seconds]] = {
    "finetune five ducks (starter, normal)": finetune_five_ducks,
    "detect in one photo, the second time": detect_second_time,
}


def main() -> None:
    """Time every row in every checkout and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--only", metavar="WORD", default="", help="only rows with this word in their name")
    parsed = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        sources = {"here": HERE} if parsed.against is None else {"before": parsed.against, "here": HERE}
        checkouts = {which: Checkout(source, Path(name) / which) for which, source in sources.items()}
        print("| | | answer s | all s | processor s |\n|---|---|---|---|---|")
        for row, measure in ROWS.items():
            if parsed.only in row:
                print_row(row, measure, checkouts, parsed.rounds)


def print_row(
    row: str, measure: Callable[[Checkout], Seconds], checkouts: dict[str, Checkout], rounds: int
) -> None:
    """Measure a row in turns and print a line for each checkout, and one for their ratio."""
    runs: dict[str, list[Seconds]] = {which: [] for which in checkouts}
    for number in range(rounds + 1):
        for which, checkout in checkouts.items():
            seconds = measure(checkout)
            if number:  # the first one compiles, and reads everything from the disk
                runs[which].append(seconds)
    medians = {which: of_each(statistics.median, done) for which, done in runs.items()}
    for which, median in medians.items():
        print(f"| {row} | {which} | {' | '.join(f'{value:.2f}' for value in median)} |", flush=True)
    if len(medians) == 2:
        before, here = medians.values()
        ratios = (new / old for new, old in zip(here, before, strict=True))
        print(f"| {row} | **ratio** | {' | '.join(f'**{ratio:.2f}**' for ratio in ratios)} |", flush=True)


def of_each(what: Callable[[Sequence[float]], float], runs: Sequence[Seconds]) -> Seconds:
    """``what`` of every kind of seconds."""
    return Seconds(*(what(values) for values in zip(*runs, strict=True)))


if __name__ == "__main__":
    main()
