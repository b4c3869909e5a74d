"""The pure modules of the annotation page: their tests run in node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from waiting import LONG

TESTS = Path(__file__).parent / "page"


@pytest.mark.slow
def test_modules_in_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, version 20 or newer, to run the tests of the page's modules")
    imports = "".join(f"await import({path.as_uri()!r});\n" for path in sorted(TESTS.glob("*.test.js")))
    command = [node, "--input-type=module", "--eval", imports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
