"""Relations of markers whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_atlas import points_of
from scipy.spatial.distance import cdist

from brodmann.atlas import Annotation, coexpression, count_cells, proximity
from brodmann.core import DataError, Label, LabelMap, RecipeError, Volume

STEP = (8.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def brain():
    ids = np.zeros((30, 60, 60), np.uint32)
    ids[2:28, 4:56, 4:30] = 1
    ids[2:28, 4:56, 30:56] = 2
    tree = LabelMap([Label(1, "first", "A", 3), Label(2, "second", "B", 3), Label(3, "all", "all")])
    return Annotation(Volume(ids, "zyx", STEP), tree, "asl")


def scattered(rng, count, low=4.0, high=55.0):
    return np.column_stack(
        [rng.uniform(2, 27, count), rng.uniform(4, 55, count), rng.uniform(low, high, count)]
    )


def counted(array, brain):
    return count_cells(points_of(array), STEP, brain, half="both")


def test_shares_are_those_of_all_distances(brain):
    rng = np.random.default_rng(0)
    first, second = scattered(rng, 150), scattered(rng, 200)
    found = coexpression(
        counted(first, brain), counted(second, brain), STEP, brain, 20.0, draws=3, fewest=1
    ).set_index("region")
    near = (cdist(first * STEP, second * STEP) < 20.0).any(axis=1)
    left = first[:, 2] < 29.5
    assert found.loc["all", "with_second"] == near.sum() and found.loc["all", "cells"] == 150
    assert found.loc["A", "with_second"] == near[left].sum()
    assert found.loc["B", "share"] == pytest.approx(near[~left].mean())


def test_the_tolerance_is_strict(brain):
    first, second = [[10.0, 10, 10]], [[10.0, 10, 12]]  # 8 um apart
    pair = counted(first, brain), counted(second, brain)
    assert coexpression(*pair, STEP, brain, 8.0, draws=1, fewest=1)["with_second"].eq(0).all()
    assert coexpression(*pair, STEP, brain, 8.001, draws=1, fewest=1)["with_second"].eq(1).all()


def test_planted_pairs_stand_out_and_others_do_not(brain):
    rng = np.random.default_rng(1)
    first, alone = scattered(rng, 400), scattered(rng, 400)
    planted = np.vstack([first[:120] + rng.normal(0, 0.05, (120, 3)), scattered(rng, 280)])
    both = coexpression(counted(first, brain), counted(planted, brain), STEP, brain, 5.0, draws=40)
    row = both.set_index("region").loc["all"]
    assert row["share"] >= 0.3 and row["chance"] < 0.05 and row["p"] == pytest.approx(1 / 41)
    none = coexpression(counted(first, brain), counted(alone, brain), STEP, brain, 12.0, draws=40)
    row = none.set_index("region").loc["all"]
    # Chance is what the second marker's density says: 1 - exp(-density x ball).
    density = 400 / (26 * 52 * 52 * np.prod(STEP))
    expected = 1 - np.exp(-density * 4 / 3 * np.pi * 12**3)
    assert row["chance"] == pytest.approx(expected, rel=0.2)
    assert row["p"] > 0.02 and 0.3 < row["ratio"] < 2.5


def test_nearest_distances_are_those_of_all_pairs(brain):
    rng = np.random.default_rng(2)
    first, second = scattered(rng, 80), scattered(rng, 90)
    found = proximity(
        counted(first, brain), counted(second, brain), brain, regions=["A", "B", "all"], draws=5
    ).set_index("region")
    for region, low, high in (("A", 0, 29.5), ("B", 29.5, 99), ("all", 0, 99)):
        mine = first[(first[:, 2] >= low) & (first[:, 2] < high)] * STEP
        theirs = second[(second[:, 2] >= low) & (second[:, 2] < high)] * STEP
        nearest = cdist(mine, theirs).min(axis=1)
        assert found.loc[region, "mean_um"] == pytest.approx(nearest.mean())
        assert found.loc[region, "median_um"] == pytest.approx(np.median(nearest))
        assert found.loc[region, "cells_second"] == len(theirs)


def test_attraction_repulsion_and_neither(brain):
    rng = np.random.default_rng(3)
    first = scattered(rng, 150)
    near = first[:, None] + rng.normal(0, 0.3, (150, 2, 3))
    near = near.reshape(-1, 3).clip((2, 4, 4), (27, 55, 55))
    everywhere = scattered(rng, 3000)
    away = everywhere[cdist(everywhere * STEP, first * STEP).min(axis=1) > 25][:300]
    random = scattered(rng, 300)
    rows = {
        name: proximity(counted(first, brain), counted(other, brain), brain, regions=["all"], draws=60)
        .iloc[0]
        for name, other in (("near", near), ("away", away), ("random", random))
    }  # fmt: skip
    assert rows["near"]["ratio"] < 0.5 and rows["near"]["z"] < -5
    assert rows["near"]["p"] == pytest.approx(2 / 61)
    assert rows["away"]["ratio"] > 1.2 and rows["away"]["z"] > 5
    assert 0.9 < rows["random"]["ratio"] < 1.1 and rows["random"]["p"] > 0.02


def test_chance_lies_in_the_half_that_is_counted(brain):
    rng = np.random.default_rng(4)
    cells = count_cells(points_of(scattered(rng, 100, high=29)), STEP, brain)
    others = count_cells(points_of(scattered(rng, 100, high=29)), STEP, brain)
    assert cells.half == "left"
    row = proximity(cells, others, brain, regions=["all"], draws=30).iloc[0]
    # Over both halves chance would be sparser, and the ratio near 0.8.
    assert 0.9 < row["ratio"] < 1.1
    with pytest.raises(DataError, match="same half"):
        proximity(cells, counted(scattered(rng, 100), brain), brain)


def test_seeds_and_batches(brain, monkeypatch):
    from brodmann.atlas import relate

    rng = np.random.default_rng(5)
    pair = counted(scattered(rng, 60), brain), counted(scattered(rng, 60), brain)
    once = proximity(*pair, brain, draws=6, seed=1)
    pd.testing.assert_frame_equal(once, proximity(*pair, brain, draws=6, seed=1))
    monkeypatch.setattr(relate, "MOST_POINTS", 1)
    pd.testing.assert_frame_equal(once, proximity(*pair, brain, draws=6, seed=1))
    other = proximity(*pair, brain, draws=6, seed=2)
    assert (once["mean_um"] == other["mean_um"]).all()
    assert (once["chance_um"] != other["chance_um"]).all()
    shared = [coexpression(*pair, STEP, brain, 20.0, draws=5, seed=s) for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(shared[0], shared[1])
    assert (shared[0]["chance"] != shared[2]["chance"]).any()


def test_few_cells_and_nothing(brain):
    rng = np.random.default_rng(6)
    many, few = counted(scattered(rng, 60, high=29), brain), counted([[10.0, 10, 10]], brain)
    none = counted(np.empty((0, 3)), brain)
    assert coexpression(few, many, STEP, brain, 5.0, draws=2).empty
    found = coexpression(many, none, STEP, brain, 5.0, draws=2)
    assert found["share"].eq(0).all() and found["ratio"].isna().all() and found["p"].eq(1).all()
    assert proximity(many, none, brain, draws=2).empty
    assert proximity(many, few, brain, draws=2)["region"].tolist() == ["A"]


def test_bad_options(brain):
    one = counted([[10.0, 10, 10]], brain)
    with pytest.raises(RecipeError, match="tolerance"):
        coexpression(one, one, STEP, brain, 0.0)
    with pytest.raises(RecipeError, match="shift"):
        coexpression(one, one, STEP, brain, 1.0, shift_um=(5, 1))
    with pytest.raises(RecipeError, match="draw"):
        proximity(one, one, brain, draws=0)
    with pytest.raises(DataError, match="no label"):
        proximity(one, one, brain, regions=["zz"])
