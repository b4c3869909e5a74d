"""The page that learns, as a person meets it: seconds, AP, memory, and what it fetches.

In headless Chromium, without a graphics card, from a server of static files that sends no headers of its own.
First, once: npm install --prefix examples/web && npm run build --prefix examples/web

    python benchmarks/web_page.py                     about six minutes
    python benchmarks/web_page.py --only memory       a part of it: time, ap, memory, load
    python benchmarks/web_page.py --only graphics     two minutes: WebGPU on a card that Chromium imitates
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import fewbox
from fewbox.data.annotations import AnnotationSet
from fewbox.detection import Detections
from fewbox.evaluation import LOWEST_SCORE, evaluate_detections
from machine import DUCKY, describe_machine

PAGE = Path(__file__).parents[1] / "examples/web"
ROUNDS = 5
TEN_MBIT = 10e6 / 8
"""Bytes a second."""
ROUND_TRIP = 0.04
"""Seconds until a server answers, on a line of ten Mbit/s."""
TWELVE_MEGAPIXELS = (4000, 3000)
NUM_LARGE = 20
PATIENCE = 240_000
IMITATED = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--ignore-gpu-blocklist"]
"""A graphics card that Chromium imitates on the processor."""
_UNTIL_LEARNT = """async (message) => {
  const { learner } = await import("./teach/start.js");
  const isSo = () => learner.learning().state === "ready" && learner.learning().message === message;
  if (!isSo()) await new Promise((done) => learner.addEventListener("change", () => isSo() && done()));
}"""
_LAST_BOX = """async ([name, boxes]) => {
  const { learner, project } = await import("./teach/start.js");
  const { id } = (await project.photos()).find((photo) => photo.name === name);
  const isLearnt = new Promise((done) => learner.addEventListener("change", () => {
    const { state, message } = learner.learning();
    if (state === "ready" && message === "learnt from 5 photos") done(performance.now());
  }));
  const put = boxes.map(({ label, box }, at) => ({ id: `last-${at}`, label, box, ignore: false }));
  const started = performance.now();
  await project.patch(id, { put });
  return (await isLearnt) - started;
}"""
_FIND = """async ([sizes, lowest]) => {
  const { learner } = await import("./teach/start.js");
  const found = [];
  for (const [at, file] of [...document.querySelector("#handed-over").files].entries()) {
    found.push((await learner.look(file, sizes[at], lowest)).boxes);
  }
  return found;
}"""
_LOOK = """async (providers) => {
  const { Base } = await import("./learning/base.js");
  const { readBaseFile } = await import("./teach/base.js");
  const { WEBGPU, loadRuntime } = await import("./tasks.js");
  const ort = await loadRuntime(WEBGPU);
  const bytes = new Uint8Array(await readBaseFile(null));
  const base = await Base.open(ort, bytes, { executionProviders: providers });
  const image = new ImageData(640, 480);
  for (const at of image.data.keys()) image.data[at] = (at * 2654435761) >>> 7; // any pixels
  await base.look(image); // the first time, what is to be computed is compiled
  const started = performance.now();
  const { towerFeatures, baseLogits } = await base.look(image);
  const seconds = (performance.now() - started) / 1000;
  return { seconds, features: [...towerFeatures], logits: [...baseLogits] };
}"""
_HAND_OVER = """() => document.body.append(Object.assign(document.createElement("input"),
  { id: "handed-over", type: "file", multiple: true, hidden: true }))"""


class Line:
    """What all answers of a server go through: so many bytes a second, counted."""

    def __init__(self, bytes_a_second: float | None, round_trip: float) -> None:
        self.rate, self.round_trip = bytes_a_second, round_trip
        self.sent = 0
        self._free_at = 0.0
        self._lock = threading.Lock()

    def carry(self, size: int) -> None:
        """Wait as long as so many bytes take, behind those that are on their way."""
        with self._lock:
            self.sent += size
            if self.rate is None:
                return
            self._free_at = max(self._free_at, time.monotonic()) + size / self.rate
            arrives = self._free_at
        time.sleep(max(0.0, arrives - time.monotonic()))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Python's own, behind a line."""

    line: Line

    def do_GET(self) -> None:
        """After the time that a request needs to come and an answer to go."""
        time.sleep(self.line.round_trip)
        super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """In pieces, so that answers share the line."""
        while piece := source.read(16_384):
            self.line.carry(len(piece))
            outputfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path, rate: float | None = None, round_trip: float = 0.0) -> Iterator[tuple[str, Line]]:
    """The address of the page, and the line to it."""
    line = Line(rate, round_trip)
    handler = functools.partial(type("Behind", (Handler,), {"line": line}), directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/learn.html", line
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """Somebody who has never been here."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


def second_visit(context: BrowserContext, url: str) -> Page:
    """The page as it is from the second visit on: kept for offline use, and with more than one thread."""
    page = context.new_page()
    page.goto(url)
    page.evaluate("async () => { await navigator.serviceWorker.ready; }")
    page.reload()
    if not page.evaluate("crossOriginIsolated"):
        raise SystemExit("the page is not isolated: the service worker adds no headers")
    return page


def add(page: Page, photos: AnnotationSet, folder: Path, unseen: int = 0) -> None:
    """Add photos with a project file, which says nothing of the last ``unseen`` of them."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = [
        replace(image, path=Path(shutil.copy(image.path, folder / image.path.name))) for image in photos
    ]
    project = folder / "annotations.json"
    known = copied[: len(copied) - unseen]
    fewbox.write_annotations(replace(photos, images=tuple(known)), project)
    page.locator("#project-files").set_input_files([str(project), *(str(image.path) for image in copied)])


