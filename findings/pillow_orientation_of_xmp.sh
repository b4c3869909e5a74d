#!/bin/bash
# Pillow 13.0.0: ImageOps.exif_transpose turns a photo by an orientation that only its XMP states. OpenCV does not, and neither did
# Chromium where we looked (JPEG, PNG, WebP, AVIF). Boxes drawn in a browser, or made with OpenCV, then lie elsewhere in what Pillow reads.
#
# XMP has a field of its own for it, tiff:Orientation. Where EXIF has none, as after a program that turned the pixels has dropped that
# alone, Image.getexif takes XMP's for EXIF's.
#
# Seen, a white pixel in the top left corner of a black photo, and where it is read:
#   none: Pillow top left, OpenCV top left
#   EXIF 3: Pillow bottom right, OpenCV bottom right
#   XMP 3: Pillow bottom right, OpenCV top left
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$tmp/lib" pillow==13.0.0 numpy==2.4.6 opencv-python-headless==5.0.0.93
cd "$tmp"
PYTHONPATH="$tmp/lib" python3 - <<'PY'
import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps

print("Pillow", PIL.__version__, "OpenCV", cv2.__version__)
photo = np.zeros((64, 64, 3), np.uint8)
photo[:16, :16] = 255
exif = Image.Exif()
exif[0x0112] = 3
xmp = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>"""


def corner(pixels):
    return "top left" if pixels[4, 4].mean() > 128 else "bottom right" if pixels[-5, -5].mean() > 128 else "nowhere"


seen = {}
for name, stated in (("none", {}), ("EXIF 3", {"exif": exif}), ("XMP 3", {"xmp": xmp})):
    Image.fromarray(photo).save("a.jpg", **stated)
    with Image.open("a.jpg") as image:
        seen[name] = corner(np.asarray(ImageOps.exif_transpose(image))), corner(cv2.imread("a.jpg"))
    print(f"{name}: Pillow {seen[name][0]}, OpenCV {seen[name][1]}")
first, last = "top left", "bottom right"
expected = {"none": (first, first), "EXIF 3": (last, last), "XMP 3": (last, first)}
assert seen == expected, f"the behaviour has changed: {seen}"
PY
