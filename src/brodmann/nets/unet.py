"""Plain-convolution U-Net, 2D and 3D, with an answer at every scale for deep supervision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}


def plain_unet(
    in_channels: int,
    num_classes: int,
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    convs_per_stage: int = 2,
    dropout: float = 0.0,
    deep_supervision: bool = True,
) -> PlainConvUNet:
    """The U-Net of nnU-Net: convolution, InstanceNorm, LeakyReLU, twice in each stage.

    Parameters
    ----------
    in_channels, num_classes : int
    features : sequence of int
        Channels of each stage, finest first.
    strides : sequence of sequence of int
        Down-sampling on entering each stage, one number an axis; the first is all ones.
    kernels : sequence of sequence of int, optional
        Kernel of each stage; 3 along every axis by default.
    convs_per_stage : int
        Convolutions in each stage of encoder and decoder.
    dropout : float
        Probability with which a channel is dropped, 0 for none.
    deep_supervision : bool
        In training mode, return logits at every scale but the coarsest.

    Returns
    -------
    nn.Module
        (n, in_channels, *patch) float32 -> a list of logits (n, num_classes, *patch / scale),
        finest first, or only the finest when deep supervision is off
        (`net.decoder.deep_supervision = False`).

    Source: Isensee et al. 2024, built by their Apache-2.0 `dynamic-network-architectures`.

    Example
    -------
    >>> net = plain_unet(1, 3, (4, 8), ((1, 1), (2, 2)), deep_supervision=False)
    >>> net(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
    """
    ndim = len(strides[0])
    net = PlainConvUNet(
        in_channels,
        len(features),
        list(features),
        CONV[ndim],
        [list(k) for k in kernels] if kernels else 3,
        [list(s) for s in strides],
        convs_per_stage,
        num_classes,
        convs_per_stage,
        conv_bias=True,
        norm_op=NORM[ndim],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        dropout_op=DROPOUT[ndim] if dropout else None,
        dropout_op_kwargs={"p": dropout} if dropout else None,
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    return net.apply(PlainConvUNet.initialize)


def finest_features(net: PlainConvUNet, image: torch.Tensor) -> torch.Tensor:
    """What the finest 1x1 convolution is given: (n, c, *patch) -> (n, features[0], *patch).

    ``net.decoder.seg_layers[-1]`` makes the logits of it. Each skip connection is let go of
    once it is used, so that less is held than in the net's own forward pass.

    Example
    -------
    >>> net = plain_unet(1, 3, (4, 8), ((1, 1), (2, 2)), deep_supervision=False).eval()
    >>> image = torch.rand(1, 1, 16, 16)
    >>> logits = net.decoder.seg_layers[-1](finest_features(net, image))
    >>> bool(torch.allclose(logits, net(image), atol=1e-5))
    True
    """
    skips = net.encoder(image)
    values = skips.pop()
    for enlarge, stage in zip(net.decoder.transpconvs, net.decoder.stages):
        values = stage(torch.cat((enlarge(values), skips.pop()), 1))
    return values


def feature_map_size(net: PlainConvUNet, patch: Sequence[int]) -> int:
    """Values held by all feature maps for one patch, the planner's measure of memory."""
    return int(net.compute_conv_feature_map_size(list(patch)))


def on_meta(**options: object) -> PlainConvUNet:
    """The same net without weights, for arithmetic on its shape."""
    with torch.device("meta"):
        return plain_unet(**options)
