import numpy as np
import pytest
from scipy import ndimage

from brodmann.core import DataError, keyed_rng
from brodmann.preprocess.propagate import Carrier, chained, local_contrast, pulled, random_bend


def growing(count=7, shape=(48, 64)):
    """A disc in a textured frame that grows and drifts from section to section, and its truth."""
    noise = ndimage.gaussian_filter(keyed_rng(0, "tissue").normal(size=shape), 2)
    rows, columns = np.indices(shape)
    images, labels = [], []
    for i in range(count):
        disc = (rows - 22 - i) ** 2 + (columns - 26 - 1.5 * i) ** 2 < (9 + i) ** 2
        labels.append(disc.astype(np.int16))
        images.append(100 + 60 * ndimage.gaussian_filter(disc.astype(float), 1) + 30 * noise)
    return images, labels


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_carried_labels_follow_the_tissue_and_beat_copies():
    images, labels = growing()
    carrier = Carrier(images, {0: labels[0], 6: labels[6]}, 2)
    for i in (2, 3, 4):
        nearest = labels[0] if i <= 3 else labels[6]
        carried = carrier.prior(i).argmax(0) == 1
        assert dice(carried, labels[i] == 1) > max(0.93, dice(nearest == 1, labels[i] == 1) + 0.1)


def test_a_prior_sums_to_one_and_never_sees_its_own_section():
    images, labels = growing(4)
    known = dict(enumerate(labels))
    whole = Carrier(images, known, 2).prior(1, gap=2)
    without = Carrier(images, {i: one for i, one in known.items() if i not in (0, 1, 2)}, 2).prior(
        1
    )
    assert np.allclose(whole.sum(0), 1, atol=1e-5)
    assert np.array_equal(whole, without)


def test_sources_are_the_nearest_on_each_side():
    images, labels = growing(7)
    carrier = Carrier(images, {0: labels[0], 1: labels[1], 6: labels[6]}, 2)
    assert carrier.sources(3) == [(1, 3 / 5), (6, 2 / 5)]
    assert carrier.sources(3, gap=3) == [(0, 0.5), (6, 0.5)]
    assert [i for i, _ in carrier.sources(1, gap=1)] == [0, 6]
    assert carrier.sources(1, gap=3) == [(6, 1.0)]
    assert carrier.sources(3, gap=9) == []


def test_ignored_labels_are_carried_as_nothing_known():
    images, labels = growing(3)
    hidden = np.full_like(labels[0], -1)
    prior = Carrier(images, {0: hidden}, 2).prior(1)
    assert (prior.argmax(0) == 0).all()
    half = labels[0].copy()
    half[:, :20] = -1
    prior = Carrier(images, {0: half}, 2).prior(1)
    assert np.allclose(prior.sum(0), 1, atol=1e-5)


def test_displacements_chain_like_two_pulls():
    image = ndimage.gaussian_filter(keyed_rng(1, "t").normal(size=(40, 50)), 3)
    a, b = (random_bend((40, 50), 1.0, 12, keyed_rng(1, key)) for key in "ab")
    twice = pulled(pulled(image, b), a)
    once = pulled(image, chained(a, b))
    assert np.abs(twice - once)[6:-6, 6:-6].max() < 0.02 * np.ptp(image)


def test_a_shift_by_whole_pixels_is_exact():
    image = keyed_rng(1, "s").normal(size=(12, 14)).astype(np.float32)
    field = np.zeros((2, 12, 14), np.float32)
    field[0] = 2
    assert np.array_equal(pulled(image, field)[:10], image[2:])


def test_bends_have_the_size_asked_for_and_are_smooth():
    bends = np.stack([random_bend((60, 80), 2.0, 15, keyed_rng(0, i)) for i in range(40)])
    assert 1.0 < bends.std() < 2.2
    assert np.abs(np.diff(bends, axis=-1)).max() < 1.5


def test_contrast_is_blind_to_brightness_and_gain():
    image = growing(1)[0][0]
    assert np.allclose(local_contrast(image, 0.15), local_contrast(image * 7, 0.15), atol=1e-4)


def test_series_that_cannot_be_are_refused():
    images, labels = growing(2)
    with pytest.raises(DataError, match="labelled"):
        Carrier(images, {}, 2)
    with pytest.raises(DataError, match="one size"):
        Carrier([images[0], images[1][:10]], {0: labels[0]}, 2)
    with pytest.raises(DataError, match="gap 5"):
        Carrier(images, {0: labels[0]}, 2).prior(1, gap=5)
