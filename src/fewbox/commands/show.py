"""``fewbox show``: what a detector file says of itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_show(commands: Any) -> None:
    """Add the command to the parser's."""
    show = commands.add_parser(
        "show",
        help="say what a detector finds, what it was made from and how good it should be",
        description="Print what a detector file says of itself.",
    )
    show.add_argument(
        "detector", metavar="DETECTOR", help="a file that 'fewbox finetune' or 'fewbox export' wrote"
    )
    show.add_argument(
        "--base",
        help="the base model, for a detector written with --heads-only whose base is not in the cache",
    )
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    show.set_defaults(run=run_show)


def run_show(parsed: argparse.Namespace) -> int:
    """``fewbox show``."""
    facts = _facts(Path(parsed.detector), parsed.base)
    if parsed.json:
        print(json.dumps(facts, indent=1))
        return 0
    made = facts["provenance"]
    photos = made.get("photos", [])
    print(f"finds: {', '.join(facts['labels'])}")
    print(f"base: {facts['base']['name']}, {facts['base']['licence']}")
    boxes = sum(photo["boxes"] for photo in photos)
    print(f"learnt from: {boxes} boxes in {len(photos)} photos, recipe {made.get('recipe')}")
    if "export" in facts:
        taken = "photos" if facts["export"]["input"] == "photos" else "the network's input (--raw)"
        print(f"exported by fewbox {facts['export']['fewbox_version']}; takes {taken}")
    for reason in made.get("plan", ()):
        print(f"plan: {reason}")
    if "estimate" in made:
        from fewbox.finetuning.estimate import estimate_in_words

        print(estimate_in_words(made["estimate"]))
    else:
        print("how good it is was not estimated; measure it: fewbox evaluate")
    return 0


def _facts(path: Path, base: str | None) -> dict[str, Any]:
    """What is known of a detector, JSON-ready."""
    from fewbox.detect.opening import EXPORT_SUFFIXES

    names = ("labels", "base", "score_threshold", "precision", "provenance")
    if path.suffix.lower() in EXPORT_SUFFIXES:
        from fewbox.engines.header import read_onnx_header, read_openvino_header

        read = read_openvino_header if path.suffix.lower() == ".xml" else read_onnx_header
        header: Mapping[str, Any] = read(path)
        about = {name: header[name] for name in ("fewbox_version", "input", "detector_sha256")}
        return {name: header[name] for name in names} | {"export": about}
    from fewbox.detect.detector import Detector

    detector = Detector.load(path, base=base)
    return {name: getattr(detector, name) for name in names}
