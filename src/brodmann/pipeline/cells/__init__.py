"""Cells of a volume of any size: detection in blocks, on one machine or many."""

from brodmann.pipeline.cells.convert import to_zarr
from brodmann.pipeline.cells.detect import detect
from brodmann.pipeline.cells.source import find_coarse, open_brain
from brodmann.pipeline.cells.tissue import find_tissue

__all__ = ["detect", "find_coarse", "find_tissue", "open_brain", "to_zarr"]
