"""Pictures of how well cells were found: matched points, F1 by tolerance, regions, the matrix."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError
from brodmann.metrics.points import SCORER, MarkerMatrix, PointScore
from brodmann.metrics.points.matrix import TOTAL
from brodmann.metrics.score_cells import CellsScore, Part
from brodmann.report.plots import CATEGORY_COLORS, axes_on, points
from brodmann.report.sheet import INK, LINE, MARGIN, SOFT, Cell, Sheet, checked

TRUE, FALSE, MISSED = CATEGORY_COLORS[:3]
WIDE, PANEL, TOP = 1180, 520, 112
ROW, BARS = 24, 18
"""Pixels of a row of bars or of the matrix, and bars at most."""
DOTS, CROWD = 3000, 30_000
"""Cells beyond which each is a pixel, and beyond which patches are shown by their F1."""
PATCH = 9
"""Pixels of a patch."""
HEAD_LETTERS = 14
"""Of a line of a model's name."""
COLUMN = 84
"""Width of the matrix's columns, at least."""


def cells_picture(score: CellsScore, path: str | Path, title: str = "") -> Path:
    """Draw cells that were found, false and missed; F1 by tolerance; a bar for each region.

    Parameters
    ----------
    score : CellsScore
        As from `score_cells`. Of several regions the worst is drawn.
    path : path
        .png, .pdf or .svg.
    title : str
        Default: the names of both files.

    Returns
    -------
    Path
    """
    path, result = checked(Path(path)), score.result
    part = _shown(score)
    spacing = result["spacing_um"]
    flat = part.found.shape[1] == 2
    over, side, unit = _sizes(part, spacing)
    bars = _bars(score)
    tall = max(
        over.height + (0 if flat else side.height + 44), (386 + ROW * len(bars)) if bars else 560
    )
    sheet = Sheet(WIDE, int(TOP + tall + 96))
    names = [Path(result[key]).name for key in ("pred", "truth")]
    sheet.head(title or f"{names[0]} against {names[1]}", _lead(score.summary.pooled))
    crowd = len(part.matching.pairs) + part.score.fp + part.score.fn > CROWD
    words = ("F1 by place" if crowd else "cells") + ("" if flat else ", seen along z")
    if len(score.parts) > 1:
        words = f"{part.name}: {words}"
    sheet.text(over.x, TOP - 9, words, 15, bold=True, width=PANEL)
    _dots(sheet, over, part, (-2, -1), spacing, unit, flat)
    if not flat:
        _dots(sheet, side, part, (-3, -1), spacing, unit, True)
    sheet.legend(_kinds(part, crowd), sheet.height - 22)
    right = Cell(MARGIN + PANEL + 110, TOP, WIDE - 2 * MARGIN - PANEL - 130, 250)
    _curve(sheet, right, score)
    if bars:
        _bar_chart(sheet, Cell(right.x, TOP + 386, right.width, ROW * len(bars)), bars, score)
    else:
        _offsets(sheet, Cell(right.x, TOP + 376, right.width, 150), part)
    return sheet.save(path)


def matrix_picture(
    matrix: MarkerMatrix, path: str | Path, measure: str = "f1", title: str = ""
) -> Path:
    """Draw the matrix: markers and their regions down, models across, brighter where better.

    The best model of each row is bold; a model on its own marker has a frame.

    Parameters
    ----------
    matrix : MarkerMatrix
    path : path
        .png, .pdf or .svg.
    measure : {"f1", "precision", "recall", "accuracy"}
    title : str

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If no entry has a value.
    """
    path = checked(Path(path))
    rows = matrix.wide(measure)
    known = [row[m] for row in rows for m in matrix.models if row[m] is not None]
    if not known:
        raise DataError("no entry of the matrix has a value", path, measure)
    # A long name goes on below.
    heads = [textwrap.wrap(model, HEAD_LETTERS) for model in matrix.models]
    column = max(COLUMN, 9 * max(len(words) for head in heads for words in head) + 14)
    above = 17 * (max(map(len, heads)) - 1)
    names = 40 + 8 * max(len(row["region"]) for row in rows)
    left = MARGIN + 30 + max(130, names)
    gaps = 12 * (len(matrix.markers) - 1)
    width = max(int(left + column * len(matrix.models) + MARGIN), 620)
    sheet = Sheet(width, TOP + above + 22 + ROW * len(rows) + gaps + 66)
    shown = {"f1": "F1"}.get(measure, measure)
    first = next(iter(matrix.scores.values()))
    sheet.head(
        title or f"{shown} of every model on every marker",
        f"{first.mode}, tolerance by marker in {first.unit}s, {SCORER}",
    )
    for place, head in enumerate(heads):
        middle = left + (place + 0.5) * column
        for line, words in enumerate(reversed(head)):
            sheet.text(middle, TOP + above + 10 - 17 * line, words, 13, bold=True, ha="center")
    y = float(TOP + above + 22)
    for marker in matrix.markers:
        for region in (TOTAL, *matrix.regions[marker]):
            _matrix_row(sheet, matrix, marker, region, measure, left, y, column)
            y += ROW
        y += 12
    sheet.text(MARGIN, y + 24, "bold: best of the row    frame: the marker's own model", 12, SOFT)
    return sheet.save(path)


