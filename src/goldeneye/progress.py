"""Show how far long work has come.

On a terminal a bar with the time left; where the output goes to a file, nothing but the
lines the work itself prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    visible = show and console.is_terminal
    with Progress(*columns, console=console, disable=not visible, transient=True) as bar:
        task = bar.add_task(title, total=total, remark="")
        yield lambda remark: bar.update(task, advance=1, remark=remark)
