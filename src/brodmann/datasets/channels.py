"""Channels that lie in several files, or are some of a file's, as one image read by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Sample, Volume
from brodmann.io import read_volume


class Planes:
    """Planes (y, x) as one array (c, y, x); a window reads what it covers and no more.

    Parameters
    ----------
    planes : sequence of (array, int or None)
        Each an array (y, x), or one channel of an array (c, y, x).

    Example
    -------
    >>> pair = Planes([(np.zeros((4, 6)), None), (np.ones((3, 4, 6)), 2)])
    >>> pair.shape, float(pair[1, 0, 0]), pair[:, 1:3].shape
    ((2, 4, 6), 1.0, (2, 2, 6))
    """

    def __init__(self, planes: Sequence[tuple[Any, int | None]]) -> None:
        self._planes = tuple(planes)
        self.shape = (len(self._planes), *(int(size) for size in planes[0][0].shape[-2:]))
        self.dtype = np.result_type(*(array.dtype for array, _ in planes))
        self.ndim, self.size = 3, int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on disk cannot be handed out without a copy")
        return self[...].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        if any(part is Ellipsis for part in key):
            at = next(i for i, part in enumerate(key) if part is Ellipsis)
            key = (*key[:at], *(slice(None),) * (4 - len(key)), *key[at + 1 :])
        channel, *window = (*key, *(slice(None),) * (3 - len(key)))
        if isinstance(channel, slice):
            chosen = self._planes[channel]
            if not chosen:
                return np.empty((0, *self._read(self._planes[0], window).shape), self.dtype)
            return np.stack([self._read(plane, window) for plane in chosen])
        return self._read(self._planes[channel], window)

    def _read(self, plane: tuple[Any, int | None], window: list[Any]) -> np.ndarray:
        array, index = plane
        part = array[tuple(window)] if index is None else array[(index, *window)]
        return np.asarray(part, self.dtype)


def open_channels(
    files: Sequence[Path],
    planes: Sequence[int],
    names: Sequence[str],
    spacing: Sequence[float] | None = None,
) -> Volume:
    """Chosen channels of a section, lazily.

    Parameters
    ----------
    files : sequence of Path
        One file of several channels, or one file for each channel.
    planes : sequence of int
        Positions of the wanted channels in the file or in `files`.
    names : sequence of str
        What they are called, in the same order.
    spacing : sequence of float, optional
        Micrometres (y, x), where files do not say.

    Returns
    -------
    Volume
        Axes "cyx", channels `names`.

    Raises
    ------
    DataError
        If files differ in shape, a channel is missing, or no spacing is known.
    """
    axes = "cyx" if len(files) == 1 else "yx"
    parts = [read_volume(file, axes=axes, spacing=spacing) for file in files]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise DataError("the channels of a section differ in shape", files[0], sorted(shapes))
    count = parts[0].num_channels if len(files) == 1 else len(files)
    if max(planes) >= count:
        raise DataError("a channel is missing", files[0], f"{count} channels", "export both")
    if len(files) == 1 and tuple(planes) == tuple(range(count)):
        return Volume(parts[0].data, "cyx", parts[0].spacing, tuple(names))
    if len(files) == 1:
        data = Planes([(parts[0].data, i) for i in planes])
    else:
        data = Planes([(parts[i].data, None) for i in planes])
    return Volume(data, "cyx", parts[0].spacing, tuple(names))


@dataclass(frozen=True)
class Selected:
    """A loader whose samples keep some of their channels, by name, lazily.

    Where an image's channels have other names, they are taken to be `channels` in order.
    """

    load: Callable[[str], Sample]
    channels: tuple[str, ...]
    picked: tuple[str, ...]

    def __call__(self, name: str) -> Sample:
        sample = self.load(name)
        image = sample.image
        if image.axes != "cyx" or image.num_channels < len(self.channels):
            raise DataError(
                "a section has two channels", name, f"axes {image.axes!r}, shape {image.shape}"
            )
        known = image.channels if set(self.channels) <= set(image.channels) else self.channels
        if self.picked == image.channels:
            return sample
        data = Planes([(image.data, known.index(channel)) for channel in self.picked])
        return sample.with_(image=Volume(data, "cyx", image.spacing, self.picked))
