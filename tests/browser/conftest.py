"""The page in a real Chromium, talking to the real server. Skipped where there is no Chromium."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest
from page_driver import PageDriver
from teach_driver import BASES, FORGET, until_it_runs
from web_example import built_page, keeper_of, served

from fewbox.apps.annotate.app import AnnotateServer
from fewbox.data import demo_photos
from fewbox.data.project import Project
from made_up_learner import MadeUpLearner
from waiting import LONG

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# In each window Chromium draws, unseen, two pages that it might show below its address bar: a quarter of its
# work. The other features are those that playwright turns off here, since of two such lists the last counts.
FEATURES_OFF = [
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
]
# No graphics card, no sandbox (which root may not have), no request that the page did not make; one process
# for all pages of a window, as a new one for each costs more than a tenth of a second; a camera that is made
# up, and shows a film.
ARGUMENTS = [
    f"--disable-features={','.join(FEATURES_OFF)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--process-per-site",
    "--disable-site-isolation-trials",
    "--use-fake-device-for-media-stream",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests in this folder are slow: a page costs Chromium a second of processor time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, AbstractEventLoop]]:
    """One for all files, as it takes a second to start, and the event loop of what drives it.

    Playwright has its loop marked as running between any two calls, and then no test of another file could
    run one. So it is marked only while the tests of a file here run.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    if CHROMIUM is None:
        pytest.skip("needs chromium (on Debian: apt-get install chromium)")
    film = tmp_path_factory.mktemp("camera") / "duck.mjpeg"  # what the camera sees: a duck that does not move
    film.write_bytes(demo_photos()[1].images[0].path.read_bytes())
    with playwright.sync_playwright() as running:
        seen = f"--use-file-for-fake-video-capture={film}"
        browser = running.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, seen])
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()


@pytest.fixture(scope="module")
def browser(chromium: tuple[Browser, AbstractEventLoop]) -> Iterator[Browser]:
    """Chromium for the tests of one file, which leave nothing to those of the next."""
    browser, loop = chromium
    asyncio._set_running_loop(loop)
    yield browser
    for context in browser.contexts:
        context.close()
    asyncio._set_running_loop(None)


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
        thread.join(LONG)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def idle_pages() -> dict[str, Page]:
    """Pages that a test before has gone from, by their options: one for each test costs a second."""
    return {}


@pytest.fixture
def open_page(browser: Browser, idle_pages: dict[str, Page]) -> Iterator[Callable[..., PageDriver]]:
    """Open an address in a browser window; whatever goes wrong in the page fails the test.

    Every server has a port of its own, so that a page keeps nothing for the next test that goes there. One
    that ``expects_trouble`` may hear of errors. ``before`` is called with the window before it goes there.
    """
    opened: list[Callable[[], None]] = []
    problems: list[str] = []

    def start(
        url: str,
        *,
        expects_trouble: bool = False,
        permissions: Sequence[str] = (),
        before: Callable[[Page], object] = lambda _: None,
        **options: object,
    ) -> PageDriver:
        kind = repr(sorted(options.items()))
        page = idle_pages.pop(kind, None)
        if page is None:
            context = browser.new_context(**{"viewport": {"width": 1100, "height": 760}, **options})
            context.set_default_timeout(1000 * LONG)
            page = context.new_page()
        heard = [] if expects_trouble else problems
        listeners = {
            "pageerror": lambda error: heard.append(f"error: {error}"),
            "console": lambda said: (
                said.type == "error" and heard.append(f"console: {said.text} {said.location}")
            ),
            "request": lambda asked: _note_foreign(asked.url, url, heard),
        }
        for event, listener in listeners.items():
            page.on(event, listener)

        def leave() -> None:
            if kind in idle_pages or page.is_closed():
                page.context.close()
                return
            page.evaluate("() => sessionStorage.clear()")  # sooner or later another server has this port
            page.goto("about:blank")
            page.unroute_all()
            page.context.set_offline(False)
            page.context.clear_permissions()
            for event, listener in listeners.items():
                page.remove_listener(event, listener)
            idle_pages[kind] = page

        opened.append(leave)
        page.context.grant_permissions(list(permissions))
        before(page)
        page.bring_to_front()  # one behind another is drawn once a second
        page.goto(url)
        return PageDriver(page)

    yield start
    for leave in opened:
        leave()
    assert not problems


def _note_foreign(asked: str, url: str, problems: list[str]) -> None:
    if not asked.startswith((urljoin(url, "/"), "blob:", "data:", "about:")):
        problems.append(f"asked somebody else: {asked}")


@pytest.fixture(scope="session")
def held() -> dict[str, threading.Event]:
    """Paths that ``teach_site`` answers only once their event is set."""
    return {}


@pytest.fixture(scope="session")
def teach_site(chromium: object, held: dict[str, threading.Event]) -> Iterator[str]:  # noqa: ARG001 - or it skips
    """The address of examples/web, as ``npm install`` and ``npm run build`` make it."""
    with served(built_page(), held) as url:
        yield url


@pytest.fixture
def bases_come(held: dict[str, threading.Event]) -> Iterator[threading.Event]:
    """For a page opened without a base: it comes once this is set, at the latest when the page is gone."""
    come = threading.Event()
    yield come
    come.set()
    held.clear()


@pytest.fixture
def open_teach(
    bases_come: threading.Event,  # before open_page, to end after it
    open_page: Callable[..., PageDriver],
    teach_site: str,
    held: dict[str, threading.Event],
) -> Callable[..., PageDriver]:
    """Open the page that learns; a request to anybody but its own server fails the test.

    Without ``base``, what is learnt from has not come yet, as on a slow network: the page does all but learn.
    Only with ``offline`` does it keep its files, to open without its server.
    """

    def start(*, base: bool = True, offline: bool = False, **options: object) -> PageDriver:
        if not base:
            held.update(dict.fromkeys(BASES, bases_come))

        def before(page: Page) -> None:
            keeper_of(page, teach_site, runtime=base and not offline).evaluate(FORGET)

        workers = "allow" if offline else "block"
        url = f"{teach_site}learn.html"
        driver = open_page(url, before=before, service_workers=workers, **options)
        until_it_runs(driver)
        return driver

    return start
