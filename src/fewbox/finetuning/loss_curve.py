"""The picture of a fine-tuning run: its losses, and beside them what photos held out promise.

Drawn with Pillow: a plotting library takes longer to import than five photos take to learn from. Lines are
drawn larger and reduced, so that they are smooth; letters are put on afterwards. Lengths are in pixels of the
picture, from its upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw

from fewbox.core import counted
from fewbox.core.arguments import checked_path
from fewbox.core.files import replacing
from fewbox.data.images import StrPath
from fewbox.detection.tags import font_for
from fewbox.errors import OutputError, SettingError

# From below to above, so that the total lies on top: name, colour (Okabe and Ito), line width. The heads of
# SSD, RetinaNet and YOLOX have a loss of the class and one of the box; a novel head leaves the box alone.
_CURVES = (
    ("localization", "#009E73", 3),
    ("classification", "#56B4E9", 3),
    ("background", "#E69F00", 3),
    ("objects", "#009E73", 3),
    ("total", "#222222", 4),
)
_NAMES = {"objects": "on the objects", "background": "on the background"}
_DOT, _BAR, _BLACK = "#0072B2", "#a6cbe3", "#000000"
_QUIET, _FAINT = "#666666", "#e5e5e5"
_MAX_ROWS = 9
_OVER = 2  # how much larger lines are drawn
_MARK = 7  # the radius of a dot
_LETTERS, _SMALL, _TITLE = 20, 19, 23

_LEFT, _TOP, _BELOW, _BESIDE = 106, 70, 128, 100  # around a panel; what stands there is inside
_LOSSES_WIDTH, _HELD_OUT_WIDTH, _BETWEEN = 830, 466, 142
_HEIGHT, _TALL = 515, 815


def save_loss_curve(
    history: Sequence[Mapping[str, float]],
    target: StrPath,
    estimate: Mapping[str, Any] | None = None,
    ap_by_round: Sequence[float] = (),
) -> None:
    """Draw the losses of learning over its steps, and beside them what photos held out promise.

    Args:
        history: the losses of each step, as ``Detector.history`` has them.
        target: ends in ``.png``.
        estimate: ``provenance["estimate"]`` of the detector; its AP50 and interval are drawn for each class.
        ap_by_round: ``provenance["ap_by_round"]``, where the network was adapted.

    Raises:
        ValueError: there are no steps.
        OutputError: ``target`` does not end in ``.png``, or cannot be written.

    Examples:
        >>> history = [{"step": step, "total": 0.9**step} for step in range(40)]  # as detector.history
        >>> fewbox.save_loss_curve(history, "loss.png")
    """
    path = checked_path(target, "the picture's file", OutputError)
    if path.suffix.lower() != ".png":
        raise OutputError(
            f"{path}: a loss curve cannot be written as {path.suffix!r}",
            hint="use a name that ends in .png",
        )
    picture = draw_loss_curve(history, estimate, ap_by_round).picture()
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


@dataclass(frozen=True)
class Text:
    """Words in the picture; ``anchor`` as in Pillow, ``x`` and ``y`` is where that lies."""

    words: str
    x: float
    y: float
    anchor: str
    color: str = _QUIET
    size: int = _LETTERS
    upright: bool = False
    """Turned by a quarter, to be read from below; then it is centred at ``x`` and ``y``."""


@dataclass
class Sheet:
    """What is drawn, until it becomes a picture."""

    width: int
    height: int
    texts: list[Text] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._large = Image.new("RGB", (self.width * _OVER, self.height * _OVER), "white")
        self._canvas = ImageDraw.Draw(self._large)

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float) -> None:
        """A line through ``points``."""
        large = [(x * _OVER, y * _OVER) for x, y in points]
        self._canvas.line(large, color, round(width * _OVER), joint="curve")

    def dot(self, x: float, y: float, color: str, radius: float = _MARK) -> None:
        """A dot around a point."""
        self._canvas.circle((x * _OVER, y * _OVER), radius * _OVER, color)

    def picture(self) -> Image.Image:
        """The picture."""
        picture = self._large.reduce(_OVER)
        canvas = ImageDraw.Draw(picture)
        for text in self.texts:
            font = font_for(text.words, text.size)
            if not text.upright:
                canvas.text((text.x, text.y), text.words, text.color, font, text.anchor)
                continue
            length = math.ceil(font.getlength(text.words))
            mask = Image.new("L", (length, 2 * text.size))
            ImageDraw.Draw(mask).text((0, text.size), text.words, 255, font, "lm")
            mask = mask.transpose(Image.Transpose.ROTATE_90)
            picture.paste(text.color, (round(text.x) - text.size, round(text.y) - length // 2), mask)
        return picture


@dataclass(frozen=True)
class _Panel:
    """A part of the sheet with axes."""

    sheet: Sheet
    left: int
    top: int
    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    """The values at the bottom and at the top."""
    is_log: bool = False

    def x(self, value: float) -> float:
        """Where a value lies, in pixels."""
        low, high = self.x_range
        return self.left + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Where a value lies, in pixels."""
        low, high, value = (math.log(one) if self.is_log else one for one in (*self.y_range, value))
        return self.top + self.height * (high - value) / (high - low)

    def style(self, title: str, across: str, up: str = "") -> None:
        """The title, and what the axes show."""
        texts, below = self.sheet.texts, self.top + self.height
        texts.append(Text(title, self.left, self.top - 32, "ls", _BLACK, _TITLE))
        for number, words in enumerate(across.split("\n")):
            texts.append(Text(words, self.left + self.width / 2, below + 51 + 27 * number, "mm"))
        if up:
            texts.append(Text(up, self.left - 80, self.top + self.height / 2, "", upright=True))

    def grid(self, ticks: Sequence[float], *, across: bool, labels: bool = True) -> None:
        """Faint lines at ``ticks`` of the axis that goes across, or up, and their values."""
        right, below = self.left + self.width, self.top + self.height
        for tick in ticks:
            if across:
                x = self.x(tick)
                self.sheet.line([(x, self.top), (x, below)], _FAINT, 1.7)
                text = Text(f"{tick:g}", x, below + 21, "mm")
            else:
                y = self.y(tick)
                self.sheet.line([(self.left, y), (right, y)], _FAINT, 1.7)
                text = Text(f"{tick:g}", self.left - 12, y, "rm")
            self.sheet.texts += [text] if labels else []

    def curve(self, points: Sequence[tuple[float, float]], color: str, width: float) -> None:
        """A line through the points that can be shown, and a dot at the last, if it can be."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, y in points:
            if _is_shown(y, self.is_log):
                pieces[-1].append((self.x(x), self.y(y)))
            else:
                pieces.append([])
        for piece in pieces:
            if len(piece) > 1:
                self.sheet.line(piece, color, width)
        if pieces[-1]:  # so that a run of a single step is no empty picture
            self.sheet.dot(*pieces[-1][-1], color)


def draw_loss_curve(
    history: Sequence[Mapping[str, float]],
    estimate: Mapping[str, Any] | None = None,
    ap_by_round: Sequence[float] = (),
) -> Sheet:
    """Draw the total loss and its two parts over the steps.

    The losses are on a logarithmic scale if the total spans more than a factor of ten.

    Args:
        history: one row per step, at least one, with ``step``, ``total`` and its parts: ``objects`` and
            ``background``, the log losses per labelled object of the linear probe, or
            ``classification`` and ``localization``.
        estimate: what held-out photos say, as a detector's ``provenance["estimate"]``; drawn beside.
        ap_by_round: AP in photos held out, 0 to 1, before the first step and after each round, as a
            detector's ``provenance["ap_by_round"]``; drawn above the estimate.

    Raises:
        SettingError: there are no steps.
    """
    if not history:
        hint = "a detector has its history right after fine-tuning; its file does not"
        raise SettingError("a loss curve needs at least one step", hint=hint)
    height = _TALL if ap_by_round else _HEIGHT
    width = _LEFT + _LOSSES_WIDTH + _BESIDE
    beside = _LEFT + _LOSSES_WIDTH + _BETWEEN
    if estimate is not None:
        width = beside + _HELD_OUT_WIDTH + _BESIDE
    sheet = Sheet(width, _TOP + height + _BELOW)
    _draw_curves(sheet, height, history)
    if estimate is None:
        return sheet
    top = _TOP
    if ap_by_round:
        height = (height - _BELOW - _TOP) // 2
        _draw_rounds(_held_out(sheet, top, height, (0, max(1.3 * max(ap_by_round), 0.01))), ap_by_round)
        top += height + _BELOW + _TOP
    rows = _rows(estimate)
    places = (min(max(len(rows), 3), _MAX_ROWS) - 0.5, -0.8)
    _draw_estimate(_held_out(sheet, top, height, places), rows)
    return sheet


def _held_out(sheet: Sheet, top: int, height: int, y_range: tuple[float, float]) -> _Panel:
    beside = _LEFT + _LOSSES_WIDTH + _BETWEEN
    return _Panel(sheet, beside, top, _HELD_OUT_WIDTH, height, (0, 100), y_range)


def _draw_curves(sheet: Sheet, height: int, history: Sequence[Mapping[str, float]]) -> None:
    curves = [one for one in _CURVES if one[0] in history[0]]
    totals = [row["total"] for row in history]
    is_log = 0 < 10 * min(totals) < max(totals) < math.inf
    values = [row[name] for row in history for name, *_ in curves]
    shown = [value for value in values if _is_shown(value, is_log)] or [1.0]
    low, high = min(shown), max(shown)
    y_range = (low / (high / low) ** 0.05, high * (high / low) ** 0.05) if is_log else (0, 1.05 * high or 1)
    last_step = max(history[-1]["step"], 1)
    panel = _Panel(sheet, _LEFT, _TOP, _LOSSES_WIDTH, height, (0, last_step), y_range, is_log)
    panel.grid(ticks(0, last_step, least=1), across=True)
    panel.grid(log_ticks(*y_range) if is_log else ticks(*y_range), across=False)
    unit = "log loss per labelled object (nats)" if "objects" in history[0] else "loss"
    panel.style("On the photos it learnt from", "step", unit)
    right = _LEFT + _LOSSES_WIDTH
    for number, (name, color, width) in enumerate(curves):
        panel.curve([(row["step"], row[name]) for row in history], color, width)
        named = _TOP + 27 + 31 * (len(curves) - 1 - number)
        sheet.line([(right - 272, named), (right - 228, named)], color, width)
        sheet.dot(right - 250, named, color)
        sheet.texts.append(Text(_NAMES.get(name, name), right - 214, named, "lm", _BLACK))
    y = panel.y(totals[-1]) if _is_shown(totals[-1], is_log) else _TOP + height
    sheet.texts.append(Text(f"{totals[-1]:.3g}", right + 18, y, "lm", _BLACK))


def _is_shown(value: float, is_log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not is_log)


def ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Up to nine round numbers from ``low`` to ``high``, no nearer to each other than ``least``."""
    power = 10.0 ** math.floor(math.log10((high - low) / 8))
    steps = (power * times for times in (1, 2, 5, 10, 20))
    step = max(next(step for step in steps if (high - low) / step <= 8), least)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``; if they are few, their double and fivefold too."""
    decades = math.log10(high / low)
    every = max(1, math.ceil(decades / 12))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [times * 10.0**power for power in powers if power % every == 0 for times in (1, 2, 5)]
    return [mark for mark in marks if low <= mark <= high and (decades < 3 or _is_power_of_ten(mark))]


def _is_power_of_ten(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-6


def _draw_rounds(panel: _Panel, ap_by_round: Sequence[float]) -> None:
    """AP after each round of adapting; every point says what it is."""
    texts, rounds = panel.sheet.texts, len(ap_by_round) - 1
    places = [(100 * number / max(rounds, 1), ap) for number, ap in enumerate(ap_by_round)]
    panel.curve(places, _DOT, 3)
    for number, (across, ap) in enumerate(places):
        x, y = panel.x(across), panel.y(ap)
        panel.sheet.dot(x, y, _DOT)
        texts.append(Text(f"{ap:.0%}", x, y - 16, "ms", _BLACK, _SMALL))
        named = f"round {number}" if number else "linear probe"
        texts.append(Text(named, x, panel.top + panel.height + 21, "mm", size=_SMALL - 3))
    panel.style("Adapting, from half of the photos", "AP in the other half (%)")


def _rows(estimate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All classes together, if that says more, then each class."""
    classes = estimate["classes"]
    known = sum(one["objects"] > 0 for one in classes)
    together = {**estimate["overall"], "label": "all classes"}
    return [*([together] if known == len(classes) > 1 else []), *classes]


