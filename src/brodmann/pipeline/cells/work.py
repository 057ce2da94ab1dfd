"""The work on one block of a volume, in whatever process, and the files that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, ModelError
from brodmann.core.files import written_beside
from brodmann.inference.blocks import FOLDER_SIZE, Block
from brodmann.inference.tissue import TissueMask
from brodmann.io.raw import reading
from brodmann.pipeline.cells.layout import Layout
from brodmann.pipeline.cells.source import Source
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import Detector, Intensity, load_detector


@dataclass(frozen=True, eq=False)
class Job:
    """All that the blocks of one run need to know.

    Attributes
    ----------
    source : Source
    layout : Layout
    detector : Detector or Path
        A folder is read once in each process.
    intensity : Intensity
    threshold : float
    tissue : Path, optional
        See `save_tissue`.
    folder : Path
        For the points of blocks.
    """

    source: Source
    layout: Layout
    detector: Detector | Path
    intensity: Intensity
    threshold: float
    tissue: Path | None
    folder: Path


def detect_block(block: Block, job: Job) -> dict[str, Any]:
    """Find the peaks that a block owns and write them; says how many.

    Raises
    ------
    DataError, ModelError
        If the volume is damaged there, or the detector gives no heat.
    """
    detector = _loaded(job.detector) if isinstance(job.detector, Path) else job.detector
    raw, origin = job.layout.padded(job.source.read, block)
    trim = [m - r for m, r in zip(job.layout.margin, job.layout.radius)]
    spatial = tuple(n - 2 * t for n, t in zip(raw.shape[-len(origin) :], trim))
    heat = detector.heat(raw, job.intensity, trim)
    del raw
    if tuple(heat.shape) != spatial:
        raise ModelError(
            "the detector's heat has another shape than its image",
            detector.name,
            f"{tuple(heat.shape)} instead of {spatial}",
        )
    window = job.layout.window(block)
    cut = tuple(slice(w.start - o - t, w.stop - o - t) for w, o, t in zip(window, origin, trim))
    core = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(block.window, window))
    try:
        at, scores = find_maxima(heat[cut], job.layout.radius, job.threshold, core)
    except DataError as error:
        # Its place is one within the block.
        raise DataError(error.what, detector.name, fix=error.fix) from error
    at += [w.start for w in window]
    if job.tissue is not None and len(at):
        kept = inside(_tissue(job.tissue), job.source, at)
        at, scores = at[kept], scores[kept]
    if len(at):
        save_points(points_path(job.folder, block.number), at, scores)
    return {"cells": len(at), "missing_chunks": job.source.missing(block.window)}


def inside(mask: TissueMask, source: Source, at: np.ndarray) -> np.ndarray:
    """Which of (n, d) voxels lie in tissue: so that the answer is the same for any block."""
    stored = np.floor(source.stored(at) + 0.5).astype(np.int64)
    stored = np.clip(stored, 0, np.array(mask.shape) - 1)
    return mask.low[tuple((stored // np.array(mask.scale)).T)]


def points_path(folder: Path, number: int) -> Path:
    """Where the points of a block lie; a block without any has no file."""
    return folder / str(number // FOLDER_SIZE) / f"{number}.npy"


def save_points(path: Path, at: np.ndarray, scores: np.ndarray) -> None:
    """Write (n, d) voxels and (n,) scores, whole or not at all."""
    table = np.empty(
        len(at), [*((axis, "<i4") for axis in "zyx"[-at.shape[1] :]), ("score", "<f4")]
    )
    for i, axis in enumerate("zyx"[-at.shape[1] :]):
        table[axis] = at[:, i]
    table["score"] = scores
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        np.save(beside, table, allow_pickle=False)


def load_points(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What `save_points` wrote.

    Raises
    ------
    DataError
        If it is not there, is damaged or holds another number of points.
    """
    with reading(path):
        table = np.load(path, allow_pickle=False)
        if len(table) != count:
            raise ValueError(f"{len(table)} points of {count}")
        axes = [name for name in table.dtype.names if name != "score"]
        return np.stack([table[axis] for axis in axes], 1).astype(np.int64), table["score"]


def save_tissue(path: Path, mask: TissueMask) -> None:
    """Write a mask, whole or not at all."""
    with written_beside(path) as beside:
        np.savez_compressed(beside, low=mask.low, scale=mask.scale, shape=mask.shape)


def load_tissue(path: Path) -> TissueMask:
    """What `save_tissue` wrote."""
    with reading(path), np.load(path, allow_pickle=False) as parts:
        scale, shape = (tuple(int(n) for n in parts[name]) for name in ("scale", "shape"))
        return TissueMask(parts["low"].astype(bool), scale, shape)


@lru_cache(maxsize=2)
def _tissue(path: Path) -> TissueMask:
    return load_tissue(path)  # named by its fingerprint


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> Detector:
    return load_detector(folder)  # named by its fingerprint
