"""Learn while a person draws: a process that ``fewbox annotate`` starts.

A round is the default recipe on the photos that have been reviewed so far, at its lowest effort; then the
detector looks at some photos that nobody has reviewed yet. The features of a photo are cached from round to
round, so a round costs a few passes of the network for each photo that is new or has changed, and the fit.

Which of many reviewed photos a round is about depends on what is said of them and on nothing else, such as
which of them were drawn first: a page that is started anew learns the same again.

``background.py`` is the other side of stdin and stdout.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbox.apps.annotate.background import Learning
from fewbox.apps.annotate.trying import Proposal
from fewbox.core import counted, files, missing_in_words
from fewbox.core.arguments import AUTO
from fewbox.data import PROJECT_FILE, checked_labels
from fewbox.data.annotations import AnnotationSet
from fewbox.data.project import Project
from fewbox.data.project_file import PhotoState
from fewbox.data.project_set import stated_image
from fewbox.detection.detector import Detector
from fewbox.errors import AnnotationError, BaseModelError, FewboxError, PhotoError, SettingError
from fewbox.finetuning.features import CachedPhoto, feature_extractor
from fewbox.finetuning.linear_probe.recipe import budget_for, cache_photos, fit_detector
from fewbox.models.base import BaseModel, load_base
from fewbox.models.device import choose_processor_or, full_memory_told

if TYPE_CHECKING:
    import torch

MIN_PHOTOS = 2
"""Photos with boxes from which on it learns."""
MAX_PHOTOS = 40
"""Photos it learns from at most: what is kept of one takes megabytes, and more change proposals little."""
EFFORT = "quick"
"""How much work a round is; see ``finetuning/linear_probe/recipe.py``."""
_EMPTY_SHARE = 4
"""One photo in so many is kept for photos without objects, which teach what is none."""
SEED = 0
CANDIDATES = 12
"""Photos it looks at after a round."""
SHOWN_SCORE = 0.5
"""Proposals have a higher score, and one above the detector's threshold, which few photos make uncertain."""
CANDIDATE_SCORE = 0.05
"""Detections above it count for how uncertain a photo is."""
QUIET_SECONDS = 0.7
"""After a change, a round waits this long for the next one,"""
PATIENCE_SECONDS = 3.0
"""but not longer than this after the first."""
_NEVER = threading.TIMEOUT_MAX / 2


