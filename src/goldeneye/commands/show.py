"""``goldeneye show``: what a detector file says of itself."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_show(commands: Any) -> None:
    """Add the command to the parser's."""
    show = commands.add_parser(
        "show",
        help="say what a detector finds, what it was made from and how good it should be",
        description="Print what a detector file says of itself.",
    )
    show.add_argument("detector", metavar="DETECTOR", help="a file that 'goldeneye finetune' wrote")
    show.add_argument("--base", help="the base model, for a detector written with --heads-only")
    show.add_argument("--json", action="store_true", help="print everything as JSON")
    show.set_defaults(run=run_show)


def run_show(parsed: argparse.Namespace) -> int:
    """``goldeneye show``."""
    from goldeneye.detect.opening import open_detector
    from goldeneye.finetuning.estimate import estimate_in_words

    detector = open_detector(parsed.detector, base=parsed.base)
    made = detector.provenance
    facts = {"labels": detector.labels, "base": detector.base, "score_threshold": detector.score_threshold}
    if parsed.json:
        print(json.dumps(facts | {"precision": detector.precision, "provenance": made}, indent=1))
        return 0
    photos = made.get("photos", [])
    print(f"finds: {', '.join(detector.labels)}")
    print(f"base: {detector.base['name']}, {detector.base['licence']}")
    boxes = sum(photo["boxes"] for photo in photos)
    print(f"learnt from: {boxes} boxes in {len(photos)} photos, recipe {made.get('recipe')}")
    for reason in made.get("plan", ()):
        print(f"plan: {reason}")
    if "estimate" in made:
        print(estimate_in_words(made["estimate"]))
    else:
        print("how good it is was not estimated; measure it: goldeneye evaluate")
    return 0
