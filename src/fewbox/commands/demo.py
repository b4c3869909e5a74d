"""``fewbox demo``: the whole way on photos that come with the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_demo(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    demo = commands.add_parser(
        "demo",
        help="learn rubber ducks from five photos, find the others",
        description="The whole way on photos that come with fewbox: nothing to bring.",
    )
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="where everything goes; an earlier demo there is replaced (default: %(default)s)",
    )
    demo.add_argument("--base", help="a name from 'fewbox bases', or a file (default: the best one at hand)")
    demo.set_defaults(run=run_demo)


def run_demo(parsed: argparse.Namespace) -> int:
    """``fewbox demo``."""
    from fewbox.core.progress import console
    from fewbox.data import demo_photos

    train, test = demo_photos()
    # Said before the imports that take long.
    console.print(f"{len(train)} photos of rubber ducks to learn from, {len(test)} to look in")
    from fewbox.apps import demo

    print(demo.run_demo(parsed.output, parsed.base))
    return 0
