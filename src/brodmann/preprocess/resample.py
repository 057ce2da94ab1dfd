"""Another spacing, computed where it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from brodmann.core import Volume

SAME = 0.02
"""Spacings that differ by less than this share are taken as equal."""


def at_spacing(volume: Volume, spacing: Sequence[float]) -> Volume:
    """The same image on a grid of another spacing; windows are made when they are read.

    Both grids cover the same extent, pixel edges aligned at the origin. Values are linear
    between voxel centres, after a blur that removes what a coarser grid cannot hold.

    Parameters
    ----------
    volume : Volume
    spacing : sequence of float
        Micrometres, one for each spatial axis.

    Returns
    -------
    Volume
        float32 where anything changes; the volume itself where nothing does.

    Example
    -------
    >>> ramp = Volume(np.tile(np.arange(8.0), (4, 1)), "yx", (1.0, 1.0))
    >>> at_spacing(ramp, (1.0, 2.0)).read()[0, 0, 1:3].tolist()
    [2.5, 4.5]
    """
    factors = [new / old for new, old in zip(spacing, volume.spacing)]
    if all(abs(factor - 1) <= SAME for factor in factors):
        return volume
    return Volume(
        _Resampled(volume, factors),
        "c" + volume.spatial_axes,
        tuple(spacing),
        volume.channels,
    )


def nearest(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Labels on another grid of the same extent: the nearest one, never a mixture.

    >>> nearest(np.array([[1, 2, 3, 4]]), (1, 2)).tolist()
    [[2, 4]]
    """
    picks = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(shape, labels.shape)
    ]
    return labels[np.ix_(*picks)]


class _Resampled:
    """(c, *spatial) float32, read by window."""

    dtype = np.dtype(np.float32)

    def __init__(self, volume: Volume, factors: list[float]) -> None:
        self.volume, self.factors = volume, factors
        spatial = (max(1, round(n / f)) for n, f in zip(volume.spatial_shape, factors))
        self.shape = (volume.num_channels, *spatial)

    def __getitem__(self, window: Any) -> np.ndarray:
        if window is Ellipsis:
            window = ()
        window = window if isinstance(window, tuple) else (window,)
        window = (*window, *(slice(None),) * (len(self.shape) - len(window)))
        ranges = [np.arange(n)[part] for n, part in zip(self.shape[1:], window[1:])]
        read, places = [], []
        for index, factor, length in zip(ranges, self.factors, self.volume.spatial_shape):
            centre = (index + 0.5) * factor - 0.5
            reach = int(np.ceil(2 * factor)) + 2
            low = max(0, int(np.floor(centre.min())) - reach)
            high = min(length, int(np.ceil(centre.max())) + reach + 1)
            read.append(slice(low, high))
            places.append(centre - low)
        block = self.volume.read(tuple(read)).astype(np.float32)[window[0]]
        sigmas = [max(0.0, (factor - 1) / 2) for factor in self.factors]
        grid = np.meshgrid(*places, indexing="ij")
        out = np.empty((len(block), *(len(index) for index in ranges)), np.float32)
        for channel, values in enumerate(block):
            if any(sigmas):
                values = ndimage.gaussian_filter(values, sigmas, mode="nearest", truncate=4)
            ndimage.map_coordinates(values, grid, out[channel], order=1, mode="nearest")
        return out
