"""The losses of BYOL, MYOW and MYOW-m, and the batches they learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from brodmann.core import DataError, RecipeError, keyed_rng
from brodmann.problems.patches.images import Stack, Views
from brodmann.problems.patches.problem import dealt
from brodmann.problems.representations.mining import mine
from brodmann.problems.representations.twins import Twins, decay_at


def disagreement(prediction: Tensor, target: Tensor) -> Tensor:
    """2 - 2 cos of the angle between both, the mean over the batch."""
    return 2 - 2 * F.cosine_similarity(prediction.float(), target.float(), dim=1).mean()


@dataclass(frozen=True)
class TwinProblem:
    """What the learner asks of BYOL and its kin.

    Batches hold `view1`, `view2` (n, c, h, w), `index` (n,) and `step`, and where views are
    mined `pool` (m, c, h, w), `pool_index` (m,) and `pick` (2, n).

    Attributes
    ----------
    steps : int
        Length of the training, for the target's decay.
    decay : float
        The target's first decay.
    mining_weight : float
        Weight of the mined pairs' loss.
    mining_ramp : int
        Steps over which that weight rises from 0, linearly.
    neighbours : int
        k of the mining.
    """

    steps: int
    decay: float = 0.996
    mining_weight: float = 0.1
    mining_ramp: int = 0
    neighbours: int = 1

    def step(self, net: Twins, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Symmetric loss over both views; with mining also of the mined ones."""
        views = (batch["view1"], batch["view2"])
        features = [net.online.encoder(view) for view in views]
        projected = [net.online.projector(found) for found in features]
        with torch.no_grad():
            wanted = [net.target.projector(net.target.encoder(view)) for view in views]
        loss = sum(
            disagreement(net.predictor(projected[a]), wanted[b]) for a, b in ((0, 1), (1, 0))
        )
        found = {"augmented": loss}
        if net.method != "byol" and self.mining_weight:
            mined = self._mined(net, batch, features, projected)
            found["mined"] = mined
            loss = loss + self.mining_weight * self._ramp(int(batch["step"])) * mined
        return {"loss": loss, **found}

    def _ramp(self, step: int) -> float:
        return min(1.0, (step + 1) / self.mining_ramp) if self.mining_ramp else 1.0

    def _mined(
        self, net: Twins, batch: dict[str, Tensor], features: list[Tensor], projected: list[Tensor]
    ) -> Tensor:
        predict: Callable[[Tensor], Tensor] = net.mining_predictor or net.predictor
        with torch.no_grad():
            pool = net.target.encoder(batch["pool"])
            answers = net.target.mining_projector(net.target.projector(pool))
        losses = []
        for view in (0, 1):
            chosen = mine(
                features[view].detach(),
                pool,
                batch["index"],
                batch["pool_index"],
                self.neighbours,
                batch["pick"][view],
            )
            has = chosen >= 0
            guess = predict(net.online.mining_projector(projected[view]))
            if has.any():
                losses.append(disagreement(guess[has], answers[chosen[has]]))
        return sum(losses) if losses else projected[0].sum() * 0.0

    def after_step(self, net: Twins, step: int) -> None:
        """Move the target; `step` counts the steps done."""
        net.follow(decay_at(step, self.steps, self.decay))


class TwinBatches(TorchDataset):
    """Step -> two views of each image, and a pool to mine from; a function of (seed, step) alone.

    Parameters
    ----------
    stack : Stack
        Categories are not looked at.
    views : Views
        Every view has its own place, also within a batch.
    batch : int
    seed : int
    pool : int
        Views to mine from, each of an image drawn at random; 0 mines nothing.
    neighbours : int
        One of so many nearest is picked.
    """

    def __init__(
        self,
        stack: Stack,
        views: Views,
        batch: int,
        seed: int,
        *,
        pool: int = 0,
        neighbours: int = 1,
    ) -> None:
        if batch < 2:
            raise RecipeError("batch norm needs at least two images", "batch", batch)
        if pool and len(stack) < 2:
            raise DataError("mining needs at least two images", found=len(stack))
        if pool and not 0 < neighbours <= pool:
            raise RecipeError(
                "neighbours are at least 1 and at most the pool", "neighbours", neighbours
            )
        views.check(stack.side)
        self.stack, self.views, self.batch, self.seed = stack, views, batch, seed
        self.pool, self.neighbours = pool, neighbours

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = keyed_rng(self.seed, "twins", step)
        which = dealt(len(self.stack), self.batch, step, self.seed)
        found = {
            "view1": self.views.cut(self.stack, which, rng),
            "view2": self.views.cut(self.stack, which, rng),
            "index": which,
            "step": np.array(step),
        }
        if self.pool:
            others = rng.integers(0, len(self.stack), self.pool)
            found["pool"] = self.views.cut(self.stack, others, rng)
            found["pool_index"] = others
            found["pick"] = rng.integers(0, self.neighbours, (2, self.batch))
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in found.items()}
