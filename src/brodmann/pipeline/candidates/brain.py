"""Cells of a volume of any size: found by a detector, and told apart by a classifier.

Candidates are classified block by block, so that the volume is read about once more and memory
is bounded. What is done is marked; stopped or killed, the same call goes on, and writes the bytes
of an undisturbed one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Points, RecipeError, Volume
from brodmann.core.files import make_folder
from brodmann.inference.blocks import BlockGrid, Marks, work_key
from brodmann.inference.engines import Engine, EngineName, engine_of
from brodmann.inference.running import Report, quiet, run_blocks
from brodmann.inference.tissue import TissueMask
from brodmann.io.points import read_points
from brodmann.pipeline.candidates.answers import check_place, finished, publish
from brodmann.pipeline.candidates.work import (
    ClassifyJob,
    answer_path,
    classify_block,
    coordinates_of,
    load_array,
    margin_of,
    owners,
    save_array,
)
from brodmann.pipeline.cells import detect
from brodmann.pipeline.cells.detect import WORK, facts_of
from brodmann.pipeline.cells.kept import Kept
from brodmann.pipeline.cells.layout import BLOCK_VOXELS, usual_block
from brodmann.pipeline.cells.source import Source, one_channel, stamp_of
from brodmann.pipeline.neurons.volume_layout import locked
from brodmann.problems.candidates import CropClassifier
from brodmann.problems.candidates.classifier import same_spacing
from brodmann.problems.cells import Detector, Intensity, measure_intensity
from brodmann.problems.cells.detector import in_um

VERSION = 1
"""Of what blocks write: work of another version is not gone on with."""
CANDIDATES = "candidates"
"""Folder of the detector's own answer; its cells are the candidates."""
COARSE = 64
"""Voxels, along each axis, of the cubes with candidates in which further channels are measured."""


def find_classified(
    volume: Volume,
    detector: Detector,
    classifier: CropClassifier,
    out: str | Path,
    *,
    background: Volume | None = None,
    resample: bool = False,
    points: str = "cells.csv",
    block_voxels: int = BLOCK_VOXELS,
    workers: int = 1,
    engine: EngineName | Engine = "auto",
    scheduler: str | None = None,
    cluster: Callable[[], Any] | None = None,
    report: Report = quiet,
    **options: Any,
) -> Points:
    """Find candidates as `pipeline.cells.detect` does, and keep those that show a cell.

    Parameters
    ----------
    volume : Volume
        (z, y, x) or (c, z, y, x), lazily from disk.
    detector : Detector
        At a low threshold, so that nearly all cells are among its candidates.
    classifier : CropClassifier
        Of as many channels as the volume, and the background if there is one.
    out : path
        A folder. It gets the cells and non_cells in one format (z, y, x, score, probability),
        the folder candidates with the detector's answer, and last `detection.json`.
    background : Volume, optional
        The classifier's last channel, on the grid of the volume.
    resample : bool
        Read the volume at the detector's and the classifier's spacing, where it has another.
    points : str
        Name of the file of cells; that of the others begins with "non_".
    block_voxels : int
        Of the volume that is read at a time; never changes the answer.
    options
        Of `detect`: threshold, tissue, coarse, block, ...

    Returns
    -------
    Points
        The cells.

    Raises
    ------
    DataError, ModelError, RecipeError, OutputError
        As `detect`, or if the classifier does not fit the volume.
    """
    out = make_folder(Path(out).resolve())
    channels = channels_of(volume, background)
    check_fit(classifier, channels, resample)
    check_place(out)
    place = out / CANDIDATES
    with engine_of(engine, workers, scheduler, cluster) as crew:
        found = detect(
            volume,
            detector,
            place,
            resample=resample,
            points="candidates.csv",
            engine=crew,
            report=lambda what, *rest: report("candidates" if what == "cells" else what, *rest),
            **options,
        )
        facts = facts_of(place)
        if len(found):
            # As written: a call that goes on reads them too.
            found = read_points(place / facts["points"], unit="voxel")
        with locked(make_folder(out / WORK)):
            cells = _judged(
                volume, channels, classifier, found, facts, out, points, block_voxels, crew, report
            )
    shutil.rmtree(out / WORK, ignore_errors=True)
    return cells


