"""VI and ARAND: against closed forms, skimage, a dictionary, and themselves in parts."""

import csv
from collections import Counter
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from brodmann.core import DataError, RecipeError, Volume
from brodmann.metrics.clusters import (
    ClusterTable,
    border_mask,
    cluster_scores,
    cluster_table,
    neuron_errors,
    scores_of_table,
    table,
)

DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def pair(seed, shape=(4, 9, 11), high=6, low=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(low, high, shape), rng.integers(0, high + 2, shape))


def counted(truth, segments, keep=None):
    mask = np.ones(truth.shape, bool) if keep is None else keep
    return Counter(zip(truth[mask].tolist(), segments[mask].tolist()))


def as_dict(found):
    return dict(
        zip(zip(found.truth_ids.tolist(), found.segment_ids.tolist()), found.counts.tolist())
    )


@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", [np.uint8, np.int64, np.uint64])
def test_the_table_is_a_dictionarys(left, right):
    truth, segments = pair(0)
    found = cluster_table(truth.astype(left), segments.astype(right), ignore=None)
    assert as_dict(found) == counted(truth, segments)


def test_ids_beyond_what_a_float_holds_stay_apart():
    truth = np.array([[1, 2, 2**63, 2**63 + 1]], np.uint64)
    segments = np.array([[2**64 - 1, 2**64 - 2, 2**53, 2**53 + 1]], np.uint64)
    assert as_dict(cluster_table(truth, segments)) == counted(truth, segments)


def test_ids_that_differ_in_high_bits_alone_are_as_quick():
    truth, segments = pair(2, (60, 200), high=3000, low=1)
    found = cluster_table(truth.astype(np.uint64) << np.uint64(48), segments)
    plain = cluster_table(truth, segments)
    np.testing.assert_array_equal(np.sort(found.counts), np.sort(plain.counts))
    assert len(found.counts) > 10_000
    with pytest.raises(RecipeError, match="ignore"):
        cluster_table(truth, segments, ignore=-1)


def test_a_table_of_very_many_pairs_grows(monkeypatch):
    monkeypatch.setattr(table, "FIRST_SLOTS", 4)
    truth, segments = pair(1, (30, 40), high=1000, low=1)
    assert as_dict(cluster_table(truth, segments)) == counted(truth, segments)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_slabs_threads_and_masks_change_nothing(seed, slab, workers, masked):
    truth, segments = pair(seed, (5, 6, 7))
    keep = np.random.default_rng(seed).random(truth.shape) < 0.6 if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "SLAB_VOXELS", slab * 42)
        found = cluster_table(truth, segments, ignore=None, keep=keep, workers=workers)
    assert as_dict(found) == counted(truth, segments, keep)
    parts = [cluster_table(truth[z], segments[z], ignore=None,
                           keep=None if keep is None else keep[z]) for z in range(5)]  # fmt: skip
    for other in (ClusterTable.merged(parts[::-1]), parts[0] + ClusterTable.merged(parts[1:])):
        for name in ("truth_ids", "segment_ids", "counts"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found, name))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999))
def test_scores_are_skimages(seed):
    truth, segments = pair(seed)
    found = cluster_scores(truth, segments, zero="segment")
    inside = truth > 0
    split, merge = variation_of_information(truth[inside], segments[inside])
    error, precision, recall = adapted_rand_error(truth, segments, ignore_labels=(0,))
    assert found.vi_split == pytest.approx(split, abs=1e-12)
    assert found.vi_merge == pytest.approx(merge, abs=1e-12)
    assert found.arand == pytest.approx(error, abs=1e-12)
    # skimage's names for these two are each other's.
    assert found.arand_precision == pytest.approx(recall, abs=1e-12)
    assert found.arand_recall == pytest.approx(precision, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999))
def test_names_of_ids_do_not_matter_and_swapping_turns_split_to_merge(seed):
    truth, segments = pair(seed, low=1)
    segments = segments + 1
    rng = np.random.default_rng(seed)
    names = rng.permutation(40) + 1
    first, again = (
        cluster_scores(a, b) for a, b in ((truth, segments), (names[truth], names[segments]))
    )
    assert first.as_dict() == pytest.approx(again.as_dict(), abs=1e-12)
    turned = cluster_scores(segments, truth)
    assert (turned.vi_split, turned.vi_merge) == pytest.approx((first.vi_merge, first.vi_split))
    assert turned.arand == pytest.approx(first.arand)
    assert turned.arand_precision == pytest.approx(first.arand_recall)


