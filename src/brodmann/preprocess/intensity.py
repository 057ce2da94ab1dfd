"""Intensity normalisation in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from brodmann.core import DataError, Volume

BLOCK_VOXELS = 1 << 22
PRIOR = "prior "
"""Channels whose name begins so hold probabilities and are no intensities."""
PRIOR_SCALE = 1000
"""What stands for probability 1 in such a channel."""
CLIPPED = (0.5, 99.5)
"""Percentiles beyond which "robust" normalisation cuts: specks and dead pixels."""
UNBOUNDED = 1e30


def image_channels(channels: Sequence[str]) -> int:
    """How many channels are intensities; priors come after all of these.

    >>> image_channels(("slice", "prior TH", "prior HB"))
    1
    """
    return sum(not name.startswith(PRIOR) for name in channels)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel, after cutting at `low` and `high` if given."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON would hold it."""
        found = {"mean": self.mean, "std": self.std, "low": self.low, "high": self.high}
        return {key: list(value) for key, value in found.items() if value is not None}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """What `to_dict` wrote; other keys are left alone."""
        keys = ("mean", "std", "low", "high")
        return cls(**{key: tuple(facts[key]) for key in keys if facts.get(key) is not None})


def bounds(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The CLIPPED percentiles of each channel, from a regular grid of at most 4 M pixels."""
    step = 1
    while np.prod([-(-n // step) for n in volume.spatial_shape]) > BLOCK_VOXELS:
        step += 1
    values = volume.read((slice(None, None, step),) * volume.ndim)
    # NaN is left to be found, and named, by who reads every pixel.
    low, high = np.nanpercentile(values.reshape(len(values), -1), CLIPPED, axis=1)
    first_prior = image_channels(volume.channels)
    low[first_prior:], high[first_prior:] = -UNBOUNDED, UNBOUNDED
    return low, high


def measure(volumes: Iterable[Volume], where: str = "image", *, robust: bool = False) -> Statistics:
    """Mean and deviation of each channel over whole images, a slab of rows at a time.

    Prior channels are not measured: mean 0 and deviation PRIOR_SCALE make them probabilities.
    With `robust` each image is first cut at its own CLIPPED percentiles, and the statistics
    carry those of the last image.

    Parameters
    ----------
    volumes : iterable of Volume
        One image, or all images of a training set; equal channel counts.
    where : str
        What to call the images in an error.

    Raises
    ------
    DataError
        On NaN or infinite values.

    Example
    -------
    >>> ramp = Volume(np.arange(4.0).reshape(2, 2), "yx", (1, 1))
    >>> measure([ramp]).mean
    (1.5,)
    """
    count, total, squares, shift = 0, None, None, None
    low = high = None
    for volume in volumes:
        if robust:
            low, high = bounds(volume)
        length = volume.spatial_shape[0]
        rows = max(
            1, BLOCK_VOXELS * length // (volume.num_channels * int(np.prod(volume.spatial_shape)))
        )
        for start in range(0, length, rows):
            window = (slice(start, start + rows), *(slice(None),) * (volume.ndim - 1))
            block = volume.read(window).reshape(volume.num_channels, -1).astype(np.float64)
            if not np.isfinite(block).all():
                raise DataError(
                    "image holds NaN or infinite pixels",
                    where,
                    f"{int((~np.isfinite(block)).sum())} of them in rows {start}-{start + rows - 1}",
                    "replace them by numbers, and mark the place with the ignore id",
                )
            if low is not None:
                np.clip(block, low[:, None], high[:, None], out=block)
            if shift is None:
                # Sums about a value near the mean keep their digits.
                shift = block.mean(axis=1, keepdims=True)
                total, squares = np.zeros(len(block)), np.zeros(len(block))
            if len(block) != len(total):
                raise DataError("images differ in their number of channels", where, len(block))
            block -= shift
            total += block.sum(axis=1)
            squares += np.einsum("cn,cn->c", block, block)
            count += block.shape[1]
    if not count:
        raise DataError("no pixels to measure", where)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    mean += shift[:, 0]
    first_prior = image_channels(volume.channels)
    mean[first_prior:], std[first_prior:] = 0, PRIOR_SCALE
    limits = () if low is None else (tuple(map(float, low)), tuple(map(float, high)))
    return Statistics(tuple(map(float, mean)), tuple(map(float, std)), *limits)


@dataclass(frozen=True)
class Normalisation:
    """How raw intensities become what a net sees: (value - mean) / std, channel by channel.

    Attributes
    ----------
    kind : "image", "robust" or "dataset"
        Whose mean and deviation: each image's own (the z-score of nnU-Net for microscopy),
        the same after cutting the image at its 0.5 and 99.5 percentiles, so that a few bright
        specks do not dim the rest, or fixed ones of the training set, for data in which
        brightness itself tells.
    statistics : Statistics, optional
        The training set's, for kind "dataset".
    """

    kind: Literal["image", "robust", "dataset"] = "image"
    statistics: Statistics | None = None

    def of(self, image: Volume, where: str = "image") -> Statistics:
        """The mean and deviation to use for one image."""
        if self.kind == "dataset":
            if self.statistics is None:
                raise DataError("dataset normalisation without its statistics", where)
            return self.statistics
        return measure([image], where, robust=self.kind == "robust")

    @staticmethod
    def apply(values: np.ndarray, statistics: Statistics) -> np.ndarray:
        """(c, *spatial) of any dtype -> float32; a constant channel becomes zero."""
        tail = (1,) * (values.ndim - 1)
        mean = np.array(statistics.mean, np.float32).reshape(-1, *tail)
        std = np.array([s if s > 1e-8 else np.inf for s in statistics.std], np.float32).reshape(
            -1, *tail
        )
        values = values.astype(np.float32)
        if statistics.low is not None and statistics.high is not None:
            low, high = (
                np.array(limit, np.float32).reshape(-1, *tail)
                for limit in (statistics.low, statistics.high)
            )
            np.clip(values, low, high, out=values)
        return (values - mean) / std
