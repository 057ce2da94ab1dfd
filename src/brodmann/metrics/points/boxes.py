"""Boxes of a brain inside which cells are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from brodmann.core import DataError
from brodmann.core.errors import nearest

Origin = Literal["brain", "box"]
ORIGINS = ("brain", "box")
COLUMNS = ("z0", "z1", "y0", "y1", "x0", "x1")


@dataclass(frozen=True)
class Box:
    """Voxels from `start` to below `stop` along each axis, in the brain's coordinates.

    A point is inside if the voxel whose centre is nearest to it is: half a voxel below `start`
    is the border.

    Example
    -------
    >>> box = Box("region_1", (0, 10), (5, 20))
    >>> box.holds(np.array([[0.0, 9.5], [4.4, 19.5], [-0.5, 10.0]])).tolist()
    [True, False, True]
    """

    name: str
    start: tuple[int, ...]
    stop: tuple[int, ...]
    subject: str = ""
    marker: str = ""

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop) or any(a >= b for a, b in zip(self.start, self.stop)):
            raise DataError(
                "a box ends above its start on every axis",
                self.name,
                f"{self.start} to {self.stop}",
            )

    def holds(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool of (n, d) points in the brain's voxels."""
        low, high = np.array(self.start) - 0.5, np.array(self.stop) - 0.5
        return ((points >= low) & (points < high)).all(1)


def in_box(
    points: np.ndarray, box: Box, origin: Origin = "brain", where: str = "points"
) -> np.ndarray:
    """Rows of the points that lie inside, (k,) int64, for tables of either origin.

    Points with the box for origin must all lie inside, as they can come from nowhere else;
    add `box.start` to them to have them in the brain.

    Raises
    ------
    DataError
        If a point counted from the box lies outside, dimensions differ, or the origin is
        unknown.

    Example
    -------
    >>> box = Box("region_1", (100, 100), (150, 150))
    >>> in_box(np.array([[5.0, 5.0], [120.0, 101.0]]), box).tolist()
    [1]
    """
    if origin not in ORIGINS:
        raise DataError("unknown origin", where, repr(origin), nearest(origin, ORIGINS))
    if points.shape[1] != len(box.start):
        raise DataError(
            "points and box differ in dimensions", where, f"{points.shape[1]}, {len(box.start)}"
        )
    if origin == "brain":
        return np.flatnonzero(box.holds(points))
    inside = box.holds(points + np.array(box.start))
    outside = np.flatnonzero(~inside)
    if len(outside):
        size = tuple(b - a for a, b in zip(box.start, box.stop))
        hint = f"the box is {'x'.join(map(str, size))} voxels"
        if box.holds(points).mean() > 0.5:
            hint += "; they seem to be counted from the brain's corner: say origin brain"
        raise DataError(
            f"{len(outside):,} of {len(points):,} points lie outside box {box.name!r}",
            f"{where} line {outside[0] + 2}",
            points[outside[0]].tolist(),
            hint,
        )
    return np.flatnonzero(inside)


def parse_box(text: str, name: str = "box") -> Box:
    """A box written as Z0:Z1,Y0:Y1,X0:X1.

    >>> parse_box("0:40,100:200,100:300").stop
    (40, 200, 300)
    """
    try:
        ends = [tuple(int(number) for number in part.split(":")) for part in text.split(",")]
        if any(len(pair) != 2 for pair in ends):
            raise ValueError
    except ValueError:
        raise DataError("write a box as Z0:Z1,Y0:Y1,X0:X1 in voxels", "--box", repr(text)) from None
    start, stop = zip(*ends)
    return Box(name, start, stop)


def read_boxes(path: str | Path) -> list[Box]:
    """Boxes of a CSV with columns region, z0, z1, y0, y1, x0, x1 (half-open, voxels).

    Columns z0 and z1 are left out in 2D; `subject` and `marker` may be there.

    Raises
    ------
    DataError
        If a column is missing, a value is no whole number, or a name comes twice.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError("cannot read the boxes", path, error) from error
    missing = {"region", *COLUMNS[2:]} - set(table.columns)
    missing |= {"z0", "z1"} - set(table.columns) if {"z0", "z1"} & set(table.columns) else set()
    if missing:
        raise DataError(
            "boxes need more columns", path, list(table.columns), f"add {sorted(missing)}"
        )
    axes = [axis for axis in "zyx" if f"{axis}0" in table.columns]
    boxes: list[Box] = []
    for line, row in enumerate(table.to_dict("records"), start=2):
        try:
            start, stop = (tuple(_whole(row[axis + end]) for axis in axes) for end in "01")
        except ValueError as error:
            raise DataError("a box has whole numbers", f"{path} line {line}", error) from None
        boxes.append(Box(row["region"], start, stop, row.get("subject", ""), row.get("marker", "")))
    names = [box.name for box in boxes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not boxes:
        what = "two boxes have one name" if twice else "there is no box"
        raise DataError(what, path, twice[0] if twice else None)
    return boxes


def check_inside(points: np.ndarray, shape: Sequence[int], where: str) -> None:
    """Refuse points outside a volume of this shape, in voxels.

    Raises
    ------
    DataError
        Names the first line that is outside, and how many are.
    """
    volume = Box("volume", (0,) * len(shape), tuple(int(size) for size in shape))
    if points.shape[1] != len(shape):
        raise DataError(
            "points and volume differ in dimensions", where, f"{points.shape[1]}, {len(shape)}"
        )
    outside = np.flatnonzero(~volume.holds(points))
    if len(outside):
        raise DataError(
            f"{len(outside):,} of {len(points):,} points lie outside the volume",
            f"{where} line {outside[0] + 2}",
            points[outside[0]].tolist(),
            f"its shape is {tuple(shape)}: check unit, order of columns and origin",
        )


def _whole(text: str) -> int:
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(value)
