"""A service in this process, and a client that knows nothing of it but HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbox.apps.serve import DetectionServer
from fewbox.apps.serve.detecting import ServedDetector
from fewbox.config import ServiceConfig
from fewbox.detection.detector import Detector
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG, wait_until

BOUNDARY = "a-line-no-photo-holds"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def random_detector(labels: Sequence[str] = ("duck", "mug", "lid"), seed: int = 0) -> Detector:
    """A small network with random weights; it finds something in any photo."""
    config = tiny_yolox_config()
    weights = random_yolox(config, seed).state_dict()
    base = {"name": "tiny", "source": "tests", "weights_sha256": "0" * 64}
    return Detector(config=config, weights=weights, labels=labels, base=base, provenance={}, threshold=0.0)


class HeldDetector:
    """Does what another detector does, but only once ``release`` is set."""

    def __init__(self, inner: Detector) -> None:
        self.inner = inner
        self.release = threading.Event()
        self._begun = threading.Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def wait_for_a_photo(self) -> None:
        """Return once it has been given one."""
        assert self._begun.acquire(timeout=LONG)

    def has_begun(self) -> bool:
        """Whether it has been given one more photo that nobody waited for."""
        return self._begun.acquire(blocking=False)

    def detect(self, photo: Any, *, threshold: float) -> Any:
        self._begun.release()
        assert self.release.wait(LONG)
        return self.inner.detect(photo, threshold=threshold)


@contextmanager
def serving(
    paths: Sequence[Path], config: ServiceConfig | None = None, key: str | None = None
) -> Iterator[DetectionServer]:
    """Detector files behind HTTP, until the block ends."""
    served = [ServedDetector(path.stem, path) for path in paths]
    server = DetectionServer(served, config or ServiceConfig(queue_seconds=LONG, workers=1), port=0, key=key)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.has_started)
    try:
        yield server
    finally:
        server.stop()
        thread.join(LONG)
        assert not thread.is_alive()


def ask(
    server: DetectionServer,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONG)
    try:
        kind = {"Content-Type": "image/png"} if body is not None else {}
        connection.request(
            method or ("GET" if body is None else "POST"), path, body, {**kind, **(headers or {})}
        )
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def form(*files: tuple[str, bytes], field: str = "photo") -> tuple[bytes, dict[str, str]]:
    """The body and the header of a form with these files."""
    body = b""
    for name, data in files:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        body += f"{head}Content-Type: image/png\r\n\r\n".encode() + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"
    }
