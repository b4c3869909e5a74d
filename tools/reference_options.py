"""Writes the options of every command into the reference, as the parser has them.

    python tools/reference_options.py docs/reference.md          # writes
    python tools/reference_options.py docs/reference.md --check  # exit code 1 if it would change anything

The tables stand between ``<!-- options of fewbox COMMAND -->`` and ``<!-- end -->``. What is between them is
written here; what else there is to say stands outside.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fewbox.cli import build_parser

_PLACE = re.compile(r"(<!-- options of fewbox ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
_DEFAULT = re.compile(r"\s*\((?:(.+); )?default: ([^()]+)\)$")
_CODE = re.compile(r"(?<!\w)'([^']+)'(?!\w)|(?<!\S)(-o|--[a-z-]+)\b")
"""What a help text has in quotes, and options."""
_USUAL_GROUPS = 2
"""argparse's own groups, of arguments and of options, which need no title."""


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing")
    parsed = parser.parse_args()
    text = parsed.page.read_text(encoding="utf-8")
    written = with_tables(text)
    if parsed.check:
        return int(written != text)
    parsed.page.write_text(written, encoding="utf-8")
    return 0


def with_tables(page: str) -> str:
    """The page with the tables as the parser has them now."""
    parsers = commands()
    return _PLACE.sub(lambda place: f"{place[1]}\n{tables(parsers[place[2]])}\n{place[3]}", page)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    subparsers = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(next(subparsers).choices)


def tables(parser: argparse.ArgumentParser) -> str:
    """A table of the arguments and options, and one for each further group of them, below its title."""
    usual, further = parser._action_groups[:_USUAL_GROUPS], parser._action_groups[_USUAL_GROUPS:]
    text = _table([action for group in usual for action in group._group_actions])
    for group in further:
        title = str(group.title)
        text += f"\n{_in_markdown(title[0].upper() + title[1:])}:\n\n{_table(group._group_actions)}"
    return text


def _table(actions: list[argparse.Action]) -> str:
    rows = [_row(action) for action in actions if not isinstance(action, argparse._HelpAction)]
    return "".join(("| Option | Default | Meaning |\n|---|---|---|\n", *rows))


def _row(action: argparse.Action) -> str:
    meaning, default = _meaning_and_default(action)
    names = ", ".join(_names(action)) or f"`{_values(action)}`"
    return f"| {names} | {_in_markdown(default)} | {_in_markdown(meaning)} |\n"


def _in_markdown(help: str) -> str:
    return _CODE.sub(lambda code: f"`{code[1] or code[2]}`", help)


def _names(action: argparse.Action) -> Iterator[str]:
    *others, last = action.option_strings or ("",)
    values = _values(action)
    if last and action.option_strings:
        yield from (f"`{name}`" for name in others)
        yield f"`{last} {values}`" if values and action.nargs != 0 else f"`{last}`"


def _values(action: argparse.Action) -> str:
    """What an option takes, as its usage says it."""
    if action.metavar is None and action.choices is not None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = str(action.metavar or action.dest.upper())
    return {"+": f"{name} ...", "*": f"[{name} ...]"}.get(str(action.nargs), name)


def _meaning_and_default(action: argparse.Action) -> tuple[str, str]:
    help = str(action.help) % {**vars(action), "prog": ""}
    found = _DEFAULT.search(help)
    if found is not None:
        limits = f" ({found[1]})" if found[1] else ""
        return help[: found.start()] + limits, found[2]
    if action.required:
        return help, "required"
    if action.default in (None, False, "", []):
        return help, ""
    return help, "yes" if action.default is True else str(action.default)


if __name__ == "__main__":
    sys.exit(main())
