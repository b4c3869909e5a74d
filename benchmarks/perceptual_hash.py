"""How well perceptual hashes tell copies of a photo from other photos: distances, and where the limits lie.

python benchmarks/perceptual_hash.py               about two minutes
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance

from fewbox.data.images import find_photos, read_image
from fewbox.data.similar import NEARLY_SAME, SAME, perceptual_hash, similar_pairs
from machine import SHARED

SETS = ("coco128_val/images", "raccoon/images", "microcontrollers/images/train", "ducky/test")


def changed(image: np.ndarray) -> dict[str, np.ndarray]:
    """What happens to a photo on its way through chats and scripts."""
    photo = Image.fromarray(image)
    width, height = photo.size
    small_file = io.BytesIO()
    photo.save(small_file, "JPEG", quality=30)
    margin_x, margin_y = round(0.03 * width), round(0.03 * height)
    versions = {
        "half the size": photo.resize((width // 2, height // 2)),
        "JPEG of quality 30": Image.open(small_file).convert("RGB"),
        "15% brighter": ImageEnhance.Brightness(photo).enhance(1.15),
        "3% cut off all around": photo.crop((margin_x, margin_y, width - margin_x, height - margin_y)),
        "turned by 1 degree": photo.rotate(1),
    }
    return {name: np.array(version) for name, version in versions.items()}


def main() -> None:
    """Print distances of copies, then of pairs of photos."""
    prints: dict[str, list[np.ndarray]] = {}
    names: dict[str, list[str]] = {}
    copies: dict[str, list[float]] = {}
    for place in SETS:
        for path in find_photos(SHARED / "data" / place):
            image = read_image(path)
            bits = perceptual_hash(image)
            if bits is None:
                continue
            prints.setdefault(place, []).append(bits)
            names.setdefault(place, []).append(path.name)
            for change, version in changed(image).items():
                other = perceptual_hash(version)
                copies.setdefault(change, []).append(1.0 if other is None else float((bits != other).mean()))
    print(
        f"\n| copies | half below | 95% below | within {SAME} | within {NEARLY_SAME} |\n|---|---|---|---|---|"
    )
    for change, values in copies.items():
        half, most = np.quantile(values, (0.5, 0.95))
        same, nearly = (np.mean(np.array(values) <= limit) for limit in (SAME, NEARLY_SAME))
        print(f"| {change} | {half:.3f} | {most:.3f} | {same:.0%} | {nearly:.0%} |")
    print("\n| pairs of | nearest pairs |\n|---|---|")
    for place, bits_of_set in prints.items():
        bits = np.array(bits_of_set)
        pairs = sorted((d, i, j) for i, j, d in similar_pairs(bits, bits, 0.3) if i < j)[:12]
        listed = ", ".join(f"{names[place][i]} {names[place][j]} {d:.3f}" for d, i, j in pairs)
        print(f"| {place} | {listed or 'all beyond 0.3'} |")


if __name__ == "__main__":
    main()