def until_learnt(page: Page, count: int) -> None:
    """Wait until it has learnt from so many photos."""
    page.evaluate(_UNTIL_LEARNT, f"learnt from {count} photos")


def measure_time(browser: Browser, train: AnnotationSet, scratch: Path) -> None:
    """From the last of five photos' boxes to a detector; and from five photos with boxes, added at once."""
    last, at_once = [], []
    boxes = [{"label": b.label, "box": [b.x1, b.y1, b.x2, b.y2]} for b in train.images[-1].boxes]
    with served(PAGE) as (url, _):
        for number in range(ROUNDS):
            with visitor(browser) as context:
                page = second_visit(context, url)
                add(page, train, scratch / f"last{number}", unseen=1)
                until_learnt(page, 4)
                page.wait_for_timeout(3000)  # in which the fifth photo is looked at, as while somebody draws
                last.append(page.evaluate(_LAST_BOX, [train.images[-1].path.name, boxes]) / 1000)
            with visitor(browser) as context:
                page = second_visit(context, url)
                started = time.monotonic()
                add(page, train, scratch / f"once{number}")
                until_learnt(page, 5)
                at_once.append(time.monotonic() - started)
    for name, seconds in (("the last box", last), ("five photos with boxes, added at once", at_once)):
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        print(f"from {name} to a detector: {statistics.median(seconds):.1f} s ({spread}, {ROUNDS} times)")


def measure_ap(browser: Browser, train: AnnotationSet, test: AnnotationSet, scratch: Path) -> None:
    """AP in the page, of its file in Python, and of what Python's ``quick`` learns."""
    with served(PAGE) as (url, _), visitor(browser) as context:
        page = second_visit(context, url)
        add(page, train, scratch / "ap")
        until_learnt(page, 5)
        with page.expect_download() as saved:
            page.locator("#save-detector").click()
        file = scratch / "duck.onnx"
        saved.value.save_as(file)
        page.evaluate(_HAND_OVER)
        page.locator("#handed-over").set_input_files([str(image.path) for image in test])
        sizes = [{"height": image.size_hw[0], "width": image.size_hw[1]} for image in test]
        rows = page.evaluate(_FIND, [sizes, LOWEST_SCORE])
    detector = fewbox.open_detector(file)
    found = [detections(photo, image, detector.labels) for photo, image in zip(rows, test, strict=True)]
    settings = fewbox.FinetuneConfig(effort="quick", input_size=detector.config.input_size_hw[0])
    ours = fewbox.finetune(train, fewbox.load_base("starter"), recipe="probe", config=settings)
    for name, metrics in (
        ("in the page", evaluate_detections(detector, test, found).metrics),
        ("its file, fewbox evaluate", fewbox.evaluate(file, test, show_progress=False).metrics),
        ("Python's quick", fewbox.evaluate(ours, test, show_progress=False).metrics),
    ):
        print(f"{name:26} AP50 {100 * metrics.ap50:6.2f}  AP {100 * metrics.ap:6.2f}")


def detections(rows: list[dict[str, Any]], image: Any, labels: tuple[str, ...]) -> Detections:
    """What the page found in a photo, as fewbox has it."""
    return Detections(
        boxes=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row["score"] for row in rows], np.float32),
        class_ids=np.array([labels.index(row["label"]) for row in rows], np.int64),
        class_names=labels,
        size_hw=image.size_hw,
        source=image.path,
    )


def measure_memory(browser: Browser, train: AnnotationSet, test: AnnotationSet, scratch: Path) -> None:
    """Twenty photos of 12 megapixels, enlarged ducks: added, learnt from, and all looked through."""
    photos = enlarged(train, test, scratch / "large")
    with served(PAGE) as (url, _), visitor(browser) as context:
        page = second_visit(context, url)
        with watched(browser) as peaks:
            started = time.monotonic()
            add(page, photos, scratch / "memory")
            until_learnt(page, NUM_LARGE)
            seconds = time.monotonic() - started
            for _ in range(NUM_LARGE):
                page.keyboard.press("d")
                page.wait_for_timeout(700)
    size = sum(image.path.stat().st_size for image in photos) / 1e6
    print(
        f"{NUM_LARGE} photos of 12 megapixels, {size:.0f} MB: learnt from all of them after {seconds:.0f} s"
    )
    for name, megabytes in peaks.items():
        print(f"peak memory of {name}: {megabytes:.0f} MB")


