"""Linear readouts of frozen features, fitted on training features and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.core import DataError

STRENGTHS = tuple(10.0**power for power in range(-5, 3))
"""Penalties that are tried, per sample: of the mean loss, on features of unit variance."""
FOLDS = 5
CONSTANT = 1e-12
"""A feature whose deviation is below this share of its size does not vary."""
Fit = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Mean and scale of the features (d,), weights and bias of what is read out."""


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear layer with softmax over standardised features.

    `weights` (k, d) and `bias` (k,) are for features less `mean`, over `scale` (d,). `strength`
    is the penalty that was chosen, `folds` how.
    """

    classes: tuple[Any, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    strength: float
    folds: str

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, k) float64, columns as `classes`."""
        features = _features(features, len(self.mean))
        return _softmax(features, (self.mean, self.scale, self.weights, self.bias))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n,) the most likely class of each row; the first of those that tie."""
        return np.array(self.classes)[self.probabilities(features).argmax(1)]


@dataclass(frozen=True, eq=False)
class LinearRegressor:
    """Ridge regression on standardised features, each column of values by itself.

    `weights` (d, k), `bias` (k,), `strength` (k,); NaN in columns that training did not know.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    strength: np.ndarray
    folds: str
    flat: bool

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n, k) float64; (n,) if the training values were (n,)."""
        features = _features(features, self.mean.shape[0])
        # Each column has its own mean and scale, since it may know other rows.
        out = np.stack(
            [
                (features - self.mean[:, k]) / self.scale[:, k] @ self.weights[:, k] + self.bias[k]
                for k in range(len(self.bias))
            ],
            1,
        )
        return out[:, 0] if self.flat else out


def linear_classifier(
    features: np.ndarray,
    truth: Sequence[Hashable],
    *,
    groups: Sequence[Hashable] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
) -> LinearClassifier:
    """Fit a logistic regression; everything is learnt from what is given, so give training only.

    Features are standardised, and the strength of the L2 penalty is that with the best balanced
    accuracy on folds held out of the training samples (then the least log loss).

    Parameters
    ----------
    features : (n, d) float
    truth : (n,) categories
    groups : (n,) hashable, optional
        The part or animal of each sample: a group is never on both sides of a fold. Without
        groups, or where a class lies in one group only, folds are runs of neighbours in the
        order given, class by class; the result's `folds` says which.
    strengths : sequence of float
        Penalties to choose among, of the mean loss. One is taken as it is; of several the
        middle one where a class has a single sample, and nothing can be held out.
    folds : int

    Returns
    -------
    LinearClassifier
        The same for the same input: nothing is random.

    Raises
    ------
    DataError
        If features are not finite, numbers differ, or there are fewer than two classes.

    Example
    -------
    >>> features = np.array([[0.0, 5], [1, 5], [0.5, 5], [9, 5], [8, 5], [8.5, 5]])
    >>> model = linear_classifier(features, ["a", "a", "a", "b", "b", "b"])
    >>> model.predict(np.array([[2.0, 5], [7, 5]])).tolist()
    ['a', 'b']
    """
    features = _features(features)
    answers = np.asarray(truth)
    if answers.shape != (len(features),):
        raise DataError(
            "each row of features needs its truth", found=f"{len(features)} and {answers.shape}"
        )
    classes, at = np.unique(answers, return_inverse=True)
    if len(classes) < 2:
        raise DataError("a classifier needs two classes or more", found=len(classes))
    strengths = _strengths(strengths)
    parts, how = _class_folds(at, _groups(groups, len(at)), folds)
    best = strengths[len(strengths) // 2]
    if len(strengths) > 1 and parts:
        guesses = np.zeros((len(strengths), len(at), len(classes)))
        for held in parts:
            fits = _logistic(features[~held], at[~held], len(classes), strengths)
            for k, fit in enumerate(fits):
                guesses[k, held] = _softmax(features[held], fit)
        scored = np.any(parts, axis=0)
        score = [_quality(guesses[k, scored], at[scored]) for k in range(len(strengths))]
        best = strengths[max(range(len(strengths)), key=lambda k: score[k])]
    fit = next(_logistic(features, at, len(classes), (best,)))
    return LinearClassifier(tuple(classes.tolist()), *fit, best, how if parts else "none")


def linear_regressor(
    features: np.ndarray,
    values: np.ndarray,
    *,
    groups: Sequence[Hashable] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
) -> LinearRegressor:
    """Fit ridge regressions; everything is learnt from what is given, so give training only.

    Each column of values has its own strength, that with the least squared error on folds held
    out of the training samples.

    Parameters
    ----------
    features : (n, d) float
    values : (n,) or (n, k) float
        Rows that are NaN in a column are left out of it. A column with fewer than two known
        rows is answered with NaN.
    groups : (n,) hashable, optional
        As for `linear_classifier`; without them folds are runs of neighbours.
    strengths : sequence of float
        Penalties per sample: of the mean squared error, on features of unit variance.
    folds : int

    Returns
    -------
    LinearRegressor
        Nothing is random.

    Raises
    ------
    DataError
        If features are not finite, a value is infinite, or numbers differ.

    Example
    -------
    >>> features = np.arange(12.0).reshape(6, 2)
    >>> model = linear_regressor(features, 3 * features[:, 0] + 1, strengths=(1e-9,))
    >>> model.predict(np.array([[20.0, 21.0]])).round(4).tolist()
    [61.0]
    """
    features = _features(features)
    table = np.asarray(values, float)
    flat = table.ndim == 1
    table = table[:, None] if flat else table
    if table.ndim != 2 or len(table) != len(features):
        raise DataError(
            "each row of features needs its values", found=f"{features.shape}, {table.shape}"
        )
    if np.isinf(table).any():
        raise DataError("a value is infinite", f"row {int(np.isinf(table).any(1).argmax())}")
    strengths = _strengths(strengths)
    grouped = _groups(groups, len(table))
    width, count = features.shape[1], table.shape[1]
    mean, scale = np.zeros((width, count)), np.ones((width, count))
    weights, bias = np.full((width, count), np.nan), np.full(count, np.nan)
    chosen, how = np.full(count, np.nan), ""
    known = ~np.isnan(table)
    for mask in dict.fromkeys(map(bytes, known.T)):
        # Columns that know the same rows share their decompositions.
        rows = np.frombuffer(mask, bool)
        columns = np.flatnonzero((rows == known.T).all(1))
        if rows.sum() < 2:
            continue
        x, y = features[rows], table[np.ix_(rows, columns)]
        names = None if grouped is None else grouped[rows]
        parts, how = _value_folds(len(x), names, folds)
        errors = np.zeros((len(strengths), len(columns)))
        if len(strengths) > 1:
            for held in parts:
                for k, fit in enumerate(_ridge(x[~held], y[~held], strengths)):
                    guess = (x[held] - fit[0]) / fit[1] @ fit[2] + fit[3]
                    errors[k] += ((guess - y[held]) ** 2).sum(0)
        best = errors.argmin(0)
        fits = list(_ridge(x, y, strengths))
        for place, column in enumerate(columns):
            fit = fits[best[place]]
            mean[:, column], scale[:, column] = fit[0], fit[1]
            weights[:, column], bias[column] = fit[2][:, place], fit[3][place]
            chosen[column] = strengths[best[place]]
    return LinearRegressor(mean, scale, weights, bias, chosen, how, flat)


def _logistic(
    features: np.ndarray, at: np.ndarray, count: int, strengths: Sequence[float]
) -> Iterator[Fit]:
    """Weights (k, d) for each strength, warm from the last; a class that is not there is never guessed."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standard(features)
    x = (features - mean) / scale
    model = LogisticRegression(tol=1e-6, max_iter=2000, warm_start=True)
    for strength in strengths:
        model.set_params(C=1 / (strength * len(x)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, at)
        weights = np.zeros((count, x.shape[1]))
        bias = np.full(count, -np.inf)
        seen = model.classes_
        if len(seen) == 2:
            # One row of weights for two classes: odds of the second.
            weights[seen[1]], bias[seen] = model.coef_[0], (0, model.intercept_[0])
        else:
            weights[seen], bias[seen] = model.coef_, model.intercept_
        yield mean, scale, weights, bias


def _ridge(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> Iterator[Fit]:
    """Weights (d, k) for each strength, from one decomposition."""
    mean, scale = _standard(x)
    left, values, right = np.linalg.svd((x - mean) / scale, full_matrices=False)
    bias = y.mean(0)
    along = left.T @ (y - bias)
    for strength in strengths:
        shrunk = values / (values**2 + strength * len(x))
        yield mean, scale, right.T @ (shrunk[:, None] * along), bias


def _standard(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation; 1 for a feature that does not vary."""
    mean, scale = features.mean(0), features.std(0)
    size = np.abs(features).max(0, initial=0)
    return mean, np.where(scale > CONSTANT * size, scale, 1.0)


def _softmax(features: np.ndarray, fit: Fit) -> np.ndarray:
    mean, scale, weights, bias = fit
    logits = (features - mean) / scale @ weights.T + bias
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return logits / logits.sum(1, keepdims=True)


def _quality(probabilities: np.ndarray, at: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy, and minus the log loss: larger is better."""
    likely = np.maximum(probabilities[np.arange(len(at)), at], 1e-300)
    right = np.bincount(at, probabilities.argmax(1) == at)
    all_ = np.bincount(at)
    return float((right[all_ > 0] / all_[all_ > 0]).mean()), float(np.log(likely).mean())


def _class_folds(
    at: np.ndarray, groups: np.ndarray | None, folds: int
) -> tuple[list[np.ndarray], str]:
    """Masks of what is held out, and how they were made."""
    count = int(at.max()) + 1
    if groups is not None:
        spread = min(len(np.unique(groups[at == one])) for one in range(count))
        if spread >= 2:
            return _group_folds(at, groups, min(folds, len(np.unique(groups)))), "groups"
    size = min(folds, int(np.bincount(at).min()))
    if size < 2:
        return [], "none"
    place = np.empty(len(at), int)
    for one in range(count):
        rows = np.flatnonzero(at == one)
        place[rows] = np.arange(len(rows)) * size // len(rows)
    return [place == k for k in range(size)], "neighbours"


def _group_folds(at: np.ndarray, groups: np.ndarray, folds: int) -> list[np.ndarray]:
    """Groups dealt out so that classes are spread over folds, the largest first."""
    names, of = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), int(at.max()) + 1))
    np.add.at(held, (of, at), 1)
    share = held / held.sum(0)
    fold = np.zeros(len(names), int)
    filled = np.zeros((folds, share.shape[1]))
    for group in np.lexsort((np.arange(len(names)), -share.max(1))):
        # Where the group's own classes are fewest so far, then the emptiest fold.
        weight = (filled * share[group]).sum(1)
        fold[group] = np.lexsort((filled.sum(1), weight.round(12)))[0]
        filled[fold[group]] += share[group]
    masks = [fold[of] == k for k in range(folds)]
    return [mask for mask in masks if mask.any() and len(np.unique(at[~mask])) > 1]


