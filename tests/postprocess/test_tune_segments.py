"""Tuning: the best of all trials, and truths that tune nothing."""

import types

import numpy as np
import pytest
from made_neurites import neurites, noisy, perfect
from skimage.metrics import adapted_rand_error

from brodmann.core import Affinities, Convention, DataError, RecipeError
from brodmann.core.affinities import NEAREST
from brodmann.postprocess import METHODS, FragmentOptions, segment, tune

TRUTH = neurites((4, 40, 40), 6, seed=1)


def rand_error(truth, labels):
    return float(adapted_rand_error(truth, labels)[0])


def test_the_best_trial_wins_and_all_are_listed():
    affinities = noisy(TRUTH)
    options = [FragmentOptions(), FragmentOptions(sigma=1.0, min_size=20)]
    values = {"mean": [0.05, 0.4, 0.9], "mutex": [-0.2, 0.2]}
    found = tune(affinities, TRUTH, ["mean", "mutex"], rand_error, values, options)
    assert len(found.table) == 2 * 3 + 2  # the mutex watershed has no fragments
    best = min(found.table, key=lambda row: row["score"])
    assert (found.method, found.value, found.score) == (
        best["method"], best["value"], best["score"],
    )  # fmt: skip
    ((_, labels),) = segment(affinities, found.method, [found.value], found.fragment_options)
    assert rand_error(TRUTH, labels) == pytest.approx(found.score)
    assert best["segments"] == labels.max()
    for row in found.table:
        assert row["seconds"] >= 0 and row["parameter"] == METHODS[row["method"]].parameter
        assert ("sigma" in row) == (row["method"] == "mean")
    assert {row["sigma"] for row in found.table if "sigma" in row} == {2.0, 1.0}


def test_perfect_affinities_tune_to_no_error():
    found = tune(perfect(TRUTH), TRUTH, ["quantile50"], rand_error)
    assert found.score == 0
    assert len(found.table) == len(METHODS["quantile50"].values)


def test_scores_by_name():
    def both(truth, labels):
        return {"score": labels.max(), "half": labels.max() / 2}

    found = tune(noisy(TRUTH), TRUTH, ["mean"], both, {"mean": [0.1, 0.9]})
    assert found.value == 0.9
    assert [row["half"] for row in found.table] == [row["score"] / 2 for row in found.table]


def test_our_own_scores_are_the_default():
    clusters = pytest.importorskip("brodmann.metrics.clusters")
    affinities = noisy(TRUTH)
    found = tune(affinities, TRUTH, ["mean"], values={"mean": [0.1, 0.4]})
    assert isinstance(clusters, types.ModuleType)
    for row, (_, labels) in zip(found.table, segment(affinities, "mean", [0.1, 0.4])):
        assert row["arand"] == pytest.approx(rand_error(TRUTH, labels), abs=1e-6)
        assert row["vi"] == pytest.approx(row["vi_split"] + row["vi_merge"])
        assert row["score"] == pytest.approx(row["vi"] + row["arand"])


def test_what_tunes_nothing_is_refused():
    affinities = noisy(TRUTH)
    one = np.where(TRUTH == 1, 1, 0)
    with pytest.raises(DataError, match="one neuron"):
        tune(affinities, one, ["mean"], rand_error)
    with pytest.raises(DataError, match="one neuron"):
        tune(affinities, np.zeros_like(TRUTH), ["mean"], rand_error)
    turned = Affinities(affinities.volume, Convention(NEAREST, "boundary"))
    with pytest.raises(DataError, match="kind affinity"):
        tune(turned, TRUTH, ["mean"], rand_error)
    with pytest.raises(DataError, match="shape"):
        tune(affinities, TRUTH[1:], ["mean"], rand_error)
    with pytest.raises(RecipeError, match="did you mean 'mean'"):
        tune(affinities, TRUTH, ["meam"], rand_error)
    with pytest.raises(RecipeError, match="not tried"):
        tune(affinities, TRUTH, ["mean"], rand_error, {"gasp": [0.5]})
    with pytest.raises(RecipeError, match="nothing to tune"):
        tune(affinities, TRUTH, [], rand_error)
    with pytest.raises(DataError, match="no trial"):
        tune(affinities, TRUTH, ["mean"], lambda truth, labels: float("nan"))
