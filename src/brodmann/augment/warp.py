"""One resampling for rotation, scale and elastic deformation together, in 2D and 3D.

A patch is sampled from a source window in one pass: an output voxel `o` takes its value from

    s = matrix @ (o - c_out + d(o)) + c_in

where `c_out` and `c_in` are the centres of patch and window and `d` is a cubic B-spline
displacement. Images are sampled linearly: cubic, which nnU-Net's first version used, takes
16 or 64 taps instead of 4 or 8 and is too slow for a loader (its second version is linear
too). Labels take the nearest voxel and are never mixed. Taps outside the window count as the
outside value, as `grid-constant` in scipy.ndimage does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import DataError


@dataclass(frozen=True)
class Elastic:
    """A smooth random displacement: a cubic B-spline over a grid of random knots.

    Parameters
    ----------
    knot_px : tuple of float or None
        Distance between knots on each axis; None: constant along this axis.
    magnitude_px : tuple of float
        Largest displacement on each axis. Knots are uniform in +-magnitude, and a B-spline
        stays within its knots. Below 0.4 of the knot distance it cannot fold (Choi and Lee
        2000, "Injectivity conditions of 2D and 3D uniform cubic B-spline functions": 0.48
        in 2D, 0.40 in 3D).
    seed : int
        Of the knots.
    """

    knot_px: tuple[float | None, ...]
    magnitude_px: tuple[float, ...]
    seed: int

    def knots(self, shape: Sequence[int]) -> np.ndarray:
        """(ndim, *grid) float64 displacements in voxels of the knots around a patch."""
        grid = [
            1 if step is None else int((size - 1) / step) + 4
            for size, step in zip(shape, self.knot_px)
        ]
        rng = np.random.Generator(np.random.PCG64(self.seed))
        values = rng.uniform(-1.0, 1.0, (len(shape), *grid))
        values *= np.asarray(self.magnitude_px).reshape(-1, *[1] * len(shape))
        for axis, step in enumerate(self.knot_px):
            if step is None:
                values = np.repeat(values, 4, axis=axis + 1)
        return values

    def at(self, coordinates: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Displacements (n, ndim) at output coordinates (n, ndim), clamped to the patch."""
        knots = self.knots(shape)
        ndim = len(shape)
        tables = [
            _basis(np.clip(coordinates[:, axis], 0, shape[axis] - 1), self.knot_px[axis])
            for axis in range(ndim)
        ]
        result = np.zeros((len(coordinates), ndim))
        for taps in np.ndindex(*[4] * ndim):
            weight = np.prod([tables[axis][1][:, k] for axis, k in enumerate(taps)], axis=0)
            index = tuple(tables[axis][0] + k for axis, k in enumerate(taps))
            result += weight[:, None] * knots[(slice(None), *index)].T
        return result


def _basis(position: np.ndarray, step: float | None) -> tuple[np.ndarray, np.ndarray]:
    """First knot and the four cubic B-spline weights of each position."""
    if step is None:
        return np.zeros(len(position), np.int64), np.tile([1.0, 0, 0, 0], (len(position), 1))
    first, t = np.divmod(position / step, 1.0)
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    return first.astype(np.int64), weights / 6.0


def rotation(angles_deg: Sequence[float], ndim: int) -> np.ndarray:
    """The matrix of no angle, one in the plane of the last two axes, or one about each of z, y, x."""
    matrix = np.eye(ndim)
    planes = [(ndim - 2, ndim - 1)] if len(angles_deg) < 2 else [(1, 2), (0, 2), (0, 1)]
    for angle, (a, b) in zip(angles_deg, planes):
        turn, radians = np.eye(ndim), math.radians(angle)
        turn[a, a] = turn[b, b] = math.cos(radians)
        turn[a, b], turn[b, a] = -math.sin(radians), math.sin(radians)
        matrix = matrix @ turn
    return matrix


