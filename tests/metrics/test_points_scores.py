"""Counts, measures, pooling, intervals, tallies, regions and the matrix."""

import csv
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from brodmann.core import DataError, RecipeError
from brodmann.metrics.points import (
    SCORER,
    TOLERANCE_VX,
    PointScore,
    Region,
    marker_matrix,
    match,
    parse_box,
    pool,
    read_regions,
    rows_in,
    score_groups,
    score_points,
    summarise,
    tally,
    tolerance_of,
    tolerance_um,
)
from brodmann.metrics.points.wrong import explain

counts = st.builds(PointScore, *[st.integers(0, 30)] * 3)


@settings(deadline=None)
@given(counts)
def test_measures_are_sklearns(score):
    truth = [1] * score.tp + [0] * score.fp + [1] * score.fn
    found = [1] * score.tp + [1] * score.fp + [0] * score.fn
    for ours, theirs in (
        (score.f1, f1_score),
        (score.precision, precision_score),
        (score.recall, recall_score),
    ):
        # With one true negative, which changes none of them, for sklearn takes no empty list.
        wanted = theirs([*truth, 0], [*found, 0], zero_division=np.nan)
        assert ours == pytest.approx(wanted, nan_ok=True)
    if truth:
        assert score.accuracy == pytest.approx(np.mean(np.equal(truth, found)))


def test_nothing_true_and_nothing_found_is_undefined_and_pools_as_nothing():
    empty = PointScore(0, 0, 0, tolerance=6.0)
    assert all(empty.as_dict()[key] is None for key in ("f1", "precision", "recall", "accuracy"))
    json.dumps(empty.as_dict(), allow_nan=False)
    one = PointScore(3, 1, 2, duplicates=1, truth_duplicates=4, tolerance=6.0)
    assert pool([empty, one, empty]) == one
    false_only = PointScore(0, 5, 0, tolerance=6.0)
    assert false_only.f1 == 0 and math.isnan(false_only.recall)
    assert pool([one, false_only]).fp == 6


def test_scores_of_different_kinds_do_not_pool():
    one = PointScore(1, 0, 0, tolerance=6.0)
    for other in ({"tolerance": 8.0}, {"unit": "um"}, {"mode": "optimal"}):
        kind = {"tolerance": 6.0} | other
        with pytest.raises(DataError, match="different kinds"):
            pool([one, PointScore(1, 0, 0, **kind)])
    with pytest.raises(DataError, match="no score"):
        pool([])


def test_every_score_tells_its_mode_and_the_version_of_the_scorer():
    told = score_points(np.zeros((1, 3)), np.zeros((1, 3)), 6, "nearest").as_dict()
    assert (told["mode"], told["scorer"], told["tolerance"], told["unit"]) == (
        "nearest", SCORER, 6.0, "voxel",
    )  # fmt: skip
    assert SCORER.split()[-1].isdigit()


def test_six_voxels_reach_further_in_z_than_their_micrometres():
    found, truth = np.array([[0, 0, 0.0]]), np.array([[4.0, 0, 0]])
    spacing = (4.0, 1.8, 1.8)
    assert score_points(found, truth, 6).tp == 1
    assert score_points(found, truth, tolerance_um(6, spacing), spacing=spacing).tp == 0


def test_tolerances_are_those_of_the_paper():
    paper = {"neun": 6, "CFOS": 6, "th": 8, "Pv": 8, "gfap": 8, "IBA1": 5, "microglia": 5}
    assert {name: tolerance_of(name) for name in paper} == paper and len(TOLERANCE_VX) == 7
    with pytest.raises(DataError, match="did you mean 'NeuN'"):
        tolerance_of("Neun2")


def reference_draws(scores, of):
    """Pooled and mean F1 of every way to draw as many subjects as there are."""
    names = list(dict.fromkeys(of.values()))
    groups = [[scores[r] for r in scores if of[r] == name] for name in names]
    pooled, means = [], []
    for drawn in itertools.product(groups, repeat=len(groups)):
        flat = [score for group in drawn for score in group]
        total = pool(flat)
        known = [s.f1 for s in flat if not math.isnan(s.f1)]
        pooled.append(total.f1)
        means.append(np.mean(known) if known else math.nan)
    return pooled, means


