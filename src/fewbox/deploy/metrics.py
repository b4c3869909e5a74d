"""What the service counts and times, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from fewbox.deploy.served import ServedDetector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one service.

    Args:
        served: the detectors.
        num_requests: gives how many requests are under way.
        num_photos: gives how many photos wait or are worked on.
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
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, meaning: str, read: Callable[[], int]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(lambda: float(read()))


def _is_stale(one: ServedDetector) -> float:
    return float(one.error is not None)
