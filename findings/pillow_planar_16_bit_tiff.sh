#!/bin/bash
# Pillow 13.0.0: an uncompressed TIFF of three 16-bit colours that lie in planes is read as noise, in silence.
#
# The same picture is read right, scaled to 8 bits, if it is compressed, or if the colours of each pixel lie together;
# with 8 bits it is right in every way. tifffile writes planes for an array [3, H, W], as microscopes keep channels.
#
# Seen, mean difference in steps of 0 to 255:
#   16 separate None: 21.1     all seven others: 0.0
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$tmp/lib" pillow==13.0.0 numpy==2.4.6 tifffile==2026.3.3
cd "$tmp"
PYTHONPATH="$tmp/lib" python3 - <<'PY'
import numpy as np
import PIL
import tifffile
from PIL import Image

print("Pillow", PIL.__version__, "tifffile", tifffile.__version__)
slope = np.add.outer(np.arange(64), np.arange(64))
ramp = np.stack([slope + 30 * channel for channel in range(3)])  # [3, 64, 64], 0 to 186
seen = {}
for bits, scale in ((8, 1), (16, 257)):
    for planes in ("separate", "contig"):
        for compression in (None, "zlib"):
            pixels = (ramp * scale).astype(f"uint{bits}")
            array = pixels if planes == "separate" else np.moveaxis(pixels, 0, -1)
            tifffile.imwrite("a.tif", array, photometric="rgb", planarconfig=planes, compression=compression)
            assert (tifffile.imread("a.tif") == array).all()
            read = np.asarray(Image.open("a.tif")).astype(int)
            seen[bits, planes, compression] = float(np.abs(read - np.moveaxis(ramp, 0, -1)).mean())
for key, difference in seen.items():
    print(*key, f"{difference:.1f}")
wrong = [key for key, difference in seen.items() if difference > 1]
assert wrong == [(16, "separate", None)], f"the behaviour has changed: {wrong}"
PY
