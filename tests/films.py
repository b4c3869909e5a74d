"""Films made and read back in a moment: a yellow square crosses a grey frame, a tone with it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from fewbox.data.images import ReducedImage
from fewbox.detection import Detections

WIDTH, HEIGHT = 160, 120
SIDE = 30
YELLOW = (250, 220, 20)
TICKS = 12800
RATE = 25


def left_edge(number: int) -> int:
    """Where the square is in a frame; its top is at 40."""
    return 10 + 2 * number


def picture(number: int) -> npt.NDArray[np.uint8]:
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[40 : 40 + SIDE, left_edge(number) : left_edge(number) + SIDE] = YELLOW
    return image


def write_film(
    path: Path,
    *,
    ticks: Sequence[int] = range(0, 50 * TICKS // RATE, TICKS // RATE),
    codec: str = "libx264",
    audio: bool = True,
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction = Fraction(1),
) -> Path:
    """A film whose frames are shown at ``ticks``, in parts of 12800 of a second, with sound of 2 s."""
    with av.open(str(path), "w", options=options or {}) as film:
        video = film.add_stream(codec, rate=RATE, options={"g": "10"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.sample_aspect_ratio = pixel_aspect
        video.time_base = video.codec_context.time_base = Fraction(1, TICKS)
        sound = film.add_stream("aac", rate=44100) if audio else None
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, TICKS)
            film.mux(video.encode(frame))
            if sound and number < 50:
                _sing(film, sound, number)
        for stream in film.streams:
            film.mux(stream.encode(None))
    return path


def _sing(film: Any, sound: Any, number: int) -> None:
    samples = np.arange(1764 * number, 1764 * (number + 1))
    tone = np.sin(samples / 16).astype(np.float32)[None] / 4
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 44100, int(samples[0]), Fraction(1, 44100)
    film.mux(sound.encode(frame))


def turn(path: Path, matrix: tuple[int, int, int, int] = (0, 1, -1, 0)) -> None:
    """Note in an MP4 how the camera was held; if not said, to be shown a quarter turn clockwise.

    The matrix (a, b, c, d) of the track header (ISO/IEC 14496-12, 8.3.2) maps (x, y) to
    (ax + cy, bx + dy), here (-y, x).
    """
    a, b, c, d = (number << 16 for number in matrix)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def images_of(path: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as film:
        return [frame.pts * frame.time_base for frame in film.decode(video=0)]


def packets_of(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """When and what, for every packet of the film's first stream of this kind."""
    with av.open(str(path)) as film:
        stream = getattr(film.streams, kind)[0]
        return [(p.pts * p.time_base, bytes(p)) for p in film.demux(stream) if p.dts is not None]


class SeesYellow:
    """In place of a detector: finds the square exactly, in a moment."""

    labels = ("square",)
    threshold = 0.5
    options: dict[str, object] = {}  # noqa: RUF012
    config = SimpleNamespace(most_detections=300)

    def detect(self, frame: ReducedImage, *, threshold: float) -> Detections:
        yellow = (frame.image[..., 0] > 180) & (frame.image[..., 2] < 110)
        ys, xs = np.nonzero(yellow)
        found = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]] if len(xs) else []
        return Detections(
            boxes=np.array(found, np.float32).reshape(-1, 4) * frame.scale_xyxy,
            scores=np.full(len(found), 0.9, np.float32),
            class_ids=np.zeros(len(found), np.int64),
            class_names=self.labels,
            size_hw=frame.size_hw,
            full_at=0.9 if len(found) >= self.config.most_detections else 0.0,
        )
