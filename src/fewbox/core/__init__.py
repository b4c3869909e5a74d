"""What every folder needs: cores and how threads wait, counts in words, and imports that take long."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager


def num_cores() -> int:
    """How many cores this process may use; not those that others have been given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def let_threads_sleep() -> None:
    """Have the threads of OpenMP sleep while they wait for each other, in all that is started from here on.

    As they come, they spin: on a machine with other work to do each takes turns of the processor away from
    the one it waits for, and PyTorch becomes several times slower. OpenMP reads this when PyTorch is
    imported. What a user has set stays.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # of GNU's, Intel's and LLVM's
        os.environ["KMP_BLOCKTIME"] = "0"  # milliseconds; Intel's and LLVM's


class WhileAnyone:
    """One change of the process that several threads ask for: the first makes it, the last takes it back.

    Each of them doing so by itself, the second would note the first one's change as how it had been before.

    Args:
        change: makes it, as a context manager.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._num = 0
        self._made: AbstractContextManager[object] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within it the change is made."""
        with self._lock:
            if self._made is None:
                made = self._change()
                made.__enter__()
                self._made = made
            self._num += 1
        try:
            yield
        finally:
            with self._lock:
                self._num -= 1
                if not self._num:
                    last, self._made = self._made, None
                    last.__exit__(None, None, None)


@contextmanager
def _limited_blas() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


single_blas_thread = WhileAnyone(_limited_blas)
"""Multiply matrices with one thread, whoever asks for it in this process meanwhile.

Those of a few thousand rows are too small for more. Several threads of Python that each ask for all of
BLAS's threads would wait for each other most of the time, and those spin.
"""


def counted(number: int, one: str, many: str | None = None) -> str:
    """Such as ``1 photo``, ``12 photos``, ``2 boxes`` or ``0 classes``.

    Args:
        number: how many.
        one: what a single one is called.
        many: what several are called; left out, ``one`` and an s, or es where English has it so.
    """
    if many is None:
        many = f"{one}es" if one.endswith(("s", "x", "ch")) else f"{one}s"
    return f"{number} {one if number == 1 else many}"


def some_of(names: Sequence[str], most: int = 5) -> str:
    """Names as a list in a line: the first of them, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def escaped(text: str) -> str:
    """Text that any file can hold: bytes that are none, as names on Linux may have, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def importing_torch() -> Iterator[None]:
    """Import PyTorch, or what needs it, a fifth sooner.

    Nothing that an import makes is garbage, but Python would look through all of it dozens of times: while
    it is made, whenever it looks for garbage afterwards, and when the process ends.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
