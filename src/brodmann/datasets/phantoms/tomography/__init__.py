"""Phantom X-ray tomography of a brain: procedural, seeded, with exact truth at every level."""

from brodmann.datasets.phantoms.tomography.dataset import phantom_tomography
from brodmann.datasets.phantoms.tomography.tissue import REGIONS, SETS, TISSUES, Tissue
from brodmann.datasets.phantoms.tomography.volume import Slab, tomography_cube, tomography_slab

__all__ = [
    "REGIONS",
    "SETS",
    "TISSUES",
    "Slab",
    "Tissue",
    "phantom_tomography",
    "tomography_cube",
    "tomography_slab",
]
