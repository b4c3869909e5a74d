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
from goldeneye.data.images import read_image
from goldeneye.data.project import Project
from goldeneye.data.project_file import PhotoState
from goldeneye.errors import BaseModelError, GoldeneyeError
from goldeneye.finetuning.restore import restore
from goldeneye.finetuning.trainer import corners_of, fit_heads, heads_of, make_schedule
from goldeneye.models.architectures import build_network
from goldeneye.models.base import BaseModel, load_base
from goldeneye.models.network import Network

MIN_PHOTOS = 2
"""Photos with boxes from which on it learns."""
MAX_PHOTOS = 40
"""Photos it learns from at most: features of one take megabytes, and more change the proposals little."""
CANDIDATES = 12
"""Photos it looks at after a round without being asked."""
SHOWN_SCORE = 0.4
"""Proposals have a higher score: lower than a detector finds right, as a box is deleted sooner than drawn."""
SEEN_SCORE = 0.05
"""Detections that count for how sure it is."""
QUIET_SECONDS = 0.7
"""After the last change a round waits this long for the next one."""


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
        self.network: Network | None = None
        self.weights: dict[str, torch.Tensor] = {}
        self.features: dict[str, tuple[object, Any]] = {}
        self.learnt_from: object = None
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
        learnt = [box.label for state in states.values() for box in _learnt(state)]
        with_boxes = sum(bool(_learnt(state)) for state in states.values())
        if with_boxes < MIN_PHOTOS:
            _report(Learning("waiting", f"draw boxes in {MIN_PHOTOS - with_boxes} more photos", self.number))
            return
        labels = tuple(label for label in self.project.labels() if label in learnt)
        chosen = sorted(states, key=lambda name: (name not in self.features, not states[name].boxes))
        chosen = sorted(chosen[:MAX_PHOTOS])
        versions = [self._version(name, states[name], labels) for name in chosen]
        if (labels, versions) == self.learnt_from:
            return
        if self.network is None or len(labels) != len(self.labels):
            self._build(len(labels))
        self.labels = labels
        self._fit({name: states[name] for name in chosen}, versions)
        self.learnt_from = (labels, versions)
        self._look(names, states)

    def _build(self, num_classes: int) -> None:
        """The network for so many classes; what was seen with another is forgotten."""
        config, self.weights, _ = restore(self.base, num_classes, self.settings.seed)
        self.network = build_network(config, self.weights)
        self.features.clear()

    def _version(self, name: str, state: PhotoState, labels: tuple[str, ...]) -> object:
        """Equal as long as the photo and what there is to learn in it are the same."""
        boxes = [(corners_of([each.box]).tolist(), each.box.label, each.box.ignore) for each in state.boxes]
        return (name, self.project.path_of(name).stat().st_mtime_ns, boxes, labels)

    def _fit(self, states: dict[str, PhotoState], versions: list[object]) -> None:
        self._progress(0.0, len(states))
        assert self.network is not None
        heads = heads_of(self.network, self.weights)
        kept: dict[str, tuple[object, Any]] = {}
        for number, (name, version) in enumerate(zip(states, versions, strict=True), start=1):
            known = self.features.get(name)
            if known is None or known[0] != version:
                boxes = [each.box for each in states[name].boxes]
                learnt, ignored = ([b for b in boxes if b.ignore is ignore] for ignore in (False, True))
                ids = torch.tensor([self.labels.index(box.label) for box in learnt], dtype=torch.int64)
                image = read_image(self.project.path_of(name))
                known = (version, heads.features(image, corners_of(learnt), ids, corners_of(ignored)))
            kept[name] = known
            self._progress(0.6 * number / len(states), len(states))
        self.features = kept
        photos = [features for _, features in kept.values()]
        schedule = make_schedule(len(photos), self.settings)
        fit_heads(heads, photos, schedule, self.settings, show_progress=False)
        self.network.load_state_dict(heads.tensors(), strict=False, assign=True)
        self.number += 1
        self.unsure.clear()

    def _progress(self, part: float, photos: int) -> None:
        _report(Learning("learning", f"learning from {photos} photos", self.number, part))

    def _look(self, names: list[str], reviewed: dict[str, PhotoState]) -> None:
        """Look at photos that nobody has reviewed: first the ones asked for, then the next, then others."""
        rest = [name for name in names if name not in reviewed and self.project.path_of(name).exists()]
        asked = [name for name in self.wanted if name in rest][-CANDIDATES // 2 :]
        after = rest[: CANDIDATES // 2]
        spread = rest[:: max(1, len(rest) // (CANDIDATES // 2))]
        for name in list(dict.fromkeys([*reversed(asked), *after, *spread]))[: 2 * CANDIDATES]:
            self.propose(name)
        self.wanted = asked

    def propose(self, name: str) -> None:
        """Look at one photo with what the last round has learnt, and tell what is in it."""
        if self.network is None or self.number == 0 or name in self.unsure:
            return
        try:
            found = self.network.find(read_image(self.project.path_of(name)), SEEN_SCORE)
        except GoldeneyeError:
            self.unsure[name] = 0.0  # whoever opens the photo is told
            return
        scores = found.scores.tolist()
        # Of a score of one half nobody can say which way it goes.
        self.unsure[name] = max((1 - abs(2 * score - 1) for score in scores), default=0.0)
        rows = zip(found.boxes.tolist(), scores, found.class_ids.tolist(), strict=True)
        boxes = [
            asdict(Proposal(tuple(round(edge, 1) for edge in box), self.labels[class_id], round(score, 3)))
            for box, score, class_id in rows
            if score > SHOWN_SCORE
        ]
        _send({"name": name, "round": self.number, "boxes": boxes})
        suggested = max(self.unsure, key=lambda each: self.unsure[each])
        _report(Learning("ready", f"learnt from {len(self.features)} photos", self.number, 1.0, suggested))


def _learnt(state: PhotoState) -> list[Any]:
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
    learn_at: float | None = time.monotonic()
    while True:
        try:
            wait = None if learn_at is None else max(0.0, learn_at - time.monotonic())
            order = orders.get(timeout=wait)
        except queue.Empty:
            learn_at = None
            try:
                rounds.learn()
            except GoldeneyeError as error:
                _report(
                    Learning("failed", "; ".join(filter(None, (error.message, error.hint))), rounds.number)
                )
            continue
        if order["do"] == "learn":
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
        _report(Learning("off", "; ".join(filter(None, (error.message, error.hint)))))
        threading.Event().wait()
        return
    work(Rounds(Project(photos), base_model), orders)


if __name__ == "__main__":
    main(*sys.argv[1:])
