"""Take the pictures of the annotation page for the docs, on rendered ducks and with real proposals.

    python tools/page_screenshots.py docs/images        about three minutes

Needs Chromium. The picture in a notebook is taken only where JupyterLab is installed, those of the page that
learns only where it is built: npm install --prefix examples/web && npm run build --prefix examples/web
"""

from __future__ import annotations

import argparse
import functools
import http.server
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from renderer import render_ducks

DRAWN = 4
"""Photos whose boxes are drawn before the first picture."""
NOTEBOOK_PORT = 8897
WEB_PAGE = Path(__file__).parents[1] / "examples/web"
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


def main() -> None:
    """Render, serve, open, take."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as try; all of them if not given")
    parsed = parser.parse_args()
    parsed.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as running:
        folder = make_project(Path(temporary))
        film = Path(temporary) / "camera.mjpeg"  # what the camera sees
        film.write_bytes((folder / "duck9.jpg").read_bytes())
        camera = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", *camera]
        )

        def take(name: str, url: str, act: Callable[[Any], None], **options: Any) -> None:
            if parsed.only and name not in parsed.only:
                return
            page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **options})
            page.goto(url)
            act(page)
            page.wait_for_timeout(800)
            whose = "" if name.startswith("web") else "annotate-"
            save(page.screenshot(), parsed.output / f"{whose}{name}.png")
            page.close()

        command = ["-m", "fewbox.cli", "annotate", folder.name, "--no-browser", "-o", "duck.safetensors"]
        with served([sys.executable, *command], Path(temporary)) as url:
            take("proposals", url, show_proposals, color_scheme="dark")
            take("editing", url, edit_a_box, color_scheme="light")
            phone = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}
            take("phone", url, show_proposals, color_scheme="light", device_scale_factor=2, **phone)
            take("question", url, ask_about_proposals, color_scheme="light")
            take("try", url, partial(try_photos, Path(temporary) / "others"), color_scheme="light")
            take("finish", url, lambda page: page.locator(".finish").click(), color_scheme="light")
            size = {"viewport": {"width": 1280, "height": 1250}}
            take("result", url, fine_tune, color_scheme="light", **size)
        if (WEB_PAGE / "offline.json").exists():
            with served_folder(WEB_PAGE) as url:
                teach = partial(teach_in_browser, folder)
                take("web-learn", url, teach, color_scheme="light")
                take("web-learn-phone", url, teach, color_scheme="dark", **PHONE)
                options = {"color_scheme": "dark", "permissions": ["camera"]}
                take("web-learn-camera", url, partial(take_photos, folder), **options)
        if importlib.util.find_spec("jupyterlab") is not None:
            options = [f"--port={NOTEBOOK_PORT}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
            os.environ["JUPYTER_CONFIG_DIR"] = str(Path(temporary) / "config")  # always a first start
            with served([sys.executable, "-m", "jupyterlab", *options], Path(temporary)):
                url = f"http://127.0.0.1:{NOTEBOOK_PORT}/lab/tree/ducks.ipynb?reset"
                take("notebook", url, run_the_notebook, color_scheme="light")
        browser.close()


def make_project(parent: Path) -> Path:
    """Photos of ducks, in the first of which somebody has drawn the boxes; and a notebook beside them."""
    more, ducks = render_ducks(parent / "rendered", num_train=2, num_test=12, size_hw=(720, 960))
    folder = parent / "ducks"
    folder.mkdir()
    for number, image in enumerate(ducks, start=1):
        shutil.copy(image.path, folder / f"duck{number}.jpg")
    others = parent / "others"
    others.mkdir()
    for number, image in enumerate(more.images, start=1):
        shutil.copy(image.path, others / f"pond{number}.jpg")
    project = Project(folder)
    with project.editing() as content:
        content.add_labels([*ducks.labels, "pond"])
    for number, image in enumerate(ducks.images[:DRAWN], start=1):
        boxes = [DrawnBox(f"box{at}", box) for at, box in enumerate(image.boxes)]
        project.change_photo(f"duck{number}.jpg", put=boxes, reviewed=True)
    cell = 'import fewbox\n\npage = fewbox.annotate("ducks")\npage'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, parent / "ducks.ipynb")
    return folder


@contextmanager
def served(command: list[str], folder: Path) -> Iterator[str]:
    """Run a server and give the first address it prints."""
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = ""
        while "http://" not in said:
            said = next(server.stdout)
        yield said.split()[-1]
    finally:
        server.terminate()
        server.wait()


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """Serve the page that learns, as any server of static files does."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/learn.html"
    server.shutdown()


