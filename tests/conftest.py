"""What every test shares: where ../shared is, the golden base model, and one thread."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from fewbox.core import EXPORTING, missing_packages, num_cores
from made_once import made_once

if TYPE_CHECKING:
    from exported_duck import ExportedDuck
    from fewbox.apps.batch.shards import Shard, ShardResult
    from fewbox.apps.batch.workers import Work
    from fewbox.models.base import BaseModel

# Nothing here imports torch: the process that only hands out tests would load it, while all others wait.

# Threads that wait for each other on a busy machine are many times slower than one alone; here, and in what
# tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nothing that a test starts may go on after it; tests/test_export_cache.py asks for it where it needs it.
os.environ["FEWBOX_BACKGROUND_EXPORT"] = "0"

# The same examples in every run, or a test would fail by chance, for somebody who has changed something else.
# "make fuzz" looks for new ones; what it finds becomes an @example.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
if settings.get_current_profile_name() == "same":
    # Hypothesis also tries numbers and words from the modules that are loaded: those depend on what the tests
    # before have imported, and with several processes that is never the same. There is no setting for it.
    providers._get_local_constants = lambda: providers._local_constants

SHARED = Path(__file__).resolve().parents[2] / "shared"
MOST_SECONDS = 5.0
USUAL_SECONDS = 0.1
"""What :func:`slowness` takes on the machine on which tests were marked: 2 cores of an Intel Xeon."""

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
def golden_base(golden_archive: Path) -> BaseModel:
    """The golden base model, read from its archive once."""
    from fewbox.models.base import convert_base, load_base

    facts = {"name": golden_archive.name, "source": "tests", "source_sha256": "0" * 64, "licence": "none"}
    folder = made_once(
        "golden_base", lambda half: convert_base(golden_archive, half / "b.safetensors", **facts)
    )
    return load_base(folder / "b.safetensors")


@pytest.fixture(scope="module")
def in_float32() -> Iterator[None]:
    """What is learnt detects in float32; whether bfloat16 would do is not tried, with two networks more.

    For tests of what is learnt. That it is tried, and when it is taken, tests/test_detector.py holds.
    """
    from fewbox import finetuning

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "with_fastest_precision", lambda detector, *_, **__: detector)
        yield


@pytest.fixture
def short_adapting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning as everywhere else, but from fewer views; and adapting for four steps, in two rounds."""
    from fewbox import finetuning
    from fewbox.finetuning.adapt import learn
    from fewbox.finetuning.linear_probe import recipe

    monkeypatch.setattr(learn, "AdaptSettings", functools.partial(learn.AdaptSettings, rounds=2))
    monkeypatch.setattr(finetuning, "adapting_steps", lambda *_: 4)
    for effort in finetuning.VIEWS:
        monkeypatch.setitem(finetuning.VIEWS, effort, 2)
        monkeypatch.setitem(recipe.AUGMENTED_VIEWS, effort, recipe.AUGMENTED_VIEWS["quick"])


@pytest.fixture
def in_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of a run over many photos that are no processes, where only what is around them is tested.

    Each process would import PyTorch. What they are told goes through pickle all the same.
    """
    from fewbox.apps import batch
    from fewbox.apps.batch.workers import ShardWorker

    def work_here(work: Work, shards: Iterable[Shard], _: int) -> Iterator[ShardResult]:
        return map(ShardWorker(pickle.loads(pickle.dumps(work))).work, shards)

    monkeypatch.setattr(batch, "work_in_processes", work_here)


@pytest.fixture(scope="session")
def can_export() -> None:
    """Skips where a package is missing that exports; none is imported, as one takes half a second."""
    if missing := missing_packages(EXPORTING):
        pytest.skip(f"needs {', '.join(missing)} to export detectors: pip install '.[train]'")


@pytest.fixture(scope="session")
def exported_duck(can_export: None, tmp_path_factory: pytest.TempPathFactory) -> ExportedDuck:  # noqa: ARG001
    """A detector of the demo's ducks, the same one exported, and photos of ducks to look in."""
    from exported_duck import export_duck

    return export_duck(tmp_path_factory.mktemp("exported_duck"))


FIRST = ("test_openvino.py", "test_batch.py", "test_web_example.py", "test_notebook.py", "test_deep.py")
"""Files that take longest. The first makes what most others need, while another process has the next."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with the most slow tests: no long one may begin last."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    early = {name: len(FIRST) - place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: (-early.get(item.path.name, 0), -slow[item.path]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: some of the tests wait, for a disk, a server or a browser."""
    return num_cores() + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported is no garbage, so that none is looked for meanwhile."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What is there once all tests are known stays: Python need not look through it for garbage each time.

    With the many objects of PyTorch, that took every tenth second. What tests make is looked through less
    often too.
    """
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The same random numbers for a test whatever the process has done before."""
    import torch

    # torch.manual_seed also notes down who has called it, for a GPU to come: half a millisecond each time.
    torch.default_generator.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that takes long must say so, or ``make test-fast`` would no longer be fast.

    What counts is processor time, of this process and of those it has started and waited for: seconds on
    the clock say more about what else the machine does. Processors differ too, so the limit is one for the
    speed of this one, never below ``MOST_SECONDS``. Tests of more than half a second are marked, so that
    none fails by chance; and whichever test is the first to load a large library is not held to that.
    """
    before, modules = processor_seconds(), len(sys.modules)
    result = yield
    seconds, most = processor_seconds() - before, MOST_SECONDS * slowness()
    loads_a_library = len(sys.modules) - modules > 100
    if seconds > most and not loads_a_library and item.get_closest_marker("slow") is None:
        pytest.fail(
            f"took {seconds:.1f} s of processor time, more than {most:.1f}: make it faster or mark it "
            "@pytest.mark.slow",
            pytrace=False,
        )
    return result


def processor_seconds() -> float:
    return sum(os.times()[:4])


@functools.cache
def slowness() -> float:
    """How much longer a fixed piece of work takes here than where the limit was set; 1 if not longer."""
    begun = time.process_time()
    numbers = dict(enumerate(range(400_000)))
    sum(numbers[key] % 7 for key in numbers)
    return max(1.0, (time.process_time() - begun) / USUAL_SECONDS)
