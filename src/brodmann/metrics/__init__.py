"""How good a map is: overlap, surfaces, significance."""

from brodmann.metrics.contingency import ClassTable, contingency
from brodmann.metrics.overlap import Overlap, coarse_classes, confusions, overlap, roll_up
from brodmann.metrics.significance import Comparison, bootstrap, compare, paired_t, wilcoxon
from brodmann.metrics.surface import Surface, summary, surface_distances, surfaces

__all__ = [
    "ClassTable",
    "Comparison",
    "Overlap",
    "Surface",
    "bootstrap",
    "coarse_classes",
    "compare",
    "confusions",
    "contingency",
    "overlap",
    "paired_t",
    "roll_up",
    "summary",
    "surface_distances",
    "surfaces",
    "wilcoxon",
]
