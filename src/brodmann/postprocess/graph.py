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

from brodmann.core import DataError
from brodmann.core.affinities import Offset
from brodmann.core.files import written_beside
from brodmann.postprocess.counting import (
    add_histograms,
    collect_values,
    count_edges,
    histograms_of,
)

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
        u, v, sizes, sums, table = count_edges(fragments, values, steps, box)
        order = np.lexsort((v, u))
        histograms = None
        if histogram:
            rank = np.empty(len(order), np.int64)
            rank[order] = np.arange(len(order))
            starts = np.concatenate([[0], np.cumsum(sizes[order])])
            listed = collect_values(fragments, values, steps, box, u, v, table, rank, starts)
            histograms = Histograms(*histograms_of(listed, starts))
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
    return Histograms(*add_histograms(begins, bins, counts, order, first))
