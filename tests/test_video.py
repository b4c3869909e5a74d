"""Videos and streams: what goes in comes out, with boxes; nothing is lost when it ends badly."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fewbox import video
from fewbox.data.images import ReducedImage
from fewbox.errors import OutputError, SettingError, VideoError
from fewbox.video import MAX_WAITING, VideoSummary, detect_video, opening
from fewbox.video import reader as video_reader
from fewbox.video import writer as video_writer
from fewbox.video.counting import LineCounter, ZoneCounter
from fewbox.video.opening import Arrivals
from fewbox.video.reader import Frame, PhotoFrames, VideoReader
from fewbox.video.tracking import Tracker
from fewbox.video.writer import VideoWriter
from films import (
    HEIGHT,
    RATE,
    SIDE,
    TICKS,
    WIDTH,
    SeesYellow,
    images_of,
    left_edge,
    packets_of,
    picture,
    times_of,
    turn,
    write_film,
)
from orientations import STORED


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("films") / "film.mp4")


def detect(source: Path | str, output: Path, detector: Any = None, **settings: Any) -> VideoSummary:
    return detect_video(
        detector or SeesYellow(), VideoReader(str(source)), output, show_progress=False, **settings
    )


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def box_of(row: dict[str, str]) -> list[float]:
    return [float(row[edge]) for edge in ("x1", "y1", "x2", "y2")]


def is_blue(pixel: np.ndarray) -> bool:
    """Nearly the first of the colours that boxes have."""
    return bool(np.abs(pixel.astype(int) - (86, 180, 233)).max() < 60)


@pytest.mark.slow
def test_every_frame_has_its_box_and_its_rows(film: Path, tmp_path: Path) -> None:
    summary = detect(film, tmp_path / "boxes.mp4")
    assert (summary.num_frames, summary.num_frames_detected, summary.num_tracks) == (50, 50, 1)
    assert str(summary).startswith("1 object in 50 frames (2.0 s): ")
    rows = rows_of(tmp_path / "boxes_tracks.csv")
    assert [int(row["frame"]) for row in rows] == list(range(50))
    assert {(row["track"], row["label"], row["score"]) for row in rows} == {("1", "square", "0.9000")}
    for number, (row, image) in enumerate(zip(rows, images_of(tmp_path / "boxes.mp4"), strict=True)):
        x = left_edge(number)
        assert float(row["time_s"]) == pytest.approx(number / RATE)
        assert box_of(row) == pytest.approx([x, 40, x + SIDE, 40 + SIDE], abs=2)
        assert is_blue(image[40 + SIDE // 2, x])
        assert not is_blue(image[110, 5])


@pytest.mark.slow
def test_sound_is_copied_bit_by_bit(film: Path, tmp_path: Path) -> None:
    detect(film, tmp_path / "boxes.mp4")
    assert packets_of(tmp_path / "boxes.mp4", "audio") == packets_of(film, "audio")
    detect(film, tmp_path / "boxes.mkv")
    copied = packets_of(tmp_path / "boxes.mkv", "audio")
    assert [data for _, data in copied] == [data for _, data in packets_of(film, "audio")]
    # Matroska has no times below 0, and so begins a little later; picture and sound together.
    late = times_of(tmp_path / "boxes.mkv")[0] - times_of(film)[0]
    assert copied[-1][0] - late == pytest.approx(packets_of(film, "audio")[-1][0], abs=0.002)


def test_sound_that_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "film.wmv"
    with av.open(str(path), "w") as film:
        image = film.add_stream("libx264", rate=RATE)
        image.width, image.height, image.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = film.add_stream("wmav2", rate=44100, bit_rate=64000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        film.mux(image.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        fifo = av.AudioFifo()
        fifo.write(frame)
        for part in fifo.read_many(2048):
            film.mux(sound.encode(part))
        for stream in film.streams:
            film.mux(stream.encode(None))
    assert detect(path, tmp_path / "boxes.mp4").num_frames == 1
    assert "its audio does not fit in .mp4 and is left out; .mkv takes most kinds" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_of_a_broadcast_is_kept(tmp_path: Path, suffix: str) -> None:
    """In a transport stream each packet of AAC has a head of its own (ADTS), in other files none has."""
    broadcast = write_film(tmp_path / "film.ts")
    assert packets_of(broadcast, "audio")[5][1][:2] in (b"\xff\xf1", b"\xff\xf9")
    assert detect(broadcast, tmp_path / f"boxes{suffix}").num_frames == 50
    sounds = []
    for path in (broadcast, tmp_path / f"boxes{suffix}"):
        with av.open(str(path)) as film:
            sounds.append(np.concatenate([part.to_ndarray() for part in film.decode(audio=0)], axis=1))
    before, after = sounds
    assert np.array_equal(before[:, -after.shape[1] :], after)
    assert after.shape[1] > 80_000


def test_a_film_joined_of_parts_goes_on(tmp_path: Path) -> None:
    """As by ``cat a.ts b.ts``: the times of the second part begin anew."""
    part = write_film(tmp_path / "part.ts").read_bytes()
    (tmp_path / "film.ts").write_bytes(3 * part)
    assert detect(tmp_path / "film.ts", tmp_path / "boxes.mp4").num_frames == 150
    steps = np.diff([float(time) for time in times_of(tmp_path / "boxes.mp4")])
    assert steps.min() > 0.039
    assert steps.max() < 0.041
    sound = np.array([float(time) for time, _ in packets_of(tmp_path / "boxes.mp4", "audio")])
    assert 5.8 < sound[-1] < 6.3
    assert 0 < np.diff(sound).min() <= np.diff(sound).max() < 0.1


def damage_times_of_a_broadcast(data: bytearray, places: tuple[int, ...], mask: int, bits: int) -> None:
    """A frame in the middle states other times: when it is shown, at 9, or decoded, at 14."""
    # ISO/IEC 13818-1, 2.4.3.6: the head of a packet of video that states both times.
    heads = [found.start() for found in re.finditer(rb"\x00\x00\x01\xe0...\xc0", data, re.DOTALL)]
    for place in places:
        data[heads[20] + place] = data[heads[20] + place] & ~mask | bits


def damage_time_of_flv(data: bytearray) -> None:
    """One bit of the eight highest of a time in milliseconds; before each tag its size stands once more."""
    frames, start = [], 13
    while start < len(data):
        frames += [start] if data[start] == 9 else []
        start += 11 + int.from_bytes(data[start + 1 : start + 4], "big") + 4
    data[frames[20] + 7] ^= 1


def damage_composition_time(data: bytearray) -> None:
    """How much later than it is decoded a frame is shown; ISO/IEC 14496-12, 8.6.1.3."""
    data[data.index(b"ctts") + 12 + 8 * 12 + 4] ^= 0x40
    start = data.index(b"edts")  # with what is cut off, FFmpeg leaves out what is shown after the end
    data[start : start + 4] = b"free"


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        # Bit 30 of a time in 90000ths of a second, and all of its highest three.
        pytest.param(".ts", lambda data: damage_times_of_a_broadcast(data, (9, 14), 0, 2), id="both"),
        pytest.param(".ts", lambda data: damage_times_of_a_broadcast(data, (9,), 0, 2), id="shown"),
        pytest.param(".ts", lambda data: damage_times_of_a_broadcast(data, (14,), 14, 10), id="decoded"),
        pytest.param(".flv", damage_time_of_flv, id="flv"),
        pytest.param(".mp4", damage_composition_time, id="mp4"),
    ],
)
def test_a_damaged_time_costs_the_rest_of_the_film_nothing(
    tmp_path: Path, suffix: str, damage: Callable[[bytearray], None]
) -> None:
    """A frame in the middle says that it is shown, or decoded, or both, hours later or before."""
    data = bytearray(write_film(tmp_path / f"film{suffix}").read_bytes())
    damage(data)
    (tmp_path / f"film{suffix}").write_bytes(data)
    items = list(VideoReader(str(tmp_path / f"film{suffix}")))
    times = [item.time_s for item in items if isinstance(item, Frame)]
    assert len(times) == 50
    assert np.diff(times).max() < 0.1
    assert times[-1] - times[0] == pytest.approx(49 / RATE, abs=0.002)
    sound = [float(item.pts * item.time_base) for item in items if not isinstance(item, Frame)]
    assert 1.8 < sound[-1] < 2.3


def test_slides_with_sound_are_shown_before_what_is_heard_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes after more sound than is waited for a frame; no decoder holds back the first."""
    monkeypatch.setattr(video_reader, "_MAX_PACKETS_BEFORE_FRAMES", 20)
    film = write_film(tmp_path / "film.mkv", codec="rawvideo")
    all_of = VideoReader._packets

    def packets(reader: VideoReader) -> Iterator[Any]:
        for packet in all_of(reader):
            if packet.stream.type == "audio" or packet.pts in (0, 1600, None):
                yield packet

    monkeypatch.setattr(VideoReader, "_packets", packets)
    items = list(VideoReader(str(film)))
    places = [place for place, item in enumerate(items) if isinstance(item, Frame)]
    assert [items[place].time_s for place in places] == [0, 1.6]
    assert places[0] < 5
    assert places[1] > 40


