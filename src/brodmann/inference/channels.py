"""All channels of a net's answer over a volume of any size, in memory bounded along every axis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brodmann.core import Convention, ModelError, OutputError, RecipeError, Volume
from brodmann.inference.blocks import Block, BlockGrid, Marks, work_key
from brodmann.inference.heads import Blend, Predict
from brodmann.inference.rolling import drop_pages, sweep_partials
from brodmann.inference.tiles import Grid, Prepare, add_weighted, batched, outer

Transform = Callable[[np.ndarray], np.ndarray]
"""Logits (channels, *block) float32 -> what is stored, voxel by voxel."""
SUMS_BYTES = 1 << 30
"""Memory for sums that are not final yet, unless the caller says otherwise."""
CHUNK = {2: (512, 512), 3: (32, 128, 128)}


def probabilities_uint8(logits: np.ndarray) -> np.ndarray:
    """The sigmoid in 255ths, rounded.

    Raises
    ------
    ModelError
        On NaN.

    Example
    -------
    >>> probabilities_uint8(np.array([-200, 0, 1, 200], np.float32))
    array([  0, 128, 186, 255], dtype=uint8)
    """
    if np.isnan(logits).any():
        raise ModelError(
            "the net answered with NaN",
            fix="check that training did not diverge, or predict without half precision",
        )
    # numpy's exp: torch's has other last bits at the ends of each thread's share.
    with np.errstate(over="ignore"):
        values = np.exp(-logits)
    values += 1
    np.divide(np.float32(255), values, out=values)
    return np.rint(values, out=values).astype(np.uint8)


def predict_channels(
    predict: Predict | Sequence[Predict],
    image: Volume,
    out: Any,
    *,
    patch: Sequence[int],
    channels: int,
    convention: Convention | None = None,
    step: float = 0.5,
    prepare: Prepare | None = None,
    transform: Transform = probabilities_uint8,
    dtype: Any = np.uint8,
    batch: int = 1,
    device: str | torch.device = "cpu",
    block: Sequence[int] | None = None,
    sums_bytes: int = SUMS_BYTES,
    columns: Sequence[int] | None = None,
    marks: Path | None = None,
    key: str = "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write what nets say of every voxel, block by block.

    The answer is ``transform(sliding_logits(...))`` with the same arguments, bit for bit,
    whatever the blocks: each voxel's sum is made of the same numbers in the same order (with
    `batch` above 1 as far as the net gives a window the same bits in any batch).

    Blocks are swept along the first axis, one column of them after another. Along that axis no
    window is predicted twice; columns share windows, which are predicted for each of them. So
    the columns are as wide as `sums_bytes` allows: whole slices mostly.

    Parameters
    ----------
    predict, patch, step, prepare, batch, device
        As for `sliding_logits`; `patch` has 2 or 3 axes.
    image : Volume
        Read by window.
    out : Path or writable array
        (channels, *spatial) of `dtype`. A path, ending in .zarr, is made with `open_output`,
        or gone on with.
    channels : int
        Of the net's answer.
    convention : Convention, optional
        Kept in the attribute "affinities" of the Zarr group, where `out` is a path.
    transform : callable
        Logits to what is stored; the sigmoid in 255ths by default.
    block : sequence of int, optional
        Voxels of a block, rounded up to whole chunks (shards) of `out`; chosen to predict as
        few windows twice as `sums_bytes` allows by default.
    sums_bytes : int
        Memory for sums, which hold 4 bytes a voxel and channel of about one patch's depth.
    columns : sequence of int, optional
        Only these columns of blocks, counted over all axes but the first: a share of the work
        for one of several processes. A call with none of them, before these begin, makes `out`
        and clears marks that do not fit.
    marks : Path, optional
        A folder with a mark for each finished block. Where it fits, finished blocks are left
        as they are. It belongs to `out`; where `out` is gone the marks count for nothing.
    key : str
        What the marks must also agree on, such as a fingerprint of image and weights.
    report : callable
        Called with (windows done, windows) after each row of windows.

    Returns
    -------
    dict
        `blocks`, `windows` (of the grid), `predicted` (an undisturbed run's, with those that
        columns share; of the columns asked for), `overhead` (their quotient) and `block`.

    Raises
    ------
    DataError, ModelError, RecipeError, OutputError

    Example
    -------
    >>> image = Volume(np.zeros((1, 6, 20, 30), np.float32), "czyx", (0.04, 0.004, 0.004))
    >>> out = np.ones((2, 6, 20, 30), np.uint8)
    >>> net = lambda x: torch.cat([x - 9, x + 9], 1)
    >>> found = predict_channels(net, image, out, patch=(4, 8, 8), channels=2)
    >>> found["overhead"], out[:, 3, 9, 9].tolist()
    (1.0, [0, 255])
    """
    device = torch.device(device)
    if channels < 1 or batch < 1:
        raise RecipeError("at least one channel and one window", found=f"{channels}, {batch}")
    if convention is not None and len(convention.offsets) != channels:
        raise RecipeError(
            "the net has a channel for each offset",
            found=f"{channels} channels, {len(convention.offsets)} offsets",
        )
    blend = Blend(predict, channels, device)
    grid = Grid(image.spatial_shape, tuple(patch), step)
    fresh = isinstance(out, str | Path) and not Path(out).exists()
    array = _opened(out, image, channels, dtype, convention, grid)
    layout = BlockGrid(grid.shape, _block(block, array, grid, blend.channels, sums_bytes))
    held = None
    if marks is not None:
        depends = [grid.shape, grid.patch, step, channels, blend.channels, len(blend.nets), batch]
        depends += [layout.block, str(np.dtype(dtype)), key]
        held = Marks(marks, work_key(depends))
        if fresh:
            held.clear()
        if not columns:
            # What a kill left half-written; others may be writing while columns are shared.
            sweep_partials(array)
    done = set(held.read(len(layout))) if held else set()
    sweep = _Sweep(grid, blend, layout, device)
    every = range(len(layout) // layout.counts[0])
    columns = list(every if columns is None else columns)
    if not set(columns) <= set(every):
        raise RecipeError(f"there are {len(every)} columns of blocks", "columns", columns)
    rows = len(grid.starts[0])
    total = sum(len(sweep.windows(column)) for column in columns) * rows
    count = 0
    for column in columns:
        width = len(sweep.windows(column))
        for ready in sweep.run(column, image, prepare, batch, done):
            if ready is None:
                count += width
                report(count, total)
                continue
            target, logits = ready
            _write(array, target, transform(logits), dtype)
            if held:
                held.write(target.number, {})
    report(total, total)
    windows = int(np.prod([len(starts) for starts in grid.starts]))
    return {
        "blocks": len(layout),
        "block": list(layout.block),
        "windows": windows,
        "predicted": total,
        "overhead": total / windows,
    }


@dataclass(frozen=True)
class _Sweep:
    """Sums of the blocks of a column, each kept from its first window to its last."""

    grid: Grid
    blend: Blend
    layout: BlockGrid
    device: torch.device

    def windows(self, column: int) -> list[tuple[int, ...]]:
        """First positions, but for the first axis, of the windows that a column needs."""
        owned = self.layout[column].window[1:]
        return [
            start
            for start in itertools.product(*self.grid.starts[1:])
            if all(
                first - before < w.stop and first - before + side > w.start
                for first, before, side, w in zip(
                    start, self.grid.before[1:], self.grid.patch[1:], owned
                )
            )
        ]

    def run(
        self, column: int, image: Volume, prepare: Prepare | None, batch: int, done: set[int]
    ) -> Iterator[tuple[Block, np.ndarray] | None]:
        """Finished blocks with their logits, and None after each row of windows."""
        grid, layout = self.grid, self.layout
        per_row = len(layout) // layout.counts[0]
        todo = [layout[column + i * per_row] for i in range(layout.counts[0])]
        todo = [block for block in todo if block.number not in done]
        weight = grid.weight().to(self.device)
        sums: dict[int, torch.Tensor] = {}
        starts = self.windows(column)
        for first in grid.starts[0]:
            top, bottom = first - grid.before[0], first - grid.before[0] + grid.patch[0]
            while todo and todo[0].window[0].stop <= top:
                block = todo.pop(0)
                yield block, self._logits(block, sums.pop(block.number))
            open_ = [b for b in todo if b.window[0].start < bottom]
            for block in open_:
                if block.number not in sums:
                    size = [w.stop - w.start for w in block.window]
                    sums[block.number] = torch.zeros(
                        (self.blend.channels, *size), device=self.device
                    )
            for some in batched([(first, *rest) for rest in starts] if open_ else [], batch):
                windows = np.stack([grid.read(image, start, prepare) for start in some])
                drop_pages(image.data)
                for part in self.blend.parts(windows):
                    start = list(some[part.window])
                    start[0] += part.rows.start
                    for block in open_:
                        self._add(sums[block.number], block, start, part, weight[part.rows])
                    del part  # or the next net's would stand beside it
            yield None
        for block in todo:
            yield block, self._logits(block, sums.pop(block.number))

    def _add(
        self, sums: torch.Tensor, block: Block, start: Sequence[int], part: Any, weight: Any
    ) -> None:
        target, source = [], []
        for first, before, size, w in zip(start, self.grid.before, weight.shape, block.window):
            low = first - before
            a, b = max(low, w.start), min(low + size, w.stop)
            if a >= b:
                return
            target.append(slice(a - w.start, b - w.start))
            source.append(slice(a - low, b - low))
        add_weighted(
            sums[(part.channels, *target)],
            part.values[(slice(None), *source)],
            weight[tuple(source)],
        )

    def _logits(self, block: Block, sums: torch.Tensor) -> np.ndarray:
        totals = self.grid.weight_sums()
        totals[0] = totals[0] * len(self.blend.nets)
        parts = [
            t[w.start + before : w.stop + before]
            for t, w, before in zip(totals, block.window, self.grid.before)
        ]
        logits = sums
        if self.blend.channels != self.blend.num_classes:
            logits = torch.empty((self.blend.num_classes, *sums.shape[1:]), device=self.device)
        for row in range(sums.shape[1]):
            weights = torch.from_numpy(outer([parts[0][row : row + 1], *parts[1:]])[0])
            self.blend.logits(sums[:, row], weights.to(self.device), logits[:, row])
        return logits.cpu().numpy()


def _opened(
    out: Any, image: Volume, channels: int, dtype: Any, convention: Convention | None, grid: Grid
) -> Any:
    shape = (channels, *grid.shape)
    if isinstance(out, str | Path):
        import zarr

        from brodmann.io.ngff import open_output

        chunks = (1, *CHUNK[image.ndim])
        array = open_output(
            Path(out), shape, dtype, "c" + image.spatial_axes, image.spacing, chunks
        )
        if convention is not None:
            zarr.open_group(str(out), mode="r+").attrs["affinities"] = convention.to_dict()
        return array
    if tuple(out.shape) != shape or np.dtype(out.dtype) != np.dtype(dtype):
        raise OutputError(
            f"the output must be {shape} {np.dtype(dtype)}", found=f"{out.shape} {out.dtype}"
        )
    return out


def _block(
    asked: Sequence[int] | None, array: Any, grid: Grid, channels: int, sums_bytes: int
) -> tuple[int, ...]:
    """Blocks of whole chunks; as wide as memory allows, predicting as little twice as can be."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    unit = tuple(chunks[1:]) if chunks else (1,) * len(grid.shape)
    if asked is not None:
        if len(asked) != len(grid.shape) or min(asked) < 1:
            raise RecipeError("a block is a size of at least 1 for each axis", "block", asked)
        return tuple(-(-int(n) // u) * u for n, u in zip(asked, unit))
    unit = tuple(max(1, u) for u in unit)
    deep = unit[0] if unit[0] > 1 else min(grid.shape[0], max(1, grid.patch[0] // 2))
    # Sums are alive for the blocks that a window's depth touches, and one more.
    rows = (-(-grid.patch[0] // deep) + 1) * deep
    room = sums_bytes // (4 * channels * min(rows, grid.shape[0] + deep))
    sizes = [
        sorted({min(k * u if u > 1 else k * max(1, p // 2), n) for k in _counts(n, u, p)})
        for n, u, p in zip(grid.shape[1:], unit[1:], grid.patch[1:])
    ]
    options = list(itertools.product(*sizes))
    fitting = [option for option in options if np.prod(option) <= room] or [options[0]]
    best = min(fitting, key=lambda option: (_windows(grid, option), np.prod(option)))
    return (deep, *(-(-n // u) * u for n, u in zip(best, unit[1:])))


def _counts(size: int, unit: int, patch: int) -> range:
    step = unit if unit > 1 else max(1, patch // 2)
    last = -(-size // step)
    # A few hundred widths are choice enough.
    return range(1, last + 1) if last <= 200 else range(1, last + 1, -(-last // 200))


def _windows(grid: Grid, wide: Sequence[int]) -> int:
    """Windows that columns of this width predict in each row of windows."""
    product = 1
    for size, width, starts, before, patch in zip(
        grid.shape[1:], wide, grid.starts[1:], grid.before[1:], grid.patch[1:]
    ):
        firsts = np.array(starts) - before
        low = np.maximum(firsts, 0) // width
        high = (np.minimum(firsts + patch, size) - 1) // width
        product *= int((high - low + 1).sum())
    return product


def _write(array: Any, block: Block, values: np.ndarray, dtype: Any) -> None:
    from brodmann.io.integrity import flush

    if values.dtype != np.dtype(dtype):
        raise OutputError(f"the transform must give {np.dtype(dtype)}", found=values.dtype)
    window = (slice(0, len(values)), *block.window)
    try:
        array[window] = values
    except OSError as error:
        raise OutputError(
            "cannot write", str(block), error.strerror or error, "free some space and go on"
        ) from error
    if hasattr(array, "store"):
        flush(array, window)
