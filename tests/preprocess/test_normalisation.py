import numpy as np
import pytest

from brodmann.core import DataError, Volume, keyed_rng
from brodmann.preprocess import Normalisation, Statistics, intensity, measure


@pytest.mark.parametrize("offset", [0, 30_000])
def test_statistics_are_numpys_whatever_the_blocks(monkeypatch, offset):
    data = keyed_rng(0, "m").integers(0, 4000, (2, 37, 23)).astype(np.uint16) + np.uint16(offset)
    volume = Volume(data, "cyx", (1, 1))
    for block in (50, 1 << 22):
        monkeypatch.setattr(intensity, "BLOCK_VOXELS", block)
        found = measure([volume, volume])
        assert np.allclose(found.mean, data.mean((1, 2))) and np.allclose(
            found.std, data.std((1, 2))
        )


def test_nan_is_named_with_its_rows():
    data = np.zeros((20, 5), np.float32)
    data[11, 2] = np.nan
    with pytest.raises(DataError, match=r"a\.tif.*1 of them"):
        measure([Volume(data, "yx", (1, 1))], "a.tif")


def test_normalised_is_zero_mean_and_a_constant_channel_is_zero():
    data = np.stack([keyed_rng(0, "n").normal(50, 9, (30, 30)), np.full((30, 30), 7.0)])
    volume = Volume(data, "cyx", (1, 1))
    values = Normalisation.apply(data, Normalisation().of(volume))
    assert abs(values[0].mean()) < 1e-5 and abs(values[0].std() - 1) < 1e-5
    assert not values[1].any()


def test_fixed_statistics_are_those_of_the_training_set():
    fixed = Normalisation("dataset", Statistics((10.0,), (2.0,)))
    volume = Volume(np.full((3, 3), 14.0), "yx", (1, 1))
    assert (Normalisation.apply(volume.read(), fixed.of(volume)) == 2).all()
    with pytest.raises(DataError):
        Normalisation("dataset").of(volume)


def test_prior_channels_are_probabilities():
    data = np.stack([np.arange(9).reshape(3, 3), np.full((3, 3), 250)])
    volume = Volume(data, "cyx", (1, 1), ("slice", "prior TH"))
    assert np.allclose(Normalisation.apply(data, measure([volume]))[1], 0.25)


def test_specks_do_not_dim_the_rest():
    clean = keyed_rng(0, "s").normal(100, 10, (1, 60, 80)).astype(np.float32)
    specks = clean.copy()
    specks[0, :2, :3] = 9000
    robust = Normalisation("robust")
    found = robust.of(Volume(specks, "cyx", (1, 1)))
    low, high = np.percentile(specks, (0.5, 99.5))
    cut = specks.clip(low, high)
    assert np.allclose(found.mean, cut.mean()) and np.allclose(found.std, cut.std())
    assert np.allclose((found.low, found.high), ((low,), (high,)))
    values = Normalisation.apply(specks, found)
    assert values.max() < 4 and abs(values.std() - 1) < 1e-4
    assert Normalisation().of(Volume(specks, "cyx", (1, 1))).std[0] > 20 * found.std[0]
    assert Statistics.from_dict(found.to_dict()) == found
    assert Statistics.from_dict({"mean": [1.0], "std": [2.0], "name": "x"}) == Statistics(
        (1.0,), (2.0,)
    )


def test_priors_are_not_cut():
    data = np.stack([np.arange(900).reshape(30, 30), np.full((30, 30), 0)])
    data[1, 0, 0] = 1000
    volume = Volume(data, "cyx", (1, 1), ("slice", "prior TH"))
    assert Normalisation.apply(data, Normalisation("robust").of(volume))[1, 0, 0] == 1
