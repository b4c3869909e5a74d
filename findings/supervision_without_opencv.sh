#!/bin/bash
# supervision 0.31.2 no longer installs OpenCV, and its stand-in in NumPy gives other pixels.
#
# `pip install supervision` used to bring cv2, and code beside it came to rely on that. Now cv2 cannot be imported
# after it. Drawing and resizing still work, with a UserWarning, but not the same: resize_image and letterbox_image
# cut fractions off where OpenCV rounds, so a third of all values come out one lower, and pictures prepared
# on two machines are not equal; a dot of DotAnnotator has 122 pixels where OpenCV draws 98.
#
# Seen, without and with opencv-python-headless 5.0.0.93: values that differ by 1: 29% of a letterboxed picture of noise,
# none by more; pixels of two dots: 122 and 98.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.4.6
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$tmp/opencv" opencv-python-headless==5.0.0.93
cat > "$tmp/pixels.py" <<'PY'
import importlib.util
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
import supervision as sv

noise = np.random.default_rng(0).integers(0, 255, (100, 130, 3)).astype(np.uint8)
two = sv.Detections(xyxy=np.array([[10.4, 20.6, 60.5, 90.5], [70, 30, 150, 110]]), class_id=np.array([0, 1]))
dots = sv.DotAnnotator().annotate(np.zeros((120, 160, 3), np.uint8), two)
np.savez(sys.argv[1], boxed=sv.letterbox_image(noise, (64, 64)), dots=int((dots.sum(-1) > 0).sum()),
         has_cv2=importlib.util.find_spec("cv2") is not None)
PY
cd "$tmp"
venv/bin/python pixels.py without.npz
PYTHONPATH="$tmp/opencv" venv/bin/python pixels.py with.npz
venv/bin/python - <<'PY'
import numpy as np

without, beside = np.load("without.npz"), np.load("with.npz")
assert not without["has_cv2"], "supervision installs OpenCV again"
assert beside["has_cv2"]
differ = np.abs(without["boxed"].astype(int) - beside["boxed"].astype(int))
print(f"letterboxed: {(differ > 0).mean():.0%} of the values differ, by {differ.max()} at most")
print("pixels of two dots:", int(without["dots"]), "and", int(beside["dots"]))
assert differ.max() == 1 and 0.25 < (differ > 0).mean() < 0.35, "the behaviour has changed"
assert (int(without["dots"]), int(beside["dots"])) == (122, 98), "the behaviour has changed"
PY
