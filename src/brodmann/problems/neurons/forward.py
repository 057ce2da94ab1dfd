"""A trained affinity net as a function, with mirrored answers put where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations

import torch
from torch import Tensor, nn

from brodmann.core.affinities import Offset, pair_windows
from brodmann.inference.heads import Predict


def forward(
    net: nn.Module, offsets: Sequence[Offset], mirror: Sequence[int] = (), *, bf16: bool = False
) -> Predict:
    """A function (n, c, *patch) float32 -> (n, offsets, *patch) float32 logits.

    Runs on a GPU in mixed precision where there is one, and on a CPU if `bf16` is set: where
    the processor knows bfloat16 it is about three times as fast. In a mirrored image a pair (v, v + o)
    is seen from its other voxel. Turned back, its logit lies at v + o' and is moved; where it
    would come from beyond the patch, it is left out of that voxel's mean.

    Example
    -------
    >>> net = forward(nn.Conv3d(1, 1, 1), [(0, 0, -1)], mirror=(1, 2))
    >>> net(torch.rand(1, 1, 2, 4, 4)).shape
    torch.Size([1, 1, 2, 4, 4])
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device).eval()
    axes = sorted(mirror)
    flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))

    @torch.inference_mode()
    def run(batch: Tensor) -> Tensor:
        batch = torch.as_tensor(batch).to(device)
        total: Tensor | None = None
        counts: Tensor | None = None
        with torch.autocast(device.type, enabled=bf16 or device.type == "cuda"):
            for flip in flips:
                turned = [axis + 2 for axis in flip]
                logits = net(batch.flip(turned))
                logits = logits if isinstance(logits, Tensor) else logits[0]
                logits = logits.float().flip(turned)
                if total is None or counts is None:
                    total = logits.clone()
                    counts = torch.ones(total.shape[1:], device=total.device)
                    continue
                _add_turned(total, counts, logits, offsets, flip)
        assert total is not None and counts is not None
        return total / counts if len(flips) > 1 else total

    return run


def _add_turned(
    total: Tensor, counts: Tensor, logits: Tensor, offsets: Sequence[Offset], flip: Sequence[int]
) -> None:
    """Add the logits of a mirrored image, each pair's at the voxel that holds it.

    With the flipped axes' signs turned, the value at v is that of (v, v + o'). Where o' is o
    it stays; where it is -o the pair is (v + o', v) read from its other end, and moves there.
    Where an offset runs along flipped and other axes at once, the pair is one that no channel
    holds, and the answer is left out.
    """
    for channel, offset in enumerate(offsets):
        seen = tuple(-n if axis in flip else n for axis, n in enumerate(offset))
        if seen == tuple(offset):
            total[:, channel] += logits[:, channel]
            counts[channel] += 1
        elif seen == tuple(-n for n in offset):
            here, there = pair_windows(logits.shape[2:], offset)
            total[(slice(None), channel, *here)] += logits[(slice(None), channel, *there)]
            counts[(channel, *here)] += 1