def test_closed_forms():
    truth = np.repeat([1, 2, 3, 4], 8).reshape(4, 8)
    right = cluster_scores(truth, truth + 10)
    assert right.vi == 0 and right.arand == 0 and right.arand_precision == 1
    one = cluster_scores(truth, np.ones_like(truth))
    assert (one.vi_split, one.vi_merge, one.arand_recall) == (0, 2, 1)
    assert one.arand_precision == pytest.approx(4 * 8 * 7 / (32 * 31))
    crumbs = cluster_scores(truth, np.arange(32).reshape(4, 8))
    assert (crumbs.vi_split, crumbs.vi_merge, crumbs.arand) == (3, 0, 1)


def test_segment_0_is_a_segment_or_singletons():
    truth, segments = pair(3, low=1)
    loose = segments == 0
    apart = segments.copy()
    apart[loose] = 1000 + np.arange(loose.sum())
    assert loose.sum() > 10
    expected = cluster_scores(truth, apart)
    found = cluster_scores(truth, segments, zero="singletons")
    assert found.as_dict() == pytest.approx(expected.as_dict(), abs=1e-12)
    plain = cluster_scores(truth, segments, zero="segment")
    assert plain.vi != pytest.approx(expected.vi) and plain.arand != pytest.approx(expected.arand)
    cremi = cluster_scores(truth, segments)
    assert (cremi.vi_split, cremi.vi_merge) == (plain.vi_split, plain.vi_merge)
    for name in ("arand", "arand_precision", "arand_recall"):
        assert getattr(cremi, name) == pytest.approx(getattr(expected, name), abs=1e-12)
    with pytest.raises(RecipeError, match="singletons"):
        cluster_scores(truth, segments, zero="none")


def test_each_slice_by_itself():
    truth, segments = pair(5, low=1)
    segments += 1
    found = cluster_scores(truth, segments, per_slice=True)
    alone = [cluster_scores(t, s) for t, s in zip(truth, segments)]
    for name in ("vi_split", "vi_merge", "arand", "arand_recall", "voxels"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(a, name) for a in alone]))
    truth[2] = 0  # an empty slice is left out
    kept = cluster_scores(truth, segments, per_slice=True)
    assert kept.vi == pytest.approx(np.mean([alone[i].vi for i in (0, 1, 3)]))


def near_by_force(ids, distance, spacing, in_plane):
    out = np.zeros(ids.shape, bool)
    axes = (1, 2) if in_plane else (0, 1, 2)
    border = []
    for v in np.ndindex(*ids.shape):
        for axis in axes:
            for d in (-1, 1):
                u = list(v)
                u[axis] += d
                if 0 <= u[axis] < ids.shape[axis] and ids[tuple(u)] != ids[v]:
                    border.append(v)
    border = np.array(border)
    for v in np.ndindex(*ids.shape):
        some = border[border[:, 0] == v[0]] if in_plane else border
        gap = (some - v) * spacing
        out[v] = len(some) and np.sqrt((gap**2).sum(1)).min() <= distance
    return out


@pytest.mark.parametrize("in_plane", [True, False])
@pytest.mark.parametrize("distance", [0, 0.02, 0.031])
def test_the_border_is_where_distances_say(in_plane, distance):
    spacing = (0.02, 0.01, 0.01)
    ids = ndimage.zoom(np.random.default_rng(0).integers(0, 4, (2, 3, 3)), 4, order=0)
    expected = near_by_force(ids, distance, spacing, in_plane)
    found = border_mask(ids, distance, spacing, in_plane=in_plane)
    np.testing.assert_array_equal(found, expected)
    parts = [
        border_mask(ids, distance, spacing, in_plane=in_plane, slab=slice(z, z + 3))
        for z in range(0, 8, 3)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_what_is_near_a_border_is_not_counted():
    ids = ndimage.zoom(np.random.default_rng(1).integers(1, 5, (2, 3, 3)), 6, order=0)
    truth = Volume(ids, "zyx", (0.02, 0.01, 0.01))
    segments = np.random.default_rng(2).integers(1, 9, ids.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "SLAB_VOXELS", 3 * 18 * 18)
        found = cluster_scores(truth, segments, border_um=0.015, in_plane=False)
    near = border_mask(ids, 0.015, truth.spacing, in_plane=False)
    expected = scores_of_table(cluster_table(ids, segments, keep=~near))
    assert found == expected and found.voxels == (~near).sum()
    voxels = cluster_scores(ids, segments, border_voxels=1, keep=segments > 2)
    keep = ~border_mask(ids, 1) & (segments > 2)
    assert voxels == scores_of_table(cluster_table(ids, segments, keep=keep))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12))