def _judged(
    volume: Volume,
    channels: list[Volume],
    classifier: CropClassifier,
    found: Points,
    facts: dict[str, Any],
    out: Path,
    points: str,
    block_voxels: int,
    crew: Engine,
    report: Report,
) -> Points:
    """Crops of all candidates through the classifier, block by block; writes both tables."""
    kept = Kept(out / WORK, work_key(VERSION, [stamp_of(one) for one in channels]))
    digest, folder = kept.detector(classifier)  # type: ignore[arg-type]
    key = work_key(kept.key, facts["key"], facts["file_digest"], digest)
    cells = finished(out, key, points)
    if cells is not None:
        report("classify", 1, 1, f"kept, {len(cells):,} cells")
        return cells
    at = coordinates_of(found)
    intensities = _intensities(channels, Intensity(**facts["intensity"]), at)
    resampled = not same_spacing(classifier, volume.spacing)
    spacing = classifier.spacing if resampled else None
    shape = volume.spatial_shape
    margin = margin_of(classifier.shape, spacing, volume.spacing)
    grid = BlockGrid(shape, usual_block(shape, margin, block_voxels))
    base = work_key(key, [asdict(one) for one in intensities])
    work = make_folder(out / WORK / f"classified-{work_key(base, grid.block)}")
    number = owners(at, shape, grid.block)
    order = np.argsort(number, kind="stable")
    save_array(work / "candidates.npy", at[order])
    begins = np.searchsorted(number[order], np.arange(len(grid) + 1))
    save_array(work / "begins.npy", begins)
    job = ClassifyJob(
        tuple(Source(one) for one in channels),
        folder,  # type: ignore[arg-type]
        resampled,
        intensities,
        work / "candidates.npy",
        work / "begins.npy",
        work,
    )
    numbers = np.unique(number).tolist()
    run_blocks(
        partial(classify_block, job=job),
        grid,
        Marks(work / "marks", base),
        crew,
        what="classify",
        report=report,
        only=numbers,
        tell=_Count(),
    )
    probability = np.zeros(len(at), np.float32)
    for n in numbers:
        mine = order[begins[n] : begins[n + 1]]
        probability[mine] = load_array(answer_path(work, n), len(mine))
    every = Points(found.table.assign(probability=probability), "candidates")
    said = {
        "name": classifier.name,
        "digest": digest,
        "threshold": classifier.threshold,
        "crop": list(classifier.shape),
        "crop_spacing_um": list(classifier.spacing),
        "resampled": resampled,
        "intensities": [asdict(one) for one in intensities],
    }
    return publish(out, every, points, key, facts, said, volume)


def channels_of(volume: Volume, background: Volume | None = None) -> list[Volume]:
    """Each channel by itself: those of the volume, then the background."""
    parts = [volume]
    if volume.num_channels > 1:
        parts = [one_channel(volume, str(i), "volume") for i in range(volume.num_channels)]
    if background is not None:
        if background.num_channels != 1 or background.spatial_shape != volume.spatial_shape:
            raise DataError(
                "the background is one channel on the grid of the brain",
                "background",
                f"{background.axes} {background.shape}",
                f"the brain has {volume.spatial_shape}",
            )
        parts.append(background)
    return parts


def check_fit(classifier: CropClassifier, channels: list[Volume], resample: bool) -> None:
    """Refuse a classifier of other channels, or of another spacing unless crops are resampled.

    Raises
    ------
    RecipeError
    """
    volume = channels[0]
    if volume.ndim != 3:
        raise RecipeError("crops are cut from volumes in 3D", found=volume.axes)
    if len(channels) != classifier.channels:
        raise RecipeError(
            f"this classifier takes {classifier.channels} channel(s)",
            classifier.name,
            len(channels),
            "name the last one with --background (background=...), or one with --channel",
        )
    if not resample and not same_spacing(classifier, volume.spacing):
        raise RecipeError(
            f"this classifier was made at {in_um(classifier.spacing)}",
            classifier.name,
            in_um(volume.spacing),
            "add --resample (resample=True) to cut crops at its spacing, or correct that of the "
            "brain with --spacing",
        )


class _Count:
    """Candidates and cells so far, in words."""

    def __init__(self) -> None:
        self.candidates = self.cells = 0

    def __call__(self, found: dict[str, Any]) -> str:
        self.candidates += found["candidates"]
        self.cells += found["cells"]
        return f"{self.cells:,} cells of {self.candidates:,} candidates"


def _intensities(
    channels: list[Volume], signal: Intensity, at: np.ndarray
) -> tuple[Intensity, ...]:
    """The detector's for its one channel; several are measured where candidates lie."""
    if len(channels) == 1:
        return (signal,)
    shape = channels[0].spatial_shape
    scale = tuple(min(COARSE, n) for n in shape)
    low = np.zeros([-(-n // s) for n, s in zip(shape, scale)], bool)
    nearest = np.clip(np.floor(at + 0.5).astype(np.int64), 0, np.array(shape) - 1)
    low[tuple((nearest // np.array(scale)).T)] = True
    mask = TissueMask(low, scale, shape)
    return tuple(measure_intensity(Source(one).seen, mask) for one in channels)
