"""Options made of settings: a dataclass of :func:`fewbox.config.setting` has one for each field.

And the one that goes with ``--base`` wherever something is learnt.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


def add_settings(parser: argparse.ArgumentParser, config: Any) -> None:
    """Add an option for each field of a dataclass, with its default, limits and help."""
    for spec in dataclasses.fields(config):
        limits = spec.metadata
        choices = "{" + ",".join(limits["choices"]) + "}"
        allowed = "" if limits["choices"] else f"{limits['low']} to {limits['high']}; "
        default = limits["default_in_words"] or "%(default)s"
        parser.add_argument(
            f"--{spec.name.replace('_', '-')}",
            type=type(spec.default),
            default=spec.default,
            metavar=choices if limits["choices"] else type(spec.default).__name__.upper(),
            help=f"{limits['help']} ({allowed}default: {default})",
        )


def add_batch_norm_eps(parser: argparse.ArgumentParser) -> None:
    """Add the option that says of a base's file what it does not state itself; see ``load_base``."""
    parser.add_argument(
        "--batch-norm-eps",
        type=float,
        metavar="EPS",
        help="what the batch-norms of a .pth given as --base add to the variance, where it does not say so",
    )
