"""What a block of tissue holds, in micrometres: vessels, cells, axons, dendrites."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from brodmann.core import key_seed
from brodmann.datasets.phantoms.tomography.borders import Borders, fill_tissues
from brodmann.datasets.phantoms.tomography.growing import (
    GAP_UM,
    STEP_UM,
    Lattice,
    Tubes,
    grow_tubes,
    place_cells,
)
from brodmann.datasets.phantoms.tomography.tissue import AXON, CELL, VESSEL, Tissue

MARGIN_UM = 14.0
"""Tissue grows so far beyond the block, so that its faces cut it like any other plane."""
ARTERY_UM = (4.0, 14.0)
ARTERIES = 0.4
"""Share of the vessels' volume that thick vessels may fill, where the block has room for one."""
THINNEST_UM = 1.6
LARGEST_CELL = 1.24 * 1.35
"""Times the mean radius: no cell reaches further from its centre."""
DENDRITES_PER_UM3 = 2.4e-5
SHELF = 32


class World(NamedTuple):
    """Everything in one block; z, y, x in um from its corner."""

    tissues: tuple[Tissue, ...]
    borders: Borders
    vessels: np.ndarray  # (n, 13) float64, see `grow_tubes`
    cells: np.ndarray  # (n, 15) float64, see `to_cell`
    axons: np.ndarray  # (n, 13)
    axon_tissue: np.ndarray  # (n,) int64: number of the tissue
    dendrites: np.ndarray  # (n, 13); not in the truth


def make_world(
    extent: tuple[float, float, float],
    tissues: tuple[Tissue, ...],
    borders: Borders,
    seed: int,
    key: str,
) -> World:
    """Fill a block of `extent` um (z, y, x); the voxels that will sample it do not matter.

    Vessels come first, cells keep clear of them, and axons fill what is left, each until it
    covers its tissue's share of the lattice.
    """
    size = np.asarray(extent, float)
    box = np.stack([np.full(3, -MARGIN_UM), size + MARGIN_UM])
    lattice = _lattice(size, borders)
    inner = tuple(slice(a, b) for a, b in lattice.inner.T)
    points = np.bincount(lattice.tissue[inner].ravel(), minlength=len(tissues))
    volumes = points / points.sum() * float(size.prod())

    def stream(part: str) -> np.ndarray:
        return np.array([key_seed(seed, f"phantom tomography {part}", key)], np.uint64)

    pieces: dict[str, list[np.ndarray]] = {"vessels": [], "axons": [], "dendrites": []}

    def grow(part, code, filled, k, share, tubes, most=2**31 - 1):
        owners = pieces[part][-1][-1, 12] if pieces[part] and len(pieces[part][-1]) else 0
        grown = grow_tubes(
            states[part], lattice, box, borders, k, code, filled, share * points[k], tubes,
            owners, most,
        )  # fmt: skip
        pieces[part].append(grown)

    states = {part: stream(part) for part in pieces}
    filled = np.zeros(len(tissues), np.int64)
    for k, tissue in enumerate(tissues):
        if widest := _widest_artery(tissue, volumes[k], size):
            arteries = _tubes(tissue, (ARTERY_UM[0], widest), THINNEST_UM, 1.0, 0.002, 0.0)
            grow("vessels", VESSEL, filled, k, ARTERIES * tissue.vessel, arteries)
    for k, tissue in enumerate(tissues):
        radii = (max(0.8 * tissue.capillary_um, THINNEST_UM), 1.35 * tissue.capillary_um)
        capillaries = _tubes(tissue, radii, THINNEST_UM, 3.0, 0.022, 0.0, (60, 220), 0.6)
        grow("vessels", VESSEL, filled, k, tissue.vessel, capillaries)
    filled = np.zeros(len(tissues), np.int64)
    cells, state = np.zeros((0, 15)), stream("cells")
    edge = 2 * LARGEST_CELL * max(t.cell_radius_um for t in tissues) + GAP_UM
    boxes = tuple(np.ceil((box[1] - box[0]) / edge).astype(int) + 1)
    shelf, shelves = np.zeros((*boxes, SHELF), np.int32), np.zeros(boxes, np.int64)
    for k, tissue in enumerate(tissues):
        cells = place_cells(
            state, lattice, box, borders, k, CELL, filled, tissue.cell * points[k],
            tissue.cell_radius_um, cells, shelf, shelves, edge,
        )  # fmt: skip
    filled, axon_tissue = np.zeros(len(tissues), np.int64), []
    for k, tissue in enumerate(tissues):
        bundles = _tubes(
            tissue, tissue.bundle_um, 1.0, tissue.spread, tissue.wander, 0.01, (120, 900), inside=1
        )
        fibres = _tubes(
            tissue, tissue.fibre_um, 0.9, 2.2 * tissue.spread, 3 * tissue.wander, 0.01, (60, 400),
            0.1, inside=1,
        )  # fmt: skip
        grow("axons", AXON, filled, k, tissue.axon * tissue.bundles, bundles)
        grow("axons", AXON, filled, k, tissue.axon, fibres)
        axon_tissue += [np.full(len(grown), k) for grown in pieces["axons"][-2:]]
    # Dendrites take no room: they are faint lines that no label tells of.
    free = lattice._replace(code=np.zeros((1, 1, 1), np.uint8))
    for k, tissue in enumerate(tissues):
        count = round(tissue.dendrites * DENDRITES_PER_UM3 * volumes[k])
        thin = _tubes(tissue, (0.5, 1.1), 0.5, 0.45, 0.003, 0.01, (60, 250))
        pieces["dendrites"].append(
            grow_tubes(
                states["dendrites"],
                free,
                box,
                borders,
                k,
                4,
                np.zeros(len(tissues), np.int64),
                1,
                thin,
                0,
                count,
            )  # fmt: skip
        )
    vessels, axons, dendrites = (np.concatenate(p) for p in pieces.values())
    return World(tissues, borders, vessels, cells, axons, np.concatenate(axon_tissue), dendrites)


