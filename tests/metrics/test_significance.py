"""Tests of significance against scipy's permutations, enumeration and closed forms."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

from brodmann.core import DataError, keyed_rng
from brodmann.metrics import bootstrap, compare, paired_t, wilcoxon

SIDES = ("greater", "less", "two-sided")


def scores(n, lead=0.01, *key):
    rng = keyed_rng(5, n, *key)
    b = rng.uniform(0.6, 0.8, n)
    return b + rng.normal(lead, 0.02, n), b


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [2, 5, 22])
def test_paired_t_against_scipy_and_an_integral(n, side):
    a, b = scores(n)
    found = paired_t(a, b, side)
    theirs = stats.ttest_rel(a, b, alternative=side)
    assert found.p == pytest.approx(theirs.pvalue)
    d = a - b
    t = d.mean() / (d.std(ddof=1) / math.sqrt(n))
    assert found.statistic == pytest.approx(t)
    assert found.difference == pytest.approx(d.mean())
    free = n - 1
    scale = math.gamma((free + 1) / 2) / (math.sqrt(free * math.pi) * math.gamma(free / 2))
    tail = integrate.quad(lambda x: scale * (1 + x * x / free) ** (-(free + 1) / 2), t, np.inf)[0]
    expected = {"greater": tail, "less": 1 - tail, "two-sided": 2 * min(tail, 1 - tail)}[side]
    assert found.p == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("side", SIDES)
def test_wilcoxon_against_every_sign(side):
    d = np.array([0.03, -0.01, 0.05, 0.02, 0.07, -0.04, 0.09])
    b = np.full(7, 0.5)
    found = wilcoxon(b + d, b, side)
    ranks = np.abs(d).argsort().argsort() + 1
    seen = ranks[d > 0].sum()
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=7)])
    greater, less = (sums >= seen).mean(), (sums <= seen).mean()
    expected = {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}
    assert found.statistic == seen
    assert found.p == pytest.approx(expected[side])


@pytest.mark.parametrize("side", SIDES)
def test_wilcoxon_against_scipy_with_ties(side):
    a, b = scores(60)
    a, b = np.round(a, 2), np.round(b, 2)
    d = np.round(a - b, 12)
    assert (d == 0).any()
    found = wilcoxon(a, b, side)
    assert found.p == pytest.approx(stats.wilcoxon(d[d != 0], alternative=side).pvalue)
    assert found.pairs == 60 and f"{(d == 0).sum()} tied" in found.note


def test_degenerate_differences():
    b = np.array([0.7, 0.6, 0.3])
    for test in (paired_t, wilcoxon):
        same = test(b, b)
        assert same.p == 1 and same.difference == 0 and "ties" in same.note
    assert bootstrap(b, b, repeats=99).p == 1
    lead = paired_t(b + 0.1, b)
    assert lead.p == 0 and lead.statistic == np.inf and "variance" in lead.note
    assert paired_t(b + 0.1, b, "less").p == 1
    assert paired_t(b, b + 0.1).p == 1 and paired_t(b, b + 0.1, "two-sided").p == 0
    assert bootstrap(b + 0.1, b, repeats=99).p == 1 / 28  # Every one of the 27 draws, once.
    assert bootstrap(b, b + 0.1, repeats=99).p == 1
    assert json.dumps(lead.to_dict(), allow_nan=False)
    # Equal in decimals, not in binary: ranks tie, and p is that of three equal steps up.
    assert wilcoxon([0.3, 0.7, 0.9], [0.2, 0.6, 0.8]).p == pytest.approx(0.125)


@pytest.mark.parametrize("test", [paired_t, wilcoxon, bootstrap])
def test_bad_scores_are_refused(test):
    with pytest.raises(DataError, match="two pairs"):
        test([0.5], [0.4])
    with pytest.raises(DataError, match="equal numbers"):
        test([0.5, 0.6], [0.4])
    with pytest.raises(DataError, match=r"pair 1.*nan"):
        test([0.5, float("nan")], [0.4, 0.3])
    with pytest.raises(DataError, match="pair 0"):
        test([None, 0.5], [0.4, 0.3])
    with pytest.raises(DataError, match="alternative"):
        test([0.5, 0.6], [0.4, 0.3], "more")


def test_bootstrap_interval_against_scipy_and_p_against_t():
    a, b = scores(40, 0.004)
    found = bootstrap(a, b, repeats=20_000)
    theirs = stats.bootstrap(
        (a - b,), np.mean, n_resamples=20_000, method="percentile", rng=keyed_rng(9)
    ).confidence_interval
    width = found.high - found.low
    assert found.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.03 * width)
    for side in SIDES:
        p = bootstrap(a, b, side, repeats=20_000).p
        assert p == pytest.approx(paired_t(a, b, side).p, abs=0.03)
    narrow = bootstrap(a, b, repeats=20_000, confidence=0.5)
    assert found.low < narrow.low < found.difference < narrow.high < found.high


@pytest.mark.parametrize("side", SIDES)
def test_bootstrap_p_against_every_draw(side):
    d = np.array([0.031, -0.012, 0.024, -0.017, 0.011])
    b = np.full(5, 0.5)
    means = np.array([d[list(draw)].mean() for draw in itertools.product(range(5), repeat=5)])
    chance, seen = means - d.mean(), d.mean()
    expected = {
        "greater": chance >= seen,
        "less": chance <= seen,
        "two-sided": np.abs(chance) >= seen,
    }[side].mean()
    assert bootstrap(b + d, b, side, repeats=40_000).p == pytest.approx(expected, abs=0.008)


def test_bootstrap_over_groups_against_every_draw():
    d = np.array([0.05, 0.01, -0.02, 0.04, 0.03, 0.00])
    groups = ["m1", "m1", "m2", "m3", "m3", "m3"]
    b = np.full(6, 0.5)
    found = bootstrap(b + d, b, groups=groups, repeats=40_000, seed=3)
    blocks = [d[:2], d[2:3], d[3:]]
    means = np.array(
        [
            np.concatenate([blocks[i] for i in draw]).mean()
            for draw in itertools.product(range(3), repeat=3)
        ]
    )
    seen = d.mean()
    assert found.difference == pytest.approx(seen)
    assert found.p == (1 + (means - seen >= seen - 1e-12).sum()) / 28
    assert found == bootstrap(b + d, b, groups=groups, repeats=27, seed=8)
    few = bootstrap(b + d, b, groups=groups, repeats=26).p * 27
    assert few == pytest.approx(round(few))
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    assert found.low == pytest.approx(low) and found.high == pytest.approx(high)
    assert "3 groups" in found.test


def test_groups_that_repeat_their_pairs_add_no_evidence():
    a, b = scores(8, 0.01, "groups")
    once = bootstrap(a, b, repeats=5000)
    thrice = bootstrap(
        np.repeat(a, 3), np.repeat(b, 3), groups=np.repeat(range(8), 3), repeats=5000
    )
    assert (thrice.low, thrice.high, thrice.p) == pytest.approx((once.low, once.high, once.p))
    naive = bootstrap(np.repeat(a, 3), np.repeat(b, 3), repeats=5000)
    assert naive.high - naive.low < 0.8 * (once.high - once.low)


def test_bootstrap_is_seeded_and_its_chunks_do_not_show(monkeypatch):
    import sys

    a, b = scores(30)
    once = bootstrap(a, b, repeats=500, seed=1)
    assert once == bootstrap(a, b, repeats=500, seed=1)
    assert once != bootstrap(a, b, repeats=500, seed=2)
    monkeypatch.setattr(sys.modules["brodmann.metrics.significance"], "CHUNK", 30 * 7)
    assert once == bootstrap(a, b, repeats=500, seed=1)


def test_bootstrap_arguments():
    a, b = scores(4)
    with pytest.raises(DataError, match="two groups"):
        bootstrap(a, b, groups=["m1"] * 4)
    with pytest.raises(DataError, match="4 pairs, 3 groups"):
        bootstrap(a, b, groups=["m1", "m2", "m3"])
    for wrong in ({"repeats": 0}, {"confidence": 1.0}):
        with pytest.raises(DataError, match="repeats"):
            bootstrap(a, b, **wrong)


def test_compare_holds_all_three():
    a, b = scores(12)
    found = compare(a, b, groups=list("aabbccddeeff"), seed=4)
    assert found["paired_t"]["p"] == paired_t(a, b).p
    assert found["wilcoxon"]["p"] == wilcoxon(a, b).p
    assert found["bootstrap"]["p"] == bootstrap(a, b, groups=list("aabbccddeeff"), seed=4).p
    assert json.loads(json.dumps(found, allow_nan=False)) == found
