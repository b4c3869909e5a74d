"""What every test shares: where ../shared is, and one thread so that timings do not fight."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photos and golden numbers beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the photos and golden numbers in {SHARED}, which is not there")
    return SHARED
