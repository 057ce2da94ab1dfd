"""Morphological opening of a whole label map at once, however many labels it has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

REACH = 6
"""Pixels that an opening removes look so many radii far for the nearest one that stays."""


def ball(radius_vox: Sequence[float]) -> np.ndarray:
    """Offsets (n, ndim) of an ellipsoid's voxels, nearest to the centre first.

    >>> ball((1, 1)).tolist()
    [[0, 0], [-1, 0], [0, -1], [0, 1], [1, 0]]
    """
    radius = np.asarray(radius_vox, float)
    spans = [np.arange(-int(r), int(r) + 1) for r in radius]
    grid = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, len(radius))
    distance = ((grid / np.maximum(radius, 1e-9)) ** 2).sum(1)
    inside = distance <= 1 + 1e-9
    grid, distance = grid[inside], distance[inside]
    return grid[np.argsort(distance, kind="stable")]


def opened(labels: np.ndarray, changed: np.ndarray, radius_vox: Sequence[float]) -> np.ndarray:
    """Labels without slivers: every label opened by a ball, within `changed` only.

    A pixel stays if some ball that holds it lies wholly in its own label. Others take the
    label of the nearest pixel that stays. A label that would vanish from the image is left as
    it is: thin layers are anatomy. Pixels outside the image are taken to agree.

    Parameters
    ----------
    labels : (*spatial) integers, 2D or 3D
    changed : (*spatial) bool
        Where labels may change.
    radius_vox : sequence of float
        Of the ball, one for each axis; below 1 on every axis nothing is done.

    Returns
    -------
    ndarray
        A new array of the same dtype.

    One pass whatever the number of labels: a ball lies in one label where its smallest and
    its largest label agree. Source: Yuan et al. 2026 (PRMix), section 5.1.

    Example
    -------
    >>> labels = np.ones((5, 5), int); labels[2] = 2; labels[2:, 2:] = 2
    >>> opened(labels, np.ones((5, 5), bool), (1, 1))[2].tolist()
    [1, 1, 1, 2, 2]
    """
    radius = np.asarray(radius_vox, float)
    if (radius < 1).all() or not changed.any():
        return labels.copy()
    extra = (1,) * (3 - labels.ndim)
    radius = np.concatenate([np.zeros(len(extra)), radius])
    near = ball(radius)
    far = ball(np.where(radius >= 1, radius * REACH, 0))
    solid = labels.reshape(*extra, *labels.shape)
    where = changed.reshape(solid.shape)
    stays = _stays(solid, where, near)
    doubtful = np.unique(solid[where & ~stays])
    for lost in doubtful[~_lives(solid, where, stays, doubtful)]:
        stays |= where & (solid == lost)
    result = solid.copy()
    _fill(solid, where, stays, far, result)
    return result.reshape(labels.shape)


@njit(nogil=True, cache=True)
def _pure(labels, z, y, x, near):
    depth, height, width = labels.shape
    own = labels[z, y, x]
    for i in range(near.shape[0]):
        k, j, m = z + near[i, 0], y + near[i, 1], x + near[i, 2]
        inside = 0 <= k < depth and 0 <= j < height and 0 <= m < width
        if inside and labels[k, j, m] != own:
            return False
    return True


@njit(nogil=True, cache=True)
def _stays(labels, where, near):
    depth, height, width = labels.shape
    stays = np.zeros(labels.shape, np.bool_)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not where[z, y, x]:
                    continue
                for i in range(near.shape[0]):
                    k, j, m = z + near[i, 0], y + near[i, 1], x + near[i, 2]
                    if not (0 <= k < depth and 0 <= j < height and 0 <= m < width):
                        continue
                    if labels[k, j, m] == labels[z, y, x] and _pure(labels, k, j, m, near):
                        stays[z, y, x] = True
                        break
    return stays


@njit(nogil=True, cache=True)
def _lives(labels, where, stays, wanted):
    """Of sorted labels, which are found on a pixel that stays or may not change."""
    found = np.zeros(wanted.size, np.bool_)
    left = wanted.size
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            if left == 0:
                return found
            for x in range(width):
                if where[z, y, x] and not stays[z, y, x]:
                    continue
                i = np.searchsorted(wanted, labels[z, y, x])
                if i < wanted.size and wanted[i] == labels[z, y, x] and not found[i]:
                    found[i] = True
                    left -= 1
    return found


@njit(nogil=True, cache=True)
def _fill(labels, where, stays, far, result):
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not where[z, y, x] or stays[z, y, x]:
                    continue
                for i in range(far.shape[0]):
                    k, j, m = z + far[i, 0], y + far[i, 1], x + far[i, 2]
                    if not (0 <= k < depth and 0 <= j < height and 0 <= m < width):
                        continue
                    if stays[k, j, m] or not where[k, j, m]:
                        result[z, y, x] = labels[k, j, m]
                        break
