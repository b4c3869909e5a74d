"""Where base models are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``GOLDENEYE_CACHE`` if set, or the platform's folder for such things."""
    chosen = os.environ.get("GOLDENEYE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("goldeneye", appauthor=False))


def cached_base_path(name: str) -> Path:
    """Where the converted weights of a base model lie, whether or not they are there."""
    return cache_folder() / "bases" / f"{name}.safetensors"
