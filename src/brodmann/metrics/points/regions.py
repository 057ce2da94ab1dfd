"""Regions of a brain, or separate volumes, in which cells are scored: boxes and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from brodmann.core import DataError, RecipeError
from brodmann.core.errors import nearest

Origin = Literal["brain", "box"]
ORIGINS = ("brain", "box")


@dataclass(frozen=True)
class Region:
    """Voxels from `start` to below `stop` along each axis, in the brain's coordinates.

    A point is inside if the voxel whose centre is nearest to it is: half a voxel below `start`
    is the border. Without `start` and `stop` it is a volume of any size.

    Example
    -------
    >>> box = Region("region_1", (0, 10), (5, 20))
    >>> box.holds(np.array([[0.0, 9.5], [4.4, 19.5], [-0.5, 10.0]])).tolist()
    [True, False, True]
    """

    name: str
    start: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    subject: str = ""
    marker: str = ""

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop) or any(a >= b for a, b in zip(self.start, self.stop)):
            raise DataError(
                "a box ends above its start on every axis", self.name, f"{self.start} {self.stop}"
            )

    def holds(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool of (n, d) points in the brain's voxels."""
        if not self.start:
            return np.ones(len(points), bool)
        low, high = np.array(self.start) - 0.5, np.array(self.stop) - 0.5
        return ((points >= low) & (points < high)).all(1)


def rows_in(
    points: np.ndarray, region: Region, origin: Origin = "brain", where: str = "points"
) -> np.ndarray:
    """Rows of (n, d) points that lie inside, (k,) int64, for tables of either origin.

    Points counted from the box's own corner must all lie inside, as they can come from nowhere
    else; add `region.start` to have them in the brain.

    Raises
    ------
    DataError
        If a point counted from the box lies outside, dimensions differ, or the origin is
        unknown.

    Example
    -------
    >>> box = Region("region_1", (100, 100), (150, 150))
    >>> rows_in(np.array([[5.0, 5.0], [120.0, 101.0]]), box).tolist()
    [1]
    """
    if origin not in ORIGINS:
        raise RecipeError("unknown origin", where, repr(origin), nearest(origin, ORIGINS))
    if not region.start:
        return np.arange(len(points))
    if points.shape[1] != len(region.start):
        raise DataError(
            f"points have {points.shape[1]} axes, region {region.name!r} {len(region.start)}", where
        )
    if origin == "brain":
        return np.flatnonzero(region.holds(points))
    inside = region.holds(points + np.array(region.start))
    outside = np.flatnonzero(~inside)
    if len(outside):
        size = " x ".join(str(b - a) for a, b in zip(region.start, region.stop))
        hint = f"the box has {size} voxels"
        if region.holds(points).mean() > 0.5:
            hint += ", and most lie in it if counted from the brain's corner: use origin brain"
        raise DataError(
            f"{len(outside):,} of {len(points):,} points lie outside box {region.name!r}",
            where,
            points[outside[0]].round(2).tolist(),
            hint,
        )
    return np.flatnonzero(inside)


def parse_box(text: str, name: str = "box") -> Region:
    """A box written as Z0:Z1,Y0:Y1,X0:X1.

    >>> parse_box("0:40,100:200,100:300").stop
    (40, 200, 300)
    """
    try:
        ends = [tuple(int(number) for number in part.split(":")) for part in text.split(",")]
        if any(len(pair) != 2 for pair in ends):
            raise ValueError
    except ValueError:
        raise RecipeError(
            "write a box as Z0:Z1,Y0:Y1,X0:X1 in voxels", "--box", repr(text)
        ) from None
    start, stop = zip(*ends)
    return Region(name, start, stop)


def read_regions(path: str | Path) -> list[Region]:
    """Regions of a CSV: column region, and any of z0, z1, y0, y1, x0, x1, subject, marker.

    The six ends of a box are whole voxels, half-open; z0 and z1 are left out in 2D, all of
    them where regions are volumes of their own.

    Raises
    ------
    DataError
        If a column is missing, an end is no whole number, or a name comes twice.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError("cannot read the regions", path, error) from error
    axes = [axis for axis in "zyx" if {f"{axis}0", f"{axis}1"} & set(table.columns)]
    wanted = ["region", *(axis + end for axis in axes for end in "01")]
    missing = [name for name in wanted if name not in table.columns]
    if missing or (axes and axes[-2:] != ["y", "x"]):
        raise DataError(
            "regions need other columns",
            path,
            ", ".join(table.columns),
            "name them region,z0,z1,y0,y1,x0,x1 and, if you like, subject,marker",
        )
    regions: list[Region] = []
    for line, row in enumerate(table.to_dict("records"), start=2):
        try:
            start, stop = (tuple(_whole(row[axis + end]) for axis in axes) for end in "01")
        except ValueError as error:
            raise DataError(
                "ends of a box are whole voxels", f"{path} line {line}", error
            ) from None
        more = {key: row.get(key, "") for key in ("subject", "marker")}
        regions.append(Region(row["region"], start, stop, **more))
    names = [region.name for region in regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not regions:
        what = "two regions have one name" if twice else "there is no region"
        raise DataError(what, path, twice[0] if twice else None)
    return regions


def name_of(value: object) -> str:
    """What a region is called that a table holds as text or number; "none" where it is empty.

    >>> name_of(7.0), name_of(""), name_of(None), name_of("CTX")
    ('7', 'none', 'none', 'CTX')
    """
    if value is None or value != value or value == "":
        return "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def subjects_of(names: Sequence[str], regions: Sequence[Region]) -> dict[str, str]:
    """Region -> subject, for those whose subject is known."""
    known = {region.name: region.subject for region in regions if region.subject}
    return {name: known[name] for name in names if name in known}


def _whole(text: str) -> int:
    value = float(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(value)
