"""ResNet-18 for small grey images: a 3 x 3 stem that keeps their resolution."""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 512
"""Length of the representation, the mean over space of the last stage."""


def resnet18(in_channels: int = 1, *, stem: str = "small") -> nn.Module:
    """The encoder: images (n, c, h, w) float32 -> representations (n, 512).

    Parameters
    ----------
    in_channels : int
    stem : "small" or "large"
        `small` is a 3 x 3 convolution of stride 1 without max-pooling, as the MTNeuro paper
        and its kin use on crops of 16 to 128 pixels; `large` the original 7 x 7 of stride 2
        with max-pooling, sixteen times cheaper.

    Raises
    ------
    ValueError
        If there is no such stem.

    Source: He et al. 2016; stem: specs mtneuro, Task 1.

    Example
    -------
    >>> import torch
    >>> resnet18()(torch.rand(2, 1, 16, 16)).shape
    torch.Size([2, 512])
    """
    from torchvision.models import resnet18 as original

    if stem not in ("small", "large"):
        raise ValueError(f"no such stem: {stem!r}; small or large")
    net = original(weights=None)
    if stem == "small":
        net.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        net.maxpool = nn.Identity()
    else:
        net.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.fc = nn.Identity()
    return net


class Classifier(nn.Module):
    """An encoder with dropout and a linear layer: (n, c, h, w) -> logits (n, classes).

    `features` is the length of what the encoder hands on.
    """

    def __init__(
        self, encoder: nn.Module, classes: int, dropout: float = 0.0, features: int = FEATURES
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))
