"""Which found cell is which true one: three ways to pair two sets of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import njit

from brodmann.core import DataError, Points
from brodmann.core.errors import nearest
from brodmann.metrics.points.optimal import best_assignment
from brodmann.metrics.points.pairs import Pairs, close_pairs, millionths

Mode = Literal["greedy_global", "nearest", "optimal"]
MODES = ("greedy_global", "nearest", "optimal")
MOST_TOLERANCE = 1e6


@dataclass(frozen=True, eq=False)
class Matching:
    """Found cells paired with true ones, at most one for each.

    `pairs` is (k, 2) int64, rows of the found and of the true table; `distances` (k,) float64
    in voxels, or um if a spacing was given. `duplicates` and `truth_duplicates` are rows at
    the very place of an earlier row, which take no part.
    """

    pairs: np.ndarray
    distances: np.ndarray
    sizes: tuple[int, int]
    duplicates: np.ndarray
    truth_duplicates: np.ndarray
    tolerance: float
    mode: str

    @property
    def unmatched(self) -> np.ndarray:
        """Rows found that are no true cell, duplicates among them."""
        return _others(self.pairs[:, 0], self.sizes[0])

    @property
    def missed(self) -> np.ndarray:
        """True rows that nobody found, but for duplicates."""
        return np.setdiff1d(_others(self.pairs[:, 1], self.sizes[1]), self.truth_duplicates)


def match(
    found: np.ndarray | Points,
    truth: np.ndarray | Points,
    tolerance: float,
    mode: Mode = "greedy_global",
    spacing: Sequence[float] | None = None,
) -> Matching:
    """Pair found cells with true ones that are closer than a tolerance.

    Parameters
    ----------
    found, truth : (n, d) and (m, d) float, or Points
        Coordinates in voxels, (z, y, x) or (y, x). The order of rows changes no count.
    tolerance : float
        Pairs are closer than this, strictly: voxels, or um with a spacing.
    mode : {"greedy_global", "nearest", "optimal"}
        greedy_global takes all pairs in the order of (distance, found z, y, x, true z, y, x),
        each if both its cells are free. nearest: a found cell may only be its closest true one
        (of equals the first in z, y, x), and of several the closest wins. optimal has the most
        pairs, and of these the least sum of distances.
    spacing : (d,) float, optional
        um per voxel along each axis: distances are then in um.

    Returns
    -------
    Matching

    Raises
    ------
    DataError
        If a coordinate is not finite, dimensions differ, or an option is wrong.

    Notes
    -----
    Distances are compared in millionths of their unit, so that the rounding of decimals
    breaks no tie and moves no pair across the tolerance. A found cell at the very place of
    another is a duplicate and never matches; the same place twice in the truth is one cell.

    Example
    -------
    >>> found, truth = np.array([[0.0, 3.0], [0.0, 5.0]]), np.array([[0.0, 1.0], [0.0, 4.0]])
    >>> [match(found, truth, 3, mode).pairs.tolist() for mode in MODES]
    [[[0, 1]], [[0, 1]], [[0, 0], [1, 1]]]
    """
    if mode not in MODES:
        raise DataError("unknown mode of matching", "mode", repr(mode), nearest(mode, MODES))
    check_tolerance(tolerance)
    a, b = coordinates_of(found, "found cells"), coordinates_of(truth, "true cells")
    if a.shape[1] != b.shape[1]:
        raise DataError(
            "found and true cells differ in dimensions", found=f"{a.shape[1]} and {b.shape[1]}"
        )
    steps = steps_of(spacing, a.shape[1])
    (a_rows, a_again), (b_rows, b_again) = distinct(a), distinct(b)
    pairs = close_pairs(a.take(a_rows, axis=0), b.take(b_rows, axis=0), tolerance, steps)
    if mode == "greedy_global":
        column_of = _greedy(_in_order(pairs), pairs.rows, pairs.columns, *pairs.shape)
    elif mode == "nearest":
        column_of = _nearest(pairs.starts, pairs.columns, pairs.costs, pairs.shape[1])
    else:
        column_of = best_assignment(pairs, millionths(tolerance))
    taken = np.flatnonzero(column_of >= 0)
    rows = np.stack([a_rows[taken], b_rows[column_of[taken]]], 1)
    rows = rows[np.argsort(rows[:, 0])]
    distances = np.sqrt((((a[rows[:, 0]] - b[rows[:, 1]]) * steps) ** 2).sum(1))
    return Matching(rows, distances, (len(a), len(b)), a_again, b_again, float(tolerance), mode)


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no distance above 0 and up to a million."""
    if not 0 < tolerance <= MOST_TOLERANCE or millionths(tolerance) < 1:
        raise DataError(
            "a tolerance is a number above 0 and at most a million",
            "tolerance",
            tolerance,
            "give voxels, or um",
        )


