"""Which region a point lies in: sites that drift with depth, and waves that bend the borders."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from brodmann.core import keyed_rng


class Borders(NamedTuple):
    """A point belongs to the nearest of the sites at its depth, after the waves moved it."""

    sites: np.ndarray  # (n, 4) float64: y, x at z = 0 (um) and how far they go per um of z
    owner: np.ndarray  # (n,) int64: number of the tissue
    waves: np.ndarray  # (m, 6) float64: wave vector (z, y, x; rad/um), phase, shift in y and x


def one_region() -> Borders:
    """Tissue 0 everywhere."""
    return Borders(np.zeros((1, 4)), np.zeros(1, np.int64), np.zeros((0, 6)))


def curved_borders(extent: tuple[float, float, float], tissues: int, seed: int) -> Borders:
    """Tissues side by side along x, in a wavy row, so that neighbours meet at curved borders.

    The borders slant with z, by up to about one um per um, and bend by about a tenth of the
    block's height.
    """
    rng = keyed_rng(seed, "phantom tomography borders", tissues)
    _, height, width = extent
    sites = np.zeros((tissues, 4))
    up = rng.random() < 0.5
    for k in range(tissues):
        level = 0.34 if (k % 2 == 0) == up else 0.66
        sites[k, 0] = height * (level + rng.uniform(-0.1, 0.1))
        sites[k, 1] = width * (k + 0.5 + rng.uniform(-0.15, 0.15)) / tissues
        sites[k, 2:] = rng.uniform(-0.8, 0.8, 2)
    size = min(height, width / tissues * 2)
    waves = np.zeros((5, 6))
    for wave, length in zip(waves, (1.4, 0.9, 0.6, 0.42, 0.3)):
        way = rng.standard_normal(3) * (0.35, 1, 1)
        wave[:3] = way / np.linalg.norm(way) * 2 * np.pi / (length * size)
        wave[3] = rng.uniform(0, 2 * np.pi)
        # Steeper than this, one wave alone would fold the border over.
        wave[4:] = rng.uniform(-1, 1, 2) * 0.08 * length * size
    return Borders(sites, np.arange(tissues, dtype=np.int64), waves)


@njit(cache=True)
def tissue_at(z, y, x, borders):  # pragma: no cover (compiled)
    """Number of the tissue at a point in um."""
    if len(borders.owner) == 1:
        return borders.owner[0]
    v, w = y, x
    for k in range(len(borders.waves)):
        wave = borders.waves[k]
        s = np.sin(wave[0] * z + wave[1] * y + wave[2] * x + wave[3])
        v += wave[4] * s
        w += wave[5] * s
    best, least = 0, np.inf
    for k in range(len(borders.owner)):
        site = borders.sites[k]
        dy, dx = v - site[0] - site[2] * z, w - site[1] - site[3] * z
        d = dy * dy + dx * dx
        if d < least:
            best, least = k, d
    return borders.owner[best]


@njit(cache=True, nogil=True)
def fill_tissues(first, last, corner, steps, borders, out):  # pragma: no cover (compiled)
    """Number of the tissue at every point of rows first..last of a grid; `corner` in um."""
    for i in range(first, last):
        z = corner[0] + i * steps[0]
        for j in range(out.shape[1]):
            y = corner[1] + j * steps[1]
            for k in range(out.shape[2]):
                out[i, j, k] = tissue_at(z, y, corner[2] + k * steps[2], borders)
