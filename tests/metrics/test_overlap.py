"""Overlap against scikit-learn and loops over masks; the rule for absent classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import jaccard_score, precision_recall_fscore_support

from brodmann.core import DataError, Label, LabelMap
from brodmann.metrics import coarse_classes, confusions, contingency, overlap, roll_up

TREE = LabelMap(
    [
        Label(10, "Thalamus", "TH"),
        Label(11, "Hippocampus", "HPF"),
        Label(1, "Ventral posterior", "VP", 10),
        Label(2, "CA1", "CA1", 11),
        Label(3, "Lateral geniculate", "LG", 10),
        Label(4, "Dentate gyrus", "DG", 11),
    ],
    ignore=255,
)
IMAGES = arrays(np.int16, (12, 11), elements=st.integers(0, 4))


@settings(deadline=None, max_examples=40)
@given(IMAGES, IMAGES)
def test_every_score_matches_sklearn(truth, prediction):
    found = overlap(contingency(truth, prediction, 5), background=True)
    present = [c for c in range(5) if (truth == c).any() or (prediction == c).any()]
    t, p = truth.ravel(), prediction.ravel()
    precision, recall, f1, support = precision_recall_fscore_support(
        t, p, labels=present, zero_division=0
    )
    iou = jaccard_score(t, p, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(found.precision[present], precision)
    np.testing.assert_allclose(found.recall[present], recall)
    np.testing.assert_allclose(found.dice[present], f1)
    np.testing.assert_allclose(found.iou[present], iou)
    np.testing.assert_array_equal(found.truth_pixels[present], support)
    assert np.flatnonzero(found.counted).tolist() == present
    assert found.mean["mean_dice"] == found.mean["mean_f1"] == pytest.approx(f1.mean())
    assert found.mean["mean_iou"] == pytest.approx(iou.mean())
    assert found.mean["mean_precision"] == pytest.approx(precision.mean())
    assert found.mean["mean_recall"] == pytest.approx(recall.mean())


def test_absent_classes():
    # 1 in both, 2 in the truth only, 3 in the prediction only, 4 in neither.
    truth = np.array([1, 1, 1, 2, 0, 0])
    prediction = np.array([1, 1, 0, 0, 3, 0])
    found = overlap(contingency(truth, prediction, 5))
    assert found.counted.tolist() == [False, True, True, True, False]
    assert found.dice[1] == pytest.approx(0.8)
    for index in (2, 3):
        scores = [getattr(found, k)[index] for k in ("dice", "iou", "precision", "recall")]
        assert scores == [0, 0, 0, 0]
    assert np.isnan(found.dice[4]) and np.isnan(found.recall[4])
    assert found.mean["mean_dice"] == pytest.approx(0.8 / 3)
    assert found.mean["mean_precision"] == pytest.approx(1 / 3)
    assert found.tp.tolist()[1:] == [2, 0, 0, 0]
    assert found.fp.tolist()[1:] == [0, 0, 1, 0]
    assert found.fn.tolist()[1:] == [1, 1, 0, 0]


def test_background_only_on_request():
    counts = np.array([[90, 0], [10, 0]])
    assert overlap(counts).mean["mean_dice"] == 0
    both = overlap(counts, background=True)
    assert both.mean["mean_dice"] == pytest.approx((180 / 190) / 2)
    assert [row["id"] for row in both.rows()] == [0, 1]
    assert [row["id"] for row in overlap(counts).rows()] == [1]


def test_nothing_to_score_is_none_and_json():
    found = overlap(np.array([[50, 0], [0, 0]]))
    assert found.mean == dict.fromkeys(found.mean, None)
    text = json.dumps({"rows": found.rows(), **found.mean}, allow_nan=False)
    assert json.loads(text)["rows"][0]["dice"] is None


def test_exclude_by_acronym_or_id_keeps_errors_of_the_others():
    counts = np.array(
        [[9, 0, 0, 0, 0], [0, 5, 1, 0, 0], [0, 2, 4, 0, 0], [0, 0, 0, 6, 0], [0, 0, 0, 0, 7]]
    )
    everything = overlap(counts, TREE)
    for name in ("CA1", "2", 2):
        found = overlap(counts, TREE, exclude=[name])
        assert found.mean["mean_dice"] == pytest.approx(np.mean(everything.dice[[1, 3, 4]]))
        row = next(row for row in found.rows() if row["acronym"] == "CA1")
        assert not row["counted"] and row["dice"] == pytest.approx(everything.dice[2])
    with pytest.raises(DataError, match=r"'CA2'.*CA1"):
        overlap(counts, TREE, exclude=["CA2"])


def test_a_matrix_of_another_map_is_refused():
    with pytest.raises(DataError, match="5 x 5"):
        overlap(np.zeros((4, 4), int), TREE)
    with pytest.raises(DataError, match="whole numbers"):
        overlap(np.zeros((4, 4)))


@settings(deadline=None, max_examples=30)
@given(IMAGES, IMAGES)
def test_roll_up_of_the_matrix_is_the_matrix_of_rolled_up_images(truth, prediction):
    counts = contingency(truth, prediction, 5)
    coarse_counts, coarse = roll_up(counts, TREE)
    assert [label.acronym for label in coarse] == ["TH", "HPF"]
    lut = np.array([0, 1, 2, 1, 2])  # VP, CA1, LG, DG
    np.testing.assert_array_equal(coarse_counts, contingency(lut[truth], lut[prediction], 3))
    np.testing.assert_array_equal(coarse_classes(TREE)[0], lut)


def test_roll_up_to_some_regions_leaves_the_rest_out():
    truth = np.array([1, 3, 2, 2, 0, 1])
    prediction = np.array([3, 2, 2, 1, 4, 1])
    counts, coarse = roll_up(contingency(truth, prediction, 5), TREE, targets=[10])
    # True CA1 is skipped; predicted CA1 and DG are background.
    assert coarse.class_names == ["background", "TH"]
    assert counts.tolist() == [[1, 0], [1, 2]]


def test_confusions_against_a_loop():
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 5, (2, 4000))
    prediction[truth == 3] = 4
    counts = contingency(truth, prediction, 5)
    for background in (False, True):
        pairs = []
        for t in range(5):
            for p in range(5):
                pixels = int(((truth == t) & (prediction == p)).sum())
                if t != p and pixels and (background or t * p):
                    pairs.append((pixels, t, p, pixels / int((truth == t).sum())))
        pairs.sort(key=lambda one: (-one[0], one[1], one[2]))
        found = confusions(counts, TREE, 6, background=background)
        assert [one["pixels"] for one in found] == [pair[0] for pair in pairs[:6]]
        names = TREE.class_names
        assert [(one["truth"], one["predicted"]) for one in found] == [
            (names[t], names[p]) for _, t, p, _ in pairs[:6]
        ]
        assert [one["share"] for one in found] == pytest.approx([one[3] for one in pairs[:6]])
    assert confusions(np.diag([4, 5])) == []
