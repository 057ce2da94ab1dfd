"""BYOL and MYOW: an online net that predicts what a slowly following target says.

BYOL compares two views of an image (Grill et al. 2020). MYOW adds views of other images, mined
as nearest neighbours in representation space, and predicts them through a second projector and
predictor stacked on the first (Azabou et al. 2021); MYOW-m predicts them through the first pair.
"""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from brodmann.nets.resnet import FEATURES

Method = Literal["byol", "myow", "myow-m"]
METHODS: tuple[Method, ...] = ("byol", "myow", "myow-m")


def mlp(inside: int, hidden: int, out: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear: a projector or a predictor."""
    return nn.Sequential(
        nn.Linear(inside, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


class Arm(nn.Module):
    """Encoder and projector; for MYOW a second projector behind the first."""

    def __init__(
        self, encoder: nn.Module, features: int, hidden: int, size: int, *, cascade: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp(features, hidden, size)
        self.mining_projector = mlp(size, hidden, size) if cascade else nn.Identity()


class Twins(nn.Module):
    """The online arm with its predictors, and the target arm.

    Parameters
    ----------
    encoder : nn.Module
        (n, c, h, w) -> (n, features).
    method : "byol", "myow" or "myow-m"
    hidden, size : int
        Widths of the hidden layers and of the projections.
    features : int
        Length of the encoder's representations.
    """

    def __init__(
        self,
        encoder: nn.Module,
        method: Method = "byol",
        hidden: int = 4096,
        size: int = 256,
        features: int = FEATURES,
    ) -> None:
        super().__init__()
        self.method = method
        self.online = Arm(encoder, features, hidden, size, cascade=method == "myow")
        self.predictor = mlp(size, hidden, size)
        self.mining_predictor = mlp(size, hidden, size) if method == "myow" else None
        # A deep copy: the target has tensors of its own, which no optimiser sees.
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """The online encoder's representations."""
        return self.online.encoder(images)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """target = decay * target + (1 - decay) * online, for every parameter.

        Running statistics of batch norms are the target's own.
        """
        own = list(self.target.parameters())
        torch._foreach_mul_(own, decay)
        torch._foreach_add_(own, list(self.online.parameters()), alpha=1 - decay)


def decay_at(step: int, steps: int, start: float = 0.996) -> float:
    """Decay of the target after a step: `start` at first, 1 at the end, along a cosine.

    >>> [round(decay_at(s, 100), 3) for s in (0, 50, 100)]
    [0.996, 0.998, 1.0]
    """
    return 1 - (1 - start) * (math.cos(math.pi * step / steps) + 1) / 2
