"""Hierarchical merging on a region graph: the strongest edge first, edges that meet add up.

The semantics are those of waterz (Funke et al. 2018): the score of an edge is 1 less its mean
affinity, or 1 less a quantile of its affinities; regions merge while the smallest score is below
the threshold. Scores come from whole numbers, and of equal scores the edge merges first that
holds the first row of the graph. So the partition is a function of the graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numba import njit

from brodmann.core import DataError, RecipeError, nearest
from brodmann.postprocess.graph import Histograms, RegionGraph

SCORES = ("mean", "quantile50", "quantile75", "quantile50-max", "quantile75-max")


def agglomerate(
    graph: RegionGraph, num_nodes: int, thresholds: Sequence[float], score: str = "mean"
) -> np.ndarray:
    """Partitions of fragments at many thresholds, in one pass.

    Parameters
    ----------
    graph : RegionGraph
        Of fragments 1..num_nodes; with histograms for the quantiles.
    num_nodes : int
    thresholds : sequence of float
        In 0..1, in any order. Regions merge while 1 - affinity is below.
    score : str
        "mean", or "quantile50", "quantile75" (any from 0 to 99) for a quantile of 256 bins. With
        "-max" an edge starts with the largest of its affinities alone, which is what waterz
        does where nothing else is said.

    Returns
    -------
    ndarray (len(thresholds), num_nodes + 1) uint32
        Fragment -> segment for each threshold, 0 -> 0. Segments are numbered 1, 2, ... by
        their smallest fragment.

    Raises
    ------
    DataError
        If the graph has other nodes, or no histograms where they are needed.
    RecipeError
        On a threshold out of 0..1 or an unknown score.

    Example
    -------
    >>> edges = np.array([[1, 2], [2, 3]], np.uint64)
    >>> graph = RegionGraph(edges, np.array([10, 10]), np.array([2295, 255]))
    >>> agglomerate(graph, 3, [0.05, 0.2, 0.95]).tolist()
    [[0, 1, 2, 3], [0, 1, 1, 2], [0, 1, 1, 1]]
    """
    limits = check_thresholds(thresholds)
    quantile, from_largest = parse_score(score)
    check_nodes(graph, num_nodes)
    histograms = Histograms(np.zeros(1, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint32))
    if quantile >= 0:
        if graph.histograms is None:
            raise DataError(
                f"{score} needs a region graph with histograms",
                fix="make it with histogram=True, or merge by the mean",
            )
        histograms = graph.histograms
        if from_largest:
            last = histograms.starts[1:] - 1
            ones = np.ones(len(last), np.uint32)
            histograms = Histograms(np.arange(len(last) + 1), histograms.bins[last], ones)
    order = np.argsort(limits, kind="stable")
    lookup = np.zeros((len(limits), num_nodes + 1), np.uint32)
    _agglomerate(
        graph.edges.astype(np.int64),
        graph.sizes.copy(),
        graph.sums.copy(),
        histograms.starts,
        histograms.bins,
        histograms.counts.astype(np.int64),
        quantile,
        limits[order],
        order,
        lookup,
    )
    return lookup


def check_thresholds(thresholds: Sequence[float]) -> np.ndarray:
    """As float64.

    Raises
    ------
    RecipeError
        If there are none, or one lies out of 0..1.
    """
    limits = np.asarray(list(thresholds), np.float64)
    if limits.ndim != 1 or not len(limits) or not ((limits >= 0) & (limits <= 1)).all():
        raise RecipeError("thresholds lie in 0..1, one at least", found=list(thresholds))
    return limits


def parse_score(score: str) -> tuple[int, bool]:
    """The quantile in percent, -1 for the mean, and whether edges start with their largest."""
    if score == "mean":
        return -1, False
    found = re.fullmatch(r"quantile(\d{1,2})(-max)?", score)
    if not found:
        raise RecipeError("unknown score", found=repr(score), fix=nearest(score, SCORES))
    return int(found[1]), found[2] is not None


def check_nodes(graph: RegionGraph, num_nodes: int) -> None:
    """Refuse a graph of other nodes than 1..num_nodes.

    Raises
    ------
    DataError
    """
    if not 0 <= num_nodes < 2**32:
        raise DataError("fragments are numbered by uint32", found=f"{num_nodes} of them")
    if len(graph) and (graph.edges.min() < 1 or graph.edges.max() > num_nodes):
        raise DataError(
            f"a region graph of fragments 1 to {num_nodes} has other ids",
            found=f"{graph.edges.min()} to {graph.edges.max()}",
            fix="number fragments without gaps",
        )


@njit(cache=True, nogil=True)
def root_of(parent, node):
    """The root of a node, with its path halved."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True, nogil=True)
