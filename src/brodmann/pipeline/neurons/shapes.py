"""Surfaces and centre lines of chosen segments, as files and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brodmann.core import RecipeError, Volume
from brodmann.core.files import make_folder, write_text
from brodmann.io import read_volume
from brodmann.postprocess.shapes import (
    Boxes,
    check_ids,
    mesh_segment,
    segment_boxes,
    skeleton_segment,
    write_mesh,
    write_swc,
)

COLUMNS = (
    "id",
    "voxels",
    "volume_um3",
    "area_um2",
    "length_um",
    "branch_points",
    "end_points",
    "pieces",
    "mean_radius_um",
)
FORMATS = ("ply", "stl")


def write_shapes(
    labels: str | Path | Volume,
    folder: Path,
    ids: Sequence[int] = (),
    largest: int = 0,
    *,
    mesh: bool = True,
    skeleton: bool = True,
    suffix: str = "ply",
    smooth: int = 0,
    keep: float = 1.0,
    spacing: Sequence[float] | None = None,
    report: Callable[[str, int, int, str], None] = lambda what, done, total, note="": None,
) -> dict[str, Any]:
    """Write ID.ply (or .stl), ID.swc and shapes.csv of chosen segments.

    Parameters
    ----------
    labels : path or Volume
        Axes "zyx", whole numbers.
    folder : Path
        Made where it is not there.
    ids : sequence of int
        Segments, or `largest` of them by voxels.
    suffix : "ply" or "stl"
    smooth : int
        Rounds of smoothing of the surfaces.
    keep : float
        Share of the faces to keep, in (0, 1].
    spacing : sequence of float, optional
        Micrometres, for files that do not say.

    Returns
    -------
    dict
        `labels`, `segments` (how many there are), `shapes` (a row each: COLUMNS, None where
        not asked for) and `table`.

    Raises
    ------
    RecipeError
        If the choice is empty or twofold.
    DataError
        If these are no labels, or an id is not among them.
    """
    if bool(ids) == bool(largest) or largest < 0:
        raise RecipeError("choose segments by their ids, or the largest", fix="--ids or --largest")
    if suffix not in FORMATS:
        raise RecipeError("meshes are ply or stl", "--format", repr(suffix))
    if not (mesh or skeleton):
        raise RecipeError("neither meshes nor skeletons are asked for")
    if not 0 < keep <= 1:
        raise RecipeError("the share of faces to keep is in (0, 1]", "--keep", keep)
    where = "labels" if isinstance(labels, Volume) else str(labels)
    if not isinstance(labels, Volume):
        labels = read_volume(labels, axes="zyx", spacing=spacing)
    boxes = segment_boxes(labels, lambda done, total: report("segments", done, total, ""))
    chosen = check_ids(boxes, ids or boxes.largest(largest))
    folder = make_folder(Path(folder))
    rows = []
    for done, id_ in enumerate(chosen):
        report("shapes", done, len(chosen), f"segment {id_}")
        rows.append(_shape(labels, boxes, id_, folder, mesh, skeleton, suffix, smooth, keep))
    report("shapes", len(chosen), len(chosen), "")
    table = folder / "shapes.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())
    return {
        "labels": where,
        "segments": len(boxes),
        "shapes": rows,
        "out": str(folder),
        "table": str(table),
    }


def _shape(
    labels: Volume,
    boxes: Boxes,
    id_: int,
    folder: Path,
    mesh: bool,
    skeleton: bool,
    suffix: str,
    smooth: int,
    keep: float,
) -> dict[str, Any]:
    voxels = int(boxes.voxels[boxes.index(id_)])
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"id": id_, "voxels": voxels, "volume_um3": _short(voxels * labels.voxel_size)}
    if mesh:
        surface = mesh_segment(labels, id_, boxes, smooth, keep)
        write_mesh(folder / f"{id_}.{suffix}", surface)
        row["area_um2"] = _short(surface.area_um2)
    if skeleton:
        line = skeleton_segment(labels, id_, boxes)
        write_swc(folder / f"{id_}.swc", line)
        row |= {
            "length_um": _short(line.length_um),
            "branch_points": len(line.branch_points),
            "end_points": len(line.end_points),
            "pieces": line.pieces,
            "mean_radius_um": _short(line.radius_um.mean()),
        }
    return row


def _short(value: float) -> float:
    return float(f"{value:.6g}")
