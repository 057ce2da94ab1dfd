"""Affinities of any size: how they are to be read, and the part of them that neurons need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import Affinities, Convention, DataError, RecipeError, Volume, nearest
from brodmann.core.affinities import (
    IN_PLANE,
    LONG_RANGE,
    NEAREST,
    NEIGHBOURHOODS,
    Offset,
    check_not_inverted,
)
from brodmann.inference.blocks import work_key
from brodmann.io import read_volume
from brodmann.io.integrity import missing_chunks, read_checked, source_of

USUAL = {len(offsets): offsets for offsets in (IN_PLANE, NEAREST, LONG_RANGE)}
"""Offsets by the number of channels, where nobody says."""
SAMPLES = 12
SAMPLE = (4, 256, 256)


def parse_offsets(text: str) -> tuple[Offset, ...]:
    """Offsets as an option gives them: a name, or "z,y,x;z,y,x;...".

    Raises
    ------
    RecipeError

    Example
    -------
    >>> parse_offsets("-1,0,0; 0,-1,0"), parse_offsets("in-plane")
    (((-1, 0, 0), (0, -1, 0)), ((0, -1, 0), (0, 0, -1)))
    """
    if text in NEIGHBOURHOODS:
        return NEIGHBOURHOODS[text]
    try:
        offsets = tuple(tuple(int(n) for n in part.split(",")) for part in text.split(";"))
        if any(len(offset) != 3 for offset in offsets):
            raise ValueError
    except ValueError:
        fix = 'write z,y,x;z,y,x;... such as "-1,0,0;0,-1,0;0,0,-1"'
        if "," not in text:
            fix = nearest(text, NEIGHBOURHOODS)
        raise RecipeError("these are no offsets", "--offsets", repr(text), fix) from None
    return offsets  # type: ignore[return-value]


@dataclass(frozen=True)
class Source:
    """Affinities on disk: small and picklable, opened by each process for itself.

    Attributes
    ----------
    path : str
        Absolute; "FILE::NAME" names a dataset within.
    convention : Convention
        Of all channels.
    spacing : (z, y, x)
        In micrometres.
    shape : (z, y, x)
    """

    path: str
    convention: Convention
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    stamp: str
    """Changes with the file, see `stamp_of`."""

    def nearest(self) -> Affinities:
        """The channels to the nearest neighbours, lazily."""
        return _opened(self)

    def whole(self) -> Affinities:
        """All channels, lazily."""
        volume = read_volume(self.path, axes="czyx", spacing=self.spacing)
        volume = Volume(Checked(volume.data), "czyx", self.spacing)
        return Affinities(volume, self.convention)

    def missing(self, window: Sequence[slice]) -> int:
        """How many chunks that begin within a window are not on disk; 0 but for Zarr."""
        data = read_volume(self.path, axes="czyx", spacing=self.spacing).data
        return Checked(data).missing(window)


@lru_cache(maxsize=2)
def _opened(source: Source) -> Affinities:
    volume = read_volume(source.path, axes="czyx", spacing=source.spacing)
    convention = source.convention
    channels = convention.channels_of(NEAREST)
    offsets = tuple(convention.offsets[c] for c in channels)
    data = Checked(volume.data, channels)
    return Affinities(
        Volume(data, "czyx", source.spacing),
        Convention(offsets, convention.kind, convention.anchor),
    )


class Checked:
    """Some channels of an array on disk, whose lost and damaged chunks are named.

    Parameters
    ----------
    data : array-like (c, z, y, x)
        Of a Volume that was read from disk.
    channels : sequence of int, optional
        All by default.
    """

    def __init__(self, data: Any, channels: Sequence[int] | None = None) -> None:
        self._data, self._array = data, source_of(data)
        self._take = getattr(data, "_take", tuple(range(len(data.shape))))
        count, *spatial = (int(n) for n in data.shape)
        self._channels = list(range(count) if channels is None else channels)
        self.shape, self.dtype = (len(self._channels), *spatial), np.dtype(data.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        chosen, *window = key if isinstance(key, tuple) else (key,)
        if chosen is Ellipsis:
            chosen, window = slice(None), []
        window = [*window, *(slice(None),) * (3 - len(window))]
        spans = [slice(*w.indices(n)[:2]) for w, n in zip(window, self.shape[1:])]
        wanted = self._channels[chosen]
        first, last = wanted[0], wanted[-1]
        if wanted == list(range(first, last + 1)):
            return self._read([slice(first, last + 1), *spans])
        return np.concatenate([self._read([slice(c, c + 1), *spans]) for c in wanted])

    def _read(self, window: list[slice]) -> np.ndarray:
        if self._array is None:
            return np.asarray(self._data[tuple(window)])
        wide = self._wide(window)
        dropped = [axis for axis in range(len(wide)) if axis not in self._take]
        block = read_checked(self._array, wide).transpose(*self._take, *dropped)
        return block[(..., *(0 for _ in dropped))].astype(self.dtype, copy=False)

    def _wide(self, window: Sequence[slice]) -> list[slice]:
        wide = [slice(0, 1)] * self._array.ndim
        for axis, part in zip(self._take, window):
            wide[axis] = part
        return wide

    def missing(self, window: Sequence[slice]) -> int:
        """Chunks of all channels that begin within a window over space and are not on disk."""
        if self._array is None:
            return 0
        every = slice(0, int(self._data.shape[0]))
        return len(missing_chunks(self._array, self._wide([every, *window]), begun_within=True))


def open_source(
    path: str | Path,
    *,
    dataset: str = "",
    offsets: Sequence[Offset] | None = None,
    kind: str | None = None,
    anchor: str | None = None,
    spacing: Sequence[float] | None = None,
) -> Source:
    """Find out how affinities are to be read: from options, else from the file, else as usual.

    The file is a Zarr with the attribute "affinities" (`Convention.to_dict`), as we write
    them. Without it, and without `offsets`, 2, 3 and 12 channels are taken for the in-plane,
    nearest and long-range neighbourhoods, kind affinity, anchor source.

    Raises
    ------
    DataError
        If the file cannot be read, has other channels, values or no in-plane neighbours, or
        looks like a boundary map while `kind` is not given.
    """
    file, _, inner = str(path).partition("::")
    inner = dataset or inner
    full = str(Path(file).resolve()) + (f"::{inner}" if inner else "")
    volume = read_volume(full, axes="czyx", spacing=tuple(spacing) if spacing else None)
    said = _attribute(Path(file), inner)
    if offsets is None and "offsets" not in said and volume.num_channels not in USUAL:
        raise DataError(
            "the offsets of these channels are not known",
            path,
            f"{volume.num_channels} channels",
            "name them: --offsets",
        )
    facts = {
        "offsets": offsets or said.get("offsets") or USUAL[volume.num_channels],
        "kind": kind or said.get("kind", "affinity"),
        "anchor": anchor or said.get("anchor", "source"),
    }
    try:
        convention = Convention.from_dict(facts)
        Affinities(volume, convention)
    except DataError as error:
        raise DataError(error.what, error.where or path, error.found, error.fix) from None
    if len(convention.channels_of(IN_PLANE)) < 2:
        raise DataError(
            "affinities to the neighbours along y and x are needed",
            path,
            f"offsets {convention.offsets}",
        )
    if min(volume.spatial_shape) < 1 or min(volume.spatial_shape[1:]) < 2:
        raise DataError(
            "too small to segment", path, f"{volume.spatial_shape} voxels", "give slices of 2 x 2"
        )
    source = Source(full, convention, volume.spacing, volume.spatial_shape, stamp_of(full))
    if kind is None:
        _check_sample(source)
    return source


def stamp_of(full: str) -> str:
    """A hash of a file's size and time; of a Zarr folder those of its metadata, not its chunks."""
    path = Path(full.partition("::")[0])
    files = [path]
    if path.is_dir():
        names = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
        inner = full.partition("::")[2].strip("/")
        folders = {path, path / inner, *(p for p in path.iterdir() if p.is_dir())}
        files = sorted(f for d in folders for n in names if (f := d / n).is_file())
    return work_key([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files])


