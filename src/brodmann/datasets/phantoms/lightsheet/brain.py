"""A made-up brain of nested, wobbling ellipsoids, at any place without the rest."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.core import keyed_rng

BRAIN_UM = (7000.0, 13000.0, 11000.0)
"""About a cleared mouse brain: z from superior to inferior, y from anterior to posterior, x from
left to right."""
WOBBLES = 10
SHAPES = np.array(
    [
        # centre z, y, |x|; half axes z, y, x, as shares of half the brain
        (0.00, -0.12, 0.00, 0.90, 0.72, 0.93),  # 0 cerebrum
        (-0.10, 0.70, 0.00, 0.60, 0.27, 0.66),  # 1 cerebellum
        (0.10, -0.84, 0.20, 0.36, 0.14, 0.18),  # 2 olfactory bulbs
        (0.35, 0.55, 0.00, 0.42, 0.42, 0.40),  # 3 brain stem
        (0.05, -0.42, 0.42, 0.34, 0.24, 0.21),  # 4 striatum
        (-0.20, 0.16, 0.46, 0.30, 0.22, 0.20),  # 5 hippocampus
        (0.12, 0.02, 0.20, 0.28, 0.22, 0.18),  # 6 thalamus
        (-0.22, -0.20, 0.16, 0.20, 0.28, 0.045),  # 7 lateral ventricle
        (0.45, 0.20, 0.30, 0.08, 0.10, 0.14),  # 8 substantia nigra
        (0.30, 0.24, 0.00, 0.36, 0.26, 0.44),  # 9 midbrain
    ]
)


@njit(cache=True, nogil=True)
def _radius(shapes, n, z, y, x):  # pragma: no cover (compiled)
    a = (z - shapes[n, 0]) / shapes[n, 3]
    b = (y - shapes[n, 1]) / shapes[n, 4]
    c = (x - shapes[n, 2]) / shapes[n, 5]
    return np.sqrt(a * a + b * b + c * c)


@njit(cache=True, nogil=True)
def fill_regions(low, step, half, wobble, shapes, out):  # pragma: no cover (compiled)
    """Ids of `markers.REGIONS` at nodes `low + (i, j, k) * step` in um; `half`: half the brain."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                z = (low[0] + i * step[0]) / half[0] - 1
                y = (low[1] + j * step[1]) / half[1] - 1
                x = (low[2] + k * step[2]) / half[2] - 1
                dz = dy = dx = 0.0
                for w in range(wobble.shape[0]):
                    s = np.sin(
                        wobble[w, 0] * z + wobble[w, 1] * y + wobble[w, 2] * x + wobble[w, 3]
                    )
                    dz += s * wobble[w, 4]
                    dy += s * wobble[w, 5]
                    dx += s * wobble[w, 6]
                z, y, x = z + dz, y + dy, abs(x + dx)
                # The fissure between the hemispheres.
                cerebrum = _radius(shapes, 0, z, y, x) + 0.10 * max(0.0, 1 - x / 0.03)
                cerebellum = _radius(shapes, 1, z, y, x)
                id_ = 0
                if cerebrum < 1:
                    id_ = 70
                    if cerebrum > 0.955:
                        id_ = 11
                    elif cerebrum > 0.85:
                        id_ = 12
                    elif cerebrum > 0.73:
                        id_ = 13
                    elif cerebrum > 0.68:
                        id_ = 90
                    hippocampus = _radius(shapes, 5, z, y, x)
                    if _radius(shapes, 7, z, y, x) < 1:
                        id_ = 0
                    elif hippocampus < 1:
                        id_ = 32 if 0.42 < hippocampus < 0.54 else 31
                    elif _radius(shapes, 4, z, y, x) < 1:
                        id_ = 40
                    elif _radius(shapes, 6, z, y, x) < 1:
                        id_ = 50
                    elif _radius(shapes, 8, z, y, x) < 1:
                        id_ = 61
                    elif id_ == 70 and _radius(shapes, 9, z, y, x) < 1:
                        id_ = 60
                elif cerebellum < 1:
                    # Folia: layers that run along x.
                    fold = np.sin(26 * y + 9 * z) * 0.10
                    id_ = 81 if cerebellum > 0.80 + fold else 82
                    if cerebellum < 0.45 + fold:
                        id_ = 90
                elif _radius(shapes, 2, z, y, x) < 1:
                    id_ = 20
                elif _radius(shapes, 3, z, y, x) < 1:
                    id_ = 70
                out[i, j, k] = id_


def draw_wobble(seed: int) -> np.ndarray:
    """(waves, 7): frequency z, y, x, phase, and push z, y, x of slow waves that bend a brain."""
    rng = keyed_rng(seed, "light-sheet brain")
    wave = np.empty((WOBBLES, 7))
    wave[:, :3] = rng.normal(0, 3.0, (WOBBLES, 3))
    wave[:, 3] = rng.uniform(0, 2 * np.pi, WOBBLES)
    wave[:, 4:] = rng.normal(0, 0.010, (WOBBLES, 3))
    return wave
