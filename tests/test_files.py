"""What fewbox leaves in a folder, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewbox.core.files import require_writable
from fewbox.errors import OutputError

KILLED = """
import os, signal, sys
from pathlib import Path
from fewbox.core.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "cup.jpg")], check=False)
    (left,) = tmp_path.iterdir()
    require_writable(tmp_path / "other.jpg", [".jpg"])
    assert left.exists(), "another machine may be writing it"
    not_ours = [
        tmp_path / name for name in (".cup.tmp.jpg", ".cup.x1.tmp.jpg", "cup.1.tmp.jpg", ".cup.1.jpg")
    ]
    running = tmp_path / f".film.{os.getpid()}.tmp.mp4"
    for path in (*not_ours, running):
        path.write_text("kept")
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 4000,) * 2)
    require_writable(tmp_path / "other.jpg", [".jpg"])
    assert set(tmp_path.iterdir()) == {*not_ours, running}


def test_a_folder_is_made_only_when_something_is_written(tmp_path: Path) -> None:
    require_writable(tmp_path / "deep" / "below" / "cup.jpg", [".jpg"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"cup\.jpg: cannot be written"):
        require_writable(tmp_path / "file" / "cup.jpg", [".jpg"])
