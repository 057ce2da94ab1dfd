"""Densities on sections of an atlas: a heat map, colour-blind safe and logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.atlas.annotation import LEFT, RIGHT, SIDES, Annotation
from brodmann.atlas.count import CellCounts
from brodmann.atlas.passes import occupied, shadow, take_planes
from brodmann.core import DataError
from brodmann.report.lettering import bar_text
from brodmann.report.plots import axes_on, points
from brodmann.report.sheet import INK, LINE, MARGIN, SOFT, Cell, Sheet

COLORMAP = "YlGnBu"
"""From pale to dark, told apart without red or green."""
NONE, ABSENT = "#e9e6de", "#f4f2ec"
"""Structures without cells, and the half that was not counted."""
COLUMNS, WIDTH, GAP, TOP, FOOT = 4, 316, 24, 92, 168
MAJOR = 12
"""So many structures or a few more have strong outlines."""
FINE, STRONG = "#1d232738", "#1d2327d8"


@dataclass(frozen=True)
class Scale:
    """Limits of the colours, in cells per mm3."""

    low: float
    high: float

    def norm(self) -> Any:
        from matplotlib.colors import LogNorm

        return LogNorm(self.low, self.high, clip=True)


def density_scale(counts: Sequence[CellCounts]) -> Scale:
    """Limits that hold nearly all of the brain's volume, on round numbers; alike for several.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"cells_direct": [9.0, 900], "volume_direct_mm3": [1.0, 1.0]})
    >>> density_scale([CellCounts(table, table, "both", ())])
    Scale(low=5.0, high=1000.0)
    """
    values, weights = [], []
    for one in counts:
        cells = one.table["cells_direct"].to_numpy(float)
        volume = one.table["volume_direct_mm3"].to_numpy(float)
        known = (cells > 0) & (volume > 0)
        values.append(cells[known] / volume[known])
        weights.append(volume[known])
    found, weight = np.concatenate(values), np.concatenate(weights)
    if not len(found):
        return Scale(1.0, 10.0)
    order = np.argsort(found)
    share = np.cumsum(weight[order]) / weight.sum()
    low = found[order][np.searchsorted(share, 0.01)]
    high = found[order][min(np.searchsorted(share, 0.995), len(found) - 1)]
    low, high = _round(low, up=False), _round(high, up=True)
    return Scale(low, max(high, low * 10))


def _round(value: float, up: bool) -> float:
    """The next of 1, 2, 5, 10, ... below or above."""
    power = 10.0 ** np.floor(np.log10(value))
    steps = [step * power for step in (1, 2, 5, 10)]
    # Half of a millionth forgives what division leaves.
    if up:
        return float(next(step for step in steps if step >= value * (1 - 1e-6)))
    return float([step for step in steps if step <= value * (1 + 1e-6)][-1])


def density_sections(
    counts: CellCounts,
    annotation: Annotation,
    path: Path,
    *,
    title: str,
    lead: str = "",
    sections: int = 8,
    scale: Scale | None = None,
) -> Path:
    """Draw coronal sections of the annotation in the colours of the structures' densities.

    Each voxel shows the density of the structure whose id it holds, on its own side, so that
    both hemispheres compare. The brain's left is on the left. Where the orientation is not
    known, planes across z are shown as they are stored.

    Parameters
    ----------
    counts : CellCounts
    annotation : Annotation
        The one that was counted in.
    path : Path
        .png, .pdf or .svg.
    title, lead : str
    sections : int
        Spread evenly over the brain.
    scale : Scale, optional
        To draw several markers alike; default: this one's own.

    Raises
    ------
    DataError
        If no voxel of the annotation holds a structure.
    """
    axis = annotation.grid.axis_of("ap")
    axis = 0 if axis is None else axis
    filled = np.flatnonzero(occupied(annotation, axis))
    if not len(filled):
        raise DataError("no voxel of the annotation holds a structure", annotation.name)
    first, last = int(filled[0]), int(filled[-1])
    front_first = not annotation.orientation or annotation.orientation[axis] == "a"
    shares = (np.arange(sections) + 0.5) / sections
    places = sorted({int(p) for p in first + shares * (last - first + 1)}, reverse=not front_first)
    planes, sides = _upright(annotation, axis, places)
    rows, columns = (np.flatnonzero((planes > 0).any(axis=(0, i))) for i in (2, 1))
    if len(rows):
        box = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        planes, sides = planes[box], sides[box]
    step = _steps(annotation, axis)
    aspect = planes.shape[2] * step[1] / (planes.shape[1] * step[0])
    scale = scale or density_scale([counts])
    height = round(WIDTH / aspect)
    lines = -(-len(places) // COLUMNS)
    wide = 2 * MARGIN + COLUMNS * (WIDTH + GAP) - GAP
    sheet = Sheet(wide, TOP + lines * (height + 34) + FOOT)
    sheet.head(title, lead)
    colors = _colors(counts, annotation, scale)
    tree = annotation.tree
    groups = tree.group_of(tree.parted(annotation.sizes.total, MAJOR))
    um = annotation.spacing[axis]
    for number, (plane, side) in enumerate(zip(planes, sides)):
        line, column = divmod(number, COLUMNS)
        cell = Cell(MARGIN + column * (WIDTH + GAP), TOP + line * (height + 34) + 20, WIDTH, height)
        _section(sheet, cell, plane, side, colors, groups, annotation)
        depth = abs(places[number] - (first if front_first else last)) * um / 1000
        sheet.text(cell.x, cell.y - 6, f"{number + 1}", 13, bold=True)
        sheet.text(cell.x + 16, cell.y - 6, f"{depth:.1f} mm", 12, SOFT)
        if number == 0 and annotation.has_sides and annotation.grid.axis_of("lr") is not None:
            spread = np.flatnonzero((plane > 0).any(axis=0)) * WIDTH / plane.shape[1]
            ends = (spread[0], spread[-1]) if len(spread) else (0, WIDTH)
            level = cell.y + height * 0.55
            sheet.text(max(cell.x, cell.x + ends[0] - 24), level, "L", 15, INK, bold=True)
            right = min(cell.x + WIDTH, cell.x + ends[1] + 24)
            sheet.text(right, level, "R", 15, INK, bold=True, ha="right")
    low = sheet.height - FOOT
    _bar(sheet, wide - MARGIN, low + 58, WIDTH / (planes.shape[2] * step[1]))
    _foot(sheet, annotation, axis, places, scale, counts, (wide, low))
    return sheet.save(path)


def _upright(
    annotation: Annotation, axis: int, places: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and sides of planes with superior up and left on the left."""
    planes = take_planes(annotation, axis, places)
    rest = [i for i in range(3) if i != axis]
    grid = annotation.grid
    if annotation.hemispheres is not None:
        sides = np.stack(
            [
                np.asarray(
                    annotation.hemispheres.data[tuple(
                        place if i == axis else slice(None) for i in range(3)
                    )]
                )
                for place in places
            ]
        ).astype(np.uint8)  # fmt: skip
    elif grid.axis_of("lr") is not None:
        form = [1, 1, 1]
        form[1 + rest.index(grid.axis_of("lr"))] = -1  # type: ignore[arg-type]
        sides = np.broadcast_to(annotation.side_of_planes().reshape(form), planes.shape)
    else:
        sides = np.zeros(planes.shape, np.uint8)
    if not annotation.orientation:
        return planes, sides
    order = [0, 1 + rest.index(grid.axis_of("si")), 1 + rest.index(grid.axis_of("lr"))]  # type: ignore[arg-type]
    planes, sides = planes.transpose(order), sides.transpose(order)
    letters = annotation.orientation
    turned = [i for i, letter in ((1, "i"), (2, "r")) if letter in letters]
    return np.flip(planes, turned), np.flip(sides, turned)


