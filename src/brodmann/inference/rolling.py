"""The sums and the finished rows of strip prediction: what is kept, and what goes out when."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit

from brodmann.core import ModelError, OutputError
from brodmann.inference.heads import BLOCK, CHUNK, Blend
from brodmann.inference.tiles import Grid, add_weighted, outer

Emit = Callable[[int, int, torch.Tensor], None]
"""Takes (first row, first column, sums of (channels, rows, columns, *rest)), all finished."""


class RollingSums:
    """Weighted sums for the pixels that more tiles will touch, and no others.

    The channels are classes, or the features of which logits are made in the end.

    Tiles come row by row (first axis), in a row column by column (second axis); a third
    axis is kept whole. When a row of tiles begins at row y and the next at y', its rows y
    to y' are final as soon as the next tile to the right is past them. So two buffers do,
    allocated once:

    - `carry` (channels, depth, width, *rest): rows from y' on, which the next row of tiles
      shares; row number modulo `depth` is the slot, nothing is ever moved;
    - `edge` (channels, stride, patch width, *rest): rows y to y' of the columns under the
      current tile; column number modulo patch width is the slot.

    With patch 768 x 1536, step 0.5 and a width of 12531 these take 20 and 2.3 MB a channel
    whatever the height: 2.6 GB for 119 classes, 0.18 GB for 8 features.
    """

    def __init__(self, grid: Grid, channels: int, device: torch.device) -> None:
        rows = grid.starts[0]
        self.grid = grid
        strides = [b - a for a, b in itertools.pairwise(rows)] or [grid.patch[0]]
        # The last row of tiles hands its lower part to `carry` like any other.
        self.splits = [*rows[1:], rows[-1] + min(strides)]
        self.depth = grid.patch[0] - min(strides)
        rest = grid.padded[2:]
        self.carry = torch.empty((channels, self.depth, grid.padded[1], *rest), device=device)
        self.edge = torch.empty((channels, max(strides), grid.patch[1], *rest), device=device)
        self._weight = grid.weight().to(device)
        self._kept = 0  # rows below this one have sums in `carry`
        self._row = self._split = self._opened = self._closed = 0

    @property
    def nbytes(self) -> int:
        """Bytes of both buffers."""
        return (self.carry.numel() + self.edge.numel()) * 4

    def begin(self, index: int) -> None:
        """Start the `index`-th row of tiles; the one before it has ended, or none was begun."""
        self._row, self._split = self.grid.starts[0][index], self.splits[index]
        self._kept = max(self._kept, self._row)
        self._opened = self._closed = 0

    def advance(self, column: int, emit: Emit) -> None:
        """Move on to the tiles at `column`: emit the columns before it, make room for its own."""
        # More than one turn only where the tiles before this one were left out.
        while self._closed < column:
            self._open(self._closed + self.grid.patch[1])
            stop = min(column, self._opened)
            for view, rows, columns in self._upper(self._row, self._split, self._closed, stop):
                emit(rows.start, columns.start, view)
            self._closed = stop
        self._open(column + self.grid.patch[1])

    def add(
        self,
        start: tuple[int, ...],
        values: torch.Tensor,
        channels: slice = slice(None),
        first: int = 0,
    ) -> None:
        """Add to some channels the rows from `first` of the tile at `start` in this column."""
        row, column = start[:2]
        rest = tuple(slice(a, a + n) for a, n in zip(start[2:], self.grid.patch[2:]))
        top, right = row + first, column + self.grid.patch[1]
        for view, rows, columns in self._views(top, top + values.shape[1], column, right):
            across = slice(columns.start - column, columns.stop - column)
            part = (slice(rows.start - top, rows.stop - top), across)
            weight = self._weight[rows.start - row : rows.stop - row, across]
            target = view[(channels, slice(None), slice(None), *rest)]
            add_weighted(target, values[(slice(None), *part)], weight)

    def end(self, emit: Emit) -> None:
        """End the row of tiles: emit the rest of its columns; after the last row everything."""
        width = self.grid.padded[1]
        self.advance(width, emit)
        self._kept = self._row + self.grid.patch[0]
        if self._kept == self.grid.padded[0]:
            for view, rows, columns in self._lower(self._split, self._kept, 0, width):
                emit(rows.start, columns.start, view)

    def _open(self, stop: int) -> None:
        """Take columns up to `stop` under the tile: old sums where there are any, else zeros."""
        start = self._opened
        stop = self._opened = max(start, min(stop, self.grid.padded[1]))
        known = min(self._split, self._kept)
        for view, rows, columns in self._upper(self._row, known, start, stop):
            for old, some, _ in self._lower(rows.start, rows.stop, columns.start, columns.stop):
                view[:, some.start - rows.start : some.stop - rows.start].copy_(old)
        for view, _, _ in self._upper(known, self._split, start, stop):
            view.zero_()
        bottom = self._row + self.grid.patch[0]
        for view, _, _ in self._lower(max(self._split, self._kept), bottom, start, stop):
            view.zero_()

    def _views(self, top: int, bottom: int, left: int, right: int) -> Iterator[tuple]:
        yield from self._upper(top, min(self._split, bottom), left, right)
        yield from self._lower(max(self._split, top), bottom, left, right)

    def _upper(self, top: int, bottom: int, left: int, right: int) -> Iterator[tuple]:
        """Views of `edge` that cover rows and columns, with the rows and columns of each."""
        if top >= bottom:
            return
        for columns, slots in _ring(left, right, self.grid.patch[1]):
            yield (
                self.edge[:, top - self._row : bottom - self._row, slots],
                slice(top, bottom),
                columns,
            )

    def _lower(self, top: int, bottom: int, left: int, right: int) -> Iterator[tuple]:
        """The same of `carry`."""
        for rows, slots in _ring(top, bottom, self.depth):
            yield self.carry[:, slots, left:right], rows, slice(left, right)


def _ring(start: int, stop: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut start..stop where it wraps around a ring: (positions, slots)."""
    while start < stop:
        slot = start % size
        end = min(stop, start + size - slot)
        yield slice(start, end), slice(slot, slot + end - start)
        start = end