def test_intervals_of_few_subjects_are_of_every_draw():
    scores = {
        "a1": PointScore(9, 1, 1), "a2": PointScore(3, 5, 4), "b1": PointScore(2, 0, 9),
        "b2": PointScore(0, 0, 0), "c1": PointScore(40, 10, 2),
    }  # fmt: skip
    of = {name: name[0] for name in scores}
    found = summarise(scores, of, confidence=0.8)
    for got, draws in zip((found.interval, found.macro_interval), reference_draws(scores, of)):
        wanted = np.quantile(draws, (0.1, 0.9), method="inverted_cdf")
        assert got["f1"] == pytest.approx(tuple(wanted))
    assert found.defined == 4 and found.macro["f1"] == pytest.approx(
        np.mean([s.f1 for n, s in scores.items() if n != "b2"])
    )


def test_intervals_of_many_subjects_are_scipys():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    table = np.stack([rng.integers(20, 60, 14), rng.integers(0, 30, 14), rng.integers(0, 30, 14)])
    scores = {str(i): PointScore(*map(int, row)) for i, row in enumerate(table.T)}
    ours = summarise(scores, repeats=9000, seed=1)
    theirs = bootstrap(
        tuple(table),
        lambda tp, fp, fn, axis: 2 * tp.sum(axis) / (2 * tp + fp + fn).sum(axis),
        paired=True, vectorized=True, method="percentile", n_resamples=9000, rng=2,
    ).confidence_interval  # fmt: skip
    assert ours.interval["f1"] == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours.interval == summarise(scores, repeats=9000, seed=1).interval
    assert ours.interval != summarise(scores, repeats=9000, seed=2).interval


def test_one_subject_has_no_interval():
    found = summarise({"a": PointScore(1, 1, 1), "b": PointScore(5, 1, 1)}, {"a": "m", "b": "m"})
    assert set(found.interval.values()) == {None}
    assert found.as_dict()["interval"]["f1"] is None


def test_the_worst_subject_may_need_a_few_cells():
    scores = {"a": PointScore(1, 9, 1), "b": PointScore(30, 20, 30), "c": PointScore(50, 5, 5)}
    found = summarise(scores)
    assert found.worst()[0] == "a" and found.worst(50)[0] == "b" and found.worst(500) is None
    assert found.as_dict(50)["worst_subject"]["subject"] == "b"
    assert summarise({"a": PointScore(0, 0, 0)}).worst() is None


def test_groups_are_scored_apart_and_a_missing_table_is_an_empty_one():
    rng = np.random.default_rng(0)
    truth = {name: rng.uniform(0, 50, (20, 3)) for name in "abc"}
    found = {"a": truth["a"] + 0.5, "b": truth["a"], "d": truth["c"][:7]}
    got = score_groups(found, truth, 2, subjects={"a": "m1", "b": "m1"})
    apart = {name: score_points(found.get(name, []), truth.get(name, []), 2) for name in "abcd"}
    assert got.scores == apart
    assert (apart["c"].fn, apart["d"].fp) == (20, 7)
    assert got.pooled == pool(apart.values()) and set(got.by_subject) == {"m1", "c", "d"}
    # Two of them in one table would match across.
    assert (
        got.pooled.tp < score_points(*(np.concatenate([*t.values()]) for t in (found, truth)), 2).tp
    )


