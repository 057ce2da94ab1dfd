"""Training batches, each a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from brodmann.augment.base import PatchAugmentation
from brodmann.core import IGNORE_CLASS, keyed_rng
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.cases import Case


class Batches(TorchDataset):
    """Step -> batch. Any worker, any order, after any restart: the same bytes.

    Parameters
    ----------
    cases : sequence of Case
    patch : sequence of int
        Spatial shape of a patch.
    batch : int
        Patches in a batch.
    augmentation : PatchAugmentation
    seed : int
    foreground : float
        Share of each batch whose centre is forced onto a labelled pixel: the class is drawn
        uniformly among those of the image, then one of its pixels (nnU-Net's rule).
    purpose : str
        Part of the key, so that training and validation draw different patches.
    spacing : sequence of float, optional
        Micrometres per voxel, so that rotations are rigid where voxels are not cubes.

    Items are dicts: `image` (n, c, *patch) float32, `labels` (n, *patch) int64.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        patch: Sequence[int],
        batch: int,
        augmentation: PatchAugmentation,
        seed: int,
        *,
        foreground: float = 0.5,
        purpose: str = "train",
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.cases, self.patch, self.batch = list(cases), tuple(patch), batch
        self.augmentation, self.seed, self.purpose = augmentation, seed, purpose
        self.spacing = tuple(spacing) if spacing is not None else None
        self.forced = round(batch * foreground)
        self._deck: tuple[int, np.ndarray] = (-1, np.zeros(0, int))

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        items = [self.item(step, i) for i in range(self.batch)]
        return {
            "image": torch.from_numpy(np.stack([image for image, _ in items])),
            "labels": torch.from_numpy(np.stack([labels for _, labels in items])).long(),
        }

    def case_for(self, step: int, item: int) -> Case:
        """Cases are dealt like cards: each comes once before any comes twice."""
        deal, position = divmod(step * self.batch + item, len(self.cases))
        if self._deck[0] != deal:
            rng = keyed_rng(self.seed, self.purpose, "deck", deal)
            self._deck = deal, rng.permutation(len(self.cases))
        return self.cases[self._deck[1][position]]

    def item(self, step: int, item: int) -> tuple[np.ndarray, np.ndarray]:
        """One patch: image (c, *patch) float32 and class indices (*patch) int16."""
        rng = keyed_rng(self.seed, self.purpose, step, item)
        case = self.case_for(step, item)
        centre = self._centre(case, rng, forced=item >= self.batch - self.forced)
        params = self.augmentation.draw_patch(rng, self.patch, case.image_channels, self.spacing)
        source = self.augmentation.source_shape(params, self.patch)
        image, labels = read_patch(case, centre, source)
        return self.augmentation.apply_patch(params, image, labels, self.patch)

    def _centre(self, case: Case, rng: np.random.Generator, forced: bool) -> np.ndarray:
        shape = np.array(case.labels.shape)
        if forced and case.classes:
            locations = case.locations_of(case.classes[rng.integers(len(case.classes))])
            centre = np.array(np.unravel_index(locations[rng.integers(len(locations))], shape))
        else:
            centre = np.array([rng.integers(n) for n in shape])
        # A patch stays within the image where the image is large enough, else it is centred.
        half = np.array(self.patch) // 2
        low, high = half, shape - (np.array(self.patch) - half)
        return np.where(low <= high, np.clip(centre, low, np.maximum(low, high)), shape // 2)


def read_patch(
    case: Case, centre: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """A window about `centre`, normalised; zero and ignore where it hangs over the edge."""
    inner, outer = [], []
    for c, size, length in zip(centre, shape, case.labels.shape):
        start = int(c) - size // 2
        low, high = max(start, 0), min(start + size, length)
        high = max(high, low)
        inner.append(slice(low, high))
        outer.append(slice(low - start, high - start))
    values = Normalisation.apply(case.image[(slice(None), *inner)], case.statistics)
    if all(s.stop - s.start == size for s, size in zip(inner, shape)):
        return values, np.array(case.labels[tuple(inner)])
    image = np.zeros((values.shape[0], *shape), np.float32)
    labels = np.full(tuple(shape), IGNORE_CLASS, np.int16)
    image[(slice(None), *outer)] = values
    labels[tuple(outer)] = case.labels[tuple(inner)]
    return image, labels
