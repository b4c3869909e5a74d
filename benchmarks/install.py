"""What an installation takes: seconds and megabytes, plain and with what learns.

Each goes into an empty environment, at the versions of requirements.txt. Needs the package index; of torch
it is the build that pip finds first, with CUDA or without. What pip keeps in its cache is not downloaded
again, so the first round takes longer.

    python benchmarks/install.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
WAYS = {"plain": "", "with `train`": "[train]"}
# Said by the new environment: where its packages are.
_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


@dataclass(frozen=True)
class Installed:
    """What one installation took."""

    seconds: float
    megabytes: float
    """Of all packages, pip itself left out; files, not blocks of the disk."""
    packages: int


def main() -> None:
    """Build the wheel and install it each way, in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1, help="installations each way (default: %(default)s)")
    rounds = parser.parse_args().rounds
    print(describe_machine())
    measured = measure(rounds)
    print("| | seconds | MB | packages |\n|---|---|---|---|")
    for way, each in measured.items():
        seconds = statistics.median(one.seconds for one in each)
        print(f"| {way} | {seconds:.0f} | {each[0].megabytes:.0f} | {each[0].packages} |")


def measure(rounds: int = 1, root: Path = ROOT, ways: Mapping[str, str] = WAYS) -> dict[str, list[Installed]]:
    """Each way so often, one after the other in turns, of the sources in ``root``."""
    found: dict[str, list[Installed]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, root=root)
        (wheel,) = folder.glob("*.whl")
        for number in range(rounds):
            for place, (way, extras) in enumerate(ways.items()):
                found[way].append(install(f"{wheel}{extras}", folder / f"{number}-{place}", root))
    return found


def install(requirement: str, environment: Path, root: Path) -> Installed:
    """Install the wheel in a new environment, at the versions pinned in ``root``."""
    run(sys.executable, "-m", "venv", environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = Path(run(python, "-c", _PACKAGES).strip())
    before = {path.name for path in packages.iterdir()}
    start = time.perf_counter()
    constraint = root / "requirements.txt"
    run(python, "-m", "pip", "install", "-qq", "--constraint", constraint, requirement)
    seconds = time.perf_counter() - start
    new = [path for path in packages.iterdir() if path.name not in before]
    files = [file for path in new for file in (path.rglob("*") if path.is_dir() else [path])]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return Installed(seconds, size / 1e6, sum(path.suffix == ".dist-info" for path in new))


def run(*command: object, root: Path = ROOT) -> str:
    """Run a command in ``root``, with nothing of this environment; what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=root,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


if __name__ == "__main__":
    main()