def _steps(annotation: Annotation, axis: int) -> tuple[float, float]:
    """Micrometres down and across a drawn plane."""
    grid = annotation.grid
    if not annotation.orientation:
        down, across = (i for i in range(3) if i != axis)
    else:
        down, across = grid.axis_of("si"), grid.axis_of("lr")  # type: ignore[assignment]
    return annotation.spacing[down], annotation.spacing[across]


def _colors(counts: CellCounts, annotation: Annotation, scale: Scale) -> np.ndarray:
    """(3, n + 1, 4) RGBA by side and tree position; the last entry is outside the brain."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    tree = annotation.tree
    rows = np.array([tree.place[int(id_)] for id_ in counts.table["id"]], np.int64)
    sided = annotation.has_sides
    out = np.zeros((3, len(tree) + 1, 4))
    for side, end in ((0, ""), (LEFT, "_left"), (RIGHT, "_right")):
        end = end if sided else ""
        cells = counts.table[f"cells_direct{end}"].to_numpy(float)
        volume = counts.table[f"volume_direct{end}_mm3"].to_numpy(float)
        shown = np.tile(to_rgba(NONE), (len(rows), 1))
        some = (cells > 0) & (volume > 0)
        shown[some] = colormaps[COLORMAP](scale.norm()(cells[some] / volume[some]))
        if counts.half in SIDES and side != SIDES[counts.half]:
            shown[:] = to_rgba(ABSENT)
        out[side, rows] = shown
    return out


def _section(
    sheet: Sheet,
    cell: Cell,
    plane: np.ndarray,
    side: np.ndarray,
    colors: np.ndarray,
    groups: np.ndarray,
    annotation: Annotation,
) -> None:
    from matplotlib.collections import LineCollection

    positions = annotation.tree.positions(plane, annotation.name)
    axes = axes_on(sheet, cell)
    axes.set_axis_off()
    picture = colors[np.minimum(side, 2), positions]
    height, width = plane.shape
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    known = np.where(positions >= 0, groups[positions] + 1, 0)
    for ids, outside, color, wide in ((positions, -1, FINE, 0.55), (known, 0, STRONG, 0.95)):
        # Where the brain reaches the edge of the picture it has a border, too.
        lines = edges(np.pad(ids, 1, constant_values=outside)) - 1
        axes.add_collection(
            LineCollection(lines, colors=color, linewidths=points(wide), capstyle="projecting"),
            autolim=False,
        )
    axes.set(xlim=(-0.5, width + 0.5), ylim=(height + 0.5, -0.5))


def edges(labels: np.ndarray) -> np.ndarray:
    """Straight pieces of the borders between unlike pixels, (n, 2, 2) as ((x, y), (x, y)).

    >>> edges(np.array([[1, 1], [2, 2]])).tolist()
    [[[0, 1], [2, 1]]]
    """
    found = []
    for lines, turned in ((labels, False), (labels.T, True)):
        unlike = np.zeros((lines.shape[0] - 1, lines.shape[1] + 2), np.int8)
        unlike[:, 1:-1] = lines[1:] != lines[:-1]
        change = np.diff(unlike, axis=1)
        # Row by row, each piece begins where another ends.
        row, begin = np.nonzero(change == 1)
        _, end = np.nonzero(change == -1)
        along = np.stack([np.stack([begin, row + 1], 1), np.stack([end, row + 1], 1)], 1)
        found.append(along[..., ::-1] if turned else along)
    return np.concatenate(found)


def _foot(
    sheet: Sheet,
    annotation: Annotation,
    axis: int,
    places: Sequence[int],
    scale: Scale,
    counts: CellCounts,
    size: tuple[int, int],
) -> None:
    """Where the sections lie, and what the colours are."""
    from matplotlib.cm import ScalarMappable

    wide, top = size
    left = MARGIN
    if annotation.orientation:
        left = _key(sheet, annotation, axis, places, top)
    bar = Cell(left + 60, top + 52, min(430, wide - left - 520), 16)
    mapped = ScalarMappable(scale.norm(), COLORMAP)
    drawn = sheet.figure.colorbar(
        mapped, cax=axes_on(sheet, bar, frame=True), orientation="horizontal", extend="both"
    )
    drawn.outline.set_edgecolor(LINE)
    drawn.ax.tick_params(colors=INK, length=3, labelsize=points(12), which="major")
    drawn.ax.tick_params(length=0, which="minor")
    ticks = _ticks(scale)
    drawn.set_ticks(ticks, labels=[f"{tick:,.10g}" for tick in ticks])
    drawn.ax.minorticks_off()
    sheet.text(bar.x, bar.y - 12, "cells per mm³ of each structure", 13, bold=True)
    x, y = bar.x + bar.width + 60, bar.y + 2
    entries = [(NONE, "no cells counted")]
    if counts.half in SIDES:
        entries.append((ABSENT, "hemisphere not counted"))
    for color, words in entries:
        after = sheet.chip(x, y, color, 12)
        sheet.text(after + 2, y, words, 12, SOFT)
        y += 22
    sheet.axes.plot([x, x + 14], [y - 4, y - 4], color=STRONG, lw=points(1.4), zorder=5)
    sheet.text(x + 20, y, "borders of major structures", 12, SOFT)
    if annotation.orientation:
        sheet.text(x, y + 22, "seen from behind: left is left", 12, SOFT)


def _key(sheet: Sheet, annotation: Annotation, axis: int, places: Sequence[int], top: int) -> float:
    """The brain from its side, with a line for each section; where it ends."""
    grid = annotation.grid
    across = grid.axis_of("lr")
    seen = shadow(annotation, across)  # type: ignore[arg-type]
    rest = [i for i in range(3) if i != across]
    if rest[0] == axis:
        seen = seen.T
    down = grid.axis_of("si")
    if annotation.orientation[down] == "i":  # type: ignore[index]
        seen = seen[::-1]
    turned = annotation.orientation[axis] == "p"
    if turned:
        seen = seen[:, ::-1]
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    shown = seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    um = annotation.spacing[axis]
    aspect = shown.shape[1] * um / (shown.shape[0] * annotation.spacing[down])  # type: ignore[index]
    cell = Cell(MARGIN, top + 38, 230, 230 / aspect)
    if cell.height > 100:
        cell = Cell(MARGIN, top + 38, 100 * aspect, 100)
    axes = axes_on(sheet, cell)
    axes.set_axis_off()
    axes.imshow(
        np.where(shown[..., None], (0.86, 0.85, 0.81, 1.0), (0, 0, 0, 0)),
        extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(1, 0))
    size = annotation.shape[axis]
    for number, place in enumerate(places):
        along = (size - 1 - place if turned else place) - columns[0] + 0.5
        x = cell.x + along / shown.shape[1] * cell.width
        line = [cell.y - 2, cell.y + cell.height + 2]
        sheet.axes.plot([x, x], line, color=INK, lw=points(0.9), zorder=4)
        sheet.text(x, cell.y - 6, str(number + 1), 11, INK, ha="center", bold=True)
    low = cell.y + cell.height + 18
    sheet.text(cell.x, low, "front", 11, SOFT)
    sheet.text(cell.x + cell.width, low, "back", 11, SOFT, ha="right")
    return cell.x + cell.width


def _bar(sheet: Sheet, right: float, y: float, pixels_per_um: float) -> None:
    """A scale bar of a round length, at most a quarter of a section wide."""
    length = _round(WIDTH / 4 / pixels_per_um, up=False)
    ends = [right - length * pixels_per_um, right]
    sheet.axes.plot(ends, [y, y], color=INK, lw=points(2.4), solid_capstyle="butt", zorder=5)
    sheet.text(right, y + 18, bar_text(length), 12, SOFT, ha="right")


def _ticks(scale: Scale) -> list[float]:
    """Powers of ten within the limits, and the limits."""
    low, high = np.log10(scale.low), np.log10(scale.high)
    powers = [10.0**k for k in range(int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9)) + 1)]
    ends = [end for end in (scale.low, scale.high)
            if all(abs(np.log10(end / power)) > 0.25 for power in powers)]  # fmt: skip
    return sorted({*powers, *ends})
