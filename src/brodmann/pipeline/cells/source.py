"""A brain on disk as blocks need it: opened by any process, checked when it is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, RecipeError, Volume, nearest
from brodmann.core.volume import Window
from brodmann.inference.blocks import work_key
from brodmann.io import read_volume
from brodmann.io.integrity import is_ours, missing_chunks, read_checked, source_of
from brodmann.io.planes import SUFFIXES, read_planes
from brodmann.io.raw import LazyArray, chunks_of
from brodmann.preprocess.resample import at_spacing


class StorageWarning(UserWarning):
    """A volume is stored so that blocks of it are slow to read, or large in memory."""


COSTLY = 8
"""Voxels decoded for each that is needed, above which a warning is due."""
SMALL = 1 << 20
"""Voxels that may be decoded together, however small the block."""
LARGE = 1 << 26
"""Voxels that are decoded together, above which memory is no longer bounded by the block."""


def open_brain(
    path: str | Path,
    *,
    spacing: Sequence[float] | None = None,
    level: int = 0,
    channel: str | None = None,
) -> Volume:
    """Open a brain, lazily: OME-Zarr, HDF5, TIFF, NIfTI, or a folder of TIFF planes.

    Parameters
    ----------
    path : path
        "FILE::NAME" names what is within.
    spacing : (z, y, x), optional
        Micrometres, where the file does not say; planes never do.
    level : int
        Of a pyramid; 0 is full resolution.
    channel : str, optional
        Name or number of one of several channels; of a folder of planes, a word that the
        names of its planes hold.

    Raises
    ------
    DataError
        As `read_volume` and `read_planes`, or if there is no such channel.
    """
    folder = Path(str(path))
    if folder.is_dir() and any(f.suffix.lower() in SUFFIXES for f in folder.iterdir()):
        if spacing is None:
            raise DataError(
                "a folder of planes does not say its spacing", path, fix="add --spacing z,y,x in um"
            )
        if level:
            raise DataError("a folder of planes has no pyramid", path, level)
        return read_planes(folder, tuple(spacing), channel=channel)
    volume = read_volume(path, spacing=tuple(spacing) if spacing else None, level=level)
    return volume if channel is None else one_channel(volume, channel, str(path))


def find_coarse(
    path: str | Path, volume: Volume, level: int = 0, channel: str | None = None, size: int = 256
) -> Volume | None:
    """The coarsest level of a pyramid that is still `size` voxels long, None where there is none.

    `level` is that of `volume`.
    """
    found = None
    while True:
        level += 1
        try:
            other = open_brain(path, spacing=volume.spacing, level=level, channel=channel)
        except DataError:
            return found  # the format has none, or no more
        if max(other.spatial_shape) < size:
            return found
        found = other


def one_channel(volume: Volume, channel: str, where: str) -> Volume:
    """A volume of one channel, by name or number.

    >>> pair = Volume(np.zeros((2, 3, 4)), "cyx", (1, 1), ("NeuN", "cFos"))
    >>> one_channel(pair, "cFos", "pair").shape
    (1, 3, 4)
    """
    names = list(volume.channels)
    at = names.index(channel) if channel in names else int(channel) if channel.isdecimal() else -1
    if not 0 <= at < len(names):
        raise DataError("no such channel", where, repr(channel), nearest(channel, names))
    if not volume.axes.startswith("c"):
        return volume
    return Volume(_Channel(volume.data, at), volume.axes, volume.spacing, (names[at],))


@dataclass(frozen=True)
class _Channel:
    """(1, *spatial) of (c, *spatial)."""

    data: Any
    channel: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, *(int(n) for n in self.data.shape[1:]))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.data.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        if key and key[0] is Ellipsis:
            key = (slice(None), *key)
        first, *window = key or (slice(None),)
        return _read(self.data, (slice(self.channel, self.channel + 1), *window))[first]


@dataclass(frozen=True, eq=False)
class Source:
    """What blocks are read from: small and picklable.

    Attributes
    ----------
    volume : Volume
        As stored.
    spacing : tuple of float, optional
        Read at another spacing, linearly between voxel centres.
    factors : tuple of float
        Stored voxels in one that is read.
    """

    volume: Volume
    spacing: tuple[float, ...] | None = None
    factors: tuple[float, ...] = field(init=False)
    seen: Volume = field(init=False)
    """On the grid that is read."""

    def __post_init__(self) -> None:
        checked = Volume(
            _Checked(self.volume.data),
            self.volume.axes,
            self.volume.spacing,
            self.volume.channels,
        )
        seen = checked if self.spacing is None else at_spacing(checked, self.spacing)
        factors = tuple(a / b for a, b in zip(seen.spacing, self.volume.spacing))
        object.__setattr__(self, "seen", seen)
        object.__setattr__(self, "factors", factors)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid that is read."""
        return self.seen.spatial_shape

    def read(self, window: Window) -> np.ndarray:
        """As recorded: (*spatial), or (c, *spatial) of several channels.

        Raises
        ------
        DataError
            If a chunk or a plane is damaged or missing, or a voxel is not finite.
        """
        values = self.seen.read(window)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            at = np.argwhere(~np.isfinite(values))[0][1:]
            raise DataError(
                "the volume holds a voxel that is NaN or infinite",
                ", ".join(
                    f"{axis} {int(n) + part.start}"
                    for axis, n, part in zip(self.seen.spatial_axes, at, window)
                ),
                fix="replace such voxels by numbers",
            )
        return values if len(values) > 1 else values[0]

    def stored(self, coordinates: np.ndarray) -> np.ndarray:
        """(n, d) voxels of the grid that is read -> the same places in voxels as stored."""
        if self.spacing is None:
            return coordinates.astype(np.float64)
        return (coordinates + 0.5) * np.array(self.factors) - 0.5

    def stored_window(self, window: Window) -> Window:
        """The stored voxels that hold the centres of a window."""
        if self.spacing is None:
            return window
        return tuple(
            slice(int(w.start * f), min(n, math.ceil(w.stop * f)))
            for w, f, n in zip(window, self.factors, self.volume.spatial_shape)
        )

    def missing(self, window: Window) -> int:
        """Chunks of another program's Zarr that begin in a window and are not on disk."""
        data = self.volume.data
        data = data.data if isinstance(data, _Channel) else data
        array = source_of(data)
        if array is None or is_ours(array):
            return 0
        lead = [slice(0, int(n)) for n in data.shape[: -len(window)]]
        wide = _wide(data, array, [*lead, *self.stored_window(window)])
        return len(missing_chunks(array, wide, begun_within=True))