def test_a_bad_option_of_the_bootstrap_is_refused():
    for wrong in ({"repeats": 0}, {"confidence": 1.0}):
        with pytest.raises(DataError, match="bootstrap"):
            summarise({"a": PointScore(1, 1, 1)}, **wrong)
    with pytest.raises(DataError, match="no region"):
        score_groups({}, {}, 2)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_tallies_add_up_to_the_whole_and_are_a_loops(seed):
    rng = np.random.default_rng(seed)
    found, truth = (rng.integers(0, 9, (n, 2)).astype(float) for n in (25, 20))
    names = np.array(["CTX", "STR", "", "TH"])
    left, right = names[rng.integers(0, 4, 25)], names[rng.integers(0, 4, 20)]
    got = match(found, truth, 2)
    rows = tally(got, left, right)
    whole = score_points(found, truth, 2)
    assert pool(rows.values()) == whole
    for name in rows:
        own = "" if name == "none" else name
        assert rows[name].tp == sum(right[j] == own for _, j in got.pairs)
        hit = {i for i, _ in got.pairs}
        assert rows[name].fp == sum(r == own for i, r in enumerate(left) if i not in hit)


def test_tally_wants_a_region_for_every_cell():
    with pytest.raises(DataError, match="region"):
        tally(match(np.zeros((2, 3)), np.zeros((1, 3)), 2), ["a"], ["a"])


def test_boxes_are_half_open_by_voxel():
    box = Region("r", (10, 0, 0), (20, 5, 5))
    points = np.array([[9.49, 0, 0], [9.5, 0, 0], [19.49, 4.49, -0.5], [19.5, 0, 0], [12, 4.5, 0]])
    assert rows_in(points, box).tolist() == [1, 2]
    # Two boxes side by side part the points: none is counted twice, none is lost.
    beside = Region("s", (20, 0, 0), (30, 5, 5))
    assert (box.holds(points) & beside.holds(points)).sum() == 0 and beside.holds(points)[3]


def test_points_counted_from_the_box_lie_in_it():
    box = Region("r", (100, 100, 100), (120, 150, 150))
    inside = np.array([[0.0, 0, 0], [19.4, 49, 49]])
    assert rows_in(inside, box, "box").tolist() == [0, 1]
    with pytest.raises(DataError, match=r"1 of 3 .*\[20\.0, 0\.0, 0\.0\].*20 x 50 x 50"):
        rows_in(np.array([*inside, [20.0, 0, 0]]), box, "box")
    with pytest.raises(DataError, match="use origin brain"):
        rows_in(inside + 100, box, "box")
    with pytest.raises(RecipeError, match="did you mean 'brain'"):
        rows_in(inside, box, "brian")
    with pytest.raises(DataError, match="2 axes"):
        rows_in(inside[:, 1:], box)


