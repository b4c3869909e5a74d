"""Make the detector file: ``fewbox finetune`` in a process of its own, and what is said of the result."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fewbox.core import quoted
from fewbox.core.arguments import AUTO
from fewbox.data.project import Project
from fewbox.errors import FewboxError
from fewbox.runtimes import read_onnx_header

_NOT_TRIED = "not adapted, which might find more"
"""How the line begins by which fine-tuning says what it did without, and what to install for it."""
_END_SECONDS = 3.0


@dataclass(frozen=True)
class Result:
    """What there is to say of a detector that has been made."""

    estimate: Mapping[str, Any] | None
    """How good it will be, as its file says; None if that was not estimated."""
    next: tuple[tuple[str, str], ...]
    """Pairs: what to do with it next, and the command that does it."""
    picture: str | None = None
    """The file with the picture of held-out photos; None if there is none."""


@dataclass(frozen=True)
class Finishing:
    """How far the making of the detector file has come."""

    state: Literal["off", "idle", "running", "done", "failed"]
    """``off``: the page cannot do it, only the command can."""
    message: str
    command: str
    """What does the same on the command line."""
    output: str
    """The detector file."""
    result: Result | None = None
    """What came of it, once it is done."""


class FinishRun:
    """Runs ``fewbox finetune`` on what has been drawn, and reports the last line it prints.

    Arguments as of :class:`~fewbox.apps.annotate.background.BackgroundLearner`.
    """

    def __init__(
        self,
        project: Project,
        base: str,
        output: Path,
        batch_norm_eps: float | None = None,
        device: str = AUTO,
    ) -> None:
        self._project = project
        self._options = ["--base", base, "-o", str(output)]
        if batch_norm_eps is not None:
            self._options += ["--batch-norm-eps", repr(batch_norm_eps)]
        if device != AUTO:
            self._options += ["--device", device]
        self.output = output
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []

    def start(self) -> None:
        """Start it, unless it runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._lines = ["starting"]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fewbox.cli", *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        threading.Thread(target=self._listen, args=(self._process, self._lines), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        assert process.stdout is not None
        lines.extend(line.strip() for line in iter(process.stdout.readline, "") if line.strip())
        process.wait()

    @property
    def is_done(self) -> bool:
        """Whether the detector has been made, and is still there."""
        made = self._process is not None and self._process.poll() == 0
        return made and self.output.is_file()

    def state(self) -> Finishing:
        """How far it has come."""
        command = " ".join(map(quoted, ["fewbox", *self._arguments()]))
        output = str(self.output)
        with self._lock:
            if self._process is None:
                return Finishing("idle", "", command, output)
            code = self._process.poll()
            if code is None:
                return Finishing("running", self._lines[-1], command, output)
            if code == 0:
                says = "; ".join([self._line("wrote ") or "done", *filter(None, [self._line(_NOT_TRIED)])])
                return Finishing("done", says, command, output, self._result())
            # As the command line prints an error: what is wrong, then what to do.
            told = [line.partition(": ")[2] for line in self._lines if line.startswith(("error:", "hint:"))]
            return Finishing("failed", "; ".join(told) or self._lines[-1], command, output)

    def _line(self, beginning: str) -> str:
        """What was printed that begins so; empty if nothing was."""
        return next((line for line in self._lines if line.startswith(beginning)), "")

    def _result(self) -> Result:
        """What the detector's file says of it, and what to do next."""
        file = quoted(self.output)
        found, film = self.output.with_suffix(""), self.output.with_suffix(".mp4")
        steps = (
            ("Find it in other photos", f"fewbox detect {file} PHOTOS -o {quoted(f'{found}_found')}"),
            ("Try it on a video", f"fewbox detect {file} VIDEO.mp4 -o {quoted(film)}"),
            ("See all that is known of it", f"fewbox show {file}"),
        )
        picture = self.output.with_name(f"{self.output.stem}_held_out.jpg")
        try:
            estimate = _header(self.output)["provenance"].get("estimate")
        except (OSError, FewboxError, ValueError, KeyError, TypeError):
            estimate = None  # somebody has moved the file
        return Result(estimate, steps, str(picture) if picture.is_file() else None)

    def _arguments(self) -> list[str]:
        names = self._project.photo_names()
        all_reviewed = all(state.reviewed or state.left_out for state in self._project.states(names))
        return [
            "finetune",
            str(self._project.photos),
            *([] if all_reviewed else ["--reviewed-only"]),
            *self._options,
        ]

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            end_process(self._process)


def _header(detector: Path) -> Mapping[str, Any]:
    """What a detector's file says of itself."""
    if detector.suffix.lower() == ".onnx":
        return read_onnx_header(detector)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(detector, framework="np") as stored:
            header: dict[str, Any] = json.loads(stored.metadata()["fewbox_detector"])
    except SafetensorError as error:
        raise ValueError(f"{detector}: damaged: {error}") from error
    return header


def end_process(process: subprocess.Popen[str]) -> None:
    """Wait for a process that has been told to end, and end it if it does not."""
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