def enlarged(train: AnnotationSet, test: AnnotationSet, folder: Path) -> AnnotationSet:
    """The first photos, with their boxes, as large as a phone takes them."""
    folder.mkdir(parents=True)
    images = []
    label = train.labels[0]
    for image in [*train, *test][:NUM_LARGE]:
        path = folder / f"{len(images):02}.jpg"
        Image.open(image.path).convert("RGB").resize(TWELVE_MEGAPIXELS).save(path, quality=92)
        across, down = (
            new / old for new, old in zip(TWELVE_MEGAPIXELS, reversed(image.size_hw), strict=True)
        )
        boxes = tuple(
            replace(b, x1=b.x1 * across, x2=b.x2 * across, y1=b.y1 * down, y2=b.y2 * down, label=label)
            for b in image.boxes
        )
        images.append(replace(image, path=path, size_hw=TWELVE_MEGAPIXELS[::-1], boxes=boxes))
    return replace(train, images=tuple(images))


@contextlib.contextmanager
def watched(browser: Browser) -> Iterator[dict[str, float]]:
    """Peak memory of the tab's process, and of it with the process that draws, in MB."""
    about = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    ids = {kind: [one["id"] for one in about if one["type"] == kind] for kind in ("renderer", "GPU")}
    peaks = {"the tab's processes": 0.0, "these and the process that draws": 0.0}
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            tab, drawing = (sum(map(own_mb, ids[kind])) for kind in ("renderer", "GPU"))
            for name, now in zip(peaks, (tab, tab + drawing), strict=True):
                peaks[name] = max(peaks[name], now)

    watching = threading.Thread(target=watch)
    watching.start()
    yield peaks
    is_over.set()
    watching.join()


def own_mb(process: int) -> float:
    """Resident memory of a process, what it shares with others in parts (PSS)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) / 1024
    return 0.0


def measure_load(browser: Browser, train: AnnotationSet, scratch: Path) -> None:
    """What a first visit fetches, and how long the first answer takes on a line of 10 Mbit/s."""
    for rate, round_trip in ((None, 0.0), (TEN_MBIT, ROUND_TRIP)):
        with served(PAGE, rate, round_trip) as (url, line), visitor(browser) as context:
            page = context.new_page()
            started = time.monotonic()
            page.goto(url, wait_until="domcontentloaded")
            page.locator(".fewbox").wait_for()
            shown, page_bytes = time.monotonic() - started, line.sent
            add(page, train, scratch / f"load{rate}")
            until_learnt(page, 5)
            learnt = time.monotonic() - started
            page.evaluate("async () => { await navigator.serviceWorker.ready; }")
            name = "this machine" if rate is None else "10 Mbit/s"
            print(f"cold cache, {name}: the page after {shown:.1f} s, {page_bytes / 1e6:.2f} MB;")
            print(f"    a detector from five photos with boxes, added then, after {learnt:.1f} s;")
            print(f"    {line.sent / 1e6:.2f} MB in all, with what is kept for offline use")


def measure_graphics(browser: Browser) -> None:
    """Whether WebGPU tells what WASM does, and how long a look takes on a card that is none."""
    with served(PAGE) as (url, _), visitor(browser) as context:
        page = context.new_page()
        page.goto(url)
        ours, expected = (page.evaluate(_LOOK, providers) for providers in (["webgpu"], ["wasm"]))
    for name, told in (("WebGPU, imitated", ours), ("WASM, one thread", expected)):
        print(f"a look by {name}: {told['seconds']:.2f} s")
    for part in ("features", "logits"):
        apart = np.abs(np.subtract(ours[part], expected[part])).max()
        print(f"{part} apart by {apart:.1e} at the most")


def main() -> None:
    """Measure one after the other."""
    parts: dict[str, Callable[..., None]] = {"time": measure_time, "ap": measure_ap}
    parts |= {"memory": measure_memory, "load": measure_load}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = list(parts)
    parts["graphics"] = measure_graphics
    parser.add_argument("--only", nargs="+", choices=parts, default=usual)
    parsed = parser.parse_args()
    if not (PAGE / "offline.json").exists():
        raise SystemExit("first: npm install --prefix examples/web && npm run build --prefix examples/web")
    print(describe_machine())
    train = fewbox.read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="rubber_ducky")
    test = fewbox.read_annotations(DUCKY / "test_boxes_coco.json", DUCKY / "test")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as running:
        given = {"train": train, "test": test, "scratch": Path(name)}
        for part in parsed.only:
            arguments = IMITATED if part == "graphics" else ["--disable-gpu"]
            browser = running.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", *arguments]
            )
            needed = parts[part].__annotations__.keys() & given.keys()
            parts[part](browser, **{key: given[key] for key in needed})
            browser.close()


if __name__ == "__main__":
    main()
