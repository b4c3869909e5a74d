"""Packages that only some commands need: whether they are installed, and what to say where one is not.

Detecting, drawing boxes and evaluating need what a plain installation brings. Learning and exporting need
torch and more: the extra ``train`` of ``pyproject.toml``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from fewbox.errors import SettingError

EXPORTING = ("torch", "onnx", "onnxscript", "onnxruntime")
"""What writing an ``.onnx`` file needs."""
TRAIN = "train"
_TRAIN_PACKAGES = frozenset(("torch", "google_crc32c", "onnx", "onnxscript"))
"""What the extra brings, by the names under which it is imported."""


def is_installed(package: str) -> bool:
    """Whether a package can be imported; it is not, as that may take seconds."""
    return importlib.util.find_spec(package) is not None


def version_of(package: str) -> str | None:
    """The version that is installed, if any; nothing is imported."""
    from importlib import metadata  # which takes longer to import than all else here

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if not is_installed(name)]


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '.[{extra}]'"


def require_packages(packages: Iterable[str], what: str, extra: str = TRAIN, *, hint: str = "") -> None:
    """Refuse work for which packages are missing, before it begins.

    Args:
        packages: what it needs.
        what: what it is, for the message.
        extra: what brings them.
        hint: what else can be done, after the command that installs them.

    Raises:
        SettingError: one of them is not installed.
    """
    if missing := missing_packages(packages):
        raise SettingError(f"{what} needs {', '.join(missing)}, not installed", hint=install(extra) + hint)


def in_words(error: ModuleNotFoundError, what: str) -> Exception:
    """The error that tells a user what ``what`` needs; ``error`` itself unless ``train`` has the package."""
    package = (error.name or "").partition(".")[0]
    if package not in _TRAIN_PACKAGES:
        return error
    return SettingError(f"{what} needs {package}, not installed", hint=install(TRAIN))
