"""Phantom light-sheet brains: six markers, exact centres, any size, block by block."""

from brodmann.datasets.phantoms.lightsheet.dataset import phantom_lightsheet
from brodmann.datasets.phantoms.lightsheet.markers import (
    MARKERS,
    REGIONS,
    TISSUES,
    Marker,
    Tissue,
)
from brodmann.datasets.phantoms.lightsheet.volume import LightSheet
from brodmann.datasets.phantoms.lightsheet.write import read_lightsheet, write_lightsheet

__all__ = [
    "MARKERS",
    "REGIONS",
    "TISSUES",
    "LightSheet",
    "Marker",
    "Tissue",
    "phantom_lightsheet",
    "read_lightsheet",
    "write_lightsheet",
]
