"""From affinities to segments: fragments, region graph, agglomeration, and other ways."""

from brodmann.postprocess.agglomerate import agglomerate
from brodmann.postprocess.fragments import FragmentOptions, make_fragments
from brodmann.postprocess.graph import Histograms, RegionGraph, merge_graphs, region_graph
from brodmann.postprocess.methods import METHODS, Method, find_method, partitions, segment
from brodmann.postprocess.relabel import apply_lookup, remove_small
from brodmann.postprocess.tune import Tuned, tune
from brodmann.postprocess.waterz import waterz_segments

__all__ = [
    "FragmentOptions",
    "Histograms",
    "METHODS",
    "Method",
    "RegionGraph",
    "Tuned",
    "agglomerate",
    "apply_lookup",
    "find_method",
    "make_fragments",
    "merge_graphs",
    "partitions",
    "region_graph",
    "remove_small",
    "segment",
    "tune",
    "waterz_segments",
]
