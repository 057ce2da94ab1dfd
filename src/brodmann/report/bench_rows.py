"""What a page of a benchmark shows: one row for each result, and what is asked, as plain data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np

from brodmann.core import DataError
from brodmann.report.tables import number

TASK_ID = re.compile(r"[^/@\s]+/[^/@\s]+@v\d+")
BASELINES = ("constant", "random", "oracle")
Pair = tuple[float, float | None]
Published = Mapping[str, Mapping[str, Mapping[str, Pair]]]
"""Task id -> method -> score -> mean and deviation (None where none was printed)."""


@dataclass(frozen=True)
class BenchRow:
    """One method on one task with one seed; the fields are those of a result file.

    `scores` are "METRIC" and "METRIC:CLASS" -> score. `raw` is split -> evidence: `pairs`
    (sample -> (true, predicted) category), `table` (pixels by true and predicted class) or
    `values` (sample -> (true, predicted) attributes).
    """

    task: str
    method: str
    seed: int
    scores: Mapping[str, float | None]
    per_split: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    raw: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    data_hash: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0

    @classmethod
    def of(cls, result: Any) -> BenchRow:
        """The row of a result: a mapping (of its JSON), or a record with `model_dump`."""
        if isinstance(result, cls):
            return result
        tree = result.model_dump(mode="json") if hasattr(result, "model_dump") else result
        if not isinstance(tree, Mapping):
            raise DataError("a result is keys and values", found=type(tree).__name__)
        missing = [key for key in ("task", "method", "seed", "scores") if key not in tree]
        if missing:
            raise DataError("a result lacks a key", str(tree.get("task", "")), missing)
        row = cls(**{key: tree[key] for key in cls.__dataclass_fields__ if key in tree})
        if not TASK_ID.fullmatch(row.task):
            raise DataError("a task is BENCHMARK/NAME@VERSION", "task", repr(row.task))
        return row

    @property
    def baseline(self) -> bool:
        """Whether the method is one that every task ships."""
        return self.configuration.get("method", self.method) in BASELINES


@dataclass(frozen=True)
class TaskText:
    """What a task asks, and how it is read.

    `classes` are categories, names of labels or attributes, in order; `metrics` are (name,
    how it is made).
    """

    id: str
    title: str = ""
    description: str = ""
    answer: str = ""
    classes: tuple[str, ...] = ()
    metrics: tuple[tuple[str, str], ...] = ()
    main: str = ""
    maximum: float = 1.0
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Any) -> TaskText:
        """The text of a benchmark's task record."""
        if isinstance(task, cls):
            return task
        metrics = tuple((one.name, _made(one)) for one in task.metrics)
        keys = ("id", "title", "description", "answer", "main", "maximum")
        plain = {key: getattr(task, key) for key in keys}
        return cls(**plain, classes=tuple(task.classes), metrics=metrics, faults=tuple(task.faults))

    @classmethod
    def guessed(cls, id_: str, rows: Sequence[BenchRow]) -> TaskText:
        """What the rows themselves say, for a task that nobody described."""
        keys = list(dict.fromkeys(key for row in rows for key in row.scores))
        plain = [key for key in keys if ":" not in key]
        classes = list(dict.fromkeys(key.split(":", 1)[1] for key in keys if ":" in key))
        kinds = {"pairs": "category", "table": "labels", "values": "attributes"}
        evidence = [one for row in rows for one in row.raw.values()]
        answers = [kind for key, kind in kinds.items() if any(one.get(key) for one in evidence)]
        return cls(
            id_, id_, "", answers[0] if answers else "", tuple(classes),
            tuple((key, "") for key in plain), plain[0] if plain else "",
        )  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """A method's place on one task: mean and deviation of its scores over seeds."""

    name: str
    kind: str
    mean: dict[str, float | None]
    std: dict[str, float | None]
    values: dict[str, list[float]]
    seeds: tuple[int, ...] = ()
    rows: tuple[BenchRow, ...] = ()
    interval: tuple[float, float] | None = None


