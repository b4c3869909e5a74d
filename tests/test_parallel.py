"""Photos are looked at side by side, in order; how is measured once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fewbox.core import WhileAnyone
from fewbox.detection import Detections, parallel
from fewbox.detection.parallel import run_parallel, threads_per_photo
from fewbox.errors import DetectorFileError
from tiny import make_photos
from waiting import LONG, wait_until


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "num_cores", lambda: 4)


def test_results_come_in_order() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert [done.result() for done in run_parallel(work, range(40), 1)] == list(range(40))


@pytest.mark.parametrize(("num_threads", "at_once"), [(1, 5), (2, 3), (4, 2)])
def test_cores_are_shared(num_threads: int, at_once: int) -> None:
    together = threading.Barrier(at_once, timeout=LONG)  # breaks unless so many are at work at once
    done = [one.result() for one in run_parallel(lambda _: together.wait(), range(2 * at_once), num_threads)]
    assert sorted(set(done)) == list(range(at_once))


def test_threads_that_come_to_pytorch_later_have_as_many_of_its_own_as_before() -> None:
    """What one thread sets holds for all others that have not asked PyTorch for anything yet."""
    found: list[int] = []

    def count(_: int = 0) -> int:
        return torch.get_num_threads()

    def share() -> None:
        found.extend(done.result() for done in run_parallel(count, range(3), 1))
        found.append(count())

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for work in (share, lambda: found.append(count())):
            one = threading.Thread(target=work)
            one.start()
            one.join()
    finally:
        torch.set_num_threads(before)
    assert found == [1, 1, 1, 3, 3]


def test_what_is_left_over_when_python_ends_closes_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an error whose traceback holds it: modules are gone by then."""
    before = torch.get_num_threads()
    left = run_parallel(int, range(9), 1)
    assert next(left).result() == 0
    monkeypatch.delitem(sys.modules, "torch")
    try:
        left.close()  # type: ignore[attr-defined]
    finally:
        torch.set_num_threads(before)


def test_what_threads_change_together_is_as_before_once_the_last_has_done() -> None:
    threads = 8

    @contextmanager
    def changed() -> Iterator[None]:
        nonlocal threads
        before, threads = threads, 1
        yield
        threads = before

    change, second_is_in = WhileAnyone(changed), threading.Event()

    def first() -> None:
        with change():
            assert second_is_in.wait(LONG)

    one = threading.Thread(target=first)
    with change():
        one.start()
        wait_until(lambda: change._num == 2)
    assert threads == 1, "the other still wants it so"
    second_is_in.set()
    one.join()
    assert threads == 8


def test_a_change_that_fails_is_tried_again() -> None:
    made: list[bool] = []

    @contextmanager
    def changed() -> Iterator[None]:
        made.append(len(made) > 0)
        if not made[-1]:
            raise OSError("not yet")
        yield

    change = WhileAnyone(changed)
    with pytest.raises(OSError, match="not yet"), change():
        pass
    with change():
        assert made == [False, True]


def test_only_a_few_are_begun_ahead() -> None:
    begun = []
    results = run_parallel(begun.append, range(1000), 1)
    next(results).result()
    time.sleep(0.05)
    assert len(begun) < 20
    assert sum(1 for _ in results) == 999


def test_nothing_more_is_begun_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    closing = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args: Any, **options: Any) -> None:
            closing.set()
            super().shutdown(*args, **options)

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)

    def work(number: int) -> None:
        begun.append(number)
        if number > 0:
            assert closing.wait(LONG)
        raise ValueError(number)

    results = run_parallel(work, range(1000), 4)  # two at once, five submitted ahead
    with pytest.raises(ValueError, match="0"):
        next(results).result()
    wait_until(lambda: len(begun) == 3)  # those that hold both threads
    results.close()  # as a loop does that is left
    assert sorted(begun) == [0, 1, 2]


class _Slow:
    """A detector that is fast with two threads only."""

    clock = 0.0

    def __init__(self, num_threads: int) -> None:
        self.seconds = 1 if num_threads == 2 else 30

    def detect(self, path: Path) -> Detections:
        _Slow.clock += self.seconds
        none = np.zeros(0, np.float32)
        return Detections(none.reshape(0, 4), none, none.astype(np.int64), ("duck",), (1, 1))


def test_the_fastest_is_found_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "time", SimpleNamespace(perf_counter=lambda: _Slow.clock))
    photos = [image.path for image in make_photos(tmp_path)] * 100
    detector = tmp_path / "duck.onnx"
    detector.write_text("a detector")
    opened: list[int] = []

    def open_with(num_threads: int) -> _Slow:
        opened.append(num_threads)
        return _Slow(num_threads)

    assert threads_per_photo(detector, photos[:20], "auto", open_with) == 1  # not worth it
    assert opened == []
    assert threads_per_photo(detector, photos, "auto", open_with) == 2
    assert opened == [1, 2, 4]
    assert threads_per_photo(detector, photos, "auto", open_with) == 2
    assert opened == [1, 2, 4]
    detector.write_text("another")
    assert threads_per_photo(detector, photos, "auto", open_with) == 2
    assert opened == [1, 2, 4] * 2


def test_a_detector_that_cannot_be_opened(tmp_path: Path) -> None:
    detector = tmp_path / "duck.onnx"
    detector.write_text("a damaged one")

    def open_with(_: int) -> _Slow:
        raise DetectorFileError("damaged")

    with pytest.raises(DetectorFileError, match="damaged"):
        threads_per_photo(detector, [tmp_path / "a.jpg"] * 300, "auto", open_with)


@pytest.mark.parametrize(
    ("was_set", "then"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "5000"}, {"GOMP_SPINCOUNT": "5000"}),
    ],
)
def test_threads_sleep_while_they_wait_unless_a_user_has_set_something(
    was_set: dict[str, str], then: dict[str, str]
) -> None:
    names = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | was_set
    program = "import fewbox, json, os, sys; print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    ).stdout
    variables, has_torch = json.loads(printed)
    assert {name: variables[name] for name in names if name in variables} == then
    assert not has_torch  # PyTorch would have read them already
