"""Segmentations as clusterings: variation of information, adapted Rand error, neuron by neuron."""

from brodmann.metrics.clusters.borders import border_mask
from brodmann.metrics.clusters.errors import NeuronErrors, neuron_errors
from brodmann.metrics.clusters.scores import (
    ClusterScores,
    cluster_scores,
    counted_voxels,
    scores_of_table,
)
from brodmann.metrics.clusters.table import ClusterTable, cluster_table

__all__ = [
    "ClusterScores",
    "ClusterTable",
    "NeuronErrors",
    "border_mask",
    "cluster_scores",
    "cluster_table",
    "counted_voxels",
    "neuron_errors",
    "scores_of_table",
]
