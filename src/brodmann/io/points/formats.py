"""One way in and one way out for points: the format is told by the name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brodmann.core import DataError, OutputError, Points, RecipeError
from brodmann.core.files import make_folder, written_beside
from brodmann.io.points.rows import Rows, settle

KINDS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".xml": "cellfinder",
    ".nml": "nml",
    ".precomputed": "annotations",
}
"""Suffix -> format; a folder with a file `info` is taken for annotations whatever its name."""
UNITS = ("voxel", "um")


def read_points(
    path: str | Path,
    *,
    unit: str = "voxel",
    spacing: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
) -> Points:
    """Read points of any format that this package knows; nothing in the file is trusted.

    CSV and Parquet need a header with y, x and, in 3D, z, in any order; score, region, marker,
    id and label are known names, other columns are kept as they are. Coordinates of
    micrometres are divided by the spacing: 0 is the centre of the first voxel.
    cellfinder XML has a column `type` (1 no cell or unknown, 2 cell) and counts planes from 0.
    NML has a column `tree`, and what `write_points` left in comments. Both count voxels, as do
    annotations.

    Parameters
    ----------
    path : str or Path
        .csv .parquet .xml .nml, or a folder of Neuroglancer's precomputed annotations.
    unit : "voxel" or "um"
        Of the coordinates in CSV and Parquet.
    spacing : sequence of float, optional
        Micrometres per axis (z, y, x). Needed for micrometres; compared with what NML and
        annotations say of theirs.
    shape : sequence of int, optional
        Of the volume (z, y, x), to refuse points outside it.

    Returns
    -------
    Points
        In voxels, float64.

    Raises
    ------
    DataError
        If the file is missing, damaged or has no header; or names the lines of all rows that
        are no numbers, not finite, or outside the volume, and says if they look like another
        unit or order of axes.
    RecipeError
        If an option does not fit.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "cells.csv"
    >>> _ = path.write_text("x,y,z,score\\n18,9,8,0.5\\n")
    >>> read_points(path, unit="um", spacing=(4, 1.8, 1.8)).coordinates.tolist()
    [[2.0, 5.0, 10.0]]
    """
    path = Path(path)
    spacing = _steps(spacing)
    if unit not in UNITS:
        raise RecipeError("points are in voxels or micrometres", "unit", repr(unit), "voxel or um")
    kind = "annotations" if (path / "info").is_file() else _kind(path, DataError)
    if not path.exists():
        raise DataError("no such file", path, fix="check the path")
    if unit == "um" and kind not in ("csv", "parquet"):
        raise RecipeError("this format counts voxels", path, "unit='um'", "leave the unit at voxel")
    if unit == "um" and spacing is None:
        raise RecipeError("micrometres need a spacing", path, fix="give it as (z, y, x)")
    return settle(_read(kind, path), path, unit, spacing, shape)


def _read(kind: str, path: Path) -> Rows:
    if kind == "csv":
        from brodmann.io.points.tables import read_csv

        return read_csv(path)
    if kind == "parquet":
        from brodmann.io.points.tables import read_parquet

        return read_parquet(path)
    if kind == "cellfinder":
        from brodmann.io.points.cellfinder import read_cellfinder

        return read_cellfinder(path)
    if kind == "nml":
        from brodmann.io.points.nml import read_nml

        return read_nml(path)
    from brodmann.io.points.annotations import read_annotations

    return read_annotations(path)


def write_points(
    points: Points,
    path: str | Path,
    *,
    unit: str = "voxel",
    spacing: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
) -> Path:
    """Write points in the format that the name tells, whole or not at all.

    CSV and Parquet keep every column and every digit. cellfinder XML and NML hold whole
    voxels; XML holds nothing but the type: column `type`, or `label` (1 cell, 0 none), else 2
    (cell) for all. NML keeps score, region, marker, label, type and id in comments;
    annotations keep those but id as properties, in single precision.

    Parameters
    ----------
    points : Points
    path : str or Path
        .csv .parquet .xml .nml .precomputed (a folder); what is there is replaced.
    unit : "voxel" or "um"
        To write in CSV and Parquet; micrometres need the spacing.
    spacing : sequence of float, optional
        Micrometres per axis; NML and annotations need it.
    shape : sequence of int, optional
        Of the volume: the bounds of annotations, else those of the points.

    Raises
    ------
    OutputError
        If the format cannot hold the points, or the disk the file.
    RecipeError
        If an option does not fit.
    """
    path = Path(path)
    kind = _kind(path, OutputError)
    steps = _steps(spacing)
    if unit not in UNITS:
        raise RecipeError("points are in voxels or micrometres", "unit", repr(unit), "voxel or um")
    if unit == "um" and kind not in ("csv", "parquet"):
        raise RecipeError("this format counts voxels", path, "unit='um'", "leave it at voxel")
    if steps is None and (unit == "um" or kind in ("nml", "annotations")):
        raise RecipeError(
            "this format needs the spacing in micrometres"
            if unit == "voxel"
            else "micrometres need a spacing",
            path,
            fix="give it as (z, y, x)",
        )
    if steps is not None and len(steps) != len(points.axes):
        raise RecipeError(
            f"points with axes {points.axes!r} need {len(points.axes)} spacings", path, steps
        )
    make_folder(path.parent)
    if kind == "annotations":
        from brodmann.io.points.annotations import write_annotations

        assert steps is not None
        return write_annotations(path, points, steps, shape=shape)
    with written_beside(path) as beside:
        try:
            _write(kind, beside, points, steps, unit, path.stem)
        except OutputError as error:
            # Name the file that was asked for, not the one beside it.
            raise OutputError(error.what, path, error.found, error.fix) from None
    return path


def _write(
    kind: str, path: Path, points: Points, steps: tuple[float, ...] | None, unit: str, name: str
) -> None:
    if kind == "cellfinder":
        from brodmann.io.points.cellfinder import write_cellfinder

        write_cellfinder(path, points)
    elif kind == "nml":
        from brodmann.io.points.nml import write_nml

        assert steps is not None
        write_nml(path, points, steps, name)
    else:
        from brodmann.io.points.tables import write_csv, write_parquet

        write = write_csv if kind == "csv" else write_parquet
        write(path, points, steps if unit == "um" else None)


def _kind(path: Path, fault: type[DataError] | type[OutputError]) -> str:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise fault(
            "not a format of points", path, path.suffix or "no suffix", f"use {' '.join(KINDS)}"
        )
    return kind


def _steps(spacing: Sequence[float] | None) -> tuple[float, ...] | None:
    if spacing is None:
        return None
    try:
        steps = tuple(float(step) for step in spacing)
    except (TypeError, ValueError):
        steps = ()
    if len(steps) not in (2, 3) or not all(0 < step < float("inf") for step in steps):
        raise RecipeError("spacing is 2 or 3 positive numbers (z, y, x)", "spacing", spacing)
    return steps
