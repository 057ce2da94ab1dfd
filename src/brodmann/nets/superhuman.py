"""The residual symmetric 3D U-Net of Lee et al. 2017 ("superhuman accuracy" on SNEMI3D)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from brodmann.core import RecipeError, nearest
from brodmann.nets.checks import check_divisible, check_volume_net
from brodmann.nets.layers import ELU, Conv3d, InstanceNorm3d

FEATURES = (28, 36, 48, 64, 80)
STRIDES = ((1, 1, 1), *((1, 2, 2),) * 4)
KERNELS = ((3, 3, 3),) * 5
"""As published, for sections much thicker than pixels are wide."""

NORMS = {"instance": InstanceNorm3d, "batch": nn.BatchNorm3d, "none": None}


def superhuman(
    in_channels: int = 1,
    num_classes: int = 3,
    features: Sequence[int] = FEATURES,
    strides: Sequence[Sequence[int]] = STRIDES,
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    convs_per_stage: int = 3,
    dropout: float = 0.0,
    deep_supervision: bool = False,
    norm: str = "instance",
) -> SuperhumanNet:
    """The residual symmetric U-Net for affinities: ELU, sums in place of concatenations.

    Parameters
    ----------
    in_channels, num_classes : int
        Image channels and answers (affinity offsets) for each voxel.
    features : sequence of int
        Channels of each stage, finest first.
    strides : sequence of (z, y, x)
        Max-pooling on entering each stage; the first is all ones.
    kernels : sequence of (z, y, x), optional
        Kernel of each stage, odd; 3 along every axis by default. Where a stage's own pooling
        leaves z alone, the first convolution of its modules is in the plane whatever its kernel.
    convs_per_stage : int
        Convolutions in a module, 2 or more: one that brings the channels to the stage's number,
        and the rest within the residual connection. Published: 3.
    dropout : float
        Probability with which a channel is dropped after each module, 0 for none.
    deep_supervision : bool
        In training mode, return logits at every scale but the coarsest.
    norm : "instance", "batch" or "none"
        After each convolution. Instance norm, as in the house's other U-Net, does the same in
        training and mapping and does not mind a batch of one. Batch norm, as in later public
        versions, frees a voxel from the statistics of its window, but wants batches large
        enough for its running means, and weights that are no running mean (`ema`).

    Returns
    -------
    nn.Module
        (n, in_channels, *patch) -> logits (n, num_classes, *patch), for any patch divisible by
        the product of strides; with deep supervision, in training, a list, finest first.

    Raises
    ------
    RecipeError
        If an option does not fit.

    Source: Lee et al. 2017; 1.51 M parameters at the published widths, of 1.56 M published. The
    upsampling is a transposed convolution of the stride's size.

    Example
    -------
    >>> net = superhuman(1, 3, (4, 8), ((1, 1, 1), (1, 2, 2)))
    >>> net(torch.zeros(1, 1, 5, 16, 16)).shape
    torch.Size([1, 3, 5, 16, 16])
    """
    check_volume_net("superhuman", features, strides, kernels)
    if convs_per_stage < 2:
        raise RecipeError(
            "a residual module has 2 convolutions or more", "net.convs_per_stage", convs_per_stage
        )
    if norm not in NORMS:
        raise RecipeError("unknown norm", "net.norm", repr(norm), nearest(norm, NORMS))
    kernels = tuple(map(tuple, kernels)) if kernels else ((3, 3, 3),) * len(features)
    return SuperhumanNet(
        in_channels,
        num_classes,
        tuple(features),
        tuple(map(tuple, strides)),
        kernels,
        convs_per_stage,
        dropout,
        deep_supervision,
        norm,
    )


def in_plane(strides: Sequence[Sequence[int]]) -> tuple[bool, ...]:
    """Stages whose pooling (that on leaving; the last: on entering) is coarser in y, x than z.

    >>> in_plane(((1, 1, 1), (1, 2, 2), (2, 2, 2)))
    (True, False, False)
    """
    pools = [*strides[1:], strides[-1]]
    return tuple(z < min(y, x) for z, y, x in pools)


def _conv(into: int, out: int, kernel: Sequence[int], bias: bool) -> Conv3d:
    return Conv3d(into, out, tuple(kernel), padding=tuple(k // 2 for k in kernel), bias=bias)


class Layer(nn.Sequential):
    """Convolution, normalisation, and ELU unless it comes later."""

    def __init__(
        self, into: int, out: int, kernel: Sequence[int], norm: str, active: bool = True
    ) -> None:
        kind = NORMS[norm]
        layers = [_conv(into, out, kernel, bias=kind is None)]
        if kind is not None:
            layers.append(kind(out, affine=True))
        if active:
            layers.append(ELU())
        super().__init__(*layers)


class ResidualModule(nn.Module):
    """One convolution, then some more whose answer is added to it."""

    def __init__(
        self,
        into: int,
        out: int,
        kernel: Sequence[int],
        flat: bool,
        convs: int,
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        first = (1, *kernel[1:]) if flat else kernel
        self.first = Layer(into, out, first, norm)
        self.rest = nn.Sequential(
            *(Layer(out, out, kernel, norm, active=i < convs - 1) for i in range(1, convs))
        )
        self.last = ELU()
        self.dropout = nn.Dropout3d(dropout) if dropout else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        values = self.first(values)
        return self.dropout(self.last(values + self.rest(values)))


class SuperhumanNet(nn.Module):
    """See `superhuman`, which makes it."""

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
        norm: str,
    ) -> None:
        super().__init__()
        self.in_channels, self.strides = in_channels, strides
        self.deep_supervision, self.alone = deep_supervision, norm != "instance"
        flat = in_plane(strides)
        wide = (1 if flat[0] else 5, 5, 5)
        module = [
            {"kernel": kernel, "flat": f, "convs": convs, "norm": norm, "dropout": dropout}
            for kernel, f in zip(kernels, flat)
        ]
        widths = (features[0], *features)
        self.embed = Layer(in_channels, features[0], wide, norm)
        self.encoder = nn.ModuleList(
            ResidualModule(into, out, **m) for (into, out), m in zip(pairwise(widths), module)
        )
        self.pools = nn.ModuleList(nn.MaxPool3d(s) for s in strides[1:])
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, s, s)
            for (fine, coarse), s in zip(pairwise(features), strides[1:])
        )
        self.decoder = nn.ModuleList(
            ResidualModule(f, f, **m) for f, m in zip(features[:-1], module)
        )
        self.last = Layer(features[0], features[0], wide, norm)
        answers = len(features) - 1 if deep_supervision else 1
        self.heads = nn.ModuleList(
            nn.Conv3d(f, num_classes, 1) for f in features[: max(1, answers)]
        )
        self.apply(_initialise)
        # Half as long on a CPU as with channels before space.
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """(n, in_channels, z, y, x) -> logits (n, num_classes, z, y, x), or a list of them."""
        check_divisible(image, self.strides, self.in_channels, self.alone)
        values = self.encoder[0](self.embed(image))
        skips = []
        for pool, stage in zip(self.pools, self.encoder[1:]):
            skips.append(values)
            values = stage(pool(values))
        answers = []
        supervised = self.training and self.deep_supervision
        for i in reversed(range(len(skips))):
            values = self.decoder[i](self.enlarge[i](values) + skips.pop())
            if i and supervised:
                answers.append(self.heads[i](values))
        answers.append(self.heads[0](self.last(values)))
        return answers[::-1] if supervised else answers[-1]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
