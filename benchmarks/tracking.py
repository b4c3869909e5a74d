"""How well tracks hold, by TrackEval, beside the ByteTrack of Roboflow's ``trackers``.

The films have no pixels: objects move about, cross, are hidden for some tenths of a second, leave and come;
a pretended detector misses some, shifts boxes, gives low scores to those half hidden, and sees for one frame
what is not there. Every film is seen at 5, 10 and 30 frames a second by all trackers alike.

    pip install trackeval 'trackers==2.6.*'
    python benchmarks/tracking.py                       about ten minutes
    python benchmarks/tracking.py --seeds 100-101       the films on which our settings were chosen
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fewbox.core.boxes import pairwise_iou
from fewbox.detection import Detections
from fewbox.video.tracking import Tracker
from machine import describe_machine

RATES = (5, 10, 30)
CLOCK = 60  # the films are made in so many steps a second
SIZE_HW = (720, 1280)
Array = npt.NDArray[Any]


class Scene(NamedTuple):
    """What a film shows."""

    name: str
    num_objects: int
    speed: tuple[float, float]
    """Sides of the object per second."""
    side: tuple[float, float]
    """Pixels."""
    shake: float = 0.0
    """How far a hand moves the camera, in pixels (standard deviation)."""


SCENES = (
    Scene("2 slow", 2, (0.2, 1.0), (80, 160)),
    Scene("4, camera in the hand", 4, (0.1, 0.8), (80, 160), shake=40.0),
    Scene("8, walking pace", 8, (0.5, 1.5), (60, 120)),
    Scene("8 fast", 8, (3.0, 7.0), (50, 80)),
    Scene("32 slow", 32, (0.2, 1.2), (40, 90)),
    Scene("32 fast", 32, (1.5, 5.0), (35, 60)),
)


class Frame(NamedTuple):
    """What is there and what was detected at one moment."""

    time_s: float
    true_ids: Array
    true_boxes: Array
    found: Detections


class Path(NamedTuple):
    """One object from where it comes to where it leaves."""

    first: int
    """The step of the clock at which it comes."""
    boxes: Array
    """``[T, 4]``, a row for each step."""
    hidden: Array
    """``[T]``: how much of it something else hides, 0 to 1."""


def make_paths(scene: Scene, seconds: float, rng: np.random.Generator) -> list[Path]:
    """Whoever leaves is followed by another, so that there are about as many at any time."""
    steps = int(seconds * CLOCK)
    shake = _wander(steps, 0.25, scene.shake, rng, 2)
    paths = []
    for _ in range(scene.num_objects):
        first, at_edge = 0, False
        while first < steps - CLOCK:
            path = _make_path(scene, first, steps, at_edge, rng)
            paths.append(path._replace(boxes=path.boxes + np.tile(shake[first:][: len(path.boxes)], 2)))
            first, at_edge = first + len(path.boxes) + int(rng.uniform(0.2, 1.5) * CLOCK), True
    return [path for path in paths if len(path.boxes) > CLOCK // 2]


def _wander(steps: int, memory_s: float, deviation: float, rng: np.random.Generator, width: int) -> Array:
    """A smooth random walk around 0 (twice filtered noise), ``[steps, width]``."""
    keep = np.exp(-1 / (memory_s * CLOCK))
    values, rough, smooth = [], np.zeros(width), np.zeros(width)
    for noise in rng.normal(size=(steps, width)):
        rough = keep * rough + np.sqrt(1 - keep**2) * noise
        smooth = keep * smooth + (1 - keep) * rough
        values.append(smooth)
    return deviation * np.sqrt(2) * np.array(values)


def _make_path(scene: Scene, first: int, steps: int, at_edge: bool, rng: np.random.Generator) -> Path:
    height, width = SIZE_HW
    side = rng.uniform(*scene.side)
    size = np.array([side * rng.uniform(0.7, 1.4), side])
    speed = rng.uniform(*scene.speed) * side
    middle, heading = rng.uniform(0.1, 0.9, 2) * (width, height), rng.uniform(0, 2 * np.pi)
    if at_edge:
        middle[0] = rng.choice([1, width - 1])
        heading = rng.uniform(-0.8, 0.8) + (0 if middle[0] == 1 else np.pi)
    length = steps - first
    turns = heading + np.cumsum(_wander(length, 0.5, rng.uniform(0, 2.0), rng, 1)[:, 0]) / CLOCK
    pace = speed * np.exp(_wander(length, 0.7, 0.4, rng, 1))
    middles = middle + np.cumsum(pace * np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0) / CLOCK
    grown = size * np.exp(_wander(length, 1.5, 0.15, rng, 2))
    outside = ((middles < 0) | (middles > (width, height))).any(axis=1)
    length = int(outside.argmax()) if outside.any() else length
    boxes = np.concatenate([middles - grown / 2, middles + grown / 2], axis=1)[:length]
    hidden, step = np.zeros(length), int(rng.exponential(4) * CLOCK)
    while step < length:  # behind a tree: half hidden, hidden, half hidden
        tenth, gap = CLOCK // 10, int(rng.uniform(0.2, 0.7) * CLOCK)
        hidden[step : step + gap + 2 * tenth] = 0.5
        hidden[step + tenth : step + tenth + gap] = 1.0
        step += gap + int(rng.exponential(4) * CLOCK)
    return Path(first, boxes, hidden)


def make_film(scene: Scene, rate: int, seconds: float, seed: int) -> list[Frame]:
    """The film of this scene and seed, at so many frames a second."""
    paths = make_paths(scene, seconds, np.random.default_rng(seed))
    rng = np.random.default_rng((seed, rate))
    return [_look(paths, step, step / CLOCK, rng) for step in range(0, int(seconds * CLOCK), CLOCK // rate)]


def _look(paths: Sequence[Path], step: int, time_s: float, rng: np.random.Generator) -> Frame:
    there = [number for number, path in enumerate(paths) if 0 <= step - path.first < len(path.boxes)]
    boxes = np.array([paths[number].boxes[step - paths[number].first] for number in there]).reshape(-1, 4)
    hidden = np.array([paths[number].hidden[step - paths[number].first] for number in there])
    for row, box in enumerate(boxes):  # who stands lower in the picture is nearer
        nearer = boxes[boxes[:, 3] > box[3]]
        sides = np.minimum(nearer[:, 2:], box[2:]) - np.maximum(nearer[:, :2], box[:2])
        covered = np.clip(sides, 0, None).prod(axis=1) / (box[2:] - box[:2]).prod()
        hidden[row] = max([hidden[row], *covered])
    visible = hidden < 0.75
    found, scores = _detect(boxes[visible], hidden[visible], rng)
    return Frame(
        time_s,
        np.array(there)[visible] if there else np.array([], int),
        boxes[visible],
        _as_detections(found, scores),
    )


def _detect(boxes: Array, hidden: Array, rng: np.random.Generator) -> tuple[list[Array], list[float]]:
    found: list[Array] = []
    scores: list[float] = []
    for box, covered in zip(boxes, hidden, strict=True):
        if rng.random() < 0.06:
            continue
        noise = 0.03 if rng.random() < 0.9 else 0.08
        half = covered > 0.3 or rng.random() < 0.08
        found.append(box + rng.normal(0, noise, 4) * np.tile(box[2:] - box[:2], 2))
        scores.append(rng.uniform(0.15, 0.55) if half else rng.normal(0.82, 0.07))
    for _ in range(rng.poisson(0.2)):
        side, middle = rng.uniform(35, 160), rng.uniform(0, 1, 2) * SIZE_HW[::-1]
        found.append(np.concatenate([middle - side / 2, middle + side / 2]))
        scores.append(rng.uniform(0.3, 0.85))
    return found, [min(max(score, 0.11), 0.99) for score in scores]


def _as_detections(found: list[Array], scores: list[float]) -> Detections:
    height, width = SIZE_HW
    boxes = np.clip(np.array(found).reshape(-1, 4), 0, [width, height, width, height])
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(axis=1)
    order = np.argsort(-np.array(scores)[kept], kind="stable")
    return Detections(
        boxes=boxes[kept][order].astype(np.float32),
        scores=np.array(scores, np.float32)[kept][order],
        class_ids=np.zeros(len(order), np.int64),
        class_names=("duck",),
        size_hw=SIZE_HW,
    )


Tracks = list[tuple[Array, Array]]
"""For each frame, the numbers and the boxes ``[M, 4]`` of what has a number."""


def ours(film: Sequence[Frame], rate: int) -> Tracks:
    """What fewbox says."""
    tracker = Tracker(0.5, rate=rate)
    tracks = []
    for frame in film:
        tracked = [each for each in tracker.update(frame.found, frame.time_s) if each.track_id is not None]
        tracks.append(
            (
                np.array([each.track_id for each in tracked], int),
                np.array([each.box for each in tracked]).reshape(-1, 4),
            )
        )
    return tracks


def theirs(film: Sequence[Frame], *, timed: bool, **settings: Any) -> Tracks:
    """What ``trackers`` says; it leaves some settings to its defaults."""
    import supervision as sv
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(**settings)
    tracks = []
    for frame in film:
        found = sv.Detections(
            xyxy=frame.found.boxes, confidence=frame.found.scores, class_id=frame.found.class_ids
        )
        # It takes 0 for no time at all.
        said = tracker.update(found, timestamp=frame.time_s + 1 if timed else None)
        numbered = said.tracker_id >= 0
        tracks.append((said.tracker_id[numbered], said.xyxy[numbered]))
    return tracks


def settings_of_theirs(rate: int) -> dict[str, dict[str, Any]]:
    """By name: its defaults, the rate said in each of its two ways, and others that may suit these films."""
    said: dict[str, dict[str, Any]] = {
        "its defaults": {"timed": False},
        "rate given": {"timed": False, "frame_rate": float(rate)},
        "times given": {"timed": True, "frame_rate": float(rate)},
    }
    for threshold, iou, buffer in itertools.product((0.5, 0.6), (0.02, 0.1), (30, 60)):
        said[f"thresholds {threshold}, IoU {iou}, {buffer / 30:g} s"] = {
            "timed": False,
            "frame_rate": float(rate),
            "high_conf_det_threshold": threshold,
            "track_activation_threshold": threshold,
            "minimum_iou_threshold": iou,
            "lost_track_buffer": buffer,
        }
    return said


def for_trackeval(film: Sequence[Frame], tracks: Tracks) -> dict[str, Any]:
    """One sequence as the metrics of TrackEval take it; numbers are counted from 0."""
    true_ids = [frame.true_ids for frame in film]
    ids = [numbers for numbers, _ in tracks]
    known, numbered = np.unique(np.concatenate(true_ids)), np.unique(np.concatenate(ids))
    return {
        "num_timesteps": len(film),
        "num_gt_ids": len(known),
        "num_tracker_ids": len(numbered),
        "num_gt_dets": sum(map(len, true_ids)),
        "num_tracker_dets": sum(map(len, ids)),
        "gt_ids": [np.searchsorted(known, each) for each in true_ids],
        "tracker_ids": [np.searchsorted(numbered, each) for each in ids],
        "similarity_scores": [
            pairwise_iou(frame.true_boxes.reshape(-1, 4), boxes)
            for frame, (_, boxes) in zip(film, tracks, strict=True)
        ],
    }


def measure(films: Sequence[Sequence[Frame]], track: Callable[[Sequence[Frame]], Tracks]) -> dict[str, float]:
    """The metrics over all films together."""
    from trackeval import metrics

    with contextlib.redirect_stdout(io.StringIO()):
        kinds = [metrics.Identity(), metrics.HOTA(), metrics.CLEAR()]
    sequences = [for_trackeval(film, track(film)) for film in films]
    together: dict[str, Any] = {}
    for kind in kinds:
        each = {str(number): kind.eval_sequence(data) for number, data in enumerate(sequences)}
        together |= kind.combine_sequences(each)
    return {
        "IDF1": 100 * together["IDF1"],
        "HOTA": 100 * float(np.mean(together["HOTA"])),
        "MOTA": 100 * together["MOTA"],
        "switches": together["IDSW"],
        "tracks": sum(data["num_tracker_ids"] for data in sequences),
        "objects": sum(data["num_gt_ids"] for data in sequences),
    }


def best_of_theirs(rate: int, seconds: float, seeds: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """The settings of ``trackers`` that have the highest IDF1, chosen on films that are not reported."""
    films = [make_film(scene, rate, seconds, seed) for scene in SCENES for seed in seeds]
    tried = settings_of_theirs(rate)
    scores = {
        name: measure(films, lambda film, chosen=chosen: theirs(film, **chosen))["IDF1"]
        for name, chosen in tried.items()
    }
    best = max(scores, key=lambda name: scores[name])
    return best, tried[best]


def rows(
    rate: int, films: dict[str, list[list[Frame]]], best: tuple[str, dict[str, Any]] | None
) -> Iterator[tuple[str, dict[str, float], dict[str, float]]]:
    """For each tracker: its name, its metrics over all films, and the IDF1 of each scene."""
    ways: dict[str, Callable[[Sequence[Frame]], Tracks]] = {"fewbox": lambda film: ours(film, rate)}
    if best is not None:
        named = {
            name: settings_of_theirs(rate)[name] for name in ("its defaults", "rate given", "times given")
        }
        for name, settings in {**named, f"best: {best[0]}": best[1]}.items():
            ways[f"trackers, {name}"] = lambda film, settings=settings: theirs(film, **settings)
    for name, track in ways.items():
        by_scene = {scene: measure(those, track)["IDF1"] for scene, those in films.items()}
        yield name, measure([film for those in films.values() for film in those], track), by_scene


def numbers_in(text: str) -> list[int]:
    """``0-4`` as 0, 1, 2, 3, 4."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    """Print a table for each rate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=numbers_in, default=numbers_in("0-2"))
    parser.add_argument("--tuning-seeds", type=numbers_in, default=numbers_in("100"))
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--only-ours", action="store_true", help="needs trackeval alone")
    parsed = parser.parse_args()
    print(describe_machine())
    for rate in RATES:
        films = {
            scene.name: [make_film(scene, rate, parsed.seconds, seed) for seed in parsed.seeds]
            for scene in SCENES
        }
        best = None if parsed.only_ours else best_of_theirs(rate, parsed.seconds, parsed.tuning_seeds)
        for number, (name, result, by_scene) in enumerate(rows(rate, films, best)):
            if number == 0:
                print(f"\n| {rate} frames a second | {' | '.join(result)} | {' | '.join(by_scene)} |")
                print("|---" * (1 + len(result) + len(by_scene)) + "|")
            values = [f"{value:.1f}" if isinstance(value, float) else f"{value}" for value in result.values()]
            print(
                f"| {name} | {' | '.join(values)} | {' | '.join(f'{v:.1f}' for v in by_scene.values())} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