def _value_folds(
    n: int, groups: np.ndarray | None, folds: int
) -> tuple[list[np.ndarray], str]:  # fmt: skip
    if groups is not None and len(np.unique(groups)) > 1:
        many = min(folds, len(np.unique(groups)))
        names, of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        fold, filled = np.zeros(len(names), int), np.zeros(many)
        for group in np.lexsort((np.arange(len(names)), -sizes)):
            fold[group] = filled.argmin()
            filled[fold[group]] += sizes[group]
        return [fold[of] == k for k in range(many)], "groups"
    many = min(folds, n)
    place = np.arange(n) * many // n
    return [place == k for k in range(many)], "neighbours"


def _strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    # From the strongest, so that of those that do alike the first is it, and fits start warm.
    found = tuple(sorted((float(strength) for strength in strengths), reverse=True))
    if not found or not all(np.isfinite(s) and s > 0 for s in found):
        raise DataError("strengths are positive numbers", found=tuple(strengths))
    return found


def _groups(groups: Sequence[Hashable] | None, n: int) -> np.ndarray | None:
    if groups is None:
        return None
    if len(groups) != n:
        raise DataError("every sample needs its group", found=f"{n} samples, {len(groups)} groups")
    number = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    return np.array([number[name] for name in groups])


def _features(features: Any, width: int | None = None) -> np.ndarray:
    features = np.asarray(features, float)
    if features.ndim != 2 or not len(features) or not features.shape[1]:
        raise DataError("features are a row for each sample", found=f"shape {features.shape}")
    if width is not None and features.shape[1] != width:
        raise DataError(f"features have {width} columns in training", found=features.shape[1])
    finite = np.isfinite(features).all(1)
    if not finite.all():
        raise DataError("features are not finite", f"row {int((~finite).argmax())}")
    return features
