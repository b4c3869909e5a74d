"""What every folder needs: how many cores there are to work with, and counts as people write them."""

from __future__ import annotations

import os


def num_cores() -> int:
    """How many cores this process may use; not those that others have been given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def counted(number: int, one: str, many: str | None = None) -> str:
    """Such as ``1 photo``, ``12 photos``, ``2 boxes`` or ``0 classes``.

    Args:
        number: how many.
        one: what a single one is called.
        many: what several are called; left out, ``one`` and an s, or es where English has it so.
    """
    if many is None:
        many = f"{one}es" if one.endswith(("s", "x", "ch")) else f"{one}s"
    return f"{number} {one if number == 1 else many}"
