"""The argmax of a whole section or volume in memory that does not grow with its height."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brodmann.core import DataError, OutputError, RecipeError, Volume
from brodmann.core.files import write_json
from brodmann.inference.heads import Blend, Predict
from brodmann.inference.rolling import (
    RollingSums,
    RowWriter,
    TopClass,
    drop_pages,
    sweep_partials,
)
from brodmann.inference.tiles import Grid, Prepare, batched
from brodmann.inference.tissue import TissueMask


def predict_strips(
    predict: Predict | Sequence[Predict],
    image: Volume,
    out: Any,
    *,
    patch: Sequence[int],
    num_classes: int,
    step: float = 0.5,
    confidence: Any = None,
    prepare: Prepare | None = None,
    tissue: TissueMask | None = None,
    batch: int = 1,
    device: str | torch.device = "cpu",
    state_path: Path | None = None,
    key: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the class of every pixel, row by row, holding only rows that are not final yet.

    The answer is the argmax of `sliding_logits` with the same arguments, bit for bit: each
    pixel's sum is made of the same numbers in the same order. Tiles go row-major along the
    first spatial axis; memory is 4 bytes x channels x width (x depth of the third axis) x the
    overlap of two rows of tiles, plus one tile's answer (specs/regions.md, "Bounded memory").
    Channels are the classes. Where every net is `Headed` and their features are fewer than
    the classes, they are the features, and the logits of a window never exist.

    Parameters
    ----------
    predict : callable or Headed, or a sequence of them
        (n, c, *patch) float32 tensor on the CPU -> (n, num_classes, *patch) logits. The
        logits of several (folds) are averaged with equal weight, in no more memory than one
        takes when logits are summed.
    image : Volume
        2D or 3D, read by window. Pages of a `numpy.memmap` are let go once read.
    out : writable array
        The image's spatial shape, any integer dtype that holds ``num_classes - 1``: numpy,
        memmap, zarr, HDF5. Written in whole rows of its chunks (shards), top to bottom.
    patch, num_classes, step, prepare, batch, device
        As for `sliding_logits`. Batches do not span rows of tiles.
    confidence : writable uint8 array, optional
        Gets the softmax probability of the class chosen, 0..255 for 0..1.
    tissue : TissueMask, optional
        Tiles without tissue are not predicted; pixels outside it become class 0 with
        confidence 255. Pixels inside get what they would get without it.
    state_path : Path, optional
        A small JSON that says how many rows are final in `out`. Where it exists and fits, the
        rows below are predicted, after the tiles that their sums need, and the bytes are
        those of an undisturbed run. It belongs to `out`: delete both or neither. State of
        other settings, or another `key`, is ignored and everything is predicted.
    key : str
        What the state must also agree on, such as a fingerprint of image and weights.
    progress : callable, optional
        Called with (tiles done, tiles in all) after each batch and each row of tiles.

    Raises
    ------
    DataError, ModelError, RecipeError
        For NaN in the image, logits that are NaN or of the wrong shape, or arguments that
        cannot be.
    OutputError
        If `out` or `confidence` does not fit.

    Example
    -------
    >>> image = np.zeros((1, 20, 30), np.float32)
    >>> image[:, :, 12:] = 1
    >>> net = lambda x: torch.cat([0.5 - x, x - 0.5], 1)
    >>> out = np.zeros((20, 30), np.uint8)
    >>> section = Volume(image, "cyx", (25.0, 25.0))
    >>> predict_strips(net, section, out, patch=(8, 8), num_classes=2)
    >>> bool((out == image[0]).all())
    True
    """
    device = torch.device(device)
    blend = Blend(predict, num_classes, device)
    grid = Grid(image.spatial_shape, tuple(patch), step)
    _check(out, confidence, num_classes, batch, tissue, grid)
    arrays = [array for array in (out, confidence) if array is not None]
    writers = [RowWriter(array, name, grid) for array, name in zip(arrays, ("out", "confidence"))]
    settings = {
        "grid": [grid.shape, grid.patch, step],
        "classes": num_classes,
        "nets": len(blend.nets),
        "channels": blend.channels,
        "batch": batch,
        "tissue": tissue.digest() if tissue else None,
        "arrays": [writer.signature for writer in writers],
        "key": key,
    }
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16).hexdigest()
    for writer, rows in zip(writers, _resume(state_path, digest, len(writers))):
        writer.written = rows
    for array in arrays if state_path else ():
        sweep_partials(array)
    final = min(writer.written for writer in writers)
    if final == grid.shape[0]:
        return

    top = TopClass(grid, blend, device)

    def emit(row: int, column: int, sums: torch.Tensor) -> None:
        for y, x, classes, chance in top.blocks(row, column, sums, confidence is not None):
            start = (y, x, *(0,) * (len(grid.shape) - 2))
            if tissue is not None:
                outside = ~_tissue_block(tissue, grid, start, classes.shape)
                classes[outside] = 0
                if chance is not None:
                    chance[outside] = 255
            for writer, values in zip(writers, (classes, chance)):
                writer.put(start, values)

    sums = RollingSums(grid, blend.channels, device)
    row_tiles = list(itertools.product(*grid.starts[1:]))
    total = len(grid.starts[0]) * len(row_tiles)
    for index, first in enumerate(grid.starts[0]):
        # A row of tiles whose pixels are all final has nothing to say to the others.
        if first + grid.patch[0] - grid.before[0] <= final:
            continue
        sums.begin(index)
        tiles = [(first, *rest) for rest in row_tiles if _wanted(tissue, grid, (first, *rest))]
        done = index * len(row_tiles)
        for some in batched(tiles, batch):
            windows = np.stack([grid.read(image, start, prepare) for start in some])
            drop_pages(image.data)
            for part in blend.parts(windows):
                start = some[part.window]
                sums.advance(start[1], emit)
                sums.add(start, part.values, part.channels, part.rows.start)
                del part  # or the next net's would stand beside it
            done += len(some)
            if progress:
                progress(done, total)
        sums.end(emit)
        for writer in writers:
            writer.drain()
        if state_path:
            rows = [writer.written for writer in writers]
            write_json(Path(state_path), {"settings": digest, "rows": rows})
        if progress:
            progress((index + 1) * len(row_tiles), total)


