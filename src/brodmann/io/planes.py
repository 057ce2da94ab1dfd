"""A folder of planes, one TIFF for each depth, as a volume that is read by window."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.io.raw import LazyArray, chunks_of, reading
from brodmann.io.tiff import read_tiff

SUFFIXES = (".tif", ".tiff")
SHOWN = 5
MAPPED = 1 << 20
"""Bytes beside a window, above which its lines are mapped: a few are read sooner than mapped."""


def read_planes(
    folder: str | Path,
    spacing: Sequence[float],
    *,
    channel: str | None = None,
    look: bool = True,
) -> Volume:
    """Open a folder of planes, lazily: the files of a window are read when it is.

    Names of planes are alike but for one number, which is their place: 000000, 000010, 000020
    or 1, 2, ..., 10. Its step is the smallest that is there.

    Parameters
    ----------
    folder : str or Path
        Planes are .tif or .tiff of one channel, all of one shape and type.
    spacing : (z, y, x)
        Micrometres.
    channel : str, optional
        Takes the files that hold this word, such as "ch2", where there are several channels.
    look : bool
        Open every file to compare shape and type (about a second for 2,000 planes).

    Returns
    -------
    Volume
        "zyx".

    Raises
    ------
    DataError
        If there are no planes, one is missing, they differ in shape or type, or their names in
        more than a number; when a window is read, if a file is damaged.

    Example
    -------
    >>> import tempfile, tifffile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for z in range(3):
    ...     tifffile.imwrite(folder / f"brain_{10 * z:06d}_ch2.tif", np.full((4, 5), z, "u2"))
    >>> volume = read_planes(folder, (4, 1.8, 1.8))
    >>> volume.shape, volume.data[2, :2, 0].tolist()
    ((3, 4, 5), [2, 2])
    """
    folder = Path(folder)
    files = plane_files(folder, channel)
    shape, dtype = _shape(files[0])
    for file in files[1:] if look else ():
        other = _shape(file)
        if other != (shape, dtype):
            raise DataError(
                "planes differ in shape or type",
                file,
                f"{other[0]} {other[1]}, the first plane {shape} {dtype}",
                "export this plane again",
            )
    open_ = partial(_Planes, tuple(map(str, files)), shape, dtype)
    data = LazyArray(open_, folder, (len(files), *shape), dtype, keep_open=False)
    return Volume(data, "zyx", tuple(spacing))


def plane_files(folder: str | Path, channel: str | None = None) -> list[Path]:
    """The planes of a folder in order of depth; see `read_planes` for the rules.

    Raises
    ------
    DataError
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("no such folder of planes", folder, fix="check the path")
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
    if channel is not None:
        files = [file for file in files if channel in file.stem]
    if not files:
        what = "planes" if channel is None else f"planes of channel {channel!r}"
        raise DataError(f"there are no {what}", folder, fix=f"planes are {' or '.join(SUFFIXES)}")
    if len(files) == 1:
        return files
    parts = {file: re.split(r"(\d+)", file.stem) for file in files}
    usual = Counter(tuple(words[::2]) for words in parts.values()).most_common(1)[0][0]
    odd = [file.name for file, words in parts.items() if tuple(words[::2]) != usual]
    if odd:
        raise DataError(
            "names of planes are alike but for a number",
            folder,
            _few(odd),
            "move what is no plane elsewhere, or name the channel",
        )
    numbers = np.array([[int(n) for n in words[1::2]] for words in parts.values()], dtype=object)
    varies = [i for i in range(numbers.shape[1]) if len(set(numbers[:, i])) > 1]
    if len(varies) != 1:
        raise DataError(
            "names of planes differ in more than one number",
            folder,
            f"{files[0].name}, {files[-1].name}",
            "name the channel, or keep each stack in a folder of its own",
        )
    unsorted = numbers[:, varies[0]]
    order = sorted(range(len(files)), key=lambda i: unsorted[i])
    places = [unsorted[i] for i in order]
    steps = np.diff(np.array(places, dtype=np.float64))
    if steps.min() <= 0:
        raise DataError("two planes have one number", folder, places[int(np.argmin(steps))])
    step = int(steps.min())
    if (steps != step).any():
        at = int(np.argmax(steps != step))
        lost = round((places[-1] - places[0]) / step) + 1 - len(files)
        before, after = files[order[at]].name, files[order[at + 1]].name
        raise DataError(
            f"planes are missing: {lost} of {len(files) + lost}",
            folder,
            f"{before}, then {after}",
            "put them back; an empty plane stands for one that was not recorded",
        )
    return [files[i] for i in order]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _open(file: Path) -> LazyArray:
    """A plane as a (y, x) array; leading axes of length one are left out."""
    data = read_tiff(file).data
    if len(data.shape) < 2 or any(n != 1 for n in data.shape[:-2]):
        raise DataError("a plane has two axes", file, data.shape, "split channels and stacks")
    return data.taking((len(data.shape) - 2, len(data.shape) - 1))