@dataclass(frozen=True, eq=False)
class _Checked:
    """An array whose lost and damaged chunks are named when it is read."""

    data: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.data.dtype)

    def __getitem__(self, window: Any) -> np.ndarray:
        return _read(self.data, window)


def _read(data: Any, window: Any) -> np.ndarray:
    """A window of slices; what a Zarr of ours lacks is an error, not 0."""
    window = window if isinstance(window, tuple) else (window,)
    window = (*window, *(slice(None),) * (len(data.shape) - len(window)))
    array = source_of(data)
    if array is None:
        return np.asarray(data[window])
    spans = [slice(*part.indices(int(n))[:2]) for part, n in zip(window, data.shape)]
    take = getattr(data, "_take", tuple(range(len(spans))))
    dropped = [axis for axis in range(array.ndim) if axis not in take]
    block = read_checked(array, _wide(data, array, spans)).transpose(*take, *dropped)
    return block[(..., *(0 for _ in dropped))].astype(data.dtype, copy=False)


def _wide(data: Any, array: Any, spans: Sequence[slice]) -> list[slice]:
    wide = [slice(0, 1)] * array.ndim
    for axis, part in zip(getattr(data, "_take", range(len(spans))), spans):
        wide[axis] = part
    return wide


def stamp_of(volume: Volume) -> str:
    """What tells one volume from another.

    Of a file its size and time. Of a Zarr those of its metadata, and of a folder of planes
    their names and those of the first: a chunk or plane that is put right later then does not
    throw away what is done. An array in memory is hashed.
    """
    data, more = volume.data, ()
    if isinstance(data, _Channel):
        data, more = data.data, (data.channel,)
    facts: list[Any] = [volume.axes, volume.shape, str(volume.dtype), volume.spacing, *more]
    if not isinstance(data, LazyArray):
        # The first axis in turn, so that only one position of it is in memory.
        digest = hashlib.blake2b(digest_size=16)
        for index in range(volume.shape[0]):
            digest.update(np.ascontiguousarray(data[index : index + 1]).tobytes())
        return work_key(facts, digest.hexdigest())
    files = [data._path]
    opener = data._open
    if isinstance(opener, partial) and not data._path.is_dir():
        facts.append([str(part) for part in opener.args[1:]])  # a dataset within, a level
    if data._path.is_dir():
        planes = getattr(opener, "args", ((),))[0]
        if isinstance(planes, tuple):  # a folder of planes
            names = [Path(name).name for name in planes]
            return work_key(facts, names, _stat(Path(planes[0])))
        inner = opener.args[1] if isinstance(opener, partial) and len(opener.args) > 1 else ""
        folders = {data._path, data._path / inner}
        facts.append(inner)
        names = ["zarr.json", ".zarray", ".zattrs", ".zgroup"]
        files = sorted(file for d in folders for name in names if (file := d / name).is_file())
    return work_key(facts, [_stat(file) for file in files])


