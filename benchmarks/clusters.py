"""VI and ARAND of 100 x 1024 x 1024 voxels against skimage (and elf beside it).

Neurons are nearest-seed columns that drift from slice to slice; the segmentation is the same
with a twentieth of the seeds split and merged at random. All three count on one thread first;
ours is also timed on two. The limit is reading the two volumes: a sum over both takes about as
long as the count.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks import harness

SHAPE = (100, 1024, 1024)
NEURONS = 900


def volumes(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and segmentation, uint32."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (NEURONS, 2)) * shape[1:]
    grid = np.stack(np.meshgrid(*map(np.arange, shape[1:]), indexing="ij"), -1).reshape(-1, 2)
    truth = np.empty(shape, np.uint32)
    for z in range(shape[0]):
        points += rng.normal(0, 1.2, points.shape)
        truth[z] = 1 + cKDTree(points).query(grid)[1].reshape(shape[1:])
    # Border pixels are 0, as in most annotations.
    truth[:, 1:][truth[:, 1:] != truth[:, :-1]] = 0
    names = np.arange(NEURONS + 1, dtype=np.uint32)
    changed = rng.choice(NEURONS, NEURONS // 20, replace=False) + 1
    names[changed] = names[(changed % NEURONS) + 1]
    segments = names[truth]
    lower = np.zeros(shape, bool)
    lower[shape[0] // 2 :] = True
    split = np.isin(truth, changed[: len(changed) // 2]) & lower
    segments[split] += NEURONS + 1
    return truth, segments


def run(repeats: int) -> dict[str, Any]:
    """Alternate ours and skimage's on the same volumes; values must be equal."""
    import skimage
    from elf.evaluation import rand_index, variation_of_information
    from skimage.metrics import adapted_rand_error
    from skimage.metrics import variation_of_information as skimage_vi

    from brodmann.metrics.clusters import cluster_scores

    truth, segments = volumes()
    small = truth[:1], segments[:1]
    cluster_scores(*small)

    def theirs() -> tuple[float, float, float]:
        split, merge = skimage_vi(truth, segments, ignore_labels=(0,))
        return split, merge, adapted_rand_error(truth, segments, ignore_labels=(0,))[0]

    ours = cluster_scores(truth, segments)
    inside = truth > 0
    split, merge = skimage_vi(truth[inside], segments[inside])
    error = adapted_rand_error(truth, segments, ignore_labels=(0,))[0]
    # skimage drops rows of ignored ids, but divides by all voxels: compare the voxels kept.
    np.testing.assert_allclose(
        [ours.vi_split, ours.vi_merge, ours.arand], [split, merge, error], atol=1e-9
    )
    mine, other = harness.alternate(lambda: cluster_scores(truth, segments), theirs, repeats)
    two = [harness.seconds(lambda: cluster_scores(truth, segments, workers=2)) for _ in range(3)]
    began = time.perf_counter()
    variation_of_information(segments, truth, ignore_gt=[0])
    rand_index(segments, truth, ignore_gt=[0])
    elf_s = time.perf_counter() - began
    return harness.result(
        "clusters",
        "skimage variation_of_information + adapted_rand_error",
        skimage.__version__,
        mine,
        other,
        "s for VI and ARAND of 100 x 1024 x 1024",
        equal_to=1e-9,
        two_threads_s=round(statistics.median(two), 4),
        elf_s=round(elf_s, 3),
        mvox_per_s=round(truth.size / 1e6 / statistics.median(mine), 1),
    )


if __name__ == "__main__":
    harness.main(run, __doc__)
