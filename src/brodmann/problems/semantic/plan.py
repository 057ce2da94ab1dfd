"""The planner: patch, batch and depth of a net from the data's median shape and a memory target.

The arithmetic is nnU-Net's (Isensee et al. 2021, 2024), so that a plan made here is the plan
made there; PRMix section 5.1 trains with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from brodmann.core import RecipeError

MIN_EDGE = 4
"""Shortest side, in voxels, that the coarsest feature map may have."""
START_VOXELS = {2: 2048**2, 3: 256**3}
"""Size of the patch from which shrinking begins, before it is cut to the median shape."""
REFERENCE_VALUES = {2: 85_000_000, 3: 560_000_000}
"""Feature-map values that fit into REFERENCE_GB at REFERENCE_BATCH."""
REFERENCE_GB = 8.0
REFERENCE_BATCH = {2: 12, 3: 2}
MIN_BATCH = 2
MAX_BATCH_SHARE = 0.05
"""A batch covers at most this share of all voxels in the data."""
BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}


@dataclass(frozen=True)
class Plan:
    """What a net and its batches look like.

    Attributes
    ----------
    patch : tuple of int
        Shape of the training and inference window in voxels.
    batch : int
    features : tuple of int
        Channels of each stage, finest first.
    strides, kernels : tuple of tuple of int
        One entry a stage, one number an axis.
    spacing : tuple of float
        Micrometres per voxel that the patch is meant at.
    """

    patch: tuple[int, ...]
    batch: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    spacing: tuple[float, ...]

    @property
    def stages(self) -> int:
        return len(self.strides)

    @property
    def divisor(self) -> tuple[int, ...]:
        """The patch must be a multiple of this along each axis."""
        return tuple(int(n) for n in np.prod(self.strides, axis=0))

    def to_dict(self) -> dict:
        """Plain lists and numbers, for model.yaml."""
        return {
            key: [list(v) if isinstance(v, tuple) else v for v in value]
            if isinstance(value, tuple)
            else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, plan: dict) -> Plan:
        nested = {"strides", "kernels"}
        return cls(
            **{
                key: tuple(tuple(v) for v in value)
                if key in nested
                else (tuple(value) if isinstance(value, list) else value)
                for key, value in plan.items()
            }
        )


def topology(
    spacing: Sequence[float], patch: Sequence[int]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Patch rounded up to what the strides divide, strides and kernels, for a starting patch.

    Each step halves the axes that are still long enough and whose spacing is within a factor
    of two of the finest among these; kernels stay 1 along coarse axes until they are.
    """
    ndim = len(patch)
    size, step = np.array(patch, int), np.array(spacing, float)
    halvings = np.zeros(ndim, int)
    strides, kernels = [(1,) * ndim], []
    kernel = np.ones(ndim, int)
    while True:
        long_enough = size >= 2 * MIN_EDGE
        if not long_enough.any():
            break
        pooled = long_enough & (step / step[long_enough].min() < 2)
        if pooled.sum() == 1 and size[pooled][0] < 3 * MIN_EDGE:
            break
        kernel[step / step.min() < 2] = 3
        kernels.append(tuple(int(k) for k in kernel))
        strides.append(tuple(2 if p else 1 for p in pooled))
        halvings += pooled
        step[pooled] *= 2
        size[pooled] = -(-size[pooled] // 2)
    kernels.append((3,) * ndim)
    divisor = 2**halvings
    rounded = -(-np.array(patch, int) // divisor) * divisor
    return tuple(int(n) for n in rounded), tuple(strides), tuple(kernels)


def plan_unet(
    median_shape: Sequence[int],
    spacing: Sequence[float],
    num_classes: int,
    in_channels: int = 1,
    *,
    memory_gb: float = 8.0,
    dataset_voxels: float = float("inf"),
    base_features: int = BASE_FEATURES,
    max_features: int | None = None,
    patch: Sequence[int] | None = None,
    batch: int | None = None,
) -> Plan:
    """Plan a plain-conv U-Net.

    Parameters
    ----------
    median_shape : sequence of int
        Median spatial shape of the training images in voxels.
    spacing : sequence of float
        Micrometres per voxel along each axis.
    num_classes : int
        Background counted, ignore not.
    in_channels : int
    memory_gb : float
        GPU memory that training may take.
    dataset_voxels : float
        Voxels in all training images; small data sets get small batches.
    base_features, max_features : int
        Channels of the first stage, and the most of any stage.
    patch, batch : optional
        Set these by hand; the rest is planned around them.

    Raises
    ------
    RecipeError
        If a patch given by hand is no multiple of what its strides need, or too small.

    Example
    -------
    >>> plan = plan_unet((6383, 12531), (1.0, 1.0), 119, 2)
    >>> plan.patch, plan.batch, plan.stages
    ((768, 1536), 2, 9)
    """
    from brodmann.nets.unet import feature_map_size, on_meta

    ndim = len(median_shape)
    spacing = tuple(float(s) for s in spacing)
    limit = max_features or MAX_FEATURES[ndim]
    reference = REFERENCE_VALUES[ndim] * memory_gb / REFERENCE_GB

    def features_of(stages: int) -> tuple[int, ...]:
        return tuple(min(limit, base_features * 2**i) for i in range(stages))

    def values_held(shape: Sequence[int], strides: Sequence, kernels: Sequence) -> int:
        net = on_meta(
            in_channels=in_channels,
            num_classes=num_classes,
            features=features_of(len(strides)),
            strides=strides,
            kernels=kernels,
            deep_supervision=False,
        )
        return feature_map_size(net, shape)

    if patch is not None:
        patch = tuple(int(n) for n in patch)
        if len(patch) != ndim or min(patch) < MIN_EDGE:
            raise RecipeError(
                f"patch needs {ndim} sides of at least {MIN_EDGE}", "net.patch", patch
            )
        shape, strides, kernels = topology(spacing, patch)
        if shape != patch:
            raise RecipeError(
                "patch must be a multiple of what its strides divide by",
                "net.patch",
                list(patch),
                f"use {list(shape)}",
            )
        held = values_held(shape, strides, kernels)
    else:
        inverse = 1 / np.array(spacing)
        start = np.round(inverse * (START_VOXELS[ndim] / inverse.prod()) ** (1 / ndim))
        start = np.minimum(start, median_shape).astype(int)
        shape, strides, kernels = topology(spacing, start)
        held = values_held(shape, strides, kernels)
        while held * MIN_BATCH / REFERENCE_BATCH[ndim] > reference:
            axis = int(np.argsort([p / m for p, m in zip(shape, median_shape)])[-1])
            smaller = list(shape)
            smaller[axis] -= int(np.prod(strides, axis=0)[axis])
            # The step down is what the smaller patch can be divided by, not the present one.
            _, new_strides, _ = topology(spacing, smaller)
            smaller = list(shape)
            smaller[axis] -= int(np.prod(new_strides, axis=0)[axis])
            shape, strides, kernels = topology(spacing, smaller)
            held = values_held(shape, strides, kernels)
    if batch is None:
        fits = round(reference / held * REFERENCE_BATCH[ndim])
        share = dataset_voxels * MAX_BATCH_SHARE / float(np.prod(shape))
        batch = max(min(fits, round(share) if np.isfinite(share) else fits), MIN_BATCH)
    return Plan(shape, int(batch), features_of(len(strides)), strides, kernels, spacing)
