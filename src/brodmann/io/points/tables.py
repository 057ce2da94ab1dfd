"""Points as tables: CSV with a header, and Parquet."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brodmann.core import DataError, OutputError, Points
from brodmann.core.points import COORDINATES, OPTIONAL
from brodmann.io.points.rows import Rows
from brodmann.io.raw import check_file, reading

if TYPE_CHECKING:
    import pandas as pd

KNOWN = (*COORDINATES, *OPTIONAL, "id", "label", "type")
"""Columns that are found whatever their case."""
DELIMITERS = (",", ";", "\t")
MAX_HEADER = 2**16


def read_csv(path: Path) -> Rows:
    """Rows of a CSV; separated by commas, or by semicolons or tabs if the header is.

    Raises
    ------
    DataError
        Without a header that names the coordinates, or with lines of different length.
    """
    import pandas as pd

    names, delimiter = _header(check_file(path))
    columns, unit = named(names, path)
    try:
        with warnings.catch_warnings():
            # A row longer than the header loses what is too much; pandas only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep=delimiter,
                header=0,
                names=columns,
                index_col=False,
                encoding="utf-8-sig",
                keep_default_na=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                low_memory=False,
            )
    except pd.errors.ParserWarning:
        raise DataError(
            "the rows are longer than the header", path, f"{len(names)} names in the first line"
        ) from None
    except (ValueError, OSError, pd.errors.ParserError) as error:
        found = str(error).split("C error: ")[-1].split("\n")[0]
        raise DataError("cannot read the table", path, found, "see whether it is CSV") from None
    empty = _empty(table)
    kept = np.flatnonzero(~empty)
    table = table.loc[~empty].reset_index(drop=True)
    table = table.loc[:, [name for name in columns if not name.startswith("unnamed ")]]
    return Rows(table, partial(_lines, path, delimiter, kept), unit)


def _header(path: Path) -> tuple[list[str], str]:
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline(MAX_HEADER)
        if "\0" in line:
            raise ValueError("this is no text")
    line = line.strip().removeprefix("#").strip()
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    return [name.strip() for name in names], delimiter


def named(names: Sequence[str], path: Path) -> tuple[list[str], str]:
    """Names of the columns as this package writes them, and the unit that they state.

    >>> named(["X_um", "y_um", "z_um", "Score", "area"], Path("cells.csv"))
    (['x', 'y', 'z', 'score', 'area'], 'um')
    """
    columns, units = [], set()
    for number, name in enumerate(names):
        lower = name.lower()
        bare = lower.removesuffix("_um")
        if bare in COORDINATES and bare != lower:
            units.add("um")
            columns.append(bare)
        elif lower in KNOWN:
            if lower in COORDINATES:
                units.add("")
            columns.append(lower)
        else:
            columns.append(name or f"unnamed {number}")
    if not {"y", "x"} <= set(columns):
        headless = bool(names) and all(_is_number(name) for name in names)
        raise DataError(
            "there is no header" if headless else "the header does not name the coordinates",
            path,
            ", ".join(names)[:100] or "an empty line",
            "let the first line name the columns: z,y,x and, if you like, score,region,marker",
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError("columns have one name", path, ", ".join(twice), "name each once")
    if len(units) > 1:
        raise DataError("some coordinates say um and some do not", path, ", ".join(names)[:100])
    return columns, units.pop()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _empty(table: pd.DataFrame) -> np.ndarray:
    """Rows of which nothing is there: blank lines."""
    empty = np.ones(len(table), bool)
    for _, column in table.items():
        missing = column.isna().to_numpy(dtype=bool)
        if column.dtype.kind not in "iufb":
            missing = missing | (column.astype(str).str.strip() == "").to_numpy(dtype=bool)
        empty &= missing
    return empty


def _lines(path: Path, delimiter: str, kept: np.ndarray, rows: np.ndarray) -> list[int]:
    """Where rows begin; only asked for in an error, so that the file is read again."""
    wanted = set(kept[rows].tolist())
    found = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        next(reader)
        before = reader.line_num
        for number, _ in enumerate(reader):
            if number in wanted:
                found.append(before + 1)
            before = reader.line_num
    return found


def read_parquet(path: Path) -> Rows:
    """Rows of a Parquet file; needs pyarrow or fastparquet."""
    import pandas as pd

    check_file(path)
    try:
        with reading(path):
            table = pd.read_parquet(path)
    except DataError as error:
        if isinstance(error.__cause__, ImportError):
            raise _no_parquet(path, DataError) from None
        raise
    columns, unit = named([str(name) for name in table.columns], path)
    table.columns = columns
    return Rows(table.reset_index(drop=True), _counted, unit, counted="row")


def _counted(rows: np.ndarray) -> list[int]:
    return (np.asarray(rows) + 1).tolist()


def _no_parquet(path: Path, fault: type[DataError] | type[OutputError]) -> DataError | OutputError:
    return fault(
        "Parquet needs a package that is not installed",
        path,
        fix="pip install pyarrow, or use .csv",
    )


def ordered(points: Points, spacing: Sequence[float] | None) -> pd.DataFrame:
    """The table as it is written: id, coordinates, score, region, marker, then the rest."""
    table = points.table
    if spacing is not None:
        table = table.copy(deep=False)
        table[list(points.axes)] = points.coordinates * np.array(spacing)
    known = ("id", *points.axes, *OPTIONAL)
    first = [name for name in known if name in table.columns]
    return table[[*first, *(name for name in table.columns if name not in known)]]


def write_csv(path: Path, points: Points, spacing: Sequence[float] | None = None) -> None:
    """Every digit is kept; with a spacing columns are z_um, y_um, x_um."""
    table = ordered(points, spacing)
    if spacing is not None:
        table = table.rename(columns={axis: f"{axis}_um" for axis in points.axes})
    table.to_csv(path, index=False, lineterminator="\n")


def write_parquet(path: Path, points: Points, spacing: Sequence[float] | None = None) -> None:
    """As `write_csv`; needs pyarrow or fastparquet."""
    table = ordered(points, spacing)
    if spacing is not None:
        table = table.rename(columns={axis: f"{axis}_um" for axis in points.axes})
    try:
        table.to_parquet(path, index=False)
    except ImportError:
        raise _no_parquet(path, OutputError) from None
