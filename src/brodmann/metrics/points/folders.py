"""Models on the markers of a folder of true tables: the matrix, from files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Points, RecipeError
from brodmann.metrics.points.matching import Mode, match
from brodmann.metrics.points.matrix import MarkerMatrix, marker_matrix
from brodmann.metrics.points.regions import Region, read_regions, rows_in
from brodmann.metrics.points.scores import TOLERANCE_VX, PointScore, count, resolve_tolerance
from brodmann.metrics.points.summary import summarise
from brodmann.metrics.points.wrong import explain

SUFFIXES = (".csv", ".parquet", ".xml", ".nml")
TRUTH_END = "_gt"


@dataclass(frozen=True)
class TrueTable:
    """A file of true cells: `<marker>_<brain>_region1_gt.csv` of the tree of CANVAS."""

    path: Path
    stem: str
    marker: str
    region: str
    subject: str


def true_table(path: Path, marker: str | None = None) -> TrueTable:
    """What a file's name says; the marker is its first word, if it is one of TOLERANCE_VX.

    Raises
    ------
    DataError
        If it names no marker and none is given.

    Example
    -------
    >>> found = true_table(Path("NeuN_b12_region3_gt.csv"))
    >>> found.marker, found.region, found.subject
    ('NeuN', 'b12_region3', 'b12')
    """
    stem = path.stem.removesuffix(TRUTH_END)
    first, _, rest = stem.partition("_")
    known = {name.lower(): name for name in TOLERANCE_VX}.get(first.lower())
    if marker is None and known is None:
        raise DataError(
            "the name of this file names no marker",
            path,
            repr(first),
            f"begin it with one of {', '.join(TOLERANCE_VX)}, or give --marker",
        )
    region = rest if known and rest else stem
    subject = re.sub(r"_?region.*$", "", region, flags=re.IGNORECASE)
    return TrueTable(path, stem, marker or str(known), region, subject or region)


def score_folders(
    pred: str | Path,
    truth: str | Path,
    *,
    unit: str = "voxel",
    spacing: Sequence[float] | None = None,
    tolerance: float | str | None = None,
    marker: str | None = None,
    mode: Mode = "greedy_global",
    regions: str | Path | None = None,
    origin: str = "brain",
    truth_origin: str = "brain",
    repeats: int = 2000,
    seed: int = 0,
    report: Callable[[str, int, int, str], None] | None = None,
) -> tuple[MarkerMatrix, dict[str, Any]]:
    """Score every model on every true table.

    Parameters
    ----------
    pred : path
        A folder with a folder for each model, or the tables of one model. A table has the name
        of its true table, with or without the end "_gt".
    truth : path
        A folder of tables whose names begin with the marker, as NeuN_brain_region1_gt.csv.
    regions : path, optional
        Boxes by the names of the true tables without "_gt"; see `read_regions`.
    tolerance, marker
        For all tables, where names and TOLERANCE_VX do not say it.
    unit, spacing, mode, origin, truth_origin, repeats, seed, report
        As `score_cells`.

    Returns
    -------
    MarkerMatrix, dict
        The dict is JSON-safe: the matrix, and for each marker and model the pooled score, its
        interval, the mean over regions and the worst subject.

    Raises
    ------
    DataError
        If a table is missing or at fault; a model must have one for every true table, if empty.
    """
    from brodmann.metrics.score_cells import read_cells

    truths = [true_table(path, marker) for path in _tables(Path(truth))]
    boxes = {region.name: region for region in read_regions(regions)} if regions else {}
    if "box" in (origin, truth_origin) and not boxes:
        raise RecipeError(
            "coordinates from a box's corner need the boxes", "origin", fix="--regions"
        )
    models = _models(Path(pred), truths)
    steps = None if spacing is None else tuple(float(step) for step in spacing)
    records: list[tuple[str, str, str, PointScore]] = []
    for done, table in enumerate(truths):
        region = boxes.get(table.stem, Region(table.stem))
        if boxes and table.stem not in boxes:
            raise DataError(
                "this table has no box", table.path, fix=f"add {table.stem} to {regions}"
            )
        named = table.marker if tolerance is None else None
        limit, measure = resolve_tolerance(tolerance, named, unit, spacing)
        main = steps if measure == "um" else None
        true = _placed(read_cells(table.path, unit, spacing), region, truth_origin, table.path)
        for model, files in models.items():
            file = files[table.stem]
            found = _placed(read_cells(file, unit, spacing), region, origin, file)
            pair = [points[region.holds(points)] for points in (found, true)]
            score = count(match(*pair, limit, mode, main), measure == "um")
            explain([(region, (found, true))], score, limit, main, steps, unit, str(file))
            records.append((table.marker, table.region, model, score))
        if report:
            report("score", done + 1, len(truths), table.stem)
    matrix = marker_matrix(records)
    subjects = {(table.marker, table.region): table.subject for table in truths}
    summaries = []
    for name in matrix.markers:
        for model in matrix.models:
            scores = {region: matrix.scores[name, region, model] for region in matrix.regions[name]}
            whole = summarise(
                scores, {r: subjects[name, r] for r in scores}, repeats=repeats, seed=seed
            )
            summaries.append({"marker": name, "model": model, **whole.as_dict()})
    result = matrix.as_dict() | {"pred": str(pred), "truth": str(truth), "mode": mode}
    return matrix, result | {"summaries": summaries}


def _placed(cells: Points, region: Region, origin: str, where: Path) -> np.ndarray:
    """Coordinates from the corner of the brain, checked."""
    points = cells.coordinates
    rows_in(points, region, origin, str(where))  # type: ignore[arg-type]
    return points + np.array(region.start) if origin == "box" else points


def _tables(folder: Path) -> list[Path]:
    files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES and f.is_file()]
    if not files:
        raise DataError(
            "the folder holds no table of points", folder, fix=f"use {' '.join(SUFFIXES)}"
        )
    return files


def _models(pred: Path, truths: Sequence[TrueTable]) -> dict[str, dict[str, Path]]:
    """Model -> stem -> file, complete."""
    folders = [f for f in sorted(pred.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    models = {}
    for folder in folders or [pred]:
        files = {f.stem.removesuffix(TRUTH_END): f for f in _tables(folder)}
        missing = [table.stem for table in truths if table.stem not in files]
        if missing:
            raise DataError(
                f"model {folder.name!r} has no table for {len(missing)} of {len(truths)} true ones",
                folder,
                f"none for {missing[0]}",
                "where nothing was found, write a table with a header alone",
            )
        models[folder.name] = files
    return models
