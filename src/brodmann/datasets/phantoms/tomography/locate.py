"""From geometry to voxels: how far every voxel's centre is from each kind of structure."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.tomography.growing import to_cell, to_tube
from brodmann.datasets.phantoms.tomography.tissue import AXON, CELL, VESSEL
from brodmann.datasets.phantoms.tomography.world import World

FAR_UM, EDGE_UM = 3.0, 0.9
"""Distances from vessels and cells, and from axons, are worked out up to here."""


@njit(cache=True, inline="always")
def _span(low, high, step, size):  # pragma: no cover (compiled)
    """Voxels whose centres lie between two coordinates, half-open and clipped."""
    first = int(np.ceil(low / step - 0.5))
    last = int(np.floor(high / step - 0.5)) + 1
    return max(first, 0), min(last, size)


@njit(cache=True, nogil=True)
def nearest_tube(first, last, tubes, steps, far, distance, piece):  # pragma: no cover (compiled)
    """Signed distance (um) to the nearest tube and the number of its piece, rows first..last."""
    for n in range(len(tubes)):
        row = tubes[n]
        r = max(row[3], row[7]) + far
        i0, i1 = _span(min(row[0], row[4]) - r, max(row[0], row[4]) + r, steps[0], last)
        j0, j1 = _span(
            min(row[1], row[5]) - r, max(row[1], row[5]) + r, steps[1], distance.shape[1]
        )
        k0, k1 = _span(
            min(row[2], row[6]) - r, max(row[2], row[6]) + r, steps[2], distance.shape[2]
        )
        for i in range(max(i0, first), i1):
            z = (i + 0.5) * steps[0]
            for j in range(j0, j1):
                y = (j + 0.5) * steps[1]
                for k in range(k0, k1):
                    d = np.float32(to_tube(z, y, (k + 0.5) * steps[2], row))
                    if d < distance[i, j, k]:
                        distance[i, j, k] = d
                        piece[i, j, k] = n


@njit(cache=True, nogil=True)
def nearest_cell(first, last, cells, steps, far, distance, number):  # pragma: no cover (compiled)
    """Signed distance (um, to first order) to the nearest cell and its number."""
    for n in range(len(cells)):
        row = cells[n]
        r = row[3] + far
        i0, i1 = _span(row[0] - r, row[0] + r, steps[0], last)
        j0, j1 = _span(row[1] - r, row[1] + r, steps[1], distance.shape[1])
        k0, k1 = _span(row[2] - r, row[2] + r, steps[2], distance.shape[2])
        mean = (row[3] * row[4] * row[5]) ** (1.0 / 3)
        for i in range(max(i0, first), i1):
            z = (i + 0.5) * steps[0]
            for j in range(j0, j1):
                y = (j + 0.5) * steps[1]
                for k in range(k0, k1):
                    x = (k + 0.5) * steps[2]
                    f = to_cell(z, y, x, row)
                    # The slope of f along the line from the centre.
                    out = np.sqrt((z - row[0]) ** 2 + (y - row[1]) ** 2 + (x - row[2]) ** 2)
                    d = np.float32((f - 1) * (out / f if f > 1e-6 else mean))
                    if d < distance[i, j, k]:
                        distance[i, j, k] = d
                        number[i, j, k] = n


def locate(world: World, shape: tuple[int, int, int], spacing: tuple[float, float, float]):
    """Truth and distances at the centres of voxels.

    Returns microstructure (uint8) and, for vessels, cells and axons, (distance float32 in um,
    number int32): the piece of the tube or the cell that is nearest, -1 where none is near.
    """
    steps, found = np.array(spacing, float), []
    for kernel, things, far in (
        (nearest_tube, world.vessels, FAR_UM),
        (nearest_cell, world.cells, FAR_UM),
        (nearest_tube, world.axons, EDGE_UM),
    ):
        distance, number = np.full(shape, far, np.float32), np.full(shape, -1, np.int32)
        by_rows(kernel, shape[0], things, steps, far, distance, number)
        found.append((distance, number))
    truth = np.zeros(shape, np.uint8)
    for (distance, _), code in reversed(list(zip(found, (VESSEL, CELL, AXON)))):
        truth[distance < 0] = code
    return truth, found
