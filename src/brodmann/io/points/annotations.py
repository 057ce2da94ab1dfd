"""Neuroglancer's precomputed annotations: a folder of points that any web server can serve.

Source: the format's public description, datasource/precomputed/annotations of Neuroglancer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.core import DataError, OutputError, Points, keyed_rng
from brodmann.io.ngff import folder_beside
from brodmann.io.points.rows import Rows
from brodmann.io.points.shards import write_shards
from brodmann.io.raw import in_um, reading

if TYPE_CHECKING:
    import pandas as pd

TYPE = "neuroglancer_annotations_v1"
SHOWN = ("score", "marker", "region", "label", "type")
LIMIT = 5000
"""Most points of a cell of the spatial index, so of what the viewer loads at once."""
MOST_FILES = 10_000
"""More points than these are indexed in shards; fewer have a file each, which every server can."""
CENTRE = 0.5
"""The first voxel's centre, where Neuroglancer counts from its corner."""
DTYPES = {"float32": "<f4", "uint32": "<u4", "int32": "<i4", "uint16": "<u2", "int16": "<i2",
          "uint8": "u1", "int8": "i1"}  # fmt: skip
COLOURS = {"rgb": 3, "rgba": 4}
MOST_LEVELS = 64


@dataclass(frozen=True, eq=False)
class Property:
    """A column: its entry in `info` and its values."""

    info: dict[str, Any]
    values: np.ndarray


def write_annotations(
    path: str | Path,
    points: Points,
    spacing: Sequence[float],
    *,
    shape: Sequence[int] | None = None,
    limit: int = LIMIT,
    sharded: bool | None = None,
) -> Path:
    """Write points with an index by place and one by number, into a new folder.

    The spatial index has levels from coarse to fine: each holds a random part of the points
    left, the same each time, so that a viewer far away shows few. Positions are in voxels, in
    single precision.

    Parameters
    ----------
    path : str or Path
        Written beside and renamed; what is there is replaced.
    points : Points
        Columns score, marker, region, label and type become properties; text is numbered, its
        words are in `info`.
    spacing : sequence of float
        Micrometres per axis.
    shape : sequence of int, optional
        Of the volume; bounds are those of the points otherwise.
    limit : int
        Most points of a cell of the index.
    sharded : bool, optional
        Points by number in few files rather than in one each; needs a server that answers
        range requests. By default where there are more than 10,000.

    Raises
    ------
    OutputError
        If a point is outside the shape, or the folder cannot be written.
    """
    path = Path(path)
    if limit < 1:
        raise OutputError("a cell of the index holds at least one point", path, limit)
    at = points.coordinates[:, ::-1] + CENTRE
    low = np.minimum(np.floor(at.min(axis=0, initial=0.0)), 0.0)
    if shape is None:
        high = np.floor(at.max(axis=0, initial=0.0)) + 1.0
    else:
        high = np.array([float(size) for size in reversed(shape)])
        if len(high) != at.shape[1]:
            raise OutputError(f"the shape has {len(high)} axes", path, repr(points.axes))
        # The last voxel's outer border belongs to the volume, but bounds are exclusive.
        outside = (at < 0) | (at > high)
        if outside.any():
            row = int(np.flatnonzero(outside.any(axis=1))[0])
            place = points.coordinates[row].tolist()
            raise OutputError("a point is outside the volume", path, place)
        low = np.zeros_like(high)
    with np.errstate(over="ignore"):
        at = np.minimum(at.astype("<f4"), np.nextafter(high.astype("<f4"), np.float32(0)))
    properties = sorted(
        (_property(name, points.table[name], path) for name in SHOWN if name in points.table),
        key=lambda one: -np.dtype(DTYPES[one.info["type"]]).itemsize,
    )
    records = np.zeros(len(at), record_dtype([p.info for p in properties], at.shape[1], path))
    records["@position"] = at
    for one in properties:
        records[one.info["id"]] = one.values
    size = (high - low) * np.array(list(reversed(spacing)))
    levels = spatial_levels(at.astype(float), low, high, size, limit)
    with folder_beside(path) as beside:
        beside.mkdir(parents=True)
        spatial = []
        for number, (grid, chosen, cells) in enumerate(levels):
            key = f"spatial{number}"
            most = _write_level(beside / key, records, grid, chosen, cells)
            chunk = [float(step) for step in (high - low) / grid]
            entry = {"key": key, "grid_shape": grid.tolist(), "chunk_size": chunk}
            spatial.append({**entry, "limit": max(most, 1)})
        if sharded is None:
            sharded = len(at) > MOST_FILES
        by_id: dict[str, Any] = {"key": "by_id"}
        (beside / "by_id").mkdir()
        if sharded:
            by_id["sharding"] = write_shards(beside / "by_id", records)
        else:
            for row, record in enumerate(records):
                (beside / "by_id" / str(row)).write_bytes(record.tobytes())
        info = {
            "@type": TYPE,
            "dimensions": {
                axis: [float(f"{step * 1e-6:.9g}"), "m"]
                for axis, step in zip(reversed(points.axes), reversed(spacing))
            },
            "lower_bound": low.tolist(),
            "upper_bound": high.tolist(),
            "annotation_type": "POINT",
            "properties": [one.info for one in properties],
            "relationships": [],
            "by_id": by_id,
            "spatial": spatial,
        }
        text = json.dumps(info, ensure_ascii=False, allow_nan=False)
        (beside / "info").write_text(text, encoding="utf-8")
    return path


