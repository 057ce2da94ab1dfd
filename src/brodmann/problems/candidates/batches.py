"""Training batches of crops, half of them cells; each a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from brodmann.core import keyed_rng
from brodmann.problems.cells.batches import Turns


@dataclass(frozen=True, eq=False)
class Pool:
    """Crops ready to be seen: contrast (n, c, z, y, x) float32, labels (n,), subjects (n,)."""

    seen: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray


class CropBatches(TorchDataset):
    """Step -> {"image": (n, c, z, y, x) float32, "target": (n,) float32}.

    Cells and others take turns, and with each of them the brains; within a brain crops are
    drawn at random. A brain without a class leaves its turn to another.

    Parameters
    ----------
    pool : Pool
        Of both classes.
    batch : int
        Even, so that each batch is balanced.
    turns : Turns
        Mirrors, quarter turns, gain, shift and noise.
    slide : (z, y, x) of int
        Voxels by which a crop is moved at most, its border mirrored: a detector's peaks do not
        lie in the very middle of cells.
    seed : int
    """

    def __init__(
        self, pool: Pool, batch: int, turns: Turns, slide: Sequence[int], seed: int
    ) -> None:
        self.pool, self.batch, self.turns, self.seed = pool, batch, turns, seed
        self.slide = tuple(slide)
        self.members = {
            label: [
                np.flatnonzero((pool.labels == label) & (pool.subjects == subject))
                for subject in np.unique(pool.subjects[pool.labels == label])
            ]
            for label in (0, 1)
        }

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        items = [self.item(step, i) for i in range(self.batch)]
        return {
            "image": torch.from_numpy(np.stack([crop for crop, _ in items])),
            "target": torch.tensor([label for _, label in items], dtype=torch.float32),
        }

    def item(self, step: int, item: int) -> tuple[np.ndarray, int]:
        """One crop, augmented, and its label."""
        rng = keyed_rng(self.seed, "candidates", step, item)
        turn, label = divmod(step * self.batch + item, 2)
        groups = self.members[label]
        mine = groups[turn % len(groups)]
        crop = self.pool.seen[mine[rng.integers(len(mine))]]
        crop = slid(crop, [int(rng.integers(-n, n + 1)) for n in self.slide])
        # Turns moves an image and its target alike; here the target is a number.
        return self.turns.apply(rng, crop, crop[0])[0], label


def slid(crop: np.ndarray, by: Sequence[int]) -> np.ndarray:
    """(c, z, y, x) moved by voxels; what comes in is mirrored.

    >>> slid(np.arange(4.0).reshape(1, 1, 1, 4), (0, 0, 1)).ravel().tolist()
    [0.0, 0.0, 1.0, 2.0]
    """
    if not any(by):
        return crop
    wide = np.pad(crop, [(0, 0), *((abs(n), abs(n)) for n in by)], mode="symmetric")
    window = (slice(abs(n) - n, abs(n) - n + size) for n, size in zip(by, crop.shape[1:]))
    return wide[(slice(None), *window)]
