"""Box mean and Laplacian of Gaussian in 3D, as fast as memory lets one core be.

Both work line by line on strips that stay in cache, and give a voxel the same number whatever
window it is asked for in: taps are added in one order, and sums of whole numbers are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

STRIP = 256
"""Neighbouring lines that are filtered together."""
SPAN = 2048
"""Of a strip, as many numbers at once as stay in the nearest cache."""
TRUNCATE = 4.0
"""A Gaussian ends after so many deviations."""


def gaussian_reach(sigma: float) -> int:
    """Voxels to each side of a Gaussian's middle.

    >>> gaussian_reach(1.5)
    6
    """
    return int(TRUNCATE * sigma + 0.5)


def box_mean(values: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """Mean over a box of odd sides about each voxel, mirrored at the border.

    Parameters
    ----------
    values : ndarray (y, x) or (z, y, x), any real dtype
    sides : sequence of int
        One for each axis.

    Returns
    -------
    ndarray, float32
        Of whole numbers of up to 16 bits exactly rounded; else of sums in float64.

    >>> box_mean(np.float32([[0, 0, 3, 0, 0]]), [1, 3]).tolist()
    [[0.0, 1.0, 1.0, 1.0, 0.0]]
    """
    sums, least = _box_sums(np.asarray(values), sides)
    mean = np.empty(sums.shape, np.float32)
    _scaled(sums.reshape(-1), 1.0 / math.prod(sides), float(least), mean.reshape(-1))
    return mean


def box_contrast(
    values: np.ndarray, sides: Sequence[int], unit: float, window: Sequence[slice] = ()
) -> np.ndarray:
    """What is left of an image without its box mean, in units; in one pass over memory.

    Parameters
    ----------
    values : ndarray (y, x) or (z, y, x), any real dtype
    sides : sequence of int
        As of `box_mean`.
    unit : float
    window : sequence of slice
        What is wanted of the answer; all by default.

    Returns
    -------
    ndarray, float32

    >>> box_contrast(np.float32([[0, 0, 3, 0, 0]]), [1, 3], 2.0).tolist()
    [[0.0, -0.5, 1.0, -0.5, 0.0]]
    """
    values = np.asarray(values)
    sums, least = _box_sums(values, sides)
    window = tuple(window) or (slice(None),) * values.ndim
    values, sums = values[window], sums[window]
    contrast = np.empty(values.shape, np.float32)
    # Rows of a window follow no single step.
    flat = (1,) * (3 - values.ndim) + values.shape
    _left(
        values.reshape(flat) if values.ndim < 3 else values,
        sums.reshape(flat) if values.ndim < 3 else sums,
        1.0 / math.prod(sides),
        float(least),
        1.0 / unit,
        contrast.reshape(flat),
    )
    return contrast


def _box_sums(values: np.ndarray, sides: Sequence[int]) -> tuple[np.ndarray, int]:
    """Sums over boxes of the values less the least that their kind can be."""
    count, least = math.prod(sides), 0
    if values.dtype.kind in "bui" and values.dtype.itemsize <= 2 and count < 1 << 16:
        # Sums may run over and come back: what counts is the difference of two, which fits.
        if values.dtype.kind == "i":
            least = -(1 << 15)
            sums = (values.astype(np.int32) - least).view(np.uint32)
        else:
            sums = values.astype(np.uint32)
    else:
        sums = values.astype(np.float64)
    sums = np.ascontiguousarray(sums)
    for axis, side in enumerate(sides):
        if side > 1:
            _sum_along(_lines(sums, axis), side // 2)
    return sums, least


def blobness(
    values: np.ndarray, sigma: Sequence[float], out: np.ndarray | None = None
) -> np.ndarray:
    """Scale-normalised, negated Laplacian of Gaussian, mirrored at the border.

    Parameters
    ----------
    values : ndarray (y, x) or (z, y, x)
        Computed in float32.
    sigma : sequence of float
        Deviation along each axis in voxels.
    out : ndarray, optional
        Contiguous float32 of the same shape, to be filled.

    Returns
    -------
    ndarray, float32
        The negated sum over axes of sigma ** 2 times the second derivative of what a Gaussian
        smooths; a flat image has none.

    >>> spot = np.zeros((1, 9, 9), np.float32)
    >>> spot[0, 4, 4] = 1
    >>> heat = blobness(spot, (1.0, 1.5, 1.5))
    >>> bool(heat[0, 4, 4] == heat.max() > 0)
    True
    """
    # Along one axis at a time: `bent` holds the sum of second derivatives so far.
    smooth = np.array(values, np.float32, order="C")
    bent = np.empty_like(smooth) if out is None else out
    last = len(sigma) - 1
    for axis, deviation in enumerate(sigma):
        _bend_along(
            _lines(smooth, axis),
            _lines(bent, axis),
            _gaussian(deviation),
            -_second(deviation),
            axis == 0,
            axis == last,
        )
    return bent


def _lines(values: np.ndarray, axis: int) -> np.ndarray:
    """A view as (before, axis, after)."""
    shape = values.shape
    return values.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def _gaussian(sigma: float) -> np.ndarray:
    return _exact_gaussian(sigma).astype(np.float32)


def _second(sigma: float) -> np.ndarray:
    """sigma ** 2 times the second derivative; sums to 0."""
    kernel, reach = _exact_gaussian(sigma), gaussian_reach(sigma)
    bend = (np.arange(-reach, reach + 1) ** 2 / sigma**2 - 1) * kernel
    return (bend - bend.sum() * kernel).astype(np.float32)


def _exact_gaussian(sigma: float) -> np.ndarray:
    reach = gaussian_reach(sigma)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


@njit(cache=True, nogil=True, inline="always")
def _mirror(place, size):  # pragma: no cover (compiled)
    """Where a place beyond the border is seen: d c b a | a b c d | d c b a."""
    place %= 2 * size
    return place if place < size else 2 * size - 1 - place


@njit(cache=True, nogil=True)
def _gathered(lines, a, reach, low, high, strip):  # pragma: no cover (compiled)
    """A strip with mirrored borders, one row of it for each place of the axis."""
    _, size, after = lines.shape
    wide, flat = high - low, lines.reshape(-1)
    begin = a * size * after
    if wide == after:
        strip[reach * wide : (reach + size) * wide] = flat[begin : begin + size * wide]
    else:
        for row in range(size):
            seen = begin + row * after
            at = (row + reach) * wide
            strip[at : at + wide] = flat[seen + low : seen + high]
    for row in range(reach):
        for beyond in (-1 - row, size + row):
            at, seen = (beyond + reach) * wide, (_mirror(beyond, size) + reach) * wide
            for k in range(wide):
                strip[at + k] = strip[seen + k]


@njit(cache=True, nogil=True)
def _put(lines, a, row, low, wide, values, count):  # pragma: no cover (compiled)
    """Rows of a strip, back where they came from."""
    _, size, after = lines.shape
    flat, begin = lines.reshape(-1), (a * size + row) * after + low
    if wide == after:
        flat[begin : begin + count] = values[:count]
    else:
        for n in range(count // wide):
            flat[begin + n * after : begin + n * after + wide] = values[n * wide : (n + 1) * wide]


@njit(cache=True, nogil=True)
def _sum_along(lines, reach):  # pragma: no cover (compiled)
    """Replace each number by the sum of those within reach along the middle axis."""
    before, size, after = lines.shape
    widest, flat = min(STRIP, after), lines.reshape(-1)
    strip = np.empty((size + 2 * reach) * widest, lines.dtype)
    total = np.empty(widest, lines.dtype)
    zero = np.zeros(1, lines.dtype)
    for a in range(before):
        for low in range(0, after, STRIP):
            high = min(after, low + STRIP)
            wide = high - low
            _gathered(lines, a, reach, low, high, strip)
            if wide == 1:
                _slid(strip, reach, flat, a * size * after + low, size, after, zero)
                continue
            total[:wide] = 0
            for row in range(2 * reach):
                for k in range(wide):
                    total[k] += strip[row * wide + k]
            for row in range(size):
                coming, going = (row + 2 * reach) * wide, row * wide
                begin = (a * size + row) * after + low
                for k in range(wide):
                    whole = total[k] + strip[coming + k]
                    flat[begin + k] = whole
                    total[k] = whole - strip[going + k]


@njit(cache=True, nogil=True)
def _slid(line, reach, flat, begin, size, step, zero):  # pragma: no cover (compiled)
    """`_sum_along` for a single line."""
    total = zero[0]
    for row in range(2 * reach):
        total += line[row]
    for row in range(size):
        total += line[row + 2 * reach]
        flat[begin + row * step] = total
        total -= line[row]


@njit(cache=True, nogil=True)
def _scaled(sums, share, least, mean):  # pragma: no cover (compiled)
    for k in range(len(sums)):
        mean[k] = sums[k] * share + least


@njit(cache=True, nogil=True)
def _left(values, sums, share, least, per_unit, contrast):  # pragma: no cover (compiled)
    """contrast = (values - sums * share - least) * per_unit"""
    depth, height, width = values.shape
    for z in range(depth):
        for y in range(height):
            row, total, out = values[z, y], sums[z, y], contrast[z, y]
            for x in range(width):
                out[x] = (row[x] - (total[x] * share + least)) * per_unit


@njit(cache=True, nogil=True, fastmath={"contract"})
def _tapped(strip, step, start, count, kernel, out):  # pragma: no cover (compiled)
    """out[k] += sum of kernel[t] * strip[start + t * step + k]; five taps at a time.

    Of more at once the compiler could not show that none is what it writes.
    """
    taps, t = len(kernel), 0
    while t < taps:
        many = min(5, taps - t)
        a, v = kernel[t], strip[start + t * step :]
        b, w, c, x = a, v, a, v
        if many > 1:
            b, w = kernel[t + 1], strip[start + (t + 1) * step :]
        if many > 2:
            c, x = kernel[t + 2], strip[start + (t + 2) * step :]
        if many == 5:
            d, y = kernel[t + 3], strip[start + (t + 3) * step :]
            e, z = kernel[t + 4], strip[start + (t + 4) * step :]
            for k in range(count):
                out[k] += a * v[k] + b * w[k] + c * x[k] + d * y[k] + e * z[k]
        elif many == 4:
            d, y = kernel[t + 3], strip[start + (t + 3) * step :]
            for k in range(count):
                out[k] += a * v[k] + b * w[k] + c * x[k] + d * y[k]
        elif many == 3:
            for k in range(count):
                out[k] += a * v[k] + b * w[k] + c * x[k]
        elif many == 2:
            for k in range(count):
                out[k] += a * v[k] + b * w[k]
        else:
            for k in range(count):
                out[k] += a * v[k]
        t += many


@njit(cache=True, nogil=True)
def _bend_along(smooth, bent, kernel, second, first, last):  # pragma: no cover (compiled)
    """One axis of `blobness`, in place."""
    before, size, after = smooth.shape
    reach, widest = len(kernel) // 2, min(STRIP, after)
    strip = np.empty((size + 2 * reach) * widest, np.float32)
    bends = np.empty(1 if first else (size + 2 * reach) * widest, np.float32)
    part, curve = np.empty(SPAN, np.float32), np.empty(SPAN, np.float32)
    for a in range(before):
        for low in range(0, after, STRIP):
            high = min(after, low + STRIP)
            wide = high - low
            _gathered(smooth, a, reach, low, high, strip)
            if not first:
                _gathered(bent, a, reach, low, high, bends)
            rows = SPAN // wide
            for row in range(0, size, rows):
                count = min(rows, size - row) * wide
                curve[:count] = 0
                _tapped(strip, wide, row * wide, count, second, curve)
                if not last:
                    part[:count] = 0
                    _tapped(strip, wide, row * wide, count, kernel, part)
                    _put(smooth, a, row, low, wide, part, count)
                if not first:
                    _tapped(bends, wide, row * wide, count, kernel, curve)
                _put(bent, a, row, low, wide, curve, count)
