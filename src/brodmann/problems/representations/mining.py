"""Mined views: for each anchor the nearest view of another image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mine(
    anchors: Tensor, pool: Tensor, anchor_of: Tensor, pool_of: Tensor, k: int, pick: Tensor
) -> Tensor:
    """For each anchor one of its k nearest in the pool (cosine), never of its own image.

    Parameters
    ----------
    anchors, pool : (n, d), (m, d) float
        Representations.
    anchor_of, pool_of : (n,), (m,) int
        The image that each is a view of.
    k : int
    pick : (n,) int
        Which of the k is taken, 0 the nearest.

    Returns
    -------
    (n,) int64
        Indices into the pool; -1 where all of the pool are views of the anchor's own image.

    Example
    -------
    >>> anchors, pool = torch.eye(2), torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    >>> zero = torch.zeros(2, dtype=torch.long)
    >>> mine(anchors, pool, torch.tensor([0, 1]), torch.tensor([0, 1]), 1, zero).tolist()
    [1, 0]
    """
    near = F.normalize(anchors.float(), dim=1) @ F.normalize(pool.float(), dim=1).T
    own = anchor_of[:, None] == pool_of[None]
    near = near.masked_fill(own, -math.inf)
    # Where the pool has fewer strangers than k, the nearest stands in.
    found = near.topk(min(k, near.shape[1]), dim=1).indices
    rank = torch.minimum(pick, ((~own).sum(1) - 1).clamp_min(0)).clamp_max(found.shape[1] - 1)
    chosen = found.gather(1, rank[:, None])[:, 0]
    return torch.where(own.all(1), -1, chosen)
