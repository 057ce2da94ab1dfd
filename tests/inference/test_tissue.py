"""Tissue masks on made-up sections whose tissue is known."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import block_reduce

from brodmann.core import DataError, RecipeError, Volume, keyed_rng
from brodmann.inference import TissueMask, tissue_mask
from brodmann.inference.tissue import block_means


def section(shape=(300, 500), dark=False, speck=True):
    """Noisy ellipse with a hole and a speck of dirt; returns (volume at 10 um, truth)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = ((y - 150) / 110) ** 2 + ((x - 260) / 190) ** 2 < 1
    image = keyed_rng(0, "noise").normal(200, 30, (2, *shape)) + 60 * x / shape[1]
    image[0] += 900 * truth
    image[1] += 500 * truth * (1 + np.sin(x / 9))
    hole = (y - 150) ** 2 + (x - 250) ** 2 < 15**2
    image[:, hole] = 210
    if speck:
        image[:, 5:9, 5:9] = 4000
    image = 5000 - image if dark else image
    return Volume(image.astype(np.uint16), "cyx", (10.0, 10.0)), truth


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("method", ["otsu", "triangle"])
def test_tissue_is_found_whole_without_dirt(dark, method):
    image, truth = section(dark=dark)
    mask = tissue_mask(image, size=128, method=method)
    found = mask.window((slice(None), slice(None)))
    assert dice(found, truth) > (0.95 if method == "otsu" else 0.9)
    assert not found[:12, :12].any(), "dirt is not tissue"
    assert found[150, 250], "a hole in the tissue is filled"
    assert (found & truth).sum() > 0.995 * truth.sum(), "the margin keeps the rim"


def test_side_and_hole_size_can_be_said():
    image, truth = section(dark=True, speck=False)
    darker = tissue_mask(image, size=256, tissue="darker", max_hole_um=100, closing_um=0)
    found = darker.window((slice(None), slice(None)))
    assert not found[150, 250] and dice(found, truth) > 0.94
    brighter = tissue_mask(image, size=256, tissue="brighter", max_hole_um=100, closing_um=0)
    assert dice(brighter.window((slice(None), slice(None))), truth) < 0.5


def test_margin_and_closing_are_in_micrometres():
    data = np.zeros((1, 100, 200), np.uint8)
    data[:, 40:60, 40:90] = data[:, 40:60, 96:150] = 200
    image = Volume(data, "cyx", (20.0, 10.0))
    apart = tissue_mask(image, size=200, closing_um=0, margin_um=0)
    joined = tissue_mask(image, size=200, closing_um=60, margin_um=0)
    assert ndimage.label(apart.low)[1] == 2 and ndimage.label(joined.low)[1] == 1
    wide = tissue_mask(image, size=200, closing_um=0, margin_um=100)

    def extent(mask):
        return [np.ptp(np.flatnonzero(mask.low.any(1 - axis))) for axis in (0, 1)]

    um = [s * n for s, n in zip(apart.scale, image.spacing)]
    grown = [(b - a) * u for a, b, u in zip(extent(apart), extent(wide), um)]
    assert grown == [200, 200]


@pytest.mark.parametrize(("shape", "scale"), [((23, 37), (4, 5)), ((7, 23, 11), (2, 30, 3))])
def test_block_means_are_those_of_skimage(shape, scale, monkeypatch):
    data = keyed_rng(0, "blocks").integers(0, 60000, (2, *shape)).astype(np.uint16)
    volume = Volume(data, "cyx" if len(shape) == 2 else "czyx", (1.0,) * len(shape))
    scale = tuple(min(s, n) for s, n in zip(scale, shape))
    expected = block_reduce(data.astype(float), (1, *scale), np.nanmean, cval=np.nan)
    assert np.allclose(block_means(volume, scale), expected)
    monkeypatch.setattr("brodmann.inference.tissue.BAND", 1)
    assert np.allclose(block_means(volume, scale), expected)


def test_a_volume_with_long_voxels():
    z, y, x = np.mgrid[:12, :60, :60]
    truth = ((z - 6) / 4) ** 2 + ((y - 30) / 20) ** 2 + ((x - 30) / 20) ** 2 < 1
    mask = tissue_mask(Volume((truth * 900).astype(np.uint16), "zyx", (50.0, 10.0, 10.0)), size=60)
    assert mask.scale == (1, 1, 1) and dice(mask.low, truth) > 0.7
    assert (mask.low & truth).sum() == truth.sum()


def test_window_and_any_agree_with_the_full_mask():
    low = keyed_rng(0, "low").random((5, 4)) < 0.3
    mask = TissueMask(low, (7, 10), (33, 38))
    full = np.kron(low, np.ones((7, 10), bool))[:33, :38]
    for y, x in [(0, 0), (6, 9), (20, 3), (32, 37)]:
        window = (slice(y, min(y + 9, 33)), slice(x, min(x + 11, 38)))
        assert np.array_equal(mask.window(window), full[window])
    empty = (slice(3, 3), slice(0, 9))
    assert not mask.any(empty) and mask.any((slice(None), slice(None)))
    assert not any(
        mask.any((slice(y, y + 1), slice(x, x + 1))) != full[y, x]
        for y in range(0, 33, 3)
        for x in range(0, 38, 4)
    )


def test_digest_tells_masks_apart():
    low = np.zeros((2, 2), bool)
    other = low.copy()
    other[1, 1] = True
    masks = [TissueMask(low, (4, 4), (8, 8)), TissueMask(other, (4, 4), (8, 8))]
    masks += [TissueMask(low, (4, 4), (7, 8))]
    assert len({mask.digest() for mask in masks}) == 3


def test_what_cannot_be_is_refused():
    flat = Volume(np.full((1, 50, 50), 7.0), "cyx", (1.0, 1.0))
    with pytest.raises(DataError, match="no tissue"):
        tissue_mask(flat)
    with pytest.raises(DataError, match="large enough"):
        tissue_mask(section()[0], size=64, min_share=0.99, margin_um=0)
    with pytest.raises(RecipeError, match="threshold"):
        tissue_mask(flat, method="magic")
    with pytest.raises(RecipeError, match="side"):
        tissue_mask(flat, tissue="left")
    with pytest.raises(DataError, match=r"\(2, 3\)"):
        TissueMask(np.zeros((2, 2), bool), (4, 4), (8, 9))


def test_nan_counts_as_background():
    image, truth = section(speck=False)
    data = image.data.astype(np.float32)
    data[:, :, :30] = np.nan
    mask = tissue_mask(Volume(data, "cyx", (10.0, 10.0)), size=128)
    found = mask.window((slice(None), slice(None)))
    assert dice(found, truth) > 0.95 and not found[:, :20].any()
