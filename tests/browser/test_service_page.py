"""The page of ``fewbox serve`` in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page_driver import make_photos

from service_client import random_detector, serving


def test_a_photo_is_tried_at_any_threshold_by_a_detector_of_long_names(
    open_page: Any, tmp_path: Path
) -> None:
    random_detector([letter * 100 for letter in "abc"]).save(tmp_path / "many.safetensors")
    make_photos(tmp_path, 1)
    with serving([tmp_path / "many.safetensors"]) as server:
        page = open_page(f"http://127.0.0.1:{server.port}/", expects_trouble=True).page
        detector = page.get_by_label("Detector")
        detector.get_by_text("many: aaa").wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert detector.evaluate("(select) => select.offsetWidth <= select.form.offsetWidth")

        page.get_by_label("Photo").set_input_files(str(tmp_path / "photo1.png"))
        page.get_by_label("Threshold").fill("0.33")
        page.get_by_role("button", name="Detect").click()
        page.get_by_text("found above 0.33").wait_for()
        assert page.locator("#result").is_visible()

        no_photo = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no photo"}
        page.get_by_label("Photo").set_input_files(no_photo)
        page.get_by_role("button", name="Detect").click()
        page.locator("#message.wrong").wait_for()
        assert not page.locator("#result").is_visible()  # it would be taken for what is in these notes
