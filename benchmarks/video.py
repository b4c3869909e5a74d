"""Frames per second of ``fewbox detect film.mp4``, and of the bare network on the same frames.

The film is made of the test ducks, 960 x 540, each shown for a few frames; in every round all ways
see all of it, so that they meet the machine in the same mood. Printed are medians over rounds, and
what drawing and encoding cost alone.

    python benchmarks/video.py                 about two minutes
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fewbox.data.formats import read_annotations
from fewbox.data.images import find_photos, read_image
from fewbox.detection.detector import Detector
from fewbox.detection.drawing import draw_boxes
from fewbox.finetuning import finetune
from fewbox.video import detect_video
from fewbox.video.reader import Frame, VideoReader
from fewbox.video.writer import VideoWriter
from machine import DUCKY, SHARED, describe_machine

FRAMES_PER_PHOTO = 4
RATE = 25


def main() -> None:
    """Time all ways and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default=str(SHARED / "weights/yolox_nano_coco.onnx"))
    parser.add_argument("--photos", type=int, default=25, help="how many test photos make the film")
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    print(describe_machine())
    annotations = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="duck")
    detector = finetune(annotations, parsed.base, effort="quick", show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "film.mp4")
        write_film(film, find_photos(DUCKY / "test")[: parsed.photos])
        run_rounds(detector, film, Path(folder, "boxes.mp4"), parsed.rounds)


def write_film(film: Path, photos: list[Path]) -> None:
    """Each photo for a few frames, in H.264."""
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        height, width = read_image(photos[0]).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(len(photos) * FRAMES_PER_PHOTO):
            frame = av.VideoFrame.from_ndarray(read_image(photos[number // FRAMES_PER_PHOTO]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def run_rounds(detector: Detector, film: Path, output: Path, rounds: int) -> None:
    """Every way in every round; the first round warms up and does not count."""
    images = [item.image for item in VideoReader(str(film)) if isinstance(item, Frame)]
    boxes = np.array([[200, 100, 500, 400], [600, 300, 760, 420]], np.float32)

    def write() -> None:
        writer = VideoWriter(output, output, VideoReader(str(film)))
        for number, image in enumerate(images):
            writer.write(draw_boxes(image, boxes, ["duck #1 90%", "duck #2 80%"], [0, 1]), 512 * number)
        writer.close()

    def detect(every: int, target: Path = output) -> Callable[[], object]:
        return lambda: detect_video(
            detector, VideoReader(str(film)), target, every=every, show_progress=False
        )

    ways: dict[str, Callable[[], object]] = {
        "the network alone, frames in memory": lambda: [detector.detect(image) for image in images],
        "detect film.mp4 -o boxes.mp4": detect(1),
        "detect film.mp4 -o tracks.csv": detect(1, output.with_suffix(".csv")),
        "detect film.mp4 -o boxes.mp4 --every 5": detect(5),
        "drawing and encoding alone": write,
        "drawing alone": lambda: [draw_boxes(image, boxes, ["duck", "duck"], [0, 1]) for image in images],
        "decoding alone": lambda: list(VideoReader(str(film))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    bare = seconds["the network alone, frames in memory"]
    height, width = images[0].shape[:2]
    title = f"{len(images)} frames {width}x{height}, median of {rounds} rounds"
    print(f"\n| {title} | frames/s | ratio |\n|---|---|---|")
    for name, values in seconds.items():
        ratio = statistics.median(alone / value for alone, value in zip(bare, values, strict=True))
        print(f"| {name} | {len(images) / statistics.median(values):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
