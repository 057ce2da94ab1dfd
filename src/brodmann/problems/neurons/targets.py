"""What an affinity net should say, made of the ids of neurons."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from brodmann.core import IGNORE_CLASS
from brodmann.core.affinities import Offset, pair_windows


def widened(ids: Tensor, voxels: int, axes: Sequence[int] = (0, 1, 2)) -> Tensor:
    """Ids with all voxels next to another neuron set to 0, `voxels` deep on either side.

    Truth without boundary voxels trains affinities that merge everything (specs/neurons.md:
    VI 3.35 with such a truth, 1.9 with borders widened by one voxel).

    Parameters
    ----------
    ids : Tensor
        (n, z, y, x) integers; 0 is boundary already, -1 unknown: neither makes a border.
    voxels : int
    axes : sequence of int
        Along which neighbours count: (1, 2) for thick sections, in which a neuron's border
        is not seen from above.

    Example
    -------
    >>> widened(torch.tensor([[[[1, 1, 1, 2, 2, 2]]]]), 1).tolist()
    [[[[1, 1, 0, 0, 2, 2]]]]
    """
    for _ in range(voxels):
        border = torch.zeros_like(ids, dtype=torch.bool)
        for axis in axes:
            dim, n = axis + 1, ids.shape[axis + 1]
            low, high = ids.narrow(dim, 0, n - 1), ids.narrow(dim, 1, n - 1)
            differ = (low != high) & (low != IGNORE_CLASS) & (high != IGNORE_CLASS)
            border.narrow(dim, 0, n - 1).logical_or_(differ)
            border.narrow(dim, 1, n - 1).logical_or_(differ)
        ids = ids.masked_fill(border & (ids != IGNORE_CLASS), 0)
    return ids


def affinity_targets(ids: Tensor, offsets: Sequence[Offset]) -> tuple[Tensor, Tensor]:
    """Truth and its mask for every pair, in the canonical convention (core.affinities).

    Parameters
    ----------
    ids : Tensor
        (n, z, y, x) integers: 0 lies between neurons, -1 is unknown.
    offsets : sequence of (z, y, x)

    Returns
    -------
    same : Tensor
        (n, offsets, z, y, x) bool: both voxels of the pair (v, v + offset) belong to one neuron.
    known : Tensor
        Likewise: both lie within the volume and neither is unknown.

    Example
    -------
    >>> same, known = affinity_targets(torch.tensor([[[[1, 1, 0, 2]]]]), [(0, 0, -1)])
    >>> same[0, 0, 0, 0].tolist(), known[0, 0, 0, 0].tolist()
    ([False, True, False, False], [False, True, True, True])
    """
    shape = (ids.shape[0], len(offsets), *ids.shape[1:])
    same = torch.zeros(shape, dtype=torch.bool, device=ids.device)
    known = torch.zeros_like(same)
    for channel, offset in enumerate(offsets):
        here, there = pair_windows(ids.shape[1:], offset)
        a, b = ids[(slice(None), *here)], ids[(slice(None), *there)]
        same[(slice(None), channel, *here)] = (a == b) & (a > 0)
        known[(slice(None), channel, *here)] = (a != IGNORE_CLASS) & (b != IGNORE_CLASS)
    return same, known