def test_a_pause_of_a_stream_stays_one(tmp_path: Path) -> None:
    later = 90 * TICKS
    ticks = [*range(0, 10240, 512), *range(later, later + 10240, 512)]
    film = write_film(tmp_path / "film.ts", ticks=ticks, audio=False)
    detect(film, tmp_path / "boxes.mp4")
    times = [float(time) for time in times_of(tmp_path / "boxes.mp4")]
    assert times[-1] == pytest.approx(90 + 19 / RATE, abs=0.001)
    assert times[19] < 1
    assert times[21] > 89  # the first one after it follows those before it


def test_sound_that_only_the_header_refuses_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as film:
        image = film.add_stream("libx264", rate=RATE)
        image.width, image.height, image.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = film.add_stream("flac", rate=44100, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        film.mux(image.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        film.mux(sound.encode(frame))
        for stream in film.streams:
            film.mux(stream.encode(None))
    assert detect(path, tmp_path / "boxes.mov").num_frames == 1
    told = capsys.readouterr().err
    assert "its audio does not fit in .mov and is left out; .mkv takes most kinds" in told
    assert "cut off" not in told  # the sound goes on for longer


def test_irregular_times_are_kept(tmp_path: Path) -> None:
    ticks = np.cumsum([0, *np.random.default_rng(0).integers(100, 3000, 29)]).tolist()
    film = write_film(tmp_path / "film.mp4", ticks=ticks, audio=False)
    detect(film, tmp_path / "boxes.mp4")
    assert times_of(tmp_path / "boxes.mp4") == [Fraction(tick, TICKS) for tick in ticks]
    rows = rows_of(tmp_path / "boxes_tracks.csv")
    assert [float(row["time_s"]) for row in rows] == pytest.approx([tick / TICKS for tick in ticks], abs=1e-6)


def test_a_stream_that_has_run_for_days_begins_at_0(tmp_path: Path) -> None:
    late = 10**9
    film = write_film(tmp_path / "film.ts", ticks=range(late, late + 20 * 512, 512), audio=False)
    detect(film, tmp_path / "boxes.mp4")
    assert times_of(tmp_path / "boxes.mp4") == [Fraction(number, RATE) for number in range(20)]


def test_a_phone_held_sideways(film: Path, tmp_path: Path) -> None:
    turned = tmp_path / "phone.mp4"
    turned.write_bytes(film.read_bytes())
    turn(turned)
    detect(turned, tmp_path / "boxes.mp4")
    first = images_of(tmp_path / "boxes.mp4")[0]
    assert first.shape == (WIDTH, HEIGHT, 3)
    # A quarter turn clockwise takes the left edge to the top, the top to the right.
    upright = [HEIGHT - 40 - SIDE, left_edge(0), HEIGHT - 40, left_edge(0) + SIDE]
    assert box_of(rows_of(tmp_path / "boxes_tracks.csv")[0]) == pytest.approx(upright, abs=2)
    assert is_blue(first[upright[1] + SIDE // 2, upright[0]])
    with av.open(str(tmp_path / "boxes.mp4")) as written:
        assert next(written.decode(video=0)).rotation == 0


MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""By the EXIF orientation that says the same of a photo."""


@pytest.mark.parametrize("value", MATRICES)
def test_frames_are_turned_and_mirrored_as_photos_are(film: Path, tmp_path: Path, value: int) -> None:
    turned = tmp_path / "phone.mp4"
    turned.write_bytes(film.read_bytes())
    turn(turned, MATRICES[value])
    reader = VideoReader(str(turned))
    first = next(item for item in reader if isinstance(item, Frame)).image
    assert first.shape[:2] == reader.size_hw
    np.testing.assert_allclose(STORED[value](first), picture(0), atol=60)  # blurred at the square's edges
    assert np.abs(STORED[value](first).astype(int) - picture(0)).mean() < 2
    detect(turned, tmp_path / "boxes.mp4")
    with av.open(str(tmp_path / "boxes.mp4")) as written:
        assert next(written.decode(video=0)).rotation == 0


class RemembersSizes(SeesYellow):
    """Notes the size of what it is given to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def detect(self, frame: ReducedImage, *, threshold: float) -> Any:
        self.seen.add(frame.image.shape[:2])
        return super().detect(frame, threshold=threshold)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("sideways", [False, True])
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(8, 9)])
def test_pixels_keep_their_aspect_and_are_looked_at_as_a_player_shows_them(
    tmp_path: Path, aspect: Fraction, sideways: bool, suffix: str
) -> None:
    film = write_film(tmp_path / "film.mp4", ticks=range(0, 5120, 512), audio=False, pixel_aspect=aspect)
    if sideways:
        turn(film)
    detector = RemembersSizes()
    detect(film, tmp_path / f"boxes{suffix}", detector)
    upright_hw = (WIDTH, HEIGHT) if sideways else (HEIGHT, WIDTH)
    upright_aspect = 1 / aspect if sideways else aspect
    with av.open(str(tmp_path / f"boxes{suffix}")) as written:
        assert written.streams.video[0].sample_aspect_ratio == upright_aspect
        assert written.streams.video[0].codec_context.sample_aspect_ratio == upright_aspect
        frame = next(written.decode(video=0))
        assert (frame.height, frame.width) == upright_hw
    ((height, width),) = detector.seen
    assert width / height == pytest.approx(upright_hw[1] * upright_aspect / upright_hw[0], rel=0.01)
    assert height >= upright_hw[0]  # nothing is lost
    assert width >= upright_hw[1]
    first = box_of(rows_of(tmp_path / "boxes_tracks.csv")[0])  # in pixels of the film
    x = left_edge(0)
    assert first == pytest.approx(
        [HEIGHT - 40 - SIDE, x, HEIGHT - 40, x + SIDE] if sideways else [x, 40, x + SIDE, 40 + SIDE], abs=2
    )


def test_colours_stay_what_they_were(tmp_path: Path) -> None:
    """Much is known of HD colours, nothing of many others: both come back as they were shown."""
    for color in ((1, 1, 1), (2, 2, 2)):
        path = tmp_path / f"film{color[0]}.mp4"
        with av.open(str(path), "w") as film:
            stream = film.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = color
            image = np.zeros((48, 64, 3), np.uint8) + np.array([90, 40, 200], np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            film.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=color[0])))
            film.mux(stream.encode(None))
        detect(path, tmp_path / "boxes.mp4")
        with av.open(str(path)) as before, av.open(str(tmp_path / "boxes.mp4")) as after:
            shown, again = next(before.decode(video=0)), next(after.decode(video=0))
        assert (again.colorspace, again.color_primaries, again.color_trc) == color
        assert np.abs(shown.to_ndarray().astype(int) - again.to_ndarray()).max() <= 2


