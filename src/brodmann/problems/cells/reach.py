"""On how many voxels a net's answer depends, and where blocks may begin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from brodmann.core import ModelError
from brodmann.nets.convmixer import NORM, ConvMixer

Interval = tuple[int, int]


def reach_of(net: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Reach and grid of a net whose normalisation is fixed once it is trained.

    Returns
    -------
    reach : tuple of int
        Along each axis, the most voxels between a voxel of the answer and one that it depends on.
    multiple : tuple of int
        Windows that begin at multiples of this see the same grid.

    Raises
    ------
    ModelError
        If the net has no bounded reach, or one that is not known.

    Example
    -------
    >>> from brodmann.nets.convmixer import convmixer
    >>> reach_of(convmixer(1, 1, (8,), ((1, 2, 2),), depth=3))
    ((3, 7, 7), (1, 2, 2))
    """
    if isinstance(net, ConvMixer):
        return net.reach, net.patch
    if type(net).__name__ == "PlainConvUNet":
        if any(isinstance(m, (nn.InstanceNorm2d, nn.InstanceNorm3d)) for m in net.modules()):
            raise ModelError(
                "instance normalisation makes an answer depend on the whole block",
                "net",
                fix="use with_batch_norm",
            )
        return _unet_reach(net)
    raise ModelError(
        "nobody knows on how many voxels this net's answers depend",
        "net",
        type(net).__name__,
        "use convmixer or plain-unet",
    )


def with_batch_norm(net: nn.Module, momentum: float = 0.05) -> nn.Module:
    """The net with BatchNorm in place of InstanceNorm, changed in place and handed back.

    Instance normalisation looks at the whole block: answers would change at seams, and noise in
    an empty block would be blown up to look like cells.
    """
    # A part may hang at several places of the tree, and must stay one part.
    made: dict[nn.Module, nn.Module] = {}

    def walk(whole: nn.Module) -> None:
        for name, part in list(whole.named_children()):
            if isinstance(part, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
                if part not in made:
                    kind = NORM[2 if isinstance(part, nn.InstanceNorm2d) else 3]
                    made[part] = kind(part.num_features, part.eps, momentum, part.affine)
                setattr(whole, name, made[part])
            elif part not in seen:
                seen.add(part)
                walk(part)

    seen: set[nn.Module] = set()
    walk(net)
    return net


def _unet_reach(net: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ndim = next(p.ndim for p in net.parameters()) - 2
    strides = [_each(stride, ndim) for stride in net.encoder.strides]
    kernels = [_each(kernel, ndim) for kernel in net.encoder.kernel_sizes]
    convs = [len(_convs(stage)) for stage in net.encoder.stages]
    back = [len(_convs(stage)) for stage in reversed(net.decoder.stages)]
    reach, multiple = [], []
    for axis in range(len(strides[0])):
        s, k = [each[axis] for each in strides], [each[axis] // 2 for each in kernels]
        period = math.prod(s)
        furthest = 0
        for at in range(period):
            low, high = _seen((at, at), 0, s, k, convs, back)
            furthest = max(furthest, at - low, high - at)
        reach.append(furthest)
        multiple.append(period)
    return tuple(reach), tuple(multiple)


def _seen(
    span: Interval,
    level: int,
    strides: Sequence[int],
    radii: Sequence[int],
    convs: Sequence[int],
    back: Sequence[int],
) -> Interval:
    """Input voxels that a span of a level's answer depends on."""
    if level == len(strides) - 1:
        return _encoded(span, level, strides, radii, convs)
    low, high = span[0] - back[level] * radii[level], span[1] + back[level] * radii[level]
    across = _encoded((low, high), level, strides, radii, convs)
    step = strides[level + 1]
    below = _seen((low // step, high // step), level + 1, strides, radii, convs, back)
    return min(across[0], below[0]), max(across[1], below[1])


def _encoded(
    span: Interval,
    level: int,
    strides: Sequence[int],
    radii: Sequence[int],
    convs: Sequence[int],
) -> Interval:
    low, high = span
    for stage in range(level, -1, -1):
        flat = (convs[stage] - 1) * radii[stage]
        low = (low - flat) * strides[stage] - radii[stage]
        high = (high + flat) * strides[stage] + radii[stage]
    return low, high


def _convs(stage: nn.Module) -> list[nn.Module]:
    return [m for m in stage.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]


def _each(value: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (int(value),) * ndim
