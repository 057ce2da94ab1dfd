"""Cells and regions: annotations, transforms into their space, counts, relations of markers."""

from brodmann.atlas.annotation import Annotation, read_annotation
from brodmann.atlas.count import CellCounts, count_cells, count_markers
from brodmann.atlas.files import roll_up_table, write_counts
from brodmann.atlas.grid import Grid
from brodmann.atlas.relate import coexpression, proximity
from brodmann.atlas.structures import Tree, read_structures
from brodmann.atlas.transform import Affine, SameSpace, Transform, read_transform

__all__ = [
    "Affine",
    "Annotation",
    "CellCounts",
    "Grid",
    "SameSpace",
    "Transform",
    "Tree",
    "coexpression",
    "count_cells",
    "count_markers",
    "proximity",
    "read_annotation",
    "read_structures",
    "read_transform",
    "roll_up_table",
    "write_counts",
]
