"""Threshold and peak window from samples whose cells are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from brodmann.core import DataError
from brodmann.postprocess.maxima import find_maxima

COUNTS = 64
"""Thresholds tried for each peak window."""


@dataclass(frozen=True)
class Choice:
    """Settings that found most on the samples they were chosen on, and how much that was."""

    radius: tuple[int, ...]
    threshold: float
    f1: float


def choose(
    heats: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    subjects: Sequence[str],
    radii: Sequence[Sequence[int]],
    tolerance: float | Sequence[float],
    by: Literal["pooled", "mean"] = "pooled",
    lowest: float = 0.0,
) -> Choice:
    """The peak window and threshold of the highest F1.

    Parameters
    ----------
    heats : sequence of (*spatial) float32
    truths : sequence of (n, d) float
        Centres in voxels.
    subjects : sequence of str
        Whose sample it is.
    radii : sequence of sequence of int
        Peak windows to try.
    tolerance : float or sequence of float
        In voxels, one for all samples or one for each.
    by : "pooled" or "mean"
        F1 of all cells together, or the mean over subjects.
    lowest : float
        Least threshold.

    Returns
    -------
    Choice
        The threshold is the middle of the range of thresholds that are as good, to a hundredth.

    Raises
    ------
    DataError
        If there is no cell to find.
    """
    if not sum(map(len, truths)):
        raise DataError("no cell to choose a threshold by")
    each = np.broadcast_to(tolerance, len(heats)).tolist()
    best = None
    for radius in radii:
        found = [find_maxima(heat, radius, lowest) for heat in heats]
        thresholds = candidates(np.concatenate([scores for _, scores in found]), lowest)
        counts = np.stack(
            [
                counts_by_threshold(spots, scores, truth, tolerance, thresholds)
                for (spots, scores), truth, tolerance in zip(found, truths, each, strict=True)
            ]
        )
        f1 = _f1(counts, subjects, by)
        high = f1.max()
        if best is None or high > best.f1:
            good = _run(f1 >= high - 0.01, int(f1.argmax()))
            threshold = float(np.sqrt(thresholds[good[0]] * thresholds[good[-1]]))
            best = Choice(tuple(map(int, radius)), threshold, float(high))
    assert best is not None
    return best


def counts_by_threshold(
    spots: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    tolerance: float,
    thresholds: np.ndarray,
) -> np.ndarray:
    """(thresholds, 3) int64 of TP, FP, FN by greedy_global; pairs are looked for once.

    Parameters
    ----------
    spots : (n, d) int
        Peaks in (z, y, x) order, as `find_maxima` gives them.
    scores : (n,) float
    truth : (m, d) float
    tolerance : float
        In voxels.
    thresholds : (k,) float

    Example
    -------
    >>> spots, scores = np.array([[0, 0], [0, 3]]), np.array([0.5, 0.9])
    >>> counts_by_threshold(spots, scores, np.array([[0.0, 1.0]]), 4, np.array([0.2, 0.7])).tolist()
    [[1, 1, 0], [1, 0, 0]]
    """
    above = (scores[None] > thresholds[:, None]).sum(1)
    hits = np.zeros(len(thresholds), np.int64)
    if len(spots) and len(truth):
        from scipy.spatial import cKDTree

        order = np.lexsort(truth.T[::-1])
        near = cKDTree(spots).query_ball_point(truth[order], tolerance)
        columns = np.repeat(np.arange(len(order)), [len(one) for one in near])
        rows = np.fromiter((i for one in near for i in one), np.int64, len(columns))
        distances = np.linalg.norm(spots[rows] - truth[order][columns], axis=1)
        inside = distances < tolerance
        rows, columns, distances = rows[inside], columns[inside], distances[inside]
        by = np.lexsort((columns, rows, distances))
        hits = _hits(rows[by], columns[by], scores, thresholds, len(truth))
    return np.stack([hits, above - hits, len(truth) - hits], 1)


@njit(cache=True, nogil=True)
def _hits(rows, columns, scores, thresholds, m):
    """Pairs taken, nearest first, among peaks above each threshold."""
    found = np.zeros(len(thresholds), np.int64)
    for k in range(len(thresholds)):
        row_free, column_free = np.ones(len(scores), np.bool_), np.ones(m, np.bool_)
        for i in range(len(rows)):
            row, column = rows[i], columns[i]
            if scores[row] > thresholds[k] and row_free[row] and column_free[column]:
                row_free[row] = column_free[column] = False
                found[k] += 1
    return found


def candidates(scores: np.ndarray, lowest: float) -> np.ndarray:
    """Thresholds in even ratios, from what 3 in 10 peaks lie below to nearly the highest."""
    above = scores[scores > max(lowest, 0)]
    if not above.size:
        return np.array([max(lowest, 1e-6)])
    low, high = np.quantile(above, [0.3, 0.9995])
    return np.geomspace(max(low, lowest, 1e-6), max(high, low, 1e-6) * 0.999, COUNTS)


def _run(good: np.ndarray, at: int) -> list[int]:
    low = high = at
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(good) and good[high + 1]:
        high += 1
    return list(range(low, high + 1))


def _f1(counts: np.ndarray, subjects: Sequence[str], by: str) -> np.ndarray:
    """(samples, thresholds, 3) -> (thresholds,)."""
    names = np.asarray(subjects)
    groups = [counts.sum(0)]
    if by == "mean":
        groups = [counts[names == name].sum(0) for name in np.unique(names)]
        groups = [group for group in groups if group[0, 0] + group[0, 2]]
    each = [2 * g[:, 0] / np.maximum(1, 2 * g[:, 0] + g[:, 1] + g[:, 2]) for g in groups]
    return np.mean(each, 0)
