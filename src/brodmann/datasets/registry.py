"""Datasets by name, for recipes."""

from __future__ import annotations

from collections.abc import Callable

from brodmann.core import Dataset, Registry

DATASETS: Registry[Callable[..., Dataset]] = Registry(
    "dataset",
    {
        "folder": "brodmann.datasets.folder:read_folder",
        "phantom-sections": "brodmann.datasets.phantoms.sections:phantom_sections",
        "brain100um": "brodmann.datasets.brain100um:brain100um",
        "dmbm": "brodmann.datasets.dmbm:dmbm",
    },
)
"""Each value makes a Dataset from the options that a recipe gives it."""
