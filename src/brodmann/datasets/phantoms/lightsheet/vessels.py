"""Blood vessels: a net of curved tubes between the jittered nodes of two lattices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from brodmann.core import key_seed
from brodmann.datasets.phantoms.lightsheet.hashing import mix, mix2, mix4, unit

if TYPE_CHECKING:
    from brodmann.datasets.phantoms.lightsheet.volume import LightSheet

LATTICES = ((70.0, 0.55, 2.0, 3.2), (330.0, 0.5, 5.0, 15.0))
"""Side in um, share of edges there, least and greatest radius in um: capillaries; arterioles and
venules."""
JITTER, BEND = 0.4, 0.22


@njit(cache=True, nogil=True)
def _node(key, i, j, k, side, out):  # pragma: no cover (compiled)
    h = mix4(key, i, j, k)
    out[0] = (i + 0.5 + JITTER * (2 * unit(h) - 1)) * side
    h = mix(h)
    out[1] = (j + 0.5 + JITTER * (2 * unit(h) - 1)) * side
    h = mix(h)
    out[2] = (k + 0.5 + JITTER * (2 * unit(h) - 1)) * side
    return mix(h)


@njit(cache=True, nogil=True)
def _bead(at, radius, light, spacing, blur, origin, wing, out):  # pragma: no cover (compiled)
    """Add one bead of a tube; `at` in um. Its bytes do not depend on how the block is cut."""
    first = np.empty(3, np.int64)
    count = np.empty(3, np.int64)
    for a in range(3):
        sigma = np.sqrt(0.25 * radius * radius + blur[a] * blur[a] + spacing[a] ** 2 / 12)
        centre = at[a] / spacing[a] - 0.5
        reach = 2.7 * sigma / spacing[a]
        first[a] = int(np.ceil(centre - reach))
        count[a] = int(np.floor(centre + reach)) + 1 - first[a]
        if first[a] >= origin[a] + out.shape[a] or first[a] + count[a] <= origin[a]:
            return
        light /= sigma * 2.5066282746310002
    for a in range(3):
        sigma = np.sqrt(0.25 * radius * radius + blur[a] * blur[a] + spacing[a] ** 2 / 12)
        centre = at[a] / spacing[a] - 0.5
        for i in range(count[a]):
            d = (first[a] + i - centre) * spacing[a] / sigma
            wing[a, i] = np.exp(-0.5 * d * d)
    for i in range(count[0]):
        z = first[0] + i - origin[0]
        if z < 0 or z >= out.shape[0]:
            continue
        for j in range(count[1]):
            y = first[1] + j - origin[1]
            if y < 0 or y >= out.shape[1]:
                continue
            value = light * wing[0, i] * wing[1, j]
            x = first[2] - origin[2]
            for k in range(max(0, -x), min(count[2], out.shape[2] - x)):
                out[z, y, x + k] += np.float32(value * wing[2, k])


@njit(cache=True, nogil=True)
def draw_tubes(
    key, side, share, least, greatest, spacing, blur, origin, out
):  # pragma: no cover (compiled)
    """Add tubes to a block; 1 or more within a wide tube."""
    a, b, c = np.empty(3), np.empty(3), np.empty(3)
    at = np.empty(3)
    widest = 0
    for axis in range(3):
        sigma = np.sqrt(0.25 * greatest * greatest + blur[axis] ** 2 + spacing[axis] ** 2)
        widest = max(widest, int(6 * sigma / spacing[axis]) + 8)
    wing = np.empty((3, widest))
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    reach = np.empty(3)
    for axis in range(3):
        reach[axis] = 2.8 * np.sqrt(0.25 * greatest**2 + blur[axis] ** 2 + spacing[axis] ** 2)
        # An edge leaves its two sites by its bend.
        low[axis] = int(np.floor((origin[axis] * spacing[axis] - reach[axis]) / side)) - 2
        top = (origin[axis] + out.shape[axis]) * spacing[axis] + reach[axis]
        high[axis] = int(np.floor(top / side)) + 2
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                h = _node(key, i, j, k, side, a)
                for axis in range(3):
                    h = mix2(h, axis)
                    if unit(h) >= share:
                        continue
                    _node(key, i + (axis == 0), j + (axis == 1), k + (axis == 2), side, b)
                    h = mix(h)
                    u = unit(h)
                    radius = least + (greatest - least) * u * u
                    far = False
                    for d in range(3):
                        h = mix(h)
                        c[d] = 0.5 * (a[d] + b[d]) + BEND * side * (2 * unit(h) - 1)
                        # A curve stays within the box of its three points.
                        under = min(a[d], b[d], c[d]) - reach[d]
                        over = max(a[d], b[d], c[d]) + reach[d]
                        if (
                            over < origin[d] * spacing[d]
                            or under > (origin[d] + out.shape[d]) * spacing[d]
                        ):
                            far = True
                    if far:
                        continue
                    length = np.sqrt(((a - c) ** 2).sum()) + np.sqrt(((b - c) ** 2).sum())
                    step = max(2.2, 0.5 * radius)
                    count = max(2, int(length / step) + 1)
                    light = 3.141592653589793 * radius * radius * length / count
                    for n in range(count):
                        t = (n + 0.5) / count
                        for d in range(3):
                            s = 1 - t
                            at[d] = s * s * a[d] + 2 * s * t * c[d] + t * t * b[d]
                        _bead(at, radius, light, spacing, blur, origin, wing, out)


def vessels(sheet: LightSheet, origin: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """How much of each voxel vessels take, blurred; float32, 1 or more within wide ones."""
    out = np.zeros(shape, np.float32)
    for n, (side, share, least, greatest) in enumerate(LATTICES):
        draw_tubes(
            np.uint64(key_seed(sheet.seed, "light-sheet vessels", n)), side, share, least, greatest,
            np.array(sheet.spacing), np.array(sheet.blur_um), origin, out,
        )  # fmt: skip
    return out
