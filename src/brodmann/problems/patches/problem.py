"""What a whole image shows: one category an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from brodmann.core import RecipeError, keyed_rng
from brodmann.problems.patches.images import Stack, Views


@dataclass(frozen=True)
class Patches:
    """The category of an image, for the learner.

    Batches hold `image` (n, c, h, w) and `category` (n,) int64; where two images are mixed also
    `category2` and `weight` (n,), the share of the first.
    """

    classes: int
    smoothing: float = 0.0
    """Share of each label that is spread over all classes."""

    @property
    def outputs(self) -> int:
        return self.classes

    def step(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross entropy; with mixed images the one of each label by its share."""
        logits = net(batch["image"]).float()
        loss = partial(F.cross_entropy, reduction="none", label_smoothing=self.smoothing)
        entropy = loss(logits, batch["category"])
        if "weight" in batch:
            second = loss(logits, batch["category2"])
            entropy = batch["weight"] * entropy + (1 - batch["weight"]) * second
        return {"loss": entropy.mean()}

    def validate(self, net: nn.Module, batch: dict[str, Tensor]) -> np.ndarray:
        """Contingency table (truth, prediction) of one batch, int64."""
        guess = net(batch["image"]).argmax(1)
        pairs = batch["category"] * self.classes + guess
        table = torch.bincount(pairs, minlength=self.classes**2)
        return table.reshape(self.classes, self.classes).cpu().numpy()

    def summarise(self, evidence: np.ndarray) -> dict[str, float]:
        """Balanced accuracy of the images that validation holds."""
        held = evidence.sum(1)
        return {
            "val_balanced_accuracy": float((evidence.diagonal()[held > 0] / held[held > 0]).mean())
        }


class Batches(TorchDataset):
    """Step -> batch of views, a function of (seed, step) alone.

    Parameters
    ----------
    stack : Stack
        Training images; all need a category.
    views : Views
    batch : int
    seed : int
    balanced : bool
        Draw the category first and then one of its images, so that rare ones count alike.
        Otherwise images are dealt: each comes once before any comes twice.
    mixup : float
        Probability that an image is mixed with another of the batch.
    alpha : float
        The share of the first is drawn from Beta(alpha, alpha).

    Source: MixUp is Zhang et al. 2018; its probability, section 3.2.4 of the MTNeuro appendix.
    """

    def __init__(
        self,
        stack: Stack,
        views: Views,
        batch: int,
        seed: int,
        *,
        balanced: bool = False,
        mixup: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        if not 0 <= mixup <= 1:
            raise RecipeError("a probability is between 0 and 1", "mixup", mixup)
        if mixup and alpha <= 0:
            raise RecipeError("the shape of a Beta distribution is above 0", "alpha", alpha)
        views.check(stack.side)
        self.stack, self.views, self.batch, self.seed = stack, views, batch, seed
        self.balanced, self.mixup, self.alpha = balanced, mixup, alpha
        self.members = [np.flatnonzero(stack.categories == k) for k in range(len(stack.names))]
        self.members = [found for found in self.members if len(found)]

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = keyed_rng(self.seed, "images", step)
        which = self._which(step, rng)
        images = self.views.cut(self.stack, which, rng)
        truth = self.stack.categories[which]
        batch = {"category": torch.from_numpy(truth)}
        if self.mixup:
            partner = rng.permutation(self.batch)
            weight = rng.beta(self.alpha, self.alpha, self.batch).astype(np.float32)
            weight[rng.random(self.batch) >= self.mixup] = 1
            share = weight[:, None, None, None]
            images = share * images + (1 - share) * images[partner]
            batch["category2"] = torch.from_numpy(truth[partner])
            batch["weight"] = torch.from_numpy(weight)
        return {"image": torch.from_numpy(np.ascontiguousarray(images)), **batch}

    def _which(self, step: int, rng: np.random.Generator) -> np.ndarray:
        if not self.balanced:
            return dealt(len(self.stack), self.batch, step, self.seed)
        kinds = rng.integers(0, len(self.members), self.batch)
        places = rng.random(self.batch)
        return np.array(
            [self.members[k][int(p * len(self.members[k]))] for k, p in zip(kinds, places)]
        )


def dealt(count: int, batch: int, step: int, seed: int) -> np.ndarray:
    """Which images a step sees when they are dealt like cards, shuffled anew each round.

    Example
    -------
    >>> sorted(np.concatenate([dealt(6, 3, step, 0) for step in range(2)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    first = step * batch
    items = np.arange(first, first + batch)
    rounds = np.unique(items // count)
    orders = {int(r): keyed_rng(seed, "deal", int(r)).permutation(count) for r in rounds}
    return np.array([orders[int(item // count)][item % count] for item in items])
