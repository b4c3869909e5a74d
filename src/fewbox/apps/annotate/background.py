"""Learn in the background while a person draws: what the page may ask, and the processes that answer.

The server knows nothing of networks: it is given an object that fits :class:`Learner`. Photos go by their
names in the project. Proposals are only shown; a proposal is saved once a person accepts it, as their box.

Learning and finishing run in processes of their own, so that they never hold up drawing. The learning
process reads what to do from its stdin and writes what came of it to its stdout, both as lines of JSON. It
ends when its stdin closes, as it does however this process ends. The other side is ``learning.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from fewbox.apps.annotate.finishing import Finishing, FinishRun, end_process
from fewbox.apps.annotate.trying import Proposal, Tried, TryingProcess
from fewbox.core import files
from fewbox.core.arguments import AUTO
from fewbox.core.files import temporary_folder
from fewbox.data.project import Project
from fewbox.errors import SettingError


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

    def detector(self) -> str | None:
        """What :meth:`try_photo` detects with, in words; None if there is no detector yet."""
        ...

    def try_photo(self, path: Path) -> Tried:
        """Detect in any photo, with the detector that was made last; this waits for the answer.

        Raises:
            PhotoError: the photo cannot be read.
            SettingError: there is no detector yet, or it cannot be opened.
        """
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


_SAVE_SECONDS = 40.0
"""For a round that is under way to end."""


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
        self._finish_run = FinishRun(project, base, output, batch_norm_eps, device)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._found: dict[str, tuple[str, Proposals]] = {}  # with the version of the photo's file
        self._asked: set[tuple[int, str, str]] = set()
        self._trying = TryingProcess(device)
        self._saved = threading.Condition(self._lock)
        self._rounds_folder: tempfile.TemporaryDirectory[str] | None = None
        self._answered: str | None = None
        self._refusal: SettingError | None = None
        if learn:
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
            elif "saved" in message:
                self._answered, self._refusal = message["saved"], None
                if "error" in message:  # such as a full disk
                    self._refusal = SettingError(message["error"], hint=message["hint"])
                self._saved.notify_all()
            else:
                boxes = [
                    Proposal(tuple(each["box"]), each["label"], each["score"]) for each in message["boxes"]
                ]
                proposals = Proposals(message["round"], tuple(boxes))
                self._found[message["name"]] = (message["file"], proposals)

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
        file = files.version_of(self._project.path_of(name))
        with self._lock:
            current = self._learning.round
            looked_at, found = self._found.get(name, (file, Proposals(0)))
            if looked_at != file:  # turned or replaced since: what was found lies elsewhere
                found = Proposals(0)
            if current == 0 or found.round == current:
                return found
            if (current, name, file) not in self._asked:
                self._asked.add((current, name, file))
                self._tell(do="propose", name=name)
            # The boxes of the round before are better than none.
            return Proposals(found.round, found.boxes, pending=self._process is not None)

    def detector(self) -> str | None:
        """What :meth:`try_photo` detects with, in words; None if there is no detector yet."""
        if self._finish_run.is_done:
            return str(self._finish_run.output)
        with self._lock:
            number = self._learning.round
        if number:
            return f"what has been learnt so far (round {number})"
        return str(self._finish_run.output) if self._finish_run.output.is_file() else None

    def try_photo(self, path: Path) -> Tried:
        """Detect in any photo, with the detector that was made last; this waits for the answer.

        Raises:
            SettingError: nothing has been learnt yet, or the detector cannot be had.
            PhotoError: the photo cannot be read.
        """
        if self.detector() is None:
            hint = "draw boxes in two photos, or press Finish and Fine-tune now"
            raise SettingError("nothing has been learnt yet", hint=hint)
        learnt = None if self._finish_run.is_done else self._save_round()
        return self._trying.look(learnt or self._finish_run.output, path)

    def _save_round(self) -> Path | None:
        """The file of what the last round has learnt; None if there was no round."""
        with self._saved:
            number = self._learning.round
            if number == 0:
                return None
            self._rounds_folder = self._rounds_folder or temporary_folder("fewbox-rounds-")
            file = Path(self._rounds_folder.name) / "round.safetensors"
            wanted = f"{number} {file}"
            if self._answered != wanted or self._refusal is not None:
                self._answered = None
                if self._process is None:
                    hint = "press Finish and Fine-tune now, or start 'fewbox annotate' again"
                    raise SettingError("the learning process has ended", hint=hint)
                self._tell(do="save", round=number, file=str(file))
                if not self._saved.wait_for(lambda: self._answered == wanted, _SAVE_SECONDS):
                    hint = "try again in a moment"
                    raise SettingError("it is learning just now", hint=hint)
                if self._refusal is not None:
                    raise self._refusal
            return file

    def finish(self) -> None:
        """Start making the detector file; nothing happens while it is being made."""
        self._finish_run.start()

    def finishing(self) -> Finishing:
        """How far the making of the detector file has come."""
        return self._finish_run.state()

    def close(self) -> None:
        """End everything that runs."""
        self._finish_run.close()
        self._trying.close()
        if self._rounds_folder is not None:
            self._rounds_folder.cleanup()
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            end_process(process)
