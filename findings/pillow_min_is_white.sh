#!/bin/bash
# Pillow 13.0.0 heeds a TIFF's PhotometricInterpretation MinIsWhite in 8 bits only: 16 bits and floats come as a negative.
#
# The tag says that 0 is white. In 8 bits Image.open turns the values over, so that the picture looks as it was meant;
# in 16 bits and float32 the values stand as they are, and nothing on the image says so but tag 262. X-ray and
# microscope software writes such files: a data set of mixed depths then holds positives and negatives.
#
# Seen: the pixel that is meant to be nearly white, stored as 2% of the range
#   uint8: 250   uint16: 1285 of 65535   float32: 0.02 of 1
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

print("Pillow", PIL.__version__)
got = {}
for kind, value in (("uint8", 5), ("uint16", 1285), ("float32", 0.02)):
    tifffile.imwrite("a.tif", np.full((32, 32), value, kind), photometric="miniswhite")
    image = Image.open("a.tif")
    assert image.tag_v2[262] == 0, "MinIsWhite"
    got[kind] = round(float(np.asarray(image)[0, 0]), 4)
    print(kind, image.mode, got[kind])
assert got == {"uint8": 250, "uint16": 1285, "float32": 0.02}, f"the behaviour has changed: {got}"
PY