def _attribute(file: Path, inner: str) -> dict[str, Any]:
    """The attribute "affinities" of a Zarr group or array, {} where there is none."""
    if not file.is_dir():
        return {}
    import zarr

    from brodmann.io.raw import reading

    with reading(file):
        places = [inner, inner.rpartition("/")[0], ""] if inner else [""]
        for place in places:
            said = zarr.open(str(file), mode="r", path=place or None).attrs.get("affinities")
            if isinstance(said, dict):
                return said
    return {}


def _check_sample(source: Source) -> None:
    """Refuse a boundary map by a few windows, spread evenly; those that are all 0 hold nothing."""
    affinities = source.nearest()
    sums, count = 0.0, 0
    for i in range(SAMPLES):
        share = (i + 0.5) / SAMPLES
        # Three strides without a common factor, so that no two windows lie in a line.
        window = tuple(
            slice(first := int(share * k % 1 * (n - min(n, s) + 1)), first + min(n, s))
            for n, s, k in zip(source.shape, SAMPLE, (1, 5, 7))
        )
        values = affinities.canonical(window, source.path).volume.data
        empty = values.max() == (0 if source.convention.kind == "affinity" else 255)
        empty = empty and values.min() == values.max()
        if not empty:
            sums, count = sums + float(values.sum(dtype=np.float64)), count + values.size
    if count:
        check_not_inverted(np.array([sums / count / 255]), source.path)
