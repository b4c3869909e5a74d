"""Options made of settings: a dataclass of :func:`goldeneye.config.setting` has one for each field."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


def add_settings(parser: argparse.ArgumentParser, config: Any) -> None:
    """Add an option for each field of a dataclass, with its default, limits and help."""
    for spec in dataclasses.fields(config):
        limits = spec.metadata
        allowed = ", ".join(limits["choices"]) or f"{limits['low']} to {limits['high']}"
        parser.add_argument(
            f"--{spec.name.replace('_', '-')}",
            type=type(spec.default),
            default=spec.default,
            metavar=type(spec.default).__name__.upper(),
            help=f"{limits['help']} ({allowed}; default: %(default)s)",
        )
