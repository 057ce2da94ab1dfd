"""Training batches, each a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from brodmann.augment.base import PatchAugmentation
from brodmann.core import IGNORE_CLASS, keyed_rng
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.cases import Case
from brodmann.problems.semantic.dealing import Dealer, Deck


class Patch(NamedTuple):
    """One item of a batch."""

    image: np.ndarray
    """(c, *patch) float32, normalised"""
    labels: np.ndarray
    """(*patch) int16 class indices"""
    labels2: np.ndarray | None = None
    """The second labels of a mixed sample."""
    weight: float = 1.0
    """Share of `labels`."""


class Batches(TorchDataset):
    """Step -> batch. Any worker, any order, after any restart: the same bytes.

    Parameters
    ----------
    cases : sequence of Case, or Dealer
        A sequence is dealt like cards: each comes once before any comes twice.
    patch : sequence of int
        Spatial shape of a patch.
    batch : int
        Patches in a batch.
    augmentation : PatchAugmentation
    seed : int
    foreground : float
        Share of each batch whose centre is forced onto a labelled pixel: the class is drawn
        uniformly among those of the image, then one of its pixels (nnU-Net's rule). Of a
        mixed sample the first labels count.
    purpose : str
        Part of the key, so that training and validation draw different patches.
    spacing : sequence of float, optional
        Micrometres per voxel, so that rotations are rigid where voxels are not cubes.

    Items are dicts: `image` (n, c, *patch) float32, `labels` (n, *patch) int64; where one of
    the batch is mixed of two samples also `labels2` (n, *patch) int64 and `weight` (n,)
    float32, the share of `labels` (for those that are not mixed the same labels, and 1).
    """

    def __init__(
        self,
        cases: Sequence[Case] | Dealer,
        patch: Sequence[int],
        batch: int,
        augmentation: PatchAugmentation,
        seed: int,
        *,
        foreground: float = 0.5,
        purpose: str = "train",
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.dealer = Deck(cases, seed, purpose) if isinstance(cases, Sequence) else cases
        self.patch, self.batch = tuple(patch), batch
        self.augmentation, self.seed, self.purpose = augmentation, seed, purpose
        self.spacing = tuple(spacing) if spacing is not None else None
        self.forced = round(batch * foreground)

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        items = [self.item(step, i) for i in range(self.batch)]
        batch = {
            "image": torch.from_numpy(np.stack([item.image for item in items])),
            "labels": torch.from_numpy(np.stack([item.labels for item in items])).long(),
        }
        if any(item.labels2 is not None for item in items):
            second = [item.labels if item.labels2 is None else item.labels2 for item in items]
            batch["labels2"] = torch.from_numpy(np.stack(second)).long()
            batch["weight"] = torch.tensor([item.weight for item in items], dtype=torch.float32)
        return batch

    def item(self, step: int, item: int) -> Patch:
        """One patch, augmented; both labels of a mixed sample move with its image."""
        rng = keyed_rng(self.seed, self.purpose, step, item)
        case = self.dealer[step * self.batch + item]
        centre = self._centre(case, rng, forced=item >= self.batch - self.forced)
        params = self.augmentation.draw_patch(rng, self.patch, case.image_channels, self.spacing)
        source = self.augmentation.source_shape(params, self.patch)
        window = read_patch(case, centre, source)
        image, labels = self.augmentation.apply_patch(
            params, window.image, window.labels, self.patch
        )
        labels2 = window.labels2
        if labels2 is not None:
            # Without channels only the geometry of these parameters is left.
            bare = np.empty((0, *source), np.float32)
            _, labels2 = self.augmentation.apply_patch(params, bare, labels2, self.patch)
        return Patch(image, labels, labels2, window.weight)

    def _centre(self, case: Case, rng: np.random.Generator, forced: bool) -> np.ndarray:
        shape = np.array(case.shape[1:])
        if forced and case.classes:
            locations = case.locations_of(case.classes[rng.integers(len(case.classes))])
            centre = np.array(np.unravel_index(locations[rng.integers(len(locations))], shape))
        else:
            centre = np.array([rng.integers(n) for n in shape])
        # A patch stays within the image where the image is large enough, else it is centred.
        half = np.array(self.patch) // 2
        low, high = half, shape - (np.array(self.patch) - half)
        return np.where(low <= high, np.clip(centre, low, np.maximum(low, high)), shape // 2)


def read_patch(case: Case, centre: np.ndarray, shape: Sequence[int]) -> Patch:
    """A window about `centre`, normalised; zero and ignore where it hangs over the edge."""
    inner, outer = [], []
    for c, size, length in zip(centre, shape, case.shape[1:]):
        start = int(c) - size // 2
        low, high = max(start, 0), min(start + size, length)
        high = max(high, low)
        inner.append(slice(low, high))
        outer.append(slice(low - start, high - start))
    within = all(s.stop - s.start == size for s, size in zip(inner, shape))

    def framed(values: np.ndarray, outside: int) -> np.ndarray:
        if within:
            return np.array(values)
        frame = np.full((*values.shape[: -len(shape)], *shape), outside, values.dtype)
        frame[(..., *outer)] = values
        return frame

    values = Normalisation.apply(case.image[(slice(None), *inner)], case.statistics)
    labels = framed(case.labels[tuple(inner)], IGNORE_CLASS)
    if case.weight is None:
        return Patch(values if within else framed(values, 0), labels)
    second = framed(case.labels2[tuple(inner)], IGNORE_CLASS)
    return Patch(values if within else framed(values, 0), labels, second, case.weight)
