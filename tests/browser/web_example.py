"""The page of examples/web as a person sets it up: ``npm install``, then ``python -m http.server``."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which Python's own server serves a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
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
