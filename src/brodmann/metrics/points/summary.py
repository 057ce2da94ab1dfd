"""Scores of many regions in one: pooled, mean over regions, interval, worst subject, tallies."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brodmann.core import DataError, keyed_rng
from brodmann.metrics.points.matching import Matching, Mode
from brodmann.metrics.points.regions import name_of
from brodmann.metrics.points.scores import MEASURES, SCORER, PointScore, count, pool, score_points

FEW_SUBJECTS = 9
CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Summary:
    """Scores of regions (images, boxes) and what they come to together.

    `pooled` adds up counts. `macro` is the mean over the regions where a measure is defined;
    `defined` counts those of F1. `interval` and `macro_interval` bound both at `confidence`,
    by measure, (low, high) or None with fewer than two subjects. `by_subject` pools the
    regions of each subject.
    """

    scores: dict[str, PointScore]
    subjects: dict[str, str]
    pooled: PointScore
    macro: dict[str, float]
    defined: int
    interval: dict[str, tuple[float, float] | None]
    macro_interval: dict[str, tuple[float, float] | None]
    by_subject: dict[str, PointScore]
    confidence: float

    def worst(self, least_true: int = 0) -> tuple[str, PointScore] | None:
        """The subject of least F1 among those with at least so many true cells.

        None if there is none for which F1 is defined.
        """
        known = [
            (score.f1, name)
            for name, score in self.by_subject.items()
            if score.true >= least_true and not math.isnan(score.f1)
        ]
        return (min(known)[1], self.by_subject[min(known)[1]]) if known else None

    def as_dict(self, least_true: int = 0) -> dict[str, Any]:
        """For JSON; None where a value is undefined."""
        worst = self.worst(least_true)
        return {
            "pooled": self.pooled.as_dict(),
            "interval": self.interval,
            "macro": {name: none_if_nan(value) for name, value in self.macro.items()},
            "macro_interval": self.macro_interval,
            "confidence": self.confidence,
            "regions": [self.row(name) for name in self.scores],
            "regions_defined": self.defined,
            "subjects": [
                {"subject": name, **_short(score)} for name, score in self.by_subject.items()
            ],
            "worst_subject": worst and {"subject": worst[0], **_short(worst[1])},
            "least_true": least_true,
            "scorer": SCORER,
        }

    def row(self, name: str) -> dict[str, Any]:
        """One region of a table."""
        return {"region": name, "subject": self.subjects[name], **_short(self.scores[name])}


def summarise(
    scores: Mapping[str, PointScore],
    subjects: Mapping[str, str] | None = None,
    *,
    repeats: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Summary:
    """Put the scores of regions together.

    Parameters
    ----------
    scores : mapping of str to PointScore
        Region -> its score; all of one tolerance, unit and mode.
    subjects : mapping of str to str, optional
        Region -> animal. Whole animals are drawn for the interval, since regions of one brain
        are not independent. Default: every region by itself.
    repeats : int
        Draws of the bootstrap. Where there are no more than so many different draws (27 of
        three subjects), each is made once.
    confidence : float
        Of the percentile intervals.
    seed : int
        The same seed gives the same numbers.

    Raises
    ------
    DataError
        If there is no score, scores are of different kinds, or an option is wrong.

    Example
    -------
    >>> found = summarise({"a": PointScore(8, 2, 2), "b": PointScore(1, 9, 9)})
    >>> round(found.pooled.f1, 2), round(found.macro["f1"], 2), found.worst()[0]
    (0.45, 0.45, 'b')
    """
    if repeats < 1 or not 0 < confidence < 1:
        raise DataError(
            "the bootstrap needs repeats >= 1 and a confidence between 0 and 1",
            found=f"repeats {repeats}, confidence {confidence}",
        )
    total = pool(scores.values())
    of = {name: (subjects or {}).get(name, name) for name in scores}
    names = list(dict.fromkeys(of.values()))
    values = {m: np.array([getattr(s, m) for s in scores.values()]) for m in MEASURES}
    place = np.array([names.index(of[name]) for name in scores])
    counts = np.array([(s.tp, s.fp, s.fn) for s in scores.values()], np.int64)
    per_subject = np.stack([np.bincount(place, counts[:, i], len(names)) for i in range(3)], 1)
    sums = [np.bincount(place, np.nan_to_num(values[m]), len(names)) for m in MEASURES]
    known = [np.bincount(place, ~np.isnan(values[m]), len(names)) for m in MEASURES]
    pooled_draws, macro_draws = _draw(
        per_subject, np.stack(sums, 1), np.stack(known, 1), repeats, seed
    )
    return Summary(
        scores=dict(scores),
        subjects=of,
        pooled=total,
        macro={m: _mean(values[m]) for m in MEASURES},
        defined=int((~np.isnan(values["f1"])).sum()),
        interval=_intervals(pooled_draws, confidence),
        macro_interval=_intervals(macro_draws, confidence),
        by_subject={
            subject: pool(s for name, s in scores.items() if of[name] == subject)
            for subject in names
        },
        confidence=confidence,
    )


def score_groups(
    found: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    tolerance: float,
    mode: Mode = "greedy_global",
    spacing: Sequence[float] | None = None,
    **options: Any,
) -> Summary:
    """Score regions apart, each found table against its namesake, and put them together.

    A name in only one of both stands for an empty table in the other. `options` are those of
    `summarise`, the rest those of `match`.

    Example
    -------
    >>> cells = np.array([[1.0, 2.0], [9.0, 9.0]])
    >>> both = score_groups({"a": cells}, {"a": cells, "b": cells[:1]}, 3)
    >>> both.pooled.tp, both.pooled.fn, both.macro["recall"]
    (2, 1, 0.5)
    """
    tables = [*truth.values(), *found.values()]
    if not tables:
        raise DataError("there is nothing to score", found="no region")
    none = np.zeros((0, np.asarray(tables[0]).shape[1]))
    names = dict.fromkeys([*truth, *found])
    scores = {
        name: score_points(found.get(name, none), truth.get(name, none), tolerance, mode, spacing)
        for name in names
    }
    return summarise(scores, **options)


def tally(
    matching: Matching,
    found_regions: Sequence[Hashable],
    truth_regions: Sequence[Hashable],
    in_um: bool = False,
) -> dict[str, PointScore]:
    """Counts of one matching by region: hits and misses go to the true cell's region.

    A false cell goes to the region where it was found. Unlike cutting the brain up before,
    a pair across a border stays a pair.

    Parameters
    ----------
    matching : Matching
    found_regions, truth_regions : (n,) and (m,)
        The region of every row; what is missing (None, NaN, "") is called "none".

    Example
    -------
    >>> from brodmann.metrics.points.matching import match
    >>> pair = match(np.array([[0.0, 4.0]]), np.array([[0.0, 5.0]]), 3)
    >>> tally(pair, ["CTX"], ["STR"])["STR"].tp
    1
    """
    sizes = (len(found_regions), len(truth_regions))
    if sizes != matching.sizes:
        raise DataError("every cell needs its region", found=f"{sizes} for {matching.sizes}")
    found = np.array([name_of(region) for region in found_regions], object)
    true = np.array([name_of(region) for region in truth_regions], object)
    base = replace(count(matching, in_um), tp=0, fp=0, fn=0, duplicates=0, truth_duplicates=0)
    columns = {
        "tp": true[matching.pairs[:, 1]],
        "fn": true[matching.missed],
        "fp": found[matching.unmatched],
        "duplicates": found[matching.duplicates],
        "truth_duplicates": true[matching.truth_duplicates],
    }
    counts: dict[str, dict[str, int]] = {}
    for field, regions in columns.items():
        names, numbers = np.unique(regions.astype(str), return_counts=True)
        for name, number in zip(names.tolist(), numbers.tolist()):
            counts.setdefault(name, {})[field] = number
    return {name: replace(base, **counts[name]) for name in sorted(counts)}


def none_if_nan(value: float) -> float | None:
    """What JSON can hold."""
    return None if math.isnan(value) else float(value)


def _short(score: PointScore) -> dict[str, Any]:
    found = score.as_dict()
    return {k: found[k] for k in ("tp", "fp", "fn", "duplicates", "truth_duplicates", *MEASURES)}


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _draw(
    counts: np.ndarray, sums: np.ndarray, known: np.ndarray, repeats: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(draws, measures) of pooled and of mean values, subjects drawn with replacement."""
    size = len(counts)
    if size < 2:
        return (np.zeros((0, len(MEASURES))),) * 2
    if size < FEW_SUBJECTS and size**size <= repeats:
        chunks = [np.indices((size,) * size).reshape(size, -1).T]
    else:
        rng = keyed_rng(seed, "cells")
        step = max(1, CHUNK // size)
        chunks = [
            rng.integers(size, size=(min(step, repeats - start), size))
            for start in range(0, repeats, step)
        ]
    pooled, macro = [], []
    with np.errstate(all="ignore"):
        for drawn in chunks:
            tp, fp, fn = np.moveaxis(counts[drawn].sum(1), -1, 0)
            pooled.append(
                np.stack(
                    [2 * tp / (2 * tp + fp + fn), tp / (tp + fp), tp / (tp + fn),
                     tp / (tp + fp + fn)], 1,
                )
            )  # fmt: skip
            macro.append(sums[drawn].sum(1) / known[drawn].sum(1))
    return np.concatenate(pooled), np.concatenate(macro)


def _intervals(draws: np.ndarray, confidence: float) -> dict[str, tuple[float, float] | None]:
    """Percentiles of the draws for which a measure is defined."""
    found: dict[str, tuple[float, float] | None] = {}
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    for place, name in enumerate(MEASURES):
        values = draws[:, place]
        values = values[~np.isnan(values)]
        found[name] = None
        if len(values):
            low, high = np.quantile(values, ends, method="inverted_cdf")
            found[name] = (float(low), float(high))
    return found