def record_dtype(properties: Sequence[dict[str, Any]], rank: int, where: Path) -> np.dtype:
    """Bytes of an annotation: position, 4-byte properties, 2-byte, 1-byte, filled up to 4.

    Raises
    ------
    DataError
        If a property is of no known type.
    """
    fields: list[Any] = [("@position", "<f4", (rank,))]
    sized: dict[int, list[Any]] = {4: [], 2: [], 1: []}
    for one in properties:
        kind, name = one["type"], str(one["id"])
        if kind in COLOURS:
            sized[1].append((name, "u1", (COLOURS[kind],)))
        elif kind in DTYPES:
            sized[np.dtype(DTYPES[kind]).itemsize].append((name, DTYPES[kind]))
        else:
            raise DataError("a property of unknown type", where, repr(kind))
    fields += sized[4] + sized[2] + sized[1]
    if fill := -np.dtype(fields).itemsize % 4:
        fields.append(("@fill", "u1", (fill,)))
    return np.dtype(fields)


def _property(name: str, column: pd.Series, where: Path) -> Property:
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(column.dtype)
    if numeric and not pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        whole = name != "score" and np.isfinite(values).all() and (values == np.rint(values)).all()
        # int32 first: Neuroglancer's Python package fills up before some uint32.
        for kind in ("int32", "uint32") if whole else ():
            bounds = np.iinfo(DTYPES[kind])
            if values.size == 0 or bounds.min <= values.min() <= values.max() <= bounds.max:
                return Property({"id": name, "type": kind}, values.astype(DTYPES[kind]))
        return Property({"id": name, "type": "float32"}, values.astype("<f4"))
    codes, words = pd.factorize(column.fillna("").astype(str), sort=True)
    kind = "uint8" if len(words) < 2**8 else "uint16" if len(words) < 2**16 else "uint32"
    info = {
        "id": name,
        "type": kind,
        "enum_values": list(range(len(words))),
        "enum_labels": [str(word) for word in words],
    }
    if not len(words):
        del info["enum_values"], info["enum_labels"]
    return Property(info, codes.astype(DTYPES[kind]))


