"""Where cells lie: a hard-core point process that any block draws alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit, uint64

from brodmann.core import key_seed
from brodmann.datasets.phantoms.lightsheet.hashing import (
    clouds,
    mix,
    mix2,
    mix4,
    small_poisson,
    unit,
)
from brodmann.datasets.phantoms.lightsheet.markers import (
    APART_UM,
    CLASSES,
    Marker,
    before_thinning,
    class_densities,
    marker_shares,
)

if TYPE_CHECKING:
    from brodmann.datasets.phantoms.lightsheet.volume import LightSheet

PHASES = 16
"""Sub-voxel places that a centre may have: a picture of each shape is kept for every one."""
MOST = 14
"""Cells in one site of the lattice, before thinning."""


class Cells(NamedTuple):
    """Cells in the order of their ids.

    centre: (n, 3) float64, z, y, x in voxels. id: int64, one for each cell of a brain, whatever
    it carries. phase: index of the sub-voxel place. tissue: index in `markers.NAMES`.
    region: uint32 id of the annotation voxel that the centre lies in.
    """

    centre: np.ndarray
    id: np.ndarray
    phase: np.ndarray
    tissue: np.ndarray
    region: np.ndarray

    def take(self, which: np.ndarray) -> Cells:
        """Some of them."""
        return Cells(*(part[which] for part in self))


def phases() -> np.ndarray:
    """(PHASES, 3) parts of a voxel in -0.5..0.5, evenly spread (a Kronecker sequence)."""
    root = 1.2207440846057596
    steps = np.array([1 / root, 1 / root**2, 1 / root**3])
    return np.round((np.arange(1, PHASES + 1)[:, None] * steps) % 1.0 - 0.5, 4)


@njit(cache=True, nogil=True)
def _draw(
    key, low, high, counts, side, most, rate, spacing, shape, phase_table, node, step, tissue, region,
):  # fmt: skip  # pragma: no cover (compiled)
    """Candidates in lattice sites low..high: centres, ids, phases, tissue and region."""
    sites = (high[0] - low[0]) * (high[1] - low[1]) * (high[2] - low[2])
    room = int(sites * most * 1.3) + 64
    centre = np.empty((room, 3))
    id_ = np.empty(room, np.int64)
    phase = np.empty(room, np.int64)
    kind = np.empty(room, np.int16)
    place = np.empty(room, np.uint32)
    n = 0
    at = np.empty(3)
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                h = mix4(key, i, j, k)
                count = min(small_poisson(most, unit(h)), MOST)
                for m in range(count):
                    h = mix2(h, m)
                    p = int(h & uint64(PHASES - 1))
                    inside = True
                    for axis in range(3):
                        h = mix(h)
                        site = i if axis == 0 else j if axis == 1 else k
                        um = (site + unit(h)) * side
                        f = phase_table[p, axis]
                        v = np.floor(um / spacing[axis] - 0.5 - f + 0.5) + f
                        if v < -0.5 or v >= shape[axis] - 0.5:
                            inside = False
                        at[axis] = v
                    h = mix(h)
                    if not inside:
                        continue
                    a = int(np.floor((at[0] + 0.5) * spacing[0] / step[0])) - node[0]
                    b = int(np.floor((at[1] + 0.5) * spacing[1] / step[1])) - node[1]
                    c = int(np.floor((at[2] + 0.5) * spacing[2] / step[2])) - node[2]
                    t = tissue[a, b, c]
                    if unit(h) * most >= rate[t]:
                        continue
                    if n == room:
                        room = room * 2
                        centre = np.concatenate((centre, np.empty_like(centre)))
                        id_ = np.concatenate((id_, np.empty_like(id_)))
                        phase = np.concatenate((phase, np.empty_like(phase)))
                        kind = np.concatenate((kind, np.empty_like(kind)))
                        place = np.concatenate((place, np.empty_like(place)))
                    centre[n] = at
                    id_[n] = ((np.int64(i) * counts[1] + j) * counts[2] + k) * 16 + m
                    phase[n], kind[n], place[n] = p, t, region[a, b, c]
                    n += 1
    return centre[:n].copy(), id_[:n].copy(), phase[:n].copy(), kind[:n].copy(), place[:n].copy()


@njit(cache=True, nogil=True)
def thin(um, rank, apart):  # pragma: no cover (compiled)
    """Which points have none of higher rank nearer than `apart`.

    (n, 3) float64 in um and (n,) uint64, all different; what becomes of a point depends on
    those around it alone.
    """
    n = len(um)
    keep = np.ones(n, np.bool_)
    if n == 0:
        return keep
    low = np.array([um[:, 0].min(), um[:, 1].min(), um[:, 2].min()])
    size = np.empty(3, np.int64)
    for a in range(3):
        size[a] = int((um[:, a].max() - low[a]) / apart) + 1
    bin_ = np.empty(n, np.int64)
    first = np.zeros(size[0] * size[1] * size[2] + 1, np.int64)
    for p in range(n):
        i, j, k = (um[p] - low) / apart
        bin_[p] = (int(i) * size[1] + int(j)) * size[2] + int(k)
        first[bin_[p] + 1] += 1
    for b in range(1, len(first)):
        first[b] += first[b - 1]
    order, fill = np.empty(n, np.int64), first.copy()
    for p in range(n):
        order[fill[bin_[p]]] = p
        fill[bin_[p]] += 1
    for p in range(n):
        i = bin_[p] // (size[1] * size[2])
        j = bin_[p] // size[2] % size[1]
        k = bin_[p] % size[2]
        for a in range(max(i - 1, 0), min(i + 2, size[0])):
            for b in range(max(j - 1, 0), min(j + 2, size[1])):
                row = (a * size[1] + b) * size[2]
                for s in range(
                    first[row + max(k - 1, 0)], first[row + min(k + 1, size[2] - 1) + 1]
                ):
                    q = order[s]
                    if rank[q] <= rank[p]:
                        continue
                    dz, dy, dx = um[q, 0] - um[p, 0], um[q, 1] - um[p, 1], um[q, 2] - um[p, 2]
                    if dz * dz + dy * dy + dx * dx < apart * apart:
                        keep[p] = False
                        break
                if not keep[p]:
                    break
            if not keep[p]:
                break
    return keep


@njit(cache=True, nogil=True)
def ranks(key, ids):  # pragma: no cover (compiled)
    """A hash for each cell."""
    out = np.empty(len(ids), np.uint64)
    for p in range(len(ids)):
        out[p] = mix2(key, ids[p])
    return out


@njit(cache=True, nogil=True)
def _carriers(key, cloud_key, um, ids, share, clusters, side):  # pragma: no cover (compiled)
    """Which cells carry a marker, by their share and a slow change from place to place."""
    out = np.empty(len(ids), np.bool_)
    for p in range(len(ids)):
        want = share[p]
        if clusters > 0:
            want *= 1 + clusters * clouds(cloud_key, um[p, 0], um[p, 1], um[p, 2], side)
        out[p] = unit(mix2(key, ids[p])) < want
    return out


def cells_of_class(sheet: LightSheet, kind: str, low: np.ndarray, high: np.ndarray) -> Cells:
    """Cells of a class whose centres lie in the half-open box low..high (voxels).

    Two of them are at least `APART_UM` apart. Those of the box do not depend on the box.
    """
    spacing = np.array(sheet.spacing)
    apart = APART_UM[kind]
    density = class_densities(kind) * sheet.density
    side = max(2 * apart, 2 * max(sheet.spacing)) if kind == "debris" else apart
    rate = before_thinning(density, 4 / 3 * np.pi * apart**3) * side**3
    counts = np.array(
        [int(np.ceil(n * s / side)) for n, s in zip(sheet.shape, sheet.spacing)], np.int64
    )
    # A candidate moves by up to half a voxel when it is put at its sub-voxel place.
    low_um = (low + 0.5) * spacing - apart
    high_um = (high + 0.5) * spacing + apart
    first = np.maximum(np.floor((low_um - spacing) / side), 0).astype(np.int64)
    last = np.minimum(np.floor((high_um + spacing) / side) + 1, counts).astype(np.int64)
    if (last <= first).any():
        first = last = np.zeros(3, np.int64)
    node, shape = sheet.grid.around(first * side - spacing, last * side + spacing)
    ids = sheet.grid.ids_at(node, shape)
    found = Cells(
        *_draw(
            np.uint64(key_seed(sheet.seed, "light-sheet cells", kind)), first, last, counts, side,
            float(rate.max()), rate, spacing, np.array(sheet.shape), phases(), np.array(node),
            np.array(sheet.grid.step), sheet.grid.tissue(ids), ids,
        )
    )  # fmt: skip
    found = found._replace(id=found.id * len(CLASSES) + CLASSES.index(kind))
    key = np.uint64(key_seed(sheet.seed, "light-sheet rank", kind))
    keep = thin(found.centre * spacing, ranks(key, found.id), apart)
    keep &= ((found.centre >= low) & (found.centre < high)).all(1)
    return found.take(keep)


def cells_of_marker(sheet: LightSheet, marker: Marker, low: np.ndarray, high: np.ndarray) -> Cells:
    """Cells that carry a marker, with centres in the half-open box low..high (voxels)."""
    spacing = np.array(sheet.spacing)
    around = marker.apart_um / spacing
    found = cells_of_class(sheet, marker.cells, low - around, high + around)
    share = marker_shares(marker)
    ball, core = 4 / 3 * np.pi * marker.apart_um**3, 4 / 3 * np.pi * APART_UM[marker.cells] ** 3
    further = marker.apart_um > APART_UM[marker.cells]
    if further:
        # So that the share is left when carriers too near to each other are taken out.
        cells = class_densities(marker.cells) * sheet.density
        wanted = before_thinning(share * cells, ball - core)
        share = np.divide(wanted, cells, out=np.zeros_like(wanted), where=cells > 0)
    um = found.centre * spacing
    key, cloud = (
        np.uint64(key_seed(sheet.seed, f"light-sheet {what}", marker.name))
        for what in ("carrier", "cluster")
    )
    carry = _carriers(
        key, cloud, um, found.id, share[found.tissue], float(marker.clusters), marker.cluster_um
    )
    found, um = found.take(carry), um[carry]
    if further:
        key = np.uint64(key_seed(sheet.seed, "light-sheet marker rank", marker.name))
        found = found.take(thin(um, ranks(key, found.id), marker.apart_um))
    return found.take(((found.centre >= low) & (found.centre < high)).all(1))
