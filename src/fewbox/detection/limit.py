"""The most boxes that a detector gives of one photo, and what is said where a photo has so many."""

from __future__ import annotations

from dataclasses import dataclass, field

from fewbox.core import counted
from fewbox.detection.photo_detector import PhotoDetector

_NAMED = 5


@dataclass
class FullPhotos:
    """The photos, or frames, in which as many boxes were found as the detector gives of one."""

    limit: int | None = None
    """Of the detector; None if that is not known, as with tiles."""
    what: str = "photo"
    count: int = 0
    names: list[str] = field(default_factory=list)
    """Of the first of them."""

    def add(self, name: str, num_boxes: int) -> None:
        """Note a photo with so many boxes, if they are as many as can be."""
        if self.limit is not None and num_boxes >= self.limit:
            self.count += 1
            self.names += [name] if self.count <= _NAMED else []

    def __str__(self) -> str:
        """A line that says which they are; nothing if there are none."""
        if self.limit is None or not self.count:
            return ""
        more = f" and {self.count - _NAMED} more" if self.count > _NAMED else ""
        names = ", ".join(self.names) + more
        who = f"{names} has" if self.count == 1 else f"{counted(self.count, self.what)} ({names}) have"
        boxes = counted(self.limit, "box")
        return (
            f"{who} {boxes}, the most that this detector gives of one {self.what}; there may be more: "
            "look at parts too, with --tiles"
        )


def limit_of(detector: PhotoDetector) -> int | None:
    """How many boxes it gives of one photo; None with tiles, of which each may have so many."""
    return None if "tiles" in detector.options else detector.config.most_detections
