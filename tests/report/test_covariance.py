"""Correlation of slices: against numpy, in bounded memory, and the gap that a split needs."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from brodmann.core import DataError, OutputError, Volume, keyed_rng
from brodmann.report import covariance
from brodmann.report.covariance import (
    correlation_decay,
    correlation_length,
    covariance_figure,
    slice_correlation,
)


def smooth(shape, sigma, seed=0):
    """Noise whose correlation along z is that of a Gaussian."""
    noise = keyed_rng(seed, "slices").standard_normal(shape)
    return gaussian_filter(noise, (sigma, 0, 0), mode="wrap")


def volume_of(array, axes="zyx"):
    return Volume(array, axes, (1.17,) * 3)


class Watched:
    """An array that notes how much is read at a time, with the chunks of a store."""

    def __init__(self, array, chunks=None):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.windows = []

    def __getitem__(self, window):
        self.windows.append(window)
        return self.array[window]


@pytest.mark.parametrize("axis", "zyx")
@pytest.mark.parametrize("most", [1, 97, 1 << 24])
def test_it_is_numpys_correlation_however_it_is_read(monkeypatch, axis, most):
    monkeypatch.setattr(covariance, "MOST_VALUES", most)
    array = keyed_rng(1, "a").integers(0, 256, (7, 9, 11), np.uint8)
    flat = np.moveaxis(array, "zyx".index(axis), 0).reshape(array.shape["zyx".index(axis)], -1)
    found = slice_correlation(volume_of(array), axis)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.corrcoef(flat.astype(float)), atol=1e-6)
    np.testing.assert_array_equal(np.diag(found), 1)


def test_pixels_are_averaged_over_blocks():
    array = keyed_rng(2, "a").random((6, 8, 12)).astype(np.float32)
    small = block_reduce(array.astype(float), (1, 4, 4), np.mean)
    found = slice_correlation(volume_of(array), downsample=4)
    np.testing.assert_allclose(found, np.corrcoef(small.reshape(6, -1)), atol=1e-6)
    # What is left over at an edge is averaged over what there is.
    odd = slice_correlation(volume_of(array[:, :7, :11]), downsample=4)
    rows = [array[:, y : min(y + 4, 7), x : min(x + 4, 11)] for y in (0, 4) for x in (0, 4, 8)]
    means = np.stack([one.astype(float).mean((1, 2)) for one in rows], axis=1)
    np.testing.assert_allclose(odd, np.corrcoef(means), atol=1e-6)


@given(
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-1e4, 1e4),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_brightness_and_contrast_of_a_slice_do_not_matter(scale, shift, seed):
    array = keyed_rng(seed, "a").standard_normal((5, 6, 7))
    changed = array.copy()
    changed[2] = scale * changed[2] + shift
    before, after = slice_correlation(volume_of(array)), slice_correlation(volume_of(changed))
    np.testing.assert_allclose(after, before, atol=2e-5)
    np.testing.assert_array_equal(after, after.T)
    assert np.abs(after).max() <= 1


@pytest.mark.parametrize(("most", "downsample"), [(6 * 32 * 5, 1), (6 * 64, 2), (6 * 3, 1)])
def test_memory_is_bounded_and_every_pixel_is_read_once(monkeypatch, most, downsample):
    monkeypatch.setattr(covariance, "MOST_VALUES", most)
    array = keyed_rng(3, "a").integers(0, 256, (6, 40, 50), np.uint8)
    data = Watched(array)
    slice_correlation(volume_of(data), downsample=downsample)
    read = np.zeros((40, 50), int)
    for window in data.windows:
        read[window[1:]] += 1
        assert array[window].size <= most
        assert all(part.start % downsample == 0 for part in window[1:])
    np.testing.assert_array_equal(read, 1)


def test_blocks_keep_to_the_chunks_of_a_store(monkeypatch):
    monkeypatch.setattr(covariance, "MOST_VALUES", 6 * 16 * 20)
    data = Watched(keyed_rng(3, "a").random((6, 40, 50)), chunks=(6, 16, 10))
    slice_correlation(volume_of(data))
    assert len(data.windows) == 3 * 3
    assert all(w[1].start % 16 == 0 and w[2].start % 10 == 0 for w in data.windows)


def test_a_slice_that_is_the_same_all_over_has_no_correlation():
    array = keyed_rng(4, "a").random((5, 6, 7))
    array[1] = 0.1
    matrix = slice_correlation(volume_of(array))
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()
    others = np.delete(np.delete(matrix, 1, 0), 1, 1)
    assert np.isfinite(others).all()
    assert correlation_decay(matrix).pairs.tolist() == [4, 2, 2, 1, 1]


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_the_decay_is_that_of_the_noise(sigma):
    """White noise under a Gaussian filter correlates as exp(-lag^2 / 4 sigma^2)."""
    decay = correlation_decay(slice_correlation(volume_of(smooth((120, 40, 40), sigma))), 2.0)
    lags = np.arange(5 * int(sigma))
    np.testing.assert_allclose(decay.mean[lags], np.exp(-(lags**2) / (4 * sigma**2)), atol=0.04)
    expected = 2 * sigma * np.sqrt(np.log(1 / 0.2))
    assert decay.length(0.2) == int(np.ceil(expected))
    assert (decay.low <= decay.mean + 1e-12).all() and (decay.mean <= decay.high + 1e-12).all()
    assert decay.pairs[0] == 120 and decay.pairs[-1] == covariance.FEWEST_PAIRS


def test_the_gap_keeps_the_nearest_slices_of_two_parts_unlike():
    matrix = slice_correlation(volume_of(smooth((80, 30, 30), 2.0)))
    decay = correlation_decay(matrix)
    gap = decay.guard_slices(0.2)
    assert correlation_length(matrix, 0.2) == gap + 1
    nearest = [matrix[40 - 1 - i, 40 - i + gap] for i in range(20)]
    too_near = [matrix[40 - 1 - i, 40 - i + gap - 1] for i in range(20)]
    assert np.mean(nearest) < 0.2 <= np.mean(too_near)


def test_slices_that_stay_alike_need_a_gap_that_is_not_there():
    same = np.repeat(keyed_rng(5, "a").random((1, 8, 8)), 6, axis=0)
    decay = correlation_decay(slice_correlation(volume_of(same)))
    assert decay.length(0.5) is None and decay.guard_slices(0.5) is None
    unlike = correlation_decay(np.eye(4))
    assert unlike.length(0.5) == 1 and unlike.guard_slices(0.5) == 0


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_figure_shows_every_region(tmp_path, count):
    matrix = slice_correlation(volume_of(smooth((30, 12, 12), 1.5)))
    never = np.full((30, 30), 0.9) + 0.1 * np.eye(30)
    names = ["CTX", "STR", "VP", "ZI", "IC"][:count]
    regions = {name: never if name == "VP" else matrix for name in names}
    lengths = covariance_figure(regions, tmp_path / "a.png", spacing_um=1.17, level=0.2)
    assert lengths == {n: None if n == "VP" else correlation_length(matrix, 0.2) for n in names}
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    # The bright end of the map lies on the diagonals; each matrix has one.
    bright = (np.abs(pixels - (253, 231, 55)).max(2) < 60)[covariance.TOP :]
    columns = min(count, covariance.PANEL_COLUMNS)
    step = covariance.SIDE + covariance.GAP
    for place in range(columns):
        left = 28 + 34 + place * step
        assert bright[: covariance.SIDE, left : left + covariance.SIDE].sum() > covariance.SIDE
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


def test_what_cannot_be_compared_is_refused(tmp_path):
    array = np.zeros((3, 4, 5))
    for bad, options in (
        (Volume(array, "cyx", (1, 1)), {}),
        (Volume(np.zeros((2, 3, 4, 5)), "czyx", (1, 1, 1)), {}),
        (volume_of(array), {"axis": "t"}),
        (volume_of(array), {"axis": ""}),
        (volume_of(array), {"downsample": 0}),
        (volume_of(array[:1]), {}),
        (volume_of(array * np.nan), {}),
    ):
        with pytest.raises(DataError):
            slice_correlation(bad, **options)
    for bad in (np.ones((2, 3)), np.ones((1, 1)), np.full((3, 3), np.nan)):
        with pytest.raises(DataError):
            correlation_decay(bad)
    with pytest.raises(DataError):
        correlation_decay(np.eye(3), 0)
    with pytest.raises(DataError):
        correlation_length(np.eye(3), 1.5)
    with pytest.raises(DataError):
        covariance_figure({}, tmp_path / "a.png", spacing_um=1)
    with pytest.raises(OutputError):
        covariance_figure({"a": np.eye(3)}, tmp_path / "a.gif", spacing_um=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_slices_of_the_cortex_are_new_after_ten(real_data):
    """The paper saw 5 to 7 slices and left out 10."""
    cube = tifffile.imread(real_data / "xray" / "cortex_cube.tif")
    decay = correlation_decay(slice_correlation(volume_of(cube), downsample=2), 1.17)
    assert decay.length(0.2) == 7 and decay.length(0.1) == 9
