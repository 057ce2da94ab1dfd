"""Dice and cross entropy with an ignore index, at every scale of a net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from brodmann.core import IGNORE_CLASS


def soft_dice(logits: Tensor, labels: Tensor, smooth: float = 1e-5) -> Tensor:
    """Mean soft Dice over the foreground classes, the batch taken as one image.

    Parameters
    ----------
    logits : Tensor
        (n, classes, *spatial), any float type.
    labels : Tensor
        (n, *spatial) int64 class indices; -1 is skipped.
    smooth : float
        Added above and below, so that a class in neither has Dice 1.

    Returns
    -------
    Tensor
        A scalar in 0..1.

    The truth is never expanded to one plane a class: the overlap of each class is summed
    straight from the probability of the true class.

    Example
    -------
    >>> labels = torch.tensor([[0, 1, -1]])
    >>> sure = torch.tensor([[[9.0, -9.0, 9.0], [-9.0, 9.0, -9.0]]])
    >>> float(soft_dice(sure, labels)) > 0.999
    True
    """
    classes = logits.shape[1]
    probability = logits.float().softmax(1)
    known = labels != IGNORE_CLASS
    safe = labels.clamp_min(0)
    axes = (0, *range(2, logits.dim()))
    predicted = (probability * known.unsqueeze(1)).sum(axes)
    hit = probability.gather(1, safe.unsqueeze(1)).squeeze(1) * known
    overlap = torch.zeros_like(predicted).index_add(0, safe.flatten(), hit.flatten())
    present = torch.zeros_like(predicted).index_add(
        0, safe.flatten(), known.flatten().to(predicted.dtype)
    )
    dice = (2 * overlap + smooth) / (predicted + present + smooth).clamp_min(1e-8)
    return dice[1:].mean() if classes > 1 else dice.mean()


def dice_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy minus soft Dice, 1 : 1; zero loss where nothing is annotated."""
    if not bool((labels != IGNORE_CLASS).any()):
        return logits.sum() * 0.0
    entropy = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_CLASS)
    return entropy - soft_dice(logits, labels)


def scale_weights(scales: int) -> list[float]:
    """1, 1/2, 1/4, ... with the coarsest left out, summing to one."""
    weights = [0.5**i for i in range(scales)]
    if scales > 1:
        weights[-1] = 0.0
    return [w / sum(weights) for w in weights]


def shrink_labels(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels at a coarser scale: the nearest label of each coarse pixel, never a mixture."""
    return (
        F.interpolate(labels.unsqueeze(1).float(), list(shape), mode="nearest-exact")
        .squeeze(1)
        .long()
    )


def deep_loss(outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
    """The weighted loss over all scales; `outputs` finest first, labels at the finest."""
    if isinstance(outputs, Tensor):
        return dice_cross_entropy(outputs, labels)
    total = torch.zeros((), device=labels.device)
    for logits, weight in zip(outputs, scale_weights(len(outputs))):
        if weight:
            total = total + weight * dice_cross_entropy(
                logits, shrink_labels(labels, logits.shape[2:])
            )
    return total