def _stat(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def cautions(volume: Volume, block: Sequence[int]) -> list[str]:
    """What makes reading blocks of a volume slow or large, in whole sentences, and what helps.

    Parameters
    ----------
    volume : Volume
    block : sequence of int
        Spatial size that is read at a time.
    """
    data = volume.data.data if isinstance(volume.data, _Channel) else volume.data
    chunks = chunks_of(data)
    if chunks is None:
        return []
    spatial = chunks[-volume.ndim :]
    size = " x ".join(map(str, spatial))
    said, fix = [], "copy it once: brodmann map ... --to-zarr BRAIN.zarr"
    if math.prod(spatial) > LARGE:
        gigabytes = math.prod(spatial) * volume.dtype.itemsize / 1e9
        said.append(
            f"{size} voxels of this volume can only be decoded together, {gigabytes:.1f} GB in "
            f"each worker; {fix}"
        )
    work = math.prod(
        min(n, -(-(b + c - 1) // c) * c) / b
        for n, b, c in zip(volume.spatial_shape, block, spatial)
    )
    if work > COSTLY and math.prod(spatial) >= SMALL:
        said.append(
            f"this volume is compressed in pieces of {size} voxels, so that {work:.0f} times what "
            f"a block needs is decoded; {fix}"
        )
    return said


def check_spacing(volume: Volume, spacing: Sequence[float], tolerance: float) -> None:
    """Refuse a detector of another spacing, and say how to go on.

    Raises
    ------
    RecipeError
    """
    if len(spacing) != volume.ndim:
        raise RecipeError(
            f"this detector is for {len(spacing)} dimensions", found=f"a volume {volume.axes!r}"
        )
    if any(abs(a / b - 1) > tolerance for a, b in zip(volume.spacing, spacing)):
        there, here = (" x ".join(f"{s:g}" for s in each) for each in (spacing, volume.spacing))
        raise RecipeError(
            f"this detector was made at {there} um a voxel",
            found=f"{here} um",
            fix="add --resample (resample=True) to read the volume at the detector's spacing, or "
            "correct it with --spacing",
        )
