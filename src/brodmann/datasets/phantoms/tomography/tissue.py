"""What tissue of each region holds: shares, calibres and directions, and how cubes differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brodmann.core import Label, LabelMap, RecipeError, keyed_rng, nearest
from brodmann.datasets.cubes import MICROSTRUCTURE

VESSEL, CELL, AXON = (MICROSTRUCTURE.find(name).id for name in ("vessel", "cell", "axon"))
REGIONS = LabelMap(
    [
        Label(1, "Somatosensory cortex", "CTX", None, "2E8B57"),
        Label(2, "Striatum", "STR", None, "4FA3D1"),
        Label(4, "Ventral posterior thalamus", "VP", None, "D1664F"),
        Label(5, "Zona incerta", "ZI", None, "B07CC6"),
    ]
)
"""Regions, with the ids that the region channel of the real volume has."""
SETS = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Tissue:
    """What fills one region. Shares of its volume, calibres in um.

    `bundles` is the part of the axons that runs in bundles; the rest are single fibres, which
    leave the main `direction` (z, y, x) more. `spread` and `wander` say how far a bundle starts
    off that direction and how much it turns. `dendrites` multiplies their usual number; no
    label tells of them. `light` and `streaks`: how much lighter axons are than background, and
    the deviation of the texture along them, in grey levels.
    """

    region: str
    vessel: float
    cell: float
    axon: float
    cell_radius_um: float
    capillary_um: float
    bundles: float = 0.0
    bundle_um: tuple[float, float] = (6.0, 12.0)
    fibre_um: tuple[float, float] = (1.2, 2.2)
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    spread: float = 0.3
    wander: float = 0.004
    dendrites: float = 1.0
    light: float = 24.0
    streaks: float = 13.0

    @property
    def id(self) -> int:
        return REGIONS.find(self.region).id


TISSUES = {
    "CTX": Tissue(
        "CTX", 0.0233, 0.0464, 0.0, 4.7, 2.1, direction=(0.1, 0.9, 0.4), dendrites=2.0
    ),
    "STR": Tissue(
        "STR", 0.0250, 0.0566, 0.1922, 4.9, 2.1, 0.9, (6.0, 13.0),
        direction=(0.35, 0.30, 0.90), spread=0.22, wander=0.0015, light=31.0, streaks=12.0,
    ),
    "VP": Tissue(
        "VP", 0.0473, 0.0573, 0.6680, 5.4, 2.4, 0.85, (4.0, 11.0), (1.3, 2.4),
        direction=(0.20, -0.65, 0.73), spread=0.30, wander=0.004, dendrites=0.5,
    ),
    "ZI": Tissue(
        "ZI", 0.0540, 0.0941, 0.5304, 4.6, 2.3, 0.5, (2.6, 6.0), (1.5, 2.6),
        direction=(0.30, 0.80, 0.52), spread=0.40, wander=0.012, light=31.0, streaks=20.0, dendrites=0.5,
    ),
}  # fmt: skip
"""Shares from Appendix 4.2.3 of Quesada et al. 2022, calibres as seen in the real volume."""


def tissue_of(region: str) -> Tissue:
    """The tissue of a region by its acronym.

    Raises
    ------
    RecipeError
        On an unknown region.

    Example
    -------
    >>> tissue_of("VP").axon
    0.668
    """
    if region not in TISSUES:
        raise RecipeError("no such region", "regions", repr(region), nearest(str(region), TISSUES))
    return TISSUES[region]


def shifted(tissue: Tissue, seed: int, cube: str, amount: float = 1.0) -> Tissue:
    """The tissue as one cube has it: the same cube of the same seed is always the same.

    Shares are within 15 % (axons 10 %) of the region's, calibres within 8 %, and the direction
    is turned by some 0.2 rad; all times `amount`.

    Example
    -------
    >>> cube = shifted(TISSUES["STR"], 0, "str-A")
    >>> abs(cube.vessel / TISSUES["STR"].vessel - 1) <= 0.15, cube.axon != TISSUES["STR"].axon
    (True, True)
    """
    rng = keyed_rng(seed, "phantom tomography tissue", cube)
    share = (1 + amount * rng.uniform(-1, 1, 3) * (0.15, 0.15, 0.1)).tolist()
    calibre = (1 + amount * rng.uniform(-0.08, 0.08, 3)).tolist()
    turn = amount * rng.normal(0, 0.2, 3)
    direction = np.array(tissue.direction) + turn
    direction /= np.linalg.norm(direction)
    low, high = tissue.bundle_um
    return replace(
        tissue,
        vessel=tissue.vessel * share[0],
        cell=tissue.cell * share[1],
        axon=tissue.axon * share[2],
        cell_radius_um=tissue.cell_radius_um * calibre[0],
        capillary_um=tissue.capillary_um * calibre[1],
        bundle_um=(low * calibre[2], high * calibre[2]),
        direction=tuple(float(a) for a in direction),
    )
