"""Tubes and cells that fill a block up to given shares; compiled.

What is taken is kept on a lattice of points, finer or coarser than the voxels that will sample
the tissue, so that the tissue does not depend on those.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from brodmann.datasets.phantoms.em.growing import direction, uniform
from brodmann.datasets.phantoms.tomography.borders import Borders, tissue_at
from brodmann.datasets.phantoms.tomography.tissue import VESSEL

GAP_UM = 2.2
"""Cells keep at least so far from each other: more than the diagonal of a 1.17 um voxel, so
that no two of them touch."""
CLEAR_UM = 2.4
"""No lattice point of a vessel lies so near to a cell. A vessel is no thinner than half the
diagonal of the lattice's cubes, so that each of its points has one of its lattice points within
one diagonal, 2.26 um at a step of 1.3 um: cell and vessel cannot overlap."""
STEP_UM = 1.3
"""Of the lattice."""
MARGIN_UM, START_UM = 14.0, 10.0
"""Tissue grows so far beyond the block, so that its faces cut it like any other plane. Tubes start
further within the grown box: those that lie beyond the block are not seen."""
IDLE = 300
"""So many tubes in a row that cover nothing new mean that there is no room left."""


class Lattice(NamedTuple):
    """Points at corner + step * index, um."""

    code: np.ndarray  # (z, y, x) uint8: what covers the point, 0 nothing
    tissue: np.ndarray  # (z, y, x) uint8: number of the tissue
    corner: np.ndarray  # (3,) float64
    step: float
    inner: np.ndarray  # (2, 3) int64: the points that count, half-open


class Tubes(NamedTuple):
    """How tubes of one kind grow; um and rad."""

    low: float  # radius
    high: float
    least: float  # no tube is thinner
    way: np.ndarray  # (3,) main direction
    spread: float  # how far a tube starts off it
    wander: float  # turning, rad^2 per um
    pull: float  # back to where it was heading, per um
    shortest: float
    longest: float
    branch: float  # chance that a tube starts on one that is there
    inside: bool  # end at the border of the tissue


@njit(cache=True, inline="always")
def to_tube(z, y, x, row):  # pragma: no cover (compiled)
    """Distance in um from a point to the surface of one piece of a tube, negative within.

    A piece is z, y, x, radius of its two ends; between them the radius changes evenly.
    """
    dz, dy, dx = row[4] - row[0], row[5] - row[1], row[6] - row[2]
    pz, py, px = z - row[0], y - row[1], x - row[2]
    t = (pz * dz + py * dy + px * dx) / max(dz * dz + dy * dy + dx * dx, 1e-12)
    t = min(max(t, 0.0), 1.0)
    pz -= t * dz
    py -= t * dy
    px -= t * dx
    return np.sqrt(pz * pz + py * py + px * px) - row[3] - t * (row[7] - row[3])


@njit(cache=True, inline="always")
def to_cell(z, y, x, row):  # pragma: no cover (compiled)
    """How far out a point lies from a cell's centre: 1 on its surface.

    A cell is its centre (z, y, x), its three radii, and three unit axes.
    """
    pz, py, px = z - row[0], y - row[1], x - row[2]
    total = 0.0
    for a in range(3):
        along = row[6 + 3 * a] * pz + row[7 + 3 * a] * py + row[8 + 3 * a] * px
        total += (along / row[3 + a]) ** 2
    return np.sqrt(total)


@njit(cache=True, inline="always")
def _span(lattice, low, high, axis):  # pragma: no cover (compiled)
    """Lattice points between two coordinates, half-open and clipped."""
    first = int(np.ceil((low - lattice.corner[axis]) / lattice.step))
    last = int(np.floor((high - lattice.corner[axis]) / lattice.step)) + 1
    return max(first, 0), min(last, lattice.code.shape[axis])


@njit(cache=True, inline="always")
def _count(lattice, i, j, k, filled):  # pragma: no cover (compiled)
    if (
        lattice.inner[0, 0] <= i < lattice.inner[1, 0]
        and lattice.inner[0, 1] <= j < lattice.inner[1, 1]
        and lattice.inner[0, 2] <= k < lattice.inner[1, 2]
    ):
        filled[lattice.tissue[i, j, k]] += 1


@njit(cache=True)
def _mark_tube(lattice, row, code, filled):  # pragma: no cover (compiled)
    """Take the free points of a piece; `filled` counts them by tissue."""
    r = max(row[3], row[7])
    i0, i1 = _span(lattice, min(row[0], row[4]) - r, max(row[0], row[4]) + r, 0)
    j0, j1 = _span(lattice, min(row[1], row[5]) - r, max(row[1], row[5]) + r, 1)
    k0, k1 = _span(lattice, min(row[2], row[6]) - r, max(row[2], row[6]) + r, 2)
    for i in range(i0, i1):
        z = lattice.corner[0] + i * lattice.step
        for j in range(j0, j1):
            y = lattice.corner[1] + j * lattice.step
            for k in range(k0, k1):
                x = lattice.corner[2] + k * lattice.step
                if lattice.code[i, j, k] == 0 and to_tube(z, y, x, row) < 0:
                    lattice.code[i, j, k] = code
                    _count(lattice, i, j, k, filled)


@njit(cache=True)
def _taken(lattice, p):  # pragma: no cover (compiled)
    """Whether the lattice point nearest to `p` is covered; beyond the lattice nothing is."""
    i = int(np.rint((p[0] - lattice.corner[0]) / lattice.step))
    j = int(np.rint((p[1] - lattice.corner[1]) / lattice.step))
    k = int(np.rint((p[2] - lattice.corner[2]) / lattice.step))
    for a, n in ((0, i), (1, j), (2, k)):
        if n < 0 or n >= lattice.code.shape[a]:
            return False
    return lattice.code[i, j, k] != 0


@njit(cache=True)
def _unit(v):  # pragma: no cover (compiled)
    v /= np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) + 1e-12


@njit(cache=True)
def grow_tubes(
    state, lattice: Lattice, box, borders: Borders, tissue, code, filled, budget, tubes: Tubes,
    first_owner, most,
):  # fmt: skip  # pragma: no cover (compiled)
    """Grow tubes in one tissue until they cover `budget` of its lattice points, at most `most`.

    They take the free points for `code`; tubes of code 0 take none and lie anywhere.

    Returns (pieces, 13) float64: two ends with radii, a unit vector across the tube that is
    carried along it, how far along the tube the piece starts (um), and the tube's number.
    """
    out = np.empty((256, 13))
    n, tube, failed, idle, before = 0, 0, 0, 0, 0
    start, way, p, h, across, noise = (
        np.empty(3), np.empty(3), np.empty(3), np.empty(3), np.empty(3), np.empty(3),
    )  # fmt: skip
    while filled[tissue] < budget and failed < 20000 and idle < IDLE and tube < most:
        failed += 1
        radius = tubes.low * (tubes.high / tubes.low) ** uniform(state)
        from_tube = n > 0 and uniform(state) < tubes.branch
        if from_tube:
            at = int(uniform(state) * n)
            start[:] = out[at, :3]
            radius = max(min(radius, out[at, 3]), tubes.low)
        else:
            for a in range(3):
                low, high = box[0, a] + START_UM, box[1, a] - START_UM
                start[a] = low + uniform(state) * (high - low)
            if code != 0 and _taken(lattice, start):
                continue
        if tissue_at(start[0], start[1], start[2], borders) != tissue:
            continue
        direction(state, noise)
        way[:] = tubes.way + tubes.spread * noise
        _unit(way)
        length = tubes.shortest + (tubes.longest - tubes.shortest) * uniform(state)
        tube, before = tube + 1, filled[tissue]
        for side in range(1 if from_tube else 2):
            sense = 1.0 - 2.0 * side
            p[:] = start
            h[:] = sense * way
            # Both halves are carried from the same vector, so that they fit in the middle.
            across[0], across[1], across[2] = way[1], way[2], -way[0]
            gone, swell, r = 0.0, 1.0, radius
            while gone < length and filled[tissue] < budget:
                step = min(max(0.7 * radius, 2.0), 5.0)
                direction(state, noise)
                for a in range(3):
                    h[a] += np.sqrt(3 * tubes.wander * step) * noise[a]
                    h[a] += tubes.pull * step * sense * way[a]
                _unit(h)
                dot = across[0] * h[0] + across[1] * h[1] + across[2] * h[2]
                across -= dot * h
                _unit(across)
                swell += 0.06 * (1 - swell) * step + 0.05 * np.sqrt(step) * (uniform(state) - 0.5)
                left = min(1.0, 0.3 + (length - gone) / (3.0 * radius))
                wide = max(radius * min(max(swell, 0.6), 1.4) * left, tubes.least)
                if n == len(out):
                    out = np.concatenate((out, np.empty_like(out)))
                row = out[n]
                row[:3], row[3] = p, r
                for a in range(3):
                    p[a] += step * h[a]
                row[4:7], row[7] = p, wide
                row[8:11], row[11], row[12] = across, sense * gone, first_owner + tube
                if code != 0:
                    _mark_tube(lattice, row, code, filled)
                n += 1
                gone += step
                r = wide
                within = True
                for a in range(3):
                    within = within and box[0, a] <= p[a] <= box[1, a]
                if not within:
                    break
                if tubes.inside and tissue_at(p[0], p[1], p[2], borders) != tissue:
                    break
        failed = 0
        idle = idle + 1 if code != 0 and filled[tissue] == before else 0
    return out[:n].copy()


@njit(cache=True)
def _reach(row, u):  # pragma: no cover (compiled)
    """How far a cell reaches from its centre along a unit vector (its support function)."""
    total = 0.0
    for a in range(3):
        dot = row[6 + 3 * a] * u[0] + row[7 + 3 * a] * u[1] + row[8 + 3 * a] * u[2]
        total += (row[3 + a] * dot) ** 2
    return np.sqrt(total)


@njit(cache=True)
def _axes(state, row):  # pragma: no cover (compiled)
    """Three random unit axes at right angles."""
    a, b = np.empty(3), np.empty(3)
    direction(state, a)
    while True:
        direction(state, b)
        dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
        if abs(dot) < 0.9:
            break
    b -= dot * a
    _unit(b)
    row[6:9], row[9:12] = a, b
    row[12] = a[1] * b[2] - a[2] * b[1]
    row[13] = a[2] * b[0] - a[0] * b[2]
    row[14] = a[0] * b[1] - a[1] * b[0]


@njit(cache=True)
def _near_vessel(lattice, row, widest):  # pragma: no cover (compiled)
    """Whether a taken lattice point lies within CLEAR_UM of a cell, and a little more."""
    r = widest + CLEAR_UM
    grown = row.copy()
    grown[3:6] += CLEAR_UM
    i0, i1 = _span(lattice, row[0] - r, row[0] + r, 0)
    j0, j1 = _span(lattice, row[1] - r, row[1] + r, 1)
    k0, k1 = _span(lattice, row[2] - r, row[2] + r, 2)
    for i in range(i0, i1):
        z = lattice.corner[0] + i * lattice.step
        for j in range(j0, j1):
            y = lattice.corner[1] + j * lattice.step
            for k in range(k0, k1):
                x = lattice.corner[2] + k * lattice.step
                if lattice.code[i, j, k] == VESSEL and to_cell(z, y, x, grown) <= 1:
                    return True
    return False


@njit(cache=True)
def _mark_cell(lattice, row, widest, code, filled):  # pragma: no cover (compiled)
    i0, i1 = _span(lattice, row[0] - widest, row[0] + widest, 0)
    j0, j1 = _span(lattice, row[1] - widest, row[1] + widest, 1)
    k0, k1 = _span(lattice, row[2] - widest, row[2] + widest, 2)
    for i in range(i0, i1):
        z = lattice.corner[0] + i * lattice.step
        for j in range(j0, j1):
            y = lattice.corner[1] + j * lattice.step
            for k in range(k0, k1):
                if to_cell(z, y, lattice.corner[2] + k * lattice.step, row) < 1:
                    lattice.code[i, j, k] = code
                    _count(lattice, i, j, k, filled)


@njit(cache=True)
def place_cells(
    state, lattice: Lattice, box, borders: Borders, tissue, code, filled, budget, radius, cells,
    shelf, shelves, edge,
):  # fmt: skip  # pragma: no cover (compiled)
    """Put ellipsoids into one tissue until they cover `budget` of its lattice points.

    They keep GAP_UM from each other and clear of vessels. `cells` are those that are there
    (n, 15); `shelf` (z, y, x, room) lists them by boxes of `edge` um and `shelves` counts them.
    Returns all cells.
    """
    n, failed = len(cells), 0
    out = np.empty((max(2 * n, 256), 15))
    out[:n] = cells
    row, u = np.empty(15), np.empty(3)
    while filled[tissue] < budget and failed < 20000:
        failed += 1
        for a in range(3):
            row[a] = box[0, a] + uniform(state) * (box[1, a] - box[0, a])
        if tissue_at(row[0], row[1], row[2], borders) != tissue:
            continue
        # The mean of three is near enough to a bell.
        bell = 2 * (uniform(state) + uniform(state) + uniform(state)) - 3
        size = radius * (1 + 0.12 * min(max(bell, -2.0), 2.0))
        long = 1 + 0.45 * uniform(state)
        flat = 1 + 0.15 * uniform(state)
        # The volume stays that of a ball.
        even = (long / flat) ** (-1.0 / 3)
        row[3], row[4], row[5] = size * even * long, size * even, size * even / flat
        _axes(state, row)
        widest = row[3]
        if _near_vessel(lattice, row, widest):
            continue
        free = True
        at0 = int((row[0] - box[0, 0]) / edge)
        at1 = int((row[1] - box[0, 1]) / edge)
        at2 = int((row[2] - box[0, 2]) / edge)
        for i in range(max(at0 - 1, 0), min(at0 + 2, shelf.shape[0])):
            for j in range(max(at1 - 1, 0), min(at1 + 2, shelf.shape[1])):
                for k in range(max(at2 - 1, 0), min(at2 + 2, shelf.shape[2])):
                    for m in range(shelves[i, j, k]):
                        other = out[shelf[i, j, k, m]]
                        far = 0.0
                        for a in range(3):
                            u[a] = other[a] - row[a]
                            far += u[a] * u[a]
                        far = np.sqrt(far) + 1e-9
                        u /= far
                        # A slab between them that is wider than the gap.
                        if far < _reach(row, u) + _reach(other, u) + GAP_UM:
                            free = False
        if not free or shelves[at0, at1, at2] == shelf.shape[3]:
            continue
        if n == len(out):
            out = np.concatenate((out, np.empty_like(out)))
        out[n] = row
        shelf[at0, at1, at2, shelves[at0, at1, at2]] = n
        shelves[at0, at1, at2] += 1
        _mark_cell(lattice, row, widest, code, filled)
        n += 1
        failed = 0
    return out[:n].copy()
