"""``fewbox bases`` and ``fewbox show``: what base models there are, what a detector says of itself."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewbox.core import counted
from fewbox.errors import BaseModelError, DetectorFileError, SettingError
from fewbox.models import ZOO, ZooEntry, cached_base_path, default_base, is_at_hand

_UNBROKEN = "\u00a0"
"""A space at which no line ends."""


def add_bases(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    bases = commands.add_parser(
        "bases",
        help="list the base models to start from",
        description="List the base models: accuracy as published, licences, sizes, and what is here already.",
    )
    bases.add_argument(
        "--download",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="fetch these now, to work without a network",
    )
    bases.add_argument("--json", action="store_true", help="everything that is known of each, for programs")
    bases.set_defaults(run=run_bases)


def run_bases(parsed: argparse.Namespace) -> int:
    """``fewbox bases``."""
    if parsed.download:
        if parsed.json:
            raise SettingError("--json is for the list, not for --download", hint="run the command for each")
        return _download(parsed.download)
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


def _download(names: Sequence[str]) -> int:
    """Put the bases of these names into the cache, whichever are not there yet."""
    unknown = [name for name in names if name not in ZOO]
    if unknown:
        raise BaseModelError(f"no base model is called {unknown[0]}", hint=f"choose one of: {', '.join(ZOO)}")
    from fewbox.models.base import load_base

    for name in names:
        was_here = is_at_hand(ZOO[name])
        load_base(name)
        print(f"{name}: {'was here already' if was_here else f'now in {cached_base_path(name)}'}")
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


def add_show(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    show = commands.add_parser(
        "show",
        help="say what a detector finds, what it was made from and how good it should be",
        description="Print what a detector file says of itself.",
    )
    show.add_argument(
        "detector",
        metavar="DETECTOR",
        help="a file that 'fewbox finetune' or 'fewbox export' wrote, or a base model by name or file",
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
    rows = _rows(facts)
    width = max(map(len, rows)) + 2
    columns = shutil.get_terminal_size().columns
    for name, text in rows.items():
        begin = f"{name + ':':{width}}"
        lines = textwrap.fill(text, max(columns, 60), initial_indent=begin, subsequent_indent=" " * width)
        print(lines.replace(_UNBROKEN, " "))
    made = facts["provenance"]
    if not made:
        return 0
    if plan := made.get("plan"):
        _print_part("how it was learnt", plan)
    if "estimate" in made:
        from fewbox.finetuning.estimate import estimate_in_words

        _print_part("how good it should be", estimate_in_words(made["estimate"]).splitlines())
    else:
        _print_part("how good it is", ["not estimated; measure it: fewbox evaluate"])
    return 0


def _rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """What there is to say in a line each."""
    made, base = facts["provenance"], facts["base"]
    rows = {
        "finds": ", ".join(label.replace(" ", _UNBROKEN) for label in facts["labels"]),
        "base": f"{base['name']}, licence {base['licence']}",
        "input": _input_in_words(facts["input_size_hw"]),
    }
    if facts["precision"] != "float32":
        before = "; the estimate is that of the detector before it was rounded" if "estimate" in made else ""
        rows["precision"] = f"{facts['precision']}{before}"
    if not made:
        return rows | {"made": "it is a base model, with the classes that it was trained on"}
    photos = made.get("photos", [])
    boxes = counted(sum(photo["boxes"] for photo in photos), "box")
    recipe = made.get("recipe")
    rows["learnt from"] = f"{boxes} in {counted(len(photos), 'photo')}, recipe {recipe}"
    rows["threshold"] = f"{facts['score_threshold']:.2f}, where none is given"
    if "export" in facts:
        taken = "photos" if facts["export"]["input"] == "photos" else "the network's input (--raw)"
        rows["exported by"] = f"fewbox {facts['export']['fewbox_version']}; takes {taken}"
    return rows


def _print_part(title: str, lines: Iterable[str]) -> None:
    print("\n".join([f"\n{title}", *(f"  {line}" for line in lines)]))


def _facts(path: Path, base: str | None) -> dict[str, Any]:
    """What is known of a detector, JSON-ready."""
    from fewbox.detection.loading import EXPORT_SUFFIXES, load_in_torch, names_base
    from fewbox.models.families import config_from_dict

    names = ("labels", "base", "precision", "provenance")
    if path.suffix.lower() in EXPORT_SUFFIXES and not names_base(path):
        from fewbox.runtimes import EXPORT_ONE, read_onnx_header, read_openvino_header

        read = read_openvino_header if path.suffix.lower() == ".xml" else read_onnx_header
        header: Mapping[str, Any] = read(path)
        try:
            about = {name: header[name] for name in ("fewbox_version", "input", "detector_sha256")}
            config = config_from_dict(header["architecture"], header["config"])
            facts = {name: header[name] for name in (*names, "score_threshold")}
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorFileError(f"{path}: its header is damaged: {error}", hint=EXPORT_ONE) from error
        return facts | {"input_size_hw": config.input_size_hw, "export": about}
    detector = load_in_torch(path, base, "cpu")
    facts = {name: getattr(detector, name) for name in names} | {"score_threshold": detector.threshold}
    return facts | {"input_size_hw": detector.config.input_size_hw}


def _input_in_words(size_hw: Sequence[int] | None) -> str:
    """What photos are made to fit."""
    return "as large as each photo asks for" if size_hw is None else f"{size_hw[0]}x{size_hw[1]} pixels"