def standings(
    rows: Iterable[BenchRow],
    task: TaskText,
    published: Mapping[str, Mapping[str, Pair]] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> list[Standing]:
    """Methods by their main score, best first; then baselines; then published rows as printed.

    Parameters
    ----------
    rows : iterable of BenchRow
        Of this task alone.
    task : TaskText
    published : mapping, optional
        Method -> score -> (mean, deviation). Only of a version 1.
    intervals : mapping, optional
        Method -> interval of the main score.

    Raises
    ------
    DataError
        If rows are of another task or version, a method has a seed twice with different results, or published rows
        would stand beside another version than the first.
    """
    of_method: dict[str, list[BenchRow]] = {}
    for row in rows:
        if row.task != task.id:
            raise DataError("a table holds one version of one task", task.id, row.task)
        same = of_method.setdefault(row.method, [])
        twin = next((other for other in same if row.seed == other.seed), None)
        if twin == row:
            continue
        if twin is not None:
            raise DataError(
                "two different results of one method and seed",
                task.id,
                f"{row.method}, seed {row.seed}",
            )
        same.append(row)
    if published and not task.id.endswith("@v1"):
        raise DataError("published rows stand beside version 1 only", task.id)
    found = [
        _standing(name, sorted(same, key=lambda row: row.seed), (intervals or {}).get(name))
        for name, same in of_method.items()
    ]
    found.sort(key=lambda one: (one.kind != "method", _rank(one.mean.get(task.main)), one.name))
    return found + [
        Standing(
            name,
            "published",
            {key: number(pair[0]) for key, pair in scores.items()},
            {key: number(pair[1]) for key, pair in scores.items()},
            {},
        )
        for name, scores in (published or {}).items()
    ]


def best_of(standings: Sequence[Standing], key: str) -> Standing | None:
    """The method (no baseline, not published) with the highest mean of a score."""
    known = [one for one in standings if one.kind == "method" and one.mean.get(key) is not None]
    return max(known, key=lambda one: one.mean[key] or 0.0, default=None)


def confusion_of(rows: Iterable[BenchRow], classes: Sequence[str]) -> np.ndarray | None:
    """Samples, or pixels, by (true, predicted) class, summed over seeds and splits.

    Returns
    -------
    (n, n) int64 or None
        None without evidence of classes.

    Raises
    ------
    DataError
        If the evidence names other classes.
    """
    place = {name: i for i, name in enumerate(classes)}
    total, seen = np.zeros((len(place), len(place)), np.int64), False
    for row in rows:
        for split, evidence in row.raw.items():
            for sample, (truth, guess) in (evidence.get("pairs") or {}).items():
                if truth not in place or guess not in place:
                    raise DataError(
                        "evidence of another category", f"{row.task}: {sample}", [truth, guess]
                    )
                total[place[truth], place[guess]] += 1
                seen = True
            if evidence.get("table"):
                table = np.array(evidence["table"], np.int64)
                if table.shape != total.shape:
                    raise DataError(
                        "evidence of other classes", f"{row.task}: {split}", table.shape
                    )
                total, seen = total + table, True
    return total if seen else None


def values_of(rows: Iterable[BenchRow], count: int) -> np.ndarray:
    """True and predicted attributes of every sample, NaN where unknown; (n, 2, count) float."""
    pairs = [
        pair
        for row in rows
        for evidence in row.raw.values()
        for pair in (evidence.get("values") or {}).values()
    ]
    if any(len(side) != count for pair in pairs for side in pair):
        raise DataError("evidence of other attributes", found=f"not {count}")
    known = [[[np.nan if v is None else v for v in side] for side in pair] for pair in pairs]
    return np.array(known, float).reshape(-1, 2, count)


def _standing(
    name: str, rows: Sequence[BenchRow], interval: tuple[float, float] | None
) -> Standing:
    keys = dict.fromkeys(key for row in rows for key in row.scores)
    values = {
        key: [value for row in rows if (value := number(row.scores.get(key))) is not None]
        for key in keys
    }
    return Standing(
        name,
        "baseline" if rows[0].baseline else "method",
        {key: fmean(found) if found else None for key, found in values.items()},
        {key: stdev(found) if len(found) > 1 else None for key, found in values.items()},
        values,
        tuple(row.seed for row in rows),
        tuple(rows),
        interval,
    )


def _rank(value: float | None) -> float:
    return np.inf if value is None else -value


def _made(metric: Any) -> str:
    words = {
        "samples": "each sample counts the same",
        "classes": "mean over classes",
        "pooled": "one table of all pixels, then the mean over classes",
    }
    rules = {
        "skip": "an absent class is left out",
        "zero": "an absent class counts 0",
        "none": "",
    }
    if metric.name == "r2":
        rules["skip"] = "an attribute whose truth is unknown or constant is left out"
    parts = [words.get(metric.aggregation, metric.aggregation), rules.get(metric.absent, "")]
    return "; ".join(part for part in parts if part)
