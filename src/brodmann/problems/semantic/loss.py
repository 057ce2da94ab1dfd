"""Dice and cross entropy with an ignore index, at every scale of a net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from brodmann.core import IGNORE_CLASS


def soft_dice(
    logits: Tensor,
    labels: Tensor,
    labels2: Tensor | None = None,
    weight: Tensor | None = None,
    *,
    smooth: float = 1e-5,
) -> Tensor:
    """Mean soft Dice over the foreground classes, the batch taken as one image.

    Parameters
    ----------
    logits : Tensor
        (n, classes, *spatial), any float type.
    labels, labels2 : Tensor
        (n, *spatial) int64 class indices; -1 is skipped.
    weight : Tensor
        (n,) share of `labels` in 0..1; the rest belongs to `labels2`.
    smooth : float
        Added above and below, so that a class in neither has Dice 1.

    Returns
    -------
    Tensor
        A scalar in 0..1.

    With two label maps every sum is the expected one, a pixel's label being drawn from the
    first with probability `weight`. The truth is never expanded to one plane a class: the
    overlap of each class is summed straight from the probability of the true class.

    Example
    -------
    >>> labels = torch.tensor([[0, 1, -1]])
    >>> sure = torch.tensor([[[9.0, -9.0, 9.0], [-9.0, 9.0, -9.0]]])
    >>> float(soft_dice(sure, labels)) > 0.999
    True
    """
    classes = logits.shape[1]
    probability = logits.float().softmax(1)
    overlap = present = probability.new_zeros(classes)
    total: Tensor | int = 0
    for truth, mass in _shares(labels, labels2, weight):
        safe = truth.clamp_min(0)
        hit = probability.gather(1, safe.unsqueeze(1)).squeeze(1) * mass
        overlap = overlap.index_add(0, safe.flatten(), hit.flatten())
        present = present.index_add(0, safe.flatten(), mass.flatten())
        total = total + mass
    predicted = (probability * total.unsqueeze(1)).sum((0, *range(2, logits.dim())))
    dice = (2 * overlap + smooth) / (predicted + present + smooth).clamp_min(1e-8)
    return dice[1:].mean() if classes > 1 else dice.mean()


def cross_entropy(
    logits: Tensor, labels: Tensor, labels2: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Mean cross entropy over what is annotated; arguments as for `soft_dice`.

    With two label maps a pixel counts `weight` in the first and the rest in the second.
    """
    if labels2 is None:
        return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_CLASS)
    log_probability = F.log_softmax(logits.float(), 1)
    shares = _shares(labels, labels2, weight)
    entropy = sum(
        (
            F.nll_loss(log_probability, truth, ignore_index=IGNORE_CLASS, reduction="none") * mass
        ).sum()
        for truth, mass in shares
    )
    return entropy / sum(mass.sum() for _, mass in shares)


def dice_cross_entropy(
    logits: Tensor, labels: Tensor, labels2: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Cross entropy minus soft Dice, 1 : 1; zero loss where nothing is annotated."""
    if not any(bool(mass.any()) for _, mass in _shares(labels, labels2, weight)):
        return logits.sum() * 0.0
    return cross_entropy(logits, labels, labels2, weight) - soft_dice(
        logits, labels, labels2, weight
    )


def _shares(
    labels: Tensor, labels2: Tensor | None, weight: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """Each label map and what its pixels count: float32, 0 where it ignores."""
    known = (labels != IGNORE_CLASS).float()
    if labels2 is None or weight is None:
        return [(labels, known)]
    share = weight.float().reshape(-1, *(1,) * (labels.dim() - 1))
    return [(labels, known * share), (labels2, (labels2 != IGNORE_CLASS) * (1 - share))]


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


def deep_loss(
    outputs: Tensor | Sequence[Tensor],
    labels: Tensor,
    labels2: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The weighted loss over all scales; `outputs` finest first, labels at the finest.

    `labels2` and `weight` (share of `labels`) belong to batches of mixed samples.
    """
    if isinstance(outputs, Tensor):
        return dice_cross_entropy(outputs, labels, labels2, weight)
    total = torch.zeros((), device=labels.device)
    for logits, scale in zip(outputs, scale_weights(len(outputs))):
        if scale:
            first, second = (
                None if truth is None else shrink_labels(truth, logits.shape[2:])
                for truth in (labels, labels2)
            )
            total = total + scale * dice_cross_entropy(logits, first, second, weight)
    return total
