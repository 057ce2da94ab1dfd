"""Changes of intensity against scipy, torch and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from brodmann.augment import intensity

SHAPES = [(31, 44), (7, 18, 23), (1, 9, 16)]


def channel(shape, seed=0):
    return np.random.default_rng(seed).normal(0.4, 1.3, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_equals_scipy(shape):
    values = channel(shape)
    sigma = (0.9, 0.5, 1.0)[-len(shape) :]
    expected = ndimage.gaussian_filter(values, sigma, mode="nearest")
    intensity.blur(values, sigma)
    np.testing.assert_allclose(values, expected, atol=2e-6)


def test_blur_of_sigma_zero_changes_nothing():
    values = channel((5, 6))
    before = values.copy()
    intensity.blur(values, (0.0, 0.05))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zoom", [0.5, 0.73, 0.99, 1.0])
def test_low_resolution_equals_torch(shape, zoom):
    values = channel(shape)
    small = [max(1, round(size * zoom)) for size in shape]
    tensor = torch.from_numpy(values.copy())[None, None]
    down = torch.nn.functional.interpolate(tensor, small, mode="nearest-exact")
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    expected = torch.nn.functional.interpolate(down, shape, mode=mode)[0, 0].numpy()
    intensity.low_resolution(values, [zoom] * len(shape))
    np.testing.assert_allclose(values, expected, atol=2e-5)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_is_a_stretch_cut_to_the_old_range(factor):
    values = channel((40, 50))
    mean, low, high = values.mean(dtype=float), values.min(), values.max()
    expected = np.clip((values - mean) * factor + mean, low, high)
    intensity.contrast(values, factor)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert low <= values.min() and values.max() <= high


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("invert", [False, True])
def test_gamma_is_a_power_with_the_old_statistics(exponent, invert):
    values = channel((40, 50)).astype(np.float32)
    old = values.astype(float)
    mean, std = old.mean(), old.std()
    work = -old if invert else old
    work = ((work - work.min()) / np.ptp(work)) ** exponent
    work = -work if invert else work
    expected = (work - work.mean()) / work.std() * std + mean
    intensity.gamma(values, exponent, invert)
    np.testing.assert_allclose(values, expected, atol=2e-5)
    assert abs(values.mean(dtype=float) - mean) < 1e-5
    assert abs(values.std(dtype=float) - std) < 1e-5


def test_gamma_leaves_a_constant_channel():
    values = np.full((4, 5), 2.5, np.float32)
    intensity.gamma(values, 1.5)
    assert np.all(values == 2.5)


def test_brightness_multiplies():
    values = channel((4, 5))
    expected = values * np.float32(1.2)
    intensity.brightness(values, 1.2)
    np.testing.assert_array_equal(values, expected)


def test_noise_is_the_generators_own_field():
    values = channel((60, 70))
    before = values.copy()
    intensity.add_noise(values, 0.3, np.random.default_rng(5))
    field = np.random.default_rng(5).standard_normal(values.size, np.float32).reshape(60, 70)
    np.testing.assert_allclose(values - before, 0.3 * field, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_moments_far_from_zero(dtype):
    values = np.random.default_rng(0).integers(180, 220, 1003).astype(dtype)
    mean, std = intensity.moments(values)
    assert mean == pytest.approx(values.mean(dtype=float), rel=1e-12)
    assert std == pytest.approx(values.std(dtype=float), rel=1e-9)
