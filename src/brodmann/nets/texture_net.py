"""A narrow, shallow net for texture: little to overfit with, cheap enough for a laptop."""

from __future__ import annotations

from torch import Tensor, nn

STRIDES = (1, 2, 2, 2, 1, 1)
WIDENING = 2
"""Layers after the first that double the width."""


class TextureNet(nn.Module):
    """Six convolutions, 8 x fewer pixels a side, and the mean over space.

    Parameters
    ----------
    in_channels : int
    width : int
        Of the first layer; the last is four times as wide.

    Each convolution (5 x 5 first, then 3 x 3) is followed by batch norm and ReLU. A position of
    the last layer sees 51 pixels, so the mean tells what tissue looks like, not where its parts lie.

    Example
    -------
    >>> import torch
    >>> TextureNet()(torch.rand(2, 1, 32, 32)).shape
    torch.Size([2, 128])
    """

    def __init__(self, in_channels: int = 1, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for number, stride in enumerate(STRIDES):
            after = width * 2 ** min(number, WIDENING)
            kernel = 3 if number else 5
            layers += [
                nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            before = after
        self.layers = nn.Sequential(*layers)
        self.length = before

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))
