"""Score a table of cells against the true one: what `brodmann score cells` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.core import DataError, Points, RecipeError
from brodmann.core.errors import nearest
from brodmann.metrics.points import (
    MODES,
    SCORER,
    Matching,
    Mode,
    PointScore,
    Region,
    Summary,
    count,
    match,
    pool,
    read_regions,
    rows_in,
    score_points,
    scores_by_tolerance,
    summarise,
    tally,
    tolerance_um,
)
from brodmann.metrics.points.regions import name_of, subjects_of
from brodmann.metrics.points.scores import resolve_tolerance
from brodmann.metrics.points.wrong import explain

if TYPE_CHECKING:
    import pandas as pd

Report = Callable[[str, int, int, str], None]
VOLUME = "volume"
"""A column that parts volumes where it holds names."""
WHOLE = "all"
CURVE = tuple(float(part) for part in np.arange(1, 17) / 8)
"""Tolerances of the curve, as multiples of the tolerance."""
MANY = 300_000
"""Cells beyond which the curve ends at the tolerance itself."""


@dataclass(frozen=True, eq=False)
class Part:
    """Cells of one region in voxels, and how they were matched.

    Coordinates are of the cells inside, from the brain's corner.
    """

    name: str
    found: np.ndarray
    truth: np.ndarray
    matching: Matching
    score: PointScore


@dataclass(frozen=True, eq=False)
class CellsScore:
    """What was measured: `result` is JSON-safe; parts and summary are for tables and pictures."""

    result: dict[str, Any]
    parts: list[Part]
    summary: Summary
    tallies: dict[str, PointScore] = field(default_factory=dict)


def score_cells(
    pred: str | Path,
    truth: str | Path,
    *,
    unit: str = "voxel",
    spacing: Sequence[float] | None = None,
    tolerance: float | str | None = None,
    marker: str | None = None,
    mode: Mode = "greedy_global",
    by: str | None = None,
    tally_by: str | None = None,
    subject_by: str | None = None,
    regions: str | Path | Sequence[Region] | None = None,
    origin: str = "brain",
    truth_origin: str = "brain",
    shape: Sequence[int] | None = None,
    repeats: int = 2000,
    seed: int = 0,
    least_true: int = 0,
    report: Report | None = None,
) -> CellsScore:
    """Score one table of found cells.

    Parameters
    ----------
    pred, truth : path
        Tables of points in any format of `brodmann.io.points`.
    unit : {"voxel", "um"}
        Of the coordinates in both, and of the tolerance. um needs the spacing.
    spacing : sequence of float, optional
        um per voxel along z, y, x. Where it is known, both scores are told: of distances in
        voxels and in um.
    tolerance : float or str, optional
        In `unit`, or as "6vx" or "10um". Default: the marker's, in voxels.
    marker : str, optional
        One of TOLERANCE_VX.
    mode : {"greedy_global", "nearest", "optimal"}
    by : str, optional
        Column of both tables; cells match only where its values are equal. Default: "volume",
        if it holds names (not numbers, which may be sizes).
    tally_by : str, optional
        Column of both tables by which counts are listed, though all cells may match.
    subject_by : str, optional
        Column that names the animal of each value of `by`.
    regions : path or sequence of Region, optional
        Boxes outside of which nothing counts, and subjects; see `read_regions`. With `by`
        their names are its values.
    origin, truth_origin : {"brain", "box"}
        Where the coordinates of either table start.
    shape : sequence of int, optional
        Of the volume in voxels: points outside are refused.
    repeats, seed : int
        Of the bootstrap.
    least_true : int
        True cells that a subject needs to be called the worst.
    report : callable, optional
        Called as (what, done, total, note).

    Raises
    ------
    DataError
        If a table is at fault, or is plainly in another unit, order of axes or origin.
    RecipeError
        If options contradict each other.
    """
    limit, measure = resolve_tolerance(tolerance, marker, unit, spacing)
    if mode not in MODES:
        raise RecipeError("unknown mode of matching", "mode", repr(mode), nearest(mode, MODES))
    found, true = (read_cells(path, unit, spacing, shape) for path in (pred, truth))
    if found.axes != true.axes:
        raise DataError(
            "prediction and truth differ in axes", str(pred), f"{found.axes}, {true.axes}"
        )
    chosen = read_regions(regions) if isinstance(regions, (str, Path)) else list(regions or ())
    by = by or _named_volumes(found, true, str(pred))
    if tally_by is not None and (by is not None or chosen):
        raise RecipeError(
            "counts are listed of one volume", "tally", repr(tally_by), "leave out by and regions"
        )
    split = _parts(found, true, by, chosen, (origin, truth_origin), (str(pred), str(truth)))
    steps = None if spacing is None else tuple(float(step) for step in spacing)
    main = steps if measure == "um" else None
    parts: list[Part] = []
    for region, tables in split:
        a, b = (points[region.holds(points)] for points in tables)
        done = match(a, b, limit, mode, main)
        parts.append(Part(region.name, a, b, done, count(done, measure == "um")))
        if report:
            report("score", len(parts), len(split), region.name)
    subjects = subjects_of([part.name for part in parts], chosen)
    if subject_by is not None:
        subjects |= _subjects(((true, truth), (found, pred)), by, subject_by)
    summary = summarise(
        {part.name: part.score for part in parts}, subjects, repeats=repeats, seed=seed
    )
    used = (sum(len(part.found) for part in parts), sum(len(part.truth) for part in parts))
    notes = explain(split, summary.pooled, limit, main, steps, unit, str(pred))
    tallies: dict[str, PointScore] = {}
    if tally_by is not None:
        columns = [_column(table, tally_by, path) for table, path in ((found, pred), (true, truth))]
        tallies = tally(parts[0].matching, *columns, in_um=measure == "um")
    result: dict[str, Any] = {
        "kind": "cells",
        "pred": str(pred),
        "truth": str(truth),
        "mode": mode,
        "scorer": SCORER,
        "version": version("brodmann"),
        "unit": unit,
        "spacing_um": None if steps is None else list(steps),
        "marker": marker,
        "by": by,
        "scores": summary.pooled.as_dict(),
        "other": _other(parts, limit, measure, mode, steps),
        "outside": {"pred": len(found) - used[0], "truth": len(true) - used[1]},
        "summary": summary.as_dict(least_true),
        "curve": [s.as_dict() for s in _curve(parts, limit, mode, main)],
        "tally": [{"region": name, **score.as_dict()} for name, score in tallies.items()],
        "notes": notes,
    }
    return CellsScore(result, parts, summary, tallies)


def read_cells(
    path: str | Path,
    unit: str = "voxel",
    spacing: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
) -> Points:
    """A table of points in voxels; formats that count voxels are read as such."""
    from brodmann.io.points import read_points

    tables = (".csv", ".parquet")
    own = unit if Path(path).suffix.lower() in tables else "voxel"
    return read_points(path, unit=own, spacing=spacing, shape=shape)


def match_table(score: CellsScore) -> pd.DataFrame:
    """A row for each pair, each false and each missed cell, in voxels.

    Columns region, kind ("true", "missed", "false", "duplicate"), z, y, x of the true cell,
    found_z, found_y, found_x, and distance in the unit of the tolerance; empty where there is
    none.
    """
    import pandas as pd

    tables = []
    for part in score.parts:
        done = part.matching
        kinds = np.where(np.isin(done.unmatched, done.duplicates), "duplicate", "false")
        none = [np.full(len(rows), np.nan) for rows in (done.missed, done.unmatched)]
        columns: dict[str, Any] = {
            "region": part.name,
            "kind": np.concatenate(
                [np.full(len(done.pairs), "true"), np.full(len(done.missed), "missed"), kinds]
            ),
        }
        for place, axis in enumerate("zyx"[3 - part.found.shape[1] :]):
            true, found = part.truth[:, place], part.found[:, place]
            columns[axis] = [true[done.pairs[:, 1]], true[done.missed], none[1]]
            columns[f"found_{axis}"] = [found[done.pairs[:, 0]], none[0], found[done.unmatched]]
        columns["distance"] = [done.distances, *none]
        ready = {k: np.concatenate(v) if isinstance(v, list) else v for k, v in columns.items()}
        names = [name for name in ready if not name.startswith("found_")]
        found_names = [name for name in ready if name.startswith("found_")]
        order = [*names[:-1], *found_names, "distance"]
        tables.append(pd.DataFrame(ready)[order])
    return pd.concat(tables, ignore_index=True)


def _named_volumes(found: Points, true: Points, where: str) -> str | None:
    """ "volume" if both tables have such a column of names."""
    named = [
        VOLUME in points.table.columns and points.table[VOLUME].dtype.kind not in "iufb"
        for points in (found, true)
    ]
    # A table without rows says nothing of its columns.
    if named[0] == named[1] or not len(found) or not len(true):
        return (
            VOLUME if any(named) and all(VOLUME in p.table.columns for p in (found, true)) else None
        )
    raise DataError(
        "only one of both tables names volumes", where, f"column {VOLUME!r}",
        "name them in both, so that cells match within a volume only",
    )  # fmt: skip


def _parts(
    found: Points,
    true: Points,
    by: str | None,
    regions: Sequence[Region],
    origins: tuple[str, str],
    names: tuple[str, str],
) -> list[tuple[Region, tuple[np.ndarray, np.ndarray]]]:
    """Every region and its cells, inside or not, from the corner of the brain."""
    tables = (found, true)
    boxed = any(region.start for region in regions)
    if "box" in origins and (not boxed or (by is None and len(regions) > 1)):
        raise RecipeError(
            "coordinates from a box's corner need to be told which box",
            "origin",
            fix="give one box, or regions with boxes and a column with --by",
        )
    if by is None:
        if regions and not boxed:
            raise RecipeError(
                "regions without boxes need a column that tells them apart",
                "regions",
                fix="--by COLUMN",
            )
        groups: list[Any] = [(region, None) for region in regions or [Region(WHOLE)]]
        columns = [np.zeros(len(table), object) for table in tables]
    else:
        columns = [_column(table, by, where) for table, where in zip(tables, names)]
        known = {region.name: region for region in regions}
        values = dict.fromkeys([*known, *np.unique(np.concatenate(columns).astype(str)).tolist()])
        strange = [name for name in values if name not in known] if known else []
        if strange:
            raise DataError(
                f"column {by!r} has a value that is no region", names[0], strange[0],
                nearest(strange[0], known),
            )  # fmt: skip
        groups = [(known.get(name, Region(name)), name) for name in values or [WHOLE]]
    parts = []
    everything = [table.coordinates for table in tables]
    for region, value in groups:
        pair = []
        for points, column, origin, where in zip(everything, columns, origins, names):
            own = points if value is None else points[column == value]
            rows_in(own, region, origin, where)  # type: ignore[arg-type]
            pair.append(own + np.array(region.start) if origin == "box" else own)
        parts.append((region, (pair[0], pair[1])))
    return parts


def _subjects(
    tables: Sequence[tuple[Points, str | Path]], by: str | None, subject_by: str
) -> dict[str, str]:
    """Region -> subject, as the true table says, or else the predicted one."""
    if by is None:
        raise RecipeError("subjects are of regions", "subject", repr(subject_by), "add --by COLUMN")
    found: dict[str, str] = {}
    for points, where in tables:
        if subject_by not in points.table.columns and found:
            continue
        pairs = dict.fromkeys(zip(_column(points, by, where), _column(points, subject_by, where)))
        for region, subject in pairs:
            if found.setdefault(region, subject) != subject:
                raise DataError(
                    f"{by} {region!r} is of two subjects", where, f"{found[region]}, {subject}"
                )
    return found


def _column(points: Points, name: str, where: str | Path) -> np.ndarray:
    if name not in points.table.columns:
        raise DataError(
            f"the table has no column {name!r}", where, ", ".join(map(str, points.table.columns))
        )
    return np.array([name_of(value) for value in points.table[name]], object)


def _other(
    parts: Sequence[Part],
    limit: float,
    measure: str,
    mode: Mode,
    steps: tuple[float, ...] | None,
) -> dict[str, Any] | None:
    """The score in the other unit: 6 voxels are 10.8 um in the plane, whatever they are in z."""
    if steps is None:
        return None
    in_plane = tolerance_um(1.0, steps)
    if measure == "um":
        scores = [score_points(p.found, p.truth, limit / in_plane, mode) for p in parts]
    else:
        scores = [score_points(p.found, p.truth, limit * in_plane, mode, steps) for p in parts]
    return pool(scores).as_dict()


def _curve(
    parts: Sequence[Part], limit: float, mode: Mode, spacing: tuple[float, ...] | None
) -> list[PointScore]:
    """Pooled scores by tolerance."""
    many = max(len(part.found) + len(part.truth) for part in parts) > MANY
    if many and mode == "optimal":
        return []
    tolerances = [share * limit for share in CURVE if share <= 1 or not many]
    columns = [scores_by_tolerance(p.found, p.truth, tolerances, mode, spacing) for p in parts]
    return [pool(row) for row in zip(*columns)]
