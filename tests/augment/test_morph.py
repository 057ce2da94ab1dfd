"""Bending towards another anatomy."""

import numpy as np
import pytest
from mixtures import PRIMARY, TREE, brain, pool

from brodmann.augment import CannotDraw, make_augmentation
from brodmann.augment.morph import demons
from brodmann.augment.regions import Regions
from brodmann.core import Dataset, RecipeError, keyed_rng


def dice(a, b):
    both = [k for k in (1, 2, 3) if (a == k).any() and (b == k).any()]
    return np.mean([2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in both])  # fmt: skip


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_whole_way_lies_on_the_partner_and_half_way_between(ndim):
    shape = (80, 120) if ndim == 2 else (20, 32, 40)
    data = pool(ndim, shapes=[shape] * 4)
    regions = Regions(TREE)
    method = make_augmentation("morph")
    for target, partner in (("s0", "s1"), ("s2", "s3")):
        a, b = (regions.of(data[n].labels.numpy()) for n in (target, partner))
        reached = []
        for share in (0.0, 0.5, 1.0):
            params = {"shape": list(shape), "sources": [partner], "share": share}
            made = method.apply(params, data[target], data)
            numbers = regions.of(made.labels.numpy())
            reached.append(dice(numbers, b))
            if share == 0:
                assert (numbers == a).all()
                assert (made.image.numpy() == data[target].image.numpy()).all()
        assert reached[0] < reached[1] < reached[2] and reached[2] > 0.85
        assert made.image.dtype == data[target].image.dtype


def test_labels_move_with_the_tissue_under_them():
    data = pool(2, shapes=[(80, 120)] * 2, dtype=np.float32)
    params = {"shape": [80, 120], "sources": ["s1"], "share": 0.7}
    made = make_augmentation("morph").apply(params, data["s0"], data)
    grey = {0: 20, 11: 60, 12: 90, 21: 120, 31: 150, 32: 180}
    for id_, value in grey.items():
        under = made.image.numpy()[0][made.labels.numpy() == id_]
        assert np.median(under) == pytest.approx(value, abs=6)


def test_a_shift_is_found():
    a = np.zeros((64, 96), np.uint8)
    a[20:44, 24:60], a[28:36, 34:50] = 1, 2
    b = np.roll(a, (3, -7), (0, 1))
    field = demons(a, b, 2)
    assert field.shape == (2, 64, 96) and field.dtype == np.float32
    assert np.abs(field[:, b > 0].mean(1) - (-3, 7)).max() < 1.0
    assert not demons(a, a, 2).any()


def test_bad_options_and_lonely_sections():
    with pytest.raises(RecipeError, match="shares are"):
        make_augmentation("morph", {"share": [0.5, 0.2]})
    with pytest.raises(RecipeError, match="a side is"):
        make_augmentation("morph", {"side_px": 3})
    two = {
        "s0": brain("s0", (40, 60), 0, without=(11, 12, 21)),
        "s1": brain("s1", (40, 60), 1, without=(31, 32)),
    }
    data = Dataset("two", list(two), two.__getitem__, TREE)
    with pytest.raises(CannotDraw, match="no primary region"):
        make_augmentation("morph").draw(keyed_rng(0), two["s0"], data)
    assert set(PRIMARY.values()) == {1, 2, 3}