class TopClass:
    """Finished sums -> class index and top-1 probability, a bounded piece at a time."""

    def __init__(self, grid: Grid, blend: Blend, device: torch.device) -> None:
        self._blend = blend
        self._sums = grid.weight_sums()
        self._sums[0] = self._sums[0] * len(blend.nets)
        room = max(CHUNK, blend.num_classes * grid.padded[-1])
        self._scratch = torch.empty(room, device=device)

    def blocks(
        self, row: int, column: int, sums: torch.Tensor, confidence: bool
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray | None]]:
        """Yield (row, column, classes int16, probability uint8 or None) that cover `sums`."""
        height, width = sums.shape[1:3]
        line = sums[0, 0, 0].numel()
        room = self._scratch.numel() // self._blend.num_classes
        columns = min(width, max(1, room // line))
        rows = min(height, max(1, room // (line * columns)))
        for a in range(0, height, rows):
            for b in range(0, width, columns):
                piece = sums[:, a : a + rows, b : b + columns]
                spans = (slice(row + a, row + a + piece.shape[1]),)
                spans += (slice(column + b, column + b + piece.shape[2]),)
                weights = outer([w[s] for w, s in zip(self._sums, (*spans, *self._whole))])
                logits = self._scratch[: self._blend.num_classes * piece[0].numel()]
                logits = logits.view(-1, *piece.shape[1:])
                self._blend.logits(piece, torch.from_numpy(weights).to(piece.device), logits)
                yield row + a, column + b, *self._top(logits, confidence)

    @property
    def _whole(self) -> tuple[slice, ...]:
        return (slice(None),) * (len(self._sums) - 2)

    @staticmethod
    def _top(logits: torch.Tensor, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        best = torch.empty_like(logits[0])
        index = torch.empty(best.shape, dtype=torch.int16, device=best.device)
        if best.is_cpu:
            flat = logits.flatten(1), best.flatten(), index.flatten()
            _largest(*(part.numpy() for part in flat))
        else:
            best[:], where = logits.max(0)
            index.copy_(where)
        if not torch.isfinite(best).all():
            raise ModelError(
                "the net answered with NaN or infinity",
                fix="check that training did not diverge, or predict without half precision",
            )
        if not confidence:
            return index.cpu().numpy(), None
        total = torch.zeros_like(best)
        for plane in logits:
            plane.sub_(best)
            if plane.is_cpu:
                # torch's exp has other last bits at the ends of each thread's share.
                np.exp(plane.numpy(), out=plane.numpy())
            else:
                plane.exp_()
            total.add_(plane)
        probability = total.reciprocal_().mul_(255).round_().to(torch.uint8)
        return index.cpu().numpy(), probability.cpu().numpy()


@njit(cache=True, nogil=True)
def _largest(logits, best, index):  # type: ignore[no-untyped-def]
    """Largest of (k, p) over k and the first place of it; NaN counts as largest of all."""
    classes, pixels = logits.shape
    for first in range(0, pixels, BLOCK):
        stop = min(first + BLOCK, pixels)
        top, where = best[first:stop], index[first:stop]
        top[:] = logits[0, first:stop]
        where[:] = 0
        for k in range(1, classes):
            row = logits[k, first:stop]
            for p in range(stop - first):
                above = not (row[p] <= top[p]) and top[p] == top[p]
                top[p] = row[p] if above else top[p]
                where[p] = k if above else where[p]


class RowWriter:
    """Collects finished rows and writes them to an array in whole rows of its chunks.

    A write so never reads an old chunk, and a kill in the middle of one leaves nothing that
    a resumed run depends on: it writes that row of chunks again from its first pixel.
    """

    def __init__(self, array: Any, name: str, grid: Grid, written: int = 0) -> None:
        if tuple(array.shape) != grid.shape:
            raise OutputError(
                f"the output {name!r} must have the image's shape {grid.shape}",
                found=tuple(array.shape),
            )
        unit = getattr(array, "shards", None) or getattr(array, "chunks", None)
        self._array, self._grid, self.written = array, grid, written
        self._unit = min(unit[0], grid.shape[0]) if unit else 1
        self._pending = np.empty((0, *grid.shape[1:]), np.dtype(array.dtype))

    @property
    def signature(self) -> list:
        """What a resumed run must find unchanged."""
        return [str(np.dtype(self._array.dtype)), self._unit]

    def put(self, start: tuple[int, ...], values: np.ndarray) -> None:
        """Keep a block (rows, columns, *rest) at `start` in padded coordinates."""
        shape = (self._grid.shape[0] - self.written, *self._grid.shape[1:])
        source, target = [], []
        for first, size, before, limit in zip(
            start,
            values.shape,
            (self._grid.before[0] + self.written, *self._grid.before[1:]),
            shape,
        ):
            low = first - before
            a, b = max(low, 0), min(low + size, limit)
            if a >= b:
                return
            source.append(slice(a - low, b - low))
            target.append(slice(a, b))
        missing = target[0].stop - len(self._pending)
        if missing > 0:
            new = np.zeros((missing, *self._grid.shape[1:]), self._pending.dtype)
            self._pending = np.concatenate([self._pending, new])
        self._pending[tuple(target)] = values[tuple(source)]

    def drain(self) -> None:
        """Write every whole row of chunks; all that is left once the last row is there."""
        stop = self.written + len(self._pending)
        if stop < self._grid.shape[0]:
            stop -= stop % self._unit
        count = stop - self.written
        if count > 0:
            self._array[self.written : stop] = self._pending[:count]
            drop_pages(self._array)
            self._pending = self._pending[count:].copy()
            self.written = stop


def drop_pages(array: Any) -> None:
    """Write back and let go of a memory map's pages, which count as resident memory.

    Anything that is not a `numpy.memmap` on a shared mapping is left alone.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is None or getattr(array, "mode", "c") == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    if array.mode != "r":
        array.flush()
    mapped.madvise(mmap.MADV_DONTNEED)


def sweep_partials(array: Any) -> None:
    """Remove what a killed zarr writer left beside the chunks of a local array."""
    root = getattr(getattr(array, "store", None), "root", None)
    if isinstance(root, Path):
        for left in (root / array.path).rglob("*.partial"):
            left.unlink(missing_ok=True)
