"""The probability above which a candidate is a cell."""

from __future__ import annotations

import numpy as np

from brodmann.core import DataError

STEPS = np.arange(1, 100) / 100
"""Thresholds that are tried."""


def choose_threshold(probability: np.ndarray, labels: np.ndarray, missed: int = 0) -> float:
    """The threshold of the highest F1; the middle of those that are as good, to 0.002.

    Parameters
    ----------
    probability : (n,) float
        Of candidates whose labels are known.
    labels : (n,) int
        1 cell, 0 none.
    missed : int
        Cells that are no candidates.

    Raises
    ------
    DataError
        If there is no cell.

    Example
    -------
    >>> choose_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    0.49
    """
    labels = np.asarray(labels) == 1
    if not labels.any():
        raise DataError("no cell to choose a threshold by", "labels")
    above = np.asarray(probability)[None] > STEPS[:, None]
    hits = (above & labels).sum(1)
    f1 = 2 * hits / (above.sum(1) + labels.sum() + missed)
    best = int(f1.argmax())
    good = f1 >= f1[best] - 0.002
    low = high = best
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(good) and good[high + 1]:
        high += 1
    return float(STEPS[(low + high) // 2])
