"""Membranes as affinities draw them, for truths in which they are marked (0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from brodmann.core import Affinities, Dataset
from brodmann.core.affinities import NEAREST, pair_windows

CUTS = tuple(range(13, 255, 11))
"""Affinities, in 255ths, below which a voxel is membrane: to choose from."""


def inside(affinities: Affinities) -> np.ndarray:
    """The highest affinity of all pairs with a nearest neighbour that a voxel is in, uint8.

    A voxel of a neuron is joined to at least one neighbour, one of a membrane to none.

    Example
    -------
    >>> from brodmann.core import Convention, Volume
    >>> values = np.array([0, 255, 0, 0, 255], np.uint8).reshape(1, 1, 1, 5)
    >>> along_x = Convention(((0, 0, -1),))
    >>> inside(Affinities(Volume(values, "czyx", (1, 1, 1)), along_x)).tolist()
    [[[255, 255, 0, 255, 255]]]
    """
    out = np.zeros(affinities.shape, np.uint8)
    convention = affinities.convention
    for channel in convention.channels_of(NEAREST):
        values = np.asarray(affinities.volume.data[channel])
        here, there = pair_windows(affinities.shape, convention.offsets[channel])
        np.maximum(out[here], values[here], out=out[here])
        np.maximum(out[there], values[here], out=out[there])
    return out


def membrane_scores(
    affinities: Mapping[str, Affinities], tune: Dataset, test: Dataset
) -> dict[str, float]:
    """F1, precision and recall of membrane voxels on the test part, cut where tuning says.

    Returns
    -------
    dict
        `cut` (affinity, 0..1), `f1`, `precision`, `recall`; voxels of all samples pooled.
    """

    def counted(part: Dataset, cut: int) -> np.ndarray:
        total = np.zeros(3, np.int64)
        for name in part.names:
            truth, guess = part[name].labels.numpy() == 0, inside(affinities[name]) < cut
            total += [(truth & guess).sum(), guess.sum(), truth.sum()]
        return total

    def f1(counts: Any) -> float:
        return float(2 * counts[0] / max(1, counts[1] + counts[2]))

    cut = max(CUTS, key=lambda cut: f1(counted(tune, cut)))
    counts = counted(test, cut)
    return {
        "cut": round(cut / 255, 3),
        "f1": f1(counts),
        "precision": float(counts[0] / max(1, counts[1])),
        "recall": float(counts[0] / max(1, counts[2])),
    }
