"""What the page may ask of whoever learns while a person draws.

The server knows nothing of networks: it is given an object that fits :class:`Learner`. Photos
go by their names in the project. A proposal is only ever shown; it is saved when a person
accepts it, as a box of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Proposal:
    """A box that a detector would draw."""

    box: tuple[float, float, float, float]
    """As everywhere: ``(x1, y1, x2, y2)`` in pixels of the upright photo."""
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
    """The photo nobody has looked at of which it is least sure."""


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
    """How good it will be, as its file says; None if that was not found out."""
    next: tuple[tuple[str, str], ...]
    """What to do with it, and the command that does it."""
    picture: str | None = None
    """The picture of held-out photos, a file; None if there is none."""


@dataclass(frozen=True)
class Finishing:
    """How far the making of the detector file has come."""

    state: Literal["off", "idle", "running", "done", "failed"]
    """``off``: only the command can do it."""
    message: str
    command: str
    """What does the same on the command line."""
    output: str
    """The detector file."""
    result: Result | None = None
    """What has come of it, once it is done."""


class Learner(Protocol):
    """Learns in the background; no method waits for it."""

    def photos_changed(self) -> None:
        """Take notice that boxes have been drawn, changed or deleted."""
        ...

    def learning(self) -> Learning:
        """How far learning has come."""
        ...

    def proposals(self, name: str) -> Proposals:
        """The boxes proposed for a photo; asking for it puts it first among those to come."""
        ...

    def finish(self) -> None:
        """Start to make the detector file; nothing happens if it is being made."""
        ...

    def finishing(self) -> Finishing:
        """How far the making of the detector file has come."""
        ...

    def close(self) -> None:
        """End everything that runs."""
        ...
