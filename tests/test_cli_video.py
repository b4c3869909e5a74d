"""``fewbox detect`` with videos, as a person meets it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewbox.cli import build_parser, main
from fewbox.commands.detect_video import _stem, is_for_video
from fewbox.detection.detector import Detector
from fewbox.errors import VideoError
from fewbox.video.reader import Frame, open_film
from films import TICKS, images_of, picture, times_of, write_film
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG
from web_server import serving

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


def test_who_wants_a_table_of_photos_is_told_of_what_it_is(
    detector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    arguments = ["detect", detector, str(tmp_path / "*.png"), "--threshold", LOW]
    assert main([*arguments, "-o", str(tmp_path / "counts.csv")]) == 0
    told = capsys.readouterr().err
    assert "the photos are taken for the frames of one film" in told
    assert f"name a folder: -o {tmp_path / 'counts'}, and see counts.csv in it" in told
    assert main([*arguments, "-o", str(tmp_path / "counts")]) == 0
    assert (tmp_path / "counts" / "counts.csv").read_text().startswith("photo,a,b,c\n0.png,")
    assert main([*arguments, "-o", str(tmp_path / "row.csv"), "--fps", "5"]) == 0
    assert "taken for" not in capsys.readouterr().err  # who says how fast they come means a film


def test_photos_in_a_row_into_a_table_need_no_pyav_whatever_lies_beside_it(
    detector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    (tmp_path / "row.mp4").write_bytes(b"a film")
    monkeypatch.setitem(sys.modules, "av", None)
    target = tmp_path / "row_tracks.csv"
    assert main(["detect", detector, str(tmp_path / "*.png"), "-o", str(target), "--fps", "5"]) == 0
    assert f": {target}" in capsys.readouterr().out


def test_a_photo_in_a_row_that_cannot_be_read_is_told_in_the_end(
    detector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no photo")
    assert main(["detect", detector, str(tmp_path), "-o", str(tmp_path / "row.mp4")]) == 2
    assert capsys.readouterr().out.endswith("1 of 3 photos could not be read: 2.png\n")
    assert (tmp_path / "row.mp4").exists()


def test_a_gif_is_a_photo_for_a_folder_and_a_video_for_a_video(detector: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(10 * number)) for number in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert main(["detect", detector, str(tmp_path / "a.gif"), "-o", str(tmp_path / "found")]) == 0
    assert (tmp_path / "found" / "a.gif.png").exists()
    assert main(["detect", detector, str(tmp_path / "a.gif"), "-o", str(tmp_path / "a.mp4")]) == 0
    assert len(images_of(tmp_path / "a.mp4")) == 3


@pytest.mark.parametrize(("stated", "shown_ms"), [({}, 100), ({"duration": 250}, 250)])
def test_each_picture_of_a_gif_is_a_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stated: dict[str, int], shown_ms: int
) -> None:
    """FFmpeg takes those that state no time for one."""
    frames = [Image.fromarray(np.full((40, 60, 3), 40 * number, np.uint8)) for number in range(6)]
    frames[0].save(tmp_path / "a.GIF", save_all=True, append_images=frames[1:], **stated)
    source = open_film(str(tmp_path / "a.GIF"))
    seen = [item for item in source if isinstance(item, Frame)]
    assert [frame.image[20, 30].tolist() for frame in seen] == [[40 * number] * 3 for number in range(6)]
    assert [round(1000 * frame.time_s) for frame in seen] == [shown_ms * number for number in range(6)]
    assert (source.total, source.size_hw, source.rate) == (6, (40, 60), Fraction(1000, shown_ms))
    assert "first of its frames" not in capsys.readouterr().err
    whole = (tmp_path / "a.GIF").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) * 7 // 10])
    assert 1 < len(list(open_film(str(tmp_path / "cut.gif")))) < 6
    assert "cut off" in capsys.readouterr().err
    (tmp_path / "b.gif").write_bytes(whole[:20])
    with pytest.raises(VideoError, match=r"b\.gif"):
        open_film(str(tmp_path / "b.gif"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.mp4", "-o", "a.jpg"], "a.mp4: the result of a video is a video, a table or a folder: a.jpg"),
        (["0", "-o", "found.json"], "0: the result of a video is a video"),
        (["photos", "a.mp4", "-o", "found"], "photos and videos in one run: photos, a.mp4"),
        (["a.mp4", "-o", "found", "--gif", "c.gif"], "--gif is for photos, not for a.mp4"),
        (["a.mp4", "-o", "found", "--mirror"], "--mirror is for photos, not for a.mp4"),
        (["a.mp4", "-o", "t", "--engine-cluster", "processes"], "--engine-cluster is for photos, not for a"),
        (["x/a.mp4", "y/a.mov", "-o", "found"], "two videos have one name: x/a.mp4 and y/a.mov"),
        (["photos", "-o", "found", "--confirm", "2"], "--confirm is for videos"),
        (["photos", "-o", "found", "--count-line", "0,0,1,1"], "--count-line is for videos"),
        (["photos", "-o", "found", "--count-zone", "0,0,1,1,1,0"], "--count-zone is for videos"),
        (["photos", "-o", "found", "--every", "2"], "--every is for videos"),
        (["photos", "-o", "found", "--no-tracking"], "--no-tracking is for videos"),
        (["a.mp4", "b.mp4", "-o", "c.mp4"], "one video at a time: a.mp4, b.mp4"),
        (["a.mp4", "-o", "c.mp4", "--gif", "c.gif"], "--gif is for photos"),
        (["photos", "-o", "c.mp4", "--fps", "0"], "--fps must be a number from 0.01 to 1000: 0.0"),
        (["a.mp4", "-o", "c.mp4", "--fps", "5"], "--fps is for photos in a row, not for a.mp4"),
        (["a.mp4", "-o", "found", "--fps", "5"], "--fps is for photos in a row, not for a.mp4"),
        (["a.mp4", "-o", "c.csv", "--confirm", "3", "--no-tracking"], "--confirm numbers objects, and --no"),
        (["film.mp4", "-o", "c.webm"], "c.webm: a video cannot be written in this format"),
        (["film.mp4", "-o", "c.GIF"], "c.GIF: a video cannot be written in this format"),
        (["photos", "-o", "c.avi"], "c.avi: a video cannot be written in this format"),
        (
            ["photos", "-o", "c.csv", "--engine-cluster", "processes"],
            "--engine-cluster is for a run into tables",
        ),
        (["none.mp4", "-o", "c.mp4"], "none.mp4: no such file"),
        (
            ["film.mp4", "-o", "found", "--workers", "2"],
            "--workers is for a run with many workers\nhint: leave",
        ),
        (["film.mp4", "-o", "c.mp4", "--shard-size", "9"], "--shard-size is for a run with many workers"),
        (["film.mp4", "-o", "c.mp4", "--retry-failed"], "only for a run with many workers: --retry-failed"),
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


def test_the_help_says_which_options_are_for_photos_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["detect", "--help"])
    said = "".join(capsys.readouterr().out.split())  # lines are broken at hyphens too
    for begin in ("--gifFILEalsomake", "--mirrorlookateach"):
        assert "notforvideosor--engine-cluster" in said.partition(begin)[2][:120]


def test_a_webcam_may_be_called_as_linux_does() -> None:
    parsed = build_parser().parse_args(["detect", "d.safetensors", "/dev/video63", "-o", "found"])
    assert is_for_video(parsed)
    assert parsed.photos == ["63"]


@pytest.mark.slow
def test_several_films_go_to_a_folder_as_photos_do(
    detector: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_film(tmp_path / "other.mkv", ticks=range(0, 5120, 512), audio=False)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    found = tmp_path / "found"
    options = ["--threshold", LOW, "--every", "5", "--count-line", "0,0.5,1,0.5"]
    assert main(["detect", detector, film, str(broken), str(other), "-o", f"{found}/", *options]) == 2
    printed = capsys.readouterr()
    assert f"error: {broken}: not a video, or damaged or cut off" in printed.err
    assert printed.out.count("line: down 0, up 0") == 2
    assert printed.out.endswith("1 of 3 videos could not be read to their end\n")
    assert sorted(path.name for path in found.iterdir()) == [
        *("film.mp4", "film_tracks.csv", "film_tracks.json"),
        *("other.mkv", "other_tracks.csv", "other_tracks.json"),
    ]
    said = json.loads((found / "other_tracks.json").read_text())
    assert (said["video"], said["width"], said["height"], said["frames"]) == ("other.mkv", 160, 120, 10)
    assert said["counted"] == [{"line": [[0, 60], [160, 60]], "counts": {"down": {}, "up": {}}}]


def test_a_film_without_its_picture(detector: str, film: str, tmp_path: Path) -> None:
    assert main(["detect", detector, film, "-o", str(tmp_path), "--no-pictures", "--every", "25"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film_tracks.csv", "film_tracks.json"]


@pytest.mark.slow
def test_a_film_that_an_earlier_run_has_left_beside_the_new_table_is_told(
    detector: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", detector, film, "-o", str(tmp_path), "--every", "25"]
    assert main(command) == 0
    write_film(tmp_path / "film.mkv", audio=False)  # somebody's own
    assert main(command) == 0
    assert "earlier run" not in capsys.readouterr().err
    assert main([*command, "--no-pictures"]) == 0
    told = (
        "film.mp4: of an earlier run, and still there; its boxes may be others than those of film_tracks.csv"
    )
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--count-line", "0,0.5,160,0.5"],
            "--count-line: some numbers are parts of the frame and",
        ),
        (
            ["--count-line", "0,60,999,60"],
            "film.mp4: --count-line: outside the frame, which is 160x120: 0,60",
        ),
        (["--count-zone", "0,0,1,1"], "--count-zone: these numbers are no zone: 0,0,1,1"),
        (["--count-zone", "0,0,1,0,1,1", "--no-tracking"], "--count-zone counts objects by their numbers"),
        (["--confirm", "0"], "confirm must be a whole number from 1: 0"),
    ],
)
def test_settings_of_films_that_are_refused(
    detector: str,
    film: str,
    options: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["detect", detector, film, "-o", str(tmp_path / "found"), *options]) == 2
    assert f"error: {says}" in capsys.readouterr().err.replace(f"{Path(film).parent}{os.sep}", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["found", "boxes.mp4"])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--count-line", "abc"], "--count-line: not numbers with commas between them: abc"),
        (["--count-line", "0,0,90,0,90,90"], "--count-line: these numbers are no line: 0,0,90,0,90,90"),
        (["--count-zone", "0,0,1,1,1,0,0,1"], "--count-zone: a zone whose edges cross: 0,0,1,1,1,0,0,1"),
    ],
)
def test_what_is_no_line_or_zone_is_told_before_a_stream_is_opened(
    option: list[str],
    says: str,
    output: str,
    detector: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    streams = ["rtsp://127.0.0.1:9/a", "rtsp://127.0.0.1:9/b"][: 1 if output == "boxes.mp4" else 2]
    assert main(["detect", detector, *streams, "-o", str(tmp_path / output), *option]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {says}\n")
    assert "127.0.0.1" not in printed.err + printed.out


def test_a_line_has_to_fit_into_every_film(
    detector: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first is begun; of a stream that is known only when its turn comes, and the others go on."""
    found, small = tmp_path / "found", tmp_path / "small.gif"
    frames = [Image.fromarray(picture(number)).resize((80, 60)) for number in range(3)]
    frames[0].save(small, save_all=True, append_images=frames[1:])
    options = ["-o", str(found), "--every", "25", "--count-line", "0,100,80,100"]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    assert main(["detect", detector, str(broken), film, str(small), *options]) == 2
    says = "small.gif: --count-line: outside the frame, which is 80x60: 0,100,80,100"
    assert f"error: {tmp_path / says}" in capsys.readouterr().err
    assert not found.exists()
    with serving() as web:
        web.files["/small.gif"], web.kinds["/small.gif"] = small.read_bytes(), "image/gif"
        assert main(["detect", detector, f"{web.address}/small.gif", film, *options]) == 2
    printed = capsys.readouterr()
    assert f"error: {web.address}/{says}" in printed.err
    assert printed.out.endswith("1 of 2 videos could not be read to their end\n")
    assert sorted(path.name for path in found.iterdir()) == [
        "film.mp4",
        "film_tracks.csv",
        "film_tracks.json",
    ]


