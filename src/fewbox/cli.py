"""The command line: one subcommand is one public function; parse, call, print.

Nothing heavy is imported before a command has been chosen and its arguments are in order,
so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from fewbox import __version__
from fewbox.core import missing_in_words
from fewbox.errors import FewboxError

NOBODY_READS = 141
"""What shells report of a program that writes to one that has ended, such as ``head``: 128 and SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if all went well, 1 if ``check`` found errors, 2 for an error the user can cure, 130 after
        Ctrl-C, 141 if whatever read the output has ended.
    """
    _open_if_closed()
    _spell_out_unknown_signs()
    try:
        try:
            return _run(arguments)
        finally:  # --help ends in SystemExit; what is still held back is written while it can be answered
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:
        _write_to_nobody()
        return NOBODY_READS
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _write_to_nobody()
        print("error: the output cannot be written: no space left on the disk", file=sys.stderr)
        return 2


def _run(arguments: Sequence[str] | None) -> int:
    try:
        parsed = build_parser().parse_args(arguments)
        exit_code: int = parsed.run(parsed)
    except FewboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("error: there is not enough memory\nhint: end other programs that use it", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        told = missing_in_words(error, "this")
        if told is error:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        # A command that was told to stop may have noted what it keeps, see resumable.
        kept = getattr(stopped, "__notes__", ["nothing half-written is left behind"])
        print(f"stopped; {kept[0]}", file=sys.stderr)
        return 130
    return exit_code


def _open_if_closed() -> None:
    """Open those of stdout and stderr that the caller has closed; without stderr, print takes stdout."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the end


def _spell_out_unknown_signs() -> None:
    """Let a class or photo whose signs the output's encoding lacks, a pipe's on Windows, be spelled out.

    It would end in an error what has been done by then. JSON is in ASCII anyway.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _write_to_nobody() -> None:
    """Let what cannot be written go, or Python would try again when it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


class _Parser(argparse.ArgumentParser):
    """One whose errors are a line and a hint, as all others here, without a list of every option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does, but a command refuses what it does not know itself: its own help is of use."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        print(f"error: {message}\nhint: {self.prog} --help says what it takes", file=sys.stderr)
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, which are imported only here, where Ctrl-C can be answered already."""
    from fewbox.commands.annotate import add_annotate
    from fewbox.commands.check import add_check
    from fewbox.commands.convert import add_convert
    from fewbox.commands.demo import add_demo
    from fewbox.commands.detect import add_detect
    from fewbox.commands.evaluate import add_evaluate
    from fewbox.commands.export import add_export
    from fewbox.commands.finetune import add_finetune, add_finetune_deep
    from fewbox.commands.serve import add_serve
    from fewbox.commands.show import add_bases, add_show

    parser = _Parser(
        prog="fewbox", description="Teach a 2D object detector a new object from a handful of photos."
    )
    parser.add_argument("--version", action="version", version=f"fewbox {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_finetune(commands)
    add_finetune_deep(commands)
    add_detect(commands)
    add_evaluate(commands)
    add_export(commands)
    add_annotate(commands)
    add_convert(commands)
    add_show(commands)
    add_demo(commands)
    add_check(commands)
    add_serve(commands)
    add_bases(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
