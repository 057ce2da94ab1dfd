"""Volume: an array with named axes and a spacing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brodmann.core.errors import DataError

AXES = ("yx", "cyx", "zyx", "czyx")
Window = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image, a label map or any other grid of values over space.

    Parameters
    ----------
    data : array-like
        Anything with `shape`, `dtype` and slicing: numpy, memory map, zarr, dask.
    axes : str
        "yx", "cyx", "zyx" or "czyx"; the order is always (c, z, y, x).
    spacing : tuple of float
        Distance between voxel centres in micrometres, one for each spatial axis.
    channels : tuple of str, optional
        One name for each channel; made up ("channel 0", ...) when not given.

    Raises
    ------
    DataError
        If axes, shape, spacing and channels do not fit together.

    Example
    -------
    >>> section = Volume(np.zeros((2, 40, 60), np.uint16), "cyx", (25.0, 25.0))
    >>> section.spatial_shape, section.num_channels
    ((40, 60), 2)
    >>> section.read((slice(0, 8), slice(0, 8))).shape
    (2, 8, 8)
    """

    data: Any
    axes: str
    spacing: tuple[float, ...]
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise DataError("unknown axes", found=repr(self.axes), fix=f"use one of {AXES}")
        shape = tuple(int(size) for size in self.data.shape)
        if len(shape) != len(self.axes):
            raise DataError(
                f"an array with axes {self.axes!r} needs {len(self.axes)} dimensions",
                found=f"shape {shape}",
            )
        spacing = tuple(float(step) for step in self.spacing)
        if len(spacing) != self.ndim or not all(np.isfinite(step) and step > 0 for step in spacing):
            raise DataError(
                f"spacing must be {self.ndim} positive numbers in micrometres", found=self.spacing
            )
        count = self.num_channels
        channels = tuple(self.channels) or tuple(f"channel {i}" for i in range(count))
        if len(channels) != count:
            raise DataError(f"{count} channels need {count} names", found=channels)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "channels", channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array as stored."""
        return tuple(int(size) for size in self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.data.dtype)

    @property
    def spatial_axes(self) -> str:
        return self.axes.removeprefix("c")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return self.shape[-self.ndim :]

    @property
    def ndim(self) -> int:
        """Number of spatial dimensions, 2 or 3."""
        return len(self.spatial_axes)

    @property
    def num_channels(self) -> int:
        return int(self.data.shape[0]) if self.axes.startswith("c") else 1

    @property
    def voxel_size(self) -> float:
        """Area in um2 (2D) or volume in um3 (3D) of one pixel or voxel."""
        return float(np.prod(self.spacing))

    def read(self, window: Window | None = None) -> np.ndarray:
        """The values in a window over space, as (channels, *spatial); only these are loaded."""
        window = window or (slice(None),) * self.ndim
        if self.axes.startswith("c"):
            return np.asarray(self.data[(slice(None), *window)])
        return np.asarray(self.data[window])[None]

    def numpy(self) -> np.ndarray:
        """The whole array in memory, with the axes as stored."""
        return np.asarray(self.data[...])

    def like(self, data: Any) -> Volume:
        """A volume on the same grid, with or without a channel axis as `data` has it."""
        has_channel = len(data.shape) == self.ndim + 1
        axes = ("c" if has_channel else "") + self.spatial_axes
        channels = self.channels if has_channel and data.shape[0] == self.num_channels else ()
        return replace(self, data=data, axes=axes, channels=channels)


def check_same_grid(image: Volume, labels: Volume, where: str) -> None:
    """Refuse a label map that does not lie on the image's grid."""
    if image.spatial_shape != labels.spatial_shape:
        raise DataError(
            "image and labels differ in shape",
            where,
            f"image {image.spatial_shape}, labels {labels.spatial_shape}",
            "export the labels at the image's own size, without interpolation",
        )
