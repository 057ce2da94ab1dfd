"""FindMaxima: the peaks of a heat map, each once, the same in blocks as in the whole.

A voxel is a peak when its value is above the threshold, no voxel of the window around it has a
greater one, and none of those before it in (z, y, x) order has an equal one. "Greater, or equal
and before" is a total order, so that each plateau as wide as the window or less has one peak, and
whether a voxel is one depends on its window alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from brodmann.core import DataError, RecipeError

OFFSETS_AT_ONCE = 16
"""Of the window, between two times that the candidates on a GPU are thinned out."""


def radius_of(distance_um: float | Sequence[float], spacing: Sequence[float]) -> tuple[int, ...]:
    """The radius in voxels of the window whose peaks are more than a distance apart.

    Parameters
    ----------
    distance_um : float or sequence of float
        The least distance of two peaks in micrometres, for all axes or one for each.
    spacing : sequence of float
        Micrometres per voxel, one for each axis.

    Returns
    -------
    tuple of int
        The most voxels that are not further than the distance, along each axis.

    Example
    -------
    >>> radius_of(6.0, (4.0, 1.8, 1.8)), radius_of((8.0, 2.0, 2.0), (4.0, 1.8, 1.8))
    ((1, 3, 3), (2, 1, 1))
    """
    each = (distance_um,) * len(spacing) if np.isscalar(distance_um) else tuple(distance_um)  # type: ignore[arg-type]
    if len(each) != len(spacing) or not all(math.isfinite(d) and d >= 0 for d in each):
        raise RecipeError(
            f"a distance is 0 or more micrometres, one number or {len(spacing)}",
            "distance_um",
            distance_um,
        )
    # A whole number of voxels stays one whatever the rounding of its micrometres.
    return tuple(int(d / step + 1e-9) for d, step in zip(each, spacing))


def find_maxima(
    heat: Any,
    radius: Sequence[int],
    threshold: float,
    core: Sequence[slice] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The peaks of a heat map (specs: FindMaxima).

    Parameters
    ----------
    heat : array (z, y, x) or (y, x)
        Any real dtype, numpy or torch; float32 before values are compared. A tensor on a GPU
        stays there, see `find_maxima_torch`.
    radius : sequence of int
        The window is the box of 2 r + 1 voxels; at the border what there is of it.
    threshold : float
        A peak is above it, not at it. As float32.
    core : tuple of slice, optional
        Half-open; only peaks within are given. Those of cores that cover the whole once are
        those of the whole, if each heat map reaches `radius` beyond its core or to the border.

    Returns
    -------
    coordinates : (n, d) int64
        In (z, y, x) order.
    scores : (n,) float32
        The heat at each.

    Raises
    ------
    DataError
        If the heat holds NaN, anywhere.
    RecipeError
        If radius, threshold or core do not fit.

    Notes
    -----
    Voxels of the window are looked at from near to far until one is greater. Those that pass a
    box of radius k lie k apart, so there are at most N / (k + 1)^d of them, and the time is
    O(N log r) for any values, with no array of the size of the heat but the heat.

    Example
    -------
    >>> heat = np.zeros((1, 5, 9), np.float16)
    >>> heat[0, 2, 2:4] = heat[0, 2, 7] = 0.75
    >>> at, scores = find_maxima(heat, (1, 2, 2), 0.5)
    >>> at.tolist(), scores.tolist()
    ([[0, 2, 2], [0, 2, 7]], [0.75, 0.75])
    """
    if type(heat).__module__.partition(".")[0] == "torch":
        if heat.device.type != "cpu":
            return find_maxima_torch(heat, radius, threshold, core)
        heat = heat.detach().float().numpy()  # numpy has no bfloat16
    heat = np.asarray(heat)
    _check_kind(heat.dtype.kind in "biuf", heat.dtype)
    sizes, box, limit = _checked(heat.shape, radius, threshold, core)
    heat = np.ascontiguousarray(heat, np.float32)
    if _any_nan(heat.reshape(-1)):
        raise _nan(np.argwhere(np.isnan(heat))[0])
    lead = (1,) * (3 - heat.ndim)
    spans = np.array([(0, 1)] * len(lead) + box, np.int64)
    offsets = _near_to_far((0,) * len(lead) + sizes)
    places, scores = _peaks(heat.reshape(*lead, *heat.shape), spans, limit, offsets)
    return places[:, len(lead) :], scores


