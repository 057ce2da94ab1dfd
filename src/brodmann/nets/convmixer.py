"""ConvMixer for heat maps: patches, then depthwise and pointwise convolutions at one resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from brodmann.core import ModelError, RecipeError

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def convmixer(
    in_channels: int,
    num_classes: int,
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    depth: int = 8,
    skip: bool = False,
) -> ConvMixer:
    """A ConvMixer with an answer for each voxel, 2D or 3D.

    It has one stage: `features` holds its width, `strides` its patch and `kernels` its kernel.
    The patch is the speed: with (2, 4, 4) the net works on 32 times fewer tokens than voxels.

    Parameters
    ----------
    in_channels, num_classes : int
    features : (width,)
        Channels of each token.
    strides : (patch,)
        Voxels of a token along each axis.
    kernels : (kernel,), optional
        Odd sides of the depthwise convolutions, in tokens; 3 along every axis by default.
    depth : int
        Blocks of a depthwise convolution, which its input is added to, and a pointwise one,
        each followed by GELU and BatchNorm.
    skip : bool
        Add to each voxel's answer a weighted sum of its own inputs, so that what is fine need
        not pass through tokens.

    Returns
    -------
    ConvMixer
        (n, in_channels, *spatial) float32 -> logits (n, num_classes, *spatial), for spatial
        sizes that the patch divides. `reach` says on how many voxels an answer depends.

    Raises
    ------
    RecipeError
        If an option does not fit.

    Source: Trockman and Kolter 2022, with CANVAS's per-voxel head (specs: cells, Detector).

    Example
    -------
    >>> net = convmixer(1, 1, (8,), ((2, 4, 4),), ((3, 5, 5),), depth=2)
    >>> net(torch.zeros(1, 1, 4, 8, 8)).shape, net.reach
    (torch.Size([1, 1, 4, 8, 8]), (5, 19, 19))
    """
    if not len(features) == len(strides) == len(kernels or [None]) == 1:
        raise RecipeError(
            "a convmixer has one stage: one width, one patch and one kernel",
            "net",
            f"{len(features)} features, {len(strides)} strides",
        )
    (width,), (patch,) = features, strides
    kernel = kernels[0] if kernels else (3,) * len(patch)
    if len(patch) not in CONV or len(kernel) != len(patch):
        raise RecipeError(
            "patch and kernel have a number for each of 2 or 3 axes", "net", (patch, kernel)
        )
    if min(patch) < 1 or any(k < 1 or k % 2 == 0 for k in kernel):
        raise RecipeError("patches are 1 or more, kernels odd", "net", (patch, kernel))
    if width < 1 or depth < 1:
        raise RecipeError("width and depth are 1 or more", "net", (width, depth))
    return ConvMixer(in_channels, num_classes, width, depth, tuple(patch), tuple(kernel), skip)


class ConvMixer(nn.Module):
    """See `convmixer`, which makes it."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        width: int,
        depth: int,
        patch: tuple[int, ...],
        kernel: tuple[int, ...],
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.patch = in_channels, num_classes, patch
        self.reach = tuple(depth * (k // 2) * p + p - 1 for k, p in zip(kernel, patch))
        ndim = len(patch)
        norm = NORM[ndim]
        self.embed = nn.Sequential(
            CONV[ndim](in_channels, width, patch, patch), nn.GELU(), norm(width)
        )
        self.blocks = nn.Sequential(*(Block(width, kernel) for _ in range(depth)))
        self.head = pointwise(width, num_classes * math.prod(patch), ndim)
        self.skip = pointwise(in_channels, num_classes, ndim) if skip else None

    def forward(self, image: Tensor) -> Tensor:
        """(n, in_channels, *spatial) -> logits (n, num_classes, *spatial)."""
        ndim = len(self.patch)
        if image.dim() != ndim + 2 or image.shape[1] != self.in_channels:
            raise ModelError(
                f"the net takes (n, {self.in_channels}, {', '.join('zyx'[-ndim:])})",
                "image",
                f"shape {tuple(image.shape)}",
            )
        if any(n % p or not n for n, p in zip(image.shape[2:], self.patch)):
            raise ModelError(
                "the image must be a multiple of the patch",
                "image",
                tuple(image.shape[2:]),
                f"use multiples of {self.patch}",
            )
        tokens = self.embed(image.contiguous(memory_format=CHANNELS_LAST[ndim]))
        answer = unpatched(self.head(self.blocks(tokens)), self.patch)
        return answer if self.skip is None else answer + self.skip(image)


class Block(nn.Module):
    """Depthwise convolution with its input added, then a pointwise one."""

    def __init__(self, width: int, kernel: tuple[int, ...]) -> None:
        super().__init__()
        norm = NORM[len(kernel)]
        self.space = nn.Sequential(depthwise(width, kernel), nn.GELU(), norm(width))
        self.mix = nn.Sequential(pointwise(width, width, len(kernel)), nn.GELU(), norm(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mix(self.space(tokens) + tokens)


def unpatched(tokens: Tensor, patch: Sequence[int]) -> Tensor:
    """Channels of tokens as voxels: (n, c * prod(patch), *grid) -> (n, c, *grid x patch).

    >>> unpatched(torch.arange(4.0).reshape(1, 4, 1, 1), (2, 2)).tolist()
    [[[[0.0, 1.0], [2.0, 3.0]]]]
    """
    n, channels, *grid = tokens.shape
    ndim = len(patch)
    split = tokens.reshape(n, channels // math.prod(patch), *patch, *grid)
    order = [
        axis for pair in zip(range(2 + ndim, 2 + 2 * ndim), range(2, 2 + ndim)) for axis in pair
    ]
    return split.permute(0, 1, *order).reshape(n, -1, *(size * p for size, p in zip(grid, patch)))


def pointwise(into: int, out: int, ndim: int) -> nn.Module:
    """A convolution with a kernel of one voxel."""
    return Pointwise3d(into, out, 1) if ndim == 3 else nn.Conv2d(into, out, 1)


def depthwise(width: int, kernel: Sequence[int]) -> nn.Module:
    """A convolution of each channel by itself, padded with zeros to keep the size."""
    conv = DepthwiseConv3d if len(kernel) == 3 else nn.Conv2d
    return conv(width, width, tuple(kernel), padding=tuple(k // 2 for k in kernel), groups=width)


class Pointwise3d(nn.Conv3d):
    """`nn.Conv3d` of one voxel as the matrix product that it is: twice as fast on a CPU.

    >>> net, image = Pointwise3d(3, 2, 1), torch.rand(1, 3, 2, 4, 5)
    >>> bool(torch.allclose(net(image), nn.Conv3d.forward(net, image), atol=1e-6))
    True
    """

    def forward(self, values: Tensor) -> Tensor:
        """As `nn.Conv3d`."""
        if values.device.type != "cpu":
            return super().forward(values)
        answer = F.linear(values.movedim(1, -1), self.weight.flatten(1), self.bias)
        return answer.movedim(-1, 1)


class DepthwiseConv3d(nn.Conv3d):
    """Depthwise `nn.Conv3d`, trained several times faster on a CPU.

    Torch's own gradients leave oneDNN's fast kernels. That of the input is the same convolution
    with the kernel turned round; that of the weights is taken slice by slice in 2D.

    >>> net = DepthwiseConv3d(4, 4, 3, padding=1, groups=4)
    >>> image = torch.rand(1, 4, 3, 5, 6)
    >>> bool(torch.allclose(net(image), nn.Conv3d.forward(net, image), atol=1e-6))
    True
    """

    def forward(self, values: Tensor) -> Tensor:
        """As `nn.Conv3d`."""
        learns = torch.is_grad_enabled() and (values.requires_grad or self.weight.requires_grad)
        if values.device.type != "cpu" or values.dtype != torch.float32 or not learns:
            return super().forward(values)
        return _Depthwise.apply(values, self.weight, self.bias)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        pad = [k // 2 for k in weight.shape[2:]]
        return F.conv3d(values, weight, bias, padding=pad, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        values, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        back = None
        if ctx.needs_input_grad[0]:
            pad = [k // 2 for k in weight.shape[2:]]
            turned = weight.flip(2, 3, 4)
            back = F.conv3d(gradient, turned, None, padding=pad, groups=len(weight))
        return back, _weight_gradient(values, gradient, weight.shape), gradient.sum((0, 2, 3, 4))


def _weight_gradient(values: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
    """What each weight did: the sum of the gradient times what the weight was given.

    oneDNN is fast for 3 x 3 alone, so that larger kernels are put together of such.
    """
    reach_z, reach_y, reach_x = (k // 2 for k in shape[2:])
    # At least one voxel around, since windows of 3 x 3 are cut from it.
    room_y, room_x = max(1, reach_y), max(1, reach_x)
    sides = F.pad(values.movedim(1, 2), (room_x, room_x, room_y, room_y))
    slices, depth = gradient.movedim(1, 2), values.shape[2]
    height, width = slices.shape[3:]
    total = gradient.new_zeros(shape)
    for dz in range(-reach_z, reach_z + 1):
        low, high = max(0, -dz), min(depth, depth - dz)
        if low >= high:
            continue
        given = slices[:, low:high].flatten(0, 1)
        for dy in _centres(reach_y):
            for dx in _centres(reach_x):
                top, left = room_y + dy - 1, room_x + dx - 1
                seen = sides[
                    :, low + dz : high + dz, :, top : top + height + 2, left : left + width + 2
                ]
                part = _small_gradient(seen.flatten(0, 1), given)
                ys, from_y = _span(reach_y, dy)
                xs, from_x = _span(reach_x, dx)
                total[:, :, dz + reach_z, ys, xs] = part[:, :, from_y, from_x]
    return total


def _centres(reach: int) -> Sequence[int]:
    """Middles of windows of three that cover -reach..reach.

    >>> [list(_centres(reach)) for reach in range(4)]
    [[0], [0], [-1, 1], [-2, 0, 2]]
    """
    return range(1 - reach, reach, 2) if reach else (0,)


def _span(reach: int, middle: int) -> tuple[slice, slice]:
    """Where a window of three lies in a kernel, and the part of it that does."""
    if not reach:
        return slice(0, 1), slice(1, 2)
    return slice(reach + middle - 1, reach + middle + 2), slice(0, 3)


def _small_gradient(values: Tensor, gradient: Tensor) -> Tensor:
    """Of a depthwise 3 x 3 convolution without padding: (c, 1, 3, 3)."""
    channels = values.shape[1]
    weight = gradient.new_empty((channels, 1, 3, 3))
    none, one = [0, 0], [1, 1]
    _, found, _ = torch.ops.aten.convolution_backward(
        gradient, values, weight, None, one, none, one, False, none, channels, [False, True, False]
    )
    return found
