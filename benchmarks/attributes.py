"""Cells of a volume: number, size and nearest neighbours, against scikit-image, scipy and loops.

Ours is `attributes_of` for 3D labels: cc3d's components, one pass over them for exact sizes and
centroids, a k-d tree. The peer is the usual way in Python, scikit-image's `label` and
`regionprops` with scipy's tree; the second is scipy's `label`, sums and `center_of_mass`. Both
measure the same: densities, count, size, distance. A loop over cells (`argwhere` of each, all
pairs) is run on a small part, since it takes the product of cells and voxels. All agree to 1e-9.
`streamed` measures the volume in windows of a sixteenth, with what is cut put together.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from benchmarks import harness
from brodmann.core import Volume, keyed_rng
from brodmann.metrics.attribute_table import attribute_table
from brodmann.metrics.attributes import ATTRIBUTES, attributes_of

SHAPE = (256, 512, 512)
PART = (64, 128, 128)
SPACING_UM = (2.0, 1.17, 1.17)
IDS = {"vessel": 1, "cell": 2, "axon": 3}
CELLS_A_VOXEL = 6000 / (256 * 512 * 512)
RADIUS = (3.0, 6.5)


def tissue(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Round cells, straight vessels and bundles of axons; (z, y, x) uint8 ids."""
    rng = keyed_rng(seed, "tissue")
    labels = np.zeros(shape, np.uint8)
    coarse = rng.random([n // 4 for n in shape]) < 0.2
    for axis in range(3):
        coarse = coarse.repeat(4, axis)
    labels[coarse] = 3
    for _ in range(max(1, shape[1] // 40)):
        y, x = (int(rng.integers(0, n - 6)) for n in shape[1:])
        labels[:, y : y + 5, x : x + 5] = 1
    for _ in range(int(CELLS_A_VOXEL * np.prod(shape))):
        centre, radius = rng.uniform(0, shape), rng.uniform(*RADIUS)
        box = tuple(
            slice(max(0, int(c - radius)), min(n, int(c + radius) + 2))
            for c, n in zip(centre, shape)
        )
        grid = np.ogrid[box]
        far = sum((axis - c) ** 2 for axis, c in zip(grid, centre))
        labels[box][far < radius**2] = 2
    return labels


def by_skimage(labels: np.ndarray) -> list[float]:
    """ATTRIBUTES by scikit-image's regions and scipy's tree."""
    from skimage.measure import label, regionprops

    regions = regionprops(label(labels == 2, connectivity=1))
    centres = np.array([region.centroid for region in regions])
    return _row(labels, np.array([region.area for region in regions]), centres)


def by_scipy(labels: np.ndarray) -> list[float]:
    """The same by scipy alone."""
    from scipy import ndimage

    marked, count = ndimage.label(labels == 2)
    every = np.arange(1, count + 1)
    sizes = np.bincount(marked.reshape(-1), minlength=count + 1)[1:]
    centres = np.array(ndimage.center_of_mass(np.ones_like(labels), marked, every))
    return _row(labels, sizes, centres)


def by_loops(labels: np.ndarray) -> list[float]:
    """The same cell by cell and pair by pair."""
    from scipy import ndimage

    marked, count = ndimage.label(labels == 2)
    cells = [np.argwhere(marked == i) for i in range(1, count + 1)]
    centres = np.array([at.mean(0) for at in cells]) * SPACING_UM
    nearest = []
    for i, own in enumerate(centres):
        far = np.sqrt(((centres - own) ** 2).sum(1))
        nearest.append(np.delete(far, i).min())
    size = np.mean([len(at) for at in cells]) * np.prod(SPACING_UM)
    return [*_densities(labels), count, size, np.mean(nearest)]


def _row(labels: np.ndarray, sizes: np.ndarray, centres: np.ndarray) -> list[float]:
    from scipy.spatial import cKDTree

    points = centres * SPACING_UM
    far = cKDTree(points).query(points, k=2)[0][:, 1]
    size = sizes.mean() * np.prod(SPACING_UM)
    return [*_densities(labels), len(sizes), size, far.mean()]


def _densities(labels: np.ndarray) -> list[float]:
    return [float((labels == id_).mean()) for id_ in (1, 3)]


def run(repeats: int = 3) -> dict:
    """The whole comparison, about two minutes at three repeats on a quiet machine."""
    labels = tissue()
    part = np.ascontiguousarray(labels[: PART[0], : PART[1], : PART[2]])
    volume = Volume(labels, "zyx", SPACING_UM)

    def ours(labels: np.ndarray = labels) -> list[float]:
        found = attributes_of(labels, SPACING_UM, **IDS)
        return [found[name] for name in ATTRIBUTES]

    def streamed() -> list[float]:
        (row,) = attribute_table(volume, IDS, "volume", read_voxels=labels.size // 16)
        return [row[name] for name in ATTRIBUTES]

    measured = ours()  # compiles, too
    np.testing.assert_allclose(by_skimage(labels), measured, rtol=1e-9)
    np.testing.assert_allclose(by_scipy(labels), measured, rtol=1e-9)
    np.testing.assert_allclose(by_loops(part), ours(part), rtol=1e-9)
    if streamed() != measured:
        raise RuntimeError("windows change a number")
    mine, other = harness.alternate(ours, lambda: by_skimage(labels), repeats)
    mine_again, others = harness.alternate(ours, lambda: by_scipy(labels), repeats)
    on_part, looped = harness.alternate(lambda: ours(part), lambda: by_loops(part), repeats)
    windows = sorted(harness.seconds(streamed) for _ in range(3))[1]
    return harness.result(
        "attributes",
        "scikit-image regionprops",
        version("scikit-image"),
        mine,
        other,
        "s",
        shape=list(SHAPE),
        cells=int(measured[2]),
        cell_size_um3=float(f"{measured[3]:.6g}"),
        cell_distance_um=float(f"{measured[4]:.6g}"),
        scipy=harness.result(
            "scipy", "scipy label, center_of_mass", version("scipy"), mine_again, others, "s"
        ),
        loops=harness.result(
            "loops", f"loops, {PART} voxels", version("numpy"), on_part, looped, "s"
        ),
        streamed=float(f"{windows:.4g}"),
    )


if __name__ == "__main__":
    harness.main(run, __doc__)
