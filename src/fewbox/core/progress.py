"""Show how far long work has come.

On a terminal a bar with the time left; where the output goes to a file, nothing but the
lines the work itself prints. Without rich, which an exported detector does not need, there is no bar.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any


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

    return Console(**settings)


class _LateConsole:
    """The console on stderr, made once there is something to print: rich takes a while to import."""

    @cached_property
    def _made(self) -> Any:
        return make_console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks on; answered without rich where nobody does."""
        forced = os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE") == "1"
        return bool((forced or sys.stderr.isatty()) and getattr(self._made, "is_terminal", False))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def __enter__(self) -> Any:
        return self._made.__enter__()

    def __exit__(self, *about: object) -> None:
        self._made.__exit__(*about)


console: Any = _LateConsole()
"""Where progress and remarks go; results go to stdout or to files."""


@contextmanager
def progress_bar(title: str, total: int | None, *, show: bool = True) -> Iterator[Callable[[str], None]]:
    """Give a function to call after each of ``total`` pieces of work, with a remark to show.

    Args:
        title: what is being done.
        total: how many pieces there are; None if nobody knows.
        show: false shows nothing at all.
    """
    visible = show and console.is_terminal
    if not visible:
        yield lambda _remark: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, remark="")
        yield lambda remark: bar.update(task, advance=1, remark=remark)
