"""Show how far long work has come.

On a terminal a bar with the time left; where the output goes to a file, or rich is not installed, which an
exported detector does not need, a line every half minute.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, cached_property
from typing import Any, Protocol

SECONDS_BETWEEN_LINES = 30.0
_SPEED_OVER_S = 600.0  # some pieces, such as a round of adapting, take a minute each


class _Lines:
    """Prints lines, as rich's console does where there is no terminal."""

    def print(self, text: str, **settings: object) -> None:
        """Print a line to stderr."""
        print(text, file=sys.stderr)


def make_console(**settings: Any) -> Any:
    """Rich's console with these settings; where rich is not installed, one that prints lines to stderr."""
    try:
        from rich.console import Console as RichConsole
    except ModuleNotFoundError:
        return _Lines()

    class Console(RichConsole):
        """Rich's, which leaves it to the command line to end when nobody reads any more."""

        def on_broken_pipe(self) -> None:
            """Rich would end the process itself, with the exit code of an error.

            Raises:
                BrokenPipeError: always.
            """
            raise BrokenPipeError

    # Names of photos and classes may look like rich's markup, as "[red]", or like an emoji's name.
    return Console(markup=False, emoji=False, **settings)


class _LateConsole:
    """The console on stderr, made once there is something to print: rich takes a while to import."""

    @cached_property
    def _made(self) -> Any:
        return make_console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks on; answered without rich where nobody does."""
        return self._may_be_terminal and bool(getattr(self._made, "is_terminal", False))

    @property
    def _may_be_terminal(self) -> bool:
        forced = os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE") == "1"
        return bool(forced or sys.stderr.isatty())

    def print(self, text: str, **settings: Any) -> None:
        """Print a line; without rich where nobody looks on, who would not see a difference."""
        (self._made if self._may_be_terminal else _Lines()).print(text, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def __enter__(self) -> Any:
        return self._made.__enter__()

    def __exit__(self, *about: object) -> None:
        self._made.__exit__(*about)


console: Any = _LateConsole()
"""Where progress and remarks go; results go to stdout or to files."""


@cache
def say_once(line: str) -> None:
    """Print a line, unless this process has printed it before."""
    console.print(line)


class Advance(Protocol):
    """Called after each piece of work, or after several."""

    def __call__(self, remark: str, pieces: int = 1) -> None:
        """Show that ``pieces`` more are done, and a remark."""
        ...


def _nothing(remark: str, pieces: int = 1) -> None:
    """Where nobody wants to know."""


class _HalfMinutely:
    """Says how far work has come, and how long the rest will take at the speed since the line before."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total, self.done = title, total, 0
        self._said_at, self._done_then = time.monotonic(), 0

    def __call__(self, remark: str, pieces: int = 1) -> None:
        self.done += pieces
        now = time.monotonic()
        seconds = now - self._said_at
        if seconds < SECONDS_BETWEEN_LINES or self.done == self.total:
            return
        parts = [f"{self.title}: {self.done}"]
        if self.total is not None:
            left = (self.total - self.done) * seconds / max(self.done - self._done_then, 1)
            parts = [f"{parts[0]} of {self.total}", f"{timedelta(seconds=round(left))} left"]
        console.print(", ".join([*parts, remark] if remark else parts))
        self._said_at, self._done_then = now, self.done


@contextmanager
def progress_bar(title: str, total: int | None, *, show: bool = True) -> Iterator[Advance]:
    """Give a function to call after each of ``total`` pieces of work, with a remark to show.

    Args:
        title: what is being done.
        total: how many pieces there are; None if nobody knows.
        show: false shows nothing at all.
    """
    if not show:
        yield _nothing
        return
    if not console.is_terminal:
        yield _HalfMinutely(title, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=_SPEED_OVER_S) as bar:
        task = bar.add_task(title, total=total, remark="")
        yield lambda remark, pieces=1: bar.update(task, advance=pieces, remark=remark)
