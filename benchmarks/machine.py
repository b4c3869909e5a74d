"""What every benchmark says first: the machine and the versions its figures belong to."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import numpy as np
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN_BASE = SHARED / "golden/ssd_resnet50_v1_fpn_640x640_coco17_tpu-8.tar.gz"
DUCKY = SHARED / "data/ducky"


def describe_machine() -> str:
    """One line: processor, cores, operating system, versions."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        processor = names[0] if names else processor
        flags = cpuinfo.read_text()
        processor += "".join(f" +{flag}" for flag in ("avx512f", "amx_bf16") if flag in flags)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = platform.python_version()
    return (
        f"{processor}, {cores} cores, {platform.system()}, Python {python}, "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )


def peak_of_this_process_mb() -> float:
    """Peak resident memory; on Linux not that of the parent, which ``getrusage`` passes on."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
