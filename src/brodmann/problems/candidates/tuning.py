"""The probability above which a candidate is a cell."""

from __future__ import annotations

import numpy as np

from brodmann.core import DataError

LEAST = -15.0
"""Logit of what is taken for 0."""


def choose_threshold(probability: np.ndarray, labels: np.ndarray, missed: int = 0) -> float:
    """The threshold of the highest F1; the middle, in logits, of those that are as good to 0.002.

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
    >>> round(choose_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])), 6)
    0.5
    """
    labels = np.asarray(labels) == 1
    if not labels.any():
        raise DataError("no cell to choose a threshold by", "labels")
    # Sorted, the highest first: a cut after i of them takes i for cells.
    logits = logit(np.asarray(probability, np.float64))
    order = np.argsort(-logits, kind="stable")
    ends = np.append(logits[order], LEAST)
    hits = np.append(0, np.cumsum(labels[order]))
    f1 = 2 * hits / (np.arange(len(hits)) + labels.sum() + missed)
    cuts = np.append(-LEAST, ends[:-1]), ends
    # A cut between equal probabilities is none.
    f1[cuts[0] <= cuts[1]] = -1
    best = int(f1.argmax())
    good = (f1 >= f1[best] - 0.002) | (f1 < 0)
    low = high = best
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(good) and good[high + 1]:
        high += 1
    middle = (cuts[0][low] + cuts[1][high]) / 2
    return float(1 / (1 + np.exp(-middle)))


def logit(probability: np.ndarray) -> np.ndarray:
    """Logarithm of the odds, from -15 to 15.

    >>> logit(np.array([0.0, 0.5, 1.0])).tolist()
    [-15.0, 0.0, 15.0]
    """
    with np.errstate(divide="ignore"):
        odds = np.log(probability) - np.log1p(-probability)
    return np.clip(odds, LEAST, -LEAST)