def _draw_estimate(panel: _Panel, rows: Sequence[Mapping[str, Any]]) -> None:
    """AP50 expected on new photos with its interval."""
    sheet, more = panel.sheet, len(rows) - _MAX_ROWS
    across = "AP50 expected on new photos like these (%)\nbar: where it is four times in five"
    known = any(one["objects"] for one in rows)
    if not known:
        across = "nothing could be held out:\nhow good it is cannot be said"
    elif more > 0:
        across += f"; {counted(more, 'class')} more"
    panel.grid(range(0, 101, 20), across=True, labels=known)
    for place, one in enumerate(rows[:_MAX_ROWS]):
        y, color = panel.y(place), _QUIET
        words = f"{_short(one['label'])}: not estimated, 0 objects held out"
        if one["objects"]:
            ap50, low, high = (100 * one[name] for name in ("ap50", "low", "high"))
            sheet.line([(panel.x(low), y), (panel.x(high), y)], _BAR, 12)
            sheet.dot(panel.x(ap50), y, _DOT)
            numbers = f"{ap50:.0f}% ({low:.0f} to {high:.0f}%), {counted(one['objects'], 'object')} held out"
            words, color = f"{_short(one['label'])}: {numbers}", _BLACK
        sheet.texts.append(Text(words, panel.left, y - 17, "ls", color, _SMALL))
    panel.style("On photos held out", across)


def _short(label: str) -> str:
    return label if len(label) <= 20 else f"{label[:19]}…"
