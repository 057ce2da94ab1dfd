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
    solid = np.ascontiguousarray(labels).reshape(*extra, *labels.shape)
    where = changed.reshape(solid.shape)
    points = _near_borders(solid, where, near)
    falls = points[~_stay(solid, points, near)]
    gone, lost = np.unique(solid.reshape(-1)[falls], return_counts=True)
    falls = falls[np.isin(solid.reshape(-1)[falls], gone[_count(solid, gone) > lost])]
    result = solid.copy()
    _fill(solid, falls, far, result)
    return result.reshape(labels.shape)


def seams(origin: np.ndarray, radius_vox: Sequence[float]) -> np.ndarray:
    """Where parts of different origin meet: mask of pixels within two radii of such a border.

    Parameters
    ----------
    origin : (*spatial) uint8
        0 where the target was left alone, else the number of the part that was put there;
        pixels of origin 0 are never in the mask.
    radius_vox : sequence of float

    Example
    -------
    >>> seams(np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1]], np.uint8), (0, 1)).astype(int).tolist()
    [[0, 0, 0, 0, 1, 1, 1, 0, 0]]
    """
    extra = (1,) * (3 - origin.ndim)
    near = ball(np.concatenate([np.zeros(len(extra)), np.asarray(radius_vox, float)]))
    solid = np.ascontiguousarray(origin).reshape(*extra, *origin.shape)
    mask = np.zeros(solid.shape, bool)
    mask.reshape(-1)[_near_borders(solid, solid > 0, near)] = True
    return mask.reshape(origin.shape)


def _near_borders(labels: np.ndarray, where: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Flat positions, sorted, of pixels in `where` that an opening might remove.

    Only pixels that lie within two radii of a border between labels, which are few.
    """
    close = np.zeros(labels.shape, bool)
    reach = 2 * np.abs(near).max(axis=0)
    for axis, size in enumerate(labels.shape):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(size - 1),)
        _mark(np.flatnonzero(labels[ahead] != labels[behind]), labels[ahead].shape, reach, close)
    close &= where
    return np.flatnonzero(close)


@njit(nogil=True, cache=True)
def _mark(borders, shape, reach, close):
    """Set a box about every border; a border lies between a pixel and the next on some axis."""
    depth, height, width = close.shape
    for flat in borders:
        z, rest = divmod(flat, shape[1] * shape[2])
        y, x = divmod(rest, shape[2])
        for k in range(max(0, z - reach[0]), min(depth, z + reach[0] + 2)):
            for j in range(max(0, y - reach[1]), min(height, y + reach[1] + 2)):
                for m in range(max(0, x - reach[2]), min(width, x + reach[2] + 2)):
                    close[k, j, m] = True


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
def _stay(labels, points, near):
    depth, height, width = labels.shape
    stay = np.zeros(points.size, np.bool_)
    for n in range(points.size):
        z, rest = divmod(points[n], height * width)
        y, x = divmod(rest, width)
        for i in range(near.shape[0]):
            k, j, m = z + near[i, 0], y + near[i, 1], x + near[i, 2]
            if not (0 <= k < depth and 0 <= j < height and 0 <= m < width):
                continue
            if labels[k, j, m] == labels[z, y, x] and _pure(labels, k, j, m, near):
                stay[n] = True
                break
    return stay


@njit(nogil=True, cache=True)
def _count(labels, wanted):
    """How many pixels each of some sorted labels has."""
    counts = np.zeros(wanted.size, np.int64)
    last, place = labels[0, 0, 0], -1
    fresh = True
    for label in labels.flat:
        if fresh or label != last:
            i = np.searchsorted(wanted, label)
            place = i if i < wanted.size and wanted[i] == label else -1
            last, fresh = label, False
        if place >= 0:
            counts[place] += 1
    return counts


@njit(nogil=True, cache=True)
def _fill(labels, falls, far, result):
    depth, height, width = labels.shape
    for n in range(falls.size):
        z, rest = divmod(falls[n], height * width)
        y, x = divmod(rest, width)
        for i in range(far.shape[0]):
            k, j, m = z + far[i, 0], y + far[i, 1], x + far[i, 2]
            if not (0 <= k < depth and 0 <= j < height and 0 <= m < width):
                continue
            flat = (k * height + j) * width + m
            at = np.searchsorted(falls, flat)
            if at == falls.size or falls[at] != flat:
                result[z, y, x] = labels[k, j, m]
                break
