"""A net that mends a prior: it adds to the logarithm of what was believed before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brodmann.nets.unet import plain_unet

FLOOR = 0.02
"""Added to every prior probability, so that what was held impossible can still be learned."""


class PriorUNet(nn.Module):
    """A plain U-Net whose logits are corrections of a prior.

    Parameters
    ----------
    in_channels : int
        Image channels and, last, one prior channel for each class but background (0..1).
    num_classes : int
        Background among them.
    features, strides, kernels, options
        As for `plain_unet`.
    trust : float
        Share of the correction that is kept outside training, in 0..1. Training sections lie
        nearer to labels than those to be mapped, so corrections are learned too large.

    Before any training the net answers with the prior itself: its last layers begin at zero.

    Example
    -------
    >>> net = PriorUNet(3, 3, (4, 8), ((1, 1), (2, 2))).eval()
    >>> image = torch.zeros(1, 3, 8, 8); image[:, 2] = 1.0
    >>> bool((net(image).argmax(1) == 2).all())
    True
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]] | None = None,
        *,
        trust: float = 0.5,
        **options: float | int,
    ) -> None:
        super().__init__()
        self.unet = plain_unet(in_channels, num_classes, features, strides, kernels, **options)
        self.prior_channels, self.trust = num_classes - 1, trust
        for head in self.unet.decoder.seg_layers:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """(n, in_channels, *patch) -> logits, or in training a list, finest first."""
        prior = image[:, -self.prior_channels :]
        background = (1 - prior.sum(1, keepdim=True)).clamp_min(0)
        belief = torch.cat([background, prior], 1)
        pool = F.avg_pool2d if belief.dim() == 4 else F.avg_pool3d
        answers = self.unet(image)
        answers = [answers] if isinstance(answers, Tensor) else answers
        if not self.training:
            return (belief + FLOOR).log() + self.trust * answers[0]
        mended = []
        for logits in answers:
            factor = [a // b for a, b in zip(belief.shape[2:], logits.shape[2:])]
            coarse = pool(belief, factor) if max(factor) > 1 else belief
            mended.append(logits + (coarse + FLOOR).log())
        return mended
