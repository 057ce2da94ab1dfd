"""HighResNet: full resolution throughout, and a view that dilated convolutions widen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from brodmann.core import ModelError, RecipeError, nearest

FEATURES = (16, 32, 64)
BLOCKS = 3
"""Residual blocks of each stage."""
JOINED = 80
"""Channels before the answer, of widths that start at 16: five times the first."""
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
NORMS = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}


def highresnet(
    in_channels: int = 1,
    num_classes: int = 3,
    features: Sequence[int] = FEATURES,
    strides: Sequence[Sequence[int]] = ((1, 1, 1),),
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    dropout: float = 0.0,
    stages: int = 3,
    norm: str = "instance",
) -> HighResNet:
    """The compact net of Li et al.: nothing is ever made smaller.

    Three stages of three residual blocks; a block is twice norm, ReLU, convolution. Kernels
    are spread by 1, 2 and 4 voxels in the stages, so that a voxel sees 87 along each axis.

    Parameters
    ----------
    in_channels, num_classes : int
    features : sequence of int
        The plan's; the first `stages` of them are the widths. Published: 16, 32, 64.
    strides : sequence of (z, y, x) or (y, x)
        The plan's. The net has none; how many axes they have makes it 2D or 3D.
    kernels : sequence, optional
        The plan's, odd; those of the first `stages`. 3 along every axis by default.
    dropout : float
        Share of channels dropped before the answer, 0 for none.
    stages : int
        Published: 3; each further one doubles the spread.
    norm : "instance" or "batch"
        Published: batch, for which batches must be large.

    Returns
    -------
    nn.Module
        (n, in_channels, *patch) -> logits (n, num_classes, *patch), for any patch. All feature
        maps are as large as the patch: plan small ones.

    Raises
    ------
    RecipeError
        If an option does not fit.

    Source: Li et al. 2017 (NiftyNet's HighRes3DNet), 0.8 M parameters.

    Example
    -------
    >>> import torch
    >>> net = highresnet(1, 4, (4, 8, 16), ((1, 1, 1),))
    >>> net(torch.zeros(1, 1, 8, 9, 10)).shape
    torch.Size([1, 4, 8, 9, 10])
    """
    ndim = len(strides[0])
    if ndim not in CONV:
        raise RecipeError("highresnet is 2D or 3D", "net.strides", [list(s) for s in strides])
    if not 1 <= stages <= len(features):
        raise RecipeError(
            f"the plan has widths for 1 to {len(features)} stages",
            "net.options.stages",
            stages,
            "plan a larger patch, or fewer stages",
        )
    if norm not in NORMS:
        raise RecipeError("unknown norm", "net.options.norm", repr(norm), nearest(norm, NORMS))
    widths = tuple(features[:stages])
    if any(a > b for a, b in pairwise(widths)):
        raise RecipeError(
            "widths never fall: new channels are added to the old", "net.features", list(widths)
        )
    sides = [tuple(k) for k in kernels] if kernels else [(3,) * ndim] * stages
    if len(sides) < stages or any(len(k) != ndim or n % 2 == 0 for k in sides for n in k):
        raise RecipeError("kernels are odd, one for each stage", "net.kernels", sides)
    return HighResNet(in_channels, num_classes, widths, sides[:stages], dropout, norm)


class Block(nn.Module):
    """Twice norm, ReLU and convolution, added to the input, between as many channels of zeros."""

    def __init__(
        self, into: int, out: int, kernel: tuple[int, ...], spread: int, norm: str
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (into, out):
            layers += [
                NORMS[norm][len(kernel)](channels, affine=True),
                nn.ReLU(),
                _conv(channels, out, kernel, spread),
            ]
        self.layers = nn.Sequential(*layers)
        before = (out - into) // 2
        self.missing = (before, out - into - before)

    def forward(self, values: Tensor) -> Tensor:
        answer = self.layers(values)
        if any(self.missing):
            values = F.pad(values, (*(0, 0) * (values.dim() - 2), *self.missing))
        return answer + values


class HighResNet(nn.Module):
    """See `highresnet`, which makes it."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: tuple[int, ...],
        kernels: Sequence[tuple[int, ...]],
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__()
        ndim, first = len(kernels[0]), widths[0]
        self.in_channels, self.ndim = in_channels, ndim
        joined = JOINED * first // FEATURES[0]
        layers: list[nn.Module] = [
            _conv(in_channels, first, kernels[0], 1),
            NORMS[norm][ndim](first, affine=True),
            nn.ReLU(),
        ]
        into = first
        for level, (width, kernel) in enumerate(zip(widths, kernels)):
            for _ in range(BLOCKS):
                layers.append(Block(into, width, kernel, 2**level, norm))
                into = width
        layers += [
            CONV[ndim](into, joined, 1, bias=False),
            NORMS[norm][ndim](joined, affine=True),
            nn.ReLU(),
        ]
        if dropout:
            layers.append(DROPOUT[ndim](dropout))
        layers.append(CONV[ndim](joined, num_classes, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """(n, in_channels, *patch) -> logits (n, num_classes, *patch)."""
        if image.dim() != self.ndim + 2 or image.shape[1] != self.in_channels:
            raise ModelError(
                f"the net takes (n, {self.in_channels}, {'z, y, x' if self.ndim == 3 else 'y, x'})",
                "image",
                tuple(image.shape),
            )
        return self.layers(image)


def _conv(into: int, out: int, kernel: tuple[int, ...], spread: int) -> nn.Module:
    padding = tuple(k // 2 * spread for k in kernel)
    return CONV[len(kernel)](into, out, kernel, padding=padding, dilation=spread, bias=False)
