"""The pure modules of the annotation page: their tests run in node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted((Path(__file__).parent / "page").glob("*.test.js"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_in_node(path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, version 20 or newer, to run the tests of the page's modules")
    done = subprocess.run([node, "--test", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
