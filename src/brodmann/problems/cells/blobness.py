"""Laplacian of Gaussian in 3D, in one pass over memory.

Tiles of lines are filtered while they stay in cache, and each voxel gets the same number whatever
window it is asked for in: taps are added in one order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from brodmann.core import RecipeError
from brodmann.problems.cells.windows import in_depth, mirrored

TRUNCATE = 4.0
"""A Gaussian ends after so many deviations."""
ROWS = 16
"""Lines of a tile."""
WIDE = 528
"""Numbers from a line of a tile to the next: no power of two, whose lines share a place in cache."""
AT_ONCE = 16
"""Numbers that a loop takes together whatever the processor; the rest would go one by one."""
FAST = {"cache": True, "nogil": True, "fastmath": {"contract"}}


def gaussian_reach(sigma: float) -> int:
    """Voxels to each side of a Gaussian's middle.

    >>> gaussian_reach(1.5)
    6
    """
    return int(TRUNCATE * sigma + 0.5)


def blobness(
    values: np.ndarray,
    sigma: Sequence[float],
    window: Sequence[slice] = (),
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Scale-normalised, negated Laplacian of Gaussian, mirrored at the border.

    Parameters
    ----------
    values : ndarray of 1 to 3 axes
        Computed in float32.
    sigma : sequence of float
        Deviation along each axis in voxels.
    window : sequence of slice
        What is wanted of the answer; all by default.
    out : ndarray, optional
        Contiguous float32 of the window's shape, to be filled.

    Returns
    -------
    ndarray, float32
        The negated sum over axes of sigma ** 2 times the second derivative of what a Gaussian
        smooths; a flat image has none.

    Raises
    ------
    RecipeError
        If a Gaussian is too wide for a tile of lines.

    >>> spot = np.zeros((1, 9, 9), np.float32)
    >>> spot[0, 4, 4] = 1
    >>> heat = blobness(spot, (1.0, 1.5, 1.5))
    >>> bool(heat[0, 4, 4] == heat.max() > 0)
    True
    """
    values, spans, out = in_depth(np.asarray(values, np.float32), window, out)
    # An axis that there is not has one tap, and no bend.
    halves = [np.float32([[1], [0]])] * (3 - len(sigma)) + [_halves(s) for s in sigma]
    if max(half.shape[1] for half in halves) > WIDE // 4:
        raise RecipeError(
            "a Gaussian is too wide",
            "sigma",
            f"{max(sigma):g} voxels",
            "look for it in a coarser volume",
        )
    # Taps go four at a time; those beyond the last are 0.
    deep = np.concatenate([halves[0][:, :0:-1], halves[0]], 1)
    deep = np.pad(deep, ((0, 0), (0, -deep.shape[1] % 4)))
    tall, wide = (np.pad(half, ((0, 0), (0, -(half.shape[1] - 1) % 4))) for half in halves[1:])
    if out.size:
        placed = out.reshape([b - a for a, b in spans])
        _blobs(values, spans, halves[0].shape[1] - 1, deep, tall, wide, placed)
    return out


