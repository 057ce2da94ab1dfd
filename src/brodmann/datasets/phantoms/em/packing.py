"""Growing neurites side by side until no room is left: tubes of varied calibre, compiled.

A neurite is a chain of spheres, its sites. Space is divided into cells; the list of a cell holds
every site whose sphere comes within a reach of the cell, so that one list answers what is near a
point. Thin neurites need a shorter reach than thick ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

TRIALS = 8
"""Directions tried at each step."""
GAP_UM = 0.012
"""Room kept between two tubes."""
SHAFT, AXON, SPINE = 0, 1, 2


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
def uniform(state):  # pragma: no cover (compiled)
    """The next number in 0..1 of a splitmix64 stream; the same on every machine."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def direction(state, out):  # pragma: no cover (compiled)
    """A unit vector, all directions alike."""
    z = 2 * uniform(state) - 1
    turn = 2 * np.pi * uniform(state)
    s = np.sqrt(max(0.0, 1 - z * z))
    out[0], out[1], out[2] = z, s * np.cos(turn), s * np.sin(turn)


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


@njit(cache=True)
def walk(
    sites, state, start, heading, parent, owner, path, kind, target, least, wander, length, box
):  # pragma: no cover (compiled)
    """Grow one chain from `start` until it leaves the box, is stuck or long enough.

    `target` is the radius it wants, `least` the one it dies below, `wander` how much it turns
    per um. Returns the sites added.
    """
    p, way, trial, best = start.copy(), heading.copy(), np.empty(3), np.empty(3)
    added, gone, swell = 0, 0.0, 1.0
    noise = np.empty(3)
    radius = target
    while gone < length:
        step = min(max(0.4 * radius, 0.028), 0.10)
        top, room = -1e9, 0.0
        for trial_number in range(TRIALS):
            direction(state, noise)
            turn = np.sqrt(wander * step) * (0.6 + 0.5 * trial_number)
            for a in range(3):
                trial[a] = way[a] + turn * noise[a]
            size = np.sqrt(trial[0] ** 2 + trial[1] ** 2 + trial[2] ** 2)
            along = 0.0
            for a in range(3):
                trial[a] /= size
                along += trial[a] * way[a]
            # Looking a little ahead keeps thin processes out of dead ends.
            ahead = step + 0.6 * target
            near = clearance(
                sites, p[0] + step * trial[0], p[1] + step * trial[1], p[2] + step * trial[2], owner
            )
            far = clearance(
                sites,
                p[0] + ahead * trial[0],
                p[1] + ahead * trial[1],
                p[2] + ahead * trial[2],
                owner,
            )
            want = 1.15 * target + GAP_UM
            score = min(near, want) + 0.7 * min(far, want) + 0.5 * target * along
            if near - GAP_UM >= least and score > top:
                top, room = score, near - GAP_UM
                best[:] = trial
        if top < -1e8:
            break
        for a in range(3):
            p[a] += step * best[a]
        way[:] = best
        swell += 0.25 * (1.0 - swell) * step / 0.4 + 0.55 * np.sqrt(step) * (uniform(state) - 0.5)
        swell = min(max(swell, 0.65), 1.5)
        radius = min(max(target * swell, least), room, 1.3 * radius + 0.01)
        parent = add(sites, p[0], p[1], p[2], radius, owner, path, kind, parent)
        if parent < 0:
            break
        added += 1
        gone += step
        inside = True
        for a in range(3):
            if p[a] < box[0, a] or p[a] > box[1, a]:
                inside = False
        if not inside:
            break
    return added


@njit(cache=True)
def grow(sites, state, box, low_r, high_r, least, wander, fill, tries, kind, shortest):
    # pragma: no cover (compiled)
    """New neurites until the tubes fill a share of the box, or no start is found in `tries`.

    Returns the share filled by these.
    """
    start, heading, back = np.empty(3), np.empty(3), np.empty(3)
    whole = 1.0
    for a in range(3):
        whole *= box[1, a] - box[0, a]
    volume, failed = 0.0, 0
    while failed < tries and volume < fill * whole:
        target = low_r * (high_r / low_r) ** uniform(state)
        for a in range(3):
            start[a] = box[0, a] + uniform(state) * (box[1, a] - box[0, a])
        owner, path = sites.count[2] + 1, sites.count[3]
        room = clearance(sites, start[0], start[1], start[2], owner)
        if room - GAP_UM < max(least, 0.75 * min(target, 0.3)):
            failed += 1
            continue
        direction(state, heading)
        back[:] = -heading
        before_sites, before_nodes = sites.count[0], sites.count[1]
        radius = min(target, room - GAP_UM)
        first = add(sites, start[0], start[1], start[2], radius, owner, path, kind, -1)
        if first < 0:
            break
        n = walk(
            sites, state, start, heading, first, owner, path, kind,
            target, least, wander, 1e9, box,
        )  # fmt: skip
        n += walk(
            sites, state, start, back, first, owner, path + 1, kind,
            target, least, wander, 1e9, box,
        )  # fmt: skip
        length = 0.0
        for s in range(before_sites + 1, sites.count[0]):
            q = sites.parent[s]
            step = 0.0
            for a in range(3):
                step += (sites.at[s, a] - sites.at[q, a]) ** 2
            length += np.sqrt(step)
        if length < shortest:
            forget(sites, before_sites, before_nodes)
            failed += 1
            continue
        failed = 0
        sites.count[2] += 1
        sites.count[3] += 2
        for s in range(before_sites, sites.count[0]):
            r = sites.at[s, 3]
            volume += np.pi * r * r * length / (sites.count[0] - before_sites)
    return volume / whole


