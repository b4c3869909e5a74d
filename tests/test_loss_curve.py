"""The loss curve shows all three losses, and is written whole or not at all."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fewbox.errors import OutputError
from fewbox.finetuning.pictures import save_loss_curve


def history(steps: int, decades: float = 2) -> list[dict[str, float]]:
    totals = [10 ** (-decades * step / steps) for step in range(1, steps + 1)]
    return [
        {"step": step, "total": total, "classification": 0.7 * total, "localization": 0.3 * total}
        for step, total in enumerate(totals, start=1)
    ]


@pytest.fixture
def axes(monkeypatch):
    """What was drawn last, as matplotlib keeps it."""
    drawn = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), original(self, *a, **k))
    )
    return lambda: drawn[-1].axes[0]


@pytest.mark.slow
def test_a_png_shows_three_curves_in_three_colours(tmp_path):
    save_loss_curve(history(100), tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 900
    for color in ((0x22, 0x22, 0x22), (0x56, 0xB4, 0xE9), (0x00, 0x9E, 0x73)):
        assert (pixels == color).all(-1).sum() > 500
    assert (pixels[[0, -1]] == 255).all()


def test_the_final_total_is_written_beside_its_point(tmp_path, axes):
    save_loss_curve(history(100, decades=2), tmp_path / "loss.png")
    (text,) = axes().texts
    assert (text.get_text(), text.xy) == ("0.01", (100, pytest.approx(0.01)))
    assert {line.get_label() for line in axes().lines} == {"total", "classification", "localization"}


def expected(label: str, objects: int, *numbers: float | None) -> dict[str, object]:
    return {"label": label, "objects": objects} | dict(zip(("ap50", "low", "high"), numbers, strict=True))


NOTHING = expected("ducks", 0, None, None, None)
DUCK, MUG = expected("duck", 5, 0.954, 0.84, 1.0), expected("mug", 3, 0.6, 0.2, 0.9)


@pytest.fixture
def panels(axes):
    """Both halves of what was drawn last: the losses, and what held-out photos say."""
    return lambda: axes().figure.axes


def per_object(steps: int) -> list[dict[str, float]]:
    rows = history(steps)
    return [
        {"step": row["step"], "total": row["total"], "objects": 0.6 * row["total"], "background": 0.4}
        for row in rows
    ]


@pytest.mark.slow
def test_losses_per_object_are_named_and_have_a_unit(tmp_path, panels):
    save_loss_curve(per_object(20), tmp_path / "loss.png", {"overall": DUCK, "classes": [DUCK]})
    losses, held_out = panels()
    assert {line.get_label() for line in losses.lines} == {"total", "on the objects", "on the background"}
    assert "per labelled object" in losses.get_ylabel()
    assert "AP50" in held_out.get_xlabel()
    assert held_out.get_xlim() == (0, 100)
    assert losses.get_title(loc="left") != held_out.get_title(loc="left")


@pytest.mark.slow
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
def test_what_held_out_photos_say_is_drawn_and_nothing_else(tmp_path, panels, overall, classes, texts):
    save_loss_curve(per_object(3), tmp_path / "loss.png", {"overall": overall, "classes": classes})
    drawn = [text.get_text() for text in panels()[1].texts]
    assert len(drawn) == len(texts)
    assert all(text.startswith(start) for text, start in zip(drawn, texts, strict=True))
    known = sum("%" in text for text in drawn)
    assert len(panels()[1].lines) == 2 * known
    assert ("nothing could be held out" in panels()[1].get_xlabel()) == (known == 0)
    assert ("12 classes more" in panels()[1].get_xlabel()) == (len(classes) == 20)


@pytest.mark.parametrize(("decades", "scale"), [(0.5, "linear"), (0.99, "linear"), (1.2, "log"), (7, "log")])
def test_the_scale_is_logarithmic_from_a_decade_on(tmp_path, axes, decades, scale):
    save_loss_curve(history(101, decades), tmp_path / "loss.png")
    assert axes().get_yscale() == scale
    assert len(axes().get_yticks()) < 20


@pytest.mark.parametrize("name", ["loss.svg", "new/folder/LOSS.SVG"])
def test_an_svg_is_one(tmp_path, name):
    save_loss_curve(history(20), tmp_path / name)
    assert "<svg" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [0.0, 0.5, math.nan, math.inf])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.filterwarnings("error")
def test_short_and_odd_histories_are_drawn(tmp_path, steps, value):
    rows = history(steps)
    rows[-1] = {"step": steps, "total": value, "classification": value, "localization": 0.0}
    save_loss_curve(rows, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 0


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one step"):
        save_loss_curve([], tmp_path / "loss.png")


def test_an_unknown_suffix_is_refused_with_those_that_work(tmp_path):
    with pytest.raises(OutputError, match=r"loss\.jpg.*'\.jpg'\nhint: .*\.png, \.svg"):
        save_loss_curve(history(3), tmp_path / "loss.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch, failure):
    target = tmp_path / "loss.png"
    target.write_bytes(b"the old curve")

    def half(_figure: Figure, path: Path, **_options: object) -> None:
        path.write_bytes(b"half a curve")
        raise failure

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
        save_loss_curve(history(3), target)
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    assert target.read_bytes() == b"the old curve"


@pytest.mark.slow
def test_pyplot_is_not_imported_and_matplotlib_only_when_drawing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fewbox.finetuning.pictures import save_loss_curve\n"
        "assert 'matplotlib' not in sys.modules\n"
        "row = {'step': 1, 'total': 1.0, 'classification': 0.5, 'localization': 0.5}\n"
        f"save_loss_curve([row], Path({str(tmp_path / 'loss.svg')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
