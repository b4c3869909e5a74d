"""examples/web in a real Chromium: it finds what fewbox finds, and sends nothing anywhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from web_example import install_page, keeper_of, served

from exported_duck import ExportedDuck, assert_same
from exports import detector_of, exported, save_noise
from fewbox.export import compare_found
from orientations import STORED, orientation
from test_detect_onnx import save_identity

# Hands files over as if they had been dragged in, or pasted; through an input, as their bytes are many.
_ADD_INPUT = """() => {
  const made = { id: "handed-over", type: "file", multiple: true };
  document.body.append(Object.assign(document.createElement("input"), made));
}"""
_HAND_OVER = """(type) => {
  const input = document.getElementById("handed-over");
  const files = new DataTransfer();
  for (const file of input.files) files.items.add(file);
  input.remove();
  const how = { bubbles: true, cancelable: true };
  document.body.dispatchEvent(
    type === "paste"
      ? new ClipboardEvent(type, { clipboardData: files, ...how })
      : new DragEvent(type, { dataTransfer: files, ...how }),
  );
}"""
# Of all rows at once: there are hundreds.
_ROWS = """(rows) => rows.map((row) =>
  [row.querySelector(".label").innerText, row.dataset.score, row.dataset.box])"""


class ReaderPage:
    """One window with the page in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.threshold = page.get_by_label("Threshold", exact=True)

    def choose(self, button: str, *files: Path) -> None:
        with self.page.expect_file_chooser() as chosen:
            self.page.locator("header").get_by_role("button", name=button).click()
        chosen.value.set_files([str(file) for file in files])

    def summary(self) -> str:
        """How much is found, once every photo has been looked at."""
        self.page.locator("#summary:not(:empty)").wait_for()
        text: str = self.page.locator("#summary").inner_text()
        return text

    def found(self, photo: str) -> list[dict[str, Any]]:
        self.summary()
        rows = self.card(photo).locator(".found li").evaluate_all(_ROWS)
        return [{"label": label, "score": float(score), "box": json.loads(box)} for label, score, box in rows]

    def card(self, photo: str) -> Any:
        title = self.page.get_by_role("heading", name=photo, exact=True)
        return self.page.locator(".card", has=title)

    def trouble(self) -> str:
        alert = self.page.get_by_role("alert")
        alert.wait_for()
        return " ".join(alert.inner_text().split())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Path:  # noqa: ARG001 - or it skips
    return install_page(tmp_path_factory.mktemp("web") / "page")


@pytest.fixture(scope="module")
def site(installed: Path, exported_duck: ExportedDuck) -> Iterator[str]:
    shutil.copy(exported_duck.onnx, installed / "duck.onnx")
    with served(installed) as url:
        yield url


@pytest.fixture
def open_reader(open_page: Any, site: str) -> Any:
    """Open the page; a request to anybody but its own server fails the test."""

    def keep(page: Any) -> None:
        keeper_of(page, site)

    def start(query: str = "?model=duck.onnx", **options: Any) -> ReaderPage:
        return ReaderPage(open_page(f"{site}{query}", before=keep, **options).page)

    return start