def number_roots(parent, out):
    """Number trees 1, 2, ... by their smallest node into `out`; node 0 stays 0."""
    names = np.zeros(parent.size, np.uint32)
    count = np.uint32(0)
    for node in range(1, parent.size):
        root = root_of(parent, node)
        if names[root] == 0:
            count += np.uint32(1)
            names[root] = count
        out[node] = names[root]


@njit(cache=True, nogil=True)
def _find(table, ends, alive, a, b):
    """The living edge between a and b, or -1, and the first free slot."""
    if a > b:
        a, b = b, a
    mask = np.uint64(table.size - 1)
    mixed = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F)
    at = (mixed ^ (mixed >> np.uint64(29))) & mask
    while True:
        e = table[at]
        if e < 0:
            return e, at
        if alive[e]:
            u, v = ends[e, 0], ends[e, 1]
            if (u == a and v == b) or (u == b and v == a):
                return e, at
        at = (at + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def _filled(size, ends, alive):
    """A hash table of living edges, and how many they are."""
    table = np.full(size, -1, np.int64)
    count = 0
    for e in range(alive.size):
        if alive[e]:
            _, at = _find(table, ends, alive, ends[e, 0], ends[e, 1])
            table[at] = e
            count += 1
    return table, count


@njit(cache=True, nogil=True)
def _score(e, sizes, sums, heads, following, bins, counts, quantile):
    """1 less the mean of an edge, or less the quantile of its list of bins."""
    if quantile < 0:
        return 1.0 - sums[e] / (255.0 * sizes[e])
    total, at = 0, heads[e]
    while at >= 0:
        total += counts[at]
        at = following[at]
    pivot = quantile * total // 100 + 1
    total, at = 0, heads[e]
    while True:
        total += counts[at]
        if total >= pivot:
            return 1.0 - (bins[at] + 0.5) / 256.0
        at = following[at]


@njit(cache=True, nogil=True)
def _join_lists(a, b, following, bins, counts):
    """One ascending list of two; entries of one bin become one. Its head."""
    if a < 0:
        return b
    if b < 0:
        return a
    head, last = -1, -1
    while a >= 0 or b >= 0:
        if b < 0 or (a >= 0 and bins[a] <= bins[b]):
            if b >= 0 and bins[a] == bins[b]:
                counts[a] += counts[b]
                b = following[b]
            at = a
            a = following[a]
        else:
            at = b
            b = following[b]
        if last < 0:
            head = at
        else:
            following[last] = at
        last = at
    following[last] = -1
    return head


@njit(cache=True, nogil=True)
def _push(keys, items, count, key, item):
    """Onto a binary heap of (key, item); the lists grow when full."""
    if count == keys.size:
        keys = np.concatenate((keys, np.empty_like(keys)))
        items = np.concatenate((items, np.empty_like(items)))
    at = count
    while at > 0:
        above = (at - 1) >> 1
        if keys[above] < key or (keys[above] == key and items[above] <= item):
            break
        keys[at], items[at] = keys[above], items[above]
        at = above
    keys[at], items[at] = key, item
    return keys, items


@njit(cache=True, nogil=True)
def _drop_first(keys, items, count):
    """Take the least off a heap of `count`."""
    key, item = keys[count - 1], items[count - 1]
    count -= 1
    at = 0
    while True:
        below = 2 * at + 1
        if below >= count:
            break
        right = below + 1
        if right < count and (
            keys[right] < keys[below]
            or (keys[right] == keys[below] and items[right] < items[below])
        ):
            below = right
        if key < keys[below] or (key == keys[below] and item <= items[below]):
            break
        keys[at], items[at] = keys[below], items[below]
        at = below
    keys[at], items[at] = key, item


@njit(cache=True, nogil=True)
def _agglomerate(ends, sizes, sums, starts, bins, counts, quantile, thresholds, order, lookup):
    """Fill `lookup`; `ends`, `sizes`, `sums` and `counts` are used up."""
    m, nodes = sizes.size, lookup.shape[1]
    parent = np.arange(nodes)
    alive = np.ones(m, np.bool_)
    # Bins of an edge: an ascending linked list.
    heads = np.full(m, -1, np.int64)
    following = np.empty(bins.size, np.int64)
    if quantile >= 0:
        for e in range(m):
            heads[e] = starts[e]
            for at in range(starts[e], starts[e + 1]):
                following[at] = at + 1
            following[starts[e + 1] - 1] = -1
    # Edges of a node: a linked list of half edges 2e and 2e + 1.
    first = np.full(nodes, -1, np.int64)
    last = np.full(nodes, -1, np.int64)
    length = np.zeros(nodes, np.int64)
    after = np.full(2 * m, -1, np.int64)
    for e in range(m):
        for side in range(2):
            half, node = 2 * e + side, ends[e, side]
            if first[node] < 0:
                first[node] = half
            else:
                after[last[node]] = half
            last[node] = half
            length[node] += 1
    table_size = 1 << 4
    while table_size < 4 * m:
        table_size <<= 1
    table, filled = _filled(table_size, ends, alive)
    # An edge waits in the sorted list first, in the heap once it has changed. Its entry may lag
    # behind its score, but only below it: then it comes up too early, and is put back.
    score = np.empty(m, np.float64)
    for e in range(m):
        score[e] = _score(e, sizes, sums, heads, following, bins, counts, quantile)
    begun, queued = score.copy(), score.copy()
    ranked = np.argsort(score, kind="mergesort")
    keys, items = np.empty(1 << 10, np.float64), np.empty(1 << 10, np.int64)
    waiting, position = 0, 0
    for t in range(thresholds.size):
        while position < m or waiting > 0:
            from_heap = position == m
            if not from_heap:
                e = ranked[position]
                key = begun[e]
                from_heap = waiting > 0 and (keys[0] < key or (keys[0] == key and items[0] < e))
            if from_heap:
                key, e = keys[0], items[0]
            if key >= thresholds[t]:
                break
            if from_heap:
                _drop_first(keys, items, waiting)
                waiting -= 1
            else:
                position += 1
            if not alive[e] or queued[e] != key:
                continue
            if score[e] != key:
                keys, items = _push(keys, items, waiting, score[e], e)
                waiting += 1
                queued[e] = score[e]
                continue
            alive[e] = False
            a, b = ends[e, 0], ends[e, 1]
            if length[a] < length[b]:
                a, b = b, a
            parent[b] = a
            half = first[b]
            while half >= 0:
                ahead = after[half]
                f = half >> 1
                if alive[f]:
                    other = ends[f, 0] + ends[f, 1] - b
                    g, at = _find(table, ends, alive, a, other)
                    stays = f
                    if g >= 0:
                        stays, goes = min(f, g), max(f, g)
                        sizes[stays] += sizes[goes]
                        sums[stays] += sums[goes]
                        if quantile >= 0:
                            heads[stays] = _join_lists(
                                heads[stays], heads[goes], following, bins, counts
                            )
                        alive[goes] = False
                        score[stays] = _score(
                            stays, sizes, sums, heads, following, bins, counts, quantile
                        )
                        if score[stays] < queued[stays]:
                            keys, items = _push(keys, items, waiting, score[stays], stays)
                            waiting += 1
                            queued[stays] = score[stays]
                    if stays == f:
                        ends[f, 0], ends[f, 1] = a, other
                        if g >= 0:
                            _, at = _find(table, ends, alive, a, other)
                        if table[at] < 0:
                            table[at] = f
                            filled += 1
                            if 2 * filled > table.size:
                                table, filled = _filled(table.size, ends, alive)
                        after[half] = -1
                        if first[a] < 0:
                            first[a] = half
                        else:
                            after[last[a]] = half
                        last[a] = half
                        length[a] += 1
                half = ahead
        number_roots(parent, lookup[order[t]])
