"""The report: one HTML file that needs nothing else, neither a network nor other files.

The page itself is in ``page/``: a Jinja template, which escapes every text it is given, its style, and a
script that redraws boxes and counts when the threshold is moved. Everything that has to be computed is
computed here. A policy in the page allows its own style and script, known by their hashes, pictures that
are in it, and nothing else: should a text ever get past the escaping, a browser would still not run it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from fewbox import __version__
from fewbox.core import counted
from fewbox.core.arguments import checked_path, require_kind
from fewbox.core.files import write_text
from fewbox.data.formats.writing import require_no_photo_name
from fewbox.data.images import StrPath
from fewbox.detection.drawing import COLORS, class_color
from fewbox.errors import OutputError, SettingError
from fewbox.evaluation import Evaluation
from fewbox.evaluation.error_analysis import (
    alarm_kinds_in_words,
    learnt_from_in_words,
    miss_kinds_in_words,
    others_in_words,
    printable_name,
    scores_in_words,
    some_names,
    take_pictures,
    worst_false_alarms,
    worst_misses,
)
from fewbox.evaluation.metrics import ThresholdCounts, likely_share, none_if_nan, precision_recall
from fewbox.evaluation.outcomes import ALARM_KINDS, HIT_IOU, MISS_KINDS, NEAR_IOU, SHOWN_SCORE

# What bounds the size of a report, some 5 MB, however many photos there are.
MAX_PHOTOS = 60
MAX_MISTAKES = 24
MAX_CONFUSED = 12
"""Classes in the table of confusions."""

_DIGITS = 3  # of a curve's points; a curve is some 260 pixels wide


def save_report(evaluation: Evaluation, target: StrPath, *, title: str | None = None) -> None:
    """Write the report as one HTML file, whole or not at all.

    Args:
        evaluation: what to report.
        target: the file.
        title: what to call the detector; its labels if not given.

    Raises:
        PhotoError: a photo can no longer be read.
        SettingError: it is no evaluation.
        OutputError: the file cannot be written, or has a photo's ending.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/test/boxes.csv").reviewed_only()
        >>> evaluation = fewbox.evaluate("duck.safetensors", photos, show_progress=False)
        >>> fewbox.save_report(evaluation, "report.html")
    """
    hint = "make one: fewbox.evaluate(detector, annotations)"
    require_kind(evaluation, Evaluation, "evaluation", SettingError, hint)
    target = checked_path(target, "the file to write", OutputError)
    require_no_photo_name(target)
    write_text(target, render_report(evaluation, title or ", ".join(evaluation.labels)))


def render_report(evaluation: Evaluation, title: str) -> str:
    """The report as text."""
    page = resources.files("fewbox.evaluation") / "page"
    texts = {
        name: (page / name).read_text(encoding="utf-8") for name in ("report.html", "report.css", "report.js")
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = texts["report.css"], texts["report.js"]
    known = len(evaluation.learnt_from)
    return environment.from_string(texts["report.html"]).render(
        title=title,
        style=style,
        script=script,
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        version=__version__,
        counted=counted,
        evaluation=evaluation,
        skipped=some_names([printable_name(name) for name in evaluation.skipped]),
        others=others_in_words(evaluation.not_annotated) if evaluation.not_annotated else "",
        score_words=_score_words(evaluation),
        learnt_from=learnt_from_in_words(known, len(evaluation.annotations)) if known else "",
        shown_score=SHOWN_SCORE,
        hit_iou=HIT_IOU,
        near_iou=NEAR_IOU,
        num_colors=len(COLORS),
        numbers=_numbers(evaluation),
        classes=_classes(evaluation),
        curves=_curves(evaluation),
        **_pictures(evaluation),
    )


def _score_words(evaluation: Evaluation) -> str:
    outcomes = evaluation.outcomes
    shown = (outcomes.is_true_positive | outcomes.is_false_positive) & (
        outcomes.predictions.scores > evaluation.threshold
    )
    return scores_in_words(outcomes.predictions.scores[shown], outcomes.is_true_positive[shown])


def _policy_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _numbers(evaluation: Evaluation) -> dict[str, Any]:
    """What the script reads: every count at every threshold, and the words for it."""
    counts, total = evaluation.counts, evaluation.counts.sum()
    thresholds = counts.thresholds
    own = int(np.argmin(abs(thresholds - evaluation.threshold)))
    best, precise = evaluation.best_threshold, evaluation.precise_threshold
    annotations = int(total.annotations[0])
    likely = [likely_share(int(found), annotations) for found in total.found]
    return {
        "thresholds": thresholds.tolist(),
        # Below, boxes would count that are not drawn.
        "first": min(own, int(np.searchsorted(thresholds, SHOWN_SCORE))),
        "own": own,
        "best": own if best is None else int(np.argmin(abs(thresholds - best))),
        "precise": None if precise is None else int(np.argmin(abs(thresholds - precise))),
        "words": [evaluation.in_words(threshold) for threshold in thresholds],
        "likely": [f"{low:.0%} to {high:.0%}" for low, high in likely],
        "alarm_words": _sentences(ALARM_KINDS, total.alarms_by_kind, alarm_kinds_in_words),
        "miss_words": _sentences(MISS_KINDS, total.misses_by_kind, miss_kinds_in_words),
        "alarm_kinds": dict(zip(ALARM_KINDS, total.alarms_by_kind.tolist(), strict=True)),
        "miss_kinds": dict(zip(MISS_KINDS, total.misses_by_kind.tolist(), strict=True)),
        "total": _counts(total),
        "classes": [_counts(counts.of_class(class_id)) for class_id in range(len(evaluation.labels))],
        "confusion": _confusion(evaluation),
    }


def _sentences(
    kinds: Sequence[str], counts: npt.NDArray[np.int64], in_words: Callable[[Mapping[str, int]], str]
) -> list[str]:
    """The words for counts ``[kinds, T]`` of mistakes at each threshold."""
    return [in_words(dict(zip(kinds, column, strict=True))) for column in counts.T.tolist()]


def _counts(counts: ThresholdCounts) -> dict[str, Any]:
    return {
        "annotations": int(counts.annotations[0]),
        "found": counts.found.tolist(),
        "alarms": counts.false_alarms.tolist(),
    }


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """The classes in the table of confusions, and the table at each threshold.

    They are those most often taken for another or another for them; of equal ones, the most frequent.
    """
    num_classes = len(evaluation.labels)
    own = evaluation.outcomes.confusion(evaluation.threshold, num_classes)
    among = own[:-1, :-1]
    mixed_up = among.sum(0) + among.sum(1) - 2 * among.diagonal()
    chosen = np.sort(np.lexsort((-own[:-1].sum(1), -mixed_up))[:MAX_CONFUSED])
    corner = np.ix_([*chosen, num_classes], [*chosen, num_classes])
    by_threshold = [
        evaluation.outcomes.confusion(threshold, num_classes)[corner].tolist()
        for threshold in evaluation.counts.thresholds
    ]
    return {"labels": [evaluation.labels[class_id] for class_id in chosen], "counts": by_threshold}


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row of the table of classes for each."""
    metrics, outcomes, rows = evaluation.metrics, evaluation.outcomes, []
    shown = set(outcomes.predictions.class_ids[outcomes.predictions.scores > SHOWN_SCORE].tolist())
    for class_id, label in enumerate(evaluation.labels):
        counts = evaluation.counts.of_class(class_id)
        has_any = bool(counts.annotations[0])
        rows.append(
            {
                "class_id": class_id,
                "label": label,
                "listed": has_any or class_id in shown,
                "color": "#{:02x}{:02x}{:02x}".format(*class_color(class_id)),
                "annotations": int(counts.annotations[0]),
                "best_threshold": counts.best_threshold(),
                "ap": none_if_nan(metrics.class_ap[class_id]),
                "ap50": none_if_nan(metrics.class_ap50[class_id]),
                "precision_recall": _path(*precision_recall(outcomes, class_id)) if has_any else "",
                "f1": _path(counts.thresholds, counts.f1) if has_any else "",
            }
        )
    return rows


