"""Rows as a file has them, and what makes points of them: units, bounds, and every bad line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.core import DataError, Points
from brodmann.core.points import COORDINATES

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Spans of bad lines that an error names."""
SPACING_TOLERANCE = 0.01
ENOUGH_TO_GUESS = 20


@dataclass(frozen=True, eq=False)
class Rows:
    """What a reader found.

    Attributes
    ----------
    table : DataFrame
        Coordinates as they stand, as text or numbers.
    lines : callable
        Row numbers -> line numbers of the file.
    unit : "voxel", "um" or ""
        What the file itself says; "" if it says nothing.
    spacing : tuple of float, optional
        What the file says, in micrometres.
    counted : str
        What a line is called.
    """

    table: pd.DataFrame
    lines: Callable[[np.ndarray], Sequence[int]]
    unit: str = ""
    spacing: tuple[float, ...] | None = None
    counted: str = "line"


def settle(
    rows: Rows,
    path: Path,
    unit: str,
    spacing: tuple[float, ...] | None,
    shape: Sequence[int] | None,
) -> Points:
    """Points in voxels, or a DataError that names every line at fault."""
    table = rows.table.copy(deep=False)
    axes = "".join(axis for axis in COORDINATES if axis in table.columns)
    for given, what in ((spacing, "spacing"), (shape, "shape")):
        if given is not None and len(given) != len(axes):
            raise DataError(f"the {what} has {len(given)} axes", path, f"columns {', '.join(axes)}")
    if rows.unit and rows.unit != unit:
        raise DataError(
            f"the columns say {rows.unit}", path, f"unit={unit!r}", f"read with unit={rows.unit!r}"
        )
    if spacing is not None and rows.spacing is not None:
        _check_spacing(rows.spacing, spacing, path)
    bad: dict[str, np.ndarray] = {}
    for column in [*axes, *({"score"} & set(table.columns))]:
        values, faults = numbers(table[column], empty_is_fine=column == "score")
        table[column] = values
        for what, where in faults.items():
            bad[f"{column} is {what}"] = where
    at = table[list(axes)].to_numpy(dtype=np.float64)
    hint = ""
    if shape is not None:
        inside = _inside(at if unit == "voxel" else at / np.array(spacing), shape)
        outside = ~inside & np.isfinite(at).all(axis=1)
        if outside.any():
            bad[f"outside the volume {' x '.join(map(str, shape))}"] = np.flatnonzero(outside)
            hint = _guess(at[np.isfinite(at).all(axis=1)], unit, spacing, shape)
    if bad:
        told = "; ".join(
            f"{spans(rows.lines(where), rows.counted)}: {what}" for what, where in bad.items()
        )
        count = len(np.unique(np.concatenate(list(bad.values()))))
        raise DataError(
            f"{count} of {len(table)} points cannot be used",
            path,
            told,
            hint or "mend these rows or take them out",
        )
    if unit == "um":
        _doubt(at, spacing, path)
        table[list(axes)] = at / np.array(spacing)
    return Points(table, str(path))


def _check_spacing(found: Sequence[float], wanted: Sequence[float], path: Path) -> None:
    if not np.allclose(found, wanted, rtol=SPACING_TOLERANCE):
        raise DataError(
            "the points are of another spacing",
            path,
            f"{_listed(found)} um, the volume {_listed(wanted)} um",
            "find out which volume they were made on",
        )


def numbers(column: pd.Series, empty_is_fine: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A column as float64, and the rows that are none: fault -> row numbers."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan), {"no number": np.arange(len(column))}
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        words = np.zeros(len(column), bool)
        empty = np.isnan(values)
    else:
        text = column.fillna("").astype(str).str.strip()
        values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        lower = text.str.lower()
        empty = (lower == "").to_numpy(dtype=bool)
        words = np.isnan(values) & ~empty & ~lower.isin(("nan", "na", "+nan", "-nan")).to_numpy()
    faults = {"no number": words, "infinite": np.isinf(values)}
    missing = np.isnan(values) & ~words
    if not empty_is_fine:
        faults |= {"empty": missing & empty, "NaN": missing & ~empty}
        if pd.api.types.is_numeric_dtype(column.dtype):
            faults |= {"empty": np.zeros_like(empty), "NaN": missing}
    found = {what: np.flatnonzero(where) for what, where in faults.items() if where.any()}
    return values, found


def spans(lines: Sequence[int], counted: str = "line") -> str:
    """Line numbers in words.

    >>> spans([4, 7, 8, 9]), spans([2], "row")
    ('lines 4, 7-9', 'row 2')
    """
    numbers_ = np.sort(np.asarray(lines))
    breaks = np.flatnonzero(np.diff(numbers_) > 1)
    starts = numbers_[np.r_[0, breaks + 1]]
    ends = numbers_[np.r_[breaks, len(numbers_) - 1]]
    parts = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts[:SHOWN], ends[:SHOWN])]
    if len(starts) > SHOWN:
        shown = sum(int(b - a + 1) for a, b in zip(starts[:SHOWN], ends[:SHOWN]))
        parts.append(f"and {len(numbers_) - shown} more")
    return f"{counted}{'s' if len(numbers_) > 1 else ''} {', '.join(parts)}"


def outside(points: Points, shape: Sequence[int]) -> np.ndarray:
    """Which points are outside a volume, as (n,) bool; its borders are -0.5 and n - 0.5.

    >>> import pandas as pd
    >>> outside(Points(pd.DataFrame({"y": [-0.5, 3.6], "x": [0, 0]})), (4, 4)).tolist()
    [False, True]
    """
    return ~_inside(points.coordinates, shape)


def _inside(at: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.all((at >= -0.5) & (at <= np.array(shape) - 0.5), axis=1)


def _guess(
    at: np.ndarray, unit: str, spacing: tuple[float, ...] | None, shape: Sequence[int]
) -> str:
    """What would bring all points inside, if anything simple does."""
    voxels = at if unit == "voxel" else at / np.array(spacing)
    if unit == "um" and _inside(at, shape).all():
        return "they look like voxels: read them with unit='voxel'"
    if unit == "voxel" and spacing is not None and _inside(at / np.array(spacing), shape).all():
        return "they look like micrometres: read them with unit='um'"
    if _inside(voxels[:, ::-1], shape).all():
        return "the first and the last axis look exchanged: see what the columns mean"
    return ""


def _doubt(at: np.ndarray, spacing: Any, path: Path) -> None:
    """Say so where micrometres are whole numbers although voxels are not."""
    whole = len(at) >= ENOUGH_TO_GUESS and (at == np.rint(at)).all()
    if whole and (np.array(spacing) != np.rint(spacing)).any():
        warnings.warn(
            f"{path}: all coordinates are whole numbers, voxels of {_listed(spacing)} um are not: "
            "are these voxels rather than micrometres?",
            stacklevel=4,
        )


def _listed(spacing: Sequence[float]) -> str:
    return " x ".join(f"{step:g}" for step in spacing)
