"""Waiting for what happens, in this process and in others, for as long as a busy machine may need."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil

LONG = 180
"""Seconds after which a test gives up: so many that it does not matter what else the machine does."""
_TRIED = itertools.count()


def wait_until(condition: Callable[[], Any], seconds: float = LONG) -> Any:
    """What ``condition`` gives, as soon as it is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has; it may end at any time, also while it is asked for."""
    import psutil

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def words_of(process: psutil.Process) -> str:
    """The command that a process runs; none once it has ended."""
    import psutil

    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def free_port() -> int:
    """A port that nobody has, for a server that is to be started a little later.

    One that the system gives to whoever asks for any could be given to another process meanwhile. Those it
    gives begin at 32768 on Linux; each process of tests begins elsewhere below that.
    """
    for number in itertools.islice(_TRIED, 1000):
        port = 20_000 + (os.getpid() * 97 + number) % 12_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("a thousand ports are taken")
