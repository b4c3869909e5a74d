"""Where goldeneye keeps what it can fetch or make again: base models, downloads, remote photos."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``GOLDENEYE_CACHE`` if set, or the platform's folder for such things."""
    chosen = os.environ.get("GOLDENEYE_CACHE")
    if chosen:
        return Path(chosen)
    try:
        import platformdirs
    except ModuleNotFoundError:  # an exported detector runs without it
        return Path.home() / ".cache" / "goldeneye"
    return Path(platformdirs.user_cache_dir("goldeneye", appauthor=False))
