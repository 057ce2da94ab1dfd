"""From files to files: cells of a brain counted in an atlas, and tables rolled up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brodmann.atlas import (
    CellCounts,
    Grid,
    coexpression,
    count_markers,
    proximity,
    read_annotation,
    read_structures,
    read_transform,
    roll_up_table,
)
from brodmann.atlas.files import plain_rows, write_table
from brodmann.core import DataError, Points, RecipeError
from brodmann.core.files import make_folder
from brodmann.report.atlas_cells import write_atlas_report

if TYPE_CHECKING:
    import pandas as pd

Report = Callable[[str, int, int, str], None]


def count_files(
    points: Sequence[Path],
    annotation: str | Path,
    out: Path,
    *,
    structures: Path | None = None,
    transform: Path | None = None,
    transform_unit: str = "um",
    inverse: bool = False,
    spacing: Sequence[float] | None = None,
    unit: str = "voxel",
    orientation: str | None = None,
    shape: Sequence[int] | None = None,
    annotation_orientation: str | None = None,
    annotation_spacing: Sequence[float] | None = None,
    hemispheres: Path | None = None,
    half: str = "auto",
    allow_outside: bool = False,
    tolerance_um: float | None = None,
    near: bool = False,
    draws: int = 50,
    seed: int = 0,
    title: str = "Cells per structure",
    report: Report | None = None,
) -> dict[str, Any]:
    """Count the cells of files in an annotation and write tables and the page.

    Options are those of `read_annotation`, `read_transform`, `count_cells`, `coexpression`
    and `proximity`. A file without a column marker is one marker, by its name.

    Returns
    -------
    dict
        markers (marker, half, cells by place, volume, density, notes) and files.

    Raises
    ------
    DataError, RecipeError
        As those do; and if no spacing is known, two files share a marker, or one marker is to
        be compared.
    """
    from brodmann.io.points import read_points

    make_folder(out)
    say = report or (lambda *_: None)
    atlas = read_annotation(
        annotation,
        structures,
        spacing=annotation_spacing,
        orientation=annotation_orientation,
        hemispheres=hemispheres,
    )
    way = None
    if transform is not None:
        way = read_transform(transform, unit=transform_unit, inverse=inverse)
    known = way.image_grid if way is not None and way.image_grid is not None else atlas.image
    steps = tuple(spacing) if spacing is not None else known.spacing if known is not None else None
    if steps is None:
        raise RecipeError(
            "the spacing of the points is not known", "--spacing", fix="give micrometres as z,y,x"
        )
    Grid(tuple(steps), orientation or "", None if shape is None else tuple(shape))
    counts: dict[str, CellCounts] = {}
    for number, path in enumerate(points):
        say("count cells", number, len(points), path.name)
        read = read_points(path, unit=unit, spacing=steps)
        if "marker" not in read.table.columns:
            read = Points(read.table.assign(marker=path.stem), str(path))
        found = count_markers(
            read, steps, atlas, way, orientation=orientation, shape=shape, half=half,
            allow_outside=allow_outside,
        )  # fmt: skip
        for marker, one in found.items():
            if marker in counts:
                raise DataError("two files hold the same marker", path, marker, "rename one")
            counts[marker] = one
    if not counts:
        raise DataError("there is no cell in these files", ", ".join(map(str, points)))
    say("count cells", len(points), len(points), "")
    pairs = list(permutations(counts, 2))
    if (tolerance_um is not None or near) and not pairs:
        raise RecipeError(
            "co-expression and proximity need two markers", found=", ".join(counts),
            fix="give two files, or a column marker",
        )  # fmt: skip
    both: dict[str, pd.DataFrame] = {}
    nearest: dict[str, pd.DataFrame] = {}
    for number, (first, second) in enumerate(pairs):
        name = f"{first} with {second}"
        if tolerance_um is not None:
            say("relate markers", number, len(pairs), name)
            both[name] = coexpression(
                counts[first], counts[second], steps, atlas, tolerance_um, draws=draws, seed=seed
            )
        if near:
            say("relate markers", number, len(pairs), name)
            nearest[f"{first} to {second}"] = proximity(
                counts[first], counts[second], atlas, draws=draws, seed=seed
            )
    if both or nearest:
        say("relate markers", len(pairs), len(pairs), "")
    facts = {
        "Points": ", ".join(path.name for path in points)
        + f"; voxels of {' x '.join(f'{step:g}' for step in steps)} µm",
        "Transform": "none: the same space" if transform is None else transform.name,
    }
    if both or nearest:
        facts["Chance"] = f"{draws} draws, seed {seed}"
    written = write_atlas_report(
        counts,
        atlas,
        out,
        coexpression=both,
        proximity=nearest,
        tolerance_um=tolerance_um,
        title=title,
        facts=facts,
    )
    return {
        "markers": [_summary(name, one) for name, one in counts.items()],
        "files": {key: str(path) for key, path in written.items()},
    }


def roll_up_file(
    table: Path,
    structures: Path,
    out: Path,
    *,
    to: Sequence[str] | None = None,
    depth: int | None = None,
    values: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Roll a CSV up the tree (`roll_up_table`), marker by marker where it has such a column."""
    import pandas as pd

    try:
        read = pd.read_csv(table)
    except (OSError, ValueError) as error:
        raise DataError("cannot read this table", table, str(error)[:200]) from error
    tree = read_structures(structures)
    if "marker" in read.columns:
        parts = []
        for marker, rows in read.groupby("marker", sort=False):
            part = roll_up_table(
                rows.drop(columns="marker"), tree, values, to, depth, where=str(table)
            )
            part.insert(0, "marker", marker)
            parts.append(part)
        result = pd.concat(parts, ignore_index=True) if parts else read
    else:
        result = roll_up_table(read, tree, values, to, depth, where=str(table))
    make_folder(Path(out).parent)
    write_table(Path(out), result)
    return {"out": str(out), "rows": plain_rows(result)}


def _summary(name: str, one: CellCounts) -> dict[str, Any]:
    volume = float(one.table["volume_direct_mm3"].sum())
    return {
        "marker": name,
        "half": one.half,
        "cells": one.summary,
        "volume_mm3": round(volume, 9),
        "density_per_mm3": one.summary["region"] / volume if volume else None,
        "notes": list(one.notes),
    }
