"""Cells per structure as one self-contained page, with heat maps on sections of the atlas."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.atlas.annotation import Annotation
from brodmann.atlas.count import CellCounts
from brodmann.atlas.files import plain_rows, write_counts
from brodmann.core import DataError
from brodmann.core.files import make_folder, write_text
from brodmann.report.atlas_sections import MAJOR, density_scale, density_sections
from brodmann.report.html import render

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 30
"""Structures of a table of co-expression that the page shows; its CSV holds all."""


def write_atlas_report(
    counts: Mapping[str, CellCounts],
    annotation: Annotation,
    out: str | Path,
    *,
    coexpression: Mapping[str, pd.DataFrame] | None = None,
    proximity: Mapping[str, pd.DataFrame] | None = None,
    tolerance_um: float | None = None,
    title: str = "Cells per structure",
    facts: Mapping[str, str] | None = None,
    command: str = "",
    sections: int = 8,
) -> dict[str, Path]:
    """Write tables, heat maps and report.html into a folder.

    Files: those of `write_counts`, sections_MARKER.png for each marker, coexpression.csv and
    proximity.csv where there are such, and report.html, which needs no network and no other
    file. Markers share one scale of colours.

    Parameters
    ----------
    counts : mapping of str to CellCounts
        Marker -> what was counted, all in the same annotation.
    annotation : Annotation
    out : str or Path
    coexpression, proximity : mapping of str to DataFrame, optional
        "first with second" -> the table of `atlas.coexpression` or `atlas.proximity`.
    tolerance_um : float, optional
        Of the co-expression, for the caption.
    title : str
    facts : mapping of str to str, optional
        What else to say about how it was made.
    command : str
    sections : int

    Returns
    -------
    dict
        What it is -> where it lies.

    Raises
    ------
    DataError
        If there is nothing to report.
    """
    if not counts:
        raise DataError("a report of cells needs at least one marker", out, 0)
    out = make_folder(Path(out))
    relations = {}
    for name, tables in (("coexpression", coexpression), ("proximity", proximity)):
        if tables:
            relations[name] = _joined(tables)
    written = write_counts(counts, annotation, out, relations)
    scale = density_scale(list(counts.values()))
    markers = []
    for name, one in counts.items():
        stem = re.sub(r"[^\w.-]+", "_", name).strip(".") or "cells"
        picture = out / f"sections_{stem}.png"
        density_sections(
            one, annotation, picture, title=f"Density of {name}",
            lead=_lead(one, annotation), sections=sections, scale=scale,
        )  # fmt: skip
        written[picture.stem] = picture
        markers.append(_marker(name, one, annotation, picture))
    page = render(
        "atlas.html.j2",
        title=title,
        lead=f"{', '.join(counts) + ': ' if len(counts) > 1 else ''}cells in the structures of "
        f"{annotation.name}, voxels of {_triple(annotation.spacing)} µm",
        markers=markers,
        notes=list(dict.fromkeys(
            f"{name}: {note}" if len(counts) > 1 else note
            for name, one in counts.items() for note in [*one.notes, *_doubts(one)]
        )),
        coexpression=[(name, _most(table, "cells")) for name, table in (coexpression or {}).items()],
        proximity=[(name, plain_rows(table)) for name, table in (proximity or {}).items()],
        tolerance=tolerance_um,
        command=command,
        facts={
            "Annotation": f"{annotation.name}, {_triple(annotation.shape, ' x ')} voxels",
            "Spacing": f"{_triple(annotation.spacing)} µm",
            "Orientation": annotation.orientation or "not known",
            "Sides": "a volume of hemispheres" if annotation.hemispheres is not None
            else "the middle of the annotation" if annotation.orientation else "not told apart",
            "Borders": "a cell belongs to the voxel it lies in, from i - 0.5 up to i + 0.5",
            **(facts or {}),
        },
    )  # fmt: skip
    written["report"] = write_text(out / "report.html", page)
    return written


def _marker(name: str, one: CellCounts, annotation: Annotation, picture: Path) -> dict[str, Any]:
    rows = plain_rows(one.table)
    for row in rows:
        row |= {
            "left": row["cells_left"],
            "right": row["cells_right"],
            "density": row["density_per_mm3"],
            "density_left": row["density_left_per_mm3"],
            "density_right": row["density_right_per_mm3"],
        }
        for key in ("cells", "left", "right"):
            row[key] = None if row[key] is None else int(row[key])
    sided = one.half == "both" and annotation.has_sides
    tree = annotation.tree
    chosen = {int(tree.ids[i]) for i in tree.parted(annotation.sizes.total, MAJOR)}
    major = [dict(row) for row in rows if row["id"] in chosen]
    ends = (("L", "density_left"), ("R", "density_right")) if sided else (("", "density"),)
    top = max((row[key] or 0 for row in major for _, key in ends), default=0) or 1
    for row in major:
        row["bars"] = [(side, row[key] or 0.0, (row[key] or 0.0) / top) for side, key in ends]
    volume = float(one.table["volume_direct_mm3"].sum())
    cells = one.summary["region"]
    left = float(np.nansum(one.table["cells_direct_left"])) if sided and cells else None
    return {
        "name": name,
        "half": one.half,
        "sided": sided,
        "summary": one.summary,
        "volume": volume,
        "density": cells / volume if volume else None,
        "left": None if left is None else left / cells,
        "picture": "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
        "major": major,
        "rows": rows,
    }


def _doubts(one: CellCounts) -> list[str]:
    """What the share of cells outside structures hints at."""
    summary = one.summary
    lost = summary["background"] + summary["outside"]
    if not summary["all"] or lost <= 0.1 * summary["all"]:
        return []
    return [
        f"{lost:,} of {summary['all']:,} cells ({lost / summary['all']:.0%}) lie in no structure: "
        "false detections outside the brain, or a registration that does not fit. Look at them in "
        "cells.csv."
    ]


def _lead(one: CellCounts, annotation: Annotation) -> str:
    half = "" if one.half == "both" else f" of the {one.half} hemisphere"
    return (
        f"{one.summary['region']:,} cells in structures{half}; {annotation.name} at "
        f"{_triple(annotation.spacing)} µm"
    )


def _triple(values: Sequence[float], between: str = " x ") -> str:
    """Three numbers, or one where they are alike.

    >>> _triple((25.0, 25.0, 25.0)), _triple((4, 2, 2))
    ('25', '4 x 2 x 2')
    """
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 and between == " x " else between.join(texts)


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for name, table in tables.items():
        part = table.copy()
        part.insert(0, "markers", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _most(table: pd.DataFrame, key: str) -> list[dict[str, Any]]:
    """The rows with the most cells, in the table's order."""
    kept = table[key].rank(method="first", ascending=False) <= MOST_SHOWN
    return plain_rows(table[kept])
