"""All pairs of two point sets that lie closer than a distance, by a grid of cells of that size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import DataError

PER_UNIT = 1_000_000
"""Distances are compared as whole millionths of a voxel or micrometre."""
MOST_PAIRS = 200_000_000
"""Pairs held at a time: 3.2 GB."""
MOST_CELLS = 1 << 20
"""Cells of the grid along an axis, at most, so that the number of a cell fits 63 bits."""
SHORT = 32
"""Rows up to so many pairs are sorted by insertion."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs in compressed rows, by point of the first set and then of the second.

    Row i has the points `columns[starts[i]:starts[i + 1]]` (int64, ascending) at `costs`
    (int64, distances in millionths of the unit).
    """

    starts: np.ndarray
    columns: np.ndarray
    costs: np.ndarray
    shape: tuple[int, int]

    @property
    def rows(self) -> np.ndarray:
        """(pairs,) int64: the point of the first set of every pair."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.starts))


def millionths(distance: float) -> int:
    """A distance as it is compared.

    >>> millionths(3 * 1.8) == millionths(5.4)
    True
    """
    return round(float(distance) * PER_UNIT)


def close_pairs(a: np.ndarray, b: np.ndarray, distance: float, spacing: np.ndarray) -> Pairs:
    """All pairs of points closer than `distance`, strictly.

    Parameters
    ----------
    a, b : (n, d) and (m, d) float64, d = 1 to 3
        Finite.
    distance : float
        In the unit of coordinates times `spacing`.
    spacing : (d,) float64
        Units per step of each axis; ones for voxels.

    Raises
    ------
    DataError
        If there are more than MOST_PAIRS.

    Example
    -------
    >>> a, b = np.array([[0.0, 0.0], [5.0, 5.0]]), np.array([[0.0, 2.0], [0.0, 3.0]])
    >>> found = close_pairs(a, b, 3.0, np.ones(2))
    >>> found.rows.tolist(), found.columns.tolist(), found.costs.tolist()
    ([0], [0], [2000000])
    """
    shape = (len(a), len(b))
    limit = millionths(distance)
    if not all(shape) or limit < 1:
        empty = np.zeros(0, np.int64)
        return Pairs(np.zeros(len(a) + 1, np.int64), empty, empty, shape)
    steps = np.zeros(3)
    steps[3 - a.shape[1] :] = spacing
    a, b = (
        points if points.shape[1] == 3 else np.pad(points, ((0, 0), (3 - points.shape[1], 0)))
        for points in (a, b)
    )
    (a_keys, b_keys), strides = _cells(a, b, distance, steps)
    a_order, b_order = (np.argsort(keys, kind="stable") for keys in (a_keys, b_keys))
    # `take` gathers rows several times as fast as an index does.
    a, b = a.take(a_order, axis=0), b.take(b_order, axis=0)
    walk = (a, a_keys[a_order], b, b_keys[b_order], steps, strides, limit)
    counts = np.zeros(shape[0] + 1, np.int64)
    none = np.zeros(0, np.int64)
    _walk(*walk, a_order, b_order, counts[1:], none, none, none)
    starts = np.cumsum(counts)
    if starts[-1] > MOST_PAIRS:
        raise DataError(
            "too many points lie within the tolerance of each other",
            f"tolerance {distance:g}",
            f"{starts[-1]:,} pairs",
            f"choose a smaller tolerance; at most {MOST_PAIRS:,} pairs are compared",
        )
    columns, costs = (np.empty(starts[-1], np.int64) for _ in range(2))
    _walk(*walk, a_order, b_order, counts[1:], starts, columns, costs)
    _sort_rows(starts, columns, costs)
    return Pairs(starts, columns, costs, shape)


def _cells(
    a: np.ndarray, b: np.ndarray, distance: float, steps: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """The number of every point's cell, and what one cell along z and y adds to it."""
    low = np.minimum(_ends(a)[0], _ends(b)[0]) * steps
    extent = np.maximum(_ends(a)[1], _ends(b)[1]) * steps - low
    # A little wider than the distance, so that rounding puts no pair two cells apart.
    side = np.maximum(distance * (1 + 1e-6), extent / MOST_CELLS)
    # A margin of one cell lets every point ask for its neighbours.
    size = (extent // side).astype(np.int64) + 4
    strides = np.array([size[1] * size[2], size[2], 1], np.int64)
    return [_keys(points, steps, low, side, strides) for points in (a, b)], strides[:2]


def _ends(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest of each axis; axis by axis, which is several times as fast."""
    columns = [points[:, axis] for axis in range(points.shape[1])]
    return np.array([c.min() for c in columns]), np.array([c.max() for c in columns])


@njit(cache=True, nogil=True)
def _keys(points, steps, low, side, strides):
    keys = np.empty(len(points), np.int64)
    for i in range(len(points)):
        key = np.int64(0)
        for axis in range(3):
            place = np.floor((points[i, axis] * steps[axis] - low[axis]) / side[axis])
            key += (np.int64(place) + 1) * strides[axis]
        keys[i] = key
    return keys


@njit(cache=True, nogil=True)
def _walk(a, a_keys, b, b_keys, steps, strides, limit, a_order, b_order, counts, starts, columns,
          costs):  # fmt: skip
    """Count the pairs of every point of a, and, if `starts` is given, write them."""
    fill = starts.size > 0
    # Both sets are in the order of cells, so that the nine rows of neighbours only move ahead.
    heads = np.zeros(9, np.int64)
    reach = (limit + 1.0) / 1e6
    reach *= reach
    for i in range(a_keys.size):
        row = a_order[i]
        at = starts[row] if fill else 0
        count = 0
        for side in range(9):
            first = a_keys[i] + (side // 3 - 1) * strides[0] + (side % 3 - 1) * strides[1] - 1
            j = heads[side]
            while j < b_keys.size and b_keys[j] < first:
                j += 1
            heads[side] = j
            while j < b_keys.size and b_keys[j] <= first + 2:
                dz = (a[i, 0] - b[j, 0]) * steps[0]
                dy = (a[i, 1] - b[j, 1]) * steps[1]
                dx = (a[i, 2] - b[j, 2]) * steps[2]
                square = dz * dz + dy * dy + dx * dx
                if square < reach:
                    cost = np.int64(np.sqrt(square) * 1e6 + 0.5)
                    if cost < limit:
                        if fill:
                            columns[at + count] = b_order[j]
                            costs[at + count] = cost
                        count += 1
                j += 1
        counts[row] = count


@njit(cache=True, nogil=True)
def _sort_rows(starts, columns, costs):
    """Put the pairs of every row in the order of their columns."""
    for row in range(starts.size - 1):
        low, high = starts[row], starts[row + 1]
        if high - low > SHORT:
            order = np.argsort(columns[low:high])
            columns[low:high] = columns[low:high][order]
            costs[low:high] = costs[low:high][order]
            continue
        for i in range(low + 1, high):
            column, cost = columns[i], costs[i]
            j = i
            while j > low and columns[j - 1] > column:
                columns[j], costs[j] = columns[j - 1], costs[j - 1]
                j -= 1
            columns[j], costs[j] = column, cost
