"""The work on one block in each stage of an out-of-core segmentation: plain functions of paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError
from brodmann.core.files import written_beside
from brodmann.inference.blocks import FOLDER_SIZE, Block, BlockGrid
from brodmann.io.integrity import flush, read_checked
from brodmann.pipeline.neurons.volume_layout import opened
from brodmann.pipeline.neurons.volume_source import Source
from brodmann.postprocess.fragments import FragmentOptions, make_fragments
from brodmann.postprocess.graph import RegionGraph, merge_graphs, region_graph
from brodmann.postprocess.relabel import apply_lookup

MERGED_AT_ONCE = 16
"""Graphs of blocks that are added up in memory at a time."""


@dataclass(frozen=True)
class Fragments:
    """Where fragments lie: numbered from 1 in each cell, and from 1 in all by `starts`."""

    folder: Path
    cells: BlockGrid

    @property
    def path(self) -> Path:
        """Numbers within cells, (z, y, x) uint32."""
        return self.folder / "fragments.zarr"

    @property
    def starts(self) -> Path:
        """How many fragments the cells before each one hold, (cells + 1,) int64."""
        return self.folder / "starts.npy"

    def read(self, window: Sequence[slice]) -> np.ndarray:
        """Fragments of a window with their numbers in all, uint32."""
        values = read_checked(opened(self.path), window)
        starts = _loaded(str(self.starts))
        for number in self.cells.touching(window):
            if starts[number]:
                cell = self.cells[number].window
                part = tuple(
                    slice(max(w.start, c.start) - w.start, min(w.stop, c.stop) - w.start)
                    for w, c in zip(window, cell)
                )
                values[part] += np.uint32(starts[number])
        return values


@lru_cache(maxsize=4)
def _loaded(path: str) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def save_array(path: Path, values: np.ndarray) -> None:
    """Write a .npy, whole or not at all."""
    with written_beside(path) as beside, beside.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def write_window(path: Path, window: tuple[slice, ...], values: np.ndarray) -> None:
    """Write a window of an array of `open_array`; it is on the disk when this returns.

    Raises
    ------
    OutputError
    """
    array = opened(path)
    try:
        array[window] = values
    except OSError as error:
        raise OutputError(
            "cannot write",
            path,
            error.strerror or error,
            "free some space; the same command goes on from here",
        ) from error
    flush(array, window)


def fragment_cell(
    block: Block, *, source: Source, options: FragmentOptions, fragments: Fragments
) -> dict[str, Any]:
    """Fragments of one cell; those that a halo cut off its faces are numbered anew."""
    affinities = source.nearest().canonical(block.outer, source.path)
    made = make_fragments(affinities, options)
    if block.outer != block.window:
        made = np.ascontiguousarray(made[block.inner])
        there = np.bincount(made.reshape(-1)) > 0
        there[0] = False
        made = (np.cumsum(there) * there).astype(np.uint32)[made]
    write_window(fragments.path, block.window, made)
    return {"fragments": int(made.max()), "missing": source.missing(block.window)}


def graph_path(folder: Path, level: int, number: int) -> Path:
    """Where the graph of a block, or the sum of some, lies."""
    return folder / str(level) / str(number // FOLDER_SIZE) / f"{number}.npz"


def graph_block(
    block: Block, *, source: Source, fragments: Fragments, folder: Path, histogram: bool
) -> dict[str, Any]:
    """The pairs (v, v + offset) of all v that a block owns."""
    # Offsets are canonical, -1 along one axis: what lies before the block is all it needs.
    wide = tuple(slice(max(0, w.start - 1), w.stop) for w in block.window)
    inner = tuple(slice(w.start - o.start, w.stop - o.start) for w, o in zip(block.window, wide))
    affinities = source.nearest().canonical(block.window, source.path)
    ids = fragments.read(wide)
    values = np.zeros((affinities.volume.num_channels, *ids.shape), np.uint8)
    values[(slice(None), *inner)] = affinities.volume.data
    graph = region_graph(
        ids, values, affinities.convention.offsets, owned=inner, histogram=histogram
    )
    _save(graph, graph_path(folder, 0, block.number))
    return {"edges": len(graph)}


def merge_block(block: Block, *, folder: Path, level: int, histogram: bool) -> dict[str, Any]:
    """The sum of some graphs of a level, for the next."""
    (span,) = block.window
    paths = [graph_path(folder, level, n) for n in range(span.start, span.stop)]
    graph = merge_graphs((RegionGraph.load(path) for path in paths), histogram=histogram)
    _save(graph, graph_path(folder, level + 1, block.number))
    return {"edges": len(graph)}


def _save(graph: RegionGraph, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("cannot write", path, error.strerror or error) from error
    graph.save(path)


def relabel_block(
    block: Block, *, fragments: Fragments, lookup: Path, target: Path
) -> dict[str, Any]:
    """Segments of a block by the table of fragments."""
    table = _loaded(str(lookup))
    ids = fragments.read(block.window)
    if not ids.all():
        raise DataError("some voxels have no fragment", fragments.path, fix="delete it and go on")
    # Only the part of the table between the block's ids is brought into memory.
    low = int(ids.min())
    part = np.ascontiguousarray(table[low : int(ids.max()) + 1])
    ids -= np.uint32(low)
    write_window(target, block.window, apply_lookup(ids, part, out=ids))
    return {}
