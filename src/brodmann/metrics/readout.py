"""Scores of what was read out of features: accuracy, R2, and intervals over independent parts."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from brodmann.core import DataError, keyed_rng
from brodmann.metrics.linear import (
    LinearClassifier,
    LinearRegressor,
    linear_classifier,
    linear_regressor,
)
from brodmann.metrics.significance import FEW_GROUPS, bootstrap

__all__ = [
    "LinearClassifier",
    "LinearRegressor",
    "accuracy",
    "balanced_accuracy",
    "cluster_interval",
    "linear_classifier",
    "linear_regressor",
    "r2",
]

CONSTANT = 1e-12
"""Truth whose deviation is below this share of its size has no variance to explain."""


def accuracy(truth: Sequence[Hashable], guess: Sequence[Hashable]) -> float:
    """Share of guesses that are right.

    >>> accuracy(["CTX", "STR", "VP"], ["CTX", "STR", "ZI"]).__round__(3)
    0.667
    """
    truth, guess = _answers(truth, guess)
    return float((truth == guess).mean())


def balanced_accuracy(
    truth: Sequence[Hashable],
    guess: Sequence[Hashable],
    classes: Sequence[Hashable] | None = None,
) -> float:
    """Mean over the classes of the share of each that is found.

    Parameters
    ----------
    truth, guess : (n,) categories
    classes : sequence, optional
        What may be true; default: what is. A class that is nowhere true is left out of the
        mean. A guess that is none of them is wrong.

    Raises
    ------
    DataError
        If the numbers differ, there is nothing to score, or a truth is not among the classes.

    Example
    -------
    >>> balanced_accuracy(["CTX", "CTX", "CTX", "ZI"], ["CTX", "CTX", "CTX", "CTX"])
    0.5
    """
    truth, guess = _answers(truth, guess)
    if classes is not None:
        unknown = sorted({str(t) for t in truth} - {str(c) for c in classes})
        if unknown:
            raise DataError(
                "a truth that is none of the classes", found=unknown[0], fix=f"known: {classes}"
            )
    hit = truth == guess
    return float(np.mean([hit[truth == one].mean() for one in dict.fromkeys(truth)]))


def r2(truth: Any, guess: Any) -> Any:
    """Coefficient of determination, of each column by itself.

    Parameters
    ----------
    truth, guess : (n,) or (n, k) float

    Returns
    -------
    float, or (k,) float64
        1 - (sum of squared errors) / (sum of squares about the mean of the truth): 1 at best,
        0 for a guess at that mean, below 0 for worse. Rows whose truth is NaN are left out.
        NaN, no score, where fewer than two remain or the truth is constant.

    Raises
    ------
    DataError
        If shapes differ, or a guess is not finite where the truth is known.

    Example
    -------
    >>> r2([1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 2.0, 7.0]), r2([2.0, 2.0], [2.0, 2.0])
    (0.5, nan)
    """
    truth, guess = np.asarray(truth, float), np.asarray(guess, float)
    if truth.shape != guess.shape or truth.ndim not in (1, 2):
        raise DataError(
            "true and guessed values come in equal numbers", found=f"{truth.shape}, {guess.shape}"
        )
    if truth.ndim == 2:
        return np.array([r2(t, g) for t, g in zip(truth.T, guess.T)])
    known = ~np.isnan(truth)
    truth, guess = truth[known], guess[known]
    if not np.isfinite(guess).all():
        bad = int(np.flatnonzero(known)[~np.isfinite(guess)][0])
        raise DataError("a guess is not finite where the truth is known", f"row {bad}")
    if not np.isfinite(truth).all():
        raise DataError("a true value is infinite")
    if _constant(truth):
        return float("nan")
    errors, about = ((truth - guess) ** 2).sum(), ((truth - truth.mean()) ** 2).sum()
    return float(1 - errors / about)


def cluster_interval(
    hit: Sequence[bool] | np.ndarray,
    clusters: Sequence[Hashable],
    seed: int = 0,
    level: float = 0.95,
    repeats: int = 2000,
    *,
    truth: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """Interval of an accuracy where samples of one cluster are not independent.

    Whole clusters are drawn anew, with repeats, and the percentiles of the accuracy taken.

    Parameters
    ----------
    hit : (n,) bool
        Whether each guess is right.
    clusters : (n,) hashable
        The independent part that each sample comes from.
    seed : int
        The same seed gives the same interval.
    level : float
        Between 0 and 1.
    repeats : int
    truth : (n,) categories, optional
        Gives the interval of the balanced accuracy; in draws that lack a class it is left out.

    Raises
    ------
    DataError
        If numbers differ, or there are fewer than two clusters.

    Example
    -------
    >>> cluster_interval([True] * 6 + [False] * 2, list("aabbccdd"))
    (0.25, 1.0)
    """
    hit = np.asarray(hit)
    if hit.dtype != bool or hit.ndim != 1:
        raise DataError("hits are true or false, one a sample", found=f"{hit.dtype} {hit.shape}")
    if truth is None:
        found = bootstrap(
            hit.astype(float), np.zeros(len(hit)), groups=clusters, repeats=repeats,
            confidence=level, seed=seed,
        )  # fmt: skip
        return float(found.low), float(found.high)  # type: ignore[arg-type]
    if not len(hit) == len(clusters) == len(truth) or not 0 < level < 1 or repeats < 1:
        raise DataError(
            "every hit needs a cluster and a truth, level between 0 and 1, repeats >= 1",
            found=f"{len(hit)}, {len(clusters)}, {len(truth)}, level {level}, repeats {repeats}",
        )
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    column = {name: i for i, name in enumerate(dict.fromkeys(truth))}
    if len(number) < 2:
        raise DataError("an interval needs two clusters or more", found=len(number))
    at = [number[name] for name in clusters], [column[name] for name in truth]
    right, all_ = np.zeros((2, len(number), len(column)))
    np.add.at(right, at, hit)
    np.add.at(all_, at, 1)
    scores = []
    for times in _draws(len(number), repeats, seed):
        drawn = times @ all_
        share = np.divide(times @ right, drawn, where=drawn > 0, out=np.full(drawn.shape, np.nan))
        scores.append(np.nanmean(share, axis=1))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(np.concatenate(scores), tails, method="inverted_cdf")
    return float(low), float(high)


def _draws(count: int, repeats: int, seed: int, step: int = 500) -> Iterator[np.ndarray]:
    """(draws, count) float: how often each cluster is drawn; all draws where those are few."""
    if count < FEW_GROUPS and count**count <= repeats:
        every = np.indices((count,) * count).reshape(count, -1).T
    else:
        every = keyed_rng(seed, "bootstrap").integers(count, size=(repeats, count))
    for start in range(0, len(every), step):
        some = every[start : start + step]
        times = np.zeros((len(some), count))
        np.add.at(times, (np.arange(len(some))[:, None], some), 1)
        yield times


def _answers(truth: Any, guess: Any) -> tuple[np.ndarray, np.ndarray]:
    truth, guess = np.asarray(truth), np.asarray(guess)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise DataError(
            "true and guessed classes come in equal numbers", found=f"{truth.shape}, {guess.shape}"
        )
    if not len(truth):
        raise DataError("there is nothing to score", found="no samples")
    return truth, guess


def _constant(truth: np.ndarray) -> bool:
    return len(truth) < 2 or float(truth.std()) <= CONSTANT * float(np.abs(truth).max())
