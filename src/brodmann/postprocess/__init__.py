"""From affinities to segments: fragments, region graph, agglomeration, and other ways."""

from brodmann.postprocess.fragments import FragmentOptions, make_fragments
from brodmann.postprocess.graph import RegionGraph, merge_graphs, region_graph

__all__ = [
    "FragmentOptions",
    "RegionGraph",
    "make_fragments",
    "merge_graphs",
    "region_graph",
]