def coordinates_of(points: Any, where: str) -> np.ndarray:
    """(n, d) float64 of an array or Points, checked.

    Raises
    ------
    DataError
        Names the first row that is not finite.
    """
    if isinstance(points, Points):
        return points.coordinates
    found = np.asarray(points, np.float64)
    if found.size == 0 and found.ndim < 2:
        found = found.reshape(0, 3)
    if found.ndim != 2 or not 1 <= found.shape[1] <= 3:
        raise DataError("points are a table of 1 to 3 columns", where, found.shape)
    bad = np.flatnonzero(~np.isfinite(found).all(1))
    if len(bad):
        raise DataError("a point is not finite", f"{where}, row {bad[0]}", found[bad[0]].tolist())
    return found


def steps_of(spacing: Sequence[float] | None, ndim: int) -> np.ndarray:
    """(d,) float64: a spacing as given, or ones."""
    if spacing is None:
        return np.ones(ndim)
    steps = np.asarray(spacing, np.float64)
    if steps.shape != (ndim,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise DataError(
            f"a spacing is {ndim} positive numbers here", "spacing", list(spacing), "um, z,y,x"
        )
    return steps


def distinct(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order of z, y, x, one for each place, and the rows that repeat one of them.

    >>> distinct(np.array([[2.0, 0.0], [1.0, 5.0], [2.0, 0.0]]))
    (array([1, 0]), array([2]))
    """
    # Stable sorts throughout, so that the first row of a place stands for it.
    order = np.argsort(points[:, 0], kind="stable")
    again = _refine(points, order)
    return order[~again], np.sort(order[again])


@njit(cache=True, nogil=True)
def _refine(points, order):
    """Sort rows that are equal along the first axis by the others; True where one repeats."""
    n, again = len(order), np.zeros(len(order), np.bool_)
    for axis in range(1, points.shape[1]):
        start = 0
        while start < n:
            first, stop = order[start], start + 1
            while stop < n and _equal(points, first, order[stop], axis):
                stop += 1
            if stop - start > 1:
                run = order[start:stop].copy()
                order[start:stop] = run[np.argsort(points[run, axis], kind="mergesort")]
            start = stop
    for at in range(1, n):
        again[at] = _equal(points, order[at - 1], order[at], points.shape[1])
    return again


@njit(cache=True, nogil=True)
def _equal(points, a, b, axes):
    axis = 0
    while axis < axes and points[a, axis] == points[b, axis]:
        axis += 1
    return axis == axes


def _others(rows: np.ndarray, size: int) -> np.ndarray:
    free = np.ones(size, bool)
    free[rows] = False
    return np.flatnonzero(free)


def _in_order(pairs: Pairs) -> np.ndarray:
    """Pairs by cost; equal ones stay in the order of rows and columns."""
    return np.argsort(pairs.costs, kind="stable")


@njit(cache=True, nogil=True)
def _greedy(order, rows, columns, n, m):
    column_of = np.full(n, -1, np.int64)
    free = np.ones(m, np.bool_)
    for at in order:
        row, column = rows[at], columns[at]
        if column_of[row] < 0 and free[column]:
            column_of[row] = column
            free[column] = False
    return column_of


@njit(cache=True, nogil=True)
def _nearest(starts, columns, costs, m):
    n = starts.size - 1
    column_of = np.full(n, -1, np.int64)
    row_of = np.full(m, -1, np.int64)
    cost_of = np.zeros(m, np.int64)
    for row in range(n):
        if starts[row] == starts[row + 1]:
            continue
        best = starts[row]
        for at in range(starts[row] + 1, starts[row + 1]):
            if costs[at] < costs[best]:
                best = at
        column = columns[best]
        if row_of[column] < 0 or costs[best] < cost_of[column]:
            if row_of[column] >= 0:
                column_of[row_of[column]] = -1
            row_of[column], cost_of[column], column_of[row] = row, costs[best], column
    return column_of
