"""Which part of a brain's volume is tissue, so that the empty rest is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from brodmann.core import Volume
from brodmann.inference.tissue import NoTissue, TissueMask, block_means, tissue_mask

SIZE = 128
"""Low-resolution voxels along the longest side."""
RIM = 0.5
"""A brain with a rim has less tissue on the volume's faces than this times that within."""
LEAST_SHARE = 0.1
"""Of a volume that a brain fills; less than that is a bright spot in one."""
DYNAMIC = 100.0
"""Brightness at which the logarithm sets in: this part of the brightest."""


def find_tissue(volume: Volume, coarse: Volume | None = None) -> TissueMask:
    """The tissue of a light-sheet volume, at low resolution and rather too much than too little.

    By the logarithm of brightness: bright regions within the brain do not push dim ones out.
    A volume without a dark rim is a piece of a brain; it is taken for tissue throughout, and so
    is one of which hardly anything stands out. An even one, zeros for instance, holds none.

    Parameters
    ----------
    volume : Volume
        Read once, in bounded memory.
    coarse : Volume, optional
        A coarser level of the same image, read in its stead. Each of its voxels stands for a
        whole number of those of `volume`.

    Returns
    -------
    TissueMask
        Over the grid of `volume`.

    Example
    -------
    >>> data = np.zeros((8, 40, 40), np.uint16)
    >>> data[2:6, 10:30, 10:30] = 100
    >>> mask = find_tissue(Volume(data, "zyx", (4.0, 2.0, 2.0)))
    >>> bool(mask.any((slice(0, 8), slice(0, 8), slice(0, 8)))), float(mask.low.mean()) > 0.1
    (False, True)
    """
    shape, factors = volume.spatial_shape, (1,) * volume.ndim
    if coarse is not None:
        found = factors_of(volume, coarse)
        if found is not None:
            factors = found
    image = volume if coarse is None or max(factors) == 1 else coarse
    pixel = max(n * um for n, um in zip(shape, volume.spacing)) / SIZE
    own = tuple(
        min(n, max(1, round(pixel / um))) for n, um in zip(image.spatial_shape, image.spacing)
    )
    means = np.nan_to_num(block_means(image, own)).max(0)
    scale = tuple(a * b for a, b in zip(own, factors))
    away = np.maximum(means - np.percentile(means, 1), 0)
    top = float(away.max())
    log = np.log1p(away * (DYNAMIC / top)) if top > 0 else away
    low = Volume(
        log.astype(np.float32),
        volume.spatial_axes,
        tuple(s * um for s, um in zip(scale, volume.spacing)),
    )
    try:
        # One low-resolution voxel for each of these.
        pixels = math.ceil(max(n * um for n, um in zip(log.shape, low.spacing)) / min(low.spacing))
        mask = tissue_mask(low, size=pixels, tissue="brighter").low
    except NoTissue:
        return TissueMask(np.zeros(log.shape, bool), scale, shape)
    share = mask.mean()
    if _faces(mask) > RIM * share or share < LEAST_SHARE:
        mask = np.ones(log.shape, bool)
    return TissueMask(mask, scale, shape)


def factors_of(volume: Volume, coarse: Volume) -> tuple[int, ...] | None:
    """Voxels of `volume` in one of a coarser level, None where it is not a whole number."""
    factors = tuple(max(1, round(b / a)) for a, b in zip(volume.spacing, coarse.spacing))
    fits = all(
        math.ceil(n / f) == m and abs(um * f / step - 1) < 0.01
        for n, m, f, um, step in zip(
            volume.spatial_shape, coarse.spatial_shape, factors, volume.spacing, coarse.spacing
        )
    )
    return factors if fits else None


def _faces(mask: np.ndarray) -> float:
    """Share of the outer faces that is set."""
    faces: Sequence[np.ndarray] = [
        mask.take(at, axis).ravel() for axis in range(mask.ndim) for at in (0, -1)
    ]
    return float(np.concatenate(faces).mean())