def test_regions_come_from_a_table(tmp_path):
    file = tmp_path / "regions.csv"
    file.write_text("subject,region,x0,x1,y0,y1,z0,z1\nm1,a,1,9,2,8,3,7\nm2,b,0,5,0,5,0,5\n")
    assert read_regions(file)[0] == Region("a", (3, 2, 1), (7, 8, 9), "m1")
    file.write_text("region,y0,y1,x0,x1\na,0,5,0,6.0\n")
    assert read_regions(file) == [Region("a", (0, 0), (5, 6))]
    file.write_text("region,subject\na,m1\n")
    assert read_regions(file) == [Region("a", subject="m1")]
    for text, words in (
        ("region,z0,z1,y0,y1,x0\na,1,2,1,2,1\n", "other columns"),
        ("name\na\n", "other columns"),
        ("region,y0,y1,x0,x1\na,0,5,0,x\n", "line 2"),
        ("region,y0,y1,x0,x1\na,0,5,5,5\n", "ends above"),
        ("region\na\na\n", "two regions"),
        ("region\n", "no region"),
        ("", "cannot read"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=words):
            read_regions(file)
    assert parse_box("0:5,1:6").start == (0, 1)
    with pytest.raises(RecipeError, match="Z0:Z1"):
        parse_box("0:5,1")


ALL = Region("all")


def cells(n=200, seed=0):
    return np.random.default_rng(seed).uniform(0, (60, 200, 150), (n, 3))


@pytest.mark.parametrize(
    ("way", "unit", "words"),
    [
        (lambda a, s: (a * s, a), "voxel", "the prediction looks like um"),
        (lambda a, s: (a, a * s), "voxel", "the truth looks like um"),
        (lambda a, s: (a / s, a), "um", "the prediction looks like voxel"),
        (lambda a, s: (a, a / s), "um", "the truth looks like voxel"),
        (lambda a, s: (a[:, ::-1], a), "voxel", "exchanged"),
        (lambda a, s: (a - np.array([100, 300, 500]), a), "voxel", "say --origin box"),
        (lambda a, s: (a + np.array([100, 300, 500]), a), "voxel", "say --origin brain"),
    ],
)
def test_another_unit_order_or_origin_is_seen(way, unit, words):
    spacing = np.array([6, 2.6, 3.6])
    found, truth = way(cells(), spacing)
    region = ALL
    if "origin" in words:
        region = Region("r", (100, 300, 500), (200, 600, 900))
        found, truth = found + region.start, truth + region.start
    with pytest.raises(DataError, match=words):
        explain(
            [(region, (found, truth))], PointScore(0, 200, 200), 3, None, spacing, unit, "a.csv"
        )


def test_what_matches_or_matches_nowhere_is_no_error():
    spacing = (6, 2.6, 3.6)
    truth, other = cells(), cells(seed=1)
    good = score_points(truth, truth, 3)
    assert explain([(ALL, (truth, truth))], good, 3, None, spacing, "voxel", "a.csv") == []
    far = other + 1000
    (note,) = explain(
        [(ALL, (far, truth))], score_points(far, truth, 3), 3, None, None, "voxel", "a.csv"
    )
    assert "nothing matches" in note and "--spacing" in note
    few = truth[:3]
    assert (
        explain([(ALL, (few * 9, few))], PointScore(0, 3, 3), 3, None, spacing, "voxel", "a.csv")
        == []
    )


@pytest.fixture
def matrix():
    rng = np.random.default_rng(0)
    records = [
        (marker, region, model, PointScore(*map(int, rng.integers(1, 40, 3)), tolerance=tolerance_of(marker)))
        for marker in ("Iba1", "NeuN")
        for region in ("region_2", "region_1")
        for model in ("all", "Iba1", "NeuN")
    ]  # fmt: skip
    return records, marker_matrix(records)


def test_the_matrix_has_totals_of_pooled_counts(matrix):
    records, table = matrix
    assert table.markers == ("NeuN", "Iba1") and table.models == ("NeuN", "Iba1", "all")
    for marker in table.markers:
        for model in table.models:
            parts = [s for m, _, k, s in records if (m, k) == (marker, model)]
            assert table.score(marker, "total", model) == pool(parts)
    wide = table.wide("accuracy")
    assert [(row["marker"], row["region"]) for row in wide] == [
        (m, r) for m in ("NeuN", "Iba1") for r in ("total", "region_1", "region_2")
    ]
    assert wide[0]["all"] == table.score("NeuN", "total", "all").accuracy
    best = table.best("NeuN")
    assert max(table.value("NeuN", "total", m) for m in table.models) == table.value(
        "NeuN", "total", best[0]
    )


def test_the_matrix_is_written_as_json_and_tables(matrix, tmp_path):
    files = matrix[1].write(tmp_path)
    told = json.loads(files["json"].read_text())
    assert told["scorer"] == SCORER and len(told["rows"]) == 2 * 3 * 3
    rows = list(csv.DictReader(files["csv"].open()))
    assert [row["tp"] for row in rows] == [str(row["tp"]) for row in told["rows"]]
    wide = list(csv.DictReader(files["f1"].open()))
    assert float(wide[1]["Iba1"]) == matrix[1].value("NeuN", "region_1", "Iba1")


def test_what_was_not_measured_has_no_total(matrix):
    records, _ = matrix
    table = marker_matrix(records[1:])
    assert table.score("Iba1", "total", "all") is None
    assert table.wide()[3]["all"] is None and table.best("Iba1") != ()
    for wrong in ([], [*records, records[0]], [("NeuN", "total", "NeuN", PointScore(1, 1, 1))]):
        with pytest.raises(DataError):
            marker_matrix(wrong)
    with pytest.raises(DataError, match="gone"):
        marker_matrix(records, models=["gone"])
