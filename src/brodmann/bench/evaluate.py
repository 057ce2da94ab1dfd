"""Predictions to evidence, and evidence to scores: pure functions of plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from brodmann.bench.records import Task
from brodmann.bench.results import Evidence, Result
from brodmann.core import DataError, LabelMap, ModelError, Sample, Volume, nearest
from brodmann.metrics import contingency, overlap

Scores = dict[str, float | None]
FEW_CLUSTERS = 3
CLOSE = 1e-9
"""By how much stored scores may differ from what their evidence says."""


def gather(
    task: Task, answers: Iterable[tuple[Sample, Any]], label_map: LabelMap | None = None
) -> Evidence:
    """What predictions say beside the truth.

    Parameters
    ----------
    task : Task
    answers : iterable of (Sample, prediction)
        True samples, with a category (str), a label array (ids of `label_map`, the image's
        grid), or attributes (dict).
    label_map : LabelMap, optional
        Of the labels, for tasks that ask for them.

    Returns
    -------
    Evidence

    Raises
    ------
    DataError
        If a sample lacks its truth, or has one that the task does not know.
    ModelError
        If a prediction is none: an unknown category, another shape, a number that is missing.

    Example
    -------
    >>> from brodmann.bench.tasks import find_task
    >>> task = find_task("mtneuro/roi-c1@v2")[1]
    >>> image = Volume(np.zeros((2, 2), np.uint8), "yx", (1.17, 1.17))
    >>> gather(task, [(Sample("a", image, category="CTX"), "ZI")]).pairs
    {'a': ('CTX', 'ZI')}
    """
    clusters: dict[str, str] = {}
    if task.answer != "labels":
        found: dict[str, Any] = {}
        read = _pair if task.answer == "category" else _values
        for sample, guess in answers:
            found[sample.name] = read(task, sample, guess)
            clusters[sample.name] = sample.subject
        key = "pairs" if task.answer == "category" else "values"
        return Evidence(**{key: _some(task, found), "clusters": clusters})
    check_classes(task, label_map)
    assert label_map is not None
    size = label_map.num_classes
    table = np.zeros((size, size), np.int64)
    seen = 0
    for sample, guess in answers:
        table += contingency(*_labels(task, sample, guess), label_map, where=sample.name)
        seen += 1
    if not seen:
        raise DataError("no sample to test on", task.id)
    return Evidence(table=tuple(tuple(map(int, row)) for row in table))


def check_classes(task: Task, label_map: LabelMap | None) -> None:
    """Refuse data whose labels are not those that the task names."""
    names = tuple(label_map.class_names) if label_map is not None else ()
    if names != task.labels:
        raise DataError("the data's labels are not the task's", task.id, names, f"{task.labels}")


def score(task: Task, evidence: Evidence) -> Scores:
    """Every score of one split, by the rules that the task states.

    Returns
    -------
    dict
        "METRIC" -> the score, "METRIC:CLASS" or "recall:CLASS" -> of one class; None where a
        class is left out.

    Raises
    ------
    DataError
        If the evidence is not of this task's kind.

    Example
    -------
    >>> from brodmann.bench.tasks import find_task
    >>> task = find_task("mtneuro/roi-c1@v2")[1]
    >>> pairs = {"a": ("CTX", "CTX"), "b": ("CTX", "ZI"), "c": ("ZI", "ZI")}
    >>> score(task, Evidence(pairs=pairs))["balanced_accuracy"]
    0.75
    """
    if task.answer == "category":
        return _score_pairs(task, evidence)
    if task.answer == "labels":
        return _score_table(task, evidence)
    return _score_values(task, evidence)


def mean_scores(per_split: Mapping[str, Scores]) -> Scores:
    """The mean of every score over the splits that have it."""
    keys = dict.fromkeys(key for scores in per_split.values() for key in scores)
    return {key: _mean([scores.get(key) for scores in per_split.values()]) for key in keys}


def confusion(task: Task, evidence: Evidence) -> np.ndarray:
    """Samples, or pixels, by (true, predicted) class; (n, n) int64 in the task's order."""
    if evidence.table:
        table = np.array(evidence.table, np.int64)
        if len(table) != len(task.labels):
            raise DataError("evidence of other classes", task.id, f"{len(table)} classes")
        return table
    index = {name: i for i, name in enumerate(task.categories)}
    table = np.zeros((len(index), len(index)), np.int64)
    for sample, (truth, guess) in evidence.pairs.items():
        if truth not in index or guess not in index:
            raise DataError("evidence of another category", f"{task.id}: {sample}", [truth, guess])
        table[index[truth], index[guess]] += 1
    return table


