"""What every test shares: where ../shared is, the golden base model, and one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from exported_duck import ExportedDuck, export_duck

# Threads that wait for each other on a busy machine are many times slower than one alone.
torch.set_num_threads(1)

# The same examples in every run, or a test would fail by chance, for somebody who has changed something else.
# "make fuzz" looks for new ones; what it finds becomes an @example.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN_ARCHIVE = "golden/ssd_resnet50_v1_fpn_640x640_coco17_tpu-8.tar.gz"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photos and golden numbers beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the photos and golden numbers in {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of base models for each module of tests, so that none depends on what others have cached."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("FEWBOX_CACHE")
    os.environ["FEWBOX_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["FEWBOX_CACHE"]
    else:
        os.environ["FEWBOX_CACHE"] = before


@pytest.fixture(scope="session")
def golden_archive(shared: Path) -> Path:
    """The archive of the base model that the golden numbers were made with."""
    return shared / GOLDEN_ARCHIVE


@pytest.fixture(scope="session")
def exported_duck(tmp_path_factory: pytest.TempPathFactory) -> ExportedDuck:
    """A detector of the demo's ducks, the same one exported, and photos of ducks to look in."""
    pytest.importorskip("onnxscript", reason="needs what exports detectors: pip install '.[export]'")
    return export_duck(tmp_path_factory.mktemp("exported_duck"))
