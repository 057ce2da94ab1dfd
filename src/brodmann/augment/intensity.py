"""Changes of intensity on normalised images, in place, channel by channel.

Every function takes one channel as a C-contiguous float32 array of 2 or 3 axes and changes
it. Formulas are those of batchgeneratorsv2, which nnU-Net trains with; what differs is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit


def add_noise(channel: np.ndarray, std: float, rng: np.random.Generator) -> None:
    """Add Gaussian noise of deviation `std`."""
    _add_scaled(channel.reshape(-1), rng.standard_normal(channel.size, np.float32), std)


def blur(channel: np.ndarray, sigma_px: Sequence[float]) -> None:
    """Gaussian blur, one sigma for each axis, cut at 4 sigma; edges repeat the last voxel.

    Equals ``scipy.ndimage.gaussian_filter(mode="nearest")`` to float32 rounding.
    """
    scratch = np.empty(channel.size, np.float32)
    for axis, sigma in enumerate(sigma_px):
        radius = int(4.0 * sigma + 0.5)
        if radius == 0 or channel.shape[axis] == 1:
            continue
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (offsets / sigma) ** 2)
        weights = (weights / weights.sum()).astype(np.float32)
        outer = int(np.prod(channel.shape[:axis]))
        inner = int(np.prod(channel.shape[axis + 1 :]))
        lines = channel.reshape(outer, channel.shape[axis], inner)
        if inner == 1:
            _blur_rows(lines[:, :, 0], weights)
        else:
            _blur_lines(lines, weights, scratch.reshape(lines.shape))
            lines[:] = scratch.reshape(lines.shape)


def brightness(channel: np.ndarray, factor: float) -> None:
    """Multiply by `factor`."""
    channel *= np.float32(factor)


def contrast(channel: np.ndarray, factor: float) -> None:
    """Stretch about the mean by `factor`, cut to the range that was there."""
    mean, _ = moments(channel.reshape(-1))
    _stretch(channel.reshape(-1), mean, factor, channel.min(), channel.max())


def low_resolution(channel: np.ndarray, zoom: Sequence[float]) -> None:
    """Shrink by `zoom` (0..1, one for each axis) to the nearest voxel, then grow linearly.

    Equals torch's ``interpolate`` with "nearest-exact" down and linear up.
    """
    small = [max(1, round(size * step)) for size, step in zip(channel.shape, zoom)]
    tables = [_zoom_table(size, few) for size, few in zip(channel.shape, small)]
    if channel.ndim == 2:
        tables.insert(0, _zoom_table(1, 1))
    (z0, z1, fz), (y0, y1, fy), (x0, x1, fx) = tables
    deep = channel.reshape((1,) * (3 - channel.ndim) + channel.shape)
    _zoomed(deep.copy(), z0, z1, fz, y0, y1, fy, x0, x1, fx, deep)


def gamma(channel: np.ndarray, exponent: float, invert: bool = False) -> None:
    """Raise to a power within the channel's range; mean and deviation are kept.

    With `invert` the negative is raised, so that bright parts change most.
    A constant channel is left as it is.
    """
    low, high = channel.min(), channel.max()
    if not high > low:
        return
    flat = channel.reshape(-1)
    mean, std = moments(flat)
    span = np.float32(high - low)
    if invert:
        np.subtract(high, channel, out=channel)
    else:
        channel -= low
    channel /= span
    np.power(channel, np.float32(exponent), out=channel)
    new_mean, new_std = moments(flat)
    sign = -1.0 if invert else 1.0
    _rescale(flat, new_mean, sign * std / max(new_std, 1e-7), mean)


def _zoom_table(size: int, few: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each voxel: the two source voxels it lies between, and how far along."""
    kept = np.minimum(((np.arange(few) + 0.5) * size / few).astype(np.int64), size - 1)
    place = np.maximum((np.arange(size) + 0.5) * few / size - 0.5, 0.0)
    first = np.minimum(place.astype(np.int64), few - 1)
    second = np.minimum(first + 1, few - 1)
    return kept[first], kept[second], (place - first).astype(np.float32)


@njit(nogil=True, cache=True)
def _add_scaled(values, noise, scale):
    scale = np.float32(scale)
    for i in range(values.size):
        values[i] += scale * noise[i]


@njit(nogil=True, cache=True)
def _stretch(values, mean, factor, low, high):
    mean, factor = np.float32(mean), np.float32(factor)
    for i in range(values.size):
        values[i] = min(max((values[i] - mean) * factor + mean, low), high)


@njit(nogil=True, cache=True)
def _rescale(values, old_mean, factor, new_mean):
    old_mean, factor, new_mean = np.float32(old_mean), np.float32(factor), np.float32(new_mean)
    for i in range(values.size):
        values[i] = (values[i] - old_mean) * factor + new_mean


@njit(nogil=True, cache=True)
def moments(values):
    """Mean and deviation in float64; sixteen sums side by side, which the CPU adds at once."""
    sums, squares = np.zeros(16), np.zeros(16)
    whole = values.size // 16 * 16
    # About the first value, so that squares do not cancel.
    first = float(values[0])
    for i in range(0, whole, 16):
        for j in range(16):
            value = float(values[i + j]) - first
            sums[j] += value
            squares[j] += value * value
    for i in range(whole, values.size):
        value = float(values[i]) - first
        sums[0] += value
        squares[0] += value * value
    mean = sums.sum() / values.size
    return mean + first, np.sqrt(max(squares.sum() / values.size - mean * mean, 0.0))


@njit(nogil=True, cache=True)
def _blur_lines(lines, weights, out):
    outer, size, inner = lines.shape
    radius = weights.size // 2
    for o in range(outer):
        for i in range(size):
            row = out[o, i]
            row[:] = 0.0
            for k in range(weights.size):
                source = lines[o, min(max(i + k - radius, 0), size - 1)]
                weight = weights[k]
                for x in range(inner):
                    row[x] += weight * source[x]


@njit(nogil=True, cache=True)
def _blur_rows(rows, weights):
    count, size = rows.shape
    radius = weights.size // 2
    padded = np.empty(size + 2 * radius, np.float32)
    for r in range(count):
        row = rows[r]
        padded[:radius] = row[0]
        padded[radius : radius + size] = row
        padded[radius + size :] = row[size - 1]
        row[:] = 0.0
        for k in range(weights.size):
            weight = weights[k]
            for x in range(size):
                row[x] += weight * padded[x + k]


@njit(nogil=True, cache=True)
def _zoomed(image, z0, z1, fz, y0, y1, fy, x0, x1, fx, out):
    depth, height, width = out.shape
    row = np.empty(width, np.float32)
    for z in range(depth):
        for y in range(height):
            wz, wy = fz[z], fy[y]
            first, second = image[z0[z], y0[y]], image[z0[z], y1[y]]
            for x in range(width):
                row[x] = first[x] + wy * (second[x] - first[x])
            if wz != 0.0:
                first, second = image[z1[z], y0[y]], image[z1[z], y1[y]]
                for x in range(width):
                    row[x] += wz * (first[x] + wy * (second[x] - first[x]) - row[x])
            for x in range(width):
                out[z, y, x] = row[x0[x]] + fx[x] * (row[x1[x]] - row[x0[x]])