def find_maxima_torch(
    heat: Any,
    radius: Sequence[int],
    threshold: float,
    core: Sequence[slice] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`find_maxima` in torch, on the device that the tensor is on; the same peaks to the last.

    The window's maximum is pooled one axis at a time; only voxels that equal it, few, are
    compared with those before them.

    Example
    -------
    >>> import torch
    >>> at, scores = find_maxima_torch(torch.tensor([[0.1, 0.9, 0.9, 0.2]]), (1, 1), 0.5)
    >>> at.tolist()
    [[0, 1]]
    """
    import torch
    from torch.nn.functional import max_pool3d

    _check_kind(not heat.is_complex(), heat.dtype)
    sizes, box, limit = _checked(tuple(heat.shape), radius, threshold, core)
    values = heat.detach().to(torch.float32).contiguous()
    if bool(torch.isnan(values).any()):
        raise _nan(torch.nonzero(torch.isnan(values))[0].tolist())
    lead = (1,) * (3 - values.ndim)
    values = values.reshape(*lead, *values.shape)
    sizes, box = (0,) * len(lead) + sizes, [(0, 1)] * len(lead) + box
    pooled = values[None, None]
    for axis, r in enumerate(sizes):
        if r > 0:
            kernel = tuple(2 * r + 1 if i == axis else 1 for i in range(3))
            pad = tuple(r if i == axis else 0 for i in range(3))
            pooled = max_pool3d(pooled, kernel, 1, pad)
    inner = tuple(slice(*span) for span in box)
    top = values[inner]
    places = torch.nonzero((top > float(limit)) & (top == pooled[0, 0][inner]))
    places = places + torch.tensor([first for first, _ in box], device=places.device)
    shape = torch.tensor(values.shape, device=places.device)
    steps = torch.tensor([values.shape[1] * values.shape[2], values.shape[2], 1]).to(places.device)
    flat = values.reshape(-1)
    before = [o for o in _near_to_far(sizes).tolist() if tuple(o) < (0, 0, 0)]
    for first in range(0, len(before), OFFSETS_AT_ONCE):
        if not len(places):
            break
        at = (places * steps).sum(1)
        mine, beaten = flat[at], torch.zeros(len(places), dtype=torch.bool, device=places.device)
        for offset in torch.tensor(before[first : first + OFFSETS_AT_ONCE], device=places.device):
            there = places + offset
            inside = ((there >= 0) & (there < shape)).all(1)
            other = torch.where(inside, at + (offset * steps).sum(), at)
            beaten |= inside & (flat[other] == mine)
        places = places[~beaten]
    scores = flat[(places * steps).sum(1)]
    return places[:, len(lead) :].cpu().numpy(), scores.cpu().numpy()


def _check_kind(good: bool, found: Any) -> None:
    if not good:
        raise DataError("a heat map holds real numbers", "heat", found)


def _nan(place: Sequence[int]) -> DataError:
    where = ", ".join(f"{axis} {int(n)}" for axis, n in zip("zyx"[-len(place) :], place))
    return DataError(
        "the heat map holds NaN",
        where,
        fix="a net that overflows in half precision gives such; run it in float32",
    )


def _checked(
    shape: Sequence[int], radius: Sequence[int], threshold: float, core: Sequence[slice] | None
) -> tuple[tuple[int, ...], list[tuple[int, int]], np.float32]:
    """Radius, core as (first, last) for each axis, and threshold."""
    if len(shape) not in (2, 3):
        raise DataError("a heat map is (z, y, x) or (y, x)", "heat", f"shape {tuple(shape)}")
    sizes = tuple(int(r) for r in radius)
    if len(sizes) != len(shape) or min(sizes) < 0 or any(r != s for r, s in zip(radius, sizes)):
        raise RecipeError(
            f"a radius is {len(shape)} whole numbers of voxels, 0 or more", "radius", tuple(radius)
        )
    if math.isnan(threshold):
        raise RecipeError("a threshold is a number", "threshold", threshold)
    core = (slice(None),) * len(shape) if core is None else tuple(core)
    if len(core) != len(shape) or any(part.step not in (None, 1) for part in core):
        raise RecipeError("a core is one slice for each axis, without steps", "core", core)
    box = [part.indices(n)[:2] for part, n in zip(core, shape)]
    sizes = tuple(max(0, min(r, n - 1)) for r, n in zip(sizes, shape))
    return sizes, [(a, max(a, b)) for a, b in box], np.float32(threshold)


@lru_cache(maxsize=16)
def _near_to_far(radius: tuple[int, ...]) -> np.ndarray:
    """The offsets of a window without its centre, (n, 3) int64: box by box, each around the last.

    Within a box the axes' own neighbours come first, x before z: they decide nearly always,
    and lie nearest in memory.
    """
    grids = np.meshgrid(*[np.arange(-r, r + 1) for r in radius], indexing="ij")
    offsets = np.stack([grid.reshape(-1) for grid in grids], 1)
    offsets = offsets[np.any(offsets != 0, 1)]
    # Boxes grow in the proportions of the window.
    share = np.abs(offsets) / np.maximum(1, radius)
    longest = max(radius, default=0)
    box = np.ceil(share.max(1, initial=0) * longest - 1e-9)
    off_axis = (offsets != 0).sum(1)
    order = np.lexsort((np.abs(offsets[:, 1]), np.abs(offsets[:, 0]), off_axis, box))
    offsets = np.ascontiguousarray(offsets[order], np.int64)
    offsets.setflags(write=False)
    return offsets


@njit(cache=True, nogil=True)
def _any_nan(flat):  # pragma: no cover (compiled)
    found = 0
    for value in flat:
        found += value != value
    return found > 0


@njit(cache=True, nogil=True)
def _peaks(heat, spans, threshold, offsets):  # pragma: no cover (compiled)
    depth, height, width = heat.shape
    places = np.empty((1024, 3), np.int64)
    scores = np.empty(1024, np.float32)
    count = 0
    for z in range(spans[0, 0], spans[0, 1]):
        for y in range(spans[1, 0], spans[1, 1]):
            row = heat[z, y]
            for x in range(spans[2, 0], spans[2, 1]):
                value = row[x]
                if not value > threshold:
                    continue
                peak = True
                for i in range(len(offsets)):
                    dz, dy, dx = offsets[i, 0], offsets[i, 1], offsets[i, 2]
                    a, b, c = z + dz, y + dy, x + dx
                    if a < 0 or b < 0 or c < 0 or a >= depth or b >= height or c >= width:
                        continue
                    other = heat[a, b, c]
                    if other < value:
                        continue
                    before = dz < 0 or (dz == 0 and (dy < 0 or (dy == 0 and dx < 0)))
                    if other > value or before:
                        peak = False
                        break
                if not peak:
                    continue
                if count == len(scores):
                    more, wider = (
                        np.empty((2 * count, 3), np.int64),
                        np.empty(2 * count, np.float32),
                    )
                    more[:count], wider[:count] = places, scores
                    places, scores = more, wider
                places[count, 0], places[count, 1], places[count, 2] = z, y, x
                scores[count] = value
                count += 1
    return places[:count].copy(), scores[:count].copy()
