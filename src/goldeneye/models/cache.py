"""Where base models are kept between runs."""

from __future__ import annotations

from pathlib import Path

from goldeneye.cache import cache_folder
from goldeneye.models.zoo import ZOO


def cached_base_path(name: str) -> Path:
    """Where the converted weights of a base model lie, whether or not they are there."""
    return cache_folder() / "bases" / f"{name}.safetensors"


def best_cached_base() -> str | None:
    """The name of the base in the cache with the highest published accuracy, if there is one."""
    cached = [entry for entry in ZOO.values() if cached_base_path(entry.name).exists()]
    return max(cached, key=lambda entry: entry.coco_ap).name if cached else None
