"""What the page says once a detector has been made."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_driver import MARK, SIZE_WH, OpenPage, Serve, make_photos, marked_photo
from test_drawing_boxes import PHONE

from fewbox.apps.annotate.finishing import Finishing, Result
from made_up_learner import MadeUpLearner

MUG = {"label": "mug", "objects": 5, "ap50": 0.83, "low": 0.6, "high": 0.95}
LID = {"label": "lid", "objects": 0, "ap50": None, "low": None, "high": None}
ESTIMATE = {
    "overall": MUG | {"label": ""},
    "classes": (MUG, LID),
    "score_threshold": 0.42,
    "precise_threshold": 0.71,
    "remarks": ("nothing to check against for lid: one more photo of it would tell a lot",),
}


def test_it_ends_with_the_estimate_the_threshold_held_out_photos_and_what_to_do(
    tmp_path: Path, serve: Serve, open_page: OpenPage, learner: MadeUpLearner
) -> None:
    folder = make_photos(tmp_path / "photos", 2)
    marked_photo((800, 300)).save(tmp_path / "sheet.jpg")
    page = open_page(serve(folder), **PHONE)
    page.until_open("photo1.png")
    page.page.get_by_role("button", name="Finish").tap()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Fine-tune now").tap()
    dialog.get_by_text("step 10 of 100").wait_for()
    assert dialog.get_by_text("What to do next").count() == 0
    steps = (("Find it in other photos", "fewbox detect m.safetensors PHOTOS -o found"),)
    result = Result(ESTIMATE, steps, str(tmp_path / "sheet.jpg"))
    learner.finishes = Finishing("done", "wrote m.safetensors", "fewbox finetune", "m.safetensors", result)
    said = "AP50 83%, four times in five between 60% and 95% (5 objects held out)"
    dialog.get_by_text(said).first.wait_for()
    said = dialog.inner_text()
    assert "lid: none was held out, so nothing is known of it" in said
    assert "A box counts from a score of 42% on" in said
    assert "--threshold 0.71" in said
    assert "one more photo of it would tell a lot" in said
    assert "fewbox detect m.safetensors PHOTOS -o found" in said
    picture = dialog.locator("img.held-out")
    picture.wait_for()
    page.page.wait_for_function("() => document.querySelector('img.held-out').naturalWidth === 800")
    assert picture.bounding_box()["width"] <= PHONE["viewport"]["width"]


def test_boxes_stay_on_their_photos_when_a_phone_is_turned(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(make_photos(tmp_path / "photos", 1)), viewport={"width": 390, "height": 800})
    page.draw_mark("mug")
    page.until_saved()
    page.page.get_by_role("button", name="Finish").click()
    mark, image = page.page.locator("dialog .mark-box"), page.page.locator("dialog .thumbnail")
    mark.wait_for()
    for width in (390, 490):
        page.page.set_viewport_size({"width": width, "height": 800})
        page.page.wait_for_function("(width) => innerWidth === width", arg=width)
        page.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        over, under = mark.bounding_box(), image.bounding_box()
        assert over
        assert under
        assert over["x"] - under["x"] == pytest.approx(MARK[0] / SIZE_WH[0] * under["width"], abs=1.5)
        assert over["width"] == pytest.approx((MARK[2] - MARK[0]) / SIZE_WH[0] * under["width"], abs=1.5)


def test_a_command_counts_as_copied_only_if_it_is_and_stays_selected_for_who_copies_by_hand(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(make_photos(tmp_path / "photos", 1)))
    page.mark()
    page.page.evaluate(
        """() => {
          Object.defineProperty(navigator, "clipboard", { value: undefined }); // as by http
          document.execCommand = () => globalThis.mayCopy ?? false;
        }"""
    )
    page.page.get_by_role("button", name="Finish").click()
    command = page.page.locator(".command").first
    command.get_by_text("fewbox finetune").wait_for()
    command.get_by_role("button").click()
    command.get_by_text("Press Ctrl C").wait_for()
    with page.page.expect_response("**/api/finish"):
        pass
    with page.page.expect_response("**/api/finish"):  # what came before has been shown by now
        pass
    assert page.page.evaluate("String(getSelection())") == command.locator("code").inner_text()
    page.page.evaluate("() => { globalThis.mayCopy = true; }")
    command.get_by_role("button").click()
    command.get_by_text("Copied").wait_for()
