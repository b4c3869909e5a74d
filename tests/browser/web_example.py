"""The page of examples/web as a person sets it up: ``npm install``, then ``python -m http.server``."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import fewbox.apps.annotate
from fewbox.export.onnx import export_base
from fewbox.models.base import load_base
from made_once import made_once

SOURCE = Path(__file__).parents[2] / "examples/web"
_FOR_NPM = ("package.json", "package-lock.json", "copy_runtime.js")
_NPM_SECONDS = 180


def install_page(folder: Path) -> Path:
    """A copy of the page with onnxruntime-web beside it; skips where that cannot be had."""
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in _FOR_NPM)).hexdigest()
    installed = made_once(f"npm_{digest[:16]}", _install)
    unlike_a_clone = shutil.ignore_patterns("node_modules", "runtime", "*.onnx")
    shutil.copytree(SOURCE, folder, ignore=unlike_a_clone)
    shutil.copytree(installed / "runtime", folder / "runtime")
    (folder / "node_modules").symlink_to(installed / "node_modules")
    return folder


def built_page() -> Path:
    """The folder that ``npm install`` and ``npm run build`` make, with the starter; only to read."""
    shared_with = Path(fewbox.apps.annotate.__file__).parent / "page"
    digest = hashlib.sha256()
    for file in sorted(path for folder in (SOURCE, shared_with) for path in folder.rglob("*")):
        if file.is_file() and "node_modules" not in file.parts and "runtime" not in file.parts:
            digest.update(f"{file}\n".encode() + file.read_bytes())

    def build(folder: Path) -> None:
        page = install_page(folder / "page")
        shutil.copy(starter_base(), page)
        subprocess.run(["node", "build.js", str(shared_with)], cwd=page, check=True)

    return made_once(f"page_{digest.hexdigest()[:16]}", build) / "page"


def starter_base() -> Path:
    """The starter, as the page takes what it learns from."""

    def make(folder: Path) -> None:
        export_base(load_base("starter"), folder / "base.onnx")

    return made_once("base_of_starter", make) / "base.onnx"


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, which fetches onnxruntime-web")
    for name in _FOR_NPM:
        shutil.copy(SOURCE / name, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"needs onnxruntime-web, which npm did not fetch in {_NPM_SECONDS} s")
    if done.returncode != 0 and "npm error network" in done.stderr:
        pytest.skip("needs onnxruntime-web, and npm reaches no registry")
    assert done.returncode == 0, done.stderr


_KEEP_RUNTIME = """async () => {
  const { fetchUnpacked } = await import("/packed.js");
  const bytes = await fetchUnpacked("/runtime/ort-wasm-simd-threaded.wasm.gz");
  window.runtime = await WebAssembly.compile(bytes);
}"""


def keeper_of(page: Any, site: str, *, runtime: bool = True) -> Any:
    """A page of the same window that stays open, at a picture of the site.

    With ``runtime`` it has compiled onnxruntime-web. Chromium then compiles it for no other page, nor makes
    what runs often quicker once more, which together take a page 2 s of processor time.
    """
    address = f"{site}icon.svg"
    keeper = next((other for other in page.context.pages if other.url == address), None)
    if keeper is None:
        keeper = page.context.new_page()
        keeper.goto(address)
    if runtime and not keeper.evaluate("() => Boolean(window.runtime)"):
        keeper.evaluate(_KEEP_RUNTIME)
    return keeper


@contextmanager
def served(folder: Path, held: Mapping[str, threading.Event] = MappingProxyType({})) -> Iterator[str]:
    """The address at which Python's own server serves a folder.

    A path in ``held`` is answered once the path's event is set.
    """

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in held:
                held[self.path].wait()
            with suppress(OSError):  # the page may be gone
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
