"""What fewbox leaves in a folder, and what it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fewbox.core.files import TABLE_HEAD, new_folder, replacing, require_writable, write_text
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
    running = tmp_path / f".cup.{os.getpid()}.tmp.jpg"
    of_use = [tmp_path / f".film.4711.tmp{suffix}" for suffix in (".mp4", ".m4v", ".mov", ".MKV", ".csv")]
    for path in (*not_ours, running, *of_use):
        path.write_text(f"{TABLE_HEAD}\n0,0.00" if path.suffix == ".csv" else "kept")
    (tmp_path / ".counts.4711.tmp.csv").write_text("photo,duck\n")
    (tmp_path / ".film_tracks.4711.tmp.csv").touch()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 4000,) * 2)
    require_writable(tmp_path / "other.jpg", [".jpg"])
    assert set(tmp_path.iterdir()) == {*not_ours, running, *of_use}


def test_a_folder_is_made_only_when_something_is_written(tmp_path: Path) -> None:
    require_writable(tmp_path / "deep" / "below" / "cup.jpg", [".jpg"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"cup\.jpg: cannot be written"):
        require_writable(tmp_path / "file" / "cup.jpg", [".jpg"])


def test_the_folder_one_is_in_is_filled_if_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for target in (".", "../here"):
        with new_folder(target) as folder:
            (folder / "labels").mkdir()
            (folder / "labels" / "1.txt").write_text("1")
            (folder / "data.yaml").write_text("")
        assert {path.name for path in Path().iterdir()} == {
            "data.yaml",
            "labels",
        }  # the very folder, not one in its place
        assert list(tmp_path.iterdir()) == [here]
        assert Path("labels/1.txt").read_text() == "1"
        for again in (".", "..", "/"):
            with pytest.raises(OutputError, match="the folder is not empty"), new_folder(again):
                pass
        shutil.rmtree("labels")
        Path("data.yaml").unlink()
    with pytest.raises(ZeroDivisionError), new_folder("."):
        _ = 1 / 0
    assert not list(here.iterdir())


def test_two_threads_write_one_file_and_each_of_them_whole(tmp_path: Path) -> None:
    target = tmp_path / "cup.txt"
    with replacing(target) as first:
        first.write_text("first")
        with ThreadPoolExecutor(1) as other:
            other.submit(write_text, target, "second").result()
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_two_threads_fill_one_folder_and_the_second_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "labels"

    def fill() -> None:
        with new_folder(target) as folder:
            (folder / "cup.txt").write_text("second")

    def fill_while_another_does() -> None:
        with new_folder(target) as folder, ThreadPoolExecutor(1) as other:
            (folder / "cup.txt").write_text("first")
            other.submit(fill).result()

    with pytest.raises(OutputError, match="cannot be written"):
        fill_while_another_does()
    assert [path.read_text() for path in target.iterdir()] == ["second"]


@pytest.fixture
def private() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
@pytest.mark.usefixtures("private")
def test_threads_that_write_leave_the_umask_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    umask = os.umask

    def slow(mask: int) -> int:
        before = umask(mask)
        time.sleep(0.05)  # time for the other thread
        return before

    monkeypatch.setattr(os, "umask", slow)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: write_text(tmp_path / name, "private"), ("a.txt", "b.txt")))
    monkeypatch.undo()
    assert os.umask(0o077) == 0o077, "files made from now on would be readable for all"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("target", [3, None, ["held_out.jpg"]])
def test_what_is_no_path_is_refused_before_the_work(target: object) -> None:
    with pytest.raises(OutputError, match="the file to write is given by its path, not as"):
        require_writable(target, [".jpg"])  # type: ignore[arg-type]