@pytest.mark.slow
def test_it_finds_what_fewbox_finds(open_reader: Any, exported_duck: ExportedDuck) -> None:
    reader, photos = open_reader(), exported_duck.photos[:2]
    reader.page.get_by_text("finds rubber_duck").wait_for()
    asked: list[str] = []
    reader.page.on("request", lambda request: asked.append(request.url))
    reader.choose("Choose photos", *photos)
    expected = [exported_duck.detector.detect(photo) for photo in photos]
    for photo, detections in zip(photos, expected, strict=True):
        assert_same(reader.found(photo.name), detections)
    assert reader.summary() == f"{len(expected)} photos, {sum(map(len, expected))} boxes"
    assert [url for url in asked if not url.startswith("blob:")] == []  # not even its own server
    assert_boxes_lie_on_the_picture(reader, photos[0], expected[0].boxes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yolox_with_novel", "ssd", "retinanet_v2"])
def test_every_kind_of_network_runs(open_reader: Any, tmp_path: Path, kind: str) -> None:
    detector, photo = detector_of(kind), save_noise(tmp_path, count=1) / "noise0.png"
    (tmp_path / "d.onnx").write_bytes(exported(kind))
    threshold = 0.04
    found = detector.network.find(np.array(Image.open(photo)), threshold)
    reader = open_reader("")
    reader.choose("Choose photos", photo)
    reader.choose("Choose detector", tmp_path / "d.onnx")
    reader.summary()
    reader.threshold.fill(str(threshold))
    reader.page.get_by_text(f"1 photo, {len(found.scores)} boxes").wait_for()
    rows = reader.found("noise0.png")
    boxes, scores = (np.array([row[key] for row in rows], np.float32) for key in ("box", "score"))
    class_ids = np.array([detector.labels.index(row["label"]) for row in rows])
    expected = (found.boxes.numpy(), found.scores.numpy(), found.class_ids.numpy())
    same = compare_found(expected, (boxes, scores, class_ids))
    assert same.num_boxes > 0
    assert same.holds, same


def assert_boxes_lie_on_the_picture(reader: ReaderPage, photo: Path, boxes: np.ndarray) -> None:
    picture = reader.card(photo.name).locator("img").bounding_box()
    scale = picture["width"] / Image.open(photo).width
    drawn = [box.bounding_box() for box in reader.card(photo.name).locator(".box").all()]
    corners = [(b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for b in drawn]
    expected = boxes[::-1] * scale + np.array([picture["x"], picture["y"]] * 2)
    assert np.abs(np.array(corners) - expected).max() < 1


@pytest.mark.slow
def test_the_page_can_ask_nobody_else(open_reader: Any, site: str) -> None:
    reader = open_reader(expects_trouble=True)
    reader.page.get_by_text("finds rubber_duck").wait_for()
    stranger = site.replace("127.0.0.1", "localhost")  # the same server, but another origin
    ask = f"fetch('{stranger}', {{ mode: 'no-cors' }}).then(() => 'sent', () => 'refused')"
    (worker,) = reader.page.workers
    assert [reader.page.evaluate(ask), worker.evaluate(ask)] == ["refused", "refused"]
    own = ask.replace("localhost", "127.0.0.1")
    assert [reader.page.evaluate(own), worker.evaluate(own)] == ["sent", "sent"]


@pytest.mark.slow
def test_photos_and_detector_are_dropped_or_pasted_in_any_order(
    open_reader: Any, exported_duck: ExportedDuck
) -> None:
    reader = open_reader("")
    first, second = exported_duck.photos[:2]
    hand_over(reader, "drop", first)
    assert reader.card(first.name).locator(".state").inner_text() == "Waits for a detector"
    hand_over(reader, "drop", exported_duck.onnx)
    assert_same(reader.found(first.name), exported_duck.detector.detect(first))
    hand_over(reader, "paste", second)
    reader.card(second.name).get_by_text(re.compile("found")).wait_for()
    assert_same(reader.found(second.name), exported_duck.detector.detect(second))
    reader.page.get_by_role("button", name=f"Remove {first.name}").press("Enter")
    assert reader.page.locator(".card").count() == 1
    reader.page.get_by_role("button", name="Remove photos").click()
    assert reader.page.get_by_role("heading", name="Drop photos here").is_visible()


def hand_over(reader: ReaderPage, way: str, *files: Path) -> None:
    reader.page.evaluate(_ADD_INPUT)
    reader.page.locator("#handed-over").set_input_files([str(file) for file in files])
    reader.page.evaluate(_HAND_OVER, way)


@pytest.mark.slow
def test_a_photo_taken_sideways_is_turned(
    open_reader: Any, exported_duck: ExportedDuck, tmp_path: Path
) -> None:
    upright = exported_duck.photos[0]
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](np.asarray(Image.open(upright)))))
    stored.save(tmp_path / "sideways.jpg", quality=98, subsampling=0, exif=orientation(6))
    reader = open_reader()
    reader.choose("Choose photos", tmp_path / "sideways.jpg")
    assert_same(reader.found("sideways.jpg"), exported_duck.detector.detect(tmp_path / "sideways.jpg"))
    size = reader.card("sideways.jpg").locator("img").bounding_box()
    width, height = Image.open(upright).size
    assert size["width"] / size["height"] == pytest.approx(width / height, rel=0.01)


