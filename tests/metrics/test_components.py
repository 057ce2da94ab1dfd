"""Components read in windows against scipy's of the whole mask."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from brodmann.core import DataError, keyed_rng
from brodmann.metrics.components import CONNECTIVITY, ComponentStream, components

NEAR = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}


def reference(mask, connectivity):
    """Sorted (size, centroid) of every component, by scipy's labels and a loop."""
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(*NEAR[connectivity]))
    found = []
    for index in range(1, count + 1):
        at = np.argwhere(labels == index)
        found.append((len(at), *at.sum(0).tolist()))
    return sorted(found)


def as_list(found):
    return sorted((int(n), *map(int, sums)) for n, sums in zip(found.voxels, found.sums))


def streamed(mask, cuts, connectivity):
    stream = ComponentStream(mask.shape, connectivity)
    parts = [list(itertools.pairwise((0, *cut, n))) for cut, n in zip(cuts, mask.shape)]
    for box in itertools.product(*parts):
        window = tuple(slice(*part) for part in box)
        stream.add(mask[window], [part.start for part in window])
    return stream.result()


@st.composite
def cut_masks(draw):
    ndim = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    mask = draw(arrays(bool, shape))
    cuts = [sorted(draw(st.sets(st.integers(1, n - 1)))) if n > 1 else [] for n in shape]
    return mask, cuts, draw(st.sampled_from(CONNECTIVITY[ndim]))


@settings(max_examples=300, deadline=None)
@given(cut_masks())
def test_windows_of_any_size_change_nothing(case):
    mask, cuts, connectivity = case
    whole, parts = components(mask, connectivity), streamed(mask, cuts, connectivity)
    assert as_list(whole) == reference(mask, connectivity)
    np.testing.assert_array_equal(parts.voxels, whole.voxels)
    np.testing.assert_array_equal(parts.sums, whole.sums)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_dense_noise_is_put_together(connectivity, share):
    mask = keyed_rng(0, "noise", connectivity).random((24, 31, 29)) < share
    cuts = ([5, 6, 17], [8, 20], [1, 14, 27])
    parts = streamed(mask, cuts, connectivity)
    assert as_list(parts) == reference(mask, connectivity)
    assert len(parts) < mask.sum()


def test_a_spiral_through_every_window_is_one():
    mask = np.zeros((17, 17), bool)
    low, high = 0, 16
    mask[0] = True
    while high - low > 2:
        mask[low : high + 1, high] = True
        mask[high, low : high + 1] = True
        mask[low + 2 : high + 1, low] = True
        mask[low + 2, low : high - 1] = True
        low, high = low + 2, high - 2
    assert ndimage.label(mask)[1] == 1
    found = streamed(mask, ([3, 8, 13], [2, 7, 11]), 4)
    assert found.voxels.tolist() == [int(mask.sum())]


def test_diagonal_seams_are_seen_only_where_they_connect():
    """Two voxels that share a corner, one on either side of three seams at once."""
    for flip in itertools.product([False, True], repeat=3):
        mask = np.zeros((4, 4, 4), bool)
        one = [1 if up else 2 for up in flip]
        mask[tuple(one)] = mask[tuple(3 - i for i in one)] = True
        cuts = ([2], [2], [2])
        assert [len(streamed(mask, cuts, n)) for n in (6, 18, 26)] == [2, 2, 1]


def test_centroids_and_smallest():
    mask = np.zeros((5, 6), bool)
    mask[1, 1:4] = mask[4, 5] = True
    found = components(mask)
    assert found.centroids.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert found.at_least(2).voxels.tolist() == [3]
    assert len(components(np.zeros((3, 3), bool))) == len(components(np.zeros((0, 3), bool))) == 0


def test_faults_are_named():
    with pytest.raises(DataError, match="4 or 8"):
        components(np.ones((3, 3), bool), 6)
    with pytest.raises(DataError, match="6 or 18 or 26"):
        components(np.ones((3, 3, 3), bool), 8)
    with pytest.raises(DataError, match="2 or 3 axes"):
        components(np.ones(3, bool))
    stream = ComponentStream((4, 4))
    stream.add(np.ones((4, 2), bool), (0, 2))
    with pytest.raises(ValueError, match="row-major"):
        stream.add(np.ones((4, 2), bool), (0, 0))
