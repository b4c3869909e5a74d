"""The novel head: one regularised logistic regression on the evidence of all views of all photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewbox.finetuning.evidence import Coefficients, Evidence
from fewbox.finetuning.lessons import Lesson
from fewbox.finetuning.logistic import LogLoss, Rows, fit_logistic

RIDGE = 100.0
"""How strongly coefficients are held at 0, with columns of spread 1 and objects of weight 20."""
RAW_CAUTION = 0.4
"""What scaled raw columns are multiplied with: each group learns them from its own rows alone."""
MAX_STEPS = 80
START_BIAS = -4.0


@dataclass(frozen=True, eq=False)
class Scale:
    """Makes columns comparable. Raw ones are not shifted: a shift would be another bias for each group."""

    aligned_shift: Tensor
    aligned_factor: Tensor
    raw_factor: Tensor

    def undone(self, scaled: Coefficients) -> Coefficients:
        """The coefficients of columns as read that give the logits of ``scaled`` on scaled columns."""
        aligned = scaled.aligned * self.aligned_factor[:, None]
        raw = scaled.raw * self.raw_factor[:, None]
        return Coefficients(aligned, raw, scaled.bias - self.aligned_shift @ aligned)


@dataclass(frozen=True, eq=False)
class Lessons:
    """The lessons of many pictures as one table, with columns scaled and rows sorted by group."""

    rows: Rows
    photos: Tensor
    """``[R]`` int64: which photo a row's picture is a view of."""
    scale: Scale

    @classmethod
    def of(
        cls, lessons: Sequence[Lesson], photos: Sequence[int], caution: Tensor, num_groups: int
    ) -> Lessons:
        """Put ``lessons`` together.

        Args:
            lessons: one per picture.
            photos: which photo each picture is a view of; the views of a photo weigh as one together.
            caution: as of the :class:`Reader`.
            num_groups: as of the :class:`Reader`.
        """
        views = torch.bincount(torch.tensor(photos))
        groups = torch.cat([lesson.evidence.groups for lesson in lessons])
        order = torch.sort(groups, stable=True).indices
        aligned = torch.cat([lesson.evidence.aligned for lesson in lessons])[order]
        raw = torch.cat([lesson.evidence.raw for lesson in lessons])[order]
        weights = torch.cat([one.weights / views[photo] for one, photo in zip(lessons, photos, strict=True)])
        weights = weights[order]
        each = weights.mean(1)
        shift, spread = _mean_and_spread(aligned, each)
        scale = Scale(shift, caution / spread, RAW_CAUTION / _mean_and_spread(raw, each)[1])
        rows = Rows(
            aligned=aligned.sub_(shift).mul_(scale.aligned_factor),
            raw=raw.mul_(scale.raw_factor),
            group_sizes=torch.bincount(groups, minlength=num_groups).tolist(),
            targets=torch.cat([lesson.targets for lesson in lessons])[order],
            weights=weights,
        )
        of_rows = torch.repeat_interleave(
            torch.tensor(photos), torch.tensor([len(lesson.targets) for lesson in lessons])
        )
        return cls(rows, of_rows[order], scale)

    def without(self, photos: Sequence[int]) -> Rows:
        """The rows of all but some photos."""
        weights = self.rows.weights.clone()
        weights[torch.isin(self.photos, torch.tensor(photos))] = 0
        return Rows(self.rows.aligned, self.rows.raw, self.rows.group_sizes, self.rows.targets, weights)

    def blank(self) -> Coefficients:
        """Where a fit starts: everything is unlikely."""
        rows = self.rows
        num_classes = rows.targets.shape[1]
        return Coefficients(
            torch.zeros(rows.aligned.shape[1], num_classes),
            torch.zeros(len(rows.group_sizes), rows.raw.shape[1], num_classes),
            torch.full((num_classes,), START_BIAS),
        )


def fit_novel_head(lessons: Lessons) -> tuple[Coefficients, list[LogLoss]]:
    """The coefficients of columns as read, learnt from all photos, and the losses of each step."""
    scaled, losses = fit_logistic(lessons.rows, RIDGE, lessons.blank(), MAX_STEPS)
    return lessons.scale.undone(scaled), losses


def logits_of(coefficients: Coefficients, evidence: Evidence) -> Tensor:
    """Logits ``[A, C]`` of all anchors of a picture, of coefficients of columns as read."""
    sizes = evidence.group_sizes(len(coefficients.raw))
    return coefficients.logits(evidence.aligned, evidence.raw, sizes)


def _mean_and_spread(columns: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of each column; a column that never changes gets a spread of 1."""
    share = weights / weights.sum().clamp(min=1e-12)
    mean = share @ columns
    spread = (share @ (columns - mean).square()).sqrt()
    return mean, torch.where(spread > 1e-6, spread, 1.0)
