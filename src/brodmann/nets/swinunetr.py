"""MONAI's SwinUNETR behind the house's factory signature."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from brodmann.core import BrodmannError, RecipeError
from brodmann.nets.checks import check_divisible, check_volume_net

FEATURES = (48, 48, 96, 192, 384, 768)
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 5)
"""As published; nothing but the first number can be chosen, and no stride."""


def swinunetr(
    in_channels: int = 1,
    num_classes: int = 3,
    features: Sequence[int] = FEATURES,
    strides: Sequence[Sequence[int]] = STRIDES,
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    convs_per_stage: int = 2,
    dropout: float = 0.0,
    deep_supervision: bool = False,
    depths: Sequence[int] = (2, 2, 2, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    window: int = 7,
    v2: bool = False,
    checkpointing: bool = False,
) -> nn.Module:
    """SwinUNETR: windowed attention in the encoder, convolutions in the decoder.

    Parameters
    ----------
    in_channels, num_classes : int
    features : sequence of int
        (f, f, 2f, 4f, 8f, 16f), f a multiple of 12: MONAI's feature size, published 48 or 24.
    strides : sequence of (z, y, x)
        All ones, then five times 2 along every axis. The net merges 2 x 2 x 2 tokens at a time
        and cannot leave an axis out: thick sections are halved as often as pixels are, so a
        patch is a multiple of 32 along z too (64 x 96 x 96 and the like).
    kernels : sequence of (z, y, x), optional
        3 along every axis.
    convs_per_stage : 2
        Fixed in its residual blocks.
    dropout : float
        Of tokens and projections, 0 for none.
    deep_supervision : False
        The net has one answer.
    depths, heads : sequence of four int
        Blocks and attention heads of each encoder stage.
    window : int
        Tokens along each axis of an attention window.
    v2 : bool
        A residual convolution before each stage (SwinUNETR-V2).
    checkpointing : bool
        Compute the encoder twice in training to hold less in memory.

    Returns
    -------
    nn.Module
        (n, in_channels, *patch) -> logits (n, num_classes, *patch); patches are multiples of 32.

    Raises
    ------
    RecipeError
        If an option asks for what the net cannot do.
    BrodmannError
        If MONAI is not installed.

    Source: Hatamizadeh et al. 2022; MONAI's code (Apache-2.0).

    Example
    -------
    >>> net = swinunetr(1, 3, (12, 12, 24, 48, 96, 192), depths=(1, 1, 1, 1))
    >>> sum(p.numel() for p in net.parameters()) > 1_000_000
    True
    """
    check_volume_net("swinunetr", features, strides, kernels)
    base = features[0]
    expected = [base, *(base * 2**i for i in range(5))]
    refused = [
        (
            "SwinUNETR halves every axis five times; it has no anisotropic strides",
            "net.strides",
            [list(s) for s in strides],
            [list(s) for s in strides] != [list(s) for s in STRIDES],
            f"give {[list(s) for s in STRIDES]}, or take superhuman or segmamba",
        ),
        (
            "SwinUNETR doubles its features, from a multiple of 12",
            "net.features",
            list(features),
            base % 12 != 0 or list(features) != expected,
            f"give {[base - base % 12 or 12, *((base - base % 12 or 12) * 2**i for i in range(5))]}",
        ),
        (
            "SwinUNETR's kernels are 3 along every axis",
            "net.kernels",
            kernels,
            kernels is not None and any(n != 3 for k in kernels for n in k),
            None,
        ),
        (
            "SwinUNETR has two convolutions in a block",
            "net.convs_per_stage",
            convs_per_stage,
            convs_per_stage != 2,
            None,
        ),
        (
            "SwinUNETR has one answer and no deep supervision",
            "net.deep_supervision",
            deep_supervision,
            deep_supervision,
            None,
        ),
        (
            "SwinUNETR has four encoder stages, with a depth and heads that divide features",
            "net.depths, net.heads",
            (list(depths), list(heads)),
            len(depths) != 4
            or len(heads) != 4
            or min(*depths, *heads) < 1
            or any(base * 2**i % h for i, h in enumerate(heads)),
            None,
        ),
        ("an attention window has at least one token", "net.window", window, window < 1, None),
    ]
    for what, where, found, wrong, fix in refused:
        if wrong:
            raise RecipeError(what, where, found, fix)
    try:
        from monai.networks.nets import SwinUNETR
    except ImportError as error:
        raise BrodmannError(
            "SwinUNETR needs MONAI", "net.kind", error, "pip install 'brodmann[bench]'"
        ) from error
    net = SwinUNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        feature_size=base,
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_size=window,
        drop_rate=dropout,
        use_v2=v2,
        use_checkpoint=checkpointing,
        spatial_dims=3,
    )
    net.register_forward_pre_hook(partial(_check, in_channels))
    return net


def _check(in_channels: int, net: nn.Module, args: tuple[Tensor, ...]) -> None:
    check_divisible(args[0], STRIDES, in_channels)