def _curves(evaluation: Evaluation) -> dict[str, str]:
    """The curves of all classes together."""
    total = evaluation.counts.sum()
    return {
        "precision_recall": _path(*precision_recall(evaluation.outcomes)),
        "precision": _path(total.thresholds, total.precision),
        "recall": _path(total.thresholds, total.recall),
        "f1": _path(total.thresholds, total.f1),
    }


def _path(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> str:
    """An SVG path through points of the unit square, y upwards; points that look the same are one."""
    points = np.stack([x, y], 1).round(_DIGITS)
    changed = np.ones(len(points), bool)
    changed[1:] = (points[1:] != points[:-1]).any(1)
    texts = [f"{across:g} {up:g}" for across, up in points[changed]]
    return f"M{'L'.join(texts)}" if texts else ""


def _pictures(evaluation: Evaluation) -> dict[str, Any]:
    """The photos with the most mistakes, and the worst mistakes."""
    outcomes, labels = evaluation.outcomes, evaluation.labels
    threshold, num_photos = evaluation.threshold, len(evaluation.annotations)
    shown = outcomes.predictions.scores > threshold
    alarms = outcomes.predictions.photo_ids[outcomes.is_false_positive & shown]
    missed = outcomes.ground_truth.photo_ids[outcomes.counted & (outcomes.found_score <= threshold)]
    mistakes = np.bincount(np.concatenate([alarms, missed]), minlength=num_photos)
    whole = np.argsort(-mistakes, kind="stable")[:MAX_PHOTOS].tolist()
    misses = worst_misses(outcomes, labels, MAX_MISTAKES)
    false_alarms = worst_false_alarms(outcomes, labels, MAX_MISTAKES)
    paths = [image.path for image in evaluation.annotations]
    photos, of_misses, of_alarms = take_pictures(paths, outcomes, labels, whole, misses, false_alarms)
    return {
        "photos": photos,
        "misses": list(zip(misses, of_misses, strict=True)),
        "false_alarms": list(zip(false_alarms, of_alarms, strict=True)),
    }
