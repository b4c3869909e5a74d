"""Admission: which requests are answered, how many at once, and what is counted of them for Prometheus.

Every request passes here first. The number of requests with a body is limited, and one over the limit is
refused before a byte of it is read, so that neither memory nor waiting grows with the number of clients.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewbox.apps.http import (
    PAGE_HEADERS,
    Refused,
    adding_headers,
    header_values,
    read_body,
    refuse,
    replaying,
    same_secret,
)
from fewbox.apps.serve.detecting import ServedDetector
from fewbox.config import ServiceConfig

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one service.

    Args:
        served: the detectors.
        num_requests: returns how many requests are under way.
        num_photos: returns how many photos wait or are worked on.
    """

    def __init__(
        self,
        served: Sequence[ServedDetector],
        num_requests: Callable[[], int],
        num_photos: Callable[[], int],
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self.requests = Counter(
            "fewbox_requests", "answered requests", ["path", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "fewbox_request_seconds",
            "from a request's head to its answer's end",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.photos = Counter(
            "fewbox_photos",
            "photos by what became of them",
            ["detector", "outcome"],
            registry=self.registry,
        )
        self.wait_seconds = Histogram(
            "fewbox_wait_seconds", "photos waiting for a worker", buckets=_SECONDS, registry=self.registry
        )
        self.photo_seconds = Histogram(
            "fewbox_photo_seconds",
            "decoding, detecting and drawing a photo",
            ["detector"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._gauge("fewbox_requests_under_way", "requests taken in, not yet answered", num_requests)
        self._gauge("fewbox_photos_under_way", "photos that wait or are worked on", num_photos)
        stale = Gauge(
            "fewbox_detector_stale",
            "1 while a file cannot be loaded and the detector before it is served",
            ["detector"],
            registry=self.registry,
        )
        reloads = Gauge(
            "fewbox_detector_reloads", "times a new file was loaded", ["detector"], registry=self.registry
        )
        for one in served:
            stale.labels(one.name).set_function(partial(_is_stale, one))
            reloads.labels(one.name).set_function(partial(getattr, one, "num_reloads"))

    def text(self) -> bytes:
        """All counters in Prometheus's text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, meaning: str, read: Callable[[], int]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(lambda: float(read()))


def _is_stale(one: ServedDetector) -> float:
    return float(one.error is not None)


ANSWER_SECONDS = 60.0
"""For making an answer and sending it, beside the time that photos may wait."""
HEADERS = PAGE_HEADERS | {"cache-control": "no-store"}
# What may be asked without the key: the page, what can be asked, and whether the service is up.
_OPEN = ("/", "/docs", "/openapi.json", "/healthz")
_OPEN_FOLDER = "/page/"
_WHEN_STOPPING = ("/healthz", "/metrics")
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")


class Admission:
    """Reads the bodies of requests that may be answered and passes them on to ``app``; refuses the others.

    Args:
        app: what answers them.
        config: the limits.
        key: the secret that a request has to carry; with None, requests must be addressed to this machine.
        retry_after: returns how many seconds a client should wait after being refused.
    """

    def __init__(
        self, app: ASGIApp, *, config: ServiceConfig, key: str | None, retry_after: Callable[[], int]
    ) -> None:
        self.app = app
        self.config = config
        self.key = key
        self.retry_after = retry_after
        self.metrics: Metrics | None = None
        self.stopping = False
        self.num_requests = 0
        """Requests with a body that are under way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; start and stop of the application are passed on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        start = time.monotonic()
        status = 500
        if scope["method"] == "HEAD":  # what GET answers, of which the server leaves the body out
            scope = {**scope, "method": "GET"}

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope)
            if scope["method"] == "POST":
                await self._admit(scope, receive, send_and_note)
            else:
                await self._pass_on(scope, receive, send_and_note)
        except Refused as refused:
            await refuse(refused, receive, send_and_note, HEADERS)
        finally:
            if self.metrics is not None:
                path = getattr(
                    scope.get("route"), "path", "other"
                )  # strangers can make up any number of paths
                self.metrics.requests.labels(path, status).inc()
                self.metrics.request_seconds.labels(path).observe(time.monotonic() - start)

    def _check(self, scope: Scope) -> None:
        """Refuse a request that may not be answered.

        Raises:
            Refused: the message says why.
        """
        path = scope["path"]
        if self.stopping and path not in _WHEN_STOPPING:
            raise Refused(503, "the service is stopping", "ask again in a moment", {"retry-after": "5"})
        if self.key is None:
            hosts = header_values(scope, b"host")
            # A page in a browser of this machine may have a name that its DNS has turned to 127.0.0.1.
            if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
                hint = "without a key the service answers only to 127.0.0.1 and localhost"
                raise Refused(403, "the request is addressed to another host", hint)
        elif path not in _OPEN and not path.startswith(_OPEN_FOLDER):
            given = header_values(scope, b"authorization")
            kind, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
            if kind.lower() != "bearer" or not same_secret(key.strip(), self.key):
                hint = "send the header Authorization: Bearer KEY"
                raise Refused(401, "the request does not carry the key", hint, {"www-authenticate": "Bearer"})

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, if there are not too many already."""
        if self.num_requests >= self.config.queue:
            seconds = str(self.retry_after())
            hint = f"ask again in {seconds} s"
            raise Refused(429, "too many requests are under way", hint, {"retry-after": seconds})
        self.num_requests += 1
        try:
            limit = self.config.max_megabytes * 1_000_000
            # Kept by nobody but whoever takes it: waiting for a worker, a request has one copy of its photos.
            replay = replaying(
                await read_body(
                    scope,
                    receive,
                    max_bytes=limit,
                    seconds=self.config.body_seconds,
                    hint="send smaller photos, or fewer at once",
                ),
                receive,
            )
            await self._pass_on(scope, replay, send)
        finally:
            self.num_requests -= 1

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A client that takes too long is dropped: the server closes the connection of an incomplete answer.
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.queue_seconds + ANSWER_SECONDS):
                await self.app(scope, receive, adding_headers(send, HEADERS))