def teach_in_browser(folder: Path, page: Any) -> None:
    """Add photos with the boxes of the first ones, and go to where something is proposed."""
    files = [folder / "annotations.json", *sorted(folder.glob("duck[1-8].jpg"))]
    page.locator("#project-files").set_input_files([str(file) for file in files])
    page.locator('.learning[data-state="ready"]').wait_for(timeout=240_000, state="attached")
    for _ in range(5):
        page.keyboard.press("d")
        page.wait_for_timeout(500)
    page.locator(".offers button").first.wait_for()


def take_photos(folder: Path, page: Any) -> None:
    """Take the first photos with the camera, and wait for the countdown to the next."""
    page.locator("#photo-files").set_input_files(str(folder / "duck1.jpg"))
    page.locator("h1", has_text="duck1").wait_for()
    page.get_by_role("button", name="Take photos").click()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("2 photos taken").wait_for()
    page.locator("#shooting output", has_text="2").wait_for()


def show_proposals(page: Any) -> None:
    """Wait until it has learnt, and go to the first photo where something is proposed."""
    page.locator('.learning[data-state="ready"]').wait_for(timeout=240_000, state="attached")
    while not page.locator(".offers button").count():
        page.keyboard.press("d")
        page.wait_for_timeout(1500)
    page.mouse.move(640, 300)


def try_photos(folder: Path, page: Any) -> None:
    """Look at photos from elsewhere, and take the first one in."""
    page.locator('.learning[data-state="ready"]').wait_for(timeout=240_000, state="attached")
    page.keyboard.press("t")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Choose photos").click()
    chosen.value.set_files(sorted(folder.iterdir()))
    buttons = page.get_by_role("dialog").get_by_role("button", name="Take it in")
    buttons.nth(1).wait_for(timeout=120_000)
    buttons.first.click()
    page.get_by_text("In the project as").wait_for()


def ask_about_proposals(page: Any) -> None:
    """Press Space where something is proposed that nobody has decided on."""
    show_proposals(page)
    page.keyboard.press(" ")
    page.locator(".asks button").first.wait_for()


def fine_tune(page: Any) -> None:
    """Make the detector, and go down to what has come of it."""
    page.locator(".finish").click()
    page.get_by_role("button", name="Fine-tune now").click()
    page.locator(".held-out").wait_for(timeout=240_000)
    page.wait_for_function("document.querySelector('.held-out').naturalWidth > 0")
    page.locator(".result").evaluate("result => result.scrollIntoView()")


def edit_a_box(page: Any) -> None:
    """Select a box and hold one of its corners."""
    page.get_by_role("option", name="duck2.jpg").click()
    page.locator(".of-photo .row").first.wait_for()
    page.wait_for_timeout(500)
    page.keyboard.press("Tab")


def run_the_notebook(page: Any) -> None:
    """Run the one cell, and go to where something is proposed."""
    page.locator(".jp-CodeCell .jp-InputArea-editor").first.click(timeout=90_000)
    page.keyboard.press("Control+Enter")
    page.locator(".fewbox .thumbnail[src]").first.wait_for(timeout=90_000)
    page.get_by_role("button", name="No", exact=True).click()  # no news
    page.locator(".fewbox .thumbnail").first.click()  # the keys are the page's
    page.locator(".fewbox").scroll_into_view_if_needed()
    show_proposals(page)
    page.wait_for_timeout(6000)  # until it has looked at all of them
    page.keyboard.press("g")  # to the photo it is least sure of
    page.wait_for_timeout(1500)
    page.mouse.move(640, 14)


def save(picture: bytes, path: Path) -> None:
    """Write a picture in few bytes: 256 colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(palette=image.quantize(256)).save(path, optimize=True)  # with a palette, it dithers
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