def _shape(file: Path) -> tuple[tuple[int, ...], np.dtype]:
    plane = _open(file)
    return plane.shape, plane.dtype


@dataclass(frozen=True)
class _Planes:
    """Planes as an array that takes three slices; opens the files that it needs."""

    files: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """What of the first plane is decoded together; None where it is not compressed."""
        inner = chunks_of(_open(Path(self.files[0])))
        return None if inner is None else (1, *inner)

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        depth, *plane = window
        files = self.files[depth]
        size = [part.stop - part.start for part in plane]
        out = np.empty((len(files), *size), self.dtype)
        for number, file in enumerate(files):
            with reading(Path(file)):
                self._read(file, plane[0], plane[1], out[number])
        return out

    def _read(self, file: str, rows: slice, columns: slice, out: np.ndarray) -> None:
        """Decode the strips or tiles that a window touches, and no other."""
        import tifffile

        status = Path(file).stat()
        plain = _plain(file, status.st_size, status.st_mtime_ns)
        if plain is not None:
            start, (height, width), stored = plain
            if ((height, width), stored.newbyteorder("=")) == (self.shape, self.dtype):
                high, wide = rows.stop - rows.start, columns.stop - columns.start
                if high * (width - wide) * stored.itemsize > MAPPED:
                    lines = np.memmap(file, stored, "r", start, (height, width))[rows]
                else:
                    before = start + rows.start * width * stored.itemsize
                    lines = np.fromfile(file, stored, high * width, offset=before)
                out[:] = lines.reshape(high, width)[:, columns]
                return
        with tifffile.TiffFile(file) as tif:
            page = tif.pages.first
            found = (page.imagelength, page.imagewidth), page.dtype
            if found != (self.shape, self.dtype) or page.samplesperpixel != 1:
                raise DataError("planes differ in shape or type", file, f"{page.shape} {found[1]}")
            tiled = page.is_tiled
            size = (
                (page.tilelength, page.tilewidth) if tiled else (page.rowsperstrip, self.shape[1])
            )
            across = -(-self.shape[1] // size[1])
            for i in range(rows.start // size[0], -(-rows.stop // size[0])):
                for j in range(columns.start // size[1], -(-columns.stop // size[1])):
                    index = i * across + j
                    tif.filehandle.seek(page.dataoffsets[index])
                    data = tif.filehandle.read(page.databytecounts[index])
                    part, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
                    place = [(i * size[0], rows), (j * size[1], columns)]
                    put, take = zip(*(_overlap(low, n, w) for (low, w), n in zip(place, shape[1:])))
                    # Empty strips are left out of some files.
                    out[put] = page.nodata if part is None else part[0, ..., 0][take]


@lru_cache(maxsize=1 << 14)
def _plain(file: str, size: int, changed_ns: int) -> tuple[int, tuple[int, int], np.dtype] | None:
    """Where the pixels of a plane lie that can be mapped, their shape and stored type.

    Blocks come back to a plane, and its header would take longer to read than a part of it.
    """
    import tifffile

    with tifffile.TiffFile(file) as tif:
        page = tif.pages.first
        if not page.is_memmappable or page.samplesperpixel != 1:
            return None
        stored = np.dtype(page.dtype).newbyteorder(tif.byteorder)
        return page.dataoffsets[0], (page.imagelength, page.imagewidth), stored


def _overlap(low: int, size: int, window: slice) -> tuple[slice, slice]:
    """Where a piece that begins at `low` lies in a window, and what of it does."""
    first, last = max(low, window.start), min(low + size, window.stop)
    return slice(first - window.start, last - window.start), slice(first - low, last - low)
