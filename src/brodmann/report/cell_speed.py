"""A picture of how well detectors find cells against how fast they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brodmann.core import DataError
from brodmann.report.plots import axes_on, category_colors, points
from brodmann.report.sheet import INK, MARGIN, SOFT, Cell, Sheet, checked

WIDE, HIGH, TOP = 820, 430, 104


def speed_picture(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draw F1 on brains never seen, with its deviation over seeds, over MVox/s.

    Parameters
    ----------
    result : mapping
        Of `run_cells`: `rows` and `megavoxels_per_s`.
    path : path
        .png, .pdf or .svg.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If no row has both numbers.
    """
    path = checked(Path(path))
    speeds = result["megavoxels_per_s"]
    rows = [
        (row["name"], speeds[row["name"]], row["mean"]["f1"], row["std"]["f1"] or 0.0)
        for row in result["rows"]
        if speeds.get(row["name"]) is not None and row["mean"]["f1"] is not None
    ]
    if not rows:
        raise DataError("no detector has both a speed and an F1", path)
    rows.sort(key=lambda row: -row[1])
    names = [name for name, *_ in rows]
    colors = category_colors(names)
    sheet = Sheet(WIDE, TOP + HIGH + 92 + 22 * len(rows))
    sheet.head(result["title"], "F1 on brains never seen, and how fast heat is made")
    panel = axes_on(sheet, Cell(MARGIN + 46, TOP, WIDE - 2 * MARGIN - 66, HIGH), grid="both")
    for name, speed, f1, deviation in rows:
        panel.errorbar(
            [speed], [f1], [deviation], fmt="o", color=colors[name], ms=points(11),
            elinewidth=points(2), capsize=points(4), mew=0,
        )  # fmt: skip
    panel.set_xscale("log")
    low, high = min(row[1] for row in rows), max(row[1] for row in rows)
    panel.set_xlim(low / 1.6, high * 1.6)
    values = [f1 + side * deviation for _, _, f1, deviation in rows for side in (-1, 1)]
    panel.set_ylim(max(0.0, min(values) - 0.05), min(1.02, max(values) + 0.05))
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leads(value) else "")
    size = panel.xaxis.get_ticklabels()[0].get_fontsize()
    panel.tick_params(axis="x", which="both", length=0, pad=points(7), labelsize=size)
    panel.set_xlabel("MVox/s", color=INK, fontsize=points(12))
    panel.set_ylabel("F1", color=INK, fontsize=points(12))
    y = TOP + HIGH + 74
    for name, speed, f1, deviation in rows:
        x = sheet.text(sheet.chip(MARGIN, y, colors[name]), y, name, 13) + 12
        spread = f" ± {deviation:.3f}" if deviation else ""
        sheet.text(x, y, f"{f1:.3f}{spread} at {speed:g} MVox/s", 13, SOFT)
        y += 22
    return sheet.save(path)


def _leads(value: float) -> bool:
    """Whether a tick between powers of ten is 2 or 5 of them."""
    return f"{value:.0e}"[0] in "25"
