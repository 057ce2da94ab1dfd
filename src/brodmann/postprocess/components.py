"""Connected components of strong affinities: the plain baseline, voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numba import njit

from brodmann.core import Affinities
from brodmann.core.affinities import NEAREST, pair_windows
from brodmann.postprocess.agglomerate import check_nodes, check_thresholds, number_roots, root_of
from brodmann.postprocess.fragments import checked
from brodmann.postprocess.graph import RegionGraph


def component_segments(
    affinities: Affinities, thresholds: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """Voxels joined by pairs whose 1 - affinity is below each threshold, in one pass.

    Parameters
    ----------
    affinities : Affinities
        Only the nearest neighbours' are used.
    thresholds : sequence of float
        In 0..1.

    Yields
    ------
    (threshold, labels (z, y, x) uint32)
        In ascending order of thresholds; ids 1, 2, ... in order of appearance.

    Raises
    ------
    DataError, RecipeError
    """
    limits = np.sort(check_thresholds(thresholds))
    affinities = checked(affinities)
    channels = affinities.convention.channels_of(NEAREST)
    shape = affinities.shape
    nodes = np.arange(1, int(np.prod(shape)) + 1).reshape(shape)
    parent = np.arange(nodes.size + 1)
    done = 256
    for limit in limits:
        # 1 - a / 255 < limit, in whole numbers: a > 255 (1 - limit).
        least = int(np.floor(255 * (1 - limit) + 1e-9)) + 1
        for channel in channels:
            here, there = pair_windows(shape, affinities.convention.offsets[channel])
            _join(
                affinities.volume.data[channel][here],
                nodes[here],
                nodes[there],
                least,
                done,
                parent,
            )
        done = least
        labels = np.zeros(len(parent), np.uint32)
        number_roots(parent, labels)
        yield float(limit), labels[1:].reshape(shape)


def component_partitions(
    graph: RegionGraph, num_nodes: int, thresholds: Sequence[float]
) -> np.ndarray:
    """Fragments joined by edges whose 1 - mean affinity is below; edges do not add up.

    Returns
    -------
    ndarray (len(thresholds), num_nodes + 1) uint32
        Fragment -> segment, 0 -> 0, numbered by the smallest fragment.

    Raises
    ------
    DataError, RecipeError
    """
    limits = check_thresholds(thresholds)
    check_nodes(graph, num_nodes)
    lookup = np.zeros((len(limits), num_nodes + 1), np.uint32)
    ends = graph.edges.astype(np.int64)
    score = 1 - graph.means
    for row, limit in zip(lookup, limits):
        parent = np.arange(num_nodes + 1)
        _join_edges(ends[score < limit], parent)
        number_roots(parent, row)
    return lookup


@njit(cache=True, nogil=True)
def _join(values, here, there, least, done, parent):
    """Join the pairs whose value is at least `least` and below `done`."""
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                if least <= values[z, y, x] < done:
                    a, b = root_of(parent, here[z, y, x]), root_of(parent, there[z, y, x])
                    parent[max(a, b)] = min(a, b)


@njit(cache=True, nogil=True)
def _join_edges(ends, parent):
    for e in range(len(ends)):
        a, b = root_of(parent, ends[e, 0]), root_of(parent, ends[e, 1])
        parent[max(a, b)] = min(a, b)
