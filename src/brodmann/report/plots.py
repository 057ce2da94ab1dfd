"""Axes with ticks on a sheet, and colours for a handful of categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from brodmann.report.palette import color_of
from brodmann.report.sheet import DPI, INK, LINE, Cell, Sheet

CATEGORY_COLORS = (
    "#0b7a75",
    "#d1661b",
    "#6a4fa3",
    "#d9a21b",
    "#2f7fc1",
    "#b8336a",
    "#6b8e23",
    "#7a5a43",
)
"""Told apart on paper and on black, the first four also without red or green."""


def category_colors(names: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """A colour "#rrggbb" for each name, in the order of first sight; `known` ones are kept.

    >>> category_colors(["CTX", "STR", "CTX"], {"STR": "#000000"})
    {'CTX': '#0b7a75', 'STR': '#000000'}
    """
    colors: dict[str, str] = {}
    for rank, name in enumerate(dict.fromkeys(names)):
        if known and name in known:
            colors[name] = known[name]
        elif rank < len(CATEGORY_COLORS):
            colors[name] = CATEGORY_COLORS[rank]
        else:
            rgb = color_of(rank)
            colors[name] = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
    return colors


def axes_on(sheet: Sheet, cell: Cell, *, grid: str = "", frame: bool = False) -> Any:
    """Matplotlib axes that fill a cell of a sheet, in the house's colours.

    `grid` is "x", "y" or "both"; `frame` draws all four sides instead of two.
    """
    axes = sheet.figure.add_axes(
        (
            cell.x / sheet.width,
            1 - (cell.y + cell.height) / sheet.height,
            cell.width / sheet.width,
            cell.height / sheet.height,
        )
    )
    axes.patch.set_facecolor("#ffffff")
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, labelsize=points(12))
    if grid:
        axes.grid(True, axis=grid, color=LINE, linewidth=points(1))
    for side, spine in axes.spines.items():
        spine.set_visible(frame or side in ("left", "bottom"))
        spine.set_color(LINE)
    return axes


def points(pixels: float) -> float:
    """Typographic points of a size in the sheet's pixels."""
    return pixels * 72 / DPI
