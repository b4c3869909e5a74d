"""``fewbox bases``: what there is to start from, and what a user must know before choosing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from fewbox.models.zoo import ZOO, ZooEntry, default_base, is_at_hand


def add_bases(commands: Any) -> None:
    """Add the command to the parser."""
    bases = commands.add_parser(
        "bases",
        help="list the base models to start from",
        description="List the base models: accuracy as published, licences, sizes, and what is here already.",
    )
    bases.add_argument("--json", action="store_true", help="everything that is known of each, for programs")
    bases.set_defaults(run=run_bases)


def run_bases(parsed: argparse.Namespace) -> int:
    """Print the list."""
    if parsed.json:
        print(
            json.dumps([asdict(entry) | {"at_hand": is_at_hand(entry)} for entry in ZOO.values()], indent=2)
        )
        return 0
    sources = list(dict.fromkeys(entry.coco_ap_source for entry in ZOO.values()))
    data = list(dict.fromkeys(entry.data_licence for entry in ZOO.values()))
    print(
        f"{'name':26} {'input':>9} {'params':>7} {'COCO AP':>11} {'file':>7} {'here':>4}  "
        f"{'licence of the weights':36} {'data':4}  what it is"
    )
    for entry in ZOO.values():
        print(_row(entry, sources, data))
    print("\nCOCO AP as published in:")
    print("\n".join(f"  [{number}] {source}" for number, source in enumerate(sources, start=1)))
    print("data they were trained on:")
    print("\n".join(f"  {chr(ord('a') + number)}) {licence}" for number, licence in enumerate(data)))
    print(f"\nwithout --base fewbox starts from: {default_base()}")
    return 0


def _row(entry: ZooEntry, sources: list[str], data: list[str]) -> str:
    size = "?" if entry.bytes is None else f"{entry.bytes / 1e6:.0f} MB"
    here = "yes" if is_at_hand(entry) else "no"
    published = "-" if entry.coco_ap is None else f"{entry.coco_ap:.1f}"
    source = f"[{sources.index(entry.coco_ap_source) + 1}]"
    figures = (
        f"{entry.input_size:>9} {entry.parameters / 1e6:>5.1f} M {published:>7} {source} {size:>7} {here:>4}"
    )
    letter = chr(ord("a") + data.index(entry.data_licence)) + ")"
    return f"{entry.name:26} {figures}  {entry.licence:36} {letter:4}  {entry.title}"
