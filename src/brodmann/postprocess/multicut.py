"""Multicut on a region graph: the partition that cuts the cheapest edges in sum.

Costs are log odds of the mean affinity, weighted by the edge's size (Andres et al. 2012; Beier
et al. 2017). Greedy additive edge contraction (GAEC) gives a start, Kernighan-Lin improves it;
both from bioimage-cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import RecipeError
from brodmann.postprocess.agglomerate import check_nodes
from brodmann.postprocess.graph import RegionGraph
from brodmann.postprocess.relabel import numbered

SURE = 0.001
"""Probabilities are kept this far from 0 and 1."""


def edge_costs(graph: RegionGraph, beta: float = 0.25) -> np.ndarray:
    """What it costs to cut each edge; negative where a cut gains.

    Parameters
    ----------
    graph : RegionGraph
    beta : float
        Prior probability of a boundary, within 0..1; more cuts more.

    Returns
    -------
    ndarray (m,) float64
        log((1 - p) / p) + log((1 - beta) / beta), p the mean boundary probability, times the
        edge's size over the mean size.

    Raises
    ------
    RecipeError
        On a beta that is not within 0..1.

    Example
    -------
    >>> edges = np.array([[1, 2], [2, 3]], np.uint64)
    >>> graph = RegionGraph(edges, np.array([10, 10]), np.array([2550, 0]))
    >>> edge_costs(graph, 0.5).round(2).tolist()
    [6.91, -6.91]
    """
    if not 0 < beta < 1:
        raise RecipeError("beta lies between 0 and 1", found=beta)
    boundary = SURE + (1 - 2 * SURE) * (1 - graph.means)
    odds = np.log((1 - boundary) / boundary) + np.log((1 - beta) / beta)
    return odds * graph.sizes / max(1.0, float(graph.sizes.mean()) if len(graph) else 1.0)


def multicut(
    graph: RegionGraph, num_nodes: int, betas: Sequence[float], *, kernighan_lin: bool = True
) -> np.ndarray:
    """Partitions of fragments for many betas.

    Parameters
    ----------
    graph : RegionGraph
        Of fragments 1..num_nodes.
    num_nodes : int
    betas : sequence of float
    kernighan_lin : bool
        Improve the greedy answer; else that is all.

    Returns
    -------
    ndarray (len(betas), num_nodes + 1) uint32
        Fragment -> segment, 0 -> 0, numbered by the smallest fragment.

    Raises
    ------
    DataError, RecipeError
        If the graph has other nodes; on a beta that is not within 0..1.
    """
    import bioimage_cpp.graph as bic

    check_nodes(graph, num_nodes)
    costs = [edge_costs(graph, beta) for beta in betas]
    lookup = np.zeros((len(betas), num_nodes + 1), np.uint32)
    network = bic.UndirectedGraph.from_unique_edges(num_nodes, graph.edges - np.uint64(1))
    for row, cost in zip(lookup, costs):
        objective = bic.multicut.MulticutObjective(network, cost)
        labels = bic.multicut.GreedyAdditiveMulticut().optimize(objective)
        if kernighan_lin:
            labels = bic.multicut.KernighanLinMulticut().optimize(objective)
        row[1:] = numbered(labels + 1)
    return lookup


def cut_costs(graph: RegionGraph, costs: np.ndarray, lookup: np.ndarray) -> float:
    """The objective: the sum of the costs of edges between different segments."""
    u, v = graph.edges.T
    return float(costs[lookup[u] != lookup[v]].sum())
