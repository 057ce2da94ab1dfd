"""Affinities to segments for volumes of any size: in blocks, resumable, the same whatever they are.

Fragments are made in cells, numbered in the order of the cells; the region graph is added up from
blocks in whole numbers; one agglomeration of the whole graph follows, and blocks are relabelled.
Memory grows with the graph, not with the volume.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, RecipeError
from brodmann.core.affinities import Offset
from brodmann.core.files import make_folder
from brodmann.inference.blocks import BlockGrid, Marks, work_key
from brodmann.inference.engines import Engine, EngineName
from brodmann.inference.running import Report, quiet, run_blocks
from brodmann.io.ngff import add_pyramid
from brodmann.pipeline.neurons.volume_layout import (
    BLOCK_VOXELS,
    IN_CORE_VOXELS,
    fragment_cells,
    locked,
    open_array,
    processing_block,
)
from brodmann.pipeline.neurons.volume_source import Source, open_source
from brodmann.pipeline.neurons.volume_stages import (
    MERGED_AT_ONCE,
    Fragments,
    fragment_cell,
    graph_block,
    graph_path,
    merge_block,
    relabel_block,
    save_array,
    write_window,
)
from brodmann.postprocess.fragments import MAX_IDS, USUAL, FragmentOptions
from brodmann.postprocess.graph import RegionGraph
from brodmann.postprocess.methods import METHODS, Method, find_method, partitions, segment

VERSION = 1
"""Of what the stages write: work of another version is not gone on with."""
ATTRIBUTE = "neurons"
Order = Callable[[int], Sequence[int]]


def segment_volume(
    affinities: str | Path,
    out: str | Path,
    *,
    method: str = "mean",
    value: float | None = None,
    fragments: FragmentOptions = USUAL,
    offsets: Sequence[Offset] | None = None,
    kind: str | None = None,
    anchor: str | None = None,
    dataset: str = "",
    spacing: Sequence[float] | None = None,
    block: Sequence[int] | None = None,
    block_voxels: int = BLOCK_VOXELS,
    fragment_block: Sequence[int] | None = None,
    workers: int = 1,
    engine: EngineName = "auto",
    scheduler: str | None = None,
    work: str | Path | None = None,
    pyramid: bool = True,
    order: Order | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """Segment affinities on disk into an OME-Zarr of labels, uint32.

    The answer is that of `postprocess.segment` on the whole, id for id, whatever the blocks,
    workers and order, as long as fragments are made from whole slices (the default, up to
    volume_layout.SLICE_VOXELS a slice) or from the whole volume. With `fragment_block`, or
    where that is too large, fragments end at the faces of their cells. The cells then are part of
    the method: the answer depends on them, and still not on blocks, workers and order.

    Stopped or killed, the same call goes on, and writes the bytes of an undisturbed one.

    Parameters
    ----------
    affinities : path
        Zarr, OME-Zarr, HDF5, TIFF, anything `read_volume` opens as (c, z, y, x): uint8, or
        floats in 0..1 that are converted block by block. "FILE::NAME", or `dataset`, names what
        is within.
    out : path
        Ends in .zarr. It appears when it is complete. While work goes on, "OUT.work" holds what
        is done; 4 bytes a voxel for fragments, as much for labels, before compression.
    method, value
        Of `postprocess.METHODS` and its one number. Methods that need the whole affinities
        (waterz-..., mutex, voxels) run where the volume has at most
        volume_layout.IN_CORE_VOXELS voxels.
    fragments : FragmentOptions
    offsets, kind, anchor, spacing
        See `volume_source.open_source`; with `kind` the check for a boundary map is left out.
    block : (z, y, x), optional
        Voxels of a processing block; else about `block_voxels`, fitted to the input's chunks.
    fragment_block : (z, y, x), optional
        Cells of the fragments.
    workers, engine, scheduler
        See `inference.engines.Engine`.
    work : path, optional
        Where fragments and region graph are made, and kept: with another method or value, the
        next call takes them from there.
    pyramid : bool
        Add the coarser levels.
    order : callable, optional
        Number of blocks -> another order to begin them in.
    report : callable
        Called as (stage, blocks done, blocks, note).

    Returns
    -------
    dict
        out, shape, spacing, method, its parameter, fragments, edges, segments, convention,
        fragment_block, fragments_exact, missing_chunks, seconds. All but the seconds are also in
        the attribute "neurons" of the Zarr group.

    Raises
    ------
    DataError, RecipeError, OutputError
        On bad input, options, a full disk, dying workers.
    """
    began = time.monotonic()
    found = find_method(method)
    value = found.default if value is None else float(value)
    out = Path(out).resolve()
    if not out.name.endswith(".zarr") or out.name == ".zarr":
        raise OutputError("segments are written as OME-Zarr", out, fix="end the name in .zarr")
    source = open_source(
        affinities, dataset=dataset, offsets=offsets, kind=kind, anchor=anchor, spacing=spacing
    )
    for name, asked in (("block", block), ("fragment block", fragment_block)):
        if asked is not None and (len(asked) != 3 or min(asked) < 1):
            raise RecipeError("a block is three sizes of at least 1", name, tuple(asked))
    cells, exact = fragment_cells(
        source.shape, source.spacing, fragments, fragment_block, block_voxels
    )
    if block is None:
        chunks = getattr(source.nearest().volume.data._array, "chunks", None)
        block = processing_block(source.shape, chunks[-3:] if chunks else None, block_voxels)
    grid = BlockGrid(source.shape, tuple(block))
    base = work_key(
        VERSION, source.stamp, source.convention.to_dict(), source.spacing, source.shape
    )
    if found.in_core_only:
        _check_in_core(source, found, fragment_block)
    facts = {
        "source": Path(source.path).name,
        "shape": list(source.shape),
        "spacing_um": list(source.spacing),
        "method": method,
        found.parameter: value,
        "watershed_threshold": fragments.threshold,
        "seed_sigma": fragments.sigma,
        "per_slice": fragments.per_slice,
        "min_size": fragments.min_size,
        "fragment_block": None if exact else list(cells.block),
        "fragments_exact": exact,
        "convention": source.convention.to_dict(),
        "pyramid": pyramid,
    }
    # Blocks belong to the key for the layout of the file alone.
    key = work_key(base, {k: v for k, v in facts.items() if k != "source"}, grid.block)
    kept = _kept(out, key)
    if kept is not None:
        return {"out": str(out), **kept, "seconds": 0.0, "kept": True}
    folder = make_folder(Path(work).resolve() if work else out.with_name(out.name + ".work"))
    make_folder(out.parent)
    with locked(folder), Engine(engine, workers, scheduler) as crew:
        stages = _Stages(source, folder, crew, order, report)
        labels = make_folder(folder / f"labels-{key}")
        if found.in_core_only:
            facts |= stages.in_core(labels, key, grid, found, value, fragments)
        else:
            parts, count, missing, part_key = stages.fragments(base, cells, fragments)
            graph, graph_key = stages.graph(part_key, parts, grid, found.histogram)
            facts |= {"fragments": count, "edges": len(graph), "missing_chunks": missing}
            facts |= stages.relabel(labels, graph_key, parts, grid, graph, count, found, value)
        if pyramid:
            report("pyramid", 0, 1, "")
            add_pyramid(labels / "labels.zarr", labels=True)
            report("pyramid", 1, 1, "")
        _publish(labels / "labels.zarr", out, key, facts)
        shutil.rmtree(labels, ignore_errors=True)
    if work is None:
        shutil.rmtree(folder, ignore_errors=True)
    return {"out": str(out), **facts, "seconds": time.monotonic() - began, "kept": False}


class _Stages:
    """The stages of one run, each in a folder named by all that it depends on."""

    def __init__(
        self, source: Source, folder: Path, engine: Engine, order: Order | None, report: Report
    ) -> None:
        self.source, self.folder, self.engine = source, folder, engine
        self.order, self.report = order, report

    def run(self, what: str, work: Any, grid: BlockGrid, marks: Marks) -> dict[int, dict]:
        order = self.order(len(grid)) if self.order else None
        return run_blocks(
            work, grid, marks, self.engine, what=what, report=self.report, order=order
        )

    def fragments(
        self, base: str, cells: BlockGrid, options: FragmentOptions
    ) -> tuple[Fragments, int, int, str]:
        """Fragments of all cells, how many, chunks that were missing, and the key of it all."""
        key = work_key(base, vars(options), cells.block, cells.halo)
        folder = make_folder(self.folder / f"fragments-{key}")
        marks = open_array(folder, "fragments", key, cells, self.source.spacing)
        parts = Fragments(folder, cells)
        work = partial(fragment_cell, source=self.source, options=options, fragments=parts)
        done = self.run("fragments", work, cells, marks)
        counts = [facts["fragments"] for facts in done.values()]
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        if starts[-1] > MAX_IDS:
            raise DataError("more fragments than uint32 counts", found=int(starts[-1]))
        save_array(parts.starts, starts)
        missing = sum(facts["missing"] for facts in done.values())
        return parts, int(starts[-1]), missing, key

    def graph(
        self, base: str, parts: Fragments, grid: BlockGrid, histogram: bool
    ) -> tuple[RegionGraph, str]:
        """The region graph of all blocks, and its key."""
        key = work_key(base, grid.block, histogram)
        folder = make_folder(self.folder / f"graph-{key}")
        work: Any = partial(
            graph_block,
            source=self.source,
            fragments=parts,
            folder=folder,
            histogram=histogram,
        )
        self.run("edges", work, grid, Marks(folder / "marks-0", key))
        count, level = len(grid), 0
        while count > 1:
            groups = BlockGrid((count,), (MERGED_AT_ONCE,))
            work = partial(merge_block, folder=folder, level=level, histogram=histogram)
            level += 1
            self.run(f"merge {level}", work, groups, Marks(folder / f"marks-{level}", key))
            count = len(groups)
        return RegionGraph.load(graph_path(folder, level, 0)), key

    def relabel(
        self,
        folder: Path,
        base: str,
        parts: Fragments,
        grid: BlockGrid,
        graph: RegionGraph,
        count: int,
        method: Method,
        value: float,
    ) -> dict[str, Any]:
        """Agglomerate, and write the segments of all blocks into labels.zarr."""
        key = work_key(base, method.name, value)
        lookup = folder / f"lookup-{key}.npy"
        if not lookup.exists():
            self.report("agglomerate", 0, 1, f"{len(graph)} edges")
            (table,) = partitions(graph, count, method.name, [value])
            save_array(lookup, table)
        self.report("agglomerate", 1, 1, f"{len(graph)} edges")
        marks = open_array(folder, "labels", key, grid, self.source.spacing)
        target = folder / "labels.zarr"
        work = partial(relabel_block, fragments=parts, lookup=lookup, target=target)
        self.run("segments", work, grid, marks)
        return {"segments": int(np.load(lookup, mmap_mode="r", allow_pickle=False).max())}

    def in_core(
        self,
        folder: Path,
        key: str,
        grid: BlockGrid,
        method: Method,
        value: float,
        options: FragmentOptions,
    ) -> dict[str, Any]:
        """The same by a method that needs everything in memory."""
        self.report(method.name, 0, 1, "in memory")
        whole = self.source.whole().canonical(where=self.source.path)
        workers = 1 if self.engine.scheduler else self.engine.workers
        ((_, labels),) = segment(whole, method.name, [value], options, workers=workers)
        self.report(method.name, 1, 1, "in memory")
        open_array(folder, "labels", key, grid, self.source.spacing)
        for block in grid:
            write_window(folder / "labels.zarr", block.window, labels[block.window])
        every = tuple(slice(0, n) for n in self.source.shape)
        return {"segments": int(labels.max()), "missing_chunks": self.source.missing(every)}


def _check_in_core(source: Source, method: Method, fragment_block: Any) -> None:
    voxels = math.prod(source.shape)
    if voxels > IN_CORE_VOXELS:
        able = ", ".join(name for name, m in METHODS.items() if not m.in_core_only)
        raise RecipeError(
            f"{method.name} needs the whole affinities in memory, up to {IN_CORE_VOXELS} voxels",
            source.path,
            f"{voxels} voxels",
            f"choose one of {able}",
        )
    if fragment_block is not None:
        raise RecipeError(
            "in memory fragments are made of the whole volume",
            "fragment block",
            tuple(fragment_block),
            f"leave it out for {method.name}",
        )


def _kept(out: Path, key: str) -> dict[str, Any] | None:
    """What an earlier call wrote, None if nothing is there; anything else is in the way."""
    if not out.exists():
        return None
    said = None
    if (out / "zarr.json").is_file():
        import zarr

        from brodmann.io.raw import reading

        with reading(out):
            said = zarr.open_group(str(out), mode="r").attrs.get(ATTRIBUTE)
    if isinstance(said, dict) and said.get("key") == key:
        return {name: part for name, part in said.items() if name != "key"}
    what = "segments of other affinities or settings are" if said else "something else is"
    raise OutputError(f"{what} in the way", out, fix="remove it or choose another place")


def _publish(made: Path, out: Path, key: str, facts: dict[str, Any]) -> None:
    """Name what was made, and put it in its place."""
    import zarr

    try:
        zarr.open_group(str(made), mode="r+").attrs[ATTRIBUTE] = {"key": key, **facts}
        if made.stat().st_dev == out.parent.stat().st_dev:
            made.rename(out)
            return
        from brodmann.io.ngff import folder_beside

        with folder_beside(out) as beside:
            shutil.copytree(made, beside)
    except OSError as error:
        raise OutputError(
            "cannot write", out, error.strerror or error, "free some space"
        ) from error