def _matrix_row(
    sheet: Sheet,
    matrix: MarkerMatrix,
    marker: str,
    region: str,
    measure: str,
    left: float,
    y: float,
    column: float,
) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    total = region == TOTAL
    if total:
        sheet.text(MARGIN, y + 17, marker, 15, bold=True)
        tolerance = next(s.tolerance for (m, _, _), s in matrix.scores.items() if m == marker)
        beside = f"{region}, within {tolerance:g}"
        sheet.text(left - 12, y + 17, beside, 12, INK, ha="right")
    else:
        sheet.text(left - 12, y + 17, region, 12, SOFT, ha="right")
    best = matrix.best(marker, region, measure)
    for place, model in enumerate(matrix.models):
        value, x = matrix.value(marker, region, model, measure), left + place * column
        fill = LINE if value is None else colormaps["viridis"](0.12 + 0.8 * value)
        sheet.axes.add_patch(Rectangle((x, y), column - 2, ROW - 2, fc=fill, lw=0, zorder=2))
        if total and model.lower() == marker.lower():
            sheet.axes.add_patch(
                Rectangle((x, y), column - 2, ROW - 2, fill=False, ec=INK, lw=points(2.4), zorder=4)
            )
        ink = INK if value is None or value > 0.55 else "#ffffff"
        words = "-" if value is None else f"{value:.2f}"
        strong = model in best and value is not None and len(matrix.models) > 1
        middle = x + (column - 2) / 2
        sheet.text(middle, y + 16, words, 13, ink, ha="center", bold=strong)


