"""What callers give from Python, checked at the door, where it can still be said in their words."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from fewbox.errors import FewboxError, SettingError


def checked_threshold(value: Any) -> float:
    """A score threshold as a plain float; any kind of number will do, numpy's too.

    Raises:
        SettingError: it is no number from 0 to 1; above 1 nothing would ever be found.
    """
    try:
        threshold = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        threshold = math.nan
    if not 0 <= threshold <= 1:
        hint = f"30% is 0.3: score_threshold={threshold / 100:g}" if 1 < threshold <= 100 else None
        raise SettingError(f"the threshold must be a number from 0 to 1: {value!r}", hint=hint)
    return threshold


def checked_path(value: Any, what: str, error: type[FewboxError], hint: str | None = None) -> Path:
    """A path that was given as text or as a path.

    Args:
        value: what was given.
        what: what it is to be, such as ``"a detector's file"``.
        error: what to raise.
        hint: what to do about it.

    Raises:
        FewboxError: of the type ``error``; it is something else, or text that no system takes.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise error(f"{what} is given by its path, not as {kind_of(value)}", hint=hint)
    if "\0" in os.fspath(value) or not os.fspath(value):
        raise error(f"{what} has no such path: {os.fspath(value)!r}", hint=hint)
    return Path(value)


def require_kind(value: Any, kind: type, what: str, error: type[FewboxError], hint: str) -> None:
    """Refuse what is not of a kind.

    Raises:
        FewboxError: of the type ``error``.
    """
    if not isinstance(value, kind):
        raise error(f"{what} must be of the type {kind.__name__}, not {kind_of(value)}", hint=hint)


def kind_of(value: Any) -> str:
    """What something is, for a message: never its contents, which may be a million numbers."""
    return "None" if value is None else type(value).__name__
