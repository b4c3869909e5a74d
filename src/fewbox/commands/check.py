"""``fewbox check``: what is wrong with a data set, and the cure for each."""

from __future__ import annotations

import argparse
import difflib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fewbox.commands import (
    LABEL_HELP,
    OneOfBoxes,
    add_photos_with_boxes,
    add_reviewed_only,
    add_skip_missing,
)
from fewbox.core import counted
from fewbox.errors import SettingError
from fewbox.models import ZOO, default_base

if TYPE_CHECKING:
    from fewbox.data.checks import CheckReport
    from fewbox.data.checks.findings import Finding

_SHOWN = 5
_USUAL_HW = (3000, 4000)
"""Of a photo; some networks make their input from it."""
_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def add_check(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    check = commands.add_parser(
        "check",
        help="list what is wrong with photos and boxes",
        description="List what is wrong with photos and their boxes, with the cure for each; nothing is "
        "changed. The exit code is 1 if there are errors, 0 if not.",
    )
    add_photos_with_boxes(check)
    add_skip_missing(check)
    add_reviewed_only(check)
    check.add_argument("--label", default="object", help=LABEL_HELP)
    check.add_argument(
        "--test",
        nargs="+",
        action="extend",
        metavar="PHOTOS",
        help="photos to test on, compared with those to learn from",
    )
    check.add_argument(
        "--test-boxes",
        action=OneOfBoxes,
        metavar="BOXES",
        help="the boxes of --test (default: as for --boxes)",
    )
    check.add_argument(
        "--base",
        help="a name from 'fewbox bases', or a file: its input says which boxes are tiny (default: the "
        "best one at hand)",
    )
    check.add_argument("--all", action="store_true", help=f"show all findings, not {_SHOWN} of each kind")
    check.add_argument("--json", action="store_true", help="all findings as JSON, for programs")
    check.set_defaults(run=run_check)


def run_check(parsed: argparse.Namespace) -> int:
    """``fewbox check``; 1 if there are errors."""
    input_side = _input_side(parsed.base or default_base())
    from fewbox.data.checks import check_annotations

    report = check_annotations(
        parsed.boxes,
        parsed.photos,
        test_boxes=parsed.test_boxes,
        test_photos=parsed.test,
        label=parsed.label,
        input_side=input_side,
        strict=parsed.strict,
        skip_missing=parsed.skip_missing,
        reviewed_only=parsed.reviewed_only,
        show_progress=not parsed.json,
    )
    if parsed.json:
        print(json.dumps(_document(report), indent=1))
    else:
        _print_report(report, limit=None if parsed.all else _SHOWN)
    return 1 if report.count("error") else 0


def _input_side(base: str) -> int:
    """The longer side of the input of a base, which ``ZooEntry.input_size`` states in one of two ways."""
    if base not in ZOO and os.path.lexists(base):
        from fewbox.models.base import load_base

        return max(load_base(base).config.input_size_of(_USUAL_HW))
    if base not in ZOO:
        near = difflib.get_close_matches(base, ZOO, 1)
        hint = f"did you mean {near[0]!r}?" if near else "see 'fewbox bases'"
        raise SettingError(f"no base model of this name: {base!r}", hint=hint)
    return max(map(int, ZOO[base].input_size.replace("-", "x").split("x")))


def _document(report: CheckReport) -> dict[str, Any]:
    return {
        "photos": report.num_photos,
        "train_photos": report.num_train_photos,
        "test_photos": report.num_test_photos,
        "labels": report.labels,
        "test_labels": report.test_labels,
        **{f"{severity}s": report.count(severity) for severity in _STYLES},
        "findings": [asdict(row) for row in report.findings],
    }


def _print_report(report: CheckReport, limit: int | None) -> None:
    from rich.text import Text

    from fewbox.core.progress import make_console

    console = make_console(highlight=False, soft_wrap=True)
    for line, style in _lines(report, limit):
        console.print(Text(line, style))


def _lines(report: CheckReport, limit: int | None) -> Iterator[tuple[str, str]]:
    """The lines of the report and their styles."""
    yield _contents(report), ""
    for kind, rows in groupby(report.findings, key=lambda row: row.kind):
        yield "", ""
        yield from _group(kind, list(rows), limit)
    yield "", ""
    numbers = {severity: report.count(severity) for severity in _STYLES}
    counts = [counted(count, severity) for severity, count in numbers.items() if count]
    if not counts:
        yield "nothing wrong was found", "bold green"
    elif numbers["error"]:
        yield f"{', '.join(counts)}; cure the errors before fine-tuning", _STYLES["error"]
    else:
        yield f"{', '.join(counts)}; nothing that stops fine-tuning", "bold"


def _contents(report: CheckReport) -> str:
    text = _part_contents(report.num_train_photos, report.labels)
    if report.num_test_photos:
        text += f"; to test on: {_part_contents(report.num_test_photos, report.test_labels)}"
    return text


def _part_contents(photos: int, labels: dict[str, int]) -> str:
    if not labels:
        return counted(photos, "photo")
    most = sorted(labels.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {count}" for name, count in most[:_SHOWN])
    more = f" and {counted(len(most) - _SHOWN, 'more class')}" if len(most) > _SHOWN else ""
    return f"{counted(photos, 'photo')}, {counted(sum(labels.values()), 'box')} ({listed}{more})"


def _group(kind: str, rows: list[Finding], limit: int | None) -> Iterator[tuple[str, str]]:
    """One kind of finding: its title and count, the first rows, and how to cure them."""
    from fewbox.data.checks.findings import KINDS

    severity = rows[0].severity
    yield f"{severity}: {KINDS[kind].title}: {len(rows)}", _STYLES[severity]
    shown = rows[:limit]
    for row in shown:
        place = f"  [{row.place}]" if row.place else ""
        yield f"    {row.file}: {row.what}{place}", ""
    if len(rows) > len(shown):
        yield f"    and {len(rows) - len(shown)} more; --all shows them", "dim"
    for cure in _distinct(row.cure for row in shown):
        yield f"  cure: {cure}", "green"


def _distinct(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
