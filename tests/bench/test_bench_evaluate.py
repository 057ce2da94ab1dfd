"""Scores against scikit-learn and brute force, and answers that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from brodmann.bench.evaluate import check_result, gather, interval, mean_scores, score
from brodmann.bench.records import Metric, Task
from brodmann.bench.results import Evidence
from brodmann.bench.tasks import benchmarks
from brodmann.core import DataError, Label, LabelMap, ModelError, Sample, Volume

NAMES = ("CTX", "STR", "VP", "ZI")
KNOWN = {task.id: task for one in benchmarks().values() for task in one.tasks}
ROI, MICRO = KNOWN["mtneuro/roi-c1@v2"], KNOWN["mtneuro/micro-3class-2d@v2"]
MEASURES = KNOWN["phantom/attributes@v1"]
LABELS = LabelMap([Label(4, "v", "vessel"), Label(7, "c", "cell")], ignore=255)


def absent(task: Task, name: str, rule: str) -> Task:
    metrics = [
        Metric(name=m.name, aggregation=m.aggregation, absent=rule) if m.name == name else m
        for m in task.metrics
    ]
    return task.model_copy(update={"metrics": tuple(metrics)})


def pixel(**known):
    return Sample("a", Volume(np.zeros((2, 3), np.uint8), "yx", (1, 1)), **known)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1))
@pytest.mark.filterwarnings("ignore:.*y_pred contains classes")
@pytest.mark.filterwarnings("ignore:.*single label")
def test_categories_score_as_scikit_learn_says(pairs):
    truth, guess = zip(*pairs)
    found = score(ROI, Evidence(pairs={str(i): pair for i, pair in enumerate(pairs)}))
    assert found["accuracy"] == pytest.approx(peer.accuracy_score(truth, guess))
    assert found["balanced_accuracy"] == pytest.approx(peer.balanced_accuracy_score(truth, guess))
    for name in NAMES:
        if name not in truth:
            assert found[f"recall:{name}"] is None
    zero = score(
        absent(ROI, "balanced_accuracy", "zero"),
        Evidence(pairs={str(i): p for i, p in enumerate(pairs)}),
    )
    share = len(set(truth)) / 4
    assert zero["balanced_accuracy"] == pytest.approx(found["balanced_accuracy"] * share)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_labels_score_as_scikit_learn_says_of_all_pixels_pooled(seed):
    rng = np.random.default_rng(seed)
    ids = np.array([0, 4, 7, 255], np.uint8)
    samples = [
        Sample(str(i), image, image.like(ids[rng.integers(0, 4, (5, 6))]))
        for i, image in enumerate([Volume(np.zeros((5, 6), np.uint8), "yx", (1, 1))] * 3)
    ]
    guesses = [ids[rng.integers(0, 3, (5, 6))] for _ in samples]
    found = score(MICRO, gather(MICRO, zip(samples, guesses), LABELS))
    truth = np.concatenate([s.labels.numpy().ravel() for s in samples])
    guess = np.concatenate([g.ravel() for g in guesses])[truth != 255]
    truth = truth[truth != 255]
    for name, ours in (("f1", peer.f1_score), ("iou", peer.jaccard_score)):
        each = ours(truth, guess, labels=[0, 4, 7], average=None)
        assert [found[f"{name}:{c}"] for c in MICRO.labels] == pytest.approx(each)
        assert found[name] == pytest.approx(each.mean())


def test_a_class_in_neither_truth_nor_prediction():
    evidence = Evidence(table=((6, 2, 0), (0, 4, 0), (0, 0, 0)))
    found = score(MICRO, evidence)
    assert found["iou:cell"] is None and found["iou"] == pytest.approx((6 / 8 + 4 / 6) / 2)
    zero = score(absent(MICRO, "iou", "zero"), evidence)
    assert zero["iou"] == pytest.approx((6 / 8 + 4 / 6) / 3)
    # Predicted only, it counts 0 under either rule.
    assert score(MICRO, Evidence(table=((6, 0, 2), (0, 4, 0), (0, 0, 0))))["iou:cell"] == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_attributes_score_as_scikit_learn_says_of_known_values(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.normal(size=(2, 12, 5))
    truth[rng.random((12, 5)) < 0.2] = np.nan
    truth[:, 4] = 3.0
    answers = [
        (pixel(attributes=dict(zip(MEASURES.attributes, t))).with_(name=str(i)),
         dict(zip(MEASURES.attributes, g)))
        for i, (t, g) in enumerate(zip(truth, guess))
    ]  # fmt: skip
    found = score(MEASURES, gather(MEASURES, answers))
    expected = []
    for i, name in enumerate(MEASURES.attributes[:4]):
        known = np.isfinite(truth[:, i])
        expected.append(
            peer.r2_score(truth[known, i], guess[known, i]) if known.sum() > 1 else None
        )
        assert found[f"r2:{name}"] == (
            None if expected[-1] is None else pytest.approx(expected[-1])
        )
    assert found[f"r2:{MEASURES.attributes[4]}"] is None  # constant: no score
    assert found["r2"] == pytest.approx(np.mean([e for e in expected if e is not None]))


@pytest.mark.parametrize(
    ("task", "sample", "guess", "error", "told"),
    [
        (ROI, pixel(category="CTX"), "ctx", ModelError, "no category.*did you mean 'CTX'|known"),
        (ROI, pixel(category="CTX"), None, ModelError, "no category"),
        (ROI, pixel(category="TRN"), "CTX", DataError, "true category"),
        (ROI, pixel(), "CTX", DataError, "true category"),
        (MICRO, pixel(), np.zeros((2, 3), int), DataError, "without labels"),
        (MEASURES, pixel(), {}, DataError, "without this attribute"),
        (MEASURES, pixel(attributes=dict.fromkeys(MEASURES.attributes, 1.0)), {"cell_size": 1},
         ModelError, "lacks a number"),
        (MEASURES, pixel(attributes=dict.fromkeys(MEASURES.attributes, 1.0)),
         dict.fromkeys(MEASURES.attributes, float("nan")), ModelError, "lacks a number"),
        (MEASURES, pixel(attributes=dict.fromkeys(MEASURES.attributes, 1.0)), 3.0, ModelError,
         "attribute -> number"),
    ],
)  # fmt: skip
def test_answers_that_are_none(task, sample, guess, error, told):
    with pytest.raises(error, match=told):
        gather(task, [(sample, guess)], LABELS)


def test_labels_that_are_none():
    labels = Volume(np.zeros((2, 3), np.uint8), "yx", (1, 1))
    for guess in (np.zeros((3, 2), int), np.zeros((2, 3)), "x"):
        with pytest.raises(ModelError, match="on the image's grid"):
            gather(MICRO, [(pixel(labels=labels), guess)], LABELS)
    with pytest.raises(DataError, match="no class"):
        gather(MICRO, [(pixel(labels=labels), np.full((2, 3), 9))], LABELS)
    other = LabelMap([Label(4, "c", "cell"), Label(7, "v", "vessel")])
    with pytest.raises(DataError, match="not the task's"):
        gather(MICRO, [(pixel(labels=labels), np.zeros((2, 3), int))], other)
    with pytest.raises(DataError, match="no sample"):
        gather(MICRO, [], LABELS)


def test_means_over_splits_leave_out_what_is_missing():
    found = mean_scores(
        {"a": {"x": 1.0, "y": None, "z": None}, "b": {"x": 0.0, "y": 0.5, "z": None}}
    )
    assert found == {"x": 0.5, "y": 0.5, "z": None}


def test_the_interval_widens_when_samples_hang_together():
    rng = np.random.default_rng(0)
    names = [NAMES[i % 4] for i in range(240)]
    right = rng.random(24) < 0.7
    alone = {
        str(i): (name, name if right[i // 4 % 24] else NAMES[NAMES.index(name) - 1])
        for i, name in enumerate(names)
    }
    single = Evidence(pairs=alone, clusters={n: n for n in alone})
    joined = Evidence(pairs=alone, clusters={n: f"{alone[n][0]}{int(n) // 4 % 24}" for n in alone})
    narrow, wide = (interval(ROI, [{"s": one}]) for one in (single, joined))
    centre = score(ROI, single)["balanced_accuracy"]
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert narrow[0] < centre < narrow[1]
    few = Evidence(pairs=alone, clusters={n: alone[n][0] for n in alone})
    assert interval(ROI, [{"s": few}]) is None


def test_scores_must_follow_from_their_evidence():
    from test_bench_results import result

    pairs = {"a": ("CTX", "CTX"), "b": ("CTX", "ZI")}
    task = ROI.model_copy(update={"counts": {"c1-v2": {"test": {"CTX": 2}}}})
    raw = {"c1-v2": Evidence(pairs=pairs)}
    scores = score(task, raw["c1-v2"])
    fields = {"task": task.id, "raw": raw, "per_split": {"c1-v2": scores}, "scores": scores}
    check_result(task, result(**fields))
    with pytest.raises(DataError, match=r"does not follow.*scores.accuracy.*evidence says 0.5"):
        check_result(task, result(**fields | {"scores": scores | {"accuracy": 0.9}}))
    with pytest.raises(DataError, match="does not follow"):
        check_result(task, result(**fields | {"per_split": {"c1-v2": {"accuracy": 0.5}}}))
    with pytest.raises(DataError, match="does not follow"):
        check_result(task, result(**fields | {"scores": scores | {"extra": 1.0}}))
    with pytest.raises(DataError, match="tested on other data"):
        check_result(ROI, result(**fields))
    with pytest.raises(DataError, match="other splits"):
        check_result(
            task, result(**fields | {"raw": {"x": raw["c1-v2"]}, "per_split": {"x": scores}})
        )
    wrong = {"raw": {"c1-v2": Evidence(table=((1,),))}}
    with pytest.raises(DataError, match="another answer"):
        check_result(task, result(**fields | wrong))