@pytest.mark.slow
def test_the_threshold_begins_at_the_detectors_own(open_reader: Any, exported_duck: ExportedDuck) -> None:
    reader, (photo, *_) = open_reader(), exported_duck.photos
    own = exported_duck.detector.threshold
    reader.choose("Choose photos", photo)
    reader.summary()
    assert float(reader.threshold.input_value()) == pytest.approx(own, abs=0.005)
    for threshold in (0.05, 0.99):
        reader.threshold.fill(str(threshold))
        expected = exported_duck.detector.detect(photo, threshold=threshold)
        assert reader.page.locator("#threshold-value").inner_text() == f"{threshold:.2f}"
        reader.page.get_by_text(f"1 photo, {len(expected)} box").wait_for()
        assert reader.card(photo.name).locator(".found li").count() == len(expected)
    reader.page.get_by_role("button", name=f"its own: {own:.2f}").click()
    reader.page.get_by_text(f"1 photo, {len(exported_duck.detector.detect(photo))} box").wait_for()
    assert_same(reader.found(photo.name), exported_duck.detector.detect(photo))
    reader.threshold.press("ArrowRight")
    assert float(reader.threshold.input_value()) == pytest.approx(round(own, 2) + 0.01)


def test_files_that_cannot_be_used_are_told_with_the_cure(open_reader: Any, tmp_path: Path) -> None:
    reader = open_reader("")
    save_identity(tmp_path / "other.onnx", {})
    save_identity(tmp_path / "raw.onnx", {"fewbox": '{"format_version": 1, "input": "images"}'})
    save_identity(tmp_path / "hollow.onnx", {"fewbox": '{"format_version": 1, "input": "photos"}'})
    hollow = tmp_path / "hollow.onnx"
    hollow.write_bytes(hollow.read_bytes().replace(b"Identity", b"Idontity"))
    (tmp_path / "text.onnx").write_text("no model at all")
    (tmp_path / "duck.safetensors").write_bytes(b"\0" * 16)
    for name, reason in {
        "other.onnx": "not one of fewbox's. Write one with: fewbox export",
        "raw.onnx": "written with --raw, without what prepares photos. Write it without --raw",
        "hollow.onnx": "The runtime cannot load it",
        "text.onnx": "not an ONNX file, or it is damaged. Write one with: fewbox export",
        "duck.safetensors": "exported as .onnx. Write one with: fewbox export",
    }.items():
        reader.choose("Choose detector", tmp_path / name)
        reader.page.get_by_role("heading", name=f"{name} cannot be used").wait_for()
        assert reason in reader.trouble()
        assert reader.page.get_by_role("heading", name="No detector yet").is_visible()


@pytest.mark.slow
def test_a_photo_that_cannot_be_read_is_told_among_the_others(
    open_reader: Any, exported_duck: ExportedDuck, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    reader = open_reader()
    reader.choose("Choose photos", tmp_path / "broken.jpg", exported_duck.photos[0])
    assert len(reader.found(exported_duck.photos[0].name)) > 0
    assert "This browser cannot read it as a picture" in reader.card("broken.jpg").inner_text()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?model=goose.onnx", "answers 404"),
        ("?model=https://example.org/duck.onnx", "another server, which this page never asks"),
    ],
    ids=["missing", "elsewhere"],
)
def test_a_model_that_cannot_be_fetched_is_told(open_reader: Any, query: str, reason: str) -> None:
    reader = open_reader(query, expects_trouble=True)
    assert reason in reader.trouble()


def test_a_page_without_its_runtime_says_what_to_run(
    open_page: Any, installed: Path, exported_duck: ExportedDuck, tmp_path: Path
) -> None:
    page = shutil.copytree(
        installed, tmp_path / "page", ignore=shutil.ignore_patterns("node_modules", "runtime")
    )
    shutil.copy(exported_duck.onnx, page / "duck.onnx")
    with served(page) as url:
        reader = ReaderPage(open_page(f"{url}?model=duck.onnx", expects_trouble=True).page)
        assert "Run npm install" in reader.trouble()


@pytest.mark.slow
def test_photos_come_from_the_camera(open_reader: Any) -> None:
    reader = open_reader(permissions=["camera"])
    reader.page.get_by_role("button", name="Camera").click()
    reader.page.get_by_role("button", name="Take photo").click()
    assert reader.summary().startswith("1 photo, ")
    assert reader.page.get_by_role("heading", name=re.compile("^Camera ")).count() == 1
