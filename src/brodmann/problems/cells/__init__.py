"""Cells: a detector gives each voxel a heat, whose peaks are centres of cells."""

from brodmann.problems.cells.detector import (
    Detector,
    check_volume,
    find_cells,
    heat_of,
    load_detector,
)
from brodmann.problems.cells.intensity import Contrast, Intensity, measure_intensity
from brodmann.problems.cells.log import LaplacianOfGaussian
from brodmann.problems.cells.net_detector import NetDetector

__all__ = [
    "Contrast",
    "Detector",
    "Intensity",
    "LaplacianOfGaussian",
    "NetDetector",
    "check_volume",
    "find_cells",
    "heat_of",
    "load_detector",
    "measure_intensity",
]
