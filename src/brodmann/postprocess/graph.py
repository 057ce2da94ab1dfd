"""The region graph: which fragments touch, on how many voxel pairs, and how strongly.

All of it is whole numbers, added up. So the graph of a volume is the sum of those of its
blocks, bit for bit, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from brodmann.core import DataError
from brodmann.core.affinities import Offset
from brodmann.core.files import written_beside

CHUNK_VOXELS = 1 << 22
"""Voxels that one thread counts at a time."""


@dataclass(frozen=True, eq=False)
class Histograms:
    """A histogram of uint8 affinities for each edge; bins that hold nothing are left out.

    Exact, at 5 bytes for each value that occurs at an edge; 256 full bins would take 1 KB an
    edge.

    Attributes
    ----------
    starts : (m + 1,) int64
        Entries of edge e are those from starts[e] to starts[e + 1].
    bins : (k,) uint8
        Affinities, ascending within an edge.
    counts : (k,) uint32
        Voxel pairs of that affinity.
    """

    starts: np.ndarray
    bins: np.ndarray
    counts: np.ndarray

    def dense(self) -> np.ndarray:
        """(m, 256) int64: for small graphs."""
        out = np.zeros((len(self.starts) - 1, 256), np.int64)
        out[np.repeat(np.arange(len(out)), np.diff(self.starts)), self.bins] = self.counts
        return out


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Edges between fragments that touch.

    Attributes
    ----------
    edges : (m, 2) uint64
        Ids u < v, rows sorted, each pair once.
    sizes : (m,) int64
        Voxel pairs on which u and v touch.
    sums : (m,) int64
        The sum of their affinities, each 0..255.
    histograms : Histograms, optional

    Example
    -------
    >>> values = np.full((1, 1, 1, 4), 51, np.uint8)
    >>> graph = region_graph(np.array([[[7, 7, 9, 9]]]), values, [(0, 0, -1)])
    >>> graph.edges.tolist(), graph.means.tolist()
    ([[7, 9]], [0.2])
    """

    edges: np.ndarray
    sizes: np.ndarray
    sums: np.ndarray
    histograms: Histograms | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def means(self) -> np.ndarray:
        """Mean affinities, (m,) float64 in 0..1."""
        return self.sums / (255.0 * self.sizes)

    def save(self, path: Path) -> None:
        """Write as .npz, whole or not at all.

        Raises
        ------
        OutputError
        """
        parts = {"edges": self.edges, "sizes": self.sizes, "sums": self.sums}
        if self.histograms is not None:
            parts |= {f"histograms_{name}": a for name, a in vars(self.histograms).items()}
        with written_beside(Path(path)) as beside, beside.open("wb") as file:
            np.savez(file, **parts)

    @classmethod
    def load(cls, path: Path) -> RegionGraph:
        """What `save` wrote; nothing is unpickled.

        Raises
        ------
        DataError
            If the file cannot be read, or does not hold a region graph.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                parts = {name: file[name] for name in file.files}
            histograms = None
            if "histograms_starts" in parts:
                names = ("starts", "bins", "counts")
                histograms = Histograms(*(parts[f"histograms_{name}"] for name in names))
            graph = cls(parts["edges"], parts["sizes"], parts["sums"], histograms)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(
                "this is no region graph", path, error, "delete the file and make it again"
            ) from error
        except Exception as error:
            # zipfile and zlib have errors of their own.
            raise DataError(
                "this region graph is damaged", path, error, "delete the file and make it again"
            ) from error
        _check(graph, str(path))
        return graph


def _check(graph: RegionGraph, where: str) -> None:
    edges, m = graph.edges, len(graph.sizes)
    good = (
        edges.shape == (m, 2)
        and edges.dtype == np.uint64
        and graph.sizes.dtype == graph.sums.dtype == np.int64
        and graph.sums.shape == graph.sizes.shape == (m,)
    )
    if good and graph.histograms is not None:
        starts, bins, counts = vars(graph.histograms).values()
        good = (
            starts.shape == (m + 1,)
            and starts.dtype == np.int64
            and bins.dtype == np.uint8
            and counts.dtype == np.uint32
            and bins.shape == counts.shape == (starts[-1],)
            and starts[0] == 0
            and bool((np.diff(starts) >= 0).all())
        )
    if not good:
        raise DataError("this is no region graph", where, f"edges {edges.shape} {edges.dtype}")
    u, v = edges.T
    rising = (u[1:] > u[:-1]) | ((u[1:] == u[:-1]) & (v[1:] > v[:-1]))
    if not ((u < v).all() and rising.all() and (graph.sizes > 0).all()):
        raise DataError("the edges of a region graph are u < v, sorted, each once", where)


def region_graph(
    fragments: np.ndarray,
    values: np.ndarray,
    offsets: Sequence[Offset],
    *,
    owned: tuple[slice, ...] | None = None,
    histogram: bool = False,
    workers: int = 1,
) -> RegionGraph:
    """Add up the affinities of all voxel pairs that lie in two different fragments.

    Parameters
    ----------
    fragments : (z, y, x) unsigned integers
        0 is none and makes no edge.
    values : (c, z, y, x) uint8
        Canonical affinities: the value at v is that of the pair (v, v + offset).
    offsets : sequence of (z, y, x)
        One a channel. Those to the nearest neighbours give the graph of what touches.
    owned : three slices, optional
        A pair counts when v lies in here; the whole by default. Blocks that own every voxel
        once, with a halo as wide as the offsets, add up to the whole.
    histogram : bool
        Keep histograms too, for quantiles; one more pass.
    workers : int
        Threads over slices; the answer does not depend on them.

    Raises
    ------
    DataError
        If shapes, types and offsets do not fit together.
    """
    if fragments.ndim != 3 or fragments.dtype.kind not in "ui":
        raise DataError(
            "fragments are (z, y, x) whole numbers",
            found=f"shape {fragments.shape}, {fragments.dtype}",
        )
    if values.shape != (len(offsets), *fragments.shape) or values.dtype != np.uint8:
        raise DataError(
            f"{len(offsets)} offsets and fragments {fragments.shape} need as many uint8 values",
            found=f"shape {values.shape}, {values.dtype}",
        )
    if fragments.dtype.kind == "i" and fragments.size and fragments.min() < 0:
        raise DataError("ids of fragments are 0 or more", found=int(fragments.min()))
    # Two kinds of ids and one layout, so that little is compiled.
    kind = np.uint64 if fragments.dtype.itemsize > 4 else np.uint32
    fragments = np.ascontiguousarray(fragments, kind)
    values = np.ascontiguousarray(values)
    steps = np.array(offsets, np.int64).reshape(-1, 3)
    window = owned or (slice(None),) * 3
    (z0, z1), *inner = (s.indices(n)[:2] for s, n in zip(window, fragments.shape))
    (y0, y1), (x0, x1) = inner
    depth = max(1, CHUNK_VOXELS // max(1, fragments.shape[1] * fragments.shape[2]))
    boxes = [
        np.array([z, min(z + depth, z1), y0, y1, x0, x1], np.int64) for z in range(z0, z1, depth)
    ]

    def one(box: np.ndarray) -> RegionGraph:
        u, v, sizes, sums, table = _count(fragments, values, steps, box)
        order = np.lexsort((v, u))
        histograms = None
        if histogram:
            rank = np.empty(len(order), np.int64)
            rank[order] = np.arange(len(order))
            starts = np.concatenate([[0], np.cumsum(sizes[order])])
            listed = _collect(fragments, values, steps, box, u, v, table, rank, starts)
            histograms = Histograms(*_compress(listed, starts))
        edges = np.stack([u[order], v[order]], axis=1)
        return RegionGraph(edges, sizes[order], sums[order], histograms)

    if workers > 1 and len(boxes) > 1:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(one, boxes))
    else:
        parts = [one(box) for box in boxes]
    return parts[0] if len(parts) == 1 else merge_graphs(parts, histogram=histogram)


def merge_graphs(graphs: Iterable[RegionGraph], *, histogram: bool | None = None) -> RegionGraph:
    """The sum of graphs, of blocks in any order.

    Parameters
    ----------
    graphs : iterable of RegionGraph
        All with histograms or all without.
    histogram : bool, optional
        Whether a sum of no graphs has histograms.

    Raises
    ------
    DataError
        If only some have histograms.
    """
    parts = list(graphs)
    kinds = {part.histograms is not None for part in parts} or {bool(histogram)}
    if len(kinds) > 1:
        raise DataError("some of these graphs have histograms, and some have none")
    if len(parts) == 1:
        return parts[0]
    edges = np.concatenate([np.empty((0, 2), np.uint64), *(part.edges for part in parts)])
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges = edges[order]
    first = np.ones(len(edges), bool)
    first[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    heads = np.flatnonzero(first)
    columns = []
    for name in ("sizes", "sums"):
        column = np.concatenate([np.empty(0, np.int64), *(getattr(part, name) for part in parts)])
        columns.append(np.add.reduceat(column[order], heads) if len(heads) else column)
    histograms = None
    if kinds == {True}:
        histograms = _add_histograms(
            [part.histograms for part in parts if part.histograms is not None], order, first
        )
    return RegionGraph(edges[first], *columns, histograms)


def _add_histograms(parts: list[Histograms], order: np.ndarray, first: np.ndarray) -> Histograms:
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(part.starts) for part in parts)])
    bins = np.concatenate([np.empty(0, np.uint8), *(part.bins for part in parts)])
    counts = np.concatenate([np.empty(0, np.uint32), *(part.counts for part in parts)])
    begins = np.concatenate([[0], np.cumsum(lengths)])
    return Histograms(*_add_entries(begins, bins, counts, order, first))


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
def _count(fragments, values, steps, box):
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
def _collect(fragments, values, steps, box, us, vs, table, rank, starts):
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
def _compress(listed, starts):
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
def _add_entries(begins, bins, counts, order, first):
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
