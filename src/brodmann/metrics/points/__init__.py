"""Cells as points: matching, scores, regions, and the matrix of markers and models."""

from brodmann.metrics.points.matching import MODES, Matching, Mode, match
from brodmann.metrics.points.matrix import MarkerMatrix, marker_matrix
from brodmann.metrics.points.regions import Region, parse_box, read_regions, rows_in
from brodmann.metrics.points.scores import (
    SCORER,
    TOLERANCE_VX,
    PointScore,
    count,
    pool,
    score_points,
    scores_by_tolerance,
    tolerance_of,
    tolerance_um,
)
from brodmann.metrics.points.summary import Summary, score_groups, summarise, tally

__all__ = [
    "MODES",
    "SCORER",
    "TOLERANCE_VX",
    "MarkerMatrix",
    "Matching",
    "Mode",
    "PointScore",
    "Region",
    "Summary",
    "count",
    "marker_matrix",
    "match",
    "parse_box",
    "pool",
    "read_regions",
    "rows_in",
    "score_groups",
    "score_points",
    "scores_by_tolerance",
    "summarise",
    "tally",
    "tolerance_of",
    "tolerance_um",
]
