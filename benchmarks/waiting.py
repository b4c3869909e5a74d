"""What a person waits for, in one table: here and in another checkout, in turns.

Cold starts: each row is one thing a person does. Every run is a process of its own, timed from the command to
the moment the file is there ("answer") and to the prompt ("all"), with the processor time of everything it
started, and the peak of its memory. The same beside programs that never pause. What an installation takes.
How fine-tuning grows from 5 photos to 500. The two checkouts take turns, as the speed of a shared machine
drifts; what they are compared by are medians.

    git worktree add ../before COMMIT
    python benchmarks/waiting.py --against ../before
    python benchmarks/waiting.py --against ../before --leave-out busy install growth    cold starts alone

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import growth
import install
from fewbox.core import counted
from fewbox.data import DEMO_BOXES_NAME, DEMO_FOLDER, PROJECT_FILE, demo_photos
from fewbox.data.formats import write_coco
from machine import DUCKY, describe_machine

HERE = Path(__file__).resolve().parents[1]


class Waited(NamedTuple):
    """Of one run."""

    answer: float
    """Until the file that was asked for is there."""
    all: float
    """Until the command has ended."""
    processor: float
    """Of all threads, until the command has ended."""
    peak_mb: float
    """Of the memory of the largest process, where Linux tells."""


UNITS = {"answer s": "answer", "all s": "all", "processor s": "processor", "peak MB": "peak_mb"}


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

    def run(self, *arguments: str, answer: Path) -> Waited:
        """Run one command of fewbox, and wait for its end."""
        return self.run_python("-m", "fewbox.cli", *arguments, answer=answer)

    def run_python(self, *arguments: str, answer: Path) -> Waited:
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
        answered, peak = None, 0.0
        while process.poll() is None:
            if answered is None and answer.exists():
                answered = time.perf_counter() - start
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.005)
        ended = time.perf_counter() - start
        printed = process.communicate()[0]
        if process.returncode != 0:
            sys.exit(f"{' '.join(arguments)}:\n{printed}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Waited(answered or ended, ended, processor, peak)


def peak_mb(process_id: int) -> float:
    """The largest peak of resident memory so far, of a process and of those that it has started."""
    own = Path(f"/proc/{process_id}")
    try:
        lines = (own / "status").read_text().splitlines()
        started = (own / "task" / str(process_id) / "children").read_text().split()
    except OSError:
        return 0.0  # it has ended, or this is not Linux
    peaks = [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return max([0.0, *peaks, *(peak_mb(int(other)) for other in started)])


def finetune_five_ducks(checkout: Checkout) -> Waited:
    """``fewbox finetune`` of five photos with the starter, effort normal."""
    detector = checkout.folder / "duck.safetensors"
    if DUCKY.is_dir():
        photos, boxes = DUCKY / "train", DUCKY / "train_boxes.csv"
        asked = [str(photos), "--boxes", str(boxes), "--label", "rubber_duck"]
    else:
        photos = DEMO_FOLDER / "train"
        asked = [str(photos), "--boxes", str(DEMO_FOLDER / DEMO_BOXES_NAME)]
    return checkout.run("finetune", *asked, "--base", "starter", "-o", str(detector), answer=detector)


def detect_second_time(checkout: Checkout) -> Waited:
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


def detect_in_a_folder(checkout: Checkout) -> Waited:
    """``fewbox detect`` of all test photos."""
    detector, found = checkout.folder / "duck.safetensors", checkout.folder / "found"
    if not detector.exists():
        finetune_five_ducks(checkout)
    photos = (DUCKY if DUCKY.is_dir() else DEMO_FOLDER) / "test"
    asked = ("detect", str(detector), str(photos), "-o", str(found), "--engine", "torch")
    return checkout.run(*asked, answer=found / "detections.json")


def learn_for_the_page(checkout: Checkout) -> Waited:
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


def serve_forty_photos(checkout: Checkout) -> Waited:
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


ROWS: dict[str, Callable[[Checkout], Waited]] = {
    "finetune five ducks (starter, normal)": finetune_five_ducks,
    "detect in one photo, the second time": detect_second_time,
    "detect in a folder": detect_in_a_folder,
    "the page's learner, first round": learn_for_the_page,
    "serve 40 photos": serve_forty_photos,
}


PARTS = ("busy", "install", "growth")
"""What takes long, and may be left out."""
LEARNT = (5, 500)
"""Photos between which growth is told."""


class Table:
    """Prints one line for each thing that is measured, with what it is in each checkout."""

    def __init__(self, checkouts: Sequence[str]) -> None:
        self._checkouts = checkouts
        columns = [*checkouts, "ratio"] if len(checkouts) == 2 else list(checkouts)
        print(f"| | | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")

    def line(self, what: str, unit: str, values: Mapping[str, float]) -> None:
        """One line; of each checkout a value."""
        cells = [f"{values[which]:.{0 if values[which] >= 100 else 2}f}" for which in self._checkouts]
        if len(cells) == 2:
            before, here = (values[which] for which in self._checkouts)
            cells.append(f"**{here / before:.2f}**")
        print(f"| {what} | {unit} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure everything in every checkout and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    parser.add_argument("--only", metavar="WORD", default="", help="only rows with this word in their name")
    parser.add_argument(
        "--busy", nargs="+", type=int, default=[0, 1, 3], metavar="N", help="other programs at work"
    )
    parser.add_argument("--leave-out", nargs="+", choices=PARTS, default=[], help="parts that take long")
    parser.add_argument("--installations", type=int, default=1, metavar="N", help="of each (default: 1)")
    parser.add_argument(
        "--learnt", nargs=2, type=int, default=LEARNT, metavar="N", help="photos, from how many to how many"
    )
    parsed = parser.parse_args()
    print(describe_machine())
    sources = {"here": HERE} if parsed.against is None else {"before": parsed.against, "here": HERE}
    table = Table(list(sources))
    with tempfile.TemporaryDirectory() as name:
        checkouts = {which: Checkout(source, Path(name) / which) for which, source in sources.items()}
        busy = [0] if "busy" in parsed.leave_out else sorted(parsed.busy)
        for row, measure in ROWS.items():
            if parsed.only in row:
                tell_waiting(table, row, measure, checkouts, parsed.rounds, busy)
        if "install" not in parsed.leave_out and parsed.only in "install":
            tell_installing(table, sources, parsed.installations)
        if "growth" not in parsed.leave_out and parsed.only in "growth":
            tell_growth(table, sources, Path(name), parsed.learnt)


def tell_waiting(
    table: Table,
    row: str,
    measure: Callable[[Checkout], Waited],
    checkouts: dict[str, Checkout],
    rounds: int,
    busy: Sequence[int],
) -> None:
    """Measure a row in turns, beside each number of busy programs."""
    alone: dict[str, Waited] = {}
    for number in busy:
        with busy_programs(number):
            medians = medians_of(measure, checkouts, rounds)
        what = f"{row}, beside {counted(number, 'busy program')}" if number else row
        for unit, field in UNITS.items():
            values = {which: getattr(median, field) for which, median in medians.items()}
            if values["here"] > 0:  # there is no peak where the system does not tell
                table.line(what, unit, values)
        if number and alone:
            ratios = {which: median.processor / alone[which].processor for which, median in medians.items()}
            table.line(what, "processor, against alone", ratios)
        if not number:
            alone = medians


def medians_of(
    measure: Callable[[Checkout], Waited], checkouts: dict[str, Checkout], rounds: int
) -> dict[str, Waited]:
    """The medians of so many runs in each checkout; the checkouts take turns."""
    runs: dict[str, list[Waited]] = {which: [] for which in checkouts}
    for number in range(rounds + 1):
        for which, checkout in checkouts.items():
            waited = measure(checkout)
            if number:  # the first one compiles, and reads everything from the disk
                runs[which].append(waited)
    return {
        which: Waited(*(statistics.median(values) for values in zip(*done, strict=True)))
        for which, done in runs.items()
    }


def tell_installing(table: Table, sources: dict[str, Path], rounds: int) -> None:
    """The wheel in an empty environment; see ``install.py``."""
    measured = {which: install.measure(rounds, source.resolve()) for which, source in sources.items()}
    for way in install.WAYS:
        done = {which: of_way[way] for which, of_way in measured.items()}
        of_each = {which: statistics.median(one.seconds for one in each) for which, each in done.items()}
        table.line(f"install, {way}", "s", of_each)
        table.line(f"install, {way}", "MB", {which: each[0].megabytes for which, each in done.items()})


def tell_growth(table: Table, sources: dict[str, Path], folder: Path, counts: Sequence[int]) -> None:
    """Fine-tuning from few photos and from many; see ``growth.py``."""
    few, many = counts
    costs = {
        (one.which, one.photos): one
        for one in growth.finetuning_costs(folder / "growth", sources, "quick", [few, many])
    }
    for count in (few, many):
        what = f"growth: finetune {count} photos (starter, quick)"
        table.line(what, "processor s", {which: costs[which, count].cost.seconds for which in sources})
        table.line(what, "peak MB", {which: costs[which, count].cost.peak_mb for which in sources})
    more = {}
    for which in sources:
        first, last = costs[which, few], costs[which, many]
        more[which] = 1000 * (last.cost.seconds - first.cost.seconds) / (last.looks - first.looks)
    table.line(f"growth: from {few} to {many} photos", "processor ms for each look more", more)


if __name__ == "__main__":
    main()