def _lattice(size: np.ndarray, borders: Borders) -> Lattice:
    """Points over the block and two steps beyond it."""
    inner = np.maximum(np.floor(size / STEP_UM).astype(np.int64), 1)
    corner = 0.5 * (size - (inner - 1) * STEP_UM) - 2 * STEP_UM
    tissue = np.zeros(tuple(inner + 4), np.uint8)
    if len(borders.owner) > 1:
        fill_tissues(0, len(tissue), corner, np.full(3, STEP_UM), borders, tissue)
    return Lattice(
        np.zeros_like(tissue), tissue, corner, STEP_UM, np.stack([inner * 0 + 2, inner + 2])
    )


def _widest_artery(tissue: Tissue, volume: float, size: np.ndarray) -> float:
    """Radius in um of which one vessel through the block fills the arteries' share; 0 if that is
    hardly more than a capillary's."""
    length = max(np.sort(size)[1:].mean(), 1.0)
    radius = (ARTERIES * tissue.vessel * volume / (np.pi * length)) ** 0.5
    return min(radius, ARTERY_UM[1]) if radius > 1.1 * ARTERY_UM[0] else 0.0


def _tubes(
    tissue: Tissue,
    radii: tuple[float, float],
    least: float,
    spread: float,
    wander: float,
    pull: float,
    lengths: tuple[float, float] = (300, 2000),
    branch: float = 0.0,
    inside: bool = False,
) -> Tubes:
    way = np.asarray(tissue.direction, float)
    return Tubes(
        float(radii[0]), float(radii[1]), float(least), way / np.linalg.norm(way), float(spread),
        float(wander), float(pull), float(lengths[0]), float(lengths[1]), float(branch),
        bool(inside),
    )  # fmt: skip