@pytest.mark.parametrize(
    ("number", "coded", "to"),
    [
        (8, "YCgCo", "zscale=m=709"),
        (10, "BT.2020 with constant luminance", "zscale=m=709:t=709:p=709"),
        (14, "ICtCp", "zscale=m=709:t=709:p=709"),
    ],
)
def test_colours_that_cannot_be_read_are_named_with_the_cure(
    tmp_path: Path, number: int, coded: str, to: str
) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.colorspace = number
        film.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        film.mux(stream.encode(None))
    with pytest.raises(VideoError) as refused:
        detect(path, tmp_path / "boxes.mp4")
    assert refused.value.message == f"{path}: its colours are coded as {coded}, which cannot be read here"
    assert refused.value.hint == f"convert it first: ffmpeg -i IN -vf {to} -c:v libx264 OUT.mp4"


@pytest.mark.parametrize(("codec", "suffix"), [("libx264rgb", ".mp4"), ("png", ".mov")])
def test_a_film_in_rgb_is_not_written_as_if_it_were(tmp_path: Path, codec: str, suffix: str) -> None:
    """H.264 may state the matrix of RGB only of planes that are as large as each other: Annex E of H.264."""
    path = tmp_path / f"screen{suffix}"
    image = np.zeros((48, 64, 3), np.uint8) + np.array([90, 40, 200], np.uint8)
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        film.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        film.mux(stream.encode(None))
    detect(path, tmp_path / "boxes.mp4")
    with av.open(str(path)) as before, av.open(str(tmp_path / "boxes.mp4")) as after:
        assert next(before.decode(video=0)).colorspace == 0  # RGB
        again = next(after.decode(video=0))
    assert (again.format.name, again.colorspace) == ("yuv420p", 1)  # BT.709
    assert np.abs(again.to_ndarray(format="rgb24").astype(int) - image).max() <= 3


