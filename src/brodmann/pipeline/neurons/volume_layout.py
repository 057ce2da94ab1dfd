"""How a volume is cut for each stage, how its arrays are stored, and who may work in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import OutputError, RecipeError
from brodmann.inference.blocks import BlockGrid, Marks
from brodmann.postprocess.fragments import FragmentOptions

BLOCK_VOXELS = 1 << 24
"""Of a block, unless the caller says otherwise: about 20 bytes a voxel are in memory with it."""
SLICE_VOXELS = 1 << 26
"""The largest slice (8192 x 8192) that is cut into fragments whole: 2 GB for each worker."""
WHOLE_VOXELS = 1 << 24
"""The largest volume whose fragments in 3D are made in one go: 2 GB."""
IN_CORE_VOXELS = 1 << 26
"""The largest volume for methods that need the whole affinities in memory."""
CHUNK = (32, 64, 64)
"""Of the arrays we write, or near it."""
REACH = 32
"""Voxels of halo around cells that cut fragments, and three sigma more."""
USUAL_DEPTH = 16
"""Slices of a block where the input has no chunks."""


def fragment_cells(
    shape: Sequence[int],
    spacing: Sequence[float],
    options: FragmentOptions,
    asked: Sequence[int] | None,
    block_voxels: int,
) -> tuple[BlockGrid, bool]:
    """The cells that fragments are made in, with their halo, and whether these cut anything.

    Per slice, a cell is as many whole slices as fit: every voxel gets the fragment that it would
    get in memory, however many they are. Slices above SLICE_VOXELS, volumes above WHOLE_VOXELS in
    3D, and cells that are asked for cut fragments at their faces. They are part of the method
    then, and depend on shape and options alone.

    Returns
    -------
    cells : BlockGrid
    exact : bool
        Whether the fragments are those of the volume in memory.

    Example
    -------
    >>> cells, exact = fragment_cells((9, 100, 100), (1, 1, 1), FragmentOptions(), None, 50_000)
    >>> cells.block, exact
    ((5, 100, 100), True)
    """
    depth, height, width = shape
    area = height * width
    if asked is not None:
        block = tuple(min(int(a), n) for a, n in zip(asked, shape))
    elif options.per_slice:
        block = (max(1, min(depth, block_voxels // area)), height, width)
        if area > SLICE_VOXELS:
            block = (1, *_square(height, width, SLICE_VOXELS // 4, (64, 64)))
    elif depth * area <= WHOLE_VOXELS:
        block = (depth, height, width)
    else:
        cube = _square(height, width, WHOLE_VOXELS // 4 // min(depth, 64), (64, 64))
        block = (min(depth, 64), *cube)
    if min(block, default=0) < 1:
        raise RecipeError("a block is three sizes of at least 1", "--fragment-block", asked)
    exact = block == tuple(shape) or (options.per_slice and block[1:] == (height, width))
    halo = (0, 0, 0)
    if not exact:
        # Distances to a boundary further away than this hardly matter.
        reach = REACH + 3 * options.sigma
        proportion = np.array(spacing) / min(spacing)
        halo = tuple(int(np.ceil(reach / p)) for p in proportion)
        halo = (0 if options.per_slice else halo[0], *halo[1:])
    return BlockGrid(tuple(shape), block, halo), exact


def processing_block(
    shape: Sequence[int], chunks: Sequence[int] | None, voxels: int
) -> tuple[int, ...]:
    """Blocks of about so many voxels: whole chunks of the input, as wide as may be.

    >>> processing_block((130, 1000, 1000), (32, 128, 128), 1 << 24)
    (32, 640, 768)
    """
    depth, height, width = shape
    unit = tuple(min(c, n) for c, n in zip(chunks or (USUAL_DEPTH, 64, 64), shape))
    layer = unit[0] * height * width
    if layer <= voxels:
        return (min(depth, unit[0] * (voxels // layer)), height, width)
    return (unit[0], *_square(height, width, max(1, voxels // unit[0]), unit[1:]))


def _square(height: int, width: int, area: int, unit: Sequence[int]) -> tuple[int, int]:
    """Near a square of an area, in whole units."""
    rows = max(unit[0], int(area**0.5) // unit[0] * unit[0])
    columns = max(unit[1], area // rows // unit[1] * unit[1])
    return min(rows, height), min(columns, width)


def stored_as(grid: BlockGrid) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunks and shards of an array that is written by the blocks of a grid: a shard a block.

    >>> stored_as(BlockGrid((100, 500, 700), (50, 128, 700)))
    ((25, 64, 64), (50, 128, 704))
    """
    chunks, shards = [], []
    for size, limit, usual in zip(grid.block, grid.shape, CHUNK):
        # Where blocks cover the axis no two of them meet, and chunks need not fit.
        chunk = min(size, usual) if size == limit else _divisor(size, usual)
        chunks.append(chunk)
        shards.append(-(-size // chunk) * chunk)
    return tuple(chunks), tuple(shards) if shards != chunks else None


def _divisor(size: int, usual: int) -> int:
    """A divisor near the usual size: below it if not much so, else above."""
    for n in range(min(size, usual), max(1, usual // 4) - 1, -1):
        if size % n == 0:
            return n
    return next(n for n in range(min(size, usual), size + 1) if size % n == 0)


def open_array(
    folder: Path, name: str, key: str, grid: BlockGrid, spacing: Sequence[float]
) -> Marks:
    """Make `name`.zarr (z, y, x) uint32 for the blocks of a grid, or go on with it.

    Returns
    -------
    Marks
        Of its blocks; those of an array that is gone count for nothing.
    """
    from brodmann.inference.rolling import sweep_partials
    from brodmann.io.ngff import open_output

    path = folder / f"{name}.zarr"
    fresh = not path.exists()
    chunks, shards = stored_as(grid)
    array = open_output(path, grid.shape, np.uint32, "zyx", tuple(spacing), chunks, shards=shards)
    marks = Marks(folder / f"{name}-marks", key)
    if fresh:
        marks.clear()
    sweep_partials(array)
    return marks


@lru_cache(maxsize=8)
def opened(path: Path) -> Any:
    """The full resolution of an array made by `open_array`, to be read or written.

    Kept: the folder it lies in is named by all that its layout depends on.
    """
    import zarr

    from brodmann.io.raw import reading

    with reading(path):
        array = zarr.open_array(str(path), path="0", mode="r+")
    return array.with_config({"write_empty_chunks": True})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else works in this folder; the lock goes with the process, however it ends.

    Raises
    ------
    OutputError
        If another process does.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    file = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                "another command is at work on this", folder, fix="wait for it, or stop it"
            ) from None
        except OSError:
            pass  # some network file systems have none
        yield
    finally:
        os.close(file)
