"""Box mean in 3D in one pass over memory, and what an image is without it.

Planes are summed one after the other, the last few kept; sums of whole numbers are exact, so that
a voxel has the same number whatever window it is asked for in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from brodmann.problems.cells.windows import in_depth, mirrored


def box_mean(values: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """Mean over a box of odd sides about each voxel, mirrored at the border.

    Parameters
    ----------
    values : ndarray of 1 to 3 axes, any real dtype
    sides : sequence of int
        One for each axis.

    Returns
    -------
    ndarray, float32
        Of whole numbers of up to 16 bits exactly rounded; else of sums in float64.

    >>> box_mean(np.float32([[0, 0, 3, 0, 0]]), [1, 3]).tolist()
    [[0.0, 1.0, 1.0, 1.0, 0.0]]
    """
    return _boxed(values, sides, (), None, 0.0, 1.0)


def box_contrast(
    values: np.ndarray,
    sides: Sequence[int],
    unit: float,
    window: Sequence[slice] = (),
    out: np.ndarray | None = None,
) -> np.ndarray:
    """What is left of an image without its box mean, in units.

    Parameters
    ----------
    values : ndarray of 1 to 3 axes, any real dtype
    sides : sequence of int
        As of `box_mean`.
    unit : float
    window : sequence of slice
        What is wanted of the answer; all by default.
    out : ndarray, optional
        Contiguous float32 of the window's shape, to be filled.

    Returns
    -------
    ndarray, float32

    >>> box_contrast(np.float32([[0, 0, 3, 0, 0]]), [1, 3], 2.0).tolist()
    [[0.0, -0.5, 1.0, -0.5, 0.0]]
    """
    return _boxed(values, sides, window, out, 1.0, -1.0, unit)


def _boxed(
    values: np.ndarray,
    sides: Sequence[int],
    window: Sequence[slice],
    out: np.ndarray | None,
    own: float,
    ground: float,
    unit: float = 1.0,
) -> np.ndarray:
    """(own * values + ground * mean) / unit"""
    kind, size = values.dtype.kind, values.dtype.itemsize
    whole = kind in "bui" and size <= 2 and math.prod(sides) < 1 << 16
    if kind == "b" or values.dtype == np.float16:
        values = values.astype(np.uint8 if kind == "b" else np.float32)
    # Sums may run over and come back: what counts is the difference of two, which fits.
    sums = np.zeros(0, (np.int32 if kind == "i" else np.uint32) if whole else np.float64)
    values, spans, out = in_depth(values, window, out)
    reach = [0] * (3 - len(sides)) + [side // 2 for side in sides]
    if out.size:
        _box(
            values,
            np.column_stack([np.array(reach, np.int64), spans]),
            sums,
            np.array([own / unit, ground / math.prod(sides) / unit]),
            out.reshape([b - a for a, b in spans]),
        )
    return out


@njit(cache=True, nogil=True)
def _box(values, place, kind, share, out):  # pragma: no cover (compiled)
    rz, z0, z1 = place[0]
    height, width = out.shape[1:]
    planes = np.empty((2 * rz + 1, height, width), kind.dtype)
    total = np.zeros((height, width), kind.dtype)
    for z in range(z0 - rz, z1 + rz):
        slot = planes[(z - z0 + rz) % (2 * rz + 1)]
        if z > z0 + rz:
            for y in range(height):
                _less(total[y], slot[y])
        _flat(values[mirrored(z, len(values))], place, slot)
        for y in range(height):
            _more(total[y], slot[y])
        if z >= z0 + rz:
            _row(values[z - rz], place, total, share, out[z - rz - z0])


@njit(cache=True, nogil=True)
def _more(total, part):  # pragma: no cover (compiled)
    for k in range(len(total)):
        total[k] += part[k]


@njit(cache=True, nogil=True)
def _less(total, part):  # pragma: no cover (compiled)
    for k in range(len(total)):
        total[k] -= part[k]


@njit(cache=True, nogil=True)
def _flat(plane, place, sums):  # pragma: no cover (compiled)
    """Box sums of a plane."""
    (ry, y0, y1), (rx, x0, x1) = place[1], place[2]
    tall, wide = plane.shape
    left, right = max(0, x0 - rx), min(wide, x1 + rx)
    columns = np.zeros(wide, sums.dtype)
    line = np.empty(x1 - x0 + 2 * rx, sums.dtype)
    for y in range(y0 - ry, y0 + ry):
        _more(columns[left:right], plane[mirrored(y, tall), left:right])
    before, after = left - x0 + rx, right - x0 + rx
    for y in range(y0, y1):
        _more(columns[left:right], plane[mirrored(y + ry, tall), left:right])
        line[before:after] = columns[left:right]
        for k in range(before):
            line[k] = columns[mirrored(x0 - rx + k, wide)]
        for k in range(after, len(line)):
            line[k] = columns[mirrored(x0 - rx + k, wide)]
        _slid(line, rx, sums[y - y0])
        _less(columns[left:right], plane[mirrored(y - ry, tall), left:right])


@njit(cache=True, nogil=True)
def _slid(line, reach, sums):  # pragma: no cover (compiled)
    total = line[0]
    for k in range(1, 2 * reach):
        total += line[k]
    if reach == 0:
        sums[:] = line
        return
    for k in range(len(sums)):
        total += line[k + 2 * reach]
        sums[k] = total
        total -= line[k]


@njit(cache=True, nogil=True)
def _row(plane, place, total, share, out):  # pragma: no cover (compiled)
    own, ground = share
    (_, y0, _), (_, x0, _) = place[1], place[2]
    for y in range(len(out)):
        _weighed(plane[y + y0, x0:], total[y], own, ground, out[y])


@njit(cache=True, nogil=True)
def _weighed(row, total, own, ground, out):  # pragma: no cover (compiled)
    for x in range(len(out)):
        out[x] = own * row[x] + ground * total[x]
