"""What a detector's net should say, made of points or masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import RecipeError

SIGMAS = 4.0
"""A Gaussian ends after so many deviations."""


def ball_target(
    points: np.ndarray, shape: Sequence[int], radius_um: float, spacing: Sequence[float]
) -> np.ndarray:
    """Balls drawn around centres: 1 within `radius_um` of a centre, 0 elsewhere.

    The voxel nearest to a centre always belongs to its ball, so that no cell is lost where
    voxels are larger than the radius.

    Parameters
    ----------
    points : (n, d) float
        Voxels.
    shape : sequence of int
    radius_um : float
    spacing : sequence of float
        Micrometres per voxel along each axis.

    Returns
    -------
    ndarray
        `shape` float32.

    Example
    -------
    >>> ball_target(np.array([[1.0, 2.0]]), (3, 5), 2.0, (4.0, 2.0)).tolist()[1]
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    return _drawn(points, shape, spacing, radius_um, lambda near: (near <= radius_um**2) * 1.0)


def gaussian_target(
    points: np.ndarray, shape: Sequence[int], sigma_um: float, spacing: Sequence[float]
) -> np.ndarray:
    """A soft target: exp(-d2 / 2 sigma2) of the nearest centre, 1 at its nearest voxel.

    >>> gaussian_target(np.array([[2.0]]), (5,), 2.0, (2.0,)).round(1).astype(str).tolist()
    ['0.1', '0.6', '1.0', '0.6', '0.1']
    """
    return _drawn(
        points, shape, spacing, SIGMAS * sigma_um, lambda near: np.exp(near / (-2 * sigma_um**2))
    )


def _drawn(points, shape, spacing, reach_um, value):
    if not reach_um > 0:
        raise RecipeError("the size of a target is above 0 um", "target.size_um", reach_um)
    target = np.zeros(tuple(shape), np.float32)
    steps = np.asarray(spacing, np.float64)
    reach = np.ceil(reach_um / steps).astype(int)
    for point in np.asarray(points, np.float64).reshape(-1, len(steps)):
        nearest = np.rint(point).astype(int)
        low = np.maximum(nearest - reach, 0)
        high = np.minimum(nearest + reach + 1, shape)
        if (low >= high).any():
            continue
        axes = [((np.arange(a, b) - p) * s) ** 2 for a, b, p, s in zip(low, high, point, steps)]
        near = sum(np.ix_(*axes))
        window = tuple(slice(a, b) for a, b in zip(low, high))
        np.maximum(target[window], value(near), out=target[window], casting="same_kind")
        at = tuple(np.clip(nearest, 0, np.asarray(shape) - 1))
        target[at] = 1.0
    return target
