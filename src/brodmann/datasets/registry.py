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
        "fib25": "brodmann.datasets.em.fib25:fib25",
        "isbi2012": "brodmann.datasets.em.isbi2012:isbi2012",
        "vnc": "brodmann.datasets.em.vnc:vnc",
        "ac34": "brodmann.datasets.em.ac34:ac34",
        "snemi3d": "brodmann.datasets.em.snemi3d:snemi3d",
        "cremi": "brodmann.datasets.em.cremi:cremi",
        "em-files": "brodmann.datasets.em.files:em_files",
        "phantom-em": "brodmann.datasets.phantoms.em.dataset:phantom_em",
        "bossdb": "brodmann.datasets.bossdb:bossdb",
        "mtneuro": "brodmann.datasets.mtneuro:mtneuro",
        "xray-patches": "brodmann.datasets.xray:xray_patches",
        "xray-regions": "brodmann.datasets.xray:xray_regions",
        "vp-microstructure": "brodmann.datasets.vp_microstructure:vp_microstructure",
        "vessels": "brodmann.datasets.vessels:vessels",
        "lsfm-axons": "brodmann.datasets.lsfm_axons:lsfm_axons",
        "canvas": "brodmann.datasets.canvas:canvas",
        "delivr": "brodmann.datasets.delivr:delivr",
        "cellfinder": "brodmann.datasets.cellfinder:cellfinder",
        "macaque-cells": "brodmann.datasets.macaque_cells:macaque_cells",
        "phantom-tomography": "brodmann.datasets.phantoms.tomography:phantom_tomography",
        "phantom-lightsheet": "brodmann.datasets.phantoms.lightsheet:phantom_lightsheet",
    },
)
"""Each value makes a Dataset from the options that a recipe gives it."""
