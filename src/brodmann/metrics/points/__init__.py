"""Cells as points: matching, scores, regions, and the matrix of markers and models."""

from brodmann.metrics.points.boxes import Box, check_inside, in_box, parse_box, read_boxes
from brodmann.metrics.points.matching import MODES, Matching, Mode, match
from brodmann.metrics.points.matrix import MarkerMatrix, marker_matrix
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
    "Box",
    "MarkerMatrix",
    "Matching",
    "Mode",
    "PointScore",
    "Summary",
    "check_inside",
    "count",
    "in_box",
    "marker_matrix",
    "match",
    "parse_box",
    "pool",
    "read_boxes",
    "score_groups",
    "score_points",
    "scores_by_tolerance",
    "summarise",
    "tally",
    "tolerance_of",
    "tolerance_um",
]
