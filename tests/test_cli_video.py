"""``fewbox detect`` with videos, as a person meets it."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from fewbox.cli import main
from fewbox.detection.detector import Detector
from films import images_of, picture, times_of, write_film
from tiny_yolox import random_yolox, tiny_yolox_config

LOW = "0.02"  # scores of random weights are low


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = tiny_yolox_config()
    weights = random_yolox(config).state_dict()
    path = tmp_path_factory.mktemp("detector") / "d.safetensors"
    Detector(
        config=config, weights=weights, labels=("a", "b", "c"), base={"name": "tiny"}, provenance={}
    ).save(path)
    return str(path)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_film(tmp_path_factory.mktemp("film") / "film.mp4"))


@pytest.mark.slow
def test_a_film(detector: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "boxes.mp4"
    assert main(["detect", detector, film, "-o", str(out), "--threshold", LOW, "--every", "5"]) == 0
    assert f" in 50 frames (2.0 s): {out}, {tmp_path / 'boxes_tracks.csv'}" in capsys.readouterr().out
    assert len(images_of(out)) == 50
    rows = list(csv.DictReader((tmp_path / "boxes_tracks.csv").open()))
    assert {row["label"] for row in rows} <= {"a", "b", "c"}
    assert {int(row["frame"]) % 5 for row in rows if row["score"]} == {0}


def test_photos_in_a_row_by_pattern(detector: str, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    arguments = ["detect", detector, str(tmp_path / "*.png"), "-o", str(tmp_path / "boxes.mov")]
    assert main([*arguments, "--fps", "2", "--no-tracking"]) == 0
    assert [float(moment) for moment in times_of(tmp_path / "boxes.mov")] == [0, 0.5, 1]


def test_a_gif_is_a_photo_for_a_folder_and_a_video_for_a_video(detector: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(10 * number)) for number in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert main(["detect", detector, str(tmp_path / "a.gif"), "-o", str(tmp_path / "found")]) == 0
    assert (tmp_path / "found" / "a.gif.png").exists()
    assert main(["detect", detector, str(tmp_path / "a.gif"), "-o", str(tmp_path / "a.mp4")]) == 0
    assert len(images_of(tmp_path / "a.mp4")) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["film.mp4", "-o", "found"], "film.mp4: the result of a video is a video, not a folder: found"),
        (["0", "-o", "found"], "0: the result of a video is a video"),
        (["rtsp://camera/1", "-o", "found"], "rtsp://camera/1: the result of a video is a video"),
        (["photos", "-o", "found", "--every", "2"], "--every is for videos"),
        (["photos", "-o", "found", "--no-tracking"], "--no-tracking is for videos"),
        (["a.mp4", "b.mp4", "-o", "c.mp4"], "one video at a time: a.mp4, b.mp4"),
        (["a.mp4", "-o", "c.mp4", "--gif", "c.gif"], "--gif is for photos"),
        (["photos", "-o", "c.mp4", "--fps", "0"], "--fps must be a number from 0.01 to 1000: 0.0"),
        (["film.mp4", "-o", "c.webm"], "c.webm: a video cannot be written in this format"),
        (["film.mp4", "-o", "c.GIF"], "c.GIF: a video cannot be written in this format"),
        (["photos", "-o", "c.avi"], "c.avi: a video cannot be written in this format"),
        (
            ["photos", "-o", "c.csv", "--engine-cluster", "processes"],
            "--engine-cluster is for a run into tables",
        ),
        (["none.mp4", "-o", "c.mp4"], "none.mp4: no such file"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detect", "d.safetensors", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def endless_camera(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a camera that shows a second and a half and then waits; and how to switch it off."""
    data = write_film(tmp_path / "camera.ts", audio=False).read_bytes()
    server = socket.create_server(("127.0.0.1", 0))
    off = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + data[: len(data) * 3 // 4])
            off.wait(60)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/camera.ts", off.set
    off.set()
    server.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
def test_ctrl_c_closes_a_film_that_can_be_played(
    detector: str, endless_camera: tuple[str, Callable[[], None]], tmp_path: Path
) -> None:
    address, switch_off = endless_camera
    out = tmp_path / "out" / "boxes.mp4"
    command = [sys.executable, "-m", "fewbox.cli", "detect", detector, address, "-o", str(out)]
    process = subprocess.Popen([*command, "--threshold", LOW], stdout=subprocess.PIPE, text=True)
    while not any(table.stat().st_size > 200 for table in out.parent.glob(".*.csv")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    switch_off()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    frames = len(images_of(out))
    assert frames > 0
    assert f"{frames} frame" in printed
    assert "stopped by Ctrl-C" in printed
    assert sorted(path.name for path in out.parent.iterdir()) == ["boxes.mp4", "boxes_tracks.csv"]
