"""Readouts and their scores against scikit-learn, and against leaks."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from brodmann.core import DataError, keyed_rng
from brodmann.metrics import bootstrap
from brodmann.metrics.linear import STRENGTHS, _class_folds, _value_folds
from brodmann.metrics.readout import (
    accuracy,
    balanced_accuracy,
    cluster_interval,
    linear_classifier,
    linear_regressor,
    r2,
)

REGIONS = ("CTX", "STR", "VP", "ZI")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(REGIONS), st.sampled_from(REGIONS)), min_size=1))
def test_accuracies_are_sklearns(pairs):
    truth, guess = zip(*pairs)
    assert accuracy(truth, guess) == pytest.approx(metrics.accuracy_score(truth, guess))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of guesses that are nowhere true
        wanted = metrics.balanced_accuracy_score(truth, guess)
    assert balanced_accuracy(truth, guess) == pytest.approx(wanted)
    assert balanced_accuracy(truth, guess, REGIONS) == pytest.approx(wanted)


def test_a_guess_that_is_no_class_is_wrong_and_a_truth_refused():
    assert balanced_accuracy(["CTX", "ZI"], ["CTX", "moon"], REGIONS) == 0.5
    with pytest.raises(DataError, match="none of the classes"):
        balanced_accuracy(["moon"], ["CTX"], REGIONS)
    with pytest.raises(DataError, match="nothing to score"):
        accuracy([], [])
    with pytest.raises(DataError, match="equal numbers"):
        accuracy(["a"], ["a", "b"])


def test_r2_is_sklearns_where_it_has_one():
    rng = keyed_rng(0, "r2")
    truth = rng.normal(size=(50, 3)) * (1, 100, 0.01) + (0, 5, -3)
    guess = truth + rng.normal(size=(50, 3)) * (0.1, 100, 0.1)
    np.testing.assert_allclose(
        r2(truth, guess), metrics.r2_score(truth, guess, multioutput="raw_values"), rtol=1e-12
    )
    assert r2(truth[:, 0], guess[:, 0]) == pytest.approx(r2(truth, guess)[0])


def test_r2_leaves_unknown_truth_out_and_has_none_for_a_constant():
    truth = np.array([1.0, np.nan, 2.0, 4.0])
    guess = np.array([1.5, np.nan, 2.0, 3.0])
    assert r2(truth, guess) == pytest.approx(metrics.r2_score(truth[[0, 2, 3]], guess[[0, 2, 3]]))
    assert np.isnan(r2([3.0, 3.0], [3.0, 4.0])) and np.isnan(r2([1.0], [1.0]))
    assert np.isnan(r2([0.1 + 0.2, 0.3], [0.3, 0.3])) and np.isnan(r2([np.nan], [np.nan]))
    with pytest.raises(DataError, match=r"not finite.*row 2"):
        r2(truth, [1.0, 0.0, np.nan, 2.0])
    with pytest.raises(DataError, match="infinite"):
        r2([1.0, np.inf], [1.0, 2.0])


def regions(seed=0, per_class=40, width=12, noise=1.5):
    """Features with a class mean, some with large scale or none at all, and their truth."""
    rng = keyed_rng(seed, "regions")
    truth = np.repeat(REGIONS, per_class)
    means = {name: rng.normal(size=width) for name in REGIONS}
    features = np.stack([means[t] for t in truth]) + noise * rng.normal(size=(len(truth), width))
    features *= 10.0 ** rng.integers(-3, 4, width)
    features[:, 3] = 7.7
    return features, truth


@pytest.mark.parametrize("kinds", [2, 4])
@pytest.mark.parametrize("strength", [1e-3, 1e-1, 10.0])
def test_the_classifier_is_sklearns_on_standardised_features(kinds, strength):
    features, truth = regions()
    keep = np.isin(truth, REGIONS[:kinds])
    features, truth = features[keep], truth[keep]
    model = linear_classifier(features, truth, strengths=(strength,))
    scaler = StandardScaler().fit(features)
    # C is the penalty's inverse for the summed loss.
    peer = LogisticRegression(C=1 / (strength * len(truth)), tol=1e-10, max_iter=10_000)
    peer.fit(scaler.transform(features), truth)
    again, _ = regions(seed=1)
    for at in (features, again):
        np.testing.assert_allclose(
            model.probabilities(at), peer.predict_proba(scaler.transform(at)), atol=1e-4
        )
    assert model.classes == REGIONS[:kinds] and model.strength == strength
    assert (model.predict(features) == peer.predict(scaler.transform(features))).all()


@pytest.mark.parametrize("strength", [1e-4, 1e-1, 100.0])
@pytest.mark.parametrize("shape", [(60, 8), (20, 35)])
def test_the_regressor_is_sklearns_ridge(strength, shape):
    rng = keyed_rng(0, "ridge", *shape)
    features = rng.normal(size=shape) * 10.0 ** rng.integers(-2, 3, shape[1]) + 4
    values = rng.normal(size=(shape[0], 3)) + features[:, :1]
    values[::7, 1] = np.nan
    model = linear_regressor(features, values, strengths=(strength,))
    fresh = rng.normal(size=(5, shape[1])) + 4
    for column in range(3):
        known = ~np.isnan(values[:, column])
        scaler = StandardScaler().fit(features[known])
        peer = Ridge(alpha=strength * known.sum())
        peer.fit(scaler.transform(features[known]), values[known, column])
        np.testing.assert_allclose(
            model.predict(fresh)[:, column], peer.predict(scaler.transform(fresh)), rtol=1e-8
        )
    flat = linear_regressor(features, values[:, 0], strengths=(strength,))
    np.testing.assert_allclose(flat.predict(fresh), model.predict(fresh)[:, 0], rtol=1e-12)


def test_columns_that_are_nowhere_known_are_answered_with_nan():
    features = np.arange(10.0)[:, None]
    values = np.stack([features[:, 0], np.full(10, np.nan)], 1)
    guess = linear_regressor(features, values, strengths=(1e-9,)).predict(features)
    assert np.isnan(guess[:, 1]).all() and r2(values[:, 0], guess[:, 0]) > 0.999


def held_out_choice(features, truth, folds):
    """The strength with the best balanced accuracy on these folds, by scikit-learn alone."""
    scores = {}
    for strength in STRENGTHS:
        guess, logs = np.empty(len(truth), object), 0.0
        for held in folds:
            scaler = StandardScaler().fit(features[~held])
            peer = LogisticRegression(
                C=1 / (strength * (~held).sum()), tol=1e-8, max_iter=10_000
            ).fit(scaler.transform(features[~held]), truth[~held])
            shares = peer.predict_proba(scaler.transform(features[held]))
            guess[held] = peer.classes_[shares.argmax(1)]
            own = np.searchsorted(peer.classes_, truth[held])
            logs += np.log(shares[np.arange(len(own)), own]).sum()
        score = metrics.balanced_accuracy_score(truth.astype(str), guess.astype(str))
        scores[strength] = (round(score, 9), logs)
    return max(scores, key=lambda key: (scores[key], key))


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_the_strength_is_that_of_held_out_groups(noise):
    features, truth = regions(noise=noise, per_class=25, width=30)
    groups = np.arange(len(truth)) % 10
    at = np.unique(truth, return_inverse=True)[1]
    folds, how = _class_folds(at, groups, 5)
    model = linear_classifier(features, truth, groups=groups.tolist())
    assert how == model.folds == "groups"
    assert model.strength == held_out_choice(features, truth, folds)


def test_ridge_strength_is_that_of_held_out_groups():
    rng = keyed_rng(0, "ridge choice")
    features = rng.normal(size=(40, 30))
    values = np.stack([features @ rng.normal(size=30), rng.normal(size=40)], 1)
    groups = np.repeat(np.arange(8), 5)
    model = linear_regressor(features, values, groups=groups)
    folds, _ = _value_folds(40, groups, 5)
    for column in range(2):
        error = {}
        for strength in STRENGTHS:
            error[strength] = 0.0
            for held in folds:
                scaler = StandardScaler().fit(features[~held])
                peer = Ridge(alpha=strength * (~held).sum())
                peer.fit(scaler.transform(features[~held]), values[~held, column])
                guess = peer.predict(scaler.transform(features[held]))
                error[strength] += ((guess - values[held, column]) ** 2).sum()
        assert model.strength[column] == min(error, key=error.get)
    assert model.strength[0] < model.strength[1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=8, max_size=60))
def test_a_group_is_on_one_side_and_every_sample_held_out_once(pairs):
    at, groups = (np.array(column) for column in zip(*pairs))
    at = np.unique(at, return_inverse=True)[1]
    if at.max() == 0:
        return
    parts, how = _class_folds(at, groups, 5)
    times = np.sum(parts, axis=0) if parts else np.zeros(len(at))
    assert (times <= 1).all()
    for held in parts:
        assert held.any() and len(np.unique(at[~held])) > 1
        if how == "groups":
            assert not set(groups[held]) & set(groups[~held])
    if how == "neighbours":
        assert (times == 1).all()
    parts, how = _value_folds(len(at), groups, 5)
    assert (np.sum(parts, axis=0) == 1).all() and all((~held).any() for held in parts)
    if how == "groups":
        assert all(not set(groups[held]) & set(groups[~held]) for held in parts)


def test_groups_keep_copies_from_flattering_weak_penalties():
    """Each sample ten times over: only folds by group see that the features are noise."""
    rng = keyed_rng(0, "copies")
    features = np.repeat(rng.normal(size=(24, 40)), 10, 0) + 1e-3 * rng.normal(size=(240, 40))
    values, groups = np.repeat(rng.normal(size=24), 10), np.repeat(np.arange(24), 10)
    order = rng.permutation(240)
    leaked = linear_regressor(features[order], values[order])
    honest = linear_regressor(features[order], values[order], groups=groups[order])
    assert honest.strength[0] > 1e3 * leaked.strength[0]


def test_one_group_a_class_falls_back_and_says_so():
    features, truth = regions()
    model = linear_classifier(features, truth, groups=truth.tolist())
    assert model.folds == "neighbours"
    assert accuracy(truth, model.predict(features)) > 0.8


def test_nothing_of_the_test_features_is_learnt():
    features, truth = regions()
    values = features[:, :2] * 3
    classifier, regressor = linear_classifier(features, truth), linear_regressor(features, values)
    new = features[:7] + 1
    alone = classifier.probabilities(new[:1]), regressor.predict(new[:1])
    together = np.concatenate([new, 1e6 * new])
    np.testing.assert_allclose(classifier.probabilities(together)[:1], alone[0], rtol=1e-12)
    np.testing.assert_allclose(regressor.predict(together)[:1], alone[1], rtol=1e-12)


def test_the_same_input_gives_the_same_readout():
    features, truth = regions(noise=4)
    one, other = (linear_classifier(features, truth) for _ in range(2))
    assert one.strength == other.strength and (one.weights == other.weights).all()


def test_a_single_sample_a_class_still_gives_a_classifier():
    model = linear_classifier(np.array([[0.0], [1.0]]), ["a", "b"])
    assert model.folds == "none" and model.predict(np.array([[-1.0], [2.0]])).tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear_classifier(np.zeros((3, 2)), ["a", "a", "a"]), "two classes"),
        (lambda: linear_classifier(np.zeros((3, 2)), ["a", "b"]), "its truth"),
        (lambda: linear_classifier(np.zeros((3, 0)), ["a", "b", "b"]), "a row for each"),
        (lambda: linear_classifier(np.full((2, 2), np.nan), ["a", "b"]), "not finite.*row 0"),
        (lambda: linear_classifier(np.zeros((2, 2)), ["a", "b"], groups=[1]), "its group"),
        (lambda: linear_classifier(np.zeros((2, 2)), ["a", "b"], strengths=(0,)), "positive"),
        (lambda: linear_regressor(np.zeros((3, 2)), np.zeros(2)), "its values"),
        (lambda: linear_regressor(np.zeros((2, 2)), [0, np.inf]), "infinite.*row 1"),
        (lambda: linear_regressor(np.eye(3), np.arange(3.0)).predict(np.zeros((1, 2))), "3 columns"),
        (lambda: cluster_interval([1, 0], ["a", "b"]), "true or false"),
        (lambda: cluster_interval([True, False], ["a", "a"]), "two groups"),
        (lambda: cluster_interval([True, False], ["a", "a"], truth=["x", "y"]), "two clusters"),
        (lambda: cluster_interval([True, False], ["a", "b"], truth=["x"]), "a truth"),
    ],
)  # fmt: skip
def test_faults_are_named(call, words):
    with pytest.raises(DataError, match=words):
        call()


def test_the_interval_is_the_bootstraps():
    rng = keyed_rng(0, "hits")
    hit, clusters = rng.random(200) < 0.8, rng.integers(0, 20, 200)
    found = bootstrap(hit.astype(float), np.zeros(200), groups=clusters.tolist(), repeats=2000,
                      seed=3)  # fmt: skip
    assert cluster_interval(hit, clusters.tolist(), 3) == (found.low, found.high)
    # One class: balanced accuracy is accuracy, by the other way of counting.
    again = cluster_interval(hit, clusters.tolist(), 3, truth=["CTX"] * 200)
    assert again == pytest.approx((found.low, found.high), rel=1e-12)


def test_the_balanced_interval_is_that_of_all_draws():
    """Four clusters have 256 draws: each by itself, scored by the function for scores."""
    rng = keyed_rng(0, "balanced")
    clusters = np.repeat(np.arange(4), 15)
    truth = rng.choice(REGIONS[:3], 60, p=[0.7, 0.2, 0.1])
    guess = np.where(rng.random(60) < 0.7, truth, "ZI")
    scores = []
    for drawn in itertools.product(range(4), repeat=4):
        rows = np.concatenate([np.flatnonzero(clusters == one) for one in drawn])
        scores.append(balanced_accuracy(truth[rows], guess[rows]))
    low, high = np.quantile(scores, [0.05, 0.95], method="inverted_cdf")
    found = cluster_interval(truth == guess, clusters.tolist(), level=0.9, truth=truth.tolist())
    assert found == pytest.approx((low, high), rel=1e-12)


def test_clusters_widen_the_interval():
    """Neighbours that are right or wrong together say less than as many by themselves."""
    rng = keyed_rng(0, "width")
    hit = np.repeat(rng.random(30) < 0.7, 20)
    together = cluster_interval(hit, np.repeat(np.arange(30), 20).tolist())
    apart = cluster_interval(hit, list(range(600)))
    assert together[1] - together[0] > 3 * (apart[1] - apart[0])
    assert together[0] < hit.mean() < together[1]
