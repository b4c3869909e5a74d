"""What the annotation page waits for: lists, saving, pictures, learning; and which boxes are proposed.

Requests go to a real server in this process; the learner is another one, as for a person. Medians.

    python benchmarks/annotate.py                 about a minute
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import HTTPCookieProcessor, Request, build_opener

import numpy as np
import torch
from PIL import Image

from fewbox.apps.annotate import learning
from fewbox.apps.annotate.app import AnnotateServer
from fewbox.apps.annotate.background import BackgroundLearner
from fewbox.data.annotations import Box
from fewbox.data.formats import read_annotations
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.finetuning.seed import corners_of
from fewbox.models.base import load_base
from fewbox.models.boxes import pairwise_iou
from machine import DUCKY, describe_machine

PHOTOS = 5000


class Page:
    """Requests as the page sends them."""

    def __init__(self, folder: Path, *, learn: bool) -> None:
        self.project = Project(folder)
        self.learner = BackgroundLearner(
            self.project, base="starter", output=folder / "d.safetensors", learn=learn
        )
        self.server = AnnotateServer(self.project, self.learner)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.origin = self.server.url.partition("/?")[0]
        self.opener = build_opener(HTTPCookieProcessor())
        self.opener.open(self.server.url).read()

    def ask(self, address: str, change: object = None) -> bytes:
        """The answer to a GET, or to a PATCH with ``change``."""
        headers = {"Origin": self.origin, "Content-Type": "application/json"}
        body = None if change is None else json.dumps(change).encode()
        method = "GET" if change is None else "PATCH"
        request = Request(self.origin + address, body, headers, method=method)
        answer: bytes = self.opener.open(request).read()
        return answer

    def close(self) -> None:
        """End the server."""
        self.server.stop()
        self.thread.join()


def median_ms(work: Callable[[int], object], times: int = 15) -> float:
    """The median of so many runs; each is given its number."""
    seconds = []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def time_project(folder: Path, photos: int) -> None:
    """Lists and changes in a project in which every photo has two boxes."""
    Image.new("RGB", (400, 300)).save(folder / "p0.jpg")
    for number in range(1, photos):
        shutil.copy(folder / "p0.jpg", folder / f"p{number}.jpg")
    boxes = [DrawnBox(f"b{number}", Box(10.5, 20.25, 100, 200, "mug")) for number in range(2)]
    with Project(folder).editing() as content:
        for number in range(photos):
            content.change_photo(f"p{number}.jpg", (300, 400), put=boxes)
    page = Page(folder, learn=False)
    page.project.photo_names()  # as the command does before it listens
    began = time.perf_counter()
    rows = json.loads(page.ask("/api/project"))["photos"]
    first = 1000 * (time.perf_counter() - began)
    listed = median_ms(lambda _: page.ask("/api/project"))

    def draw(number: int) -> None:
        box = {"id": "new", "box": [1, 2, 30 + number, 40], "label": "mug", "ignore": False}
        page.ask(f"/api/photos/{rows[7]['id']}", {"put": [box]})

    saved = median_ms(draw)
    print(
        f"{photos} photos: listed in {first:.0f} ms, again in {listed:.0f} ms; a box saved in {saved:.0f} ms"
    )
    page.close()


def time_pictures(folder: Path) -> None:
    """Pictures of a photo of 24 megapixels."""
    noise = np.random.default_rng(0).integers(0, 255, (500, 750, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((6000, 4000), Image.Resampling.BICUBIC).save(
        folder / "large.jpg", quality=90
    )
    page = Page(folder, learn=False)
    (row,) = json.loads(page.ask("/api/project"))["photos"]
    for side in (160, 1600):
        # One side more each time, as pictures are kept.
        ms = median_ms(
            lambda number, side=side: page.ask(f"/api/photos/{row['id']}/image?side={side + number}"), 5
        )
        print(f"24 megapixels at {side} pixels: {ms:.0f} ms")
    page.close()


def time_learning(folder: Path) -> None:
    """From a drawn box to the next round's proposals, starter base, five ducks."""
    ducks = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="duck")
    for image in ducks:
        shutil.copy(image.path, folder)
    page = Page(folder, learn=True)
    ids = {row["name"]: row["id"] for row in json.loads(page.ask("/api/project"))["photos"]}
    while json.loads(page.ask("/api/learning"))["message"] == "getting ready":
        time.sleep(0.05)
    for number, image in enumerate(ducks.images[:4]):
        (box,) = image.boxes
        drawn = {"id": "k", "box": [box.x1, box.y1, box.x2, box.y2], "label": "duck", "ignore": False}
        page.ask(f"/api/photos/{ids[image.path.name]}", {"put": [drawn]})
        began = time.perf_counter()
        while number and json.loads(page.ask("/api/learning"))["round"] < number:
            time.sleep(0.02)
        if number:
            seconds = time.perf_counter() - began
            print(f"round {number}, {number + 1} photos with boxes: proposals after {seconds:.1f} s")
    page.close()


def count_proposals(folder: Path, base: str) -> None:
    """Which ducks are proposed after two photos, for three pairs of the five to learn from."""
    learnt = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="duck")
    other = read_annotations(DUCKY / "test_boxes_coco.json", DUCKY / "test").images[:12]
    for image in (*learnt, *other):
        shutil.copy(image.path, folder)
    truth = {image.path.name: image.objects for image in (*learnt, *other)}
    proposed: dict[str, list[list[float]]] = {}
    learning.CANDIDATES = len(truth)
    learning._send = lambda message: proposed.update(
        {message["name"]: [box["box"] for box in message["boxes"]]} if "name" in message else {}
    )
    base_model = load_base(base)
    for pair in ((0, 1), (2, 3), (1, 4)):
        (folder / "annotations.json").unlink(missing_ok=True)
        proposed.clear()
        project = Project(folder)
        for number in pair:
            image = learnt.images[number]
            project.change_photo(image.path.name, put=[DrawnBox("k", image.boxes[0])])
        learning.Rounds(project, base_model).learn()
        hits = false = objects = 0
        for name, boxes in proposed.items():
            overlaps = pairwise_iou(corners_of(truth[name]), torch.tensor(boxes).reshape(-1, 4)) >= 0.5
            hits += int(overlaps.any(1).sum())
            false += int((~overlaps.any(0)).sum())
            objects += len(truth[name])
        print(f"learnt from ducks {pair}: {hits} of {objects} others proposed, and {false} that are none")


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="starter", help="what the proposals that are counted come from")
    parsed = parser.parse_args()
    print(describe_machine())
    for work in (
        lambda folder: time_project(folder, 12),
        lambda folder: time_project(folder, PHOTOS),
        time_pictures,
        time_learning,
        lambda folder: count_proposals(folder, parsed.base),
    ):
        with tempfile.TemporaryDirectory() as folder:
            work(Path(folder))


if __name__ == "__main__":
    main()
