"""V-Net with one stage less: large kernels, residual stages, small enough for shallow volumes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from brodmann.core import RecipeError, nearest
from brodmann.nets.checks import check_divisible, check_volume_net
from brodmann.nets.layers import ELU, Conv3d, InstanceNorm3d

FEATURES = (16, 32, 64, 128)
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 3)
"""V-Net's own without its last stage of 256."""
MOST_CONVS = 3
"""Convolutions of the deep stages; the first have 1, 2, ..."""
NORMS = {"instance": InstanceNorm3d, "batch": nn.BatchNorm3d}


def vnet_light(
    in_channels: int = 1,
    num_classes: int = 3,
    features: Sequence[int] = FEATURES,
    strides: Sequence[Sequence[int]] = STRIDES,
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    dropout: float = 0.0,
    kernel: int = 5,
    norm: str = "instance",
) -> VNetLight:
    """A light V-Net for volumes, also for those of few slices.

    Each stage adds its input to what its convolutions make of it. Learned strided convolutions
    lead down and transposed ones up, and a stage on the way up works on as many channels from
    below as come across.

    Parameters
    ----------
    in_channels, num_classes : int
    features : sequence of int
        Channels of each stage on the way down, finest first; twice as many on the way up.
    strides : sequence of (z, y, x)
        On entering each stage; the first is all ones. The planner's leave z as it is where a
        volume has few slices: eight are halved once.
    kernels : sequence of (z, y, x), optional
        The plan's: where one is 1 along an axis (thick slices), the stage's kernel is 1 there.
    dropout : float
        Probability with which a channel is dropped after each stage, 0 for none.
    kernel : int
        Odd side of the kernels; V-Net's is 5.
    norm : "instance" or "batch"
        After each convolution; the net of 2016 has none.

    Returns
    -------
    nn.Module
        (n, in_channels, *patch) -> logits (n, num_classes, *patch), for any patch that the
        product of strides divides.

    Raises
    ------
    RecipeError
        If an option does not fit.

    Source: Milletari et al. 2016; MTNeuro section 4.2 names the light variant, which leaves out
    the stage of 256 channels.

    Example
    -------
    >>> net = vnet_light(1, 4, (4, 8), ((1, 1, 1), (1, 2, 2)))
    >>> net(torch.zeros(1, 1, 8, 16, 16)).shape
    torch.Size([1, 4, 8, 16, 16])
    """
    check_volume_net("vnet-light", features, strides, kernels)
    if len(features) < 2:
        raise RecipeError("a V-Net has two stages or more", "net.features", list(features))
    if kernel < 1 or kernel % 2 == 0:
        raise RecipeError("kernels are odd", "net.options.kernel", kernel)
    if norm not in NORMS:
        raise RecipeError("unknown norm", "net.options.norm", repr(norm), nearest(norm, NORMS))
    planned = kernels or ((3, 3, 3),) * len(features)
    return VNetLight(
        in_channels,
        num_classes,
        tuple(features),
        tuple(map(tuple, strides)),
        tuple(tuple(1 if k == 1 else kernel for k in sides) for sides in planned),
        norm,
        dropout,
    )


class Layer(nn.Sequential):
    """Convolution, normalisation, ELU."""

    def __init__(self, conv: nn.Module, out: int, norm: str) -> None:
        super().__init__(conv, NORMS[norm](out, affine=True), ELU())


class Stage(nn.Module):
    """Convolutions of one width, added to their input."""

    def __init__(
        self, width: int, kernel: tuple[int, ...], convs: int, norm: str, dropout: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(convs):
            layers += [_conv(width, width, kernel), NORMS[norm](width, affine=True)]
            if i < convs - 1:
                layers.append(ELU())
        self.convs, self.last = nn.Sequential(*layers), ELU()
        self.dropout = nn.Dropout3d(dropout) if dropout else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        return self.dropout(self.last(values + self.convs(values)))


class VNetLight(nn.Module):
    """See `vnet_light`, which makes it."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        features: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        kernels: tuple[tuple[int, ...], ...],
        norm: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.in_channels, self.strides, self.alone = in_channels, strides, norm != "instance"
        first = features[0]
        self.embed = nn.Sequential(
            _conv(in_channels, first, kernels[0]), NORMS[norm](first, affine=True)
        )
        # V-Net copies a single channel to every feature; of several, each is copied as often.
        self.copies = -(-first // in_channels)
        self.enter = ELU()
        self.down, self.encoder = nn.ModuleList(), nn.ModuleList()
        for level, (fine, coarse) in enumerate(pairwise(features), start=1):
            stride = strides[level]
            self.down.append(Layer(nn.Conv3d(fine, coarse, stride, stride), coarse, norm))
            self.encoder.append(
                Stage(coarse, kernels[level], min(level, MOST_CONVS), norm, dropout)
            )
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        below = features[-1]
        for level in reversed(range(len(features) - 1)):
            fine, stride = features[level], strides[level + 1]
            self.up.append(Layer(nn.ConvTranspose3d(below, fine, stride, stride), fine, norm))
            below = 2 * fine
            convs = min(max(level, 1), MOST_CONVS)
            self.decoder.append(Stage(below, kernels[level], convs, norm, dropout))
        self.head = nn.Conv3d(below, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(n, in_channels, z, y, x) -> logits (n, num_classes, z, y, x)."""
        check_divisible(image, self.strides, self.in_channels, self.alone)
        embedded = self.embed(image)
        copied = image.repeat(1, self.copies, 1, 1, 1)[:, : embedded.shape[1]]
        values = self.enter(embedded + copied)
        skips = []
        for down, stage in zip(self.down, self.encoder):
            skips.append(values)
            values = stage(down(values))
        for up, stage in zip(self.up, self.decoder):
            values = stage(torch.cat((up(values), skips.pop()), 1))
        return self.head(values)


def _conv(into: int, out: int, kernel: tuple[int, ...]) -> Conv3d:
    return Conv3d(into, out, kernel, padding=tuple(k // 2 for k in kernel))
