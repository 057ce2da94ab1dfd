"""What nets for volumes refuse, in the same words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from brodmann.core import ModelError, RecipeError


def check_volume_net(
    name: str,
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]] | None,
) -> None:
    """Refuse a plan that no 3D encoder and decoder can be built of."""
    if len(strides) != len(features) or any(len(s) != 3 for s in strides):
        raise RecipeError(
            f"{name} takes volumes: a stride (z, y, x) for each of its {len(features)} stages",
            "net.strides",
            [list(s) for s in strides],
            "use plain-unet for sections",
        )
    if any(n != 1 for n in strides[0]):
        raise RecipeError("the first stride is all ones", "net.strides", list(strides[0]))
    if kernels is None:
        return
    if len(kernels) != len(features) or any(len(k) != 3 for k in kernels):
        raise RecipeError("one kernel (z, y, x) for each stage", "net.kernels", list(kernels))
    if any(n % 2 == 0 or n < 1 for k in kernels for n in k):
        raise RecipeError("kernels are odd", "net.kernels", [list(k) for k in kernels])


def check_divisible(
    image: Tensor, strides: Sequence[Sequence[int]], channels: int, alone: bool = False
) -> None:
    """Refuse an image whose stages would not fit together.

    One voxel by itself has no variance: unless `alone`, the coarsest stage must have more.
    """
    if image.dim() != 5 or image.shape[1] != channels:
        raise ModelError(
            f"the net takes (n, {channels}, z, y, x)", "image", f"shape {tuple(image.shape)}"
        )
    divisor = [math.prod(sizes) for sizes in zip(*strides)]
    if any(n % d or not n for n, d in zip(image.shape[2:], divisor)):
        raise ModelError(
            "the patch must be a multiple of what the strides divide by",
            "image",
            tuple(image.shape[2:]),
            f"use multiples of {divisor}",
        )
    if not alone and list(image.shape[2:]) == divisor:
        raise ModelError(
            "the patch is a single voxel at the coarsest stage, which cannot be normalised",
            "image",
            tuple(image.shape[2:]),
            "take a larger patch or fewer stages",
        )
