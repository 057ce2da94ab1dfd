"""FindMaxima on a heat map of cells: one pass against scikit-image's peak_local_max.

The map is made like a detector's answer: blobs of several sizes on faint noise, float32. The
window is a cube, which takes scikit-image its fast way (a separable maximum filter); it runs with
min_distance, the same threshold, and the border included. Without ties both must give the same
peaks. The peers see the same volume, warm, in turn, on one core. The second peer is the filter
alone, `scipy.ndimage.maximum_filter`, which any way by a filter needs; and the last figures are
the worst case, noise without a threshold, and windows of other shapes.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from benchmarks import harness
from brodmann.core import keyed_rng
from brodmann.postprocess.maxima import find_maxima, find_maxima_torch

SHAPE = (128, 256, 256)
RADIUS = 3
THRESHOLD = 0.1
SHARE = 2e-4
"""Of voxels that are the centre of a cell."""


def heat_map(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(z, y, x) float32 in 0..1: the heat of cells."""
    from scipy.ndimage import gaussian_filter

    rng = keyed_rng(0, "heat")
    heat = np.zeros(shape, np.float32)
    for sigma in (1.5, 2.5):
        centres = np.zeros(shape, np.float32)
        count = int(SHARE / 2 * heat.size)
        at = tuple(rng.integers(0, n, count) for n in shape)
        centres[at] = rng.random(count) + 0.5
        heat += gaussian_filter(centres, (sigma / 2, sigma, sigma)) * sigma**3
    return heat / heat.max() + 0.01 * rng.random(shape, dtype=np.float32)


def run(repeats: int = 3) -> dict:
    """The whole comparison, under a minute on a quiet core."""
    import torch
    from scipy.ndimage import maximum_filter
    from skimage.feature import peak_local_max

    heat, radius = heat_map(), (RADIUS,) * 3
    voxels = heat.size / 1e6
    torch.set_num_threads(1)

    def ours() -> np.ndarray:
        return find_maxima(heat, radius, THRESHOLD)[0]

    def theirs() -> np.ndarray:
        return peak_local_max(
            heat, min_distance=RADIUS, threshold_abs=THRESHOLD, exclude_border=False
        )

    peaks = ours()  # compiles, too
    by_torch = find_maxima_torch(torch.from_numpy(heat), radius, THRESHOLD)[0]
    if set(map(tuple, peaks)) != set(map(tuple, theirs())) or not np.array_equal(peaks, by_torch):
        raise RuntimeError("the ways do not give the same peaks")
    mine, other = harness.alternate(ours, theirs, repeats)
    again, filtered = harness.alternate(ours, lambda: maximum_filter(heat, 2 * RADIUS + 1), repeats)
    noise = keyed_rng(0, "noise").random(SHAPE, dtype=np.float32)
    more = {
        "noise_without_threshold": lambda: find_maxima(noise, radius, 0.0),
        "window_3x7x7": lambda: find_maxima(heat, (1, 3, 3), THRESHOLD),
        "window_11x19x19": lambda: find_maxima(heat, (5, 9, 9), THRESHOLD),
        "torch_on_one_core": lambda: find_maxima_torch(torch.from_numpy(heat), radius, THRESHOLD),
    }
    speeds = {
        name: float(f"{voxels / min(harness.seconds(work) for _ in range(2)):.3g}")
        for name, work in more.items()
    }
    return harness.result(
        "maxima",
        "scikit-image peak_local_max",
        version("scikit-image"),
        mine,
        other,
        "s",
        shape=list(SHAPE),
        radius=RADIUS,
        peaks=len(peaks),
        mvox_per_s=float(f"{voxels / sorted(mine)[len(mine) // 2]:.3g}"),
        ours_mvox_per_s=speeds,
        filter_alone=harness.result(
            "filter", "scipy maximum_filter", version("scipy"), again, filtered, "s"
        ),
    )


if __name__ == "__main__":
    harness.main(run, __doc__)
