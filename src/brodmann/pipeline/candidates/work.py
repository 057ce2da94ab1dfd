"""The candidates of one block: their crops cut out of one reading, and classified."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Points, Volume
from brodmann.core.files import written_beside
from brodmann.inference.blocks import FOLDER_SIZE, Block
from brodmann.io.crops import cut_crops
from brodmann.io.raw import reading
from brodmann.io.sampling import REACH
from brodmann.pipeline.cells.source import Source
from brodmann.problems.candidates import CropClassifier, load_classifier
from brodmann.problems.candidates.classifier import BATCH
from brodmann.problems.cells import Intensity
from brodmann.problems.cells.detector import as_points

TOGETHER = 8 * BATCH
"""Crops that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class ClassifyJob:
    """All that the blocks of one run need to know.

    Attributes
    ----------
    sources : tuple of Source
        One channel each.
    classifier : Path
        Read once in each process.
    resample : bool
        Whether crops are cut at the classifier's spacing.
    intensities : tuple of Intensity
    candidates : Path
        (n, 3) float64 in the order of blocks, see `save_array`.
    begins : Path
        (blocks + 1,) int64: where those of each block begin.
    folder : Path
        For the probabilities of blocks.
    """

    sources: tuple[Source, ...]
    classifier: Path
    resample: bool
    intensities: tuple[Intensity, ...]
    candidates: Path
    begins: Path
    folder: Path


def classify_block(block: Block, job: ClassifyJob) -> dict[str, Any]:
    """Write the probabilities of a block's candidates; says how many there are.

    Raises
    ------
    DataError, ModelError
        If the volume is damaged there, or an answer is no number.
    """
    classifier = _loaded(job.classifier)
    begin, end = load_array(job.begins)[block.number : block.number + 2]
    at = np.array(load_array(job.candidates)[begin:end])
    found = probabilities(at, job.sources, classifier, job.intensities, job.resample)
    save_array(answer_path(job.folder, block.number), found)
    return {"candidates": len(at), "cells": int((found > classifier.threshold).sum())}


def probabilities(
    at: np.ndarray,
    sources: Sequence[Source],
    classifier: CropClassifier,
    intensities: Sequence[Intensity],
    resample: bool,
) -> np.ndarray:
    """(n, 3) voxels -> (n,) float32; the box about all of them is read once."""
    spacing = classifier.spacing if resample else None
    pieces = [piece_about(at, source, classifier.shape, spacing) for source in sources]
    cubes = cut_crops(
        as_points(at, np.zeros(len(at))), pieces, shape=classifier.shape, spacing=spacing
    )
    parts = [classifier.probability(some, intensities) for some in stacks(cubes, TOGETHER)]
    return np.concatenate(parts)


def stacks(cubes: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """So many at a time.

    >>> [len(some) for some in stacks(iter(np.zeros((5, 2))), 3)]
    [3, 2]
    """
    while some := list(islice(cubes, size)):
        yield np.stack(some)


def margin_of(
    shape: Sequence[int], spacing: Sequence[float] | None, stored: Sequence[float]
) -> tuple[int, ...]:
    """Stored voxels on either side of a candidate that its crop may depend on.

    >>> margin_of((8, 32, 32), None, (4, 2, 2))
    (5, 17, 17)
    """
    reach = []
    for size, step, own in zip(shape, stored if spacing is None else spacing, stored):
        ratio = step / own
        smoothing = math.ceil(REACH * max(0.0, (ratio - 1) / 2))
        extra = 1 if spacing is None else 3 + smoothing
        reach.append(math.ceil((size // 2) * ratio) + extra)
    return tuple(reach)


def piece_about(
    at: np.ndarray, source: Source, shape: Sequence[int], spacing: Sequence[float] | None
) -> Volume:
    """A volume of the source's shape of which the box about all points is in memory."""
    whole, stored = source.volume.spatial_shape, source.volume.spacing
    margin = margin_of(shape, spacing, stored)
    window = tuple(
        slice(max(0, math.floor(low) - m), min(n, math.ceil(high) + m + 1))
        for low, high, m, n in zip(at.min(0), at.max(0), margin, whole)
    )
    values = source.read(window)
    values = values.reshape(values.shape[-3:])
    return Volume(_Piece(values, tuple(w.start for w in window), whole), "zyx", stored)


@dataclass(frozen=True, eq=False)
class _Piece:
    """An array of which a box is known."""

    values: np.ndarray
    origin: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        inner = tuple(slice(w.start - o, w.stop - o) for w, o in zip(window, self.origin))
        if any(w.start < 0 or w.stop > n for w, n in zip(inner, self.values.shape)):
            raise IndexError(f"{window} is not within the box that was read")
        return self.values[inner]


def answer_path(folder: Path, number: int) -> Path:
    """Where the probabilities of a block lie."""
    return folder / str(number // FOLDER_SIZE) / f"{number}.npy"


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        np.save(beside, values, allow_pickle=False)


def load_array(path: Path, count: int | None = None) -> np.ndarray:
    """What `save_array` wrote.

    Raises
    ------
    DataError
        If it is not there, is damaged or holds another number of values.
    """
    with reading(path):
        values = np.load(path, allow_pickle=False, mmap_mode="r")
        if count is not None and len(values) != count:
            raise DataError("a file of finished work was changed", path, f"{len(values)} values")
        return values


def owners(at: np.ndarray, shape: Sequence[int], block: Sequence[int]) -> np.ndarray:
    """(n, 3) voxels -> (n,) numbers of the blocks that own them, of a `BlockGrid`.

    >>> owners(np.array([[0.4, 0, 9.6]]), (4, 4, 10), (2, 2, 5)).tolist()
    [1]
    """
    counts = [-(-n // min(b, n)) for n, b in zip(shape, block)]
    nearest = np.clip(np.floor(at + 0.5).astype(np.int64), 0, np.array(shape) - 1)
    return np.ravel_multi_index(tuple((nearest // np.array(block)).T), counts)


def coordinates_of(points: Points) -> np.ndarray:
    """(n, 3) float64, contiguous: the same bytes for the same places."""
    return np.ascontiguousarray(points.coordinates, np.float64)


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> CropClassifier:
    return load_classifier(folder)  # named by its fingerprint
