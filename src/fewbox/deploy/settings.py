"""The limits of the service: names, defaults and help, stated once."""

from __future__ import annotations

from dataclasses import dataclass

from fewbox.config import check_settings, setting
from fewbox.cores import num_cores


@dataclass(frozen=True)
class ServiceConfig:
    """What the service takes in and how long it waits.

    Raises:
        SettingError: a value is outside its limits.
    """

    workers: int = setting(
        num_cores(),
        "photos worked on at once, each by one thread",
        low=1,
        high=256,
        default_in_words="one a core",
    )
    queue: int = setting(
        32, "requests taken in at once; one more gets 429 before its body is read", low=1, high=10_000
    )
    queue_seconds: float = setting(
        10.0, "how long a photo may wait before it is looked at", low=0.001, high=3600
    )
    max_photos: int = setting(16, "photos in one request", low=1, high=1000)
    max_megabytes: int = setting(20, "size of one request", low=1, high=1000)
    max_megapixels: int = setting(50, "size of one photo", low=1, high=200)
    body_seconds: float = setting(30.0, "how long a request may take to arrive", low=0.1, high=3600)
    stop_seconds: float = setting(
        30.0, "how long requests may go on once the service stops", low=0, high=3600
    )

    def __post_init__(self) -> None:
        check_settings(self)
