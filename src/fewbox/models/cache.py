"""Where base models are kept between runs, and which ones are at hand."""

from __future__ import annotations

from pathlib import Path

from fewbox.cache import cache_folder
from fewbox.models.zoo import ZOO, ZooEntry

STARTER = "starter"
"""The name of the base that comes with the package."""


def cached_base_path(name: str) -> Path:
    """Where the converted weights of a base model lie, whether or not they are there."""
    return cache_folder() / "bases" / f"{name}.safetensors"


def is_at_hand(entry: ZooEntry) -> bool:
    """Whether a base can be used without a download."""
    return entry.url is None or cached_base_path(entry.name).exists()


def default_base() -> str:
    """The name of the base to start from if none is asked for.

    The one in the cache with the highest published accuracy; without any, the one in the package.
    """
    cached = [entry for entry in ZOO.values() if entry.coco_ap is not None and is_at_hand(entry)]
    return max(cached, key=lambda entry: entry.coco_ap or 0.0).name if cached else STARTER
