"""Box mean and Laplacian of Gaussian against scipy, and in windows against the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brodmann.core import RecipeError
from brodmann.problems.cells.blobness import WIDE, blobness, gaussian_reach
from brodmann.problems.cells.box_filter import box_contrast, box_mean

KINDS = ("uint8", "int8", "uint16", ">u2", "int16", "int32", "float32", "bool")


def drawn(seed: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "bool":
        return rng.random(shape) < 0.3
    if kind == "float32":
        return rng.normal(500, 300, shape).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return rng.integers(max(low, -(1 << 20)), min(high, 1 << 20), shape, endpoint=True).astype(kind)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.lists(st.integers(0, 9), min_size=3, max_size=3),
    st.sampled_from(KINDS),
)
def test_box_mean_equals_scipys_in_float64(seed, shape, reach, kind):
    values = drawn(seed, tuple(shape), kind)
    sides = [2 * r + 1 for r in reach[: len(shape)]]
    wanted = ndimage.uniform_filter(values.astype(np.float64), sides, mode="reflect")
    scale = max(1.0, float(np.abs(values.astype(np.float64)).max()))
    assert np.allclose(box_mean(values, sides), wanted, rtol=0, atol=2e-6 * scale)


def test_sums_that_run_over_come_back():
    # 65,535 in each voxel of a box of 45,369: more than 2 ** 31.
    full = np.full((9, 71, 71), np.iinfo(np.uint16).max, np.uint16)
    assert (box_mean(full, (9, 71, 71)) == 65535).all()
    assert (box_mean(full, (29, 71, 71)) == 65535).all()  # and of one that needs float64


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(st.integers(1, 14), min_size=2, max_size=3),
    st.lists(st.floats(0.3, 3.0), min_size=3, max_size=3),
)
def test_blobness_equals_scipys(seed, shape, deviations):
    values = np.random.default_rng(seed).normal(size=shape)
    sigma = deviations[: len(shape)]
    wanted = np.zeros(shape)
    for bent in range(len(shape)):
        part = values
        for axis, deviation in enumerate(sigma):
            at = np.arange(-gaussian_reach(deviation), gaussian_reach(deviation) + 1)
            kernel = np.exp(-(at**2) / (2 * deviation**2))
            kernel /= kernel.sum()
            if axis == bent:
                curve = (at**2 / deviation**2 - 1) * kernel
                kernel = curve - curve.sum() * kernel  # a flat line bends nowhere
            part = ndimage.correlate1d(part, kernel, axis, mode="reflect")
        wanted -= part
    assert np.allclose(blobness(values, sigma), wanted, rtol=0, atol=3e-5)
    assert np.abs(blobness(np.full(shape, 7.0), sigma)).max() < 1e-5


def test_long_axes_cross_tiles():
    # Longer than what is filtered at once, along each axis in turn.
    for axis in range(3):
        shape = [2, 3, 4]
        shape[axis] = 2 * WIDE + 37
        values = np.random.default_rng(axis).normal(size=shape).astype(np.float32)
        wanted = -sum(
            s**2 * ndimage.gaussian_filter(values.astype(np.float64), (1, 1, 1), [
                2 if a == b else 0 for b in range(3)], truncate=4.0)
            for a, s in enumerate((1, 1, 1))
        )  # fmt: skip
        assert np.abs(blobness(values, (1, 1, 1)) - wanted).max() < 0.02
        box = ndimage.uniform_filter(values.astype(np.float64), (1, 3, 5))
        assert np.allclose(box_mean(values, (1, 3, 5)), box, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_window_gives_the_very_numbers_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 65536, (37, 61, 300)).astype(np.uint16)
    sigma, sides = (1.2, 1.7, 2.1), (5, 9, 11)
    low = [int(n) for n in rng.integers(0, 8, 3)]
    high = [int(n - m) for n, m in zip(whole.shape, rng.integers(0, 8, 3))]
    window = tuple(slice(a, b) for a, b in zip(low, high))
    for reach, work in (
        ([side // 2 for side in sides], lambda values: box_mean(values, sides)),
        ([gaussian_reach(s) for s in sigma], lambda values: blobness(values, sigma)),
    ):
        inner = tuple(
            slice(r if a else 0, (b - a) - (r if b < n else 0))
            for r, a, b, n in zip(reach, low, high, whole.shape)
        )
        assert np.array_equal(work(whole[window])[inner], work(whole)[window][inner])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_part_is_that_of_the_whole_and_fills_what_is_given(axes):
    shape, window = (9, 40, 50)[-axes:], (slice(2, 7), slice(0, 33), slice(3, -1))[-axes:]
    values = np.random.default_rng(0).integers(0, 9999, shape).astype(np.uint16)
    for work, how in ((blobness, [(1.1, 0.7, 2.0)[-axes:]]), (box_contrast, [(3,) * axes, 7.0])):
        whole = work(values, *how)
        out = np.full(whole[window].shape, np.nan, np.float32)
        assert work(values, *how, window, out) is out
        assert np.array_equal(out, whole[window])
        assert work(values, *how, (slice(4, 4),) * axes).size == 0


def test_contrast_is_the_image_less_its_mean_in_units():
    values = np.random.default_rng(1).integers(0, 60000, (7, 20, 30)).astype(np.uint16)
    ground = ndimage.uniform_filter(values.astype(np.float64), (3, 5, 9), mode="reflect")
    assert np.allclose(box_contrast(values, (3, 5, 9), 50.0), (values - ground) / 50, atol=1e-3)


def test_a_gaussian_wider_than_a_tile_is_refused():
    with pytest.raises(RecipeError, match="too wide"):
        blobness(np.zeros((4, 4, 4)), (1.0, 1.0, 40.0))