def spatial_levels(
    at: np.ndarray, low: np.ndarray, high: np.ndarray, size: np.ndarray, limit: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which points each level of the spatial index holds.

    Parameters
    ----------
    at : (n, d) array
        Positions within [low, high).
    low, high : (d,) arrays
    size : (d,) array
        Lengths of the whole in one unit, so that cells are halved towards cubes.
    limit : int
        Most points of a cell.

    Returns
    -------
    list of (grid, chosen, cells)
        Cells along each axis; indices of points in random order; the cell (m, d) of each. Every
        point is in one level. Each level takes the same share of what is left in all cells.
    """
    rng = keyed_rng(0, "annotations")
    left = rng.permutation(len(at))
    grid = np.ones(at.shape[1], np.int64)
    levels = []
    while True:
        cells = np.floor((at[left] - low) * grid / (high - low)).astype(np.int64)
        cells = np.clip(cells, 0, grid - 1)
        flat = np.ravel_multi_index(tuple(cells.T), tuple(grid)) if len(left) else left
        _, numbers, counts = np.unique(flat, return_inverse=True, return_counts=True)
        share = min(1.0, limit / max(counts.max(initial=1), 1))
        take = rng.random(len(left)) < share
        # Chance may give a cell more than its share; what is too much goes to the next level.
        order = np.argsort(numbers, kind="stable")
        rank = np.empty(len(left), np.int64)
        kept = take[order]
        before = np.cumsum(kept) - kept
        first = np.r_[0, np.cumsum(counts)[:-1]] if len(counts) else np.zeros(0, np.int64)
        rank[order] = before - before[first][numbers[order]] if len(left) else 0
        take &= rank < limit
        levels.append((grid.copy(), left[take], cells[take]))
        left = left[~take]
        if not len(left):
            return levels
        cell = size / grid
        # Along the axes on which cells are long; not below a voxel, where nothing divides.
        split = (cell > cell.max() / np.sqrt(2)) & ((high - low) / grid >= 2)
        if len(levels) < MOST_LEVELS and np.prod(grid * np.where(split, 2.0, 1.0)) < 2**62:
            grid = np.where(split, 2 * grid, grid)


def _write_level(
    folder: Path, records: np.ndarray, grid: np.ndarray, chosen: np.ndarray, cells: np.ndarray
) -> int:
    """A file for each cell that holds points; the number of points of the fullest."""
    folder.mkdir()
    if not len(chosen):
        return 0
    flat = np.ravel_multi_index(tuple(cells.T), tuple(grid))
    order = np.argsort(flat, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(flat[order])) + 1)
    for group in groups:
        rows = chosen[group]
        name = "_".join(str(int(part)) for part in cells[group[0]])
        data = np.uint64(len(rows)).astype("<u8").tobytes() + records[rows].tobytes()
        (folder / name).write_bytes(data + rows.astype("<u8").tobytes())
    return max(map(len, groups))


def read_annotations(path: Path) -> Rows:
    """Read every point of a folder of annotations, from its spatial index.

    Raises
    ------
    DataError
        If it is no folder of points, sharded by place, or damaged.
    """
    import pandas as pd

    if not (path / "info").is_file():
        raise DataError("no annotations: there is no file info", path, fix="check the path")
    with reading(path / "info"):
        info = json.loads((path / "info").read_text(encoding="utf-8"))
        kind = info.get("@type")
        if kind != TYPE:
            raise DataError("these are no annotations", path, kind or info.get("type"))
        if str(info["annotation_type"]).upper() != "POINT":
            raise DataError("only points can be read", path, info["annotation_type"])
        names = list(info["dimensions"])
        if sorted(names) not in (["x", "y", "z"], ["x", "y"]):
            raise DataError("the dimensions are x, y and z", path, ", ".join(names))
        spacing = {axis: in_um(*info["dimensions"][axis]) for axis in names}
        if None in spacing.values():
            raise DataError("the dimensions have no unit", path, str(info["dimensions"])[:100])
        properties = list(info.get("properties", ()))
        dtype = record_dtype(properties, len(names), path)
        parts = [
            _read_cell(file, dtype) for level in info["spatial"] for file in _cells(path, level)
        ]
    records = np.concatenate([part for part, _ in parts] or [np.zeros(0, dtype)])
    ids = np.concatenate([ids for _, ids in parts] or [np.zeros(0, "<u8")])
    ids, first = np.unique(ids, return_index=True)
    records = records[first]
    axes = [axis for axis in "zyx" if axis in names]
    table = pd.DataFrame(
        {
            axis: records["@position"][:, names.index(axis)].astype(np.float64) - CENTRE
            for axis in axes
        }
    )
    for one in properties:
        if one["type"] in COLOURS:
            continue
        values = records[one["id"]]
        if one.get("enum_values"):
            words = dict(zip(one["enum_values"], one["enum_labels"]))
            table[one["id"]] = [str(words.get(value, value)) for value in values.tolist()]
        else:
            table[one["id"]] = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    if (ids != np.arange(len(ids))).any():
        table["id"] = ids
    steps = tuple(float(spacing[axis]) for axis in axes)  # type: ignore[arg-type]
    return Rows(table, lambda rows: ids[rows].tolist(), spacing=steps, counted="annotation")


def _cells(path: Path, level: dict[str, Any]) -> list[Path]:
    folder = path / level["key"]
    if Path(level["key"]).is_absolute() or ".." in Path(level["key"]).parts:
        raise DataError("a key leads out of the folder", path, level["key"])
    if "sharding" in level:
        raise DataError("an index of places in shards cannot be read", path, level["key"])
    if not folder.is_dir():
        raise DataError("a level of the index is missing", folder, fix="export it again")
    return sorted(f for f in folder.iterdir() if re.fullmatch(r"\d+(_\d+)*", f.name))


def _read_cell(file: Path, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    data = file.read_bytes()
    count = int.from_bytes(data[:8], "little")
    if len(data) != 8 + count * (dtype.itemsize + 8):
        raise DataError("a cell of the index is cut short or damaged", file, f"{len(data)} bytes")
    records = np.frombuffer(data, dtype, count, 8)
    return records, np.frombuffer(data, "<u8", count, 8 + count * dtype.itemsize)
