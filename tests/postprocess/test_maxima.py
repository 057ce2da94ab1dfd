"""Peaks: those of a plain loop, whatever the values; blocks give those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, maximum_filter
from skimage.feature import peak_local_max

from brodmann.core import DataError, RecipeError
from brodmann.inference.blocks import BlockGrid
from brodmann.postprocess.maxima import find_maxima, find_maxima_torch, radius_of


def brute(heat, radius, threshold):
    """The definition, word by word."""
    heat, found = heat.astype(np.float32), []
    for at in np.ndindex(heat.shape):
        if not heat[at] > np.float32(threshold):
            continue
        spans = [range(max(0, i - r), min(n, i + r + 1)) for i, r, n in zip(at, radius, heat.shape)]
        window = [tuple(s[k] for s, k in zip(spans, i)) for i in np.ndindex(*map(len, spans))]
        greater = any(heat[other] > heat[at] for other in window)
        equal_before = any(heat[other] == heat[at] and other < at for other in window)
        if not greater and not equal_before:
            found.append(at)
    return np.array(found, np.int64).reshape(-1, heat.ndim)


@st.composite
def maps(draw):
    """Few values, so that plateaus of all shapes come; in all kinds of numbers."""
    ndim = draw(st.sampled_from([2, 3, 3]))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    radius = tuple(draw(st.integers(0, 4)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    levels = draw(st.sampled_from([1, 2, 3, 8, 1000]))
    dtype = draw(st.sampled_from([np.uint8, np.float16, np.float32, np.float64, np.int16]))
    heat = rng.integers(0, levels, shape)
    if draw(st.booleans()):
        heat = np.repeat(heat, 3, axis=-1)
    heat = heat.astype(dtype) if np.dtype(dtype).kind in "iu" else (heat / levels).astype(dtype)
    return heat, radius, draw(st.sampled_from([-1.0, 0.0, 0.3, 0.5]))


@settings(deadline=None, max_examples=60)
@given(maps())
def test_peaks_are_those_of_the_definition_on_both_paths(case):
    heat, radius, threshold = case
    expected = brute(heat, radius, threshold)
    for find, values in ((find_maxima, heat), (find_maxima_torch, torch.from_numpy(heat)),
                         (find_maxima, torch.from_numpy(heat))):  # fmt: skip
        at, scores = find(values, radius, threshold)
        assert at.dtype == np.int64 and np.array_equal(at, expected)
        assert scores.dtype == np.float32
        assert np.array_equal(scores, heat.astype(np.float32)[tuple(at.T)])


@settings(deadline=None, max_examples=60)
@given(maps(), st.data())
def test_peaks_of_blocks_are_those_of_the_whole(case, data):
    heat, radius, threshold = case
    block = tuple(data.draw(st.integers(1, n)) for n in heat.shape)
    halo = tuple(r + data.draw(st.integers(0, 2)) for r in radius)
    find = data.draw(st.sampled_from([find_maxima, find_maxima_torch]))
    parts = []
    for one in BlockGrid(heat.shape, block, halo):
        values = heat[one.outer] if find is find_maxima else torch.from_numpy(heat[one.outer])
        at, _ = find(values, radius, threshold, one.inner)
        parts.append(at + [part.start for part in one.outer])
    found = np.concatenate(parts)
    found = found[np.lexsort(found.T[::-1])]
    assert np.array_equal(found, find_maxima(heat, radius, threshold)[0])


def test_without_a_halo_blocks_differ():
    """So the test above can fail."""
    heat = np.random.default_rng(0).random((8, 8, 8)).astype(np.float32)
    count = sum(
        len(find_maxima(heat[one.outer], (1, 2, 2), 0, one.inner)[0])
        for one in BlockGrid(heat.shape, (4, 4, 4))
    )
    assert count > len(find_maxima(heat, (1, 2, 2), 0)[0])


def test_plateaus_and_half_precision_hardly_make_more_peaks():
    heat = np.zeros((6, 6, 6), np.uint8)
    heat[2:4, 2:4, 2:4] = 200
    assert find_maxima(heat, (2, 2, 2), 100)[0].tolist() == [[2, 2, 2]]
    smooth = gaussian_filter(np.random.default_rng(1).random((24, 48, 48)), 2)
    smooth = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    exact = find_maxima(smooth, (3, 3, 3), 0.1)[0]
    coarse = (smooth * 255).astype(np.uint8)
    at, _ = find_maxima(coarse, (3, 3, 3), 25)
    naive = ((maximum_filter(coarse, 7) == coarse) & (coarse > 25)).sum()
    assert abs(len(at) - len(exact)) <= 0.05 * len(exact) and naive > 1.15 * len(exact)


def test_without_ties_they_are_those_of_scikit_image():
    rng = np.random.default_rng(2)
    heat = gaussian_filter(rng.random((20, 40, 40)), 1).astype(np.float32)
    heat = rng.permutation(heat.size).reshape(heat.shape) * 1e-9 + heat
    for radius in (1, 3):
        theirs = peak_local_max(heat, min_distance=radius, threshold_abs=0.5, exclude_border=False)
        ours, _ = find_maxima(heat.astype(np.float64), (radius,) * 3, 0.5)
        assert set(map(tuple, ours)) == set(map(tuple, theirs)) and len(ours) > 50


@pytest.mark.parametrize("find", [find_maxima, find_maxima_torch])
def test_what_cannot_be_is_refused(find):
    make = torch.tensor if find is find_maxima_torch else np.array
    bad = np.zeros((2, 3, 4), np.float32)
    bad[1, 2, 0] = np.nan
    with pytest.raises(DataError, match=r"holds NaN \(z 1, y 2, x 0\)"):
        find(make(bad), (1, 1, 1), 0.5, core=(slice(0, 1),) * 3)
    fine = make(np.zeros((2, 3, 4), np.float32))
    for call in (((1, 1), 0.5), ((1, 1, -1), 0.5), ((1, 1, 0.5), 0.5), ((1, 1, 1), float("nan")),
                 ((1, 1, 1), 0.5, (slice(0, 1),)), ((1, 1, 1), 0.5, (slice(0, 2, 2),) * 3)):  # fmt: skip
        with pytest.raises(RecipeError):
            find(fine, *call)
    with pytest.raises(DataError, match=r"\(z, y, x\) or \(y, x\)"):
        find(make(np.zeros(3, np.float32)), (1,), 0.5)
    with pytest.raises(DataError, match="real numbers"):
        find(make(np.zeros((3, 3), np.complex64)), (1, 1), 0.5)
    infinite = make(np.array([[-np.inf, np.inf, 1, 0, 2]], np.float32))
    assert find(infinite, (0, 1), 0.5)[0].tolist() == [[0, 1], [0, 4]]
    empty_core = find(fine, (1, 1, 1), -1, (slice(1, 1), slice(0, 3), slice(0, 4)))
    assert empty_core[0].shape == (0, 3) and empty_core[1].shape == (0,)


def test_half_precision_tensors_and_large_windows():
    heat = torch.zeros(4, 6, dtype=torch.bfloat16)
    heat[1, 1], heat[3, 5] = 0.5, 0.75
    for find in (find_maxima, find_maxima_torch):
        assert find(heat, (99, 99), 0.1)[0].tolist() == [[3, 5]]
        assert find(heat, (1, 1), 0.5)[0].tolist() == [[3, 5]], "a peak is above the threshold"


def test_many_peaks_are_kept():
    heat = np.random.default_rng(0).random((20, 60, 60)).astype(np.float32)
    at, scores = find_maxima(heat, (0, 0, 0), -1)
    assert len(at) == heat.size and np.array_equal(scores, heat.reshape(-1))


def test_distances_become_voxels():
    assert radius_of(10.8, (4.0, 1.8, 1.8)) == (2, 6, 6)
    assert radius_of(0.3, (0.1, 0.1)) == (3, 3)
    for bad in (-1.0, float("nan"), (1.0, 2.0)):
        with pytest.raises(RecipeError):
            radius_of(bad, (1.0, 1.0, 1.0))
