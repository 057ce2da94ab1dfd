"""PCA, NMF and texture: fitted on training images, equal to what they are defined as."""

import numpy as np
import pytest

from brodmann.core import BrodmannError
from brodmann.problems.patches import Stack
from brodmann.problems.representations import Flat, Texture


def stack(n=20, side=6, seed=0):
    images = np.random.default_rng(seed).integers(0, 255, (n, 1, side, side)).astype(np.uint8)
    return Stack(images, np.zeros(n, int), ("a",), ("s",) * n, 127.0, 73.0)


def test_pca_is_the_projection_on_the_first_singular_vectors():
    made, other = stack(), stack(seed=1)
    found = Flat("pca", 3).fit(made).encode(other.images)
    rows = made.images.reshape(20, -1) / 255
    mean = rows.mean(0)
    _, _, axes = np.linalg.svd(rows - mean, full_matrices=False)
    want = (other.images.reshape(20, -1) / 255 - mean) @ axes[:3].T
    assert np.allclose(np.abs(found), np.abs(want), atol=1e-3)


def test_nmf_rebuilds_with_parts_that_are_never_negative():
    made = stack(30)
    flat = Flat("nmf", 10).fit(made)
    codes = flat.encode(made.images)
    assert codes.min() >= 0 and flat.fitted.components_.min() >= 0
    rows = made.images.reshape(30, -1) / 255
    error = np.linalg.norm(rows - codes @ flat.fitted.components_) / np.linalg.norm(rows)
    assert error < np.linalg.norm(rows - rows.mean(0)) / np.linalg.norm(rows)


def test_no_more_components_than_there_is_to_learn_from():
    assert Flat("pca", 256).fit(stack(5)).encode(stack(3).images).shape == (3, 4)
    with pytest.raises(BrodmannError):
        Flat("ica").fit(stack())


def test_pca_has_no_component_along_which_training_images_are_alike():
    made, other = stack(12), stack(5, seed=1)
    flat = Flat("pca", 256).fit(made)
    known = flat.encode(made.images)
    # Twelve centred images span eleven directions; the scale of a twelfth would be rounding.
    assert known.shape == (12, 11)
    assert np.abs(flat.encode(other.images) / known.std(0)).max() < 100


def test_texture_counts_shares_of_pixels():
    made = stack()
    texture = Texture(bins=4, sigmas=(1.0,)).fit(made)
    found = texture.encode(made.images)
    assert found.shape == (20, 3 * 4)
    assert np.allclose(found.reshape(20, 3, 4).sum(2), 1)
    assert np.allclose(found.reshape(20, 3, 4).mean(0), 0.25, atol=0.02), "edges are quantiles"
    edges = np.quantile(made.images.astype(np.float32), [0.25, 0.5, 0.75])
    want = np.histogram(made.images[7], [-np.inf, *np.nextafter(edges, np.inf), np.inf])[0] / 36
    assert np.allclose(found[7, :4], want, atol=1e-6)


def test_texture_of_averaged_squares():
    made = stack(side=12)
    small = made.images.reshape(20, 1, 6, 2, 6, 2).mean((3, 5))
    fine = Texture(4, (1.0,), coarse=2)
    plain = Texture(4, (1.0,))
    found = fine.fit(made).encode(made.images)
    plain.fit(Stack(small, made.categories, ("a",), made.groups, 127.0, 73.0))
    assert np.allclose(found, plain.encode(small), atol=1e-6)