def _check(
    out: Any,
    confidence: Any,
    num_classes: int,
    batch: int,
    tissue: TissueMask | None,
    grid: Grid,
) -> None:
    if not 1 <= num_classes <= np.iinfo(np.int16).max:
        raise RecipeError("between 1 and 32767 classes", "num_classes", num_classes)
    if batch < 1:
        raise RecipeError("at least one tile at once", "batch", batch)
    dtype = np.dtype(out.dtype)
    if dtype.kind not in "iu" or np.iinfo(dtype).max < num_classes - 1:
        raise OutputError(
            f"the output cannot hold {num_classes} classes", "out", dtype, "use uint8 or uint16"
        )
    if confidence is not None and np.dtype(confidence.dtype) != np.uint8:
        raise OutputError("confidence is written as uint8", "confidence", confidence.dtype)
    if tissue is not None and tuple(tissue.shape) != grid.shape:
        raise DataError(
            f"the tissue mask is of an image of another shape than {grid.shape}",
            found=tuple(tissue.shape),
        )


def _resume(state_path: Path | None, digest: str, count: int) -> list[int]:
    """Final rows of each output; zeros where there is no state, or state of something else."""
    if state_path is None or not Path(state_path).is_file():
        return [0] * count
    try:
        state = json.loads(Path(state_path).read_text(encoding="utf-8"))
        if state["settings"] == digest:
            return [int(rows) for rows in state["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the state of an earlier prediction is damaged",
            state_path,
            fix="delete it to start again",
        ) from error
    return [0] * count


def _inside(
    grid: Grid, start: Sequence[int], size: Sequence[int]
) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """A window of the padded image as one of the image itself, and what was cut on each side."""
    window, cut = [], []
    for first, length, before, limit in zip(start, size, grid.before, grid.shape):
        low = first - before
        slot = slice(min(max(low, 0), limit), min(max(low + length, 0), limit))
        window.append(slot)
        cut.append((slot.start - low, low + length - slot.stop))
    return tuple(window), cut


def _wanted(tissue: TissueMask | None, grid: Grid, start: tuple[int, ...]) -> bool:
    return tissue is None or tissue.any(_inside(grid, start, grid.patch)[0])


def _tissue_block(
    tissue: TissueMask, grid: Grid, start: tuple[int, ...], size: tuple[int, ...]
) -> np.ndarray:
    """The mask of a block in padded coordinates; padding counts as empty."""
    window, cut = _inside(grid, start, size)
    if any(slot.start >= slot.stop for slot in window):
        return np.zeros(size, bool)
    return np.pad(tissue.window(window), cut)
