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
    make_photos(tmp_path, 2)
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

        slow: list[Any] = []
        page.route("**/detect?*", lambda route: slow.append(route) if len(slow) < 2 else route.continue_())
        page.get_by_role("button", name="Detect").click()
        page.get_by_text("looking").wait_for()
        while len(slow) < 2:
            page.wait_for_timeout(5)
        page.get_by_label("Photo").set_input_files(str(tmp_path / "photo2.png"))
        page.get_by_label("Threshold").fill("0.44")
        page.get_by_role("button", name="Detect").click()
        page.get_by_text("found above 0.44").wait_for()
        for route in slow:
            route.continue_()
        names = "performance.getEntriesByType('resource').map(({ name }) => name)"
        page.wait_for_function(f"() => {names}.filter((name) => name.includes('/detect?')).length === 6")
        page.wait_for_timeout(100)  # in which it would be shown
        assert "found above 0.44" in page.locator("#message").inner_text()
        assert '"score_threshold": 0.44' in page.locator("#numbers").inner_text()

        no_photo = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no photo"}
        page.get_by_label("Photo").set_input_files(no_photo)
        page.get_by_role("button", name="Detect").click()
        page.locator("#message.wrong").wait_for()
        assert not page.locator("#result").is_visible()  # it would be taken for what is in these notes
