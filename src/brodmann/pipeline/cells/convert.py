"""A volume as OME-Zarr that is cheap to read in blocks, every piece of the source decoded once."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from brodmann.core import OutputError, Volume
from brodmann.core.files import make_folder
from brodmann.inference.blocks import Block, BlockGrid, Marks
from brodmann.inference.engines import Engine
from brodmann.inference.running import Report, quiet, run_blocks
from brodmann.io import read_volume
from brodmann.io.integrity import flush
from brodmann.io.ngff import open_output
from brodmann.io.raw import chunks_of, reading
from brodmann.pipeline.cells.source import Source, stamp_of

CHUNK = 128
"""Side of a chunk within a plane."""
DEPTH = 32
"""Of a chunk, where the source's planes need not be decoded whole."""
VOXELS = 1 << 24
"""Of a file, unless the source decodes more at once."""
ATTRIBUTE = "converted_from"


def to_zarr(
    volume: Volume, target: str | Path, *, workers: int = 1, report: Report = quiet
) -> Volume:
    """Write a volume into an OME-Zarr, for `detect` to read; a finished one is opened as it is.

    Each file of the target is written by one worker from one piece of the source: whole planes
    where these are compressed whole (a plane is in memory then), else about 16 million voxels.
    Stopped, the same call goes on. There is no pyramid.

    Parameters
    ----------
    volume : Volume
        (z, y, x), or one channel of (c, z, y, x).
    target : path
        Ends in .zarr.

    Returns
    -------
    Volume
        The target, lazily; (z, y, x).

    Raises
    ------
    OutputError
        If something else is there, or the disk is full.
    DataError
        If the source is damaged; the piece is named.

    Example
    -------
    >>> import tempfile
    >>> import numpy as np
    >>> brain = Volume(np.arange(60, dtype=np.uint16).reshape(3, 4, 5), "zyx", (4, 2, 2))
    >>> copy = to_zarr(brain, tempfile.mkdtemp() + "/brain.zarr")
    >>> bool((copy.numpy() == brain.data).all()), copy.spacing
    (True, (4.0, 2.0, 2.0))
    """
    target = Path(target).resolve()
    if not target.name.endswith(".zarr") or target.name == ".zarr":
        raise OutputError("the copy is an OME-Zarr", target, fix="end the name in .zarr")
    if volume.num_channels != 1 or volume.ndim != 3:
        raise OutputError("one channel of a volume is copied", target, volume.shape)
    key, work = stamp_of(volume), target.with_name(target.name + ".work")
    if target.exists():
        said = None
        if (target / "zarr.json").is_file():
            import zarr

            with reading(target):
                said = zarr.open_group(str(target), mode="r").attrs.get(ATTRIBUTE)
        if said != key:
            what = "a copy of another volume is" if said else "something else is"
            raise OutputError(f"{what} in the way", target, fix="remove it or choose another place")
        return read_volume(target)
    chunk, piece = piece_of(volume)
    make_folder(work)
    array = work / "copy.zarr"
    open_output(
        array, volume.spatial_shape, volume.dtype, "zyx", volume.spacing, chunk, shards=piece
    )
    grid = BlockGrid(volume.spatial_shape, piece)
    do = partial(copy_piece, source=Source(volume), target=array)
    with Engine("auto", workers) as crew:
        run_blocks(do, grid, Marks(work / "marks", key), crew, what="copy", report=report)
    _publish(array, target, key)
    shutil.rmtree(work, ignore_errors=True)
    return read_volume(target)


def piece_of(volume: Volume) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunk and file of a copy: files hold whole pieces of the source, and whole chunks.

    >>> import numpy as np
    >>> plain = Volume(np.broadcast_to(np.uint16(0), (2000, 9000, 9000)), "zyx", (4, 2, 2))
    >>> piece_of(plain)
    ((32, 128, 128), (32, 128, 4096))
    """
    shape, unit = volume.spatial_shape, chunks_of(volume.data)
    unit = unit[-3:] if unit else (1, 1, 1)
    whole = unit[0] == 1 and math.prod(unit) > VOXELS // DEPTH
    chunk = (1 if whole else min(DEPTH, shape[0]), min(CHUNK, shape[1]), min(CHUNK, shape[2]))
    sizes = [_up(u, c) for u, c in zip(unit, chunk)]
    for axis in (2, 1, 0):
        more = max(1, VOXELS // math.prod(sizes))
        sizes[axis] = min(_up(shape[axis], sizes[axis]), sizes[axis] * more)
    return chunk, tuple(min(_up(n, c), s) for n, c, s in zip(shape, chunk, sizes))


def copy_piece(block: Block, source: Source, target: Path) -> dict[str, Any]:
    """One file of the copy."""
    import zarr

    with reading(target):
        array = zarr.open_array(str(target), path="0", mode="r+")
    array = array.with_config({"write_empty_chunks": True})
    values = source.read(block.window)
    array[block.window] = values.reshape(values.shape[-3:])
    flush(array, block.window)
    return {}


def _publish(array: Path, target: Path, key: str) -> None:
    import zarr

    try:
        zarr.open_group(str(array), mode="r+").attrs[ATTRIBUTE] = key
        array.rename(target)
    except OSError as error:
        raise OutputError("cannot write", target, error.strerror or error) from error


def _up(size: int, unit: int) -> int:
    return -(-int(size) // int(unit)) * int(unit)
