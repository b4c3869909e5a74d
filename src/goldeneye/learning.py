"""Learn while a person draws: a process that ``goldeneye annotate`` starts.

A round takes the photos that have been reviewed, fits the heads to them, and looks with the result
at some photos that nobody has reviewed yet. What the frozen network sees in a photo is kept from
round to round, so a round costs one pass of the network for each photo that is new or has changed,
and the fit. ``annotate/background.py`` is the other side of stdin and stdout.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

import torch

from goldeneye.annotate.learner import Learning, Proposal
from goldeneye.config import FinetuneConfig
from goldeneye.data.annotations import Box
from goldeneye.data.images import read_image
from goldeneye.data.project import Project
from goldeneye.data.project_file import PhotoState
from goldeneye.detect.detector import Detector
from goldeneye.errors import BaseModelError, GoldeneyeError, PhotoError
from goldeneye.finetuning.heads import Heads
from goldeneye.finetuning.restore import restore
from goldeneye.finetuning.trainer import corners_of, fit_heads, heads_of, make_schedule
from goldeneye.models.architectures import build_network
from goldeneye.models.base import BaseModel, load_base

MIN_PHOTOS = 2
"""Photos with boxes from which on it learns."""
MAX_PHOTOS = 40
"""Photos it learns from at most: features of one take megabytes, and more change the proposals little."""
CANDIDATES = 12
"""Photos it looks at after a round."""
SHOWN_SCORE = 0.4
"""Proposals have a higher score: lower than a detector finds right, as a box is deleted sooner than drawn."""
SEEN_SCORE = 0.05
"""Detections that count for how sure it is."""
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
    """

    def __init__(self, project: Project, base: BaseModel) -> None:
        self.project = project
        self.base = base
        self.settings = FinetuneConfig()
        self.number = 0
        self.labels: tuple[str, ...] = ()
        self.config: Any = None
        self.weights: dict[str, torch.Tensor] = {}
        self.network: Any = None
        self.features: dict[str, tuple[object, Any]] = {}
        self.learnt_from: object = None
        self.detector: Detector | None = None
        self.wanted: list[str] = []
        self.unsure: dict[str, float] = {}

    def learn(self) -> None:
        """One round, if there is enough to learn from and it has changed since the last one."""
        names = self.project.photo_names()
        states = {
            name: state
            for name, state in zip(names, self.project.states(names), strict=True)
            if state.reviewed and self.project.path_of(name).exists()
        }
        missing = MIN_PHOTOS - sum(bool(_learnt(state)) for state in states.values())
        if missing > 0:
            photos = "two photos" if missing == 2 else "one more photo"
            _report(Learning("waiting", f"draw boxes in {photos}", self.number))
            return
        used = {box.label for state in states.values() for box in _learnt(state)}
        labels = tuple(label for label in self.project.labels() if label in used)
        # Those already seen first, then those with boxes.
        order = sorted(states, key=lambda name: (name not in self.features, not states[name].boxes))
        chosen = {name: states[name] for name in sorted(order[:MAX_PHOTOS])}
        learnt_from = (labels, [self._version(name, state) for name, state in chosen.items()])
        if learnt_from == self.learnt_from:
            return
        if len(labels) != len(self.labels):
            self.config, self.weights, _ = restore(self.base, len(labels), self.settings.seed)
            self.network = build_network(self.config, self.weights)
            self.features.clear()
        self.labels = labels
        self._fit(chosen)
        self.learnt_from = learnt_from
        self._look([name for name in names if name not in states and self.project.path_of(name).exists()])

    def _version(self, name: str, state: PhotoState) -> object:
        """Equal as long as the photo and what there is to learn in it are the same."""
        return (name, self.project.path_of(name).stat().st_mtime_ns, [drawn.box for drawn in state.boxes])

    def _fit(self, states: dict[str, PhotoState]) -> None:
        """Fit new heads to the photos; what the network sees in them is kept for the next round."""
        message = f"learning from {len(states)} photos"
        _report(Learning("learning", message, self.number))
        heads = heads_of(self.network, self.weights)
        kept = {}
        for number, (name, state) in enumerate(states.items(), start=1):
            version = (self._version(name, state), self.labels)
            if name not in self.features or self.features[name][0] != version:
                try:
                    self.features[name] = (version, self._features(heads, name, state))
                except PhotoError:
                    continue  # the page says so
            kept[name] = self.features[name]
            _report(Learning("learning", message, self.number, 0.5 * number / len(states)))
        self.features = kept
        photos = [features for _, features in kept.values()]
        schedule = make_schedule(len(photos), self.settings)
        fit_heads(heads, photos, schedule, self.settings, show_progress=False)
        self.network.load_state_dict(heads.tensors(), strict=False, assign=True)
        self.detector = Detector(
            config=self.config,
            weights=self.weights | heads.tensors(),
            labels=self.labels,
            base=self.base.origin(),
            provenance={},
        )
        self.detector.network = self.network  # built already; only its heads are new
        self.number += 1
        self.unsure.clear()

    def _features(self, heads: Heads[Any], name: str, state: PhotoState) -> Any:
        learnt = _learnt(state)
        class_ids = torch.tensor([self.labels.index(box.label) for box in learnt], dtype=torch.int64)
        ignored = [drawn.box for drawn in state.boxes if drawn.box.ignore]
        image = read_image(self.project.path_of(name))
        return heads.features(image, corners_of(learnt), class_ids, corners_of(ignored))

    def _look(self, names: list[str]) -> None:
        """Look at photos that nobody has reviewed: first the ones asked for, then the next, then others."""
        half = CANDIDATES // 2
        self.wanted = [name for name in self.wanted if name in names][-half:]
        others = [*names[:half], *names[:: max(1, len(names) // half)]]
        for name in list(dict.fromkeys([*reversed(self.wanted), *others]))[:CANDIDATES]:
            self.propose(name)
        self._report_ready()

    def propose(self, name: str) -> None:
        """Look at one photo with what the last round has learnt, and tell what is in it."""
        if self.detector is None or name in self.unsure:
            return
        try:
            found = self.detector.detect(self.project.path_of(name), score_threshold=SEEN_SCORE)
        except PhotoError:
            self.unsure[name] = 0.0  # whoever opens the photo is told
            return
        # Of a score of one half nobody can say which way it goes.
        self.unsure[name] = max((1 - abs(2 * float(score) - 1) for score in found.scores), default=0.0)
        boxes = [
            asdict(Proposal(_rounded(box), label, round(float(score), 3)))
            for box, score, label in found.above(SHOWN_SCORE)
        ]
        _send({"name": name, "round": self.number, "boxes": boxes})
        self._report_ready()

    def _report_ready(self) -> None:
        suggested = max(self.unsure, key=lambda name: self.unsure[name], default=None)
        message = f"learnt from {len(self.features)} photos"
        _report(Learning("ready", message, self.number, 1.0, suggested))


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(edge, 1) for edge in box)
    return x1, y1, x2, y2


def _told(error: GoldeneyeError) -> str:
    return error.message if error.hint is None else f"{error.message}; {error.hint}"


def _learnt(state: PhotoState) -> list[Box]:
    return [drawn.box for drawn in state.boxes if not drawn.box.ignore]


def _report(learning: Learning) -> None:
    _send({"learning": asdict(learning)})


def _send(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _read_orders(orders: queue.Queue[dict[str, str]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(0)  # whoever started this process has ended


def work(rounds: Rounds, orders: queue.Queue[dict[str, str]]) -> None:
    """Do what is asked for, until the process is ended."""
    first = learn_at = time.monotonic()
    while True:
        try:
            order = orders.get(timeout=max(0.0, min(learn_at, first + PATIENCE_SECONDS) - time.monotonic()))
        except queue.Empty:
            first = learn_at = _NEVER
            try:
                rounds.learn()
            except GoldeneyeError as error:
                _report(Learning("failed", _told(error), rounds.number))
            continue
        if order["do"] == "learn":
            first = min(first, time.monotonic())
            learn_at = time.monotonic() + QUIET_SECONDS
        else:
            rounds.wanted.append(order["name"])
            rounds.propose(order["name"])


def main(photos: str, base: str) -> None:
    """Learn in ``photos`` from ``base``, as stdin says, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which closes stdin
    if hasattr(os, "nice"):
        os.nice(10)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))  # one stays free for the page
    orders: queue.Queue[dict[str, str]] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    try:
        base_model = load_base(base)
    except BaseModelError as error:
        _report(Learning("off", _told(error)))
        threading.Event().wait()
        return
    work(Rounds(Project(photos), base_model), orders)


if __name__ == "__main__":
    main(*sys.argv[1:])
