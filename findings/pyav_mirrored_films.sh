#!/bin/bash
# PyAV 18.1.0: frame.rotation of a mirrored film is -180 or 0; only the display matrix tells that it is mirrored.
#
# A phone's front camera or an editor stores a mirrored film as plain frames and a display matrix. ffmpeg's own
# player and browsers mirror it. frame.rotation says 0 for a film that is flipped top to bottom, and -180 for one that is
# flipped left to right: who turns the frames by it gets them upside down. The matrix is in the frame's side data.
#
# Seen:
#   plain: rotation 0, matrix none
#   hflip: rotation -180, matrix a=-1 d=1
#   vflip: rotation 0, matrix a=1 d=-1
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$tmp/lib" av==18.1.0 numpy==2.4.6
cd "$tmp"
PYTHONPATH="$tmp/lib" python3 - <<'PY'
import struct

import av
import numpy as np

print("PyAV", av.__version__)


def write(path):
    with av.open(path, "w") as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


def set_matrix(path, a, d, x, y):
    """Put a display matrix into the track header of an MP4, in place."""
    data = bytearray(open(path, "rb").read())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    values = (a * one, 0, 0, 0, d * one, 0, x * one, y * one, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *values)
    open(path, "wb").write(data)


seen = {}
for name, matrix in (("plain", None), ("hflip", (-1, 1, 64, 0)), ("vflip", (1, -1, 0, 48))):
    write(f"{name}.mp4")
    if matrix:
        set_matrix(f"{name}.mp4", *matrix)
    with av.open(f"{name}.mp4") as film:
        frame = next(film.decode(video=0))
        told = "none"
        for side in frame.side_data:
            if "DISPLAYMATRIX" in str(side.type):
                cells = struct.unpack("=9i", bytes(side))
                told = f"a={cells[0] >> 16} d={cells[4] >> 16}"
        seen[name] = (frame.rotation, told)
        print(f"{name}: rotation {frame.rotation}, matrix {told}")
expected = {"plain": (0, "none"), "hflip": (-180, "a=-1 d=1"), "vflip": (0, "a=1 d=-1")}
assert seen == expected, f"the behaviour has changed: {seen}"
PY
