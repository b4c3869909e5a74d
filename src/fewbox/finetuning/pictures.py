"""Two pictures of a fine-tuning run: its loss curve, and held-out photos with what was found in them.

Both may show what cross-validation says: the curve the expected AP50 beside it, the photos the boxes that
were drawn beside those that a head found which had not learnt from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fewbox.core import counted
from fewbox.core.files import replacing
from fewbox.data.annotations import AnnotatedImage
from fewbox.data.images import read_reduced
from fewbox.detection.drawing import contact_sheet, draw_boxes, save_picture
from fewbox.errors import OutputError
from fewbox.evaluation.outcomes import Outcomes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fewbox.models.network import Network


_SUFFIXES = (".png", ".svg")

# From below to above, so that the total lies on top: name, colour (Okabe and Ito), line width. The heads of
# SSD, RetinaNet and YOLOX have a loss of the class and one of the box; a novel head leaves the box alone.
_CURVES = (
    ("localization", "#009E73", 1.3),
    ("classification", "#56B4E9", 1.3),
    ("background", "#E69F00", 1.3),
    ("objects", "#009E73", 1.3),
    ("total", "#222222", 2.0),
)
_MAX_ROWS = 9
_NAMES = {"objects": "on the objects", "background": "on the background"}
_DOT, _BAR = "#0072B2", "#a6cbe3"
_QUIET = "#666666"
_FAINT = "#e5e5e5"


def save_loss_curve(
    history: Sequence[Mapping[str, float]],
    target: Path,
    estimate: Mapping[str, Any] | None = None,
    ap_by_round: Sequence[float] = (),
) -> None:
    """Draw the total loss and its two parts over the steps; PNG or SVG, as the suffix says.

    The losses are on a logarithmic scale if the total spans more than a factor of ten.

    Args:
        history: one row per step, at least one, with ``step``, ``total`` and its parts: ``objects`` and
            ``background``, the log losses per labelled object of the linear probe, or
            ``classification`` and ``localization``.
        target: ends in ``.png`` or ``.svg``.
        estimate: what held-out photos say, as a detector's ``provenance["estimate"]``; drawn beside.
        ap_by_round: AP in photos held out, 0 to 1, before the first step and after each round, as a
            detector's ``provenance["ap_by_round"]``; drawn above the estimate.

    Raises:
        ValueError: there are no steps.
        OutputError: the suffix is another one, or the file cannot be written.
    """
    if not history:
        raise ValueError("a loss curve needs at least one step")
    suffix = target.suffix.lower()
    if suffix not in _SUFFIXES:
        hint = "use a name that ends in one of: " + ", ".join(_SUFFIXES)
        raise OutputError(f"{target}: a loss curve cannot be written as {target.suffix!r}", hint=hint)

    # Slow to import. pyplot is left alone: it keeps global state and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = 6.5 if ap_by_round else 4.5
    figure = Figure(figsize=(8 if estimate is None else 12.5, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    if estimate is None:
        _draw_curves(figure.add_subplot(), history)
    else:
        rows = 2 if ap_by_round else 1
        grid = figure.add_gridspec(rows, 2, width_ratios=(8, 4.5), wspace=0.22, hspace=0.6)
        _draw_curves(figure.add_subplot(grid[:, 0]), history)
        _draw_estimate(figure.add_subplot(grid[-1, 1]), estimate)
        if ap_by_round:
            _draw_rounds(figure.add_subplot(grid[0, 1]), ap_by_round)
    with replacing(target) as temporary:
        figure.savefig(temporary, format=suffix[1:], bbox_inches="tight", pad_inches=0.2)


def _draw_curves(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

    steps = [row["step"] for row in history]
    per_object = "objects" in history[0]
    for name, color, width in _CURVES:
        if name not in history[0]:
            continue
        losses = [row[name] for row in history]
        # The last point is marked, so that a run of a single step is no empty picture.
        label = _NAMES.get(name, name)
        (line,) = axes.plot(steps, losses, color=color, linewidth=width, label=label, clip_on=False)
        line.set(marker="o", markevery=[-1])
    totals = [row["total"] for row in history]
    last = (steps[-1], totals[-1])
    axes.annotate(
        f"{totals[-1]:.3g}", last, xytext=(9, 0), textcoords="offset points", va="center", fontweight="bold"
    )
    axes.set_xlim(0, max(steps[-1], 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if 0 < 10 * min(totals) < max(totals):
        axes.set_yscale("log", nonpositive="mask")
        few_decades = max(totals) < 1000 * min(totals)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
    else:
        axes.set_ylim(bottom=0)
    unit = "log loss per labelled object (nats)" if per_object else "loss"
    _style(axes, "On the photos it learnt from", "step", unit)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.legend(frameon=False, reverse=True)


def _draw_rounds(axes: Axes, ap_by_round: Sequence[float]) -> None:
    """AP after each round of adapting; every point says what it is."""
    for number, ap in enumerate(ap_by_round):
        place, above = (number, 100 * ap), (0, 8)
        axes.annotate(f"{ap:.0%}", place, xytext=above, textcoords="offset points", ha="center", fontsize=9)
    axes.plot([100 * ap for ap in ap_by_round], "o-", color=_DOT, linewidth=1.3, clip_on=False)
    axes.set_ylim(0, max(130 * max(ap_by_round), 1))
    rounds = len(ap_by_round) - 1
    axes.set_xticks(
        range(rounds + 1), ["linear probe", *(f"round {n}" for n in range(1, rounds + 1))], fontsize=8
    )
    axes.set_yticks([])
    _style(axes, "Adapting, from half of the photos", "AP in the other half (%)", "")
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)


def _draw_estimate(axes: Axes, estimate: Mapping[str, Any]) -> None:
    """AP50 expected on new photos with its interval: of all classes together, then of each."""
    classes = estimate["classes"]
    known = sum(one["objects"] > 0 for one in classes)
    together = {**estimate["overall"], "label": "all classes"}
    rows = [*([together] if known == len(classes) > 1 else []), *classes]
    more = len(rows) - _MAX_ROWS
    across = "AP50 expected on new photos like these (%)\nbar: where it is four times in five"
    if not known:
        across = "nothing could be held out: how good it is cannot be said"
        axes.set_xticks([])
    elif more > 0:
        across += f"; {counted(more, 'class')} more"
    for place, one in enumerate(rows[:_MAX_ROWS]):
        text, color = f"{_short(one['label'])}: not estimated, 0 objects held out", _QUIET
        if one["objects"]:
            ap50, low, high = (100 * one[name] for name in ("ap50", "low", "high"))
            axes.plot((low, high), (place, place), color=_BAR, linewidth=6, solid_capstyle="butt")
            axes.plot(ap50, place, "o", color=_DOT, clip_on=False)
            numbers = f"{ap50:.0f}% ({low:.0f} to {high:.0f}%), {counted(one['objects'], 'object')} held out"
            text, color = f"{_short(one['label'])}: {numbers}", "black"
        axes.annotate(text, (0, place), xytext=(0, 8), textcoords="offset points", color=color, fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(min(max(len(rows), 3), _MAX_ROWS) - 0.5, -0.8)
    axes.set_xlim(0, 100)
    _style(axes, "On photos held out", across, "")
    axes.grid(axis="x", color=_FAINT, linewidth=0.8)


def _short(label: str) -> str:
    return label if len(label) <= 20 else f"{label[:19]}…"


def _style(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=12)
    axes.set_xlabel(across, color=_QUIET)
    axes.set_ylabel(up, color=_QUIET)
    axes.tick_params(colors=_QUIET, length=0, pad=6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


MAX_PHOTOS = 12
"""Photos on the sheet: those with mistakes first."""
SIDE = 420
"""The longer side of a photo on the sheet, in pixels; each is there twice."""
_GAP = 6


def save_held_out(
    target: Path,
    images: Sequence[AnnotatedImage],
    outcomes: Outcomes,
    scores: NDArray[np.float64],
    labels: Sequence[str],
    network: Network,
    score_threshold: float,
) -> None:
    """Draw held-out photos on one sheet, each twice: the boxes drawn, then the boxes found.

    A box drawn and not found is dashed, and so is a false alarm.

    Args:
        target: the picture to write.
        images: N photos.
        outcomes: of held-out detections in them; boxes in pixels of the network's input.
        scores: ``[K]`` of the detections, calibrated.
        labels: of the C classes.
        network: knows its input from a photo.
        score_threshold: detections with a higher score are shown.

    Raises:
        OutputError: the picture cannot be written.
    """
    shown = scores > score_threshold
    sure = outcomes.found_score > (outcomes.predictions.scores[~shown].max() if (~shown).any() else -1.0)
    tiles = [_Tile(number, outcomes, shown, sure) for number in range(len(images))]
    tiles = [tile for tile in tiles if len(tile.drawn) or not images[tile.number].boxes]
    tiles = sorted(tiles, key=lambda tile: -tile.mistakes)[:MAX_PHOTOS]
    if not tiles:
        return
    pictures = (tile.draw(images[tile.number], labels, network, scores) for tile in tiles)
    captions = [f"{images[tile.number].path.name}: {tile}" for tile in tiles]
    save_picture(contact_sheet(pictures, min(2, len(tiles)), 2 * SIDE + _GAP, captions), target)


class _Tile:
    """What became of one photo.

    Args:
        number: of the photo.
        outcomes: of all photos.
        shown: ``[K]`` detections above the threshold.
        sure: ``[M]`` annotations found by one of these.
    """

    def __init__(
        self, number: int, outcomes: Outcomes, shown: NDArray[np.bool_], sure: NDArray[np.bool_]
    ) -> None:
        self.number = number
        self.outcomes = outcomes
        self.drawn = np.flatnonzero((outcomes.ground_truth.photo_ids == number) & outcomes.counted)
        self.found = np.flatnonzero((outcomes.predictions.photo_ids == number) & shown)
        self.missed = ~sure[self.drawn]
        self.alarms = outcomes.is_false_positive[self.found]

    @property
    def mistakes(self) -> int:
        """Boxes missed and false alarms."""
        return int(self.missed.sum() + self.alarms.sum())

    def __str__(self) -> str:
        count, alarms = len(self.drawn), int(self.alarms.sum())
        words = [f"{int((~self.missed).sum())} of {count} found" if count else "nothing to find"]
        if alarms:
            words.append(counted(alarms, "false alarm"))
        return ", ".join(words)

    def draw(
        self, image: AnnotatedImage, labels: Sequence[str], network: Network, scores: NDArray[np.float64]
    ) -> Image.Image:
        """The photo with its boxes, beside the photo with what was found."""
        import torch  # not at the head: a loss curve is drawn without it

        height, width = image.size_hw
        ratio = min(1.0, SIDE / max(height, width))
        read = read_reduced(image.path, (ratio * height, ratio * width))
        truth, found = self.outcomes.ground_truth, self.outcomes.predictions

        def half(
            boxes: NDArray[np.float64], ids: NDArray[Any], tags: list[str], dashed: NDArray[np.bool_]
        ) -> Image.Image:
            corners = network.to_photo(torch.from_numpy(boxes).float(), image.size_hw).numpy()
            small = ImageOps.contain(Image.fromarray(read.image), (SIDE, SIDE))
            scale = np.array([small.width / width, small.height / height] * 2)
            return draw_boxes(np.asarray(small), corners * scale, tags, ids, dashed=dashed.tolist())

        ids, found_ids = truth.class_ids[self.drawn], found.class_ids[self.found]
        tags = [labels[class_id] for class_id in ids]
        found_tags = [
            f"{labels[class_id]} {score:.0%}"
            for class_id, score in zip(found_ids, scores[self.found], strict=True)
        ]
        left = half(truth.boxes[self.drawn], ids, tags, self.missed)
        right = half(found.boxes[self.found], found_ids, found_tags, self.alarms)
        pair = Image.new("RGB", (left.width + _GAP + right.width, left.height), "white")
        pair.paste(left, (0, 0))
        pair.paste(right, (left.width + _GAP, 0))
        return pair
