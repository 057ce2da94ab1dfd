"""Chunks that are missing or damaged, of Zarr arrays of our own and of others.

We write crc32c over each chunk, and empty chunks too. So in an array of ours a chunk that is not
there was lost, and a flipped bit is found. Other programs leave out chunks of background; there a
missing chunk reads as background, and is only counted.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brodmann.core import DataError, OutputError
from brodmann.io.raw import LazyArray

ABSENT = np.iinfo(np.uint64).max
"""Offset and length of a chunk that a shard does not hold."""


class Chunk(NamedTuple):
    """One chunk of an array on disk."""

    index: tuple[int, ...]
    """Its place among the chunks."""
    path: Path
    """The file it lies in: its own, or that of its shard."""

    def __str__(self) -> str:
        return f"chunk {', '.join(map(str, self.index))} in {self.path}"


def is_ours(array: Any) -> bool:
    """Whether a zarr.Array was written by us: Zarr 3, crc32c on each chunk, named axes, fill 0.

    Example
    -------
    >>> import tempfile, zarr
    >>> from brodmann.io.ngff import open_output
    >>> folder = Path(tempfile.mkdtemp())
    >>> ours = open_output(folder / "a.zarr", (4, 6), "uint16", "yx", (1, 1))
    >>> plain = zarr.create_array(folder / "b.zarr", shape=(4, 6), dtype="uint16")
    >>> is_ours(ours), is_ours(plain)
    (True, False)
    """
    metadata = array.metadata
    if metadata.zarr_format != 3:
        return False
    codecs = list(metadata.codecs)
    if len(codecs) == 1 and hasattr(codecs[0], "index_codecs"):
        codecs = list(codecs[0].codecs)
    names = metadata.dimension_names
    return (
        type(codecs[-1]).__name__ == "Crc32cCodec"
        and bool(names)
        and set(names) <= set("czyx")
        and bool(metadata.fill_value == 0)
    )


def folder_of(array: Any) -> Path | None:
    """The folder of a zarr array, None where it lies in none (memory, a TIFF, the network)."""
    store = array.store
    root = getattr(store, "root", None)
    if type(store).__name__ != "LocalStore" or not isinstance(root, Path):
        return None
    return root / array.path


def source_of(data: Any) -> Any:
    """The zarr.Array behind the data of a Volume, None where there is none in a folder."""
    if isinstance(data, LazyArray):
        if not data._path.is_dir():
            return None
        data = data._source if data._source is not None else data._open()
    if type(data).__module__.split(".")[0] != "zarr" or not hasattr(data, "metadata"):
        return None
    return data if folder_of(data) is not None else None


def missing_chunks(
    array: Any, window: Sequence[slice] | None = None, *, begun_within: bool = False
) -> list[Chunk]:
    """The chunks under a window that are not on disk, also those that their shard lacks.

    Parameters
    ----------
    array : zarr.Array
        In a folder.
    window : sequence of slice, optional
        One a axis, with start and stop; the whole array by default.
    begun_within : bool
        Only chunks whose first voxel lies in the window: windows that cover the array once
        then list each chunk once.

    Raises
    ------
    DataError
        If the index of a shard cannot be read.
    """
    window = window or tuple(slice(0, n) for n in array.shape)
    found: list[Chunk] = []
    chunks = array.chunks
    outer = array.shards or chunks
    for at in _touched(window, outer, begun_within and not array.shards):
        path = _file(array, at)
        there = path.is_file()
        if not array.shards:
            if not there:
                found.append(Chunk(at, path))
            continue
        span = [
            slice(max(w.start, i * n), min(w.stop, (i + 1) * n))
            for w, i, n in zip(window, at, outer)
        ]
        held = _shard_index(array, path, at) if there else None
        for inner in _touched(span, chunks, False):
            first = [i * n for i, n in zip(inner, chunks)]
            if begun_within and any(f < w.start for f, w in zip(first, window)):
                continue
            local = tuple(i % (o // c) for i, o, c in zip(inner, outer, chunks))
            if held is None or held[local][0] == ABSENT:
                found.append(Chunk(inner, path))
    return found


def read_checked(array: Any, window: Sequence[slice]) -> np.ndarray:
    """Read a window of a zarr array; what is wrong is named by its chunk.

    Raises
    ------
    DataError
        If a chunk cannot be decoded, or is missing from an array of ours.
    """
    window = tuple(window)
    if is_ours(array):
        lost = missing_chunks(array, window)
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise DataError(
                "a chunk is missing from an array that was written with all its chunks",
                f"{lost[0]}{more}",
                fix="restore the file, or make the array again",
            )
    try:
        return np.asarray(array[window])
    except Exception as error:
        # Which chunk it was, zarr does not say: try them one by one.
        for at in _touched(window, array.chunks, False):
            part = tuple(
                slice(max(w.start, i * n), min(w.stop, (i + 1) * n))
                for w, i, n in zip(window, at, array.chunks)
            )
            try:
                array[part]
            except Exception as cause:
                path = _file(array, _outer_of(array, at))
                raise damaged(Chunk(at, path), cause) from cause
        raise DataError(
            "the array cannot be read", folder_of(array), _line(error), "copy it again"
        ) from error


def damaged(chunk: Chunk, cause: BaseException) -> DataError:
    """The error that a chunk is damaged."""
    return DataError(
        "a chunk is damaged", str(chunk), _line(cause), "restore the file, or make the array again"
    )


def flush(array: Any, window: Sequence[slice]) -> None:
    """Have the chunks under a window, just written, on the disk itself before anything is said.

    Raises
    ------
    OutputError
        If a chunk is not there, or the disk fails.
    """
    if folder_of(array) is None:
        return
    parents = set()
    try:
        for at in _touched(window, array.shards or array.chunks, False):
            path = _file(array, at)
            _fsync(path)
            parents.add(path.parent)
        for parent in parents:
            _fsync(parent)
    except OSError as error:
        raise OutputError(
            "cannot write", folder_of(array), error.strerror or error, "free some space"
        ) from error


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _touched(
    window: Sequence[slice], size: Sequence[int], begun_within: bool
) -> Iterator[tuple[int, ...]]:
    ranges = [
        range(-(-w.start // n) if begun_within else w.start // n, -(-w.stop // n))
        for w, n in zip(window, size)
    ]
    return itertools.product(*ranges)


def _outer_of(array: Any, at: tuple[int, ...]) -> tuple[int, ...]:
    if not array.shards:
        return at
    return tuple(i * c // s for i, c, s in zip(at, array.chunks, array.shards))


def _file(array: Any, at: tuple[int, ...]) -> Path:
    folder = folder_of(array)
    assert folder is not None
    return folder / array.metadata.encode_chunk_key(at)


def _shard_index(array: Any, path: Path, at: tuple[int, ...]) -> np.ndarray:
    """Offset and length of each chunk of a shard, (*chunks a shard, 2) uint64."""
    (codec,) = array.metadata.codecs
    counts = tuple(s // c for s, c in zip(array.shards, array.chunks))
    # An index is 16 bytes a chunk, and a checksum where its codecs say so.
    checked = any(type(c).__name__ == "Crc32cCodec" for c in codec.index_codecs)
    size = 16 * int(np.prod(counts)) + 4 * checked
    try:
        with path.open("rb") as file:
            if codec.index_location.value == "end":
                file.seek(-size, os.SEEK_END)
            data = file.read(size)
        if len(data) != size:
            raise ValueError("the file is too short")
        if checked:
            import google_crc32c

            if int.from_bytes(data[-4:], "little") != google_crc32c.value(data[:-4]):
                raise ValueError("the checksum of its index is wrong")
        return np.frombuffer(data[: size - 4 * checked], "<u8").reshape(*counts, 2)
    except (OSError, ValueError) as error:
        first = tuple(i * n for i, n in zip(at, counts))
        raise damaged(Chunk(first, path), error) from error


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:160]
