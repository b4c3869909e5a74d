"""How many cores there are to work with."""

from __future__ import annotations

import os


def num_cores() -> int:
    """How many cores this process may use; not those that others have been given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
