"""Matching of points against sequential loops, exhaustive search and scipy's solvers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from brodmann.core import DataError, Points
from brodmann.metrics.points import MODES, match, score_points, scores_by_tolerance
from brodmann.metrics.points.matching import distinct
from brodmann.metrics.points.pairs import close_pairs

QUICK = settings(max_examples=100, deadline=None)


def places(most, dims=3, top=8, half=True):
    """Point sets on a grid of half steps, where distances tie all the time."""
    value = st.integers(0, top * 2).map(lambda n: n / 2) if half else st.floats(-top, top)
    return st.lists(st.tuples(*[value] * dims), max_size=most).map(
        lambda rows: np.array(rows, float).reshape(-1, dims)
    )


def table(found, truth, spacing=None):
    """Distances in millionths of every pair, as the definition compares them."""
    steps = np.ones(found.shape[1]) if spacing is None else np.array(spacing)
    gap = (found[:, None] - truth[None]) * steps
    return np.floor(np.sqrt((gap**2).sum(-1)) * 1e6 + 0.5).astype(np.int64)


def once(points):
    """One row for each place, sorted: the definition speaks of places, not of rows."""
    return np.array(sorted(set(map(tuple, points.tolist())))).reshape(-1, points.shape[1])


def sequential(found, truth, tolerance, spacing=None):
    """greedy_global, word for word."""
    cost = table(found, truth, spacing)
    pairs = sorted(
        (cost[i, j], tuple(found[i]), tuple(truth[j]), i, j)
        for i, j in np.ndindex(cost.shape)
        if cost[i, j] < round(tolerance * 1e6)
    )
    rows, columns, taken = set(), set(), []
    for _, _, _, i, j in pairs:
        if i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
            taken.append((i, j))
    return sorted(taken)


def closest(found, truth, tolerance, spacing=None):
    """nearest, word for word."""
    cost = table(found, truth, spacing)
    claims = {}
    for i in range(len(found)):
        near = [
            (cost[i, j], tuple(truth[j]), j)
            for j in range(len(truth))
            if cost[i, j] < round(tolerance * 1e6)
        ]
        if near:
            best = min(near)
            claims.setdefault(best[2], []).append((best[0], tuple(found[i]), i))
    return sorted((min(claim)[2], j) for j, claim in claims.items())


def exhaustive(found, truth, tolerance, spacing=None):
    """The largest number of pairs, and the least sum at this number, of all matchings."""
    cost = table(found, truth, spacing)
    near = cost < round(tolerance * 1e6)
    small, large = sorted(near.shape)
    if small == 0:
        return 0, 0
    if near.shape[0] > near.shape[1]:
        near, cost = near.T, cost.T
    best = (0, 0)
    for columns in itertools.permutations(range(large), small):
        chosen = [(i, j) for i, j in enumerate(columns) if near[i, j]]
        best = min(best, (-len(chosen), sum(cost[i, j] for i, j in chosen)))
    return -best[0], best[1]


def as_places(found, truth, matching):
    return sorted((tuple(found[i].tolist()), tuple(truth[j].tolist())) for i, j in matching.pairs)


@QUICK
@given(
    places(9, top=4), places(9, top=4), st.sampled_from([0.5, 1.0, 1.5, 2.3, 4.0]), st.booleans()
)
def test_greedy_and_nearest_are_the_sequential_definitions(found, truth, tolerance, um):
    spacing = (4.0, 1.8, 1.8) if um else None
    tolerance = tolerance * 1.8 if um else tolerance
    one, two = once(found), once(truth)
    for mode, definition in (("greedy_global", sequential), ("nearest", closest)):
        got = match(found, truth, tolerance, mode, spacing)
        wanted = definition(one, two, tolerance, spacing)
        assert as_places(found, truth, got) == sorted(
            (tuple(one[i].tolist()), tuple(two[j].tolist())) for i, j in wanted
        )


@QUICK
@given(places(6, 2, 3), places(6, 2, 3), st.sampled_from([0.6, 1.0, 1.2, 2.5]))
def test_optimal_is_the_best_of_all_matchings(found, truth, tolerance):
    got = match(found, truth, tolerance, "optimal")
    pairs, least = exhaustive(once(found), once(truth), tolerance)
    assert len(got.pairs) == pairs
    assert np.rint(got.distances * 1e6).sum() == pytest.approx(least, abs=1)
    check_matching(found, truth, got, tolerance)


def check_matching(found, truth, got, tolerance):
    assert len(set(got.pairs[:, 0])) == len(set(got.pairs[:, 1])) == len(got.pairs)
    gaps = np.linalg.norm(found[got.pairs[:, 0]] - truth[got.pairs[:, 1]], axis=1)
    assert np.allclose(gaps, got.distances) and (gaps < tolerance).all()
    assert len(got.pairs) + len(got.unmatched) == len(found)
    assert len(got.pairs) + len(got.missed) + len(got.truth_duplicates) == len(truth)


@pytest.mark.parametrize("whole", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("density", [0.2, 1.0, 4.0])
def test_optimal_is_scipys_on_crowds(whole, density):
    """Components of hundreds of points, more found than true and the other way round."""
    rng = np.random.default_rng(int(density * 10) + whole)
    for n, m in ((250, 250), (300, 120), (120, 300)):
        side = (max(n, m) / density) ** (1 / 3) * 2
        found, truth = (rng.uniform(0, side, (k, 3)) for k in (n, m))
        if whole:
            found, truth = once(np.round(found)), once(np.round(truth))
        got = match(found, truth, 2.5, "optimal")
        cost = table(found, truth).astype(float)
        price = 1e9
        cost[cost >= 2.5e6] = price
        rows, columns = linear_sum_assignment(cost)
        kept = cost[rows, columns] < price
        assert len(got.pairs) == kept.sum()
        least = cost[rows, columns][kept].sum()
        assert np.floor(got.distances * 1e6 + 0.5).sum() == pytest.approx(least, abs=0.5)
        check_matching(found, truth, got, 2.5)


def test_optimal_in_one_component_of_twenty_thousand():
    """A line where each found cell is nearest to the wrong true one: only a chain is right."""
    n = 20_000
    truth = np.stack([np.zeros(n), np.arange(n) * 2.0], 1)
    found = truth + np.array([0, 1.1])
    counts = {mode: len(match(found, truth, 1.5, mode).pairs) for mode in MODES}
    assert counts == {"greedy_global": n - 1, "nearest": n - 1, "optimal": n}


def test_optimal_where_thousands_compete_for_few():
    rng = np.random.default_rng(3)
    truth = once(np.round(rng.uniform(0, 40, (400, 2))))
    found = rng.uniform(0, 40, (4000, 2))
    got = match(found, truth, 5, "optimal")
    cost = table(found, truth).astype(float)
    cost[cost >= 5e6] = 1e10
    rows, columns = linear_sum_assignment(cost)
    assert len(got.pairs) == len(truth) == (cost[rows, columns] < 1e10).sum()
    total = np.floor(got.distances * 1e6 + 0.5).sum()
    assert total == pytest.approx(cost[rows, columns].sum(), abs=0.5)


def test_the_three_modes_differ():
    """Found 12 needs 11 to move on to 8 and 9 to 7; found 0 and 1 both lie nearest to true 0."""
    truth, found = (
        np.array([[0, x] for x in row], float)
        for row in ([0, 3, 4, 7, 8, 11], [0, 1, 2, 9, 11, 12])
    )
    scores = {mode: score_points(found, truth, 4, mode) for mode in MODES}
    assert {m: s.tp for m, s in scores.items()} == {"greedy_global": 5, "nearest": 4, "optimal": 6}
    assert [round(s.f1, 3) for s in scores.values()] == [0.833, 0.667, 1.0]


@QUICK
@given(places(12, top=3), places(12, top=3), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(found, truth, random):
    again = [random.sample(range(len(points)), len(points)) for points in (found, truth)]
    mixed = found[again[0]], truth[again[1]]
    for mode in MODES:
        one, two = match(found, truth, 2, mode), match(*mixed, 2, mode)
        if mode != "optimal":
            assert as_places(found, truth, one) == as_places(*mixed, two)
        assert len(one.pairs) == len(two.pairs)
        assert one.distances.sum() == pytest.approx(two.distances.sum())


@QUICK
@given(places(12, top=3), places(12, top=3))
def test_modes_are_ordered_and_symmetric(found, truth):
    hits = {mode: len(match(found, truth, 2, mode).pairs) for mode in MODES}
    assert hits["nearest"] <= hits["optimal"] and hits["greedy_global"] <= hits["optimal"]
    # Greed takes a maximal matching, which has at least half of the most pairs.
    assert 2 * hits["greedy_global"] >= hits["optimal"]
    assert len(match(truth, found, 2, "optimal").pairs) == hits["optimal"]


@QUICK
@given(places(10, top=3), places(10, top=3), st.sampled_from(MODES))
def test_every_tolerance_at_once_is_each_by_itself(found, truth, mode):
    many = [0.5, 1, 1.5, 1.7320508, 2, 3]
    for score, tolerance in zip(scores_by_tolerance(found, truth, many, mode), many):
        assert score == score_points(found, truth, tolerance, mode)


@QUICK
@given(places(14, 3, 20, half=False), places(14, 3, 20, half=False), st.floats(0.3, 9))
def test_pairs_are_those_of_a_tree(found, truth, distance):
    got = close_pairs(found, truth, distance, np.ones(3))
    wanted = np.argwhere(table(found, truth) < round(distance * 1e6))
    assert np.stack([got.rows, got.columns], 1).tolist() == wanted.tolist()


def test_pairs_of_thousands_are_those_of_a_tree():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5000, 3)) * (5, 60, 90), rng.normal(size=(4000, 3)) * (9, 50, 80)
    steps = np.array([4.0, 1.8, 1.8])
    got = close_pairs(a, b, 10.8, steps)
    wanted = cKDTree(a * steps).query_ball_tree(cKDTree(b * steps), 10.8)
    assert [sorted(row) for row in wanted] == [
        got.columns[low:high].tolist() for low, high in itertools.pairwise(got.starts)
    ]


@pytest.mark.parametrize("far", [1e3, 1e9])
def test_points_far_apart_need_no_large_grid(far):
    a = np.array([[0, 0, 0], [far, far, far], [far / 2, 0, 0]])
    got = match(a, a[::-1] + 0.25, 1)
    assert got.pairs.tolist() == [[0, 2], [1, 1], [2, 0]]


def test_decimals_tie_and_end_as_they_are_written():
    # 3 x 1.8 is more than 5.4 in binary; 0.1 + 0.2 is more than 0.3.
    assert score_points(np.zeros((1, 2)), np.array([[0, 3.0]]), 5.4, spacing=(4, 1.8)).tp == 0
    assert score_points(np.zeros((1, 2)), np.array([[0, 3.0]]), 5.5, spacing=(4, 1.8)).tp == 1
    found, truth = np.array([[0, 0.1 + 0.2]]), np.array([[0, 0.0], [0, 0.6]])
    assert match(found, truth, 1).pairs.tolist() == [[0, 0]]
    assert match(found + 1000, truth + 1000, 1).pairs.tolist() == [[0, 0]]


def test_of_duplicates_one_is_true_and_the_others_do_not_take_a_neighbour():
    found = np.array([[0, 0, 0], [0, 0, 0], [0, 0, -0.0]])
    truth = np.array([[0, 0, 1], [0, 0, 2.0], [0, 0, 2.0]])
    for mode in MODES:
        got = match(found, truth, 6, mode)
        assert got.pairs.tolist() == [[0, 0]]
        assert got.duplicates.tolist() == [1, 2] and got.truth_duplicates.tolist() == [2]
        assert got.unmatched.tolist() == [1, 2] and got.missed.tolist() == [1]


@QUICK
@given(places(15, 3, 1))
def test_distinct_is_numpys_unique(points):
    rows, again = distinct(points)
    assert points[rows].tolist() == np.unique(points, axis=0).tolist()
    assert sorted([*rows, *again]) == list(range(len(points)))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_matches_nothing(mode):
    none, some = np.zeros((0, 3)), np.ones((4, 3)) * np.arange(4)[:, None]
    for found, truth in ((none, some), (some, none), (none, none)):
        got = match(found, truth, 2, mode)
        assert len(got.pairs) == len(got.distances) == 0
        assert len(got.unmatched) == len(found) and len(got.missed) == len(truth)


def test_points_are_taken_as_they_are():
    import pandas as pd

    cells = Points(pd.DataFrame({"x": [1.0], "z": [5.0], "y": [2.0]}))
    assert match(cells, np.array([[5.0, 2.0, 1.0]]), 0.1).pairs.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("found", "options", "words"),
    [
        (np.zeros((1, 3)), {"tolerance": 0}, "tolerance"),
        (np.zeros((1, 3)), {"tolerance": float("nan")}, "tolerance"),
        (np.zeros((1, 3)), {"mode": "greedy"}, "did you mean 'greedy_global'"),
        (np.zeros((1, 2)), {}, "dimensions"),
        (np.zeros(3), {}, "table"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), {}, "row 1"),
        (np.zeros((1, 3)), {"spacing": (1, 2)}, "spacing"),
        (np.zeros((1, 3)), {"spacing": (1, 2, 0)}, "spacing"),
    ],
)
def test_what_cannot_be_matched_is_refused(found, options, words):
    with pytest.raises(DataError, match=words):
        match(found, np.zeros((1, 3)), **({"tolerance": 6} | options))


def test_too_many_pairs_are_refused_and_not_stored(monkeypatch):
    monkeypatch.setattr("brodmann.metrics.points.pairs.MOST_PAIRS", 50)
    crowd = np.random.default_rng(0).uniform(0, 1, (10, 3))
    with pytest.raises(DataError, match="100 pairs"):
        match(crowd, crowd + 0.01, 5)
