"""Slow things on the coarse grid of the annotation: region, distance to the border, light.

What needs its surroundings is worked out in tiles that lie at fixed places, so that what a block
sees does not depend on the block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numba import njit

from brodmann.datasets.phantoms.lightsheet.brain import SHAPES, fill_regions
from brodmann.datasets.phantoms.lightsheet.hashing import clouds

TILE = 16
KEPT_TILES = 2048
DEEPEST_UM = 120.0
"""Distances to the border are cut here."""

Ids = Callable[[tuple[int, int, int], tuple[int, int, int]], np.ndarray]


class Grid:
    """Labels of a brain at nodes of a coarse grid, and what follows from them.

    Node (i, j, k) is the centre of annotation voxel (i, j, k), at ``(i + 0.5) * step`` um from
    the corner of the volume. Nodes beyond the volume are there too.

    Parameters
    ----------
    step : (z, y, x) in um
    ids : callable
        (first node, shape) -> region ids, uint32; kept as `ids_at`.
    table : (ids, tissue)
        See `markers.tissue_table`.
    """

    def __init__(
        self, step: tuple[float, float, float], ids: Ids, table: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self.step, self.ids_at, self._table = step, ids, table
        self.deepest = max(DEEPEST_UM, 3 * max(step))
        self._margin = tuple(int(np.ceil(self.deepest / s)) + 4 for s in step)
        self._tile = lru_cache(maxsize=KEPT_TILES)(self._make)

    def around(
        self, low_um: np.ndarray, high_um: np.ndarray
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """First node and shape of the nodes among which a box can be interpolated."""
        first = [int(np.floor(a / s - 0.5)) for a, s in zip(low_um, self.step)]
        last = [int(np.floor(b / s - 0.5)) + 2 for b, s in zip(high_um, self.step)]
        shape = [b - a for a, b in zip(first, last)]
        return (first[0], first[1], first[2]), (shape[0], shape[1], shape[2])

    def tissue(self, ids: np.ndarray) -> np.ndarray:
        """Index of the tissue in `markers.NAMES` of each region id, int16; unknown ids have 0."""
        known, tissue = self._table
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, tissue[at], 0).astype(np.int16)

    def depth(self, first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """Distance to the border of tissue in um at nodes, positive within, float32."""
        out = np.empty(shape, np.float32)
        spans = [range(a // TILE, (a + n - 1) // TILE + 1) for a, n in zip(first, shape)]
        for at in product(*spans):
            into, of = [], []
            for t, a, n in zip(at, first, shape):
                low, high = max(t * TILE, a), min((t + 1) * TILE, a + n)
                into.append(slice(low - a, high - a))
                of.append(slice(low - t * TILE, high - t * TILE))
            out[tuple(into)] = self._tile(*at)[tuple(of)]
        return out

    def _make(self, *at: int) -> np.ndarray:
        from scipy.ndimage import distance_transform_edt, gaussian_filter

        m = self._margin
        first = tuple(t * TILE - a for t, a in zip(at, m))
        solid = self.tissue(self.ids_at(first, tuple(TILE + 2 * a for a in m))) > 0
        if solid.all() or not solid.any():
            return np.full((TILE,) * 3, self.deepest if solid.all() else -self.deepest, np.float32)
        # Half a step: the border lies between two nodes.
        half = min(self.step) / 2
        inside = np.minimum(distance_transform_edt(solid, self.step), self.deepest + half)
        outside = np.minimum(distance_transform_edt(~solid, self.step), self.deepest + half)
        signed = np.where(solid, inside - half, half - outside)
        smooth = gaussian_filter(signed, 1.0, truncate=3.0)
        return smooth[tuple(slice(a, a + TILE) for a in m)].astype(np.float32)


def ellipsoid_ids(
    step: tuple[float, float, float], brain_um: tuple[float, float, float], wobble: np.ndarray
) -> Ids:
    """Region ids of the made-up brain at any nodes."""

    def ids(first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        low = (np.array(first) + 0.5) * step
        out = np.empty(shape, np.uint32)
        fill_regions(low, np.array(step), np.array(brain_um) / 2, wobble, SHAPES, out)
        return out

    return ids


def stored_ids(data: Any) -> Ids:
    """Region ids of an annotation volume; beyond its faces those at the face."""

    def ids(first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        take = [np.clip(np.arange(a, a + n), 0, size - 1) for a, n, size in
                zip(first, shape, data.shape)]  # fmt: skip
        window = tuple(slice(int(t[0]), int(t[-1]) + 1) for t in take)
        block = np.asarray(data[window])
        return block[np.ix_(*(t - t[0] for t in take))].astype(np.uint32)

    return ids


@njit(cache=True, nogil=True)
def fill_light(first, step, extent, keys, tissue, level, out):  # pragma: no cover (compiled)
    """Two fields at nodes: how bright tissue is, and how much light reaches it.

    Brightness is `level` of the tissue with slow clouds. Light comes from both sides along x,
    and fades along z, as with bleaching and with depth.
    """
    for i in range(out.shape[1]):
        z = (first[0] + i + 0.5) * step[0]
        for j in range(out.shape[2]):
            y = (first[1] + j + 0.5) * step[1]
            for k in range(out.shape[3]):
                x = (first[2] + k + 0.5) * step[2]
                cloud = 0.16 * clouds(keys[0], z, y, x, 420.0)
                cloud += 0.10 * clouds(keys[1], z, y, x, 130.0)
                out[0, i, j, k] = level[tissue[i, j, k]] * (1 + cloud)
                across = 2 * x / extent[2] - 1
                deep = min(max(z / extent[0], 0.0), 1.0)
                side = 0.68 + 0.32 * min(across * across, 1.0)
                haze = 1 + 0.06 * clouds(keys[2], z, y, x, 900.0)
                out[1, i, j, k] = side * (1.12 - 0.42 * deep) * haze
