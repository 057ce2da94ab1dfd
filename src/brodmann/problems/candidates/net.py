"""A small residual net for cubes: one number for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

FEATURES = (16, 32, 64)


class Residual(nn.Module):
    """Two convolutions beside a way around them; halves every axis (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm3d(outputs),
        )
        self.around = nn.Sequential(
            nn.AvgPool3d(2, 2, ceil_mode=True, count_include_pad=False),
            nn.Conv3d(inputs, outputs, 1, bias=False),
            nn.BatchNorm3d(outputs),
        )

    def forward(self, cubes: Tensor) -> Tensor:
        return (self.body(cubes) + self.around(cubes)).relu()


class ResidualCubes(nn.Module):
    """Cubes (n, channels, z, y, x) float32 of any size -> logits (n,).

    The stem halves y and x, each further stage every axis; then the mean and the highest of
    each feature over the cube decide, together with the values in the very middle, from which
    it sets out: with blobs among the channels the untrained net is a linear classifier of them.
    A further channel says where the middle is, since a cell beside it is none.

    Example
    -------
    >>> import torch
    >>> net = ResidualCubes(2).eval()
    >>> net(torch.zeros(3, 2, 8, 32, 32)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([3]), 211955)
    """

    def __init__(self, channels: int, features: Sequence[int] = FEATURES) -> None:
        super().__init__()
        first, *_, last = features
        self.stem = nn.Sequential(
            nn.Conv3d(channels + 1, first, 3, (1, 2, 2), 1, bias=False),
            nn.BatchNorm3d(first),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(*(Residual(a, b) for a, b in pairwise(features)))
        self.head = nn.Linear(2 * last, 1)
        self.skip = nn.Linear(channels, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, cubes: Tensor) -> Tensor:
        where = middle(cubes.shape[2:]).to(cubes).expand(len(cubes), 1, *cubes.shape[2:])
        found = self.stages(self.stem(torch.cat([cubes, where], 1))).flatten(2)
        centre = cubes[(slice(None), slice(None), *(n // 2 for n in cubes.shape[2:]))]
        answer = self.head(torch.cat([found.mean(2), found.amax(2)], 1)) + self.skip(centre)
        return answer[:, 0]


def middle(shape: Sequence[int]) -> Tensor:
    """A Gaussian about voxel n // 2, an eighth of each side wide; `shape` float32.

    >>> [round(float(n), 2) for n in middle((1, 1, 8))[0, 0, 3:6]]
    [0.61, 1.0, 0.61]
    """
    axes = [((torch.arange(n) - n // 2) / (n / 8)) ** 2 for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.exp(-(z + y + x) / 2)


def build_crop_net(options: dict[str, Any], channels: int) -> nn.Module:
    """The net that `options` (features) name."""
    return ResidualCubes(channels, tuple(int(n) for n in options["features"]))
