"""The best matching of a sparse graph: most pairs, and of these the least total cost."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.core import DataError
from brodmann.metrics.points.pairs import Pairs

ALONE = -2


def best_assignment(pairs: Pairs, limit: int) -> np.ndarray:
    """The column of every row, or -1: maximum cardinality, then least sum of costs.

    Parameters
    ----------
    pairs : Pairs
        Costs are whole numbers from 0 to below `limit`.
    limit : int

    Returns
    -------
    (n,) int64

    Raises
    ------
    DataError
        If the costs are so large that their sums do not fit 62 bits.

    Notes
    -----
    Successive shortest augmenting paths with potentials (Jonker and Volgenant 1987) on the
    sparse graph, in whole numbers. Each row may stay alone at a price above the sum of all
    costs. Where rows compete for too few columns their potentials rise to this price once;
    later searches there stay short, so that one component of a million points is no trouble.
    """
    n, m = pairs.shape
    price = (min(n, m) + 1) * int(limit)
    if price >= 1 << 60:
        raise DataError(
            "the tolerance is too large for an exact optimum",
            found=f"{limit / 1e6:g} for {min(n, m):,} points",
            fix="use --mode greedy_global, or a smaller tolerance",
        )
    found = _assign(pairs.starts, pairs.columns, pairs.costs, m, price)
    found[found < 0] = -1
    return found


@njit(cache=True, nogil=True)
def _assign(starts, columns, costs, m, price):
    n = starts.size - 1
    column_of = np.full(n, -1, np.int64)
    row_of = np.full(m, -1, np.int64)
    u, v = np.zeros(n, np.int64), np.zeros(m, np.int64)
    for i in range(n):
        if starts[i] == starts[i + 1]:
            column_of[i] = ALONE
            continue
        best = starts[i]
        for k in range(starts[i], starts[i + 1]):
            if costs[k] < costs[best]:
                best = k
        u[i] = costs[best]
        if row_of[columns[best]] < 0:
            row_of[columns[best]], column_of[i] = i, columns[best]
    distance = np.full(m, np.iinfo(np.int64).max, np.int64)
    before = np.full(m, -1, np.int64)
    done = np.zeros(m, np.bool_)
    for source in range(n):
        if column_of[source] != -1:
            continue
        for k in range(starts[source], starts[source + 1]):
            slack = costs[k] - v[columns[k]]
            if k == starts[source] or slack < u[source]:
                u[source] = slack
        u[source] = min(u[source], price)
        touched = [np.int64(0) for _ in range(0)]
        heap = [(np.int64(0), np.int64(0)) for _ in range(0)]
        i, so_far = source, np.int64(0)
        alone, alone_at = source, price - u[source]
        end = np.int64(-1)
        while True:
            if so_far + price - u[i] < alone_at:
                alone, alone_at = i, so_far + price - u[i]
            for k in range(starts[i], starts[i + 1]):
                j = columns[k]
                there = so_far + costs[k] - u[i] - v[j]
                if there < distance[j] and there < alone_at:
                    if before[j] < 0:
                        touched.append(j)
                    distance[j], before[j] = there, i
                    _push(heap, there, j)
            next_column = np.int64(-1)
            while len(heap) > 0:
                at, j = _pop(heap)
                if not done[j] and at == distance[j]:
                    next_column = j
                    break
            if next_column < 0 or distance[next_column] >= alone_at:
                break
            done[next_column] = True
            if row_of[next_column] < 0:
                end = next_column
                break
            i, so_far = row_of[next_column], distance[next_column]
        total = alone_at if end < 0 else distance[end]
        u[source] += total
        for j in touched:
            if done[j] and distance[j] < total:
                v[j] += distance[j] - total
                u[row_of[j]] += total - distance[j]
        # The columns of the path change hands, from its end back to the source.
        if end < 0:
            end = column_of[alone]
            column_of[alone] = ALONE
        while end >= 0:
            i = before[end]
            following = column_of[i]
            row_of[end], column_of[i] = i, end
            end = following if i != source else np.int64(-1)
        for j in touched:
            distance[j], before[j], done[j] = np.iinfo(np.int64).max, -1, False
    return column_of


@njit(cache=True, nogil=True)
def _push(heap, key, item):
    heap.append((key, item))
    at = len(heap) - 1
    while at > 0:
        above = (at - 1) // 2
        if heap[above][0] <= key:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = (key, item)


@njit(cache=True, nogil=True)
def _pop(heap):
    top = heap[0]
    last = heap.pop()
    size = len(heap)
    if size == 0:
        return top
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1][0] < heap[below][0]:
            below += 1
        if heap[below][0] >= last[0]:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = last
    return top
