"""Make the photos that ``fewbox demo`` learns from and looks in: those in the package, again.

    python tools/demo_photos.py src/fewbox/rubber_ducks        about half a minute

The boxes of all photos are in one file, ``boxes.json``. Each pixel depends on the renderer alone, so the
photos are the same whenever they are made, up to what Pillow's JPEG makes of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fewbox.data import DEMO_BOXES_NAME
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import write_coco
from renderer import render_ducks

QUALITY = 83
"""Of the JPEG files, 1.6 MB: the demo does as well as with files of quality 90, which take 2.4 MB."""


def main() -> None:
    """Render, and write the boxes of both sets into one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    both = render_ducks(folder, quality=QUALITY)
    for part in both:
        (folder / part.source / DEMO_BOXES_NAME).unlink()
    images = tuple(image for part in both for image in part)
    write_coco(AnnotationSet(images, both[0].labels, folder.name), folder / DEMO_BOXES_NAME)
    size = sum(file.stat().st_size for file in folder.rglob("*.*"))
    print(f"{folder}: {len(images)} photos, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