def _lead(score: PointScore) -> str:
    values = [
        f"{name} {getattr(score, key):.3f}"
        if not math.isnan(getattr(score, key))
        else f"{name} undefined"
        for key, name in (("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
    ]
    again = f", {score.duplicates:,} duplicates" if score.duplicates else ""
    return (
        f"{', '.join(values)}{again}: {score.mode}, closer than {score.tolerance:g} "
        f"{score.unit}{'s' if score.unit == 'voxel' else ''}, {SCORER}"
    )


def _kinds(part: Part, crowd: bool) -> list[tuple[Any, str]]:
    """The legend: what a dot is, or how bright a patch."""
    one = part.score
    kinds = ((TRUE, "found", one.tp), (FALSE, "false", one.fp), (MISSED, "missed", one.fn))
    if not crowd:
        return [(color, f"{name} {number:,}") for color, name, number in kinds]
    from matplotlib import colormaps

    shades = [(colormaps["viridis"](value), f"F1 {value:g}") for value in (0.0, 0.5, 1.0)]
    counts = ", ".join(f"{number:,} {name}" for _, name, number in kinds)
    return [*shades, ("#ffffff", f"no cells; {counts} in all")]


def _shown(score: CellsScore) -> Part:
    """The only part, or the one of least F1 with a few true cells."""
    known = [p for p in score.parts if not math.isnan(p.score.f1)]
    enough = [p for p in known if p.score.true >= 5] or known or score.parts
    return min(enough, key=lambda p: (p.score.f1, p.name))


def _sizes(part: Part, spacing: Sequence[float] | None) -> tuple[Cell, Cell, str]:
    """Panels seen along z and along y, in true proportions where the spacing is known."""
    both = np.concatenate([part.found, part.truth])
    steps = np.array(spacing) if spacing else np.ones(both.shape[1])
    span = (np.ptp(both, axis=0) if len(both) else np.ones(both.shape[1])) * steps
    span = np.maximum(span, max(span.max(), 1) * 0.02)
    height = float(np.clip(PANEL * span[-2] / span[-1], 200, 640))
    over = Cell(MARGIN + 42, TOP, PANEL, height)
    depth = float(np.clip(PANEL * span[0] / span[-1], 70, 240))
    return over, Cell(over.x, over.y + height + 44, PANEL, depth), "µm" if spacing else "voxels"


def _dots(
    sheet: Sheet,
    cell: Cell,
    part: Part,
    axes: tuple[int, int],
    spacing: Sequence[float] | None,
    unit: str,
    lowest: bool,
) -> None:
    panel = axes_on(sheet, cell, frame=True)
    steps = np.array(spacing) if spacing else np.ones(part.found.shape[1])
    pairs = part.matching.pairs
    layers = (
        (part.truth[pairs[:, 1]], TRUE),
        (part.truth[part.matching.missed], MISSED),
        (part.found[part.matching.unmatched], FALSE),
    )
    total = sum(len(at) for at, _ in layers)
    if total > CROWD:
        _patches(panel, [at[:, axes] * steps[list(axes)] for at, _ in layers], cell)
    size = points(float(np.clip(9 * math.sqrt(300 / max(total, 1)), 2.6, 9)))
    for at, color in layers:
        y, x = (at[:, axis] * steps[axis] for axis in axes)
        if DOTS < total <= CROWD:
            panel.plot(x, y, ",", color=color, alpha=0.8, rasterized=True)
        elif total <= DOTS:
            panel.plot(x, y, "o", color=color, ms=size, mew=0, alpha=0.75)
    everything = np.concatenate([at for at, _ in layers]) * steps
    if len(everything):
        for axis, limit in ((axes[1], panel.set_xlim), (axes[0], panel.set_ylim)):
            low, high = everything[:, axis].min(), everything[:, axis].max()
            pad = 0.02 * (high - low) or 1
            ends = (low - pad, high + pad)
            limit(ends if axis == axes[1] else ends[::-1])
    panel.locator_params(nbins=5)
    name = "zyx"[3 + axes[0]]
    panel.set_ylabel(f"{name} ({unit})", color=INK, fontsize=points(12))
    if lowest:
        panel.set_xlabel(f"x ({unit})", color=INK, fontsize=points(12))


def _patches(panel: Any, layers: Sequence[np.ndarray], cell: Cell) -> None:
    """F1 by place, from the true, missed and false cells of each patch."""
    everything = np.concatenate(layers)
    low, high = everything.min(0), everything.max(0)
    bins = [max(int(size / PATCH), 1) for size in (cell.height, cell.width)]
    edges = [np.linspace(a, max(b, a + 1e-9), n + 1) for a, b, n in zip(low, high, bins)]
    true, missed, false = (np.histogram2d(*at.T, bins=edges)[0] for at in layers)
    whole = 2 * true + missed + false
    f1 = np.divide(2 * true, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    panel.pcolormesh(edges[1], edges[0], f1, cmap="viridis", vmin=0, vmax=1, rasterized=True)


def _curve(sheet: Sheet, cell: Cell, score: CellsScore) -> None:
    pooled, rows = score.summary.pooled, score.result["curve"]
    sheet.text(cell.x, cell.y - 9, "by tolerance", 15, bold=True)
    panel = axes_on(sheet, cell, grid="both")
    tolerances = [row["tolerance"] for row in rows]
    for key, name, color, width in (
        ("precision", "precision", FALSE, 1.4),
        ("recall", "recall", MISSED, 1.4),
        ("f1", "F1", TRUE, 2.8),
    ):
        values = [math.nan if row[key] is None else row[key] for row in rows]
        panel.plot(tolerances, values, color=color, lw=points(width), label=name)
    panel.axvline(pooled.tolerance, color=INK, lw=points(1.2), ls=(0, (4, 3)))
    interval = score.summary.interval["f1"]
    if not math.isnan(pooled.f1):
        panel.plot([pooled.tolerance], [pooled.f1], "o", color=TRUE, ms=points(8), mew=0)
        if interval:
            panel.plot([pooled.tolerance] * 2, interval, color=TRUE, lw=points(3), alpha=0.5)
    panel.set_ylim(0, 1.02)
    panel.set_xlim(0, max([*tolerances, pooled.tolerance]) * 1.01)
    panel.set_xlabel(
        f"tolerance ({'µm' if pooled.unit == 'um' else 'voxels'})", color=INK, fontsize=points(12)
    )
    x, y = cell.x, cell.y + cell.height + 56
    for color, name in ((TRUE, "F1"), (FALSE, "precision"), (MISSED, "recall")):
        x = sheet.text(sheet.chip(x, y, color), y, name, 12, SOFT) + 20
    words = f"line: {pooled.tolerance:g}"
    if interval:
        words += f"; bar: {score.summary.confidence:.0%} of resampled subjects"
    sheet.text(x, y, words, 12, SOFT, width=cell.x + cell.width - x)


def _offsets(sheet: Sheet, cell: Cell, part: Part) -> None:
    """How far found cells lie from the true ones along each axis: a shift shows here."""
    axes = "zyx"[3 - part.found.shape[1] :]
    pairs = part.matching.pairs
    if not len(pairs):
        return
    gaps = part.found[pairs[:, 0]] - part.truth[pairs[:, 1]]
    sheet.text(cell.x, cell.y - 9, "found minus true", 15, bold=True)
    gap = 18
    wide = (cell.width - gap * (len(axes) - 1)) / len(axes)
    reach = max(float(np.abs(gaps).max()), 0.5)
    for place, axis in enumerate(axes):
        own = Cell(cell.x + place * (wide + gap), cell.y + 4, wide, cell.height)
        panel = axes_on(sheet, own)
        panel.hist(gaps[:, place], bins=np.linspace(-reach, reach, 26), color=TRUE, alpha=0.85)
        panel.axvline(0, color=INK, lw=points(1.2), ls=(0, (4, 3)))
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        panel.locator_params(axis="x", nbins=5)
        mean, spread = gaps[:, place].mean(), gaps[:, place].std()
        panel.set_xlabel(
            f"{axis}: {mean:+.2f} ± {spread:.2f} voxels", color=INK, fontsize=points(12)
        )


def _bars(score: CellsScore) -> list[tuple[str, PointScore]]:
    """Regions or tallies from worst to best; of many only the worst."""
    rows = score.tallies or ({p.name: p.score for p in score.parts} if len(score.parts) > 1 else {})
    known = [(name, one) for name, one in rows.items() if not math.isnan(one.f1)]
    return sorted(known, key=lambda row: (row[1].f1, row[0]))[:BARS]


def _bar_chart(
    sheet: Sheet, cell: Cell, rows: list[tuple[str, PointScore]], score: CellsScore
) -> None:
    from matplotlib.patches import Rectangle

    total = len(score.tallies or score.parts)
    head = "by region" if len(rows) == total else f"the {len(rows)} lowest of {total} regions"
    sheet.text(cell.x, cell.y - 26, head, 15, bold=True)
    names, numbers = 130, 118
    left, wide = cell.x + names, cell.width - names - numbers
    sheet.text(left, cell.y - 8, "F1, with precision and recall as dots", 12, SOFT, width=wide)
    sheet.text(cell.x + cell.width, cell.y - 8, "true cells", 12, SOFT, ha="right")
    for place, (name, one) in enumerate(rows):
        y = cell.y + place * ROW
        sheet.text(cell.x, y + 16, name, 12, INK, width=names - 10)
        sheet.axes.add_patch(Rectangle((left, y + 4), wide, ROW - 9, fc=LINE, lw=0, alpha=0.6))
        sheet.axes.add_patch(
            Rectangle((left, y + 4), max(wide * one.f1, 1), ROW - 9, fc=TRUE, lw=0, zorder=2)
        )
        for value, color in ((one.precision, FALSE), (one.recall, MISSED)):
            if not math.isnan(value):
                sheet.axes.plot(
                    [left + wide * value], [y + 11.5], "o", color=color, ms=points(9),
                    mec="#ffffff", mew=points(1), zorder=3,
                )  # fmt: skip
        sheet.text(left + wide + 10, y + 16, f"{one.f1:.2f}", 12, INK, bold=True)
        sheet.text(cell.x + cell.width, y + 16, f"{one.true:,}", 12, SOFT, ha="right")


def score_table(result: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the overall score, in both units where both are known.

    >>> score = PointScore(6, 2, 4, tolerance=6).as_dict()
    >>> score_table({"scores": score, "other": None})[1][1]
    ('F1', '0.6667')
    """
    columns = [result["scores"], *([result["other"]] if result["other"] else [])]
    head = ("", *(f"{c['tolerance']:g} {c['unit']}" for c in columns))
    names = {
        "f1": "F1", "precision": "precision", "recall": "recall", "accuracy": "accuracy",
        "tp": "found (TP)", "fp": "false (FP)", "fn": "missed (FN)", "duplicates": "duplicates",
    }  # fmt: skip
    rows = [("mode", *(c["mode"] for c in columns))]
    return head, rows + [(name, *(_number(c[key]) for c in columns)) for key, name in names.items()]


def region_table(rows: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table of regions.

    >>> region_table([{"region": "a", **PointScore(1, 0, 0).as_dict()}])[1]
    [('a', '1.0000', '1.0000', '1.0000', '1', '0', '0')]
    """
    keys = ("f1", "precision", "recall", "tp", "fp", "fn")
    head = ("region", "F1", "precision", "recall", "TP", "FP", "FN")
    return head, [(row["region"], *(_number(row[key]) for key in keys)) for row in rows]


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