@pytest.mark.parametrize("said", [b"Lavf", b"VideoHandler"], ids=["of the film", "of its pictures"])
def test_a_film_whose_title_is_in_an_old_code(film: Path, tmp_path: Path, said: bytes) -> None:
    data = film.read_bytes()
    assert said in data
    (tmp_path / "film.mp4").write_bytes(data.replace(said, said[:-1] + b"\xfc"))  # u with two dots in Latin-1
    assert detect(tmp_path / "film.mp4", tmp_path / "boxes.csv").num_frames == 50


def test_odd_sizes(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(picture(number)[:101, :131]).save(tmp_path / f"{number}.png")
    source = PhotoFrames(sorted(tmp_path.glob("*.png")), 5)
    detect_video(SeesYellow(), source, tmp_path / "boxes.mp4", show_progress=False)
    assert images_of(tmp_path / "boxes.mp4")[0].shape == (102, 132, 3)


def test_photos_in_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name / f"{number}.png" for number in (0, 3) for name in "ab"]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(5 * number)).save(path)
    for number in (0, 3):
        paths[number].write_bytes(b"no photo")
    Image.fromarray(picture(10)).resize((80, 60)).save(paths[2])
    source = PhotoFrames(paths, 4)
    assert detect_video(SeesYellow(), source, tmp_path / "boxes.mp4", show_progress=False).num_frames == 2
    assert times_of(tmp_path / "boxes.mp4") == [0, Fraction(1, 4)]
    assert {image.shape for image in images_of(tmp_path / "boxes.mp4")} == {(HEIGHT, WIDTH, 3)}
    told = capsys.readouterr().err
    assert told.count("skipped: ") == 2
    fitted = f"1 of 4 photos has another size than the first ({WIDTH} x {HEIGHT}), and is fitted to it"
    assert f"{fitted}: boxes are in pixels of the film\n" in told
    assert source.failed == ["a/0.png", "b/3.png"]  # each is called as it is told from the others


def test_a_film_whose_frames_change_their_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "film.mjpeg").open("wb") as film:
        for size_wh in ((160, 120), (160, 120), (80, 60)):
            Image.fromarray(picture(0)).resize(size_wh).save(film, "JPEG")
    detect(tmp_path / "film.mjpeg", tmp_path / "boxes.csv")
    told = "film.mjpeg: 1 frame of another size, made as large as the first: 160 x 120\n"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("size_wh", [(16386, 4), (4, 20000)])
