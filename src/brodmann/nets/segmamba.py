"""SegMamba: a U-Net whose encoder mixes whole volumes by scans along three orders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from brodmann.core import RecipeError
from brodmann.nets.checks import check_divisible, check_volume_net
from brodmann.nets.layers import Conv3d, InstanceNorm3d
from brodmann.nets.mamba import FORWARD, REVERSE, Mixer, through_slices
from brodmann.nets.scan import CHUNK

FEATURES = (48, 96, 192, 384, 768)
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 4)
DEPTH = 2
"""As published."""


def segmamba(
    in_channels: int = 1,
    num_classes: int = 3,
    features: Sequence[int] = FEATURES,
    strides: Sequence[Sequence[int]] = STRIDES,
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    convs_per_stage: int = 2,
    dropout: float = 0.0,
    deep_supervision: bool = False,
    depth: int | Sequence[int] = DEPTH,
    uncertainty: bool = True,
    recurrence: str = "mamba2",
    state: int = 16,
    conv: int = 4,
    expand: int = 2,
    head_dim: int = 64,
    chunk: int = CHUNK,
) -> SegMamba:
    """SegMamba on the scan of this package.

    Parameters
    ----------
    in_channels, num_classes : int
    features : sequence of int
        Channels of the decoder at each stage, finest first, two stages or more. Scans at stage
        i run in ``features[i - 1]`` channels, and there is none at the finest stage, as
        published (48, 96, 192, 384 of 48 to 768).
    strides : sequence of (z, y, x)
        Down-sampling on entering each stage; the first is all ones. Any are taken; published
        are 2 along every axis.
    kernels : sequence of (z, y, x), optional
        Kernel of the convolutions of each stage, odd; 3 along every axis by default.
    convs_per_stage : int
        Convolutions in each residual block of skip and decoder.
    dropout : float
        Probability with which a channel is dropped after such a block, 0 for none.
    deep_supervision : bool
        In training mode, return logits at every scale but the coarsest.
    depth : int, or one for each stage but the finest
        Scans, one after another, between a stage's gated convolution and its perceptron.
    uncertainty : bool
        Weight each encoder's answer by how sure its mean activation is, as published; False
        passes it on plainly.
    recurrence, state, conv, expand, head_dim, chunk
        As for `Mixer`. Published: "mamba1".

    Returns
    -------
    nn.Module
        (n, in_channels, *patch) -> logits (n, num_classes, *patch), for any patch divisible by
        the product of strides; with deep supervision, in training, a list, finest first.

    Raises
    ------
    RecipeError
        If an option does not fit.

    Source: Xing et al. 2024: stem of width 7, gated spatial convolution,
    scans forward, in reverse and from slice to slice, residual decoder as of UNETR. The
    recurrence is Mamba-2's by default, which is many times faster.

    Example
    -------
    >>> net = segmamba(1, 3, (4, 8, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), depth=1)
    >>> net(torch.zeros(1, 1, 4, 16, 16)).shape
    torch.Size([1, 3, 4, 16, 16])
    """
    check_volume_net("segmamba", features, strides, kernels)
    coarser = len(features) - 1
    if coarser < 1:
        raise RecipeError("segmamba has two stages or more", "net.features", list(features))
    depths = (depth,) * coarser if isinstance(depth, int) else tuple(depth)
    if len(depths) != coarser or min(depths) < 1:
        raise RecipeError(
            f"depth is 1 or more for each of {coarser} stages", "net.depth", list(depths)
        )
    if convs_per_stage < 1:
        raise RecipeError(
            "a block has at least one convolution", "net.convs_per_stage", convs_per_stage
        )
    options = {"state": state, "conv": conv, "expand": expand, "head_dim": head_dim}
    options |= {"recurrence": recurrence, "chunk": chunk}
    return SegMamba(
        in_channels,
        num_classes,
        tuple(features),
        tuple(map(tuple, strides)),
        tuple(map(tuple, kernels)) if kernels else ((3, 3, 3),) * len(features),
        convs_per_stage,
        dropout,
        deep_supervision,
        depths,
        uncertainty,
        options,
    )


def _conv(into: int, out: int, kernel: Sequence[int]) -> Conv3d:
    # No bias: instance norm, which always follows, would take it out.
    return Conv3d(into, out, tuple(kernel), padding=tuple(k // 2 for k in kernel), bias=False)


def _layer(into: int, out: int, kernel: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(_conv(into, out, kernel), InstanceNorm3d(out, affine=True), nn.ReLU())


class GatedConv(nn.Module):
    """What is near, before what is far: values + conv(conv(values) * 1x1 conv(values))."""

    def __init__(self, channels: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.near = _layer(channels, channels, kernel)
        self.gate = _layer(channels, channels, (1, 1, 1))
        self.merge = _layer(channels, channels, kernel)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.merge(self.near(values) * self.gate(values))


class TriOriented(nn.Module):
    """A gated convolution, scans along three orders, and a perceptron at each voxel; residual."""

    def __init__(
        self, channels: int, kernel: Sequence[int], depth: int, **options: int | str
    ) -> None:
        super().__init__()
        self.gated = GatedConv(channels, kernel)
        self.scan_norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(depth))
        self.mixers = nn.ModuleList(Mixer(channels, directions=3, **options) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, values: Tensor) -> Tensor:
        """(n, c, z, y, x) -> the same shape."""
        values = self.gated(values)
        shape = values.shape[2:]
        sequence = values.flatten(2).transpose(1, 2)
        orders = (FORWARD, REVERSE, through_slices(shape[0]))
        for norm, mixer in zip(self.scan_norms, self.mixers):
            sequence = sequence + mixer(norm(sequence), orders)
        sequence = sequence + self.perceptron(self.norm(sequence))
        return sequence.transpose(1, 2).unflatten(2, shape)


class ResidualBlock(nn.Module):
    """Convolutions with instance norm, added to their input (projected where channels change)."""

    def __init__(
        self, into: int, out: int, kernel: Sequence[int], convs: int, dropout: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(convs):
            layers += [_conv(out if i else into, out, kernel), InstanceNorm3d(out, affine=True)]
            if i < convs - 1:
                layers.append(nn.LeakyReLU(inplace=True))
        self.convs = nn.Sequential(*layers)
        self.passed: nn.Module = nn.Identity()
        if into != out:
            self.passed = nn.Sequential(
                _conv(into, out, (1, 1, 1)), InstanceNorm3d(out, affine=True)
            )
        self.last = nn.LeakyReLU()
        self.dropout = nn.Dropout3d(dropout) if dropout else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        return self.dropout(self.last(self.convs(values) + self.passed(values)))


def surer(values: Tensor) -> Tensor:
    """Features weighted by how sure they are: values * (2 - u), u the entropy of a mean channel.

    u = -p log p, with p the sigmoid of the mean over channels; Xing et al. 2024.

    >>> values = torch.full((1, 2, 1, 1, 1), 30.0)
    >>> surer(values).flatten().tolist()
    [60.0, 60.0]
    """
    mean = values.mean(1, keepdim=True)
    p = mean.sigmoid()
    return values * (2 + p * nn.functional.logsigmoid(mean))


class SegMamba(nn.Module):
    """See `segmamba`, which makes it."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        features: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        kernels: tuple[tuple[int, ...], ...],
        convs: int,
        dropout: float,
        deep_supervision: bool,
        depths: tuple[int, ...],
        uncertainty: bool,
        options: dict[str, int | str],
    ) -> None:
        super().__init__()
        self.in_channels, self.strides, self.uncertainty = in_channels, strides, uncertainty
        self.deep_supervision = deep_supervision
        block = {"convs": convs, "dropout": dropout}
        widths = features[:-1]
        first = tuple(7 if s > 1 else 3 for s in strides[1])
        stem = nn.Conv3d(in_channels, widths[0], first, strides[1], tuple(k // 2 for k in first))
        self.down = nn.ModuleList([stem])
        for (fine, coarse), stride in zip(pairwise(widths), strides[2:]):
            self.down.append(
                nn.Sequential(
                    InstanceNorm3d(fine, affine=True), nn.Conv3d(fine, coarse, stride, stride)
                )
            )
        self.stages = nn.ModuleList(
            TriOriented(width, kernel, depth, **options)
            for width, kernel, depth in zip(widths, kernels[1:], depths)
        )
        self.skips = nn.ModuleList(
            ResidualBlock(into, out, kernel, **block)
            for into, out, kernel in zip((in_channels, *widths), features, kernels)
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, s, s)
            for (fine, coarse), s in zip(pairwise(features), strides[1:])
        )
        self.decoder = nn.ModuleList(
            ResidualBlock(2 * f, f, kernel, **block) for f, kernel in zip(features[:-1], kernels)
        )
        answers = len(features) - 1 if deep_supervision else 1
        self.heads = nn.ModuleList(nn.Conv3d(f, num_classes, 1) for f in features[:answers])
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """(n, in_channels, z, y, x) -> logits (n, num_classes, z, y, x), or a list of them."""
        check_divisible(image, self.strides, self.in_channels)
        skips, values = [self.skips[0](image)], image
        for down, stage, skip in zip(self.down, self.stages, self.skips[1:]):
            values = stage(down(values))
            skips.append(skip(surer(values) if self.uncertainty else values))
        values, answers = skips.pop(), []
        supervised = self.training and self.deep_supervision
        for i in reversed(range(len(skips))):
            values = self.decoder[i](torch.cat([self.enlarge[i](values), skips.pop()], 1))
            if not i or supervised:
                answers.append(self.heads[i](values))
        return answers[::-1] if supervised else answers[-1]
