"""The recipe ``adapt``: from the linear probe's detector to one whose neck, towers and heads have learnt.

photos -> linear probe -> novel head at its start
       -> views -> frozen backbone -> cached maps -> rounds of learning -> detector
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fewbox.core.progress import console
from fewbox.data.annotations import AnnotationSet
from fewbox.detection.detector import Detector
from fewbox.errors import SettingError
from fewbox.finetuning.adapt.cache import CachedViews, cache_views
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings, Round
from fewbox.models.families import build_network, family_of


@dataclass(frozen=True)
class AdaptedRound:
    """A detector as it is after a round."""

    number: int
    loss: float
    """Mean over the steps of the round."""
    detector: Detector


def adapt(
    annotations: AnnotationSet,
    start: Detector,
    settings: AdaptSettings,
    *,
    views: CachedViews | None = None,
    show_progress: bool = True,
    on_round: Callable[[AdaptedRound], None] = lambda _: None,
) -> Detector:
    """What ``start`` becomes when all that follows its backbone learns.

    After each round there is a detector. A run that is interrupted (Ctrl-C) ends with that of the last
    whole round, or with ``start``.

    Args:
        annotations: photos with boxes; every one must have been looked at.
        start: a YOLOX of novel classes alone, as the linear probe makes it.
        settings: how long and how fast.
        views: of ``annotations``, if the backbone has seen them already.
        show_progress: show how far the work has come, and the loss of every round.
        on_round: told after each round.

    Raises:
        SettingError: ``start`` is something else.
        FinetuneError: the loss is no longer a finite number.
    """
    family = family_of(start.config)
    if not family.adapts(start.config):
        raise SettingError(
            f"adapting is for a YOLOX and new classes alone: {start}", hint="for example: --base yolox_s"
        )
    weights = {name: weight.clone() for name, weight in start.weights.items()}
    adapter = family.adapter(build_network(start.config, weights))
    if views is None:
        num_views = settings.views_of(len(annotations))
        views = cache_views(adapter, annotations, num_views, settings.seed, show_progress=show_progress)
    learning = Adaptation(adapter, views, settings)
    latest = start

    def take(done: Round) -> None:
        nonlocal latest
        latest = replace_weights(start, done.weights, learning.history)
        if show_progress:
            console.print(f"round {done.number} of {settings.rounds}, loss {done.loss:.3f}")
        on_round(AdaptedRound(done.number, done.loss, latest))

    try:
        learning.run(take)
    except KeyboardInterrupt:
        if show_progress:
            console.print(f"stopped after {len(learning.history)} of {settings.steps} steps")
    return latest


def replace_weights(
    start: Detector, folded: Mapping[str, Tensor], history: list[dict[str, float]]
) -> Detector:
    """``start`` with the weights of a folded network, its backbone bit for bit as before."""
    return Detector(
        config=start.config,
        weights=family_of(start.config).adapted_weights(folded, start.weights, start.config),
        labels=start.labels,
        base=start.base,
        provenance=start.provenance,
        history=list(history),
        score_threshold=start.score_threshold,
    )
