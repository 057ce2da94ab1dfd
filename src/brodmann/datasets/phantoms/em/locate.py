"""Which neuron, mitochondrion and synapse lie at each voxel; compiled, slice by slice."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.datasets.phantoms.em.packing import cell_of
from brodmann.datasets.phantoms.em.world import INSET_UM, TILE, WARP_STEP_UM

BLOCK_UM = 0.066
"""Edge of the squares that share one list of candidates."""
WINDOW_UM = 0.14
"""Two neurons whose distances differ by more do not both matter."""
CANDIDATES = 4096
GAP_STEP_UM, DEPTH_STEP_UM = 0.0005, 0.001
"""Units of what `locate` keeps: distance to the membrane (0..255), and into a mitochondrion."""
CLEFT_UM = 0.035
"""A synapse is what lies so near to the contact, on both sides."""


@njit(cache=True, inline="always")
def warped(z, y, x, tile, out):  # pragma: no cover (compiled)
    """Where a point of the tissue lies in the straight world."""
    i0, j0, k0 = z / WARP_STEP_UM, y / WARP_STEP_UM, x / WARP_STEP_UM
    i, j, k = int(np.floor(i0)), int(np.floor(j0)), int(np.floor(k0))
    a, b, c = np.float32(i0 - i), np.float32(j0 - j), np.float32(k0 - k)
    # TILE is a power of two.
    i, j, k = i & (TILE - 1), j & (TILE - 1), k & (TILE - 1)
    i1, j1, k1 = (i + 1) & (TILE - 1), (j + 1) & (TILE - 1), (k + 1) & (TILE - 1)
    one = np.float32(1)
    for axis in range(3):
        low = (tile[i, j, k, axis] * (one - c) + tile[i, j, k1, axis] * c) * (one - b) + (
            tile[i, j1, k, axis] * (one - c) + tile[i, j1, k1, axis] * c
        ) * b
        high = (tile[i1, j, k, axis] * (one - c) + tile[i1, j, k1, axis] * c) * (one - b) + (
            tile[i1, j1, k, axis] * (one - c) + tile[i1, j1, k1, axis] * c
        ) * b
        out[axis] = low * (one - a) + high * a
    out[0] += z
    out[1] += y
    out[2] += x


@njit(cache=True)
def unwarped(points, tile):  # pragma: no cover (compiled)
    """Points of the straight world as they lie in the tissue, (n, 3) um; by iteration."""
    out, at = points.copy(), np.empty(3, np.float64)
    for n in range(len(points)):
        for _ in range(40):
            warped(out[n, 0], out[n, 1], out[n, 2], tile, at)
            for axis in range(3):
                out[n, axis] += points[n, axis] - at[axis]
    return out


@njit(cache=True)
def _near(index, at, half, window, relative, found):  # pragma: no cover (compiled)
    """Sites that matter within `half` of a point: their number; the nearest comes first.

    They are those within `window` of the square, or if `relative` those whose distance is
    within `window` of the least.
    """
    cell = cell_of(at[0], 0, index.shape[0], index.grid)
    cell = cell * index.shape[1] + cell_of(at[1], 1, index.shape[1], index.grid)
    cell = cell * index.shape[2] + cell_of(at[2], 2, index.shape[2], index.grid)
    first, last = index.start[cell], index.start[cell + 1]
    best, which = 1e3, -1
    if relative:
        for n in range(first, last):
            s = index.items[n]
            dz, dy, dx = at[0] - index.at[s, 0], at[1] - index.at[s, 1], at[2] - index.at[s, 2]
            d = np.sqrt(dz * dz + dy * dy + dx * dx) - index.at[s, 3]
            if d < best:
                best, which = d, s
    # Within the square a distance changes by `half` at most.
    limit = window + (best + 2 * half if relative else half)
    count = 0
    for n in range(first, last):
        s = index.items[n]
        dz, dy, dx = at[0] - index.at[s, 0], at[1] - index.at[s, 1], at[2] - index.at[s, 2]
        reach = limit + index.at[s, 3]
        if reach > 0 and dz * dz + dy * dy + dx * dx <= reach * reach:
            if count == len(found):
                break
            found[count] = s
            if s == which:
                found[count], found[0] = found[0], s
            count += 1
    return count


@njit(cache=True, nogil=True)
def locate(
    first, last, shape, spacing, shift, neurites, mito, hosts, synapses, sides, tile,
    neurons, mitochondria, contacts, gap, tilt, depth,
):  # fmt: skip  # pragma: no cover (compiled)
    """Fill slices first..last of six volumes.

    neurons, mitochondria, contacts: ids. gap: distance to the nearest other neuron's membrane;
    tilt: the z part of the unit normal there, 255 = 1 (the membrane lies in the section);
    depth: distance into (negative) or out of the neuron's nearest mitochondrion.
    """
    side_y = max(1, int(BLOCK_UM / spacing[1]))
    side_x = max(1, int(BLOCK_UM / spacing[2]))
    cand = np.empty(CANDIDATES, np.int64)
    worms, touch = np.empty(CANDIDATES, np.int64), np.empty(256, np.int64)
    local, owner = np.empty((CANDIDATES, 4), np.float32), np.empty(CANDIDATES, np.int32)
    at, end = np.empty(3, np.float64), np.empty(3, np.float64)
    for i in range(first, last):
        z = (i + 0.5) * spacing[0]
        for j0 in range(0, shape[1], side_y):
            for k0 in range(0, shape[2], side_x):
                j1, k1 = min(j0 + side_y, shape[1]), min(k0 + side_x, shape[2])
                warped(
                    z,
                    (0.5 * (j0 + j1)) * spacing[1] + shift[i, 0],
                    (0.5 * (k0 + k1)) * spacing[2] + shift[i, 1],
                    tile,
                    at,
                )
                # How far the square's corners lie from its middle, and some more.
                half = 0.0
                for corner in range(4):
                    warped(
                        z,
                        (j1 if corner & 1 else j0) * spacing[1] + shift[i, 0],
                        (k1 if corner & 2 else k0) * spacing[2] + shift[i, 1],
                        tile,
                        end,
                    )
                    far = (end[0] - at[0]) ** 2 + (end[1] - at[1]) ** 2 + (end[2] - at[2]) ** 2
                    half = max(half, far)
                half = 1.2 * np.sqrt(half) + 0.004
                count = _near(neurites, at, half, WINDOW_UM, True, cand)
                for n in range(count):
                    for axis in range(4):
                        local[n, axis] = neurites.at[cand[n], axis]
                    owner[n] = neurites.owner[cand[n]]
                many = _near(mito, at, half, 0.06, False, worms)
                some = _near(synapses, at, half, 0.0, False, touch)
                for j in range(j0, j1):
                    y = (j + 0.5) * spacing[1] + shift[i, 0]
                    for k in range(k0, k1):
                        x = (k + 0.5) * spacing[2] + shift[i, 1]
                        warped(z, y, x, tile, at)
                        az, ay, ax = np.float32(at[0]), np.float32(at[1]), np.float32(at[2])
                        d1, d2, n1, n2 = np.float32(1e3), np.float32(1e3), -1, -1
                        mine = 0
                        for n in range(count):
                            dz, dy, dx = az - local[n, 0], ay - local[n, 1], ax - local[n, 2]
                            bound = d2 + local[n, 3]
                            square = dz * dz + dy * dy + dx * dx
                            if bound < 0 or square >= bound * bound:
                                continue
                            d = np.sqrt(square) - local[n, 3]
                            who = owner[n]
                            if d < d1:
                                if who != mine:
                                    d2, n2 = d1, n1
                                d1, n1, mine = d, n, who
                            elif who != mine:
                                d2, n2 = d, n
                        if n1 < 0:
                            continue
                        neurons[i, j, k] = mine
                        apart, part_z = np.float32(1.0), np.float32(0.0)
                        if n2 >= 0:
                            r1 = d1 + local[n1, 3] + np.float32(1e-9)
                            r2 = d2 + local[n2, 3] + np.float32(1e-9)
                            uz = (az - local[n2, 0]) / r2 - (az - local[n1, 0]) / r1
                            uy = (ay - local[n2, 1]) / r2 - (ay - local[n1, 1]) / r1
                            ux = (ax - local[n2, 2]) / r2 - (ax - local[n1, 2]) / r1
                            size = np.sqrt(uz * uz + uy * uy + ux * ux)
                            size = max(size, np.float32(0.35))
                            apart = (d2 - d1) / size
                            part_z = min(abs(uz) / size, np.float32(1.0))
                        gap[i, j, k] = min(int(apart / GAP_STEP_UM), 255)
                        tilt[i, j, k] = int(255 * part_z)
                        if many:
                            deep, which = np.float32(1.0), 0
                            for n in range(many):
                                s = worms[n]
                                if hosts[mito.owner[s]] != mine:
                                    continue
                                dz, dy = az - mito.at[s, 0], ay - mito.at[s, 1]
                                dx = ax - mito.at[s, 2]
                                d = np.sqrt(dz * dz + dy * dy + dx * dx) - mito.at[s, 3]
                                if d < deep:
                                    deep, which = d, mito.owner[s]
                            # Half the difference is at most the distance to the membrane.
                            deep = max(deep, INSET_UM - np.float32(0.5) * (d2 - d1))
                            depth[i, j, k] = min(
                                max(int(np.floor(deep / DEPTH_STEP_UM)), -127), 127
                            )
                            if deep < 0:
                                mitochondria[i, j, k] = which
                        if some and n2 >= 0 and apart < CLEFT_UM:
                            other = owner[n2]
                            for n in range(some):
                                s = touch[n]
                                a, b = sides[synapses.owner[s], 0], sides[synapses.owner[s], 1]
                                if (a == mine and b == other) or (a == other and b == mine):
                                    dz, dy = az - synapses.at[s, 0], ay - synapses.at[s, 1]
                                    dx = ax - synapses.at[s, 2]
                                    r = synapses.at[s, 3]
                                    if dz * dz + dy * dy + dx * dx < r * r:
                                        contacts[i, j, k] = synapses.owner[s]
