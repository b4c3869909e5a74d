"""Check a wheel as a user meets it: installed alone in empty environments, away from the source tree.

    make wheel

One environment has the extra ``train`` and learns; the other has none, and detects with what was learnt.
What is missing from the wheel, or from its list of requirements, shows here and nowhere else: all other tests
run in an environment that has every extra, on the files of the source tree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

# Run by the new environment: five photos of an orange disc on noise, and where it is.
MAKE_PHOTOS = """
import csv, random
from pathlib import Path
from PIL import Image, ImageDraw

rng = random.Random(0)
Path("photos").mkdir()
with open("boxes.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["image", "x1", "y1", "x2", "y2"])
    for number in range(5):
        photo = Image.effect_noise((320, 240), 60).convert("RGB")
        x, y, side = rng.randrange(200), rng.randrange(120), rng.randrange(60, 100)
        ImageDraw.Draw(photo).ellipse((x, y, x + side, y + side), fill=(240, 130, 20))
        photo.save(f"photos/{number}.jpg")
        table.writerow([f"{number}.jpg", x, y, x + side, y + side])
"""

NO_TORCH = "import importlib.util; assert importlib.util.find_spec('torch') is None, 'torch is there'"
LEARNING = (
    "--version",
    "finetune photos --boxes boxes.csv --label disc -o disc.safetensors",
    "detect disc.safetensors photos -o found",
    "show disc.safetensors",
    "export disc.safetensors disc.onnx",
)
PLAIN = (
    "--version",
    "bases",
    "check photos --boxes boxes.csv --label disc",
    "detect disc.onnx photos -o found_plain",
    "evaluate disc.onnx photos --boxes boxes.csv -o report",
    "show disc.onnx",
)
MADE = (
    *("disc.safetensors", "found/detections.json", "found/0.jpg", "disc.onnx"),
    *("found_plain/detections.json", "found_plain/0.jpg", "report/report.html"),
)


def main() -> None:
    """Install the wheel, run the commands, and end with an error at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "--constraint", type=Path, required=True, help="pinned versions, such as requirements.txt"
    )
    parsed = parser.parse_args()
    wheel, constraint = parsed.wheel.resolve(), parsed.constraint.resolve()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        # Nothing of the source tree, of its environment, or of this user's cache.
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FEWBOX_"))
        }
        environment |= {"FEWBOX_CACHE": str(folder / "cache")}

        def run(*command: object) -> None:
            print("$", *command, flush=True)
            done = subprocess.run([str(word) for word in command], cwd=folder, env=environment, check=False)
            if done.returncode:
                sys.exit(f"{wheel.name}: exit code {done.returncode}: {' '.join(map(str, command))}")

        def install(name: str, extras: str) -> Path:
            venv.create(folder / name, with_pip=True)
            programs = folder / name / ("Scripts" if os.name == "nt" else "bin")
            pip = (programs / "python", "-m", "pip")
            run(*pip, "install", "--quiet", "--constraint", constraint, f"{wheel}{extras}")
            run(*pip, "check")
            return programs

        learning, plain = install("learning", "[train]"), install("plain", "")
        run(plain / "python", "-c", MAKE_PHOTOS)
        run(plain / "python", "-c", NO_TORCH)
        for programs, commands in ((learning, LEARNING), (plain, PLAIN)):
            for command in commands:
                run(programs / "fewbox", *command.split())
        if missing := [made for made in MADE if not (folder / made).exists()]:
            sys.exit(f"{wheel.name}: not made: {', '.join(missing)}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, installs alone and works")


if __name__ == "__main__":
    main()
