"""Where base models are kept between runs."""

from __future__ import annotations

from pathlib import Path

from goldeneye.cache import cache_folder


def cached_base_path(name: str) -> Path:
    """Where the converted weights of a base model lie, whether or not they are there."""
    return cache_folder() / "bases" / f"{name}.safetensors"
