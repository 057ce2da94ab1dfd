"""Tables of cells per structure on disk, and other tables rolled up the tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.atlas.annotation import Annotation
from brodmann.atlas.count import CellCounts
from brodmann.atlas.structures import Tree
from brodmann.core import DataError, LabelMap, RecipeError
from brodmann.core.files import make_folder, write_json, written_beside

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
DIGITS = 9


def write_counts(
    counts: Mapping[str, CellCounts], annotation: Annotation, out: str | Path,
    relations: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, Path]:  # fmt: skip
    """Write tables into a folder, each whole or not at all.

    regions.csv (a row for each structure and marker, in the order of the tree), regions.json
    (the same with a summary for each marker), cells.csv (a row for each point, with its
    structure) and, with relations, one CSV each.

    Returns
    -------
    dict
        What it is -> where it lies.
    """
    import pandas as pd

    out = make_folder(Path(out))
    parts = [table_of(name, one) for name, one in counts.items()]
    written = {"regions": out / "regions.csv", "json": out / "regions.json"}
    write_table(written["regions"], pd.concat(parts, ignore_index=True))
    write_json(
        written["json"],
        {
            "version": VERSION,
            "annotation": annotation.name,
            "spacing_um": list(annotation.spacing),
            "orientation": annotation.orientation,
            "markers": [
                {
                    "marker": name,
                    "half": one.half,
                    "cells": one.summary,
                    "notes": list(one.notes),
                    "regions": plain_rows(one.table),
                }
                for name, one in counts.items()
            ],
        },
    )
    written["cells"] = out / "cells.csv"
    cells = [
        one.cells if "marker" in one.cells else one.cells.assign(marker=name)
        for name, one in counts.items()
    ]
    write_table(written["cells"], pd.concat(cells, ignore_index=True))
    for name, table in (relations or {}).items():
        written[name] = write_table(out / f"{name}.csv", table)
    return written


def table_of(marker: str, counts: CellCounts) -> pd.DataFrame:
    """A marker's table with the marker as its first column."""
    table = counts.table.copy()
    table.insert(0, "marker", marker)
    return table


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """A CSV: whole numbers as such where nothing is missing, empty where nothing is known."""
    shown = table.copy()
    for name in shown.columns:
        if shown[name].dtype.kind == "f":
            whole = name.startswith("cells") and shown[name].notna().all()
            shown[name] = shown[name].astype(np.int64) if whole else shown[name].round(DIGITS)
    with written_beside(path) as beside:
        shown.to_csv(beside, index=False, lineterminator="\n")
    return path


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON: None where nothing is known."""

    def plain(value: Any) -> Any:
        if isinstance(value, (float, np.floating)):
            return round(float(value), DIGITS) if np.isfinite(value) else None
        return int(value) if isinstance(value, np.integer) else value

    return [{k: plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def roll_up_table(
    table: pd.DataFrame,
    structures: LabelMap,
    values: Sequence[str] | None = None,
    to: Sequence[str] | None = None,
    depth: int | None = None,
    where: str = "table",
) -> pd.DataFrame:
    """Sums of a table's columns over each structure and all below it.

    Parameters
    ----------
    table : DataFrame
        A row for each structure, named by `id` or `acronym`; several rows of one add up.
    structures : LabelMap
    values : sequence of str, optional
        Columns to add up. They are of the structure itself, without those below it. Default:
        those with "direct" in their names, else all columns of numbers.
    to : sequence of str, optional
        Acronyms of the structures wanted.
    depth : int, optional
        Or all at this depth of the tree; 0 is the root.

    Returns
    -------
    DataFrame
        id, acronym, name, depth, the sums, and where there are pairs of cells* and volume*_mm3
        their density*_per_mm3. In the order of the tree; structures without a value are left
        out unless asked for.

    Raises
    ------
    DataError
        If no column names the structures, one is unknown, or a value is no number.
    RecipeError
        If both `to` and `depth` are given.
    """
    import pandas as pd

    if to is not None and depth is not None:
        raise RecipeError("give structures or a depth, not both", found=f"{to}, {depth}")
    tree = Tree(structures)
    if "id" in table:
        try:
            ids = table["id"].to_numpy(np.int64)
        except (TypeError, ValueError) as error:
            raise DataError("ids are whole numbers", where, error) from None
    elif "acronym" in table:
        known = {label.acronym: label.id for label in structures}
        lost = sorted(set(map(str, table["acronym"])) - set(known))
        if lost:
            raise DataError("structures missing from the tree", where, ", ".join(lost[:8]))
        ids = np.array([known[str(name)] for name in table["acronym"]], np.int64)
    else:
        raise DataError("a table needs a column id or acronym", where, list(table.columns))
    if values is None:
        numeric = [
            c for c in table.columns if c not in ("id", "depth") and table[c].dtype.kind in "iuf"
        ]
        values = [c for c in numeric if "direct" in c] or numeric
    lost = [name for name in values if name not in table]
    if lost or not values:
        raise DataError("columns to add up are missing", where, ", ".join(lost) or "no numbers")
    try:
        added = table[list(values)].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("a column to add up holds no number", where, error) from None
    positions = tree.positions(ids, where)
    kept = positions >= 0
    sums = np.zeros((len(tree), len(values)))
    rows = np.zeros(len(tree), np.int64)
    np.add.at(sums, positions[kept], np.nan_to_num(added[kept]))
    np.add.at(rows, positions[kept], 1)
    sums, rows = tree.roll_up(sums), tree.roll_up(rows)
    missing = np.isnan(added[kept]).all(axis=0) if kept.any() else np.zeros(len(values), bool)
    sums[:, missing] = np.nan
    wanted = rows > 0
    if to is not None:
        chosen = {tree.place[structures.find(name).id] for name in to}
        wanted = np.isin(np.arange(len(tree)), list(chosen))
    elif depth is not None:
        wanted &= tree.depth == depth
    result = pd.DataFrame(
        {
            "id": tree.ids,
            "acronym": [label.acronym for label in tree.labels],
            "name": [label.name for label in tree.labels],
            "depth": tree.depth,
        }
        | {name.replace("_direct", ""): sums[:, i] for i, name in enumerate(values)}
    )[wanted].reset_index(drop=True)
    for name in [c for c in result.columns if c.startswith("cells")]:
        volume = "volume" + name.removeprefix("cells") + "_mm3"
        if volume in result:
            with np.errstate(divide="ignore", invalid="ignore"):
                density = result[name] / result[volume].where(result[volume] > 0)
            result["density" + name.removeprefix("cells") + "_per_mm3"] = density
    return result