def interval(
    task: Task, evidence: Sequence[Mapping[str, Evidence]], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the main score of a category task, from whole clusters drawn anew.

    Parameters
    ----------
    task : Task
    evidence : sequence of {split: Evidence}
        Of one method, one for each seed; a sample's answers stay with its cluster.
    level : float

    Returns
    -------
    (low, high), or None
        None where a class has fewer than three clusters, which say nothing of chance.
    """
    from brodmann.metrics.readout import cluster_interval

    if task.answer != "category":
        return None
    hits: list[bool] = []
    truths: list[str] = []
    clusters: list[str] = []
    for one in evidence:
        for split, found in one.items():
            for sample, (truth, guess) in found.pairs.items():
                hits.append(truth == guess)
                truths.append(truth)
                clusters.append(f"{split}/{found.clusters.get(sample, sample)}")
    of_class: dict[str, set[str]] = {}
    for truth, cluster in zip(truths, clusters):
        of_class.setdefault(truth, set()).add(cluster)
    if min(map(len, of_class.values())) < FEW_CLUSTERS:
        return None
    by_class = {"truth": truths} if task.main == "balanced_accuracy" else {}
    low, high = cluster_interval(np.array(hits), clusters, level=level, **by_class)
    return float(low), float(high)


def true_counts(task: Task, evidence: Evidence) -> dict[str, int]:
    """Class -> true samples or pixels; attributes have no classes."""
    if task.answer == "attributes":
        return {}
    rows = confusion(task, evidence).sum(1)
    return {name: int(n) for name, n in zip(task.classes, rows)}


def check_result(task: Task, result: Result) -> None:
    """Refuse a result whose scores do not follow from its evidence, or of other test data.

    Raises
    ------
    DataError
        Names the score, the split or the counts at fault.
    """
    where = result.file_name
    if result.task != task.id:
        raise DataError("a result of another task", where, result.task, task.id)
    names = [split.name for split in task.splits]
    if list(result.raw) != names and set(result.raw) != set(names):
        raise DataError("a result of other splits", where, list(result.raw), f"needs {names}")
    per_split = {name: score(task, result.raw[name]) for name in names}
    stored = {"scores": result.scores, **result.per_split}
    for name, found in {"scores": mean_scores(per_split), **per_split}.items():
        for key in found.keys() | stored[name].keys():
            if not _equal(found.get(key), stored[name].get(key)):
                raise DataError(
                    "a score does not follow from its evidence",
                    f"{where}: {name}.{key}",
                    stored[name].get(key),
                    f"the evidence says {found.get(key)}",
                )
    for name in names:
        expected = task.counts.get(name, {}).get("test")
        counts = true_counts(task, result.raw[name])
        if expected and counts and not same_counts(expected, counts, task.counts_tolerance):
            raise DataError(
                "tested on other data", f"{where}: {name}", counts, f"the task has {expected}"
            )


def same_counts(
    expected: Mapping[str, int], found: Mapping[str, int], tolerance: float = 0.0
) -> bool:
    """Whether class counts are equal, but for a share of them all; no class is the same as none.

    >>> same_counts({"CTX": 80, "ZI": 40}, {"CTX": 81, "ZI": 39, "VP": 0}, tolerance=0.01)
    True
    """
    allowed = tolerance * sum(expected.values())
    keys = expected.keys() | found.keys()
    return all(abs(expected.get(key, 0) - found.get(key, 0)) <= allowed for key in keys)


def _pair(task: Task, sample: Sample, guess: Any) -> tuple[str, str]:
    if sample.category not in task.categories:
        raise DataError(
            "a true category that the task does not know", sample.name, repr(sample.category)
        )
    if guess not in task.categories:
        raise ModelError(
            "a prediction that is no category",
            sample.name,
            repr(guess)[:80],
            nearest(str(guess)[:80], task.categories),
        )
    return str(sample.category), str(guess)


def _labels(task: Task, sample: Sample, guess: Any) -> tuple[np.ndarray, np.ndarray]:
    if sample.labels is None:
        raise DataError("a sample without labels", sample.name)
    array = guess.numpy() if isinstance(guess, Volume) else np.asarray(guess)
    if array.shape != sample.labels.spatial_shape or array.dtype.kind not in "iub":
        raise ModelError(
            "a prediction is whole numbers on the image's grid",
            sample.name,
            f"{array.dtype} {array.shape}",
            f"the image is {sample.labels.spatial_shape}",
        )
    return sample.labels.read()[0], array


def _values(
    task: Task, sample: Sample, guess: Any
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    if not isinstance(guess, Mapping):
        raise ModelError("a prediction is attribute -> number", sample.name, type(guess).__name__)
    truth, guesses = [], []
    for name in task.attributes:
        if name not in sample.attributes:
            raise DataError("a sample without this attribute", sample.name, name)
        known = _finite(sample.attributes[name])
        found = _finite(guess.get(name))
        if known is not None and found is None:
            raise ModelError("a prediction lacks a number", sample.name, f"{name}: {found}")
        truth.append(known)
        guesses.append(found)
    return tuple(truth), tuple(guesses)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _some(task: Task, found: dict[str, Any]) -> dict[str, Any]:
    if not found:
        raise DataError("no sample to test on", task.id)
    return found


def _score_pairs(task: Task, evidence: Evidence) -> Scores:
    if not evidence.pairs:
        raise DataError("evidence of another answer", task.id, fix="categories need pairs")
    table = confusion(task, evidence)
    right, true = np.diag(table), table.sum(1)
    recall = [float(r / n) if n else None for r, n in zip(right, true)]
    found: Scores = {}
    for metric in task.metrics:
        if metric.name == "accuracy":
            found["accuracy"] = float(right.sum() / true.sum())
        else:
            found["balanced_accuracy"] = _mean(_absent(recall, metric.absent))
    return found | {f"recall:{name}": value for name, value in zip(task.categories, recall)}


def _score_table(task: Task, evidence: Evidence) -> Scores:
    if not evidence.table:
        raise DataError("evidence of another answer", task.id, fix="labels need a table")
    every = overlap(confusion(task, evidence), background=True)
    found: Scores = {}
    for metric in task.metrics:
        of_class = [_finite(value) for value in (every.dice if metric.name == "f1" else every.iou)]
        found[metric.name] = _mean(_absent(of_class, metric.absent))
        found |= {f"{metric.name}:{name}": v for name, v in zip(task.labels, of_class)}
    return found


def _score_values(task: Task, evidence: Evidence) -> Scores:
    if not evidence.values:
        raise DataError("evidence of another answer", task.id, fix="attributes need values")
    from brodmann.metrics.readout import r2

    truth, guess = (_column(task, evidence, side) for side in (0, 1))
    known = np.isfinite(truth)
    of_each: Scores = {
        f"r2:{name}": _finite(r2(truth[rows, i], guess[rows, i])) if rows.any() else None
        for i, (name, rows) in enumerate(zip(task.attributes, known.T))
    }
    return {"r2": _mean(list(of_each.values())), **of_each}


def _column(task: Task, evidence: Evidence, side: int) -> np.ndarray:
    rows = [pair[side] for pair in evidence.values.values()]
    if any(len(row) != len(task.attributes) for row in rows):
        raise DataError("evidence of other attributes", task.id)
    return np.array([[np.nan if v is None else v for v in row] for row in rows], float)


def _absent(values: Sequence[float | None], rule: str) -> list[float | None]:
    return [0.0 if value is None and rule == "zero" else value for value in values]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _equal(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)
