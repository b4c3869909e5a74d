"""What computes, as users name it: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

No torch here: an exported detector is opened without it. ``models/device.py`` takes the device.
"""

from __future__ import annotations

import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from fewbox.errors import SettingError

AUTO, CPU = "auto", "cpu"
DEVICES = "auto, cpu, cuda, cuda:N, mps"
_KNOWN = re.compile(r"auto|cpu|cuda(:\d{1,3})?|mps(:0)?")
_OF_GPUS = ("nvidiactl", "nvhost-ctrl", "dxg", "kfd")
"""Below ``/dev``: of NVIDIA, of its small boards, of Windows' Linux, of AMD."""


def checked_device(value: Any) -> str:
    """The name of a device; a ``torch.device`` will do.

    Raises:
        SettingError: there is no such kind of device.
    """
    name = str(value)
    if not _KNOWN.fullmatch(name):
        raise SettingError(f"unknown device: {name!r}", hint=f"choose one of: {DEVICES}")
    return name


def may_have_gpu() -> bool:
    """Whether PyTorch might find a GPU here; to ask it takes the second that its import takes."""
    try:
        if metadata.version("torch").endswith("+cpu"):
            return False
    except metadata.PackageNotFoundError:
        return False
    if platform.system() == "Linux":
        return any(Path("/dev", name).exists() for name in _OF_GPUS)
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return shutil.which("nvidia-smi") is not None
