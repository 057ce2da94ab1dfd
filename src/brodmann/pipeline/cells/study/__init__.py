"""Cell detectors compared on brains that they never saw."""

from brodmann.pipeline.cells.study.recipe import CellRecipe, load_cell_recipe
from brodmann.pipeline.cells.study.run import run_cells

__all__ = ["CellRecipe", "load_cell_recipe", "run_cells"]
