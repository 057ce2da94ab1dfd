"""Spheres side by side and what is near a point among them; compiled.

A neurite is a chain of spheres, its sites. Space is divided into cells; the list of a cell holds
every site whose sphere comes within a reach of the cell, so that one list answers what is near a
point. Thin neurites need a shorter reach than thick ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit


class Sites(NamedTuple):
    """Spheres that neurites are made of, and the lists of cells; all grow in place."""

    at: np.ndarray  # (n, 4) float32: z, y, x and radius, um
    owner: np.ndarray  # (n,) int32: neuron, from 1
    path: np.ndarray  # (n,) int32: chain within all chains
    kind: np.ndarray  # (n,) int8
    parent: np.ndarray  # (n,) int32: the site before it, -1 at the first of a neuron
    head: np.ndarray  # cells (z, y, x) int32: first node
    node: np.ndarray  # (m, 2) int32: site, next node
    count: np.ndarray  # (4,) int64: sites, nodes, neurons, paths
    grid: np.ndarray  # (5,) float64: corner of the cells (z, y, x), their edge, the reach, um


class Index(NamedTuple):
    """The sites of each cell in one row: those of cell c are items[start[c] : start[c + 1]]."""

    at: np.ndarray
    owner: np.ndarray
    start: np.ndarray  # (cells + 1,) int64
    items: np.ndarray  # int32
    shape: np.ndarray  # (3,) int64: cells (z, y, x)
    grid: np.ndarray  # as in Sites


def room_for(box: np.ndarray, sites: int) -> Sites:
    """Empty arrays for a box (low, high) in um; `relisted` makes the cells."""
    return Sites(
        np.zeros((sites, 4), np.float32),
        np.zeros(sites, np.int32),
        np.zeros(sites, np.int32),
        np.zeros(sites, np.int8),
        np.zeros(sites, np.int32),
        np.full((1, 1, 1), -1, np.int32),
        np.zeros((1, 2), np.int32),
        np.zeros(4, np.int64),
        np.array([*box[0], 1.0, 0.0]),
    )


def relisted(sites: Sites, box: np.ndarray, cell: float, reach: float) -> Sites:
    """The same sites with lists for cells of another edge and reach (um), and room for more."""
    cells = tuple(np.ceil((box[1] - box[0]) / cell).astype(int) + 1)
    out = sites._replace(head=np.full(cells, -1, np.int32), grid=np.array([*box[0], cell, reach]))
    needed = int(_enter_all(out, np.zeros((0, 2), np.int32)))
    thin = ((0.16 + 2 * reach) / cell + 1) ** 3 * (len(sites.owner) - sites.count[0])
    out = out._replace(node=np.zeros((needed + int(thin), 2), np.int32))
    out.head[...] = -1
    _enter_all(out, out.node)
    return out


def indexed(sites: Sites, box: np.ndarray, cell: float, reach: float) -> Index:
    """The lists in rows, for reading only."""
    n = int(sites.count[0])
    shape = np.ceil((box[1] - box[0]) / cell).astype(np.int64) + 1
    grid = np.array([*box[0], cell, reach])
    at, owner = sites.at[:n].copy(), sites.owner[:n].copy()
    start, items = _rows(at, shape, grid)
    return Index(at, owner, start, items, shape, grid)


@njit(cache=True, inline="always")
def cell_of(p, axis, cells, grid):  # pragma: no cover (compiled)
    """Index of the cell of one coordinate, clamped."""
    return min(max(int((p - grid[axis]) / grid[3]), 0), cells - 1)


@njit(cache=True)
def _span(at, s, reach, shape, grid, out):  # pragma: no cover (compiled)
    """First and last cell within `reach` of a site along each axis."""
    for a in range(3):
        out[0, a] = cell_of(at[s, a] - reach, a, shape[a], grid)
        out[1, a] = cell_of(at[s, a] + reach, a, shape[a], grid)


@njit(cache=True, inline="always")
def _to_cell(at, s, i, j, k, grid):  # pragma: no cover (compiled)
    """Squared distance from a site to the box of a cell."""
    d = 0.0
    for a, c in enumerate((i, j, k)):
        low = grid[a] + c * grid[3]
        e = max(low - at[s, a], at[s, a] - low - grid[3], 0.0)
        d += e * e
    return d


@njit(cache=True)
def _rows(at, shape, grid):  # pragma: no cover (compiled)
    """Start and items of every cell's row."""
    start = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    span = np.empty((2, 3), np.int64)
    items = np.empty(0, np.int32)
    for turn in range(2):
        for s in range(len(at)):
            reach = at[s, 3] + grid[4]
            _span(at, s, reach, shape, grid, span)
            for i in range(span[0, 0], span[1, 0] + 1):
                for j in range(span[0, 1], span[1, 1] + 1):
                    for k in range(span[0, 2], span[1, 2] + 1):
                        if _to_cell(at, s, i, j, k, grid) <= reach * reach:
                            c = (i * shape[1] + j) * shape[2] + k
                            if turn:
                                items[start[c]] = s
                                start[c] += 1
                            else:
                                start[c + 1] += 1
        if turn:
            start[1:] = start[:-1].copy()
            start[0] = 0
        else:
            start = np.cumsum(start)
            items = np.empty(start[-1], np.int32)
    return start, items


