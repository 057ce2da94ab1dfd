"""cellfinder's XML, which is that of ImageJ's Cell Counter: markers by type, x, y and z."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brodmann.core import DataError, OutputError, Points
from brodmann.io.points.rows import Rows
from brodmann.io.points.xml import read_xml

CELL, NO_CELL = 2, 1
"""What cellfinder calls a cell, and one that is none or is not known."""
ROOT = "CellCounter_Marker_File"
AXES = {"MarkerZ": "z", "MarkerY": "y", "MarkerX": "x"}


def read_cellfinder(path: Path) -> Rows:
    """Markers of every type; 'type' is 2 for cells and 1 for others in cellfinder's files.

    Source: brainglobe-utils, IO/cells; ImageJ, Cell Counter.
    """
    import pandas as pd

    places: dict[str, list[str]] = {"z": [], "y": [], "x": []}
    types: list[int] = []
    lines: list[int] = []
    marker: dict[str, str] = {}
    current: int | None = None

    def start(tags: list[str], _: dict[str, str], line: int) -> None:
        if tags[-1] == "Marker":
            marker.clear()
            lines.append(line)

    def end(tags: list[str], text: str, line: int) -> None:
        nonlocal current
        tag = tags[-1]
        if tag == "Type":
            try:
                current = int(text)
            except ValueError:
                raise DataError(
                    "a type is a whole number", f"{path} line {line}", repr(text)
                ) from None
        elif tag in AXES:
            marker[AXES[tag]] = text
        elif tag == "Marker":
            if current is None:
                raise DataError("a marker has no type", f"{path} line {line}")
            types.append(current)
            for axis, column in places.items():
                column.append(marker.get(axis, ""))
        elif tag == "Marker_Type":
            current = None

    read_xml(path, ROOT, "Cell Counter file", start, end)
    table = pd.DataFrame({axis: pd.Series(column, dtype=object) for axis, column in places.items()})
    table["type"] = np.array(types, np.int64)
    where = np.array(lines, np.int64)
    return Rows(table, lambda rows: where[rows].tolist())


def write_cellfinder(path: Path, points: Points) -> None:
    """Markers in whole voxels, as cellfinder's own reader cuts off fractions.

    Raises
    ------
    OutputError
        If points are 2D or before the first voxel, or a type is no whole number.
    """
    if points.axes != "zyx":
        raise OutputError("cellfinder's points have three axes", path, repr(points.axes))
    at = np.rint(points.coordinates).astype(np.int64)
    if (at < 0).any():
        raise OutputError(
            "cellfinder's points lie within a volume", path, at[(at < 0).any(axis=1)][0].tolist()
        )
    types = types_of(points, path)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<{ROOT}>\n  <Image_Properties>\n'
            "    <Image_Filename>placeholder.tif</Image_Filename>\n  </Image_Properties>\n"
            "  <Marker_Data>\n    <Current_Type>1</Current_Type>\n"
        )
        for kind in np.unique(types).tolist() or [CELL]:
            file.write(f"    <Marker_Type>\n      <Type>{kind}</Type>\n")
            file.writelines(
                f"      <Marker>\n        <MarkerX>{x}</MarkerX>\n        <MarkerY>{y}</MarkerY>\n"
                f"        <MarkerZ>{z}</MarkerZ>\n      </Marker>\n"
                for z, y, x in at[types == kind].tolist()
            )
            file.write("    </Marker_Type>\n")
        file.write(f"  </Marker_Data>\n</{ROOT}>\n")


def types_of(points: Points, where: Path | str) -> np.ndarray:
    """cellfinder's type of each point: column `type`, else `label` (1 cell, 0 none), else cell.

    >>> import pandas as pd
    >>> types_of(Points(pd.DataFrame({"y": [1, 2], "x": [3, 4], "label": [1, 0]})), "").tolist()
    [2, 1]
    """
    for column in ("type", "label"):
        if column not in points.table.columns:
            continue
        try:
            given = points.table[column].to_numpy(dtype=np.float64)
        except (TypeError, ValueError):
            given = np.array([np.nan])
        allowed = (given == np.rint(given)) & np.isfinite(given)
        if column == "label":
            allowed &= (given == 0) | (given == 1)
        if not allowed.all():
            raise OutputError(
                "types are whole numbers" if column == "type" else "labels are 1 (cell) or 0",
                where,
                points.table[column].iloc[int(np.argmin(allowed))],
            )
        return np.where(given == 1, CELL, NO_CELL) if column == "label" else given.astype(np.int64)
    return np.full(len(points), CELL)
