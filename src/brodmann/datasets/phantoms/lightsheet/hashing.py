"""Random numbers that depend on a place alone, so that every block draws the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit, uint64

TABLE = 1 << 16
"""Values in a table of quantiles; 16 bits of a hash choose one."""
FEW = 12.0
"""Photon counts of at most this mean are drawn exactly, larger ones by expansion."""


@njit(cache=True, nogil=True, inline="always")
def mix(h):  # pragma: no cover (compiled)
    """The finaliser of splitmix64."""
    h = uint64(h)
    h = (h ^ (h >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> uint64(27))) * uint64(0x94D049BB133111EB)
    return h ^ (h >> uint64(31))


@njit(cache=True, nogil=True, inline="always")
def mix2(key, a):  # pragma: no cover (compiled)
    """A hash of a key and a whole number."""
    return mix(uint64(key) ^ (uint64(a) * uint64(0x9E3779B97F4A7C15) + uint64(0x632BE59BD9B4E019)))


@njit(cache=True, nogil=True, inline="always")
def mix4(key, a, b, c):  # pragma: no cover (compiled)
    """A hash of a key and a place on a lattice."""
    return mix2(mix2(mix2(key, a), b), c)


@njit(cache=True, nogil=True, inline="always")
def unit(h):  # pragma: no cover (compiled)
    """A hash as a number in [0, 1)."""
    return float(uint64(h) >> uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def small_poisson(mean, u):  # pragma: no cover (compiled)
    """The Poisson number at quantile `u`, by its distribution summed from 0."""
    p = np.exp(-mean)
    total, n = p, 0
    while u >= total and n < 200:
        n += 1
        p *= mean / n
        total += p
    return n


@njit(cache=True, nogil=True)
def photons(mean, u, z):  # pragma: no cover (compiled)
    """A Poisson number from a uniform and the normal of the same quantile.

    Above `FEW` by the Cornish-Fisher expansion to the third moment, whose error is below that
    of the table of quantiles.
    """
    if mean <= 0:
        return 0.0
    if mean < FEW:
        return float(small_poisson(mean, u))
    root = np.sqrt(mean)
    value = mean + root * z + (z * z - 1.0) / 6.0 - (z * z * z - z) / (36.0 * root) * 0.5
    return max(0.0, np.floor(value + 0.5))


@njit(cache=True, nogil=True)
def clouds(key, z, y, x, side):  # pragma: no cover (compiled)
    """Smooth noise in -1..1 of mean 0 that changes over `side` um."""
    a, b, c = z / side, y / side, x / side
    i, j, k = int(np.floor(a)), int(np.floor(b)), int(np.floor(c))
    a, b, c = a - i, b - j, c - k
    a, b, c = a * a * (3 - 2 * a), b * b * (3 - 2 * b), c * c * (3 - 2 * c)
    total = 0.0
    for di in range(2):
        for dj in range(2):
            for dk in range(2):
                weight = (a if di else 1 - a) * (b if dj else 1 - b) * (c if dk else 1 - c)
                total += weight * (2 * unit(mix4(key, i + di, j + dj, k + dk)) - 1)
    return total


@lru_cache(maxsize=1)
def normals() -> np.ndarray:
    """Quantiles of the standard normal at the middles of `TABLE` equal shares, float32."""
    from scipy.special import ndtri

    table = ndtri((np.arange(TABLE) + 0.5) / TABLE).astype(np.float32)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=64)
def lognormals(deviation: float) -> np.ndarray:
    """Quantiles of a log-normal of median 1, float32."""
    table = np.exp(deviation * normals().astype(np.float64)).astype(np.float32)
    table.setflags(write=False)
    return table
