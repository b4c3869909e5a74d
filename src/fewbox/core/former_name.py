"""What keeps files, settings and code of the time when fewbox was called goldeneye at work.

Files say who wrote them, in their metadata and in JSON, so the name stands in all of them. They open as
before; what is written now carries the new name alone.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TypeVar

NAME, FORMER_NAME = "fewbox", "goldeneye"

Value = TypeVar("Value")


def entry(document: Mapping[str, Value], key: str) -> Value | None:
    """What stands in ``document`` under ``key`` or, failing that, under its former key; else None."""
    former = key.replace(NAME, FORMER_NAME)
    return document[key] if key in document else document.get(former)


def environment(variable: str) -> str | None:
    """The environment variable of this name, such as ``FEWBOX_CACHE``; under its former name it warns."""
    value = os.environ.get(variable)
    former = variable.replace(NAME.upper(), FORMER_NAME.upper())
    if value is None and former in os.environ:
        value = os.environ[former]
        warnings.warn(
            f"the environment variable {former} is now called {variable}", FutureWarning, stacklevel=2
        )
    return value
