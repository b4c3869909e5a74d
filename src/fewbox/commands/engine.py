"""The option ``--engine``, which several commands have."""

from __future__ import annotations

import argparse


def add_engine(command: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    command.add_argument(
        "--engine",
        default="auto",
        metavar="{auto,openvino,onnxruntime,torch}",
        help="what computes; auto is the fastest at hand (default: %(default)s)",
    )
