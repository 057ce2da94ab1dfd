"""Slow things on the coarse grid of the annotation: region, distance to the border, light.

They are worked out in tiles that lie at fixed places, so that what a block sees does not depend
on the block.
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
KEPT_TILES = 512
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
        (first node, shape) -> region ids.
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

    def ids(self, first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """Region ids, uint32."""
        return self._gather(first, shape, 0)

    def tissue(self, first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """Index of the tissue in `markers.NAMES`, int16."""
        return self._gather(first, shape, 1)

    def depth(self, first: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """Distance to the border of tissue in um, positive within, float32."""
        return self._gather(first, shape, 2)

    def _gather(self, first: Any, shape: Any, which: int) -> np.ndarray:
        out = np.empty(shape, (np.uint32, np.int16, np.float32)[which])
        spans = [range(a // TILE, (a + n - 1) // TILE + 1) for a, n in zip(first, shape)]
        for at in product(*spans):
            tile = self._tile(*at)[which]
            into, of = [], []
            for t, a, n in zip(at, first, shape):
                low, high = max(t * TILE, a), min((t + 1) * TILE, a + n)
                into.append(slice(low - a, high - a))
                of.append(slice(low - t * TILE, high - t * TILE))
            out[tuple(into)] = tile[tuple(of)]
        return out

    def _make(self, *at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from scipy.ndimage import distance_transform_edt, gaussian_filter

        m = self._margin
        first = tuple(t * TILE - a for t, a in zip(at, m))
        wide = self.ids_at(first, tuple(TILE + 2 * a for a in m))
        known, tissue_of = self._table
        where = np.minimum(np.searchsorted(known, wide), len(known) - 1)
        tissue = np.where(known[where] == wide, tissue_of[where], 0).astype(np.int16)
        inner = tuple(slice(a, a + TILE) for a in m)
        solid = tissue > 0
        if solid.all() or not solid.any():
            depth = np.full((TILE,) * 3, self.deepest if solid.all() else -self.deepest, np.float32)
        else:
            # Half a step: the border lies between two nodes.
            half = min(self.step) / 2
            inside = np.minimum(distance_transform_edt(solid, self.step), self.deepest + half)
            outside = np.minimum(distance_transform_edt(~solid, self.step), self.deepest + half)
            signed = np.where(solid, inside - half, half - outside)
            depth = gaussian_filter(signed, 1.0, truncate=3.0)[inner].astype(np.float32)
        return wide[inner].astype(np.uint32), tissue[inner], depth


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
