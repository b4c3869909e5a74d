"""The loss curve shows all three losses, and is written whole or not at all."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewbox.detection.tags import font_for
from fewbox.errors import OutputError, SettingError
from fewbox.finetuning.loss_curve import Sheet, Text, draw_loss_curve, log_ticks, save_loss_curve, ticks


def history(steps: int, decades: float = 2) -> list[dict[str, float]]:
    totals = [10 ** (-decades * step / steps) for step in range(1, steps + 1)]
    return [
        {"step": step, "total": total, "classification": 0.7 * total, "localization": 0.3 * total}
        for step, total in enumerate(totals, start=1)
    ]


def words(sheet: Sheet) -> list[str]:
    return [text.words for text in sheet.texts]


def values_of(sheet: Sheet) -> list[float]:
    """What stands at the axis that goes up, from below."""
    marks = [text for text in sheet.texts if text.anchor == "rm"]
    return [float(text.words) for text in sorted(marks, key=lambda text: -text.y)]


def test_a_png_shows_three_curves_in_three_colours(tmp_path):
    save_loss_curve(history(100), tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 900
    for color in ((0x22, 0x22, 0x22), (0x56, 0xB4, 0xE9), (0x00, 0x9E, 0x73)):
        assert (pixels == color).all(-1).sum() > 500
    assert (pixels[[0, -1]] == 255).all()


def test_the_final_total_is_written_beside_its_point():
    sheet = draw_loss_curve(history(100, decades=2))
    (final,) = [text for text in sheet.texts if text.anchor == "lm" and text.words == "0.01"]
    mark = next(text for text in sheet.texts if text.anchor == "rm" and text.words == "0.01")
    assert final.y == pytest.approx(mark.y)
    assert {"total", "classification", "localization"} <= set(words(sheet))
    pixels = np.asarray(sheet.picture().convert("RGB"))
    assert (pixels[round(final.y), round(final.x) - 18] == 0x22).all()


def expected(label: str, objects: int, *numbers: float | None) -> dict[str, object]:
    return {"label": label, "objects": objects} | dict(zip(("ap50", "low", "high"), numbers, strict=True))


NOTHING = expected("ducks", 0, None, None, None)
DUCK, MUG = expected("duck", 5, 0.954, 0.84, 1.0), expected("mug", 3, 0.6, 0.2, 0.9)


def per_object(steps: int) -> list[dict[str, float]]:
    rows = history(steps)
    return [
        {"step": row["step"], "total": row["total"], "objects": 0.6 * row["total"], "background": 0.4}
        for row in rows
    ]


def test_losses_per_object_are_named_and_have_a_unit():
    sheet = draw_loss_curve(per_object(20), {"overall": DUCK, "classes": [DUCK]})
    assert {"total", "on the objects", "on the background"} <= set(words(sheet))
    assert "classification" not in words(sheet)
    (unit,) = [text.words for text in sheet.texts if text.upright]
    assert "per labelled object" in unit
    assert [text.words for text in sheet.texts if text.anchor == "ls" and text.y < 60] == [
        "On the photos it learnt from",
        "On photos held out",
    ]
    assert any("AP50" in line for line in words(sheet))


@pytest.mark.parametrize(
    ("overall", "classes", "texts"),
    [
        (DUCK, [DUCK], ["duck: 95% (84 to 100%), 5 objects held out"]),
        (
            expected("", 8, 0.78, 0.5, 0.95),
            [DUCK, MUG],
            ["all classes: 78%", "duck: 95%", "mug: 60% (20 to 90%), 3 objects held out"],
        ),
        (DUCK, [DUCK, NOTHING], ["duck: 95%", "ducks: not estimated, 0 objects held out"]),
        (NOTHING, [NOTHING], ["ducks: not estimated"]),
        (DUCK, 20 * [DUCK], ["all classes: 95%", *(8 * ["duck: 95%"])]),
    ],
)
def test_what_held_out_photos_say_is_drawn_and_nothing_else(overall, classes, texts):
    sheet = draw_loss_curve(per_object(3), {"overall": overall, "classes": classes})
    rows = [text for text in sheet.texts if text.anchor == "ls" and text.y > 60]
    assert len(rows) == len(texts)
    assert all(row.words.startswith(start) for row, start in zip(rows, texts, strict=True))
    pixels = np.asarray(sheet.picture().convert("RGB"))
    bars = (pixels == (0xA6, 0xCB, 0xE3)).all(-1).any(1)  # rows of pixels with a bar in them
    known = sum("%" in row.words for row in rows)
    assert np.count_nonzero(np.diff(bars.astype(int)) == 1) == known
    assert ("nothing could be held out:" in words(sheet)) == (known == 0)
    assert any("12 classes more" in line for line in words(sheet)) == (len(classes) == 20)


def test_every_round_of_adapting_says_its_ap():
    sheet = draw_loss_curve(per_object(3), {"overall": DUCK, "classes": [DUCK]}, (0.2, 0.34, 0.31))
    shown = {text.words: text for text in sheet.texts}
    assert {"20%", "34%", "31%", "linear probe", "round 1", "round 2"} <= set(shown)
    assert shown["20%"].y > shown["31%"].y > shown["34%"].y
    assert shown["20%"].x == shown["linear probe"].x < shown["34%"].x == shown["round 1"].x


def test_no_words_leave_the_picture_or_lie_on_others():
    wide = expected("a label as long as they may be", 12, 0.5, 0.25, 0.75)
    sheet = draw_loss_curve(
        history(100, decades=6), {"overall": wide, "classes": [wide, wide]}, (0.2, 0.3, 0.5, 0.52, 0.6)
    )
    places = [box_of(text) for text in sheet.texts]
    for number, (left, top, right, bottom) in enumerate(places):
        assert 0 <= left < right <= sheet.width
        assert 0 <= top < bottom <= sheet.height
        for other in places[:number]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def box_of(text: Text) -> tuple[float, float, float, float]:
    length = font_for(text.words, text.size).getlength(text.words)
    height = 0.7 * text.size
    if text.upright:
        return text.x - height / 2, text.y - length / 2, text.x + height / 2, text.y + length / 2
    left = text.x - length * {"l": 0, "m": 0.5, "r": 1}[text.anchor[0]]
    top = text.y - height * {"m": 0.5, "s": 1}[text.anchor[1]]
    return left, top, left + length, top + height


@pytest.mark.parametrize(("decades", "is_log"), [(0.5, False), (0.99, False), (1.2, True), (7, True)])
def test_the_scale_is_logarithmic_from_a_decade_on(decades, is_log):
    values = values_of(draw_loss_curve(history(101, decades)))
    assert 2 <= len(values) < 20
    steps = np.diff(np.log(values) if is_log else values)
    assert steps.max() < 1.5 * steps.min()
    assert (0 in values) != is_log


def test_marks_are_round_numbers_and_not_too_many():
    assert ticks(0, 35, least=1) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert ticks(0, 1, least=1) == [0, 1]
    assert ticks(0, 0.042) == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])
    assert log_ticks(0.03, 3) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert log_ticks(1e-6, 2) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    assert 5 < len(log_ticks(1e-60, 1)) < 20


@pytest.mark.parametrize("value", [0.0, 0.5, math.nan, math.inf])
@pytest.mark.parametrize("steps", [1, 2])
def test_short_and_odd_histories_are_drawn(tmp_path, steps, value):
    rows = history(steps)
    rows[-1] = {"step": steps, "total": value, "classification": value, "localization": 0.0}
    save_loss_curve(rows, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 0


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(SettingError, match="at least one step\nhint: a detector has its history"):
        save_loss_curve([], tmp_path / "loss.png")


def test_an_unknown_suffix_is_refused_with_those_that_work(tmp_path):
    with pytest.raises(OutputError, match=r"loss\.jpg.*'\.jpg'\nhint: .*\.png"):
        save_loss_curve(history(3), tmp_path / "loss.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch, failure):
    target = tmp_path / "loss.png"
    target.write_bytes(b"the old curve")

    def half(_picture: Image.Image, path: Path, **_options: object) -> None:
        path.write_bytes(b"half a curve")
        raise failure

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
        save_loss_curve(history(3), target)
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    assert target.read_bytes() == b"the old curve"


@pytest.mark.slow
def test_drawing_loads_no_library_for_plots_and_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fewbox.finetuning.loss_curve import save_loss_curve\n"
        "row = {'step': 1, 'total': 1.0, 'classification': 0.5, 'localization': 0.5}\n"
        f"save_loss_curve([row], Path({str(tmp_path / 'loss.png')!r}))\n"
        "assert not {'matplotlib', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
