"""Binary cross entropy and Dice on affinities, over the pairs that are known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def affinity_loss(logits: Tensor, same: Tensor, known: Tensor, dice: float = 1.0) -> Tensor:
    """Binary cross entropy + `dice` x (1 - soft Dice of the pairs that are apart).

    Dice is of the rarer answer, that two voxels are apart, since membranes are thin: that of
    joined pairs is near 1 for any net. It is taken channel by channel over the whole batch and
    averaged over the channels that hold a known pair.

    Parameters
    ----------
    logits : Tensor
        (n, channels, z, y, x) any float type.
    same, known : Tensor
        Bool, of the same shape; see `affinity_targets`.
    dice : float
        Weight of the Dice term; 0 leaves cross entropy alone.

    Returns
    -------
    Tensor
        A scalar; 0 where nothing is known.

    Example
    -------
    >>> same = torch.tensor([[[[[True, False]]]]])
    >>> sure = torch.tensor([[[[[20.0, -20.0]]]]])
    >>> float(affinity_loss(sure, same, torch.ones_like(same))) < 1e-6
    True
    """
    logits, mask, truth = logits.float(), known.float(), same.float()
    total = mask.sum().clamp_min(1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=mask, reduction="sum")
    loss = entropy / total
    if not dice:
        return loss
    apart, guess = (1 - truth) * mask, torch.sigmoid(-logits) * mask
    over = (0, 2, 3, 4)
    overlap = 2 * (apart * guess).sum(over) + 1e-5
    both = (apart + guess).sum(over) + 1e-5
    there = mask.sum(over) > 0
    return loss + dice * (1 - overlap / both)[there].sum() / there.sum().clamp_min(1)
