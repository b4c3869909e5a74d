"""Is reading a large photo slower than looking for objects in it? Milliseconds, and ratios to the network.

Photos of 12 and 100 megapixels are made of a real one, enlarged and with the noise of a camera. Each
is read whole and as ``detect`` reads it, resized to the input, and passed through YOLOX-nano, in
turns, so that all meet the machine in the same moods. Times are those of one core at work, not of
the clock on the wall, so that other programs count for little; time for the network is for the
network alone.

    python benchmarks/decode.py                 some minutes; --rounds 3 for a quick look
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fewbox.data.images import read_image, read_reduced, read_size_hw
from fewbox.detection.detector import Detector
from fewbox.models.base import load_base
from machine import DUCKY, SHARED, describe_machine

SIZES_WH = {"12": (4032, 3024), "100": (12000, 8400)}
FORMATS = {
    "JPEG": (".jpg", {"quality": 90}),
    "JPEG, progressive": (".progressive.jpg", {"quality": 90, "progressive": True}),
    "PNG": (".png", {"compress_level": 3}),
}
NOISE = 4.0
STRIP = 256


def yolox_nano() -> Detector:
    """A detector of all classes of COCO."""
    base = load_base(SHARED / "weights/yolox_nano_coco.onnx")
    labels = [str(number) for number in range(base.config.num_classes)]
    return Detector(
        config=base.config, weights=base.weights, labels=labels, base=base.origin(), provenance={}
    )


def with_noise(image: Image.Image, seed: int = 0) -> Image.Image:
    """The picture as a camera's sensor would give it, made in strips, as it may be large."""
    random = np.random.default_rng(seed)
    noisy = np.array(image)
    for y in range(0, noisy.shape[0], STRIP):
        strip = noisy[y : y + STRIP]
        noise = random.standard_normal(strip.shape, np.float32) * NOISE
        noisy[y : y + STRIP] = np.clip(strip + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(noisy)


def make_photos(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each kind of photo and where it is."""
    with Image.open(DUCKY / "train" / "robertducky1.jpg") as photo:
        for megapixels, size_wh in SIZES_WH.items():
            large = with_noise(photo.convert("RGB").resize(size_wh, Image.Resampling.BICUBIC))
            for name, (suffix, options) in FORMATS.items():
                path = folder / f"{megapixels}{suffix}"
                large.save(path, **options)
                yield f"{megapixels} MP {name}", path


def measure(detector: Detector, path: Path, rounds: int) -> dict[str, float]:
    """Median milliseconds of one core for each way, all ways in turns."""
    network = detector.network
    enough = detector.enough_hw(read_size_hw(path))
    whole, reduced = read_image(path), read_reduced(path, enough).image
    pixels = network.batch_of([reduced])
    anchors = network.anchors(network.config.size_hw)

    @torch.inference_mode()
    def run_network() -> object:
        codes, logits = network(pixels)
        return network.select(codes[0], logits[0], anchors, 0.5)

    ways: dict[str, Callable[[], object]] = {
        "network": run_network,
        "read whole": lambda: read_image(path),
        "resize whole": lambda: network.batch_of([whole]),
        "read reduced": lambda: read_reduced(path, enough),
        "resize reduced": lambda: network.batch_of([reduced]),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.process_time()
            run()
            if number > 0:  # the first round warms up
                times[name].append((time.process_time() - start) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Time all photos and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="of 12 MP photos; a third as many of 100 MP")
    parsed = parser.parse_args()
    print(describe_machine())
    torch.set_num_threads(1)
    detector = yolox_nano()
    print("\n| photo | MB | whole ms | reduced ms | network ms | whole : network | reduced : network |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make_photos(Path(folder)):
            rounds = parsed.rounds if name.startswith("12 ") else max(1, parsed.rounds // 3)
            ms = measure(detector, path, rounds)
            whole = ms["read whole"] + ms["resize whole"]
            reduced = ms["read reduced"] + ms["resize reduced"]
            print(
                f"| {name} | {path.stat().st_size / 1e6:.1f} | {whole:.0f} | {reduced:.0f} | "
                f"{ms['network']:.0f} | {whole / ms['network']:.1f} | {reduced / ms['network']:.1f} |",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