def test_what_neurons_add_sums_to_vi(seed, high):
    truth, segments = pair(seed, high=high)
    if len(np.unique(truth[truth > 0])) < 2:
        return
    found = cluster_table(truth, segments)
    scores, errors = scores_of_table(found), neuron_errors(found)
    assert sum(r["vi_split"] for r in errors.rows) == pytest.approx(scores.vi_split, abs=1e-12)
    assert sum(r["vi_merge"] for r in errors.rows) == pytest.approx(scores.vi_merge, abs=1e-12)
    assert {r["neuron"] for r in errors.rows} == set(truth[truth > 0].tolist())
    pairs = as_dict(found)
    for r in errors.rows:
        own = {s: n for (t, s), n in pairs.items() if t == r["neuron"]}
        assert r["voxels"] == sum(own.values())
        assert r["share"] == pytest.approx(max(own.values()) / r["voxels"])
        assert own[r["segment"]] == max(own.values())
        assert r["segments"] == sum(n >= 0.01 * r["voxels"] for n in own.values())
        shared = [
            min(n, pairs.get((t, s), 0))
            for s, n in own.items()
            for t in set(truth.flat) - {0, r["neuron"]}
        ]
        best = {
            t
            for s, n in own.items()
            for t in set(truth.flat.copy().tolist()) - {0, r["neuron"]}
            if min(n, pairs.get((t, s), 0)) == max(shared)
        }
        if max(shared):
            assert r["merged_with"] in best
        else:
            assert r["merged_with"] is None


def test_the_list_of_errors_by_hand(tmp_path):
    truth = np.array([[1] * 6 + [2] * 2 + [3] * 4])
    segments = np.array([[5] * 3 + [6] * 3 + [6] * 2 + [7] * 4])
    errors = neuron_errors(cluster_table(truth, segments))
    assert [r["neuron"] for r in errors.rows] == [1, 2, 3]
    first = errors.rows[0]
    assert first["segments"] == 2 and first["merged_with"] == 2
    assert first["vi_split"] == pytest.approx(0.5)
    assert first["vi_merge"] == pytest.approx(3 / 12 * log2(5 / 3))
    rows = list(csv.DictReader(errors.write_csv(tmp_path / "e.csv").open(encoding="utf-8")))
    assert [row["neuron"] for row in rows] == ["1", "2", "3"] and rows[2]["merged_with"] == ""


@pytest.mark.parametrize(
    "truth, segments, words",
    [
        (np.zeros((2, 3), int), np.ones((2, 3), int), "no voxel"),
        (np.ones((2, 3), int), np.ones((2, 3), int), "one neuron"),
        (np.ones((2, 3), int), np.ones((3, 2), int), "shape"),
        (np.ones((2, 3)), np.ones((2, 3), int), "whole numbers"),
        (np.array([[1, -1, 2]]), np.ones((1, 3), int), "-1"),
        (np.array([[1, 3, 2]]), np.array([[1, -4, 2]], np.int8), "-4"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, segments, words):
    with pytest.raises(DataError, match=words) as refused:
        cluster_scores(truth, segments, where="a")
    assert "a" in str(refused.value)


def test_borders_that_cannot_be_are_refused():
    truth, segments = pair(0)
    with pytest.raises(RecipeError, match="spacing"):
        cluster_scores(truth, segments, border_um=1)
    with pytest.raises(RecipeError, match="not both"):
        cluster_scores(truth, segments, border_um=1, border_voxels=1)
    with pytest.raises(DataError, match="no voxel"):
        cluster_scores(truth, segments, border_voxels=50)
