"""The loss of a fine-tuning run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from goldeneye.errors import OutputError
from goldeneye.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES = (".png", ".svg")

# From below to above, so that the total lies on top: name, colour (Okabe and Ito), line width.
_CURVES = (
    ("localization", "#009E73", 1.3),
    ("classification", "#56B4E9", 1.3),
    ("total", "#222222", 2.0),
)
_QUIET = "#666666"
_FAINT = "#e5e5e5"


def save_loss_curve(history: Sequence[Mapping[str, float]], target: Path) -> None:
    """Draw the total loss and its two parts over the steps; PNG or SVG, as the suffix says.

    The losses are on a logarithmic scale if the total spans more than a factor of ten.

    Args:
        history: one row per step, at least one, with ``step``, ``total``, ``classification``
            and ``localization``.
        target: ends in ``.png`` or ``.svg``.

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

    figure = Figure(figsize=(8, 4.5), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    _draw_curves(figure.add_subplot(), history)
    with replacing(target) as temporary:
        figure.savefig(temporary, format=suffix[1:], bbox_inches="tight", pad_inches=0.2)


def _draw_curves(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

    steps = [row["step"] for row in history]
    for name, color, width in _CURVES:
        losses = [row[name] for row in history]
        # The last point is marked, so that a run of a single step is no empty picture.
        axes.plot(
            steps, losses, color=color, linewidth=width, label=name, marker="o", markevery=[-1], clip_on=False
        )
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
    _style(axes)


def _style(axes: Axes) -> None:
    axes.set_xlabel("step", color=_QUIET)
    axes.set_ylabel("loss", color=_QUIET)
    axes.tick_params(colors=_QUIET, length=0, pad=6)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, reverse=True)
