"""Learning in a browser: seconds until there is a detector, and how good it is beside Python's ``quick``.

Five real ducks, boxes given, in headless Chromium: WASM on two threads, no graphics card. The page's folder
needs onnxruntime-web beside it: npm install --prefix examples/web

    python benchmarks/web_learning.py                 about a minute
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import json
import shutil
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import fewbox
from fewbox.data.annotations import AnnotationSet
from fewbox.export.onnx import export_base
from fewbox.models.base import load_base
from machine import DUCKY, describe_machine

PAGE = Path(__file__).parents[1] / "examples/web"
_LEARN = """async ({ photos, labels, threads }) => {
  const { Base } = await import("/learning/base.js");
  const { learn } = await import("/learning/fit.js");
  const { headerOf, writeDetector } = await import("/learning/base_file.js");
  const { readPixels } = await import("/pixels.js");
  const ort = await import("/runtime/ort.wasm.min.mjs");
  Object.assign(ort.env.wasm, { wasmPaths: "/runtime/", numThreads: threads });
  const bytes = async (url) => (await fetch(url)).arrayBuffer();
  const files = await Promise.all(photos.map(async ({ name }) => new Blob([await bytes(`/photos/${name}`)])));
  const file = new Uint8Array(await bytes("/base.onnx"));
  let last = performance.now();
  const seconds = {};
  const note = (name) => { seconds[name] = (performance.now() - last) / 1000; last = performance.now(); };
  const base = await Base.open(ort, file);
  note("open the base");
  for (const [number, photo] of photos.entries()) {
    const { image, width, height } = await readPixels(files[number]);
    photo.features = await base.look(image);
    photo.mirrored = await base.lookMirrored(image);
    photo.size = { width, height };
  }
  note("look at the photos");
  const learnt = learn(base.file, photos, labels);
  note("learn");
  const detector = writeDetector(base.file, learnt.head, headerOf(base.file, learnt, labels, photos));
  note("write the detector");
  await base.close();
  const reader = new FileReader();
  const read = new Promise((resolve) => { reader.onload = () => resolve(reader.result); });
  reader.readAsDataURL(new Blob([detector]));
  return { seconds, threads: crossOriginIsolated ? threads : 1, url: await read };
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Python's own, with the headers without which a page has one thread."""

    def end_headers(self) -> None:
        """With two more."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Learn several times in a fresh page each, and evaluate the last detector."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the page's folder, with runtime/ in it")
    parser.add_argument("--base", default="starter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    print(describe_machine())
    train = fewbox.read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="rubber_ducky")
    test = fewbox.read_annotations(DUCKY / "test_boxes_coco.json", DUCKY / "test")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as running:
        folder = Path(name)
        shutil.copytree(
            parsed.page, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
        )
        shutil.copytree(DUCKY / "train", folder / "photos")
        (folder / "blank.html").write_text("<!doctype html><title>blank</title>")
        base = load_base(parsed.base)
        export_base(base, folder / "base.onnx")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        answers = []
        for _ in range(parsed.rounds):
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/blank.html")
            answers.append(page.evaluate(_LEARN, question(train, parsed.threads)))
            page.close()
        browser.close()
        server.shutdown()
        report(answers)
        written = folder / "duck.onnx"
        written.write_bytes(base64.b64decode(answers[-1]["url"].partition(",")[2]))
        compare(written, train, test, base)


def question(train: AnnotationSet, threads: int) -> dict[str, Any]:
    """What the page is asked to learn."""
    photos = [
        {
            "name": image.path.name,
            "boxes": [[box.x1, box.y1, box.x2, box.y2] for box in image.boxes],
            "classIds": [train.labels.index(box.label) for box in image.boxes],
        }
        for image in train
    ]
    return {"photos": photos, "labels": list(train.labels), "threads": threads}


def report(answers: list[dict[str, Any]]) -> None:
    """Medians, in seconds."""
    print(f"threads: {answers[0]['threads']}")
    for name in answers[0]["seconds"]:
        print(f"{name:24} {statistics.median(one['seconds'][name] for one in answers):6.2f} s")
    totals = [sum(one["seconds"].values()) for one in answers]
    print(f"{'in all':24} {statistics.median(totals):6.2f} s, {min(totals):.2f} to {max(totals):.2f}")


def compare(written: Path, train: AnnotationSet, test: AnnotationSet, base: fewbox.BaseModel) -> None:
    """AP of the file, and of what Python learns with the effort ``quick`` on the same base."""
    settings = fewbox.FinetuneConfig(effort="quick", input_size=base.config.input_size_hw[0])
    ours = fewbox.finetune(train, base, recipe="probe", config=settings, show_progress=False)
    expected = fewbox.open_detector(written).provenance["estimate"]["overall"]
    print(f"expected, says the file: {json.dumps(expected)}")
    for name, detector in (("in the browser", fewbox.open_detector(written)), ("in Python", ours)):
        metrics = fewbox.evaluate(detector, test, show_progress=False).metrics
        print(f"learnt {name:16} AP50 {100 * metrics.ap50:5.1f}  AP {100 * metrics.ap:5.1f}")


if __name__ == "__main__":
    main()
