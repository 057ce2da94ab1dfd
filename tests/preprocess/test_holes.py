"""Holes: large dark discs are found and filled, cells and corners are left alone."""

import numpy as np
import pytest

from brodmann.core import DataError, RecipeError
from brodmann.preprocess import Holes

MEAN, DEVIATION = 120.0, 25.0
SIDE = 96


def tissue(discs, dtype=np.uint8, seed=0):
    """(1, 96, 96) noise about 120, dark in discs of (y, x, radius), and where they are."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = np.random.default_rng(seed).normal(MEAN, 10, (SIDE, SIDE))
    dark = np.zeros(image.shape, bool)
    for y, x, radius in discs:
        dark |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    image[dark] = 8
    return np.clip(image, 0, 255).astype(dtype)[None], dark


def test_a_vessel_is_found_with_its_margin_and_cells_are_not():
    image, dark = tissue([(48, 40, 14)])
    cells, _ = tissue([(10, 10, 5), (12, 70, 6), (80, 80, 5), (48, 40, 14)])
    holes = Holes(wider_px=16, margin_px=4)
    mask = holes.find(image, MEAN, DEVIATION)
    assert mask[dark].all()
    rows, columns = np.nonzero(mask)
    reach = np.hypot(rows - 48, columns - 40).max()
    assert 14 + 4 - 2 <= reach <= 14 + 4 + 3
    assert np.array_equal(mask, holes.find(cells, MEAN, DEVIATION))


@pytest.mark.parametrize("place", [(0, 48), (48, 0), (95, 48), (48, 95)])
def test_a_vessel_that_a_face_cuts_is_found(place):
    # Five pixels deep: less than the disc that must fit in.
    outwards = {0: -9, 95: 9}
    y, x = (n + outwards.get(n, 0) for n in place)
    image, dark = tissue([(y, x, 14)])
    mask = Holes(wider_px=12, margin_px=2).find(image, MEAN, DEVIATION)
    assert dark.any() and mask[dark].mean() > 0.9


@pytest.mark.parametrize("corner", [(0, 0), (0, 95), (95, 0), (95, 95)])
def test_a_cell_in_a_corner_is_no_hole(corner):
    image, _ = tissue([(*corner, 7)])
    assert not Holes(wider_px=16).find(image, MEAN, DEVIATION).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_filled_image_has_the_intensities_of_tissue(dtype):
    image, dark = tissue([(48, 60, 16)], dtype)
    holes = Holes(wider_px=16, margin_px=6)
    filled = holes.fill(image, MEAN, DEVIATION)
    mask = holes.find(image, MEAN, DEVIATION)
    assert filled.dtype == dtype and filled.shape == image.shape
    assert np.array_equal(filled[0][~mask], image[0][~mask])
    inside, outside = filled[0][dark].astype(float), image[0][~mask].astype(float)
    assert abs(inside.mean() - outside.mean()) < 2 and 8 < inside.std() < 12


def test_channels_are_filled_alike():
    one, dark = tissue([(48, 48, 14)], np.float32)
    other, _ = tissue([(48, 48, 14)], np.float32, seed=1)
    holes = Holes(wider_px=16, margin_px=4)
    filled = holes.fill(np.concatenate([one, other + 100]), MEAN + 50, DEVIATION)
    assert filled[0][dark].min() > 60 and filled[1][dark].min() > 160


def test_what_has_no_hole_or_nothing_else_stays():
    plain, _ = tissue([])
    assert Holes().fill(plain, MEAN, DEVIATION) is plain
    black = np.zeros_like(plain)
    assert Holes().fill(black, MEAN, DEVIATION) is black


def test_where_no_tissue_lies_opposite_its_median_is_taken():
    # All but a frame is dark, so that no mirror or shift covers the middle.
    image = np.full((1, SIDE, SIDE), 100, np.uint8)
    image[:, 8:-8, 8:-8] = 2
    filled = Holes(wider_px=16, margin_px=6).fill(image, 100.0, DEVIATION)
    assert (filled == 100).all()


def test_volumes_have_holes_too():
    volume = np.full((1, 24, 24, 24), 120, np.uint8)
    volume[:, 6:18, 6:18, 6:18] = 0
    holes = Holes(wider_px=8, margin_px=1)
    assert holes.find(volume, MEAN, DEVIATION)[12, 12, 12]
    assert (holes.fill(volume, MEAN, DEVIATION) >= 100).all()


def test_faults():
    for options in ({"darker": 0}, {"wider_px": float("inf")}, {"margin_px": 1.5}):
        with pytest.raises(RecipeError, match=next(iter(options))):
            Holes(**options)
    with pytest.raises(DataError, match="channels first"):
        Holes().find(np.zeros(5), MEAN, DEVIATION)
