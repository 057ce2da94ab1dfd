"""Small volumes for the tests of this folder: neurites of 3D Voronoi cells, and affinities."""

import numpy as np
from scipy import ndimage

from brodmann.core import Affinities, Convention, Volume
from brodmann.core.affinities import NEAREST, pair_windows

SPACING_UM = (0.04, 0.01, 0.01)


def neurites(shape, count, seed=0):
    """Nearest-seed cells, stretched along z; ids 1..count, (z, y, x) uint32."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 1, (count, 3)) * shape
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    gaps = (grid[..., None, :] - seeds) * (0.7, 1, 1)
    return (1 + (gaps**2).sum(-1).argmin(-1)).astype(np.uint32)


def perfect(truth, offsets=NEAREST, spacing=SPACING_UM):
    """Affinities 255 within neurites and 0 between; 0 beyond the volume."""
    values = np.zeros((len(offsets), *truth.shape), np.uint8)
    for channel, offset in zip(values, offsets):
        here, there = pair_windows(truth.shape, offset)
        channel[here] = 255 * (truth[here] == truth[there])
    return Affinities(Volume(values, "czyx", spacing), Convention(tuple(offsets)))


def noisy(truth, offsets=NEAREST, seed=0):
    """Blurred in the plane, with noise."""
    exact = perfect(truth, offsets)
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(exact.volume.data / 255.0, (0, 0, 1, 1))
    values = np.clip(values + rng.normal(0, 0.1, values.shape), 0, 1)
    return Affinities(exact.volume.like(np.rint(255 * values).astype(np.uint8)), exact.convention)


def same_partition(a, b):
    """Whether two label images part the voxels in the same way."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)
