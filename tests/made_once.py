"""What takes seconds to make and only has to be there: made once, for all processes and later runs too.

It is kept in pytest's cache under a key made of everything that could change it: the package's sources and
weights, the helpers that make it, and the versions of what exports it. So it is never stale, and after a
change of the sources all of it is made anew.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".pytest_cache" / "made_once"
HELPERS = ("made_once.py", "exports.py", "exported_duck.py", "tiny.py", "tiny_retinanet.py", "tiny_yolox.py")
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy", "pillow")


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder called ``name``, which ``make`` has filled, now or in another process before."""
    folder = KEPT / _key() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder


@cache
def _key() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for package in PACKAGES:
        try:
            digest.update(f"{package} {version(package)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{package} is missing\n".encode())
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.safetensors")]
    for path in (*sorted(sources), *(ROOT / "tests" / helper for helper in HELPERS)):
        digest.update(f"{path.relative_to(ROOT)}\n".encode())
        digest.update(path.read_bytes())
    key = digest.hexdigest()[:16]
    for old in KEPT.glob("*"):
        if old.name != key:
            shutil.rmtree(old, ignore_errors=True)
    return key
