#!/bin/bash
# Pillow 13.0.0: a compressed big-endian TIFF of 32-bit floats or integers is read with its bytes swapped, in silence.
#
# The same picture is right if it is not compressed, if it is little-endian, or if it has 16 bits. tifffile reads
# all of them right. Microscopes and GIS tools write such files; the picture comes out as noise or as nearly black.
#
# Seen:
#   float32 '<' none: right    float32 '<' zlib: right    float32 '>' none: right    float32 '>' zlib: WRONG
#   int32 as float32; uint16 is right in all four
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
ramp = np.arange(64 * 64).reshape(64, 64)
seen = {}
for kind in ("float32", "int32", "uint16"):
    for order in "<>":
        for compression in (None, "zlib"):
            tifffile.imwrite("a.tif", ramp.astype(kind), byteorder=order, compression=compression)
            assert (tifffile.imread("a.tif") == ramp).all()
            seen[kind, order, compression] = bool((np.asarray(Image.open("a.tif")) == ramp).all())
for key, right in seen.items():
    print(*key, "right" if right else "WRONG")
wrong = [key for key, right in seen.items() if not right]
assert wrong == [("float32", ">", "zlib"), ("int32", ">", "zlib")], f"the behaviour has changed: {wrong}"
PY
