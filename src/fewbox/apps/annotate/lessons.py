"""Which of many reviewed photos a round of learning is about.

It depends on what is said of the photos and on nothing else, such as which of them were drawn first: a page
that is started anew learns the same again.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping

from fewbox.data.project_file import PhotoState

_EMPTY_SHARE = 4
"""One photo in so many is kept for photos without objects, which teach what is none."""


def choose_lessons(states: Mapping[str, PhotoState], most: int) -> list[str]:
    """The names of at most ``most`` photos: of every class equally many, as far as there are, and some empty.

    Args:
        states: what is said of the reviewed photos, by name.
        most: how many may be chosen.
    """
    mixed = sorted(states, key=_mixed)
    objects = {name: objects_in(states[name]) for name in mixed}
    empty = [name for name in mixed if not objects[name]]
    room = most - min(len(empty), most // _EMPTY_SHARE)
    chosen = _of_each_class({name: labels for name, labels in objects.items() if labels}, room)
    return sorted(chosen + empty[: most - len(chosen)])


def objects_in(state: PhotoState) -> set[str]:
    """The classes of which there is something to learn in a photo: not of boxes to ignore."""
    return {drawn.box.label for drawn in state.boxes if not drawn.box.ignore}


def _mixed(name: str) -> tuple[int, str]:
    """What photos are sorted by into an order that is always the same.

    Not by their names: those of one place, or of one film, follow each other, and look alike.
    """
    return zlib.crc32(name.encode("utf-8", "surrogatepass")), name


def _of_each_class(objects: Mapping[str, set[str]], room: int) -> list[str]:
    """Take photos one by one, always of the class of which there are fewest so far."""
    left = dict(objects)
    taken = Counter[str]()
    chosen: list[str] = []
    while left and len(chosen) < room:
        name = min(left, key=lambda name: min(taken[label] for label in left[name]))
        taken.update(left.pop(name))
        chosen.append(name)
    return chosen
