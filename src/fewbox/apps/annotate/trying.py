"""Try a detector on photos that are not in the project: a process that detects, and its other side.

Run as a program with a device, it reads a detector's file and a photo from each line of its stdin and writes
what it has found as a line of JSON. A detector's file is opened once, and again when it has changed. The
process ends when its stdin closes, as it does however the server ends.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbox.core.arguments import AUTO
from fewbox.errors import FewboxError, PhotoError, SettingError


@dataclass(frozen=True)
class Proposal:
    """A box that a detector would draw."""

    box: tuple[float, float, float, float]
    """``(x1, y1, x2, y2)`` in pixels of the upright photo."""
    label: str
    score: float


@dataclass(frozen=True)
class Tried:
    """What a detector has found in a photo."""

    boxes: tuple[Proposal, ...]
    """Those above the detector's threshold, the surest first."""
    threshold: float


class TryingProcess:
    """Detects in a process of its own, which is started by the first photo. May be used from several threads.

    Args:
        device: where it computes, as for :func:`fewbox.open_detector`.
    """

    def __init__(self, device: str = AUTO) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def look(self, detector: Path, photo: Path) -> Tried:
        """Detect in a photo.

        Raises:
            PhotoError: the photo cannot be read.
            SettingError: the detector cannot be opened, or the process has ended.
        """
        with self._lock:
            answer = self._ask([str(detector.absolute()), str(photo.absolute())])
        if "error" in answer:
            kind = PhotoError if answer["photo"] else SettingError
            raise kind(answer["error"], hint=answer["hint"])
        boxes = [Proposal(tuple(box), label, score) for box, label, score in answer["boxes"]]
        return Tried(tuple(boxes), answer["threshold"])

    def _ask(self, question: list[str]) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fewbox.apps.annotate.trying", self._device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="ascii",
                start_new_session=True,  # Ctrl-C ends the server, and that ends this, without a traceback
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            hint = "see the terminal that 'fewbox annotate' runs in"
            raise SettingError("the process that tries the detector has ended", hint=hint)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()


class _Opened:
    """The detector that was used last."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._version: object = None
        self._detector: Any = None

    def look(self, file: str, photo: str) -> dict[str, Any]:
        """What is found in a photo, for the line that is written."""
        from fewbox.detection.loading import open_detector

        status = Path(file).stat()
        version = (file, status.st_mtime_ns, status.st_size)
        if version != self._version:
            self._detector = open_detector(file, device=self._device)
            self._version = version
        found = self._detector.detect(photo)
        boxes = [
            ([round(edge, 1) for edge in box], label, round(float(score), 3)) for box, score, label in found
        ]
        return {"boxes": boxes, "threshold": self._detector.threshold}


def main(device: str) -> None:
    """Detect as stdin says, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    opened = _Opened(device)
    for line in sys.stdin:
        detector, photo = json.loads(line)
        try:
            answer = opened.look(detector, photo)
        except FewboxError as error:
            is_photo = isinstance(error, PhotoError)
            answer = {"error": error.message, "hint": error.hint, "photo": is_photo}
        except OSError as error:
            says = f"{detector}: cannot be read: {error.strerror or error}"
            answer = {"error": says, "hint": "press Fine-tune now again", "photo": False}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
