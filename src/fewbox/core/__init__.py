"""What every folder needs: cores and how threads wait, counts in words, imports, and the name from before.

Imports that take long are made sooner, and packages that only some commands need are asked for before work
begins. Detecting, drawing boxes and evaluating need what a plain installation brings. Learning and exporting
need torch and more: the extra ``train`` of ``pyproject.toml``.

Files, settings and code of the time when fewbox was called goldeneye are kept at work. Files say who wrote
them, in their metadata and in JSON, so the name stands in all of them. They open as before; what is written
now carries the new name alone.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shlex
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from fewbox.errors import SettingError

EXPORTING = ("torch", "onnx", "onnxscript", "onnxruntime")
"""What writing an ``.onnx`` file needs."""
TRAIN = "train"
_TRAIN_PACKAGES = frozenset(("torch", "google_crc32c", "onnx", "onnxscript"))
"""What the extra brings, by the names under which it is imported."""


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


def send_no_telemetry() -> None:
    """Have ONNX Runtime note down nothing for its makers, in all that is started from here on.

    From 1.29 on it does so as soon as it is imported, and makes an id of the machine
    (findings/onnxruntime_telemetry.sh). What a user has set stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


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


def quoted(word: object) -> str:
    """A name as a word of a command that people copy: quoted for their shell if it has to be."""
    return subprocess.list2cmdline([str(word)]) if os.name == "nt" else shlex.quote(str(word))


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


def is_installed(package: str) -> bool:
    """Whether a package can be imported; it is not, as that may take seconds."""
    return importlib.util.find_spec(package) is not None


def installed_version(package: str) -> str | None:
    """The version that is installed, if any; nothing is imported."""
    from importlib import metadata  # which takes longer to import than all else here

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if not is_installed(name)]


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '.[{extra}]'"


def require_packages(packages: Iterable[str], what: str, extra: str = TRAIN, *, hint: str = "") -> None:
    """Refuse work for which packages are missing, before it begins.

    Args:
        packages: what it needs.
        what: what it is, for the message.
        extra: what brings them.
        hint: what else can be done, after the command that installs them.

    Raises:
        SettingError: one of them is not installed.
    """
    if missing := missing_packages(packages):
        raise SettingError(
            f"{what} needs {', '.join(missing)}, not installed", hint=install_command(extra) + hint
        )


def missing_in_words(error: ModuleNotFoundError, what: str) -> Exception:
    """The error that tells a user what ``what`` needs; ``error`` itself unless ``train`` has the package."""
    package = (error.name or "").partition(".")[0]
    if package not in _TRAIN_PACKAGES:
        return error
    return SettingError(f"{what} needs {package}, not installed", hint=install_command(TRAIN))


NAME, FORMER_NAME = "fewbox", "goldeneye"
"""What files call the package, and what they called it before."""

_Value = TypeVar("_Value")


def named_entry(document: Mapping[str, _Value], key: str) -> _Value | None:
    """What stands in ``document`` under ``key`` or, failing that, under its former key; else None."""
    former = key.replace(NAME, FORMER_NAME)
    return document[key] if key in document else document.get(former)


def environment_variable(variable: str) -> str | None:
    """The environment variable of this name, such as ``FEWBOX_CACHE``; under its former name it warns."""
    value = os.environ.get(variable)
    former = variable.replace(NAME.upper(), FORMER_NAME.upper())
    if value is None and former in os.environ:
        value = os.environ[former]
        warnings.warn(
            f"the environment variable {former} is now called {variable}", FutureWarning, stacklevel=2
        )
    return value
