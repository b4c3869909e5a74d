"""Learn in the background while a person draws: what the page may ask, and the processes that answer.

The server knows nothing of networks: it is given an object that fits :class:`Learner`. Photos go by their
names in the project. Proposals are only shown; a proposal is saved once a person accepts it, as their box.

Learning and finishing run in processes of their own, so that they never hold up drawing. The learning
process reads what to do from its stdin and writes what came of it to its stdout, both as lines of JSON. It
ends when its stdin closes, as it does however this process ends. The other side is ``learning.py``.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from fewbox.core.device import AUTO
from fewbox.core.extras import TRAIN, install, is_installed
from fewbox.data.project import Project
from fewbox.errors import FewboxError
from fewbox.runtimes.header import read_onnx_header


@dataclass(frozen=True)
class Proposal:
    """A box that a detector would draw."""

    box: tuple[float, float, float, float]
    """``(x1, y1, x2, y2)`` in pixels of the upright photo."""
    label: str
    score: float


@dataclass(frozen=True)
class Learning:
    """How far learning has come."""

    state: Literal["off", "waiting", "learning", "ready", "failed"]
    """``waiting`` for two reviewed photos with boxes; ``off`` for the reason in ``message``."""
    message: str
    round: int = 0
    """Counts how often it has learnt."""
    progress: float = 0.0
    """Of this round, 0 to 1."""
    suggested_next: str | None = None
    """Of the photos that are not reviewed, the one it is least sure of."""


@dataclass(frozen=True)
class Proposals:
    """The boxes proposed for one photo."""

    round: int
    """The round whose detector proposes them; 0 before the first."""
    boxes: tuple[Proposal, ...] = ()
    pending: bool = False
    """Whether they are being computed; ask again."""


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


class Learner(Protocol):
    """Learns in the background; no method waits for it."""

    def photos_changed(self) -> None:
        """Learn again, as boxes have been drawn, changed or deleted."""
        ...

    def learning(self) -> Learning:
        """How far learning has come."""
        ...

    def proposals(self, name: str) -> Proposals:
        """The boxes proposed for a photo; a photo that is asked for comes first."""
        ...

    def finish(self) -> None:
        """Start making the detector file; nothing happens while it is being made."""
        ...

    def finishing(self) -> Finishing:
        """How far the making of the detector file has come."""
        ...

    def close(self) -> None:
        """End everything that runs."""
        ...


NO_TORCH = f"learning needs torch, which is not installed: {install(TRAIN)}, then start this again"
_END_SECONDS = 3.0


class BackgroundLearner:
    """A :class:`Learner` whose work is done by other processes.

    Args:
        project: the photos.
        base: the base model to start from, a name or a file.
        batch_norm_eps: what the base's file does not say; see :func:`fewbox.load_base`.
        output: the detector file that finishing makes.
        learn: if false, nothing is learnt before finishing.
        device: where it is learnt, as for :func:`fewbox.finetune`.
    """

    def __init__(
        self,
        project: Project,
        *,
        base: str,
        output: Path,
        batch_norm_eps: float | None = None,
        learn: bool = True,
        device: str = AUTO,
    ) -> None:
        self._project = project
        self._base = [base, device, *([] if batch_norm_eps is None else [repr(batch_norm_eps)])]
        self._finish_run = _FinishRun(project, base, output, batch_norm_eps, device)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._found: dict[str, Proposals] = {}
        self._asked: set[tuple[int, str]] = set()
        if learn and not is_installed("torch"):
            self._learning = Learning("off", NO_TORCH)
        elif learn:
            self._learning = Learning("waiting", "getting ready")
            self._start()
        else:
            self._learning = Learning("off", "learning is switched off: --no-learn")

    def _start(self) -> None:
        module = "fewbox.apps.annotate.learning"
        command = [sys.executable, "-m", module, str(self._project.photos), *self._base]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            start_new_session=True,  # Ctrl-C ends the server, and that ends this, without a traceback
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._take(json.loads(line))
        if process.wait() != 0:
            with self._lock:
                message = "the learning process has ended; the terminal that this was started from says why"
                self._learning = Learning("failed", message, self._learning.round)
                self._process = None

    def _take(self, message: dict[str, Any]) -> None:
        with self._lock:
            if "learning" in message:
                self._learning = Learning(**message["learning"])
            else:
                boxes = [
                    Proposal(tuple(each["box"]), each["label"], each["score"]) for each in message["boxes"]
                ]
                self._found[message["name"]] = Proposals(message["round"], tuple(boxes))

    def _tell(self, **message: Any) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended; _listen says so

    def photos_changed(self) -> None:
        """Learn again, as boxes have been drawn, changed or deleted."""
        with self._lock:
            self._tell(do="learn")

    def learning(self) -> Learning:
        """How far learning has come."""
        with self._lock:
            return self._learning

    def proposals(self, name: str) -> Proposals:
        """The boxes proposed for a photo; a photo that is asked for comes first."""
        with self._lock:
            current = self._learning.round
            found = self._found.get(name, Proposals(0))
            if current == 0 or found.round == current:
                return found
            if (current, name) not in self._asked:
                self._asked.add((current, name))
                self._tell(do="propose", name=name)
            # The boxes of the round before are better than none.
            return Proposals(found.round, found.boxes, pending=self._process is not None)

    def finish(self) -> None:
        """Start making the detector file; nothing happens while it is being made."""
        self._finish_run.start()

    def finishing(self) -> Finishing:
        """How far the making of the detector file has come."""
        return self._finish_run.state()

    def close(self) -> None:
        """End everything that runs."""
        self._finish_run.close()
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            _end(process)


class _FinishRun:
    """Runs ``fewbox finetune`` on what has been drawn, and reports the last line it prints."""

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
        self._output = output
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []

    def start(self) -> None:
        """Start it, unless it runs."""
        with self._lock:
            if not is_installed("torch") or (self._process is not None and self._process.poll() is None):
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

    def state(self) -> Finishing:
        """How far it has come."""
        command = shlex.join(["fewbox", *self._arguments()])
        output = str(self._output)
        with self._lock:
            if self._process is None and not is_installed("torch"):
                return Finishing("off", NO_TORCH, command, output)
            if self._process is None:
                return Finishing("idle", "", command, output)
            code = self._process.poll()
            if code is None:
                return Finishing("running", self._lines[-1], command, output)
            if code == 0:
                wrote = next((line for line in self._lines if line.startswith("wrote ")), "done")
                return Finishing("done", wrote, command, output, self._result())
            # As the command line prints an error: what is wrong, then what to do.
            told = [line.partition(": ")[2] for line in self._lines if line.startswith(("error:", "hint:"))]
            return Finishing("failed", "; ".join(told) or self._lines[-1], command, output)

    def _result(self) -> Result:
        """What the detector's file says of it, and what to do next."""
        file = shlex.quote(str(self._output))
        found, film = self._output.with_suffix(""), self._output.with_suffix(".mp4")
        steps = (
            ("Find it in other photos", f"fewbox detect {file} PHOTOS -o {shlex.quote(f'{found}_found')}"),
            ("Try it on a video", f"fewbox detect {file} VIDEO.mp4 -o {shlex.quote(str(film))}"),
            ("See all that is known of it", f"fewbox show {file}"),
        )
        picture = self._output.with_name(f"{self._output.stem}_held_out.jpg")
        try:
            estimate = _header(self._output)["provenance"].get("estimate")
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
            _end(self._process)


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


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
