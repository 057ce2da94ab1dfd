"""Exact Euclidean distance to a set of pixels, as areas, in any spacing."""

from __future__ import annotations

import numpy as np
from numba import njit


def distance_to(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Distance of every pixel's centre from the nearest point of the area of `mask`.

    Pixels are rectangles: the centre beside one is half a pixel away from it, whatever the
    spacing, so that distances to a border are the same from both of its sides.

    Parameters
    ----------
    mask : (h, w) bool
    spacing : (y, x)
        In micrometres.

    Returns
    -------
    (h, w) float64
        In micrometres; 0 within, infinite where the mask is empty.

    Notes
    -----
    Felzenszwalb and Huttenlocher (2012): a pass over columns, then the lower envelope of
    parabolas over each row, here with one over each centre and one over each edge between;
    time is linear in the number of pixels.

    Example
    -------
    >>> distance_to(np.array([[True, False, False]]), (1.0, 2.0)).tolist()
    [[0.0, 1.0, 3.0]]
    """
    return _distance(np.ascontiguousarray(mask), float(spacing[0]), float(spacing[1]))


@njit(cache=True, nogil=True)
def _distance(mask, step_y, step_x):
    height, width = mask.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                out[y, x] = 0.0
            elif y == 0 or out[y - 1, x] == np.inf:
                out[y, x] = np.inf
            else:
                out[y, x] = out[y - 1, x] + (step_y / 2 if mask[y - 1, x] else step_y)
    for y in range(height - 2, -1, -1):
        for x in range(width):
            below = out[y + 1, x] + (step_y / 2 if mask[y + 1, x] else step_y)
            out[y, x] = min(out[y, x], below)
    # In half pixels: centres are even, edges odd.
    half = step_x / 2
    roots = np.empty(2 * width, np.int64)
    edges = np.empty(2 * width)
    heights = np.empty(2 * width)
    for y in range(height):
        count = 0
        for x in range(2 * width - 1):
            if x % 2 == 0:
                value = out[y, x // 2]
            else:
                value = min(out[y, x // 2], out[y, x // 2 + 1])
            if value == np.inf:
                continue
            value *= value
            meet = -np.inf
            while count:
                r = roots[count - 1]
                # Where the two parabolas meet.
                meet = 0.5 * (x + r) + (value - heights[count - 1]) / (2 * half * half * (x - r))
                if meet > edges[count - 1]:
                    break
                count -= 1
                meet = -np.inf
            roots[count], heights[count], edges[count] = x, value, meet
            count += 1
        if not count:
            continue
        k = 0
        for x in range(width):
            while k + 1 < count and edges[k + 1] < 2 * x:
                k += 1
            along = (2 * x - roots[k]) * half
            out[y, x] = np.sqrt(along * along + heights[k])
    return out
