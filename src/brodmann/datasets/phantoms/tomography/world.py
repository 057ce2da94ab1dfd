"""What a block of tissue holds, in micrometres: vessels, cells, axons, dendrites."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from brodmann.core import key_seed
from brodmann.datasets.phantoms.tomography.borders import Borders, fill_tissues
from brodmann.datasets.phantoms.tomography.growing import (
    GAP_UM,
    MARGIN_UM,
    STEP_UM,
    Lattice,
    Tubes,
    grow_tubes,
    place_cells,
)
from brodmann.datasets.phantoms.tomography.tissue import AXON, CELL, VESSEL, Tissue

ARTERY_UM = (4.0, 14.0)
ARTERIES = 0.3
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
    lattice = _lattice(size, borders)
    inner = tuple(slice(a, b) for a, b in lattice.inner.T)
    points = np.bincount(lattice.tissue[inner].ravel(), minlength=len(tissues))
    block = Block(size, tissues, borders, lattice, points, seed, key)
    vessels = _vessels(block)
    cells = _cells(block)
    axons, tissue_of_piece = _axons(block)
    return World(tissues, borders, vessels, cells, axons, tissue_of_piece, _dendrites(block))


class Block(NamedTuple):
    """What is filled."""

    size: np.ndarray
    tissues: tuple[Tissue, ...]
    borders: Borders
    lattice: Lattice
    points: np.ndarray  # of the lattice, by tissue, within the block
    seed: int
    key: str

    @property
    def box(self) -> np.ndarray:
        """Where things may grow: low and high corner, um."""
        return np.stack([np.full(3, -MARGIN_UM), self.size + MARGIN_UM])

    def volume_of(self, k: int) -> float:
        """um3 of one tissue."""
        return float(self.points[k] / self.points.sum() * self.size.prod())

    def stream(self, part: str) -> np.ndarray:
        """State of the random numbers that one part draws."""
        return np.array([key_seed(self.seed, f"phantom tomography {part}", self.key)], np.uint64)

    def grow(self, state, code, filled, k, share, tubes, before=(), most=2**31 - 1) -> np.ndarray:
        """Tubes in tissue k until they fill `share` of it; numbered on from those `before`."""
        owner = max((float(p[-1, 12]) for p in before if len(p)), default=0.0)
        return grow_tubes(
            state, self.lattice, self.box, self.borders, k, code, filled,
            share * self.points[k], tubes, owner, most,
        )  # fmt: skip


def _vessels(block: Block) -> np.ndarray:
    state, filled = block.stream("vessels"), np.zeros(len(block.tissues), np.int64)
    pieces: list[np.ndarray] = []
    for k, tissue in enumerate(block.tissues):
        if widest := _widest_artery(tissue, block.volume_of(k), block.size):
            tubes = _tubes(tissue, (ARTERY_UM[0], widest), THINNEST_UM, 1.0, 0.002)
            share = ARTERIES * tissue.vessel
            pieces.append(block.grow(state, VESSEL, filled, k, share, tubes, pieces))
    for k, tissue in enumerate(block.tissues):
        radii = max(0.8 * tissue.capillary_um, THINNEST_UM), 1.35 * tissue.capillary_um
        tubes = _tubes(tissue, radii, THINNEST_UM, 3.0, 0.009, 0.0, (90, 350), 0.3)
        pieces.append(block.grow(state, VESSEL, filled, k, tissue.vessel, tubes, pieces))
    return np.concatenate(pieces)


def _cells(block: Block) -> np.ndarray:
    state, filled = block.stream("cells"), np.zeros(len(block.tissues), np.int64)
    edge = 2 * LARGEST_CELL * max(t.cell_radius_um for t in block.tissues) + GAP_UM
    boxes = tuple(np.ceil((block.box[1] - block.box[0]) / edge).astype(int) + 1)
    shelf, shelves = np.zeros((*boxes, SHELF), np.int32), np.zeros(boxes, np.int64)
    cells = np.zeros((0, 15))
    for k, tissue in enumerate(block.tissues):
        cells = place_cells(
            state, block.lattice, block.box, block.borders, k, CELL, filled,
            tissue.cell * block.points[k], tissue.cell_radius_um, cells, shelf, shelves, edge,
        )  # fmt: skip
    return cells


def _axons(block: Block) -> tuple[np.ndarray, np.ndarray]:
    state, filled = block.stream("axons"), np.zeros(len(block.tissues), np.int64)
    pieces: list[np.ndarray] = []
    for k, tissue in enumerate(block.tissues):
        bundles = _tubes(
            tissue, tissue.bundle_um, 1.0, tissue.spread, tissue.wander, 0.01, (120, 900),
            inside=True,
        )  # fmt: skip
        fibres = _tubes(
            tissue, tissue.fibre_um, 0.9, 2.2 * tissue.spread, 3 * tissue.wander, 0.01,
            (60, 400), 0.1, inside=True,
        )  # fmt: skip
        for share, tubes in ((tissue.bundles, bundles), (1.0, fibres)):
            pieces.append(block.grow(state, AXON, filled, k, share * tissue.axon, tubes, pieces))
    return np.concatenate(pieces), np.repeat(np.arange(len(pieces)) // 2, [len(p) for p in pieces])


def _dendrites(block: Block) -> np.ndarray:
    """They take no room: faint lines that no label tells of."""
    state, pieces = block.stream("dendrites"), []
    for k, tissue in enumerate(block.tissues):
        most = round(tissue.dendrites * DENDRITES_PER_UM3 * block.volume_of(k))
        thin = _tubes(tissue, (0.5, 1.1), 0.5, 0.45, 0.003, 0.01, (60, 250))
        filled = np.zeros(len(block.tissues), np.int64)
        pieces.append(block.grow(state, 0, filled, k, 1.0, thin, pieces, most))
    return np.concatenate(pieces)


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
    pull: float = 0.0,
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