@njit(cache=True)
def clearance(sites, z, y, x, owner):  # pragma: no cover (compiled)
    """Distance to the nearest sphere of another neuron; the reach if there is none near."""
    head, grid = sites.head, sites.grid
    node = head[
        cell_of(z, 0, head.shape[0], grid),
        cell_of(y, 1, head.shape[1], grid),
        cell_of(x, 2, head.shape[2], grid),
    ]
    least = grid[4]
    while node >= 0:
        s = sites.node[node, 0]
        if sites.owner[s] != owner:
            dz, dy, dx = z - sites.at[s, 0], y - sites.at[s, 1], x - sites.at[s, 2]
            bound = least + sites.at[s, 3]
            square = dz * dz + dy * dy + dx * dx
            if bound > 0 and square < bound * bound:
                least = np.sqrt(square) - sites.at[s, 3]
        node = sites.node[node, 1]
    return least


@njit(cache=True)
def _enter(sites, s, node, span, count):  # pragma: no cover (compiled)
    """Put a site into its cells' lists from node number `count` on; the new number of nodes."""
    reach = sites.at[s, 3] + sites.grid[4]
    head, shape = sites.head, np.array(sites.head.shape)
    _span(sites.at, s, reach, shape, sites.grid, span)
    for i in range(span[0, 0], span[1, 0] + 1):
        for j in range(span[0, 1], span[1, 1] + 1):
            for k in range(span[0, 2], span[1, 2] + 1):
                if _to_cell(sites.at, s, i, j, k, sites.grid) <= reach * reach:
                    if count < len(node):
                        node[count, 0], node[count, 1] = s, head[i, j, k]
                        head[i, j, k] = count
                    count += 1
    return count


@njit(cache=True)
def _enter_all(sites, node):  # pragma: no cover (compiled)
    count = 0
    span = np.empty((2, 3), np.int64)
    for s in range(sites.count[0]):
        count = _enter(sites, s, node, span, count)
    sites.count[1] = count
    return count


@njit(cache=True)
def add(sites, z, y, x, r, owner, path, kind, parent):  # pragma: no cover (compiled)
    """Keep a site and enter it into the cells it reaches; its number, or -1 without room."""
    s = sites.count[0]
    if s >= len(sites.owner):
        return -1
    sites.at[s, 0], sites.at[s, 1], sites.at[s, 2], sites.at[s, 3] = z, y, x, r
    sites.owner[s], sites.path[s], sites.kind[s], sites.parent[s] = owner, path, kind, parent
    before = sites.count[1]
    after = _enter(sites, s, sites.node, np.empty((2, 3), np.int64), before)
    sites.count[0], sites.count[1] = s + 1, after
    if after > len(sites.node):
        forget(sites, s, before)
        return -1
    return s


@njit(cache=True)
def forget(sites, first_site, first_node):  # pragma: no cover (compiled)
    """Take back the sites and nodes added last."""
    head = sites.head
    span = np.empty((2, 3), np.int64)
    shape = np.array(head.shape)
    for s in range(first_site, sites.count[0]):
        _span(sites.at, s, sites.at[s, 3] + sites.grid[4], shape, sites.grid, span)
        for i in range(span[0, 0], span[1, 0] + 1):
            for j in range(span[0, 1], span[1, 1] + 1):
                for k in range(span[0, 2], span[1, 2] + 1):
                    while head[i, j, k] >= first_node:
                        head[i, j, k] = sites.node[head[i, j, k], 1]
    sites.count[0], sites.count[1] = first_site, first_node
