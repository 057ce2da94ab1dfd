"""A cube about a place, in another spacing, and beyond the borders of its volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import Volume

REACH = 3.0
"""Standard deviations of the smoothing that count."""


def sample_about(
    volume: Volume, at: Sequence[float], shape: Sequence[int], ratio: Sequence[float]
) -> np.ndarray:
    """A cube whose voxel n // 2 lies at a point.

    Parameters
    ----------
    volume : Volume
        One channel; only what is needed is read. It is continued by reflection, the border
        itself repeated (numpy's "symmetric").
    at : sequence of float
        In voxels. On an axis with ratio 1 it is rounded, so that nothing is interpolated.
    shape : sequence of int
        Of the cube.
    ratio : sequence of float
        Voxels of the volume from one of the cube's to the next.

    Returns
    -------
    ndarray
        Of the volume's type; whole numbers are rounded.

    Example
    -------
    >>> ramp = Volume(np.arange(6.0).reshape(1, 6), "yx", (1, 1))
    >>> sample_about(ramp, (0, 1), (1, 6), (1, 1)).tolist()
    [[1.0, 0.0, 0.0, 1.0, 2.0, 3.0]]
    >>> sample_about(ramp, (0, 2.5), (1, 3), (1, 0.5)).tolist()
    [[2.0, 2.5, 3.0]]
    """
    from scipy import ndimage

    places: list[np.ndarray | None] = []
    rows = []
    for place, size, step, length in zip(at, shape, ratio, volume.spatial_shape):
        if np.isclose(step, 1.0, rtol=1e-3):
            wanted = np.arange(size) - size // 2 + float(np.floor(place + 0.5))
            places.append(None)
            low, high = int(wanted[0]), int(wanted[-1])
        else:
            wanted = (np.arange(size) - size // 2) * step + place
            margin = 1 + int(np.ceil(REACH * _deviation(step)))
            low, high = int(np.floor(wanted[0])) - margin, int(np.ceil(wanted[-1])) + margin
            places.append(wanted - low)
        rows.append(mirrored(np.arange(low, high + 1), length))
    window = tuple(slice(int(r.min()), int(r.max()) + 1) for r in rows)
    block = volume.read(window)[0][np.ix_(*(r - part.start for r, part in zip(rows, window)))]
    if all(place is None for place in places):
        return block
    values = block.astype(np.float32)
    for axis, (wanted_, step) in enumerate(zip(places, ratio)):
        if wanted_ is None:
            continue
        if step > 1:
            values = ndimage.gaussian_filter1d(
                values, _deviation(step), axis=axis, truncate=REACH, mode="nearest"
            )
        below = np.floor(wanted_).astype(int)
        weight = (wanted_ - below).astype(np.float32)
        weight = weight.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        first, second = values.take(below, axis), values.take(below + 1, axis)
        values = first + (second - first) * weight
    if block.dtype.kind in "iu":
        bounds = np.iinfo(block.dtype)
        values = np.rint(values).clip(bounds.min, bounds.max)
    return values.astype(block.dtype)


def _deviation(step: float) -> float:
    """Smoothing before a volume is made coarser, as for pyramids."""
    return max(0.0, (step - 1.0) / 2.0)


def mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Where each index, on either side of an axis, lies within it.

    >>> mirrored(np.arange(-3, 6), 3).tolist()
    [2, 1, 0, 0, 1, 2, 2, 1, 0]
    """
    wrapped = np.mod(index, 2 * length)
    return np.where(wrapped < length, wrapped, 2 * length - 1 - wrapped)
