"""Where fewbox keeps what it can fetch or make again: base models, downloads, remote photos."""

from __future__ import annotations

from pathlib import Path

from fewbox.core import former_name


def cache_folder() -> Path:
    """``FEWBOX_CACHE`` if set, or the platform's folder for such things."""
    chosen = former_name.environment("FEWBOX_CACHE")
    if chosen:
        return Path(chosen)
    try:
        import platformdirs
    except ModuleNotFoundError:  # an exported detector runs without it
        return Path.home() / ".cache" / "fewbox"
    return Path(platformdirs.user_cache_dir("fewbox", appauthor=False))
