"""The page in a real JupyterLab; skipped where that is not installed: pip install jupyterlab anywidget."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from page_driver import MARK, Corners, OpenPage, PageDriver, assert_close, boxes_in_file, make_photos

from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotatedImage
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from waiting import LONG, free_port, wait_until

pytestmark = pytest.mark.slow
DUCKS = demo_photos()

CELLS = [
    "import fewbox\npage = fewbox.annotate('photos')\npage",
    "print('found', page.boxes[0].shape, page.boxes[1].shape, page.labels[0], len(page.annotations))",
]


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab with a notebook ``draw.ipynb`` and a folder of photos."""
    for needed in ("jupyterlab", "anywidget"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}: pip install jupyterlab anywidget")
    make_photos(tmp_path / "work" / "photos", 2)
    add_ducks(tmp_path / "work" / "photos")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "work" / "draw.ipynb")
    port = free_port()
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=secret"]
    command = [sys.executable, "-m", "jupyterlab", *options, "--LabApp.news_url=", "--expose-app-in-browser"]
    settings = {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "IPYTHONDIR": str(tmp_path / "ipython")}
    with (tmp_path / "jupyter.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path / "work", env=os.environ | settings, stdout=log, stderr=log
        )
        try:
            until_it_answers(f"http://127.0.0.1:{port}/api?token=secret", server)
            yield f"http://127.0.0.1:{port}/lab/tree/draw.ipynb?token=secret"
        finally:
            server.terminate()
            server.wait(LONG)


def add_ducks(folder: Path) -> None:
    """Five photos of ducks in which boxes are drawn, and two that nobody has looked at."""
    train, test = DUCKS
    project = Project(folder)
    for number, image in enumerate([*train, test.images[9], test.images[8]], start=1):
        shutil.copy(image.path, folder / f"z_duck{number}.jpg")
        if number <= len(train):
            boxes = [DrawnBox(f"box{at}", box) for at, box in enumerate(image.boxes)]
            project.change_photo(f"z_duck{number}.jpg", put=boxes, reviewed=True)


def until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert server.poll() is None, "JupyterLab has ended; see jupyter.log"
        try:
            with urllib.request.urlopen(url, timeout=LONG):
                return True
        except OSError:
            return False

    wait_until(answers)


def test_draw_in_a_notebook(jupyter: str, tmp_path: Path, open_page: OpenPage) -> None:
    page = open_page(jupyter, expects_trouble=True, viewport={"width": 1400, "height": 1000})
    run_cell(page, 0)
    page.page.locator(".fewbox .stage canvas").first.wait_for()
    page.page.locator(".fewbox").scroll_into_view_if_needed()
    page.draw_mark()
    page.press("d", "d", "a")  # to the second photo; in the notebook's own keys "d" twice deletes a cell
    page.until_open("photo2.png")
    page.press("w", "b", "x")  # no cell below, no cell cut: a box, and that deleted
    page.until_saved()
    page.press("r", "r")
    page.until_saved()
    assert page.page.locator(".jp-Notebook .jp-CodeCell").count() == len(CELLS)

    # It learns from what is drawn, leads to the photo it is least sure of, and proposes.
    page.page.locator('.learning[data-state="ready"]').wait_for(state="attached")
    page.page.locator(".suggestion button", has_text="Least sure of").click()
    page.page.locator("h1", has_text="z_duck").wait_for()
    page.page.get_by_role("option", name="z_duck6.jpg").click()
    page.page.locator(".offers button").first.wait_for()
    page.press("Enter")
    page.until_saved()

    folder = tmp_path / "work" / "photos"
    of_duck = corners_of(DUCKS[1].images[9])
    for photo, expected, tolerance in (("photo1.png", MARK, 1), ("z_duck6.jpg", of_duck, 10)):
        ((label, box),) = boxes_in_file(folder, photo)
        assert label == "rubber_duck"
        assert_close(box, expected, tolerance)
    page.page.get_by_role("button", name="Finish").click()
    page.page.get_by_text("fewbox.finetune(page.annotations").wait_for()
    page.press("Escape")
    run_cell(page, 1)
    said = page.page.locator(".jp-OutputArea-output pre", has_text="found")
    said.wait_for()
    assert said.inner_text().strip() == "found (1, 4) (0, 4) ['rubber_duck'] 8"


def corners_of(image: AnnotatedImage) -> Corners:
    (box,) = image.boxes
    return (box.x1, box.y1, box.x2, box.y2)


def run_cell(page: PageDriver, number: int) -> None:
    cell = page.page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")
