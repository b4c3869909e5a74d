"""The page in a real Chromium, talking to the real server. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up_learner import MadeUpLearner
from page_driver import PageDriver

from fewbox.apps.annotate.app import AnnotateServer
from fewbox.data.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# No graphics card, no sandbox (which root may not have), no request that the page did not make; a camera
# that is made up.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
]


@pytest.fixture(scope="module")  # not longer: while it runs, no other test could run an event loop
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    if CHROMIUM is None:
        pytest.skip("needs chromium (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))  # the tokens are kept there


@pytest.fixture
def learner() -> MadeUpLearner:
    return MadeUpLearner()


@pytest.fixture
def serve(learner: MadeUpLearner) -> Iterator[Callable[[Path], str]]:
    """Serve the photos of a folder, and return the address of the page."""
    running: list[tuple[AnnotateServer, threading.Thread]] = []

    def start(folder: Path) -> str:
        server = AnnotateServer(Project(folder), learner, port=0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        return server.url

    yield start
    for server, thread in running:
        server.stop()
        thread.join(10)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., PageDriver]]:
    """Open an address in a browser window of its own; whatever goes wrong in the page fails the test."""
    opened: list[tuple[BrowserContext, list[str]]] = []

    def start(url: str, *, expects_trouble: bool = False, **options: object) -> PageDriver:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 760}, **options})
        context.set_default_timeout(20_000)
        problems: list[str] = []
        opened.append((context, [] if expects_trouble else problems))
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("console", lambda said: said.type == "error" and problems.append(f"console: {said.text}"))
        page.on("request", lambda asked: _note_foreign(asked.url, url, problems))
        page.goto(url)
        return PageDriver(page)

    yield start
    for context, problems in opened:
        context.close()
        assert not problems


def _note_foreign(asked: str, url: str, problems: list[str]) -> None:
    if not asked.startswith((url.split("?")[0], "blob:", "data:")):
        problems.append(f"asked somebody else: {asked}")
