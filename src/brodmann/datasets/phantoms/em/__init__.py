"""Phantom neuropil under the electron microscope: procedural, seeded, with exact truth."""

from brodmann.datasets.phantoms.em.artefacts import ARTEFACTS, artefact_rates
from brodmann.datasets.phantoms.em.dataset import phantom_em
from brodmann.datasets.phantoms.em.volume import PhantomEM, Skeleton, phantom_em_volume

__all__ = [
    "ARTEFACTS",
    "PhantomEM",
    "Skeleton",
    "artefact_rates",
    "phantom_em",
    "phantom_em_volume",
]
