"""GASP: agglomeration of signed graphs, strongest attraction or repulsion first.

Bailoni et al., "GASP, a generalized framework for agglomerative clustering of signed graphs",
2022; the loop is bioimage-cpp's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import RecipeError, nearest
from brodmann.postprocess.agglomerate import check_nodes, check_thresholds
from brodmann.postprocess.graph import RegionGraph
from brodmann.postprocess.relabel import numbered

LINKAGES = {"average": "mean", "abs-max": "abs_max"}


def gasp(
    graph: RegionGraph, num_nodes: int, biases: Sequence[float], linkage: str = "average"
) -> np.ndarray:
    """Partitions of fragments for many biases.

    Parameters
    ----------
    graph : RegionGraph
        Of fragments 1..num_nodes.
    num_nodes : int
    biases : sequence of float
        In 0..1: an edge attracts by its mean affinity less the bias, and repels where that is
        negative.
    linkage : "average" or "abs-max"
        How edges that meet are joined: mean weighted by size, or the one of larger magnitude.

    Returns
    -------
    ndarray (len(biases), num_nodes + 1) uint32
        Fragment -> segment, 0 -> 0, numbered by the smallest fragment.

    Raises
    ------
    DataError, RecipeError
        If the graph has other nodes; on a bias out of 0..1 or an unknown linkage.
    """
    import bioimage_cpp.graph as bic

    check_nodes(graph, num_nodes)
    limits = check_thresholds(biases)
    if linkage not in LINKAGES:
        raise RecipeError("unknown linkage", found=repr(linkage), fix=nearest(linkage, LINKAGES))
    lookup = np.zeros((len(limits), num_nodes + 1), np.uint32)
    network = bic.UndirectedGraph.from_unique_edges(num_nodes, graph.edges - np.uint64(1))
    policy = bic.agglomeration.GaspClusterPolicy(num_clusters_stop=1, linkage=LINKAGES[linkage])
    for row, bias in zip(lookup, limits):
        labels = policy.optimize(
            network, graph.means - bias, edge_sizes=graph.sizes.astype(np.float64)
        )
        row[1:] = numbered(labels + 1)
    return lookup
