"""Show how far long work has come.

On a terminal a bar with the time left; where the output goes to a file, nothing but the
lines the work itself prints. Without rich, which an exported detector does not need, there is no bar.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

try:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class Console(RichConsole):
        """Rich's, which leaves it to the command line to end when nobody reads any more."""

        def on_broken_pipe(self) -> None:
            """Rich would end the process itself, with the exit code of an error.

            Raises:
                BrokenPipeError: always.
            """
            raise BrokenPipeError

except ModuleNotFoundError:

    class Console:  # type: ignore[no-redef]
        """Prints lines, as rich's does where there is no terminal."""

        is_terminal = False

        def __init__(self, **settings: object) -> None: ...

        def print(self, text: str, **settings: object) -> None:
            """Print a line to stderr."""
            print(text, file=sys.stderr)


console = Console(stderr=True, highlight=False, soft_wrap=True)
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
