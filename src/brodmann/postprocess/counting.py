"""The passes over voxel pairs that make a region graph; numba, without the GIL."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _slot(table, u, v, us, vs):
    """Where edge (u, v) is, or would be, in an open-addressing table of edge numbers."""
    mask = np.uint64(table.size - 1)
    mixed = (u * np.uint64(0x9E3779B97F4A7C15)) ^ (v * np.uint64(0xC2B2AE3D27D4EB4F))
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while True:
        e = table[at]
        if e < 0 or (us[e] == u and vs[e] == v):
            return at
        at = (at + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def _grown(table, us, vs, count):
    """A table and lists twice as large."""
    wider = np.full(table.size * 2, -1, np.int64)
    for e in range(count):
        wider[_slot(wider, us[e], vs[e], us, vs)] = e
    return wider


@njit(cache=True, nogil=True)
def _bounds(box, step, shape):
    """The part of a box whose voxels v have v + step within the volume."""
    out = box.copy()
    for axis in range(3):
        out[2 * axis] = max(box[2 * axis], -step[axis])
        out[2 * axis + 1] = min(box[2 * axis + 1], shape[axis] - step[axis])
    return out


@njit(cache=True, nogil=True)
def _runs(here, there, value, us, vs, begins, ends, sums):
    """Runs of one pair of fragments along two rows, their places and sums; how many."""
    count, x, n = 0, 0, here.size
    while x < n:
        a, b = here[x], there[x]
        if a == b or a == 0 or b == 0:
            x += 1
            continue
        begun, total = x, 0
        while x < n and here[x] == a and there[x] == b:
            total += np.int64(value[x])
            x += 1
        us[count], vs[count] = min(a, b), max(a, b)
        begins[count], ends[count], sums[count] = begun, x, total
        count += 1
    return count


@njit(cache=True, nogil=True)
def count_edges(fragments, values, steps, box):
    """Edges of a box in order of discovery: u, v, sizes, sums and the table that finds them."""
    table = np.full(1 << 12, -1, np.int64)
    us = np.empty(1 << 11, np.uint64)
    vs = np.empty(1 << 11, np.uint64)
    sizes = np.empty(1 << 11, np.int64)
    sums = np.empty(1 << 11, np.int64)
    count = 0
    width = box[5] - box[4]
    run_u, run_v = np.empty(width, np.uint64), np.empty(width, np.uint64)
    begins, ends = np.empty(width, np.int64), np.empty(width, np.int64)
    totals = np.empty(width, np.int64)
    for c in range(steps.shape[0]):
        dz, dy, dx = steps[c]
        z0, z1, y0, y1, x0, x1 = _bounds(box, steps[c], fragments.shape)
        for z in range(z0, z1):
            for y in range(y0, y1):
                # A function of its own, so that the lists may grow here and loops there are tight.
                runs = _runs(
                    fragments[z, y, x0:x1],
                    fragments[z + dz, y + dy, x0 + dx : x1 + dx],
                    values[c, z, y, x0:x1],
                    run_u,
                    run_v,
                    begins,
                    ends,
                    totals,
                )
                if count + runs > us.size:
                    us = np.concatenate((us, np.empty(us.size + runs, us.dtype)))
                    vs = np.concatenate((vs, np.empty(us.size - vs.size, vs.dtype)))
                    sizes = np.concatenate((sizes, np.empty(us.size - sizes.size, sizes.dtype)))
                    sums = np.concatenate((sums, np.empty(us.size - sums.size, sums.dtype)))
                while 2 * (count + runs) > table.size:
                    table = _grown(table, us, vs, count)
                count = _add_runs(
                    runs, run_u, run_v, begins, ends, totals, table, us, vs, sizes, sums, count
                )
    return us[:count], vs[:count], sizes[:count], sums[:count], table


@njit(cache=True, nogil=True)
def _add_runs(runs, run_u, run_v, begins, ends, totals, table, us, vs, sizes, sums, count):
    """Add runs to the edges; there is room for as many new ones. How many edges there are."""
    for i in range(runs):
        at = _slot(table, run_u[i], run_v[i], us, vs)
        e = table[at]
        if e < 0:
            e = count
            us[e], vs[e], sizes[e], sums[e] = run_u[i], run_v[i], 0, 0
            table[at] = e
            count += 1
        sizes[e] += ends[i] - begins[i]
        sums[e] += totals[i]
    return count


@njit(cache=True, nogil=True)
def collect_values(fragments, values, steps, box, us, vs, table, rank, starts):
    """The affinities of every pair, listed edge after edge: those of e from starts[rank[e]]."""
    listed = np.empty(starts[-1], np.uint8)
    fill = starts[:-1].copy()
    width = box[5] - box[4]
    run_u, run_v = np.empty(width, np.uint64), np.empty(width, np.uint64)
    begins, ends = np.empty(width, np.int64), np.empty(width, np.int64)
    totals = np.empty(width, np.int64)
    for c in range(steps.shape[0]):
        dz, dy, dx = steps[c]
        z0, z1, y0, y1, x0, x1 = _bounds(box, steps[c], fragments.shape)
        for z in range(z0, z1):
            for y in range(y0, y1):
                value = values[c, z, y, x0:x1]
                there = fragments[z + dz, y + dy, x0 + dx : x1 + dx]
                runs = _runs(
                    fragments[z, y, x0:x1], there, value, run_u, run_v, begins, ends, totals
                )
                for i in range(runs):
                    e = rank[table[_slot(table, run_u[i], run_v[i], us, vs)]]
                    at = fill[e]
                    for x in range(begins[i], ends[i]):
                        listed[at] = value[x]
                        at += 1
                    fill[e] = at
    return listed


@njit(cache=True, nogil=True)
def histograms_of(listed, starts):
    """Lists of values to histograms: starts, bins and counts."""
    m = starts.size - 1
    begins = np.zeros(m + 1, np.int64)
    bins = np.empty(1 << 12, np.uint8)
    counts = np.empty(1 << 12, np.uint32)
    k = 0
    tally = np.zeros(256, np.uint32)
    for e in range(m):
        low, high = 255, 0
        for i in range(starts[e], starts[e + 1]):
            value = np.int64(listed[i])
            tally[value] += 1
            low, high = min(low, value), max(high, value)
        if k + 256 > bins.size:
            bins = np.concatenate((bins, np.empty_like(bins)))
            counts = np.concatenate((counts, np.empty_like(counts)))
        for value in range(low, high + 1):
            if tally[value]:
                bins[k], counts[k] = value, tally[value]
                tally[value] = 0
                k += 1
        begins[e + 1] = k
    return begins, bins[:k].copy(), counts[:k].copy()


@njit(cache=True, nogil=True)
def add_histograms(begins, bins, counts, order, first):
    """Histograms of edges in `order`, those of an edge that is not the first added to it."""
    starts = np.zeros(first.sum() + 1, np.int64)
    out_bins = np.empty(bins.size, np.uint8)
    out_counts = np.empty(counts.size, np.uint32)
    tally = np.zeros(256, np.uint32)
    k, edge, low, high = 0, 0, 255, 0
    for i in range(order.size):
        for at in range(begins[order[i]], begins[order[i] + 1]):
            value = np.int64(bins[at])
            tally[value] += counts[at]
            low, high = min(low, value), max(high, value)
        if i + 1 == order.size or first[i + 1]:
            for value in range(low, high + 1):
                if tally[value]:
                    out_bins[k], out_counts[k] = value, tally[value]
                    tally[value] = 0
                    k += 1
            edge += 1
            starts[edge] = k
            low, high = 255, 0
    return starts, out_bins[:k].copy(), out_counts[:k].copy()