def window_shape(
    shape: Sequence[int], matrix: np.ndarray, elastic: Elastic | None = None
) -> tuple[int, ...]:
    """The smallest centred window that holds every voxel a warp of `shape` reads.

    It differs from `shape` by an even number on each axis, so that the centres of both
    fall on the same place of the voxel grid; it may be smaller, when the warp magnifies.

    >>> window_shape((8, 16), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    (16, 8)
    """
    half = (np.asarray(shape, float) - 1) / 2
    move = np.zeros(len(half)) if elastic is None else np.asarray(elastic.magnitude_px)
    reach = np.abs(matrix) @ (half + move)
    # Rounding must not demand a voxel that would have weight 1e-15.
    extra = np.ceil(reach - half - 1e-9).astype(int)
    return tuple(max(int(n + 2 * k), 2 - n % 2) for n, k in zip(shape, extra))


def warp(
    image: np.ndarray,
    labels: np.ndarray | None,
    matrix: np.ndarray,
    out_shape: Sequence[int],
    elastic: Elastic | None = None,
    outside_value: float | np.ndarray = 0.0,
    outside_label: int = -1,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Sample a patch from a source window: the image linearly, the labels by the nearest voxel.

    Parameters
    ----------
    image : (c, *window) float32
    labels : (*window) integers, or None
    matrix : (ndim, ndim)
        From output to source, in voxels, about the centres. Above 1 it shrinks objects.
    out_shape : tuple of int
    elastic : Elastic, optional
    outside_value, outside_label
        For taps outside the window; the value may be one per channel.

    Returns
    -------
    image : (c, *out_shape) float32
    labels : (*out_shape) of the dtype given, or None

    Raises
    ------
    DataError
        If the shapes do not fit together, or `outside_label` not into the labels' dtype.

    Example
    -------
    >>> ramp = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    >>> half, ids = warp(ramp, ramp[0].astype(int), np.diag([1.0, 0.5]), (1, 4))
    >>> half.tolist(), ids.tolist()
    ([[[0.75, 1.25, 1.75, 2.25]]], [[1, 1, 2, 2]])
    """
    ndim = len(out_shape)
    if ndim not in (2, 3) or image.ndim != ndim + 1 or np.shape(matrix) != (ndim, ndim):
        raise DataError(
            "warp takes an image (c, *window), a square matrix and a patch of 2 or 3 axes",
            found=f"image {image.shape}, matrix {np.shape(matrix)}, patch {tuple(out_shape)}",
        )
    if labels is not None and labels.shape != image.shape[1:]:
        raise DataError(
            "image and labels differ in shape", found=f"{image.shape[1:]} and {labels.shape}"
        )
    count, window = image.shape[0], image.shape[1:]
    full, deep, wide = np.eye(3), (1,) * (3 - ndim), tuple(out_shape)
    full[3 - ndim :, 3 - ndim :] = matrix
    fill = np.empty(count, np.float32)
    fill[:] = outside_value
    source = np.ascontiguousarray(image, np.float32).reshape(count, *deep, *window)
    if labels is None:
        ids, label_fill = np.zeros((0, 0, 0), np.int16), 0
    else:
        ids = np.ascontiguousarray(labels).reshape(*deep, *window)
        label_fill = _fitting(outside_label, ids.dtype)
    shape = (*deep, *wide)
    if elastic is None:
        knots = np.zeros((3, 4, 4, 4))
        tables = [_basis(np.zeros(size), None) for size in shape]
    else:
        steps = (*(None for _ in deep), *elastic.knot_px)
        tables = [_basis(np.arange(n, dtype=float), step) for n, step in zip(shape, steps)]
        knots = elastic.knots(wide)
        if ndim == 2:
            still = np.zeros_like(knots[:1])
            knots = np.repeat(np.concatenate([still, knots])[:, None], 4, axis=1)
    out = np.empty((count, *shape), np.float32)
    out_ids = np.empty(shape if labels is not None else (0, 0, 0), ids.dtype)
    (first_z, weight_z), (first_y, weight_y), (first_x, weight_x) = tables
    _sample(
        source, ids, full, elastic is not None, np.ascontiguousarray(knots),
        first_z, weight_z, first_y, weight_y, first_x, weight_x,
        fill, label_fill, out, out_ids,
    )  # fmt: skip
    return out.reshape(count, *wide), None if labels is None else out_ids.reshape(wide)


def moved_points(
    coordinates: np.ndarray,
    matrix: np.ndarray,
    window: Sequence[int],
    out_shape: Sequence[int],
    elastic: Elastic | None = None,
) -> np.ndarray:
    """Where source points (n, ndim) come to lie in the patch that `warp` makes.

    The displacement is inverted by fixed-point iteration, to 1e-6 voxels.
    """
    centre_in, centre_out = ((np.asarray(s, float) - 1) / 2 for s in (window, out_shape))
    rest = centre_out + (coordinates - centre_in) @ np.linalg.inv(matrix).T
    if elastic is None:
        return rest
    found = rest.copy()
    for _ in range(200):
        step = rest - elastic.at(found, out_shape) - found
        found += step
        if not len(step) or np.abs(step).max() < 1e-6:
            break
    return found


def _fitting(value: int, dtype: np.dtype) -> int:
    if dtype.kind not in "iu":
        raise DataError("labels hold whole numbers", found=dtype)
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise DataError(
            f"the label for outside does not fit into {dtype} labels",
            found=value,
            fix="give class indices as int16, or another outside_label",
        )
    return int(value)


@njit(nogil=True, cache=True)
def _sample(
    image, labels, matrix, elastic, knots,
    first_z, weight_z, first_y, weight_y, first_x, weight_x,
    fill, label_fill, out, out_labels,
):  # fmt: skip
    count, depth, height, width = image.shape
    out_depth, out_height, out_width = out.shape[1:]
    has_labels = out_labels.size > 0
    grid = knots.shape[3]
    row_knots = np.empty((3, grid))
    zs, ys, xs = np.empty(out_width), np.empty(out_width), np.empty(out_width)
    iz, iy, ix = (
        np.empty(out_width, np.int64),
        np.empty(out_width, np.int64),
        np.empty(out_width, np.int64),
    )
    fz, fy, fx = (
        np.empty(out_width, np.float32),
        np.empty(out_width, np.float32),
        np.empty(out_width, np.float32),
    )
    half = (out_width - 1) / 2
    for z in range(out_depth):
        for y in range(out_height):
            tz, ty = z - (out_depth - 1) / 2, y - (out_height - 1) / 2
            base_z = matrix[0, 0] * tz + matrix[0, 1] * ty + (depth - 1) / 2
            base_y = matrix[1, 0] * tz + matrix[1, 1] * ty + (height - 1) / 2
            base_x = matrix[2, 0] * tz + matrix[2, 1] * ty + (width - 1) / 2
            for x in range(out_width):
                tx = x - half
                zs[x] = base_z + matrix[0, 2] * tx
                ys[x] = base_y + matrix[1, 2] * tx
                xs[x] = base_x + matrix[2, 2] * tx
            if elastic:
                row_knots[:] = 0.0
                for a in range(4):
                    for b in range(4):
                        weight = weight_z[z, a] * weight_y[y, b]
                        for i in range(3):
                            for g in range(grid):
                                row_knots[i, g] += (
                                    weight * knots[i, first_z[z] + a, first_y[y] + b, g]
                                )
                for x in range(out_width):
                    dz, dy, dx = 0.0, 0.0, 0.0
                    for c in range(4):
                        weight = weight_x[x, c]
                        dz += weight * row_knots[0, first_x[x] + c]
                        dy += weight * row_knots[1, first_x[x] + c]
                        dx += weight * row_knots[2, first_x[x] + c]
                    zs[x] += matrix[0, 0] * dz + matrix[0, 1] * dy + matrix[0, 2] * dx
                    ys[x] += matrix[1, 0] * dz + matrix[1, 1] * dy + matrix[1, 2] * dx
                    xs[x] += matrix[2, 0] * dz + matrix[2, 1] * dy + matrix[2, 2] * dx
            for x in range(out_width):
                low_z, low_y, low_x = math.floor(zs[x]), math.floor(ys[x]), math.floor(xs[x])
                iz[x], iy[x], ix[x] = np.int64(low_z), np.int64(low_y), np.int64(low_x)
                fz[x] = np.float32(zs[x] - low_z)
                fy[x] = np.float32(ys[x] - low_y)
                fx[x] = np.float32(xs[x] - low_x)
            # Rows of which every tap is in the window, as nearly all are, need no tests.
            lowest, highest = _extent(iy)
            inner = lowest >= 0 and highest < height - 1
            lowest, highest = _extent(ix)
            inner = inner and lowest >= 0 and highest < width - 1
            lowest, highest = _extent(iz)
            level = lowest == highest and not fz.any()
            inner = inner and lowest >= 0 and highest < depth - (0 if level else 1)
            for c in range(count):
                channel, outside, row = image[c], fill[c], out[c, z, y]
                if inner and level:
                    _level_row(channel[lowest], iy, ix, fy, fx, row)
                elif inner:
                    _inner_row(channel, iz, iy, ix, fz, fy, fx, row)
                else:
                    for x in range(out_width):
                        row[x] = _edge(channel, iz[x], iy[x], ix[x], fz[x], fy[x], fx[x], outside)
            if has_labels:
                for x in range(out_width):
                    k = np.int64(math.floor(zs[x] + 0.5))
                    j = np.int64(math.floor(ys[x] + 0.5))
                    i = np.int64(math.floor(xs[x] + 0.5))
                    if 0 <= k < depth and 0 <= j < height and 0 <= i < width:
                        out_labels[z, y, x] = labels[k, j, i]
                    else:
                        out_labels[z, y, x] = label_fill


@njit(nogil=True, cache=True)
def _extent(values):
    low, high = values[0], values[0]
    for value in values:
        low, high = min(low, value), max(high, value)
    return low, high


@njit(nogil=True, cache=True)
def _level_row(plane, iy, ix, fy, fx, row):
    """Bilinear samples of one plane; no index is negative, which unsigned ones say."""
    for x in range(row.size):
        j, i = np.uint64(iy[x]), np.uint64(ix[x])
        one = np.uint64(1)
        top = plane[j, i] + fx[x] * (plane[j, i + one] - plane[j, i])
        low = plane[j + one, i] + fx[x] * (plane[j + one, i + one] - plane[j + one, i])
        row[x] = top + fy[x] * (low - top)


@njit(nogil=True, cache=True)
def _inner_row(channel, iz, iy, ix, fz, fy, fx, row):
    """Trilinear samples, every tap in the window."""
    for x in range(row.size):
        k, j, i = np.uint64(iz[x]), np.uint64(iy[x]), np.uint64(ix[x])
        one = np.uint64(1)
        near, far = channel[k], channel[k + one]
        top = near[j, i] + fx[x] * (near[j, i + one] - near[j, i])
        low = near[j + one, i] + fx[x] * (near[j + one, i + one] - near[j + one, i])
        first = top + fy[x] * (low - top)
        top = far[j, i] + fx[x] * (far[j, i + one] - far[j, i])
        low = far[j + one, i] + fx[x] * (far[j + one, i + one] - far[j + one, i])
        row[x] = first + fz[x] * (top + fy[x] * (low - top) - first)


@njit(nogil=True, cache=True)
def _edge(channel, k, j, i, fz, fy, fx, outside):
    """One linear sample whose taps may lie outside the window."""
    depth, height, width = channel.shape
    if k < -1 or k >= depth or j < -1 or j >= height or i < -1 or i >= width:
        return outside
    total = np.float32(0.0)
    one = np.float32(1.0)
    for a in range(2):
        wz = fz if a else one - fz
        for b in range(2):
            wy = fy if b else one - fy
            for c in range(2):
                weight = wz * wy * (fx if c else one - fx)
                if weight == 0.0:
                    continue
                if 0 <= k + a < depth and 0 <= j + b < height and 0 <= i + c < width:
                    total += weight * channel[k + a, j + b, i + c]
                else:
                    total += weight * outside
    return total
