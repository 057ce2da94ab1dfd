"""A sheet of images with their points: what a dataset of cells looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, Points, Sample, Volume
from brodmann.report.figures import composite, shrink
from brodmann.report.sheet import MARGIN, SOFT, SOURCES, Cell, Sheet, aspect, checked

MOST = 12
COLUMNS, GAP = 4, 18
WIDTH = 1720
HEAD, FOOT, WORDS = 88, 42, 62
SLAB_UM = 24.0
"""Depth that is seen at once: about two cell bodies."""
RADIUS, SMALL = 8.0, 4.5
DENSE = 150
"""Points of a picture from which on they are drawn small."""
COLORS = (*SOURCES, "#8ef06a", "#ff9a5c", "#c9b2ff")


@dataclass(frozen=True)
class View:
    """A picture (h, w, 3), points on it as shares of height and width, and words."""

    rgb: np.ndarray
    at: np.ndarray
    markers: Sequence[str]
    words: str


def save_points(
    dataset: Dataset,
    path: str | Path,
    *,
    most: int = MOST,
    report: Callable[[str, int, int, str], None] | None = None,
) -> Path:
    """Draw samples spread evenly over a dataset, each with a ring about every point.

    A volume shows the brightest values of the slab of 24 um that holds most points, with the
    points of that slab. Images are stretched one by one, and read plane by plane.

    Parameters
    ----------
    dataset : Dataset
        Samples without points are left out.
    path : str or Path
        .png, .pdf or .svg.
    most : int
        Samples at the most.
    report : callable, optional
        Called as (what, done, total, note).

    Raises
    ------
    DataError
        If no sample has points.
    OutputError
        If the file cannot be written.
    """
    path = checked(Path(path))
    chosen = _spread(dataset, most)
    columns = min(COLUMNS, len(chosen))
    width = max(WIDTH * columns // COLUMNS, 900)
    across = (width - 2 * MARGIN - GAP * (columns - 1)) // columns
    views, total = [], 0
    for done, name in enumerate(chosen, start=1):
        sample = dataset[name]
        shape = aspect(sample.image)
        views.append((name, sample.subject, shape, view(sample, 2 * across)))
        total += len(sample.points or ())
        if report is not None:
            report("draw", done, len(chosen), name)
    rows = [views[i : i + columns] for i in range(0, len(views), columns)]
    heights = [round(min(max(across / one[2] for one in row), 1.3 * across)) for row in rows]
    sheet = Sheet(width, HEAD + sum(heights) + (WORDS + 8) * len(rows) + FOOT)
    sheet.head(
        dataset.name,
        f"{len(chosen)} of {len(dataset)} images, {total:,} points. {dataset.description}",
    )
    kinds = sorted({marker for *_, one in views for marker in one.markers})
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(kinds)}
    top = HEAD
    for row, height in zip(rows, heights):
        for column, (name, subject, shape, one) in enumerate(row):
            left = MARGIN + column * (across + GAP)
            cell = Cell(left, top, across, height).fitted(shape)
            cell = Cell(left, top, cell.width, cell.height)
            sheet.picture(one.rgb, cell)
            _rings(sheet, one, cell, [colors[marker] for marker in one.markers])
            below = top + cell.height + 19
            sheet.text(left, below, name, 14, bold=True, width=across)
            told = one.words if subject in ("", name) else f"{one.words}; {subject}"
            sheet.text(left, below + 18, told, 12, SOFT, width=across)
        top += height + WORDS + 8
    named = [(colors[kind], kind) for kind in kinds if kind]
    sheet.legend(named or [(COLORS[0], "a point")], sheet.height - 18)
    return sheet.save(path)


def _spread(dataset: Dataset, most: int) -> list[str]:
    """Samples with points, evenly over the dataset; only as many are opened as need be."""
    names = list(dataset.names)
    order = list(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    order += [i for i in range(len(names)) if i not in set(order)]
    found: list[int] = []
    for index in order:
        if dataset[names[index]].points is not None:
            found.append(int(index))
        if len(found) == most:
            break
    if not found:
        raise DataError("no sample has points to draw", dataset.name)
    return [names[i] for i in sorted(found)]


def view(sample: Sample, pixels: int) -> View:
    """What the sheet shows of a sample, no more than `pixels` on the long side."""
    image, points = sample.image, sample.points
    assert points is not None
    if points.axes != image.spatial_axes:
        raise DataError(
            "points and image differ in dimensions",
            sample.name,
            f"points {points.axes}, image {image.spatial_axes}",
        )
    step = max(1, -(-max(image.spatial_shape[-2:]) // pixels))
    if image.ndim == 2:
        seen, words = shrink(image, None, step, mean=True), ""
        inside = np.ones(len(points), bool)
    else:
        first, end = slab(points, image)
        planes = (shrink(image, 0, step, place=z, mean=True) for z in range(first, end))
        seen = next(planes)
        for plane in planes:
            seen = np.maximum(seen, plane)
        z = points.coordinates[:, 0]
        inside = (z >= first - 0.5) & (z < end - 0.5)
        words = f", {int(np.count_nonzero(inside))} of them in planes {first}-{end - 1}"
    at = points.coordinates[inside][:, -2:]
    table = points.table.loc[inside]
    markers = table["marker"].astype(str).tolist() if "marker" in table else [""] * len(at)
    count = f"{len(points):,} point{'s' if len(points) != 1 else ''}"
    return View(
        composite(seen, image.channels),
        (at + 0.5) / np.array(image.spatial_shape[-2:]),
        markers,
        count + words,
    )


def slab(points: Points, image: Volume) -> tuple[int, int]:
    """The planes [first, end) of 24 um with most points; those in the middle without any."""
    depth = image.spatial_shape[0]
    thick = min(depth, max(1, round(SLAB_UM / image.spacing[0])))
    if not len(points):
        first = (depth - thick) // 2
        return first, first + thick
    planes = np.clip(np.rint(points.coordinates[:, 0]).astype(int), 0, depth - 1)
    counts = np.convolve(np.bincount(planes, minlength=depth), np.ones(thick, int), "valid")
    first = int(np.argmax(counts))
    return first, first + thick


def _rings(sheet: Sheet, one: View, cell: Cell, colors: Sequence[Any]) -> None:
    if not len(one.at):
        return
    y, x = (one.at * (cell.height, cell.width) + (cell.y, cell.x)).T
    radius = RADIUS if len(one.at) < DENSE else SMALL
    size = (2 * radius * 72 / 100) ** 2
    for color, width, order in (("#000000b0", 2.2, 3.0), (list(colors), 1.1, 3.1)):
        sheet.axes.scatter(
            x, y, s=size, facecolors="none", edgecolors=color, linewidths=width, zorder=order
        )