def test_results_do_not_go_among_the_films(
    detector: str, film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", detector, film, "-o", str(Path(film).parent)]) == 2
    assert "the results would lie among the videos" in capsys.readouterr().err
    assert [path.name for path in Path(film).parent.iterdir()] == ["film.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
def test_a_film_is_replaced_only_if_it_is_a_result(
    detector: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    theirs = write_film(tmp_path / f"their{suffix}", ticks=range(0, 5120, 512), audio=False)
    before = theirs.read_bytes()
    assert main(["detect", "missing.safetensors", film, "-o", str(theirs)]) == 2
    assert f"{theirs}: is there already, and does not say that fewbox" in capsys.readouterr().err
    assert theirs.read_bytes() == before
    command = ["detect", detector, str(theirs), "-o", str(tmp_path / f"ours{suffix}"), "--every", "25"]
    assert main(command) == main(command) == 0


@pytest.mark.slow
def test_films_and_tables_of_others_are_left_in_a_folder(
    detector: str, film: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_film(tmp_path / "other.mp4", ticks=range(0, 5120, 512), audio=False)
    found = tmp_path / "found"
    found.mkdir()
    for name in ("other.mp4", "other_tracks.csv", "other_tracks.json"):
        (found / name).write_bytes(b"photo,label\n")
        assert main(["detect", detector, film, str(other), "-o", str(found)]) == 2
        assert f"{found / name}: is there already, and does not say" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in found.iterdir()} == {name: b"photo,label\n"}
        (found / name).unlink()
    boxes = tmp_path / "boxes.csv"
    boxes.write_bytes(b"photo,label\n")
    assert main(["detect", detector, film, "-o", str(boxes)]) == 2
    assert boxes.read_bytes() == b"photo,label\n"
    command = ["detect", detector, str(other), "-o", str(found), "--no-pictures"]
    assert main(command) == main(command) == 0


def test_what_the_results_of_streams_are_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert _stem("0") == "webcam_0"
    assert _stem("rtsp://user:secret@camera.local:554/front.sdp?token=1") == "camera.local_554_front"
    assert _stem("films/duck.and.cup.mp4") == "duck.and.cup"


def test_what_a_web_server_calls_a_film_is_one(detector: str, tmp_path: Path) -> None:
    """As a camera's address ends in no file's name; one that names a photo is not asked what it is."""
    film = write_film(tmp_path / "camera.ts", ticks=range(0, 4 * TICKS // 25, TICKS // 25), audio=False)
    photo = io.BytesIO()
    Image.fromarray(picture(0)).save(photo, "JPEG")
    with serving() as web:
        web.files = {"/stream": film.read_bytes(), "/picture": photo.getvalue(), "/p.jpg": photo.getvalue()}
        web.kinds = {"/stream": "video/mp2t"}
        web.passwords = {"/stream": "ann:p@ss"}
        command = ["detect", detector, "--threshold", LOW]
        camera = web.address.replace("//", "//ann:p%40ss@")
        assert main([*command, f"{camera}/stream?user=ann", "-o", str(tmp_path / "found")]) == 0
        tables = [path.name for path in (tmp_path / "found").glob("*_stream_tracks.csv")]
        assert tables == [f"{web.address[7:].replace(':', '_')}_stream_tracks.csv"]
        assert main([*command, f"{web.address}/picture", "-o", str(tmp_path / "photos")]) == 0
        assert (tmp_path / "photos" / "counts.csv").exists()
        web.asked.clear()
        assert main([*command, f"{web.address}/p.jpg?width=100", "-o", str(tmp_path / "photo")]) == 0
        assert len(web.asked) == 1


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
            off.wait(LONG)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/camera.ts", off.set
    off.set()
    server.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
def test_ctrl_c_closes_a_film_that_can_be_played(
    detector: str,
    endless_camera: tuple[str, Callable[[], None]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    address, switch_off = endless_camera
    out = tmp_path / "out" / "boxes.mp4"
    command = [sys.executable, "-m", "fewbox.cli", "detect", detector, address, "-o", str(out)]
    process = subprocess.Popen([*command, "--threshold", LOW], stdout=subprocess.PIPE, text=True)
    request.addfinalizer(process.kill)
    while not any(table.stat().st_size > 200 for table in out.parent.glob(".*.csv")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    switch_off()
    printed, _ = process.communicate(timeout=LONG)
    assert process.returncode == 130
    frames = len(images_of(out))
    assert frames > 0
    assert f"{frames} frame" in printed
    assert "stopped by Ctrl-C" in printed
    assert sorted(path.name for path in out.parent.iterdir()) == ["boxes.mp4", "boxes_tracks.csv"]