def _halves(sigma: float) -> np.ndarray:
    """(2, reach + 1), from the middle outwards: a Gaussian, and its bend.

    The bend is the negated sigma ** 2 times the second derivative, and sums to 0.
    """
    reach = gaussian_reach(sigma)
    at = np.arange(-reach, reach + 1)
    kernel = np.exp(-(at**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    bend = (at**2 / sigma**2 - 1) * kernel
    bend -= bend.sum() * kernel
    return np.stack([kernel, -bend])[:, reach:].astype(np.float32)


@njit(**FAST)
def _blobs(values, spans, rz, deep, tall, wide, out):  # pragma: no cover (compiled)
    ry, rx = tall.shape[1] - 1, wide.shape[1] - 1
    (z0, z1), (y0, y1), (x0, x1) = spans
    slots = 2 * rz + 1
    given = np.zeros((ROWS + 2 * ry) * WIDE, np.float32)
    # What is smooth and what is bent lie side by side.
    lines = np.zeros(2 * WIDE, np.float32)
    planes = np.zeros(slots * ROWS * 2 * WIDE, np.float32)
    done = np.zeros(WIDE, np.float32)
    room = WIDE - 2 * rx - AT_ONCE
    for y in range(y0, y1, ROWS):
        rows = min(ROWS, y1 - y)
        for x in range(x0, x1, room):
            count = min(room, x1 - x)
            some = -(-count // AT_ONCE) * AT_ONCE
            more = -(-(count + 2 * rx) // AT_ONCE) * AT_ONCE
            for z in range(z0 - rz, z1 + rz):
                plane, slot = values[mirrored(z, len(values))], (z - z0 + rz) % slots
                _tile(plane, y - ry, rows + 2 * ry, x - rx, count + 2 * rx, given)
                for row in range(rows):
                    _both(given, row * WIDE, tall, more, lines)
                    _bend(lines, wide, some, planes[(slot * ROWS + row) * 2 * WIDE :])
                if z >= z0 + rz:
                    for row in range(rows):
                        _deep(planes, slots, z - z0 - rz, row, deep, some, done)
                        put = out[z - rz - z0, y - y0 + row]
                        put[x - x0 : x - x0 + count] = done[:count]


@njit(**FAST)
def _tile(plane, top, rows, left, count, given):  # pragma: no cover (compiled)
    """Part of a plane, mirrored beyond its borders."""
    tall, wide = plane.shape
    begin, end = max(0, -left), min(count, wide - left)
    for row in range(rows):
        seen = plane[mirrored(top + row, tall)]
        at = row * WIDE
        given[at + begin : at + end] = seen[left + begin : left + end]
        for k in range(begin):
            given[at + k] = seen[mirrored(left + k, wide)]
        for k in range(end, count):
            given[at + k] = seen[mirrored(left + k, wide)]


@njit(**FAST)
def _both(v, at, kernel, count, out):  # pragma: no cover (compiled)
    """Lines below each other as one: smooth, and bent."""
    reach = kernel.shape[1] - 1
    g, s = kernel[0, 0], kernel[1, 0]
    m = v[at + reach * WIDE :]
    for k in range(count):
        out[k] = g * m[k]
        out[WIDE + k] = s * m[k]
    for t in range(1, reach + 1, 4):
        ga, gb, gc, gd = kernel[0, t], kernel[0, t + 1], kernel[0, t + 2], kernel[0, t + 3]
        sa, sb, sc, sd = kernel[1, t], kernel[1, t + 1], kernel[1, t + 2], kernel[1, t + 3]
        low, high = v[at + (reach - t - 3) * WIDE :], v[at + (reach + t) * WIDE :]
        for k in range(count):
            a = low[3 * WIDE + k] + high[k]
            b = low[2 * WIDE + k] + high[WIDE + k]
            c = low[WIDE + k] + high[2 * WIDE + k]
            d = low[k] + high[3 * WIDE + k]
            out[k] += ga * a + gb * b + gc * c + gd * d
            out[WIDE + k] += sa * a + sb * b + sc * c + sd * d


@njit(**FAST)
def _bend(v, kernel, count, out):  # pragma: no cover (compiled)
    """A line that is smooth and bent so far: smoothed, and bent along it too."""
    reach = kernel.shape[1] - 1
    g, s = kernel[0, 0], kernel[1, 0]
    m = v[reach:]
    for k in range(count):
        out[k] = g * m[k]
        out[WIDE + k] = s * m[k] + g * m[WIDE + k]
    for t in range(1, reach + 1, 4):
        ga, gb, gc, gd = kernel[0, t], kernel[0, t + 1], kernel[0, t + 2], kernel[0, t + 3]
        sa, sb, sc, sd = kernel[1, t], kernel[1, t + 1], kernel[1, t + 2], kernel[1, t + 3]
        low, high = v[reach - t - 3 :], v[reach + t :]
        for k in range(count):
            a, b = low[k + 3] + high[k], low[k + 2] + high[k + 1]
            c, d = low[k + 1] + high[k + 2], low[k] + high[k + 3]
            out[k] += ga * a + gb * b + gc * c + gd * d
            bent = sa * a + sb * b + sc * c + sd * d
            n = WIDE + k
            a, b = low[n + 3] + high[n], low[n + 2] + high[n + 1]
            c, d = low[n + 1] + high[n + 2], low[n] + high[n + 3]
            out[n] += bent + ga * a + gb * b + gc * c + gd * d


@njit(**FAST)
def _deep(planes, slots, first, row, kernel, count, out):  # pragma: no cover (compiled)
    """Smooth planes bent, and bent ones smoothed, in the order of depth."""
    out[:count] = 0
    for t in range(0, kernel.shape[1], 4):
        ga, gb, gc, gd = kernel[0, t], kernel[0, t + 1], kernel[0, t + 2], kernel[0, t + 3]
        sa, sb, sc, sd = kernel[1, t], kernel[1, t + 1], kernel[1, t + 2], kernel[1, t + 3]
        a = planes[((first + t) % slots * ROWS + row) * 2 * WIDE :]
        b = planes[((first + t + 1) % slots * ROWS + row) * 2 * WIDE :]
        c = planes[((first + t + 2) % slots * ROWS + row) * 2 * WIDE :]
        d = planes[((first + t + 3) % slots * ROWS + row) * 2 * WIDE :]
        for k in range(count):
            n = WIDE + k
            bent = sa * a[k] + sb * b[k] + sc * c[k] + sd * d[k]
            out[k] += bent + ga * a[n] + gb * b[n] + gc * c[n] + gd * d[n]