def test_photos_that_are_too_large_for_a_video(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    Image.new("RGB", size_wh).save(tmp_path / "a.png")
    source = PhotoFrames([tmp_path / "a.png"], 4)
    size = f"{size_wh[0]} x {size_wh[1]}"
    with pytest.raises(VideoError, match=f"1 photo: {size} pixels; a video has at most 16384 a side"):
        detect_video(SeesYellow(), source, tmp_path / "boxes.mp4", show_progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_the_encoder_refuses_is_told(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_writer, "_H264", {"preset": "no such preset"})
    with pytest.raises(OutputError, match=r"boxes\.mp4: cannot be written: Invalid argument"):
        detect(film, tmp_path / "boxes.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_very_narrow_photo_is_still_seen(tmp_path: Path) -> None:
    for name, size_wh in (("a", (64, 48)), ("b", (5000, 3))):
        Image.new("RGB", size_wh, "white").save(tmp_path / f"{name}.png")
    frames = list(PhotoFrames(sorted(tmp_path.glob("*.png")), 4))
    assert [int((frame.image > 100).any(axis=2).sum()) for frame in frames] == [64 * 48, 64]


def test_an_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(4 * number)) for number in range(6)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=200)
    assert detect(tmp_path / "a.gif", tmp_path / "boxes.mp4").num_tracks == 1
    assert times_of(tmp_path / "boxes.mp4") == [Fraction(number, 5) for number in range(6)]


def test_every_third_frame(film: Path, tmp_path: Path) -> None:
    assert detect(film, tmp_path / "boxes.mp4", every=3).num_frames_detected == 17
    rows = rows_of(tmp_path / "boxes_tracks.csv")
    assert [row["score"] == "" for row in rows] == [number % 3 > 0 for number in range(50)]
    for number, row in enumerate(rows):
        assert row["track"] == "1"
        if number > 10:
            assert box_of(row)[0] == pytest.approx(left_edge(number), abs=2)


def test_without_tracking(film: Path, tmp_path: Path) -> None:
    summary = detect(film, tmp_path / "boxes.mp4", tracking=False)
    assert str(summary).startswith("50 boxes in 50 frames")
    assert {row["track"] for row in rows_of(tmp_path / "boxes_tracks.csv")} == {""}


def test_frames_with_as_many_boxes_as_can_be_are_told(film: Path, tmp_path: Path) -> None:
    crowded = SeesYellow()
    assert "there may be more" not in str(detect(film, tmp_path / "boxes.mp4", crowded))
    crowded.config = SimpleNamespace(most_detections=1)
    summary = detect(film, tmp_path / "boxes.mp4", crowded, every=25)
    assert str(summary).splitlines()[-1] == (
        "2 frames (at 0.00 s, at 1.00 s) have 1 box at one look, "
        "the most that this detector gives of one frame; there may be more: look at parts too, with --tiles"
    )


def test_only_the_table(film: Path, tmp_path: Path) -> None:
    detect(film, tmp_path / "where.csv")
    assert len(rows_of(tmp_path / "where.csv")) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["where.csv"]


def test_a_line_counts_what_crosses_it_and_is_drawn(film: Path, tmp_path: Path) -> None:
    """The square goes from 10 to 108, so its centre from 25 to 123; the line is in its way, the zone too."""
    line, zone = LineCounter((80, 0, 80, 120)), ZoneCounter((100, 20, 159, 20, 159, 100, 100, 100))
    summary = detect(film, tmp_path / "boxes.mp4", counters=[line, zone])
    assert str(summary).endswith(
        "boxes.mp4, "
        f"{tmp_path / 'boxes_tracks.csv'}, {tmp_path / 'boxes_tracks.json'}\n"
        "line: right 1, left 0\nzone: in 1, out 0, inside 1"
    )
    said = json.loads((tmp_path / "boxes_tracks.json").read_text())
    assert said == {
        "video": "film.mp4",
        "width": WIDTH,
        "height": HEIGHT,
        "frames": 50,
        "duration_s": 1.96,
        "objects": [
            {
                "track": 1,
                "label": "square",
                "first_s": 0.0,
                "last_s": 1.96,
                "frames": 50,
                "best_score": 0.9,
            }
        ],
        "counted": [
            {"line": [[80, 120], [80, 0]], "counts": {"right": {"square": 1}, "left": {}}},
            {
                "zone": [[100, 20], [159, 20], [159, 100], [100, 100]],
                "counts": {"in": {"square": 1}, "out": {}, "inside": {"square": 1}},
            },
        ],
    }
    first = images_of(tmp_path / "boxes.mp4")[0]
    assert first[110, 80].min() > 150  # white, on grey
    assert first[60, 100].min() > 150


def test_counts_of_an_earlier_run_do_not_stay_beside_the_film(film: Path, tmp_path: Path) -> None:
    detect(film, tmp_path / "boxes.mp4", counters=[LineCounter((80, 0, 80, 120))])
    again = detect(film, tmp_path / "boxes.mp4", every=5)
    assert tmp_path / "boxes_tracks.json" in again.outputs
    assert json.loads((tmp_path / "boxes_tracks.json").read_text())["counted"] == []


def test_a_table_alone_leaves_the_counts_of_a_film_beside_it(film: Path, tmp_path: Path) -> None:
    line = LineCounter((80, 0, 80, 120))
    detect(film, tmp_path / "k.mp4", counters=[line])
    before = (tmp_path / "k_tracks.json").read_bytes()
    assert detect(film, tmp_path / "k.csv", tracking=False).outputs == (tmp_path / "k.csv",)
    with pytest.raises(OutputError, match=r"k_tracks\.json: belongs to k_tracks\.csv, and would be replaced"):
        detect(film, tmp_path / "k.csv", counters=[line])
    assert (tmp_path / "k_tracks.json").read_bytes() == before
    detect(film, tmp_path / "k_tracks.csv", every=5)  # the same table, anew
    assert json.loads((tmp_path / "k_tracks.json").read_text())["counted"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows file names that are no text")
def test_a_film_whose_name_is_no_text(film: Path, tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(film, strange)
    detect(strange, tmp_path / "boxes.mp4", counters=[LineCounter((80, 0, 80, 120))])
    said = json.loads((tmp_path / "boxes_tracks.json").read_text())
    assert (said["video"], said["frames"], len(said["counted"])) == (strange.name, 50, 1)


def test_a_new_object_is_shown_at_once_and_numbered_when_it_is_confirmed(film: Path, tmp_path: Path) -> None:
    class SeesLate(SeesYellow):
        left = 10

        def detect(self, frame: ReducedImage, *, threshold: float) -> Any:
            self.left -= 1
            shown = frame if self.left < 0 else replace(frame, image=np.zeros_like(frame.image))
            return super().detect(shown, threshold=threshold)

    summary = detect(film, tmp_path / "boxes.csv", SeesLate(), summary_json=True)
    assert (summary.num_boxes, summary.num_tracks) == (40, 1)
    assert [row["track"] for row in rows_of(tmp_path / "boxes.csv")] == ["", *["1"] * 39]
    (said,) = json.loads((tmp_path / "boxes_tracks.json").read_text())["objects"]
    assert (said["first_s"], said["frames"]) == (0.44, 39)
    detect(film, tmp_path / "boxes.csv", SeesLate(), confirm=1)
    assert {row["track"] for row in rows_of(tmp_path / "boxes.csv")} == {"1"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames are counted, not bytes: with a slow network and then with slow drawing."""
    alive, most = 0, 0

    def count(image: np.ndarray) -> None:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        weakref.finalize(image, forget)

    def forget() -> None:
        nonlocal alive
        alive -= 1

    class Counted(video_reader.Frame):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            count(self.image)

    class Slow(SeesYellow):
        def detect(self, frame: ReducedImage, *, threshold: float) -> Any:
            # On a busy machine frames are read slowly too.
            time.sleep(0.005 if most >= MAX_WAITING else 0.1)
            return super().detect(frame, threshold=threshold)

    draw = video._draw
    monkeypatch.setattr(video_reader, "Frame", Counted)
    detect(film, tmp_path / "boxes.mp4", Slow())
    assert MAX_WAITING <= most <= 2 * MAX_WAITING + 3
    monkeypatch.setattr(video, "_draw", lambda *given: (time.sleep(0.01), draw(*given))[1])
    detect(film, tmp_path / "boxes.mp4")
    assert most <= 2 * MAX_WAITING + 3


class Interrupted(SeesYellow):
    """Ctrl-C comes while frame 20 is looked at."""

    def __init__(self, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = 20, error

    def detect(self, frame: ReducedImage, *, threshold: float) -> Any:
        if self.left == 0:
            raise self.error
        self.left -= 1
        return super().detect(frame, threshold=threshold)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_ctrl_c_leaves_all_frames_so_far(film: Path, tmp_path: Path, suffix: str) -> None:
    summary = detect(film, tmp_path / f"boxes{suffix}", Interrupted())
    assert summary.interrupted
    assert "in 20 frames (0.8 s, stopped by Ctrl-C): " in str(summary)
    assert len(images_of(tmp_path / f"boxes{suffix}")) == 20
    assert len(packets_of(tmp_path / f"boxes{suffix}", "audio")) > 10
    assert len(rows_of(tmp_path / "boxes_tracks.csv")) == 20
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fault_of_ours_loses_nothing_either(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        detect(film, tmp_path / "boxes.mp4", Interrupted(ZeroDivisionError))
    assert len(images_of(tmp_path / "boxes.mp4")) == 20


def test_ctrl_c_before_the_first_frame_leaves_what_was_there(film: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.mp4").write_bytes(b"before")
    early = Interrupted()
    early.left = 0
    with pytest.raises(KeyboardInterrupt):
        detect(film, tmp_path / "boxes.mp4", early)
    assert (tmp_path / "boxes.mp4").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_killed_process_leaves_a_hidden_file_that_can_be_played(tmp_path: Path, suffix: str) -> None:
    """What lies on the disk in the middle of the work is what a power cut would leave."""
    film = write_film(tmp_path / "film.mp4", ticks=range(0, 150 * 512, 512), audio=False)
    left = tmp_path / f"left{suffix}"

    class Watched(SeesYellow):
        num_looks = 0

        def detect(self, frame: ReducedImage, *, threshold: float) -> Any:
            self.num_looks += 1
            if self.num_looks == 140:
                (hidden,) = tmp_path.glob(f".boxes.*{suffix}")
                shutil.copy(hidden, left)
            return super().detect(frame, threshold=threshold)

    detect(film, tmp_path / f"boxes{suffix}", Watched())
    played = [item for item in VideoReader(str(left)) if isinstance(item, Frame)]
    assert 50 <= len(played) < 140


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    film = write_film(tmp_path / f"film{suffix}", options=options)
    detect(film, tmp_path / "boxes.mp4")
    assert "cut off" not in capsys.readouterr().err
    whole, cut = film.read_bytes(), tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    summary = detect(cut, tmp_path / "boxes.mp4")
    assert 10 < summary.num_frames < 45
    assert len(images_of(tmp_path / "boxes.mp4")) == summary.num_frames
    assert "but says it has 2.0 s: it was cut off" in capsys.readouterr().err


def test_a_damaged_packet(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with av.open(str(film)) as whole:
        packet = list(whole.demux(video=0))[25]
    data = bytearray(film.read_bytes())
    data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "film.mp4").write_bytes(data)
    summary = detect(tmp_path / "film.mp4", tmp_path / "boxes.mp4")
    assert 30 < summary.num_frames < 50
    assert packets_of(tmp_path / "boxes.mp4", "audio") == packets_of(film, "audio")
    assert "damaged packets left out" in capsys.readouterr().err


def test_what_is_no_video(film: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(VideoError, match=r"text.mp4: not a video, or damaged or cut off"):
        VideoReader(str(tmp_path / "text.mp4"))
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:-300])  # what is where stands at its end
    with pytest.raises(VideoError, match=r"cut.mp4: not a video, or damaged or cut off"):
        VideoReader(str(tmp_path / "cut.mp4"))
    with pytest.raises(VideoError, match=r"none.mp4: no such file"):
        VideoReader(str(tmp_path / "none.mp4"))
    with pytest.raises(VideoError, match="63: no such webcam\nhint: the first one is 0"):
        VideoReader("63")


def test_a_film_of_which_little_is_left(tmp_path: Path) -> None:
    """FFmpeg calls it the end of the file, or finds tracks of which it knows no more."""
    whole = write_film(
        tmp_path / "film.mp4",
        ticks=range(0, 5120, 512),
        audio=False,
        options={"movflags": "frag_keyframe+empty_moov"},
    ).read_bytes()
    for size in range(49, whole.index(b"stsd") + 200, 12):
        (tmp_path / "cut.mp4").write_bytes(whole[:size])
        with pytest.raises(VideoError) as raised:
            VideoReader(str(tmp_path / "cut.mp4"))
        assert re.search("damaged or cut off|codec is not known|not one frame of it", raised.value.message)
        assert raised.value.hint == opening.CONVERT


def test_a_file_with_only_sound(film: Path, tmp_path: Path) -> None:
    with av.open(str(film)) as source, av.open(str(tmp_path / "song.mp4"), "w") as song:
        stream = song.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                song.mux(packet)
    with pytest.raises(VideoError, match=r"song.mp4: has no video, only audio"):
        VideoReader(str(tmp_path / "song.mp4"))


def test_an_unknown_codec(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    (tmp_path / "film.mp4").write_bytes(data.replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))
    with pytest.raises(VideoError, match="its codec is not known here") as raised:
        VideoReader(str(tmp_path / "film.mp4"))
    assert "convert it" in str(raised.value)


def test_without_pyav_the_error_says_what_to_install(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"pip install '\.\[video\]'"):
        VideoReader(str(film))


def test_sound_that_runs_backwards_is_left_out(film: Path, tmp_path: Path) -> None:
    source = VideoReader(str(film))
    writer = VideoWriter(tmp_path / "boxes.mp4", tmp_path / "boxes.mp4", source)
    for item in source:
        if isinstance(item, Frame):
            writer.write(Image.fromarray(item.image), item.pts)
        else:
            item.dts = item.pts = (
                max(item.pts, 0) % 20_000
            )  # begins again in the middle, as a camera's clock may
            writer.copy(item)
    writer.close()
    assert len(images_of(tmp_path / "boxes.mp4")) == 50
    assert 10 < len(packets_of(tmp_path / "boxes.mp4", "audio")) < len(packets_of(film, "audio"))


def test_a_film_that_breaks_off_loses_no_frame_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_film(tmp_path / "film.mkv", codec="rawvideo", audio=False)
    all_of = VideoReader._packets

    def packets(reader: VideoReader) -> Iterator[Any]:
        yield from itertools.islice(all_of(reader), 30)
        raise av.error.ConnectionResetError(104, "reset")

    monkeypatch.setattr(VideoReader, "_packets", packets)
    with pytest.raises(VideoError, match="in 30 frames"):
        detect(film, tmp_path / "boxes.mp4")
    assert len(images_of(tmp_path / "boxes.mp4")) == 30


@pytest.fixture
def stalling_camera(tmp_path: Path) -> Iterator[str]:
    """The address of a server that sends a second and a half of a film and then nothing more."""
    data = write_film(tmp_path / "film.ts", audio=False).read_bytes()
    server = socket.create_server(("127.0.0.1", 0))
    connections = []

    def serve() -> None:
        connection, _ = server.accept()
        connections.append(connection)
        connection.recv(4096)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + data[: len(data) * 3 // 4]
        )

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/camera.ts"
    for opened in (*connections, server):
        opened.close()


@pytest.mark.slow
def test_a_stream_that_stalls(stalling_camera: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "TIMEOUT_S", 1.0)
    with pytest.raises(VideoError, match=r"camera.ts: sent nothing for 1 s") as raised:
        detect(stalling_camera, tmp_path / "boxes.mp4")
    kept = len(images_of(tmp_path / "boxes.mp4"))
    assert 20 < kept < 50
    assert f"until then: 1 object in {kept} frames" in str(raised.value)


def test_a_camera_faster_than_the_network_is_not_looked_at_in_every_frame(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(video, "time", SimpleNamespace(monotonic=lambda: now))

    class Slow(SeesYellow):
        def detect(self, frame: ReducedImage, *, threshold: float) -> Any:
            nonlocal now
            now += 0.2
            return super().detect(frame, threshold=threshold)

    source = VideoReader(str(film))
    source.live = True
    summary = detect_video(Slow(), source, tmp_path / "boxes.mp4", show_progress=False)
    assert summary.num_frames == 50
    assert 10 <= summary.num_frames_detected <= 13  # of two seconds, half a one late


def test_a_camera_whose_clock_is_slow_is_looked_at_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(video, "time", SimpleNamespace(monotonic=lambda: now))
    source: Any = SimpleNamespace(live=True, pixel_aspect=Fraction(1))
    scheduler = video._FrameScheduler(SeesYellow(), Tracker(0.5, rate=10), 1, source, 0.5)
    image = np.zeros((8, 8, 3), np.uint8)
    for number in range(1000):
        now = number / 10 * 1.02  # two seconds late after a hundred
        scheduler.update(Frame(image, number, number / 10, came_at=now))
    assert scheduler.num_frames_detected == 1000


@pytest.mark.parametrize("work_s", [0.01, 0.2], ids=["faster than the camera", "slower"])
def test_when_frames_came_is_known_though_they_had_to_lie_and_wait(work_s: float) -> None:
    """A camera sends ten frames a second for six seconds, and says 25."""
    arrivals, now, waited = Arrivals(Fraction(25)), 0.0, 0
    for number in range(60):
        asked_at = now
        now = max(now + 0.001, number / 10)
        waited += arrivals.note(asked_at, now)
        assert arrivals.came_at == pytest.approx(number / 10, abs=0.002)
        now += work_s if number > 5 else 0.01
    assert (waited > 55) == (work_s < 0.1)


@pytest.mark.slow
def test_the_film_of_a_camera_that_sends_photos_takes_as_long_as_they_did(tmp_path: Path) -> None:
    """FFmpeg takes them for frames of a film with 25 a second."""
    file = io.BytesIO()
    Image.fromarray(picture(0)).save(file, "JPEG")
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(file.getvalue())

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            kind = b"multipart/x-mixed-replace; boundary=frame"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
            for _ in range(20):
                connection.sendall(part + file.getvalue() + b"\r\n")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/stream"
        with contextlib.suppress(VideoError):  # that it ends is no end of a film
            detect(address, tmp_path / "boxes.mp4")
    times = times_of(tmp_path / "boxes.mp4")
    assert len(times) == 20
    assert float(times[-1]) > 1  # 0.76 if there were 25 a second
    assert [float(row["time_s"]) for row in rows_of(tmp_path / "boxes_tracks.csv")][-1] > 1


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as on a disk that is full then.

    Not for a whole test: the limit is the process's, and what pytest prints may go to a file too.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewbox.video.writer._SECONDS_PER_FRAGMENT", 0.2)
    refused = pytest.raises(OutputError, match=r"boxes.mp4: cannot be written: File too large")
    with refused as raised, room_for(12_000):
        detect(film, tmp_path / "boxes.mp4")
    assert "until then: 1 object in" in str(raised.value)
    kept = [item for item in VideoReader(str(tmp_path / "boxes.mp4")) if isinstance(item, Frame)]
    assert 5 <= len(kept) < 50
    assert (tmp_path / "boxes_tracks.csv").read_text().endswith("square\n")


def test_a_disk_that_is_full_from_the_beginning(film: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.mp4").write_bytes(b"before")
    with pytest.raises(OutputError, match="cannot be written"), room_for(200):
        detect(film, tmp_path / "boxes.mp4")
    assert (tmp_path / "boxes.mp4").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.mp4"]


def test_what_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would replace the video"):
        detect(film, film)
    for address in (f"file://{film}", f"file:{film}"):
        with pytest.raises(OutputError, match="would replace the video"):
            detect(address, film)
    with pytest.raises(OutputError, match=r"cannot be written as '.avi'"):
        detect(film, tmp_path / "boxes.avi")
    with pytest.raises(SettingError, match="every must be 1 or more: 0"):
        detect(film, tmp_path / "boxes.mp4", every=0)
    with pytest.raises(SettingError, match="confirm must be a whole number from 1: 0"):
        detect(film, tmp_path / "boxes.mp4", confirm=0)
    with pytest.raises(SettingError, match="counting needs tracking"):
        detect(film, tmp_path / "boxes.mp4", tracking=False, counters=[LineCounter((0, 0, 9, 9))])
    with pytest.raises(SettingError, match="from 0 to 1: 2"):
        detect(film, tmp_path / "boxes.mp4", threshold=2)


def test_where_webcams_are() -> None:
    assert opening.webcam(2, "linux") == ("/dev/video2", "v4l2")
    assert opening.webcam(0, "darwin") == ("0", "avfoundation")
