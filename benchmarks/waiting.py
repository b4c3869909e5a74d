"""What a person waits for: commands in fresh processes, here and in another checkout, in turns.

Each row is one thing a person does. Every run is a process of its own, timed from the command to the moment
the file is there ("answer") and to the prompt ("all"), with the processor time of everything it started. The
two checkouts take turns, as the speed of a shared machine drifts; what they are compared by are medians.

    git worktree add ../before v0.1.0
    python benchmarks/waiting.py --against ../before
    python benchmarks/waiting.py --against ../before --busy 0 1 3    beside so many busy programs too

Python keeps its bytecode in both, or each run would compile PyTorch's sources anew.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fewbox.data import DEMO_BOXES_NAME, DEMO_FOLDER, PROJECT_FILE, demo_photos
from fewbox.data.formats import write_coco
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

    def run(self, *arguments: str, answer: Path) -> Seconds:
        """Run one command of fewbox, and wait for its end."""
        return self.run_python("-m", "fewbox.cli", *arguments, answer=answer)

    def run_python(self, *arguments: str, answer: Path) -> Seconds:
        """Run Python, and wait for its end."""
        answer.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
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


def detect_in_a_folder(checkout: Checkout) -> Seconds:
    """``fewbox detect`` of all test photos."""
    detector, found = checkout.folder / "duck.safetensors", checkout.folder / "found"
    if not detector.exists():
        finetune_five_ducks(checkout)
    photos = (DUCKY if DUCKY.is_dir() else DEMO_FOLDER) / "test"
    asked = ("detect", str(detector), str(photos), "-o", str(found), "--engine", "torch")
    return checkout.run(*asked, answer=found / "detections.json")


def learn_for_the_page(checkout: Checkout) -> Seconds:
    """A first round of what learns while a person draws, from five photos, in a process of its own."""
    folder, done = checkout.folder / "page", checkout.folder / "learnt"
    if not folder.exists():
        shutil.copytree(DEMO_FOLDER / "train", folder)
        train, _ = demo_photos()
        images = tuple(replace(image, path=folder / image.path.name) for image in train)
        write_coco(replace(train, images=images), folder / PROJECT_FILE)
    return checkout.run_python("-c", _LEARN, str(folder), str(done), answer=done)


_LEARN = """
import sys
from pathlib import Path
from fewbox.apps.annotate.learning import Rounds
from fewbox.data.project import Project
from fewbox.models.base import load_base
rounds = Rounds(Project(Path(sys.argv[1])), load_base("starter"))
rounds.learn()
assert rounds.detector is not None
Path(sys.argv[2]).touch()
"""


def serve_forty_photos(checkout: Checkout) -> Seconds:
    """``fewbox serve``, from the command to the fortieth answer; four clients."""
    detector, done = checkout.folder / "duck.safetensors", checkout.folder / "served"
    if not detector.exists():
        finetune_five_ducks(checkout)
    photos = (DUCKY if DUCKY.is_dir() else DEMO_FOLDER) / "test"
    return checkout.run_python("-c", _SERVE, str(detector), str(photos), str(done), answer=done)


_SERVE = """
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen
command = [sys.executable, "-m", "fewbox.cli", "serve", sys.argv[1], "--port", "0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
address = next(line for line in server.stdout if line.startswith("serving at")).split()[-1]
def ask(photo):
    path, kind = f"{address}/v1/detectors/duck/detect", {"Content-Type": "image/jpeg"}
    urlopen(Request(path, photo.read_bytes(), kind)).read()
with ThreadPoolExecutor(4) as clients:
    list(clients.map(ask, sorted(Path(sys.argv[2]).glob("*.jpg"))[:40]))
Path(sys.argv[3]).touch()
server.terminate()
server.wait()
"""


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """So many other programs that never wait."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


ROWS: dict[str, Callable[[Checkout], Seconds]] = {
    "finetune five ducks (starter, normal)": finetune_five_ducks,
    "detect in one photo, the second time": detect_second_time,
    "detect in a folder": detect_in_a_folder,
    "the page's learner, first round": learn_for_the_page,
    "serve 40 photos": serve_forty_photos,
}


def main() -> None:
    """Time every row in every checkout and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--only", metavar="WORD", default="", help="only rows with this word in their name")
    parser.add_argument(
        "--busy", nargs="+", type=int, default=[0], metavar="N", help="other programs at work"
    )
    parsed = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        sources = {"here": HERE} if parsed.against is None else {"before": parsed.against, "here": HERE}
        checkouts = {which: Checkout(source, Path(name) / which) for which, source in sources.items()}
        print("| | | answer s | all s | processor s |\n|---|---|---|---|---|")
        for row, measure in ROWS.items():
            for busy in parsed.busy if parsed.only in row else ():
                with busy_programs(busy):
                    beside = f", beside {busy} busy programs" if busy else ""
                    print_row(f"{row}{beside}", measure, checkouts, parsed.rounds)


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