class Rounds:
    """Learns from the reviewed photos of a project, again and again.

    Args:
        project: the photos.
        base: what every round starts from.
        device: where it learns and looks.
    """

    def __init__(self, project: Project, base: BaseModel, device: torch.device | None = None) -> None:
        self.project = project
        self.base = base
        self.device = device
        self.extractor = feature_extractor(base, device=device)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(
                max(1, (os.cpu_count() or 2) - 1)
            )  # one stays free for the page
        self.number = 0
        self.cached: dict[str, tuple[object, CachedPhoto]] = {}
        self.learnt_from: object = None
        self.lessons: frozenset[str] = frozenset()
        self.detector: Detector | None = None
        self.wanted: list[str] = []
        self.uncertainty: dict[str, float] = {}
        self.looked_at: dict[str, str] = {}
        self.is_ready = False

    def learn(self) -> None:
        """One round, if there is enough to learn from and it has changed since the last one."""
        self.is_ready = False
        names = self.project.photo_names()
        states = {
            name: state
            for name, state in zip(names, self.project.states(names), strict=True)
            if state.reviewed and not state.left_out and self.project.path_of(name).exists()
        }
        left_out = {
            name for name, state in zip(names, self.project.states(names), strict=True) if state.left_out
        }
        missing = MIN_PHOTOS - sum(bool(objects_in(state)) for state in states.values())
        if missing > 0:
            where = "two photos" if missing == 2 else "one more photo"
            _report(Learning("waiting", f"draw boxes in {where}", self.number))
            return
        used = {drawn.box.label for state in states.values() for drawn in state.boxes}
        labels = tuple(label for label in self.project.labels() if label in used)
        chosen = {name: states[name] for name in choose_lessons(states, MAX_PHOTOS)}
        versions = {name: self._version(name, state, labels) for name, state in chosen.items()}
        if versions != self.learnt_from:
            self._fit(chosen, versions, labels)
        settled = states.keys() | left_out
        # Also if nothing is new: since then it may have said that it waits, or that it failed.
        self._look([name for name in names if name not in settled and self.project.path_of(name).exists()])

    def _fit(
        self, chosen: dict[str, PhotoState], versions: dict[str, object], labels: tuple[str, ...]
    ) -> None:
        """Learn from these photos; if that fails, what was learnt before stays."""
        checked_labels(labels, PROJECT_FILE)  # else every photo is refused, one by one, and the reason lost
        self._cache(chosen, versions, labels)
        photos = [photo for _, photo in self.cached.values()]
        if sum(bool(objects_in(chosen[name])) for name in self.cached) < MIN_PHOTOS:
            raise PhotoError(
                "too few of the photos with boxes can be read, and have the size that they had then",
                hint="leave the others out, or draw their boxes again",
            )
        self.detector = fit_detector(
            photos,
            labels,
            self.extractor,
            self.base,
            budget_for(len(photos), EFFORT),
            keep_classes=False,
            device=self.device,
        ).detector
        self.learnt_from, self.lessons = versions, frozenset(self.cached)
        self.number += 1
        self.uncertainty.clear()

    def _version(self, name: str, state: PhotoState, labels: tuple[str, ...]) -> object:
        """Equal as long as the photo and what there is to learn in it are the same."""
        boxes = [drawn.box for drawn in state.boxes]
        try:
            changed_ns = self.project.path_of(name).stat().st_mtime_ns
        except OSError:  # somebody has just moved it away; as one that cannot be read it is passed by
            changed_ns = None
        return (changed_ns, boxes, labels)

    def _cache(
        self, states: dict[str, PhotoState], versions: dict[str, object], labels: tuple[str, ...]
    ) -> None:
        """Show the network those photos that are new or have changed; of the others keep the features."""
        message = f"learning from {counted(len(states), 'photo')}"
        _report(Learning("learning", message, self.number))
        budget = budget_for(len(states), EFFORT)
        kept = {}
        for number, (name, state) in enumerate(states.items(), start=1):
            if name not in self.cached or self.cached[name][0] != versions[name]:
                try:
                    path = self.project.path_of(name)
                    image = stated_image(name, path, state)
                    if not image.reviewed:
                        continue  # something was drawn there, and nothing of it has an inside
                    annotations = AnnotationSet((image,), labels, PROJECT_FILE)
                    (photo,) = cache_photos(
                        self.extractor, self.base.config, annotations, budget, SEED, show_progress=False
                    )
                except (AnnotationError, PhotoError):
                    continue  # the page says so; or it was turned or resized since its boxes were drawn
                self.cached[name] = (versions[name], photo)
            kept[name] = self.cached[name]
            _report(Learning("learning", message, self.number, 0.8 * number / len(states)))
        self.cached = kept

    def _look(self, names: list[str]) -> None:
        """Look at photos that nobody has reviewed: first the ones asked for, then the next, then others."""
        half = CANDIDATES // 2
        self.is_ready = True
        there = set(names)
        self.uncertainty = {name: known for name, known in self.uncertainty.items() if name in there}
        self.wanted = [name for name in self.wanted if name in names][-half:]
        others = [*names[:half], *names[:: max(1, len(names) // half)]]
        for name in list(dict.fromkeys([*reversed(self.wanted), *others]))[:CANDIDATES]:
            self.propose(name)
        self._report_ready()

    def propose(self, name: str) -> None:
        """Look at one photo with what the last round has learnt, and tell what is in it.

        Of a photo that the round has learnt from nothing is told: a person may just have taken back that it
        is empty, and the detector would repeat it. The round that follows tells.
        """
        path = self.project.path_of(name)
        file = files.version_of(path)  # before it is read: it may be turned or replaced meanwhile
        is_known = name in self.uncertainty and self.looked_at.get(name) == file
        if self.detector is None or is_known or name in self.lessons:
            return
        self.looked_at[name] = file
        try:
            found = self.detector.detect(path, threshold=CANDIDATE_SCORE)
        except PhotoError:
            self.uncertainty[name] = 0.0  # whoever opens the photo is told
            return
        # Of a score of one half nobody can say which way it goes.
        self.uncertainty[name] = max((1 - abs(2 * float(score) - 1) for score in found.scores), default=0.0)
        boxes = [
            asdict(Proposal(_rounded(box), label, round(float(score), 3)))
            for box, score, label in found.above(max(SHOWN_SCORE, self.detector.threshold))
        ]
        _send({"name": name, "round": self.number, "file": file, "boxes": boxes})
        if self.is_ready:  # else what it said last stays: for what it waits, or why it failed
            self._report_ready()

    def save(self, file: Path) -> None:
        """Write what the last round has learnt, so that somebody can try it."""
        if self.detector is not None:
            self.detector.save(file)

    def _report_ready(self) -> None:
        suggested = max(self.uncertainty, key=lambda name: self.uncertainty[name], default=None)
        message = f"learnt from {counted(len(self.lessons), 'photo')}"
        _report(Learning("ready", message, self.number, 1.0, suggested))


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


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(edge, 1) for edge in box)
    return x1, y1, x2, y2


def _rounds(photos: str, base: str, device: str, batch_norm_eps: str | None) -> Rounds:
    """What learns.

    Raises:
        BaseModelError: the base cannot be found or used.
        SettingError: there is no such device, or something that is needed is not installed.
    """
    eps = None if batch_norm_eps is None else float(batch_norm_eps)
    chosen = choose_processor_or(device)
    try:
        return Rounds(Project(photos), load_base(base, batch_norm_eps=eps), chosen)
    except ModuleNotFoundError as error:  # of an official file that is converted first
        raise missing_in_words(error, f"learning from {base}") from error


def _report(learning: Learning) -> None:
    _send({"learning": asdict(learning)})


def _send(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _read_orders(orders: queue.Queue[dict[str, str]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(0)  # whoever started this process has ended


def serve_orders(rounds: Rounds, orders: queue.Queue[dict[str, Any]]) -> None:
    """Learn and propose as asked, until the process is ended."""
    first = learn_at = time.monotonic()
    while True:
        try:
            order = orders.get(timeout=max(0.0, min(learn_at, first + PATIENCE_SECONDS) - time.monotonic()))
        except queue.Empty:
            first = learn_at = _NEVER
            try:
                with full_memory_told():
                    rounds.learn()
            except FewboxError as error:
                _report(Learning("failed", error.one_line, rounds.number))
            continue
        if order["do"] == "learn":
            first = min(first, time.monotonic())
            learn_at = time.monotonic() + QUIET_SECONDS
        elif order["do"] == "save":
            _send({"saved": f"{order['round']} {order['file']}", **_saved(rounds, Path(order["file"]))})
        else:
            rounds.wanted.append(order["name"])
            rounds.propose(order["name"])


def _saved(rounds: Rounds, file: Path) -> dict[str, Any]:
    """Write what the last round has learnt, and say why it could not be written; learning goes on."""
    try:
        rounds.save(file)
    except FewboxError as error:
        return {"error": error.message, "hint": error.hint}
    return {}


def main(photos: str, base: str, device: str = AUTO, batch_norm_eps: str | None = None) -> None:
    """Learn in ``photos`` from ``base`` on ``device``, as stdin says, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which closes stdin
    if hasattr(os, "nice"):
        os.nice(10)
    orders: queue.Queue[dict[str, str]] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    try:
        rounds = _rounds(photos, base, device, batch_norm_eps)
    except (BaseModelError, SettingError) as error:
        _report(Learning("off", error.one_line))
        threading.Event().wait()
        return
    serve_orders(rounds, orders)


if __name__ == "__main__":
    main(*sys.argv[1:])
