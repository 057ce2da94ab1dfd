"""Binary focal loss, for hard and for soft targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def focal_loss(
    logits: Tensor, target: Tensor, gamma: float = 2.0, known: Tensor | None = None
) -> Tensor:
    """Cross entropy times |target - p| ** gamma, over the sum of the target.

    For targets of 0 and 1 this is the focal loss of Lin et al. 2017 without alpha; for soft ones
    the quality focal loss of Li et al. 2020, least where p is the target. Divided by how much
    there is to find, so that empty patches do not drown the others; by the hundredth part of the
    voxels at least.

    Parameters
    ----------
    logits, target : Tensor
        Of one shape; the target in 0..1.
    gamma : float
        0 is plain cross entropy.
    known : Tensor, optional
        Bool, of the same shape: only these voxels count.

    Returns
    -------
    Tensor
        A scalar.

    Example
    -------
    >>> import torch
    >>> sure = torch.tensor([20.0, -20.0])
    >>> float(focal_loss(sure, torch.tensor([1.0, 0.0]))) < 1e-6
    True
    """
    logits, target = logits.float(), target.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = entropy * (target - logits.sigmoid()).abs() ** gamma
    if known is not None:
        loss, target = loss * known, target * known
    return loss.sum() / target.sum().clamp_min(0.01 * target.numel())
