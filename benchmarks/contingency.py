"""Metrics of one full-size section with 119 classes: one pass against scikit-learn and a loop.

Ours is `contingency` + `overlap`. The peer is scikit-learn's `confusion_matrix` of the same
label images with our `overlap` after it; the loop is what metrics are often computed by, two
masks and three sums for every class. All three must give the same scores. The section is made
of nearest-seed regions with wavy outlines inside a brain's outline; the prediction has its
seeds displaced, and a share of its pixels is speckled, as by a net early in training.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from benchmarks import harness
from brodmann.core import keyed_rng
from brodmann.metrics import contingency, overlap

SHAPE = (6383, 12531)
CLASSES = 119
COARSE = 8
"""Seeds are compared on a grid coarser by this factor."""


def section(
    shape: tuple[int, int] = SHAPE, classes: int = CLASSES, displaced: float = 0.0
) -> np.ndarray:
    """A label image (y, x) uint8 of class indices; `displaced` moves its seeds, in pixels."""
    from scipy.spatial import cKDTree

    rng = keyed_rng(0, "section")
    seeds = rng.uniform(0, 1, (3 * classes, 2)) * shape
    owner = rng.permutation(np.arange(3 * classes) % (classes - 1)) + 1
    seeds += keyed_rng(0, "displaced").normal(size=seeds.shape) * displaced
    grid = [np.arange(0, size + 4 * COARSE, COARSE, dtype=float) for size in shape]
    y, x = np.meshgrid(*grid, indexing="ij")
    nearest = cKDTree(seeds).query(np.stack([y, x], -1))[1]
    coarse = owner[nearest].astype(np.uint8)
    centre = [size / 2 for size in shape]
    coarse[((y / centre[0] - 1) ** 2 + (x / centre[1] - 1) ** 2) > 0.85] = 0
    out = np.empty(shape, np.uint8)
    columns = np.arange(shape[1])
    for row in range(shape[0]):
        # Waves of a few pixels hide the grid and make outlines as ragged as hand-drawn ones.
        across = (columns + 8 + 6 * np.sin(row / 9)).astype(np.int64) // COARSE
        down = (row + 8 + 6 * np.sin(columns / 11)).astype(np.int64) // COARSE
        out[row] = coarse[down, across]
    return out


def speckled(labels: np.ndarray, share: float, classes: int = CLASSES) -> np.ndarray:
    """The same with a share of its pixels drawn anew."""
    rng = keyed_rng(0, "speckle")
    out = labels.copy()
    at = rng.integers(0, labels.size, int(share * labels.size))
    out.reshape(-1)[at] = rng.integers(0, classes, len(at))
    return out


def loop(truth: np.ndarray, prediction: np.ndarray, classes: int = CLASSES) -> float:
    """Mean Dice, class by class."""
    scores = []
    for index in range(1, classes):
        t, p = truth == index, prediction == index
        both, total = int((t & p).sum()), int(t.sum()) + int(p.sum())
        if total:
            scores.append(2 * both / total)
    return float(np.mean(scores))


def run(repeats: int = 3) -> dict:
    """The whole comparison, about two minutes at three repeats on a quiet machine."""
    from sklearn.metrics import confusion_matrix

    truth = section()
    prediction = speckled(section(displaced=20.0), 0.01)
    classes = np.arange(CLASSES)

    def ours(a: np.ndarray = truth, b: np.ndarray = prediction) -> float:
        return overlap(contingency(a, b, CLASSES)).mean["mean_dice"] or 0.0

    def theirs() -> float:
        matrix = confusion_matrix(truth.reshape(-1), prediction.reshape(-1), labels=classes)
        return overlap(matrix).mean["mean_dice"] or 0.0

    dice = ours()  # compiles, too
    mine, other = harness.alternate(ours, theirs, repeats)
    mine_again, looped = harness.alternate(ours, lambda: loop(truth, prediction), repeats)
    same = [abs(dice - score) < 1e-12 for score in (theirs(), loop(truth, prediction))]
    if not all(same):
        raise RuntimeError("the three ways do not give the same mean Dice")
    noise = [speckled(truth, 3.0), speckled(prediction, 3.0)]
    worst = [harness.seconds(lambda: ours(*noise)) for _ in range(3)]
    against_loop = harness.result(
        "loop", "a loop over classes (numpy)", version("numpy"), mine_again, looped, "s"
    )
    return harness.result(
        "contingency",
        "scikit-learn confusion_matrix",
        version("scikit-learn"),
        mine,
        other,
        "s",
        shape=list(SHAPE),
        classes=CLASSES,
        mean_dice=dice,
        loop=against_loop,
        ours_on_noise=float(f"{sorted(worst)[1]:.4g}"),
    )


if __name__ == "__main__":
    harness.main(run, __doc__)
