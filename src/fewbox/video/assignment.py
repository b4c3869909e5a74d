"""The assignment problem: who goes with whom, so that all together cost least."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assign(costs: npt.NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum of costs is least, a row or column left alone costing ``limit``.

    Rows join one by one; each takes the cheapest way to a free column, along which those before it
    may move over (D. F. Crouse, "On implementing 2D rectangular assignment algorithms", 2016).

    Args:
        costs: ``[R, C]``; infinite where a pair is out of the question.
        limit: a pair that costs as much or more is not made.

    Returns:
        Pairs (row, column), by row; each row and each column is in one pair at most.
    """
    may = costs < limit
    rows, columns = np.flatnonzero(may.any(axis=1)), np.flatnonzero(may.any(axis=0))
    if may.sum(axis=0).max(initial=0) <= 1 and may.sum(axis=1).max(initial=0) <= 1:
        return [(int(row), int(column)) for row, column in np.argwhere(may)]  # nobody competes
    few = costs[np.ix_(rows, columns)]
    if len(rows) > len(columns):
        return sorted((int(rows[row]), int(columns[column])) for column, row in _assign(few.T, limit))
    return [(int(rows[row]), int(columns[column])) for row, column in _assign(few, limit)]


def _assign(costs: npt.NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """The same for no more rows than columns."""
    capped = np.minimum(costs, limit)
    num_rows, num_columns = capped.shape
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    row_of, column_of = np.full(num_columns, -1), np.full(num_rows, -1)
    for newcomer in range(num_rows):
        distance, via = np.full(num_columns, np.inf), np.full(num_columns, -1)
        reached = np.zeros(num_columns, dtype=bool)
        row, length = newcomer, 0.0
        while True:
            through_row = length + capped[row] - row_price[row] - column_price
            shorter = ~reached & (through_row < distance)
            distance[shorter], via[shorter] = through_row[shorter], row
            column = int(np.where(reached, np.inf, distance).argmin())
            length = float(distance[column])
            if row_of[column] < 0:
                break
            reached[column] = True
            row = int(row_of[column])
        row_price[newcomer] += length
        row_price[row_of[reached]] += length - distance[reached]
        column_price[reached] += distance[reached] - length
        while column >= 0:  # back along the way; the newcomer had no column yet
            row = int(via[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return [(row, int(column)) for row, column in enumerate(column_of) if capped[row, column] < limit]
