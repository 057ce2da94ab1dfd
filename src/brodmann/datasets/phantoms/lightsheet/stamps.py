"""Pictures of whole cells, already blurred by the microscope, ready to be added to a block."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from brodmann.core import keyed_rng
from brodmann.datasets.phantoms.lightsheet.cells import PHASES, phases
from brodmann.datasets.phantoms.lightsheet.shapes import SHAPES

EACH = {"NeuN": 3, "cFos": 3, "PV": 3, "TH": 3, "Iba1": 4, "GFAP": 4, "debris": 2}
"""Shapes at each sub-voxel place."""
TAIL, TAIL_Z, TAIL_YX = 0.35, 1.7, 4.0
"""Share of light that is scattered or out of focus, and how many times wider it spreads."""
FAINTEST = 0.004
"""Of the brightness of the median cell: less is not drawn."""


class Bank(NamedTuple):
    """Pictures of `EACH * PHASES` cells; number n has the sub-voxel place ``n % PHASES``.

    data: (n, z, y, x) float32; the median cell is 1 at its brightest. rows: (n, z, y, 2) int16,
    from where to where a row is not zero. middle: voxel of the centre.
    """

    data: np.ndarray
    rows: np.ndarray
    middle: np.ndarray


@njit(cache=True, nogil=True)
def _add_beads(beads, at, spacing, blur, share, middle, out):  # pragma: no cover (compiled)
    """Add `share` of each bead's light, blurred, in counts per voxel of 1 um3."""
    shape = out.shape
    sigma = np.empty(3)
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    wing = np.empty((3, max(shape)))
    for n in range(len(beads)):
        light = beads[n, 4] * share
        for a in range(3):
            # The voxel itself averages over its width.
            wide = beads[n, 3] ** 2 + blur[a] ** 2 + spacing[a] ** 2 / 12
            sigma[a] = np.sqrt(wide)
            light /= sigma[a] * 2.5066282746310002
            centre = middle[a] + at[a] + beads[n, a] / spacing[a]
            reach = 3.6 * sigma[a] / spacing[a]
            low[a] = max(0, int(np.ceil(centre - reach)))
            high[a] = min(shape[a], int(np.floor(centre + reach)) + 1)
            for i in range(low[a], high[a]):
                d = (i - centre) * spacing[a] / sigma[a]
                wing[a, i] = np.exp(-0.5 * d * d)
        for i in range(low[0], high[0]):
            for j in range(low[1], high[1]):
                value = light * wing[0, i] * wing[1, j]
                for k in range(low[2], high[2]):
                    out[i, j, k] += value * wing[2, k]


@njit(cache=True, nogil=True)
def _ends(data, faintest):  # pragma: no cover (compiled)
    """Cut what is too faint, and where rows begin and end."""
    rows = np.zeros((*data.shape[:3], 2), np.int16)
    for n in range(data.shape[0]):
        for i in range(data.shape[1]):
            for j in range(data.shape[2]):
                first, last = 0, 0
                for k in range(data.shape[3]):
                    if data[n, i, j, k] >= faintest:
                        if last == 0:
                            first = k
                        last = k + 1
                    else:
                        data[n, i, j, k] = 0
                rows[n, i, j, 0], rows[n, i, j, 1] = first, last
    return rows


@lru_cache(maxsize=8)
def bank(
    name: str, spacing: tuple[float, float, float], blur_um: tuple[float, float, float]
) -> Bank:
    """The pictures of a marker's cells; the same for every brain.

    Parameters
    ----------
    name : str
        A key of `shapes.SHAPES`.
    spacing, blur_um : (z, y, x)
        Of voxels; standard deviation of the microscope's core blur.
    """
    count = EACH[name] * PHASES
    # Shapes do not depend on spacing and blur, so neither does the order of anything drawn.
    shapes = [SHAPES[name](keyed_rng(0, "light-sheet shape", name, n)) for n in range(count)]
    reach = np.max([np.abs(beads[:, :3]).max(0) + beads[:, 3].max() for beads in shapes], axis=0)
    tail_um = np.array(blur_um) * (TAIL_Z, TAIL_YX, TAIL_YX)
    wide = [
        int(np.ceil((r + max(3.0 * b, 2.2 * t)) / s)) + 1
        for r, b, t, s in zip(reach, blur_um, tail_um, spacing)
    ]
    middle, places = np.array(wide), phases()
    data = np.zeros((count, *(2 * w + 1 for w in wide)), np.float32)
    for n, beads in enumerate(shapes):
        out = np.zeros(data.shape[1:])
        for blur, share in ((np.array(blur_um), 1 - TAIL), (tail_um, TAIL)):
            _add_beads(beads, places[n % PHASES], np.array(spacing), blur, share, middle, out)
        data[n] = out
    data /= np.median(data.reshape(count, -1).max(1))
    rows = _ends(data, FAINTEST)
    used = rows[..., 1].max(0) > 0
    z, y = (np.flatnonzero(used.any(1 - a)) for a in range(2))
    x = rows[..., 0][rows[..., 1] > 0].min(), rows[..., 1].max()
    data = np.ascontiguousarray(data[:, z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[1]])
    rows = np.ascontiguousarray(rows[:, z[0] : z[-1] + 1, y[0] : y[-1] + 1])
    rows -= np.where(rows[..., 1:] > 0, x[0], 0).astype(np.int16)
    data.setflags(write=False)
    return Bank(data, rows, middle - (z[0], y[0], x[0]))


@njit(cache=True, nogil=True)
def paste(data, rows, middle, centre, number, bright, low, out):  # pragma: no cover (compiled)
    """Add cells to a block, in the order given; `low` is the block's first voxel."""
    for n in range(len(centre)):
        which = number[n]
        z = int(np.floor(centre[n, 0] + 0.5)) - middle[0] - low[0]
        y = int(np.floor(centre[n, 1] + 0.5)) - middle[1] - low[1]
        x = int(np.floor(centre[n, 2] + 0.5)) - middle[2] - low[2]
        light = bright[n]
        for i in range(max(0, -z), min(data.shape[1], out.shape[0] - z)):
            for j in range(max(0, -y), min(data.shape[2], out.shape[1] - y)):
                first = max(rows[which, i, j, 0], -x)
                last = min(rows[which, i, j, 1], out.shape[2] - x)
                source, target = data[which, i, j], out[z + i, y + j]
                for k in range(first, last):
                    target[x + k] += light * source[k]