@njit(cache=True)
def branch(sites, state, box, per_um, low_r, high_r, least, wander, length, head_r, kind, only):
    # pragma: no cover (compiled)
    """Side branches from the shafts that are there, of the same neuron; how many.

    `head_r` above 0 ends each in a bulb (a spine). `only` is the kind of site to start from.
    """
    last, made = sites.count[0], 0
    noise, start, way, heading = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    bulb = np.empty(3)
    for s in range(last):
        q = sites.parent[s]
        if q < 0 or sites.kind[s] != only:
            continue
        step = 0.0
        for a in range(3):
            start[a] = sites.at[s, a]
            way[a] = sites.at[s, a] - sites.at[q, a]
            step += way[a] * way[a]
        step = np.sqrt(step)
        if uniform(state) > per_um * step or step == 0:
            continue
        direction(state, noise)
        dot = (noise[0] * way[0] + noise[1] * way[1] + noise[2] * way[2]) / step
        size = 0.0
        for a in range(3):
            heading[a] = noise[a] - dot * way[a] / step
            size += heading[a] ** 2
        size = np.sqrt(size) + 1e-9
        for a in range(3):
            heading[a] /= size
        owner, path = sites.owner[s], sites.count[3]
        before_sites, before_nodes = sites.count[0], sites.count[1]
        target = low_r * (high_r / low_r) ** uniform(state)
        long = sites.at[s, 3] + length * (0.5 + uniform(state))
        n = walk(
            sites, state, start, heading, s, owner, path, kind,
            min(target, sites.at[s, 3]), least, wander, long, box,
        )  # fmt: skip
        end = sites.count[0] - 1
        out = 0.0
        for a in range(3):
            out += (sites.at[end, a] - sites.at[s, a]) ** 2
        if n < 3 or np.sqrt(out) < sites.at[s, 3] + 0.6 * min(length, 0.5):
            forget(sites, before_sites, before_nodes)
            continue
        if head_r > 0:
            for a in range(3):
                bulb[a] = sites.at[end, a]
            room = clearance(sites, bulb[0], bulb[1], bulb[2], owner) - GAP_UM
            r = min(head_r * (0.7 + 0.6 * uniform(state)), room)
            if r > sites.at[end, 3]:
                add(sites, bulb[0], bulb[1], bulb[2], r, owner, path, kind, end)
        sites.count[3] += 1
        made += 1
    return made


@njit(cache=True)
def ridges(sites, state, share):  # pragma: no cover (compiled)
    """Smaller spheres half outside the larger ones, so that sections are not round."""
    last = sites.count[0]
    side, noise = np.zeros(3), np.zeros(3)
    path = -1
    for s in range(last):
        r = sites.at[s, 3]
        if sites.kind[s] == SPINE:
            continue
        if sites.path[s] != path:
            path = sites.path[s]
            direction(state, side)
        direction(state, noise)
        size = 0.0
        for a in range(3):
            side[a] += 0.22 * noise[a]
            size += side[a] ** 2
        size = np.sqrt(size) + 1e-9
        for a in range(3):
            side[a] /= size
        # On one side or on both: ridges, and flat processes.
        for sign in (1.0, -1.0):
            if uniform(state) > share:
                continue
            far = sign * r * (0.6 + 0.8 * uniform(state))
            z = sites.at[s, 0] + far * side[0]
            y = sites.at[s, 1] + far * side[1]
            x = sites.at[s, 2] + far * side[2]
            room = clearance(sites, z, y, x, sites.owner[s]) - 0.5 * GAP_UM
            small = min(0.62 * r, room)
            # It overlaps its neurite, so that the two are one piece.
            if small > max(0.025, 0.2 * r) and abs(far) < r + 0.8 * small:
                add(sites, z, y, x, small, sites.owner[s], -2, sites.kind[s], s)
