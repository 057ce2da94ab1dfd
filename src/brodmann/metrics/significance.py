"""Is one method better than another on the same images? Paired, one-sided unless asked."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from brodmann.core import DataError, keyed_rng

Alternative = Literal["greater", "less", "two-sided"]
ALTERNATIVES = ("greater", "less", "two-sided")
FEW_GROUPS = 9
CHUNK = 1 << 22
"""Draws held at a time by the bootstrap."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of one test of a - b over pairs.

    `difference` is the mean of a - b. `statistic` is t, or the rank sum W+ of Wilcoxon, or the
    mean difference for the bootstrap. `low` and `high` bound `difference` at the bootstrap's
    confidence (None for other tests). `note` says what was degenerate, if anything was.
    """

    test: str
    pairs: int
    difference: float
    statistic: float
    p: float
    low: float | None = None
    high: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an infinite statistic becomes None."""
        found = asdict(self)
        found["statistic"] = self.statistic if np.isfinite(self.statistic) else None
        return found


def paired_t(
    a: Sequence[float], b: Sequence[float], alternative: Alternative = "greater"
) -> Comparison:
    """Student's paired t-test; "greater" asks whether a is greater than b.

    Parameters
    ----------
    a, b : (n,) float
        Scores of two methods on the same n >= 2 images, in the same order.
    alternative : {"greater", "less", "two-sided"}

    Raises
    ------
    DataError
        If lengths differ, a score is not finite, or there are fewer than two pairs.

    Notes
    -----
    The test of the PRMix paper, per image. Where all differences are equal, t has no
    variance to divide by: equal scores give t = 0 and p = 1, a constant lead gives t of
    plus or minus infinity and its limit of p, and `note` says so.

    Example
    -------
    >>> round(paired_t([0.75, 0.80, 0.70], [0.70, 0.77, 0.66]).p, 4)
    0.0101
    """
    from scipy.stats import ttest_rel

    a, b = _pairs(a, b, alternative)
    d = a - b
    # Rounding gives equal differences a tiny variance, and that an absurd t.
    if np.ptp(d) <= 1e-12 * max(np.abs(a).max(), np.abs(b).max()):
        return _constant("paired t", d, alternative)
    result = ttest_rel(a, b, alternative=alternative)
    p, t = float(result.pvalue), float(result.statistic)
    return Comparison("paired t", len(d), float(d.mean()), t, p)


def wilcoxon(
    a: Sequence[float], b: Sequence[float], alternative: Alternative = "greater"
) -> Comparison:
    """Wilcoxon's signed-rank test, for differences that are far from normal.

    Pairs that tie (a = b) are dropped, tied ranks averaged; p is exact for few pairs without
    ties and else by scipy's choice. If every pair ties, p is 1. Arguments, errors: `paired_t`.

    Example
    -------
    >>> wilcoxon([0.75, 0.80, 0.70], [0.70, 0.77, 0.66]).p
    0.125
    """
    from scipy import stats

    a, b = _pairs(a, b, alternative)
    # Differences that are equal in decimals must tie in spite of binary rounding.
    d = np.round(a - b, 12)
    mean = float((a - b).mean())
    ties = int((d == 0).sum())
    if ties == len(d):
        return Comparison("wilcoxon", len(d), mean, 0.0, 1.0, note="every pair ties")
    d = d[d != 0]
    p = float(stats.wilcoxon(d, alternative=alternative).pvalue)
    rank_sum = float(stats.rankdata(np.abs(d))[d > 0].sum())
    note = f"{ties} tied pairs dropped" if ties else ""
    return Comparison("wilcoxon", len(a), mean, rank_sum, p, note=note)


def bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    alternative: Alternative = "greater",
    *,
    groups: Sequence[Hashable] | None = None,
    repeats: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap of the mean difference: an interval, and a p-value.

    Parameters
    ----------
    a, b : (n,) float
    alternative : {"greater", "less", "two-sided"}
    groups : (n,) hashable, optional
        The animal or block that each pair comes from: whole groups are drawn, since sections
        of one brain are not independent. Default: every pair by itself.
    repeats : int
        Draws; p cannot fall below 1 / (draws + 1). Where there are no more than so many
        different draws (27 of three groups), each is made once and none twice.
    confidence : float
        Of the percentile interval, between 0 and 1.
    seed : int
        The same seed gives the same numbers.

    Returns
    -------
    Comparison
        `p` is the share of draws, centred on no difference, that reach the observed one.

    Raises
    ------
    DataError
        As `paired_t`; also if there are fewer than two groups.

    Example
    -------
    >>> found = bootstrap([0.75, 0.80, 0.70], [0.70, 0.77, 0.66])
    >>> round(found.low, 2), round(found.high, 2), round(found.p, 4)
    (0.03, 0.05, 0.0357)
    """
    a, b = _pairs(a, b, alternative)
    if repeats < 1 or not 0 < confidence < 1:
        raise DataError(
            "the bootstrap needs repeats >= 1 and a confidence between 0 and 1",
            found=f"repeats {repeats}, confidence {confidence}",
        )
    d = a - b
    names = list(range(len(d))) if groups is None else list(groups)
    if len(names) != len(d):
        raise DataError("every pair needs its group", found=f"{len(d)} pairs, {len(names)} groups")
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(number) < 2:
        raise DataError("the bootstrap needs two groups or more", found=len(number))
    of = np.array([number[name] for name in names])
    sums, sizes = np.bincount(of, d), np.bincount(of)
    count = len(number)
    if count < FEW_GROUPS and count**count <= repeats:
        # Few groups have few different draws: each of them once.
        drawn = np.indices((count,) * count).reshape(count, -1).T
        means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    else:
        means = np.empty(repeats)
        rng = keyed_rng(seed, "bootstrap")
        step = max(1, CHUNK // count)
        for start in range(0, repeats, step):
            drawn = rng.integers(count, size=(min(step, repeats - start), count))
            means[start : start + step] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(
        means, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf"
    )
    seen = d.mean()
    # Rounding must not part draws that equal the observed difference from it.
    slack = 1e-12 * max(1e-300, np.abs(d).max())
    chance = means - seen
    reach = {
        "greater": chance >= seen - slack,
        "less": chance <= seen + slack,
        "two-sided": np.abs(chance) >= abs(seen) - slack,
    }[alternative]
    p = (1 + int(reach.sum())) / (len(means) + 1)
    name = "bootstrap" if groups is None else f"bootstrap over {len(number)} groups"
    return Comparison(name, len(d), float(seen), float(seen), p, float(low), float(high))


def compare(
    a: Sequence[float],
    b: Sequence[float],
    alternative: Alternative = "greater",
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """All three tests of one pair of methods, JSON-safe: paired_t, wilcoxon, bootstrap.

    >>> compare([0.75, 0.80, 0.70], [0.70, 0.77, 0.66])["wilcoxon"]["p"]
    0.125
    """
    return {
        "paired_t": paired_t(a, b, alternative).to_dict(),
        "wilcoxon": wilcoxon(a, b, alternative).to_dict(),
        "bootstrap": bootstrap(a, b, alternative, groups=groups, seed=seed).to_dict(),
    }


def _pairs(a: Any, b: Any, alternative: str) -> tuple[np.ndarray, np.ndarray]:
    if alternative not in ALTERNATIVES:
        raise DataError(
            "unknown alternative", found=repr(alternative), fix=f"one of {ALTERNATIVES}"
        )
    a, b = (np.asarray(scores, dtype=float) for scores in (a, b))
    if a.shape != b.shape or a.ndim != 1:
        raise DataError("paired scores come in equal numbers", found=f"{a.shape} and {b.shape}")
    if len(a) < 2:
        raise DataError("a paired test needs two pairs or more", found=len(a))
    bad = np.flatnonzero(~(np.isfinite(a) & np.isfinite(b)))
    if len(bad):
        raise DataError(
            "a score is not finite",
            f"pair {bad[0]}",
            f"{a[bad[0]]} and {b[bad[0]]}",
            "leave out pairs that have no score",
        )
    return a, b


def _constant(test: str, d: np.ndarray, alternative: str) -> Comparison:
    sign = np.sign(d.mean()) if np.abs(d).max() > 1e-12 else 0.0
    if sign == 0:
        return Comparison(test, len(d), float(d.mean()), 0.0, 1.0, note="every pair ties")
    wanted = {"greater": sign > 0, "less": sign < 0, "two-sided": True}[alternative]
    p = 0.0 if wanted else 1.0
    note = "every difference is the same: the test has no variance to go by"
    return Comparison(test, len(d), float(d.mean()), float(sign * np.inf), p, note=note)
