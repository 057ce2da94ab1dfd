"""Where methods differ most on one image, and a picture of it (PRMix, Fig. 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, DataError, LabelMap, Volume, check_same_grid
from brodmann.report.figures import color_labels
from brodmann.report.sheet import (
    BARE,
    INK,
    LINE,
    MARGIN,
    SOFT,
    Cell,
    Sheet,
    aspect,
    checked,
    composites,
    viewed,
)

SHARE = 0.14
"""Side of a box over the section's longest side."""
FRAMES = ("#ffd23f", "#35d6ff", "#ff8ad1", "#9dff6e", "#ff9d4d", "#c9a6ff")
WIDTH, GAP, HEAD, FOOT = 230, 8, 88, 44
OVERVIEW = 620
FINE = 1600
"""Longest side, in pixels, at which boxes are looked for."""


@dataclass(frozen=True)
class Box:
    """A part of a section, in pixels: rows y0..y1, columns x0..x1.

    `score` is the mean disagreement in it, 0..1.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    score: float

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def disagreements(
    truth: np.ndarray | None,
    predictions: Mapping[str, np.ndarray],
    *,
    count: int = 3,
    size: tuple[int, int] | None = None,
    ignore: int | None = None,
) -> list[Box]:
    """The boxes in which methods differ most, none upon another.

    A pixel's disagreement is the share of pairs of methods that answer differently; of a
    single method, whether it differs from the truth. Boxes are taken one by one, each where
    the sum over it is greatest.

    Parameters
    ----------
    truth : (h, w) ids, or None
        Pixels with the ignore id do not count. Needed where there is one method only.
    predictions : mapping of str to (h, w) ids
    count : int
        Most boxes; fewer where methods agree.
    size : (int, int), optional
        Height and width of a box, in pixels; by default near a seventh of the longest side,
        a third wider than high.
    ignore : int, optional

    Returns
    -------
    list of Box
        The greatest disagreement first.

    Raises
    ------
    DataError
        If shapes differ, or there is nothing to compare.

    Example
    -------
    >>> left = np.zeros((40, 60), int); right = left.copy(); right[20:24, 30:36] = 7
    >>> box, = disagreements(left, {"a": left, "b": right}, size=(8, 8))
    >>> box.y0 <= 20 and 24 <= box.y1, box.x0 <= 30 and 36 <= box.x1, box.score
    (True, True, 0.375)
    """
    maps = list(predictions.values())
    compared = maps if truth is None else [truth, *maps]
    if len(compared) < 2:
        raise DataError("a disagreement needs two methods, or one and the truth", found=len(maps))
    shapes = {np.shape(one) for one in compared}
    if len(shapes) > 1 or len(shapes.copy().pop()) != 2:
        raise DataError("label maps of one section have one shape (h, w)", found=sorted(shapes))
    height, width = shapes.pop()
    pairs = list(combinations(maps, 2)) or [(compared[0], compared[1])]
    differ = sum((a != b).astype(np.float64) for a, b in pairs) / len(pairs)
    if truth is not None and ignore is not None:
        differ[truth == ignore] = 0
    side = SHARE * max(height, width)
    rows, cols = size or (round(side), round(side * 4 / 3))
    rows, cols = min(max(rows, 1), height), min(max(cols, 1), width)
    found: list[Box] = []
    sums = _window_sums(differ, rows, cols)
    while len(found) < count:
        best = _middle_of_best(sums)
        if best is None:
            break
        y, x = best
        score = float(sums[y, x]) / (rows * cols)
        found.append(Box(y, y + rows, x, x + cols, score))
        # No later box may lie on this one.
        sums[max(0, y - rows + 1) : y + rows, max(0, x - cols + 1) : x + cols] = -1
    return found


def save_disagreements(
    path: Path,
    image: Volume,
    truth: Volume | None,
    predictions: Mapping[str, Volume],
    label_map: LabelMap,
    *,
    title: str = "Where methods differ most",
    count: int = 3,
) -> dict[str, Any]:
    """Draw a test image with numbered boxes, and each box under the truth and every method.

    Beside the whole image, with the truth's outlines, every box is a row: the image, the
    truth, then each method's labels in their colours, with the share of pixels that it has
    right. Volumes show their middle plane.

    Parameters
    ----------
    path : Path
        .png, .pdf or .svg.
    image, truth, predictions : Volume
        On one grid; read by strips.
    label_map : LabelMap
    title : str
    count : int
        Most boxes.

    Returns
    -------
    dict
        `path`, `width`, `height`, and `boxes`: y, x (first and one past the last pixel, of the
        image as it is), `disagreement`, and `right` by method (None without truth).

    Raises
    ------
    DataError
        If grids differ, or the methods agree everywhere.
    """
    path = checked(path)
    for volume in (truth, *predictions.values()):
        if volume is not None:
            check_same_grid(image, volume, str(path))
    small = {name: viewed(volume, FINE)[0] for name, volume in predictions.items()}
    true = None if truth is None else viewed(truth, FINE)[0]
    found = disagreements(true, small, count=count, ignore=label_map.ignore)
    if not found:
        raise DataError("the methods agree everywhere", path, ", ".join(predictions))
    raw = viewed(image, FINE, mean=True)
    (picture,) = composites([raw], image.channels)
    base = true if true is not None else next(iter(small.values()))
    sheet = _drawn(picture, base, true, small, found, label_map, aspect(image), title)
    sheet.save(path)
    scale = [n / m for n, m in zip(image.spatial_shape[-2:], raw.shape[1:])]
    boxes = [
        {
            "y": [round(box.y0 * scale[0]), round(box.y1 * scale[0])],
            "x": [round(box.x0 * scale[1]), round(box.x1 * scale[1])],
            "disagreement": box.score,
            "right": {n: _right(one, true, box, label_map.ignore) for n, one in small.items()},
        }
        for box in found
    ]
    return {"path": str(path), "width": sheet.width, "height": sheet.height, "boxes": boxes}


def _drawn(
    picture: np.ndarray,
    base: np.ndarray,
    truth: np.ndarray | None,
    predictions: Mapping[str, np.ndarray],
    found: list[Box],
    label_map: LabelMap,
    shape: float,
    title: str,
) -> Sheet:
    maps = ({} if truth is None else {"truth": truth}) | dict(predictions)
    height, width = base.shape
    box_shape = (found[0].x1 - found[0].x0) / (found[0].y1 - found[0].y0) * shape * height / width
    down = round(WIDTH / box_shape)
    left = 2 * MARGIN + OVERVIEW
    wide = left + (1 + len(maps)) * (WIDTH + GAP) - GAP + MARGIN
    pitch = down + 24
    tall = max(len(found) * pitch, round(OVERVIEW / shape) + 24)
    sheet = Sheet(wide, HEAD + 22 + tall + FOOT)
    sheet.head(title, "Boxes where the methods' answers differ most, enlarged; % right in the box.")
    top = HEAD + 22
    cell = Cell(MARGIN, top, OVERVIEW, round(OVERVIEW / shape))
    sheet.text(MARGIN, HEAD + 10, "image" if truth is None else "image and truth", 13, bold=True)
    sheet.picture(picture, cell)
    sheet.outlines(base, label_map, cell, 0.9)
    for column, name in enumerate(("image", *maps)):
        x = left + column * (WIDTH + GAP)
        sheet.text(x, HEAD + 10, name, 13, bold=True, width=WIDTH)
    for row, box in enumerate(found):
        color = FRAMES[row % len(FRAMES)]
        frame = cell.part((box.y0 / height, box.y1 / height, box.x0 / width, box.x1 / width))
        sheet.box(frame, color, 2)
        sheet.tag(frame, str(row + 1), color)
        y = top + row * pitch
        first = Cell(left, y, WIDTH, down)
        sheet.picture(picture[box.window], first)
        sheet.box(first, color, 2)
        sheet.tag(first, str(row + 1), color)
        best = max((_right(one, truth, box, label_map.ignore) or 0) for one in predictions.values())
        for column, (name, one) in enumerate(maps.items(), start=1):
            place = Cell(left + column * (WIDTH + GAP), y, WIDTH, down)
            indices, palette = color_labels(one[box.window], label_map)
            sheet.picture(palette[indices], place, exact=True)
            sheet.hatch(one[box.window] == label_map.ignore, place)
            right = _right(one, truth, box, label_map.ignore)
            if name in predictions and right is not None:
                words = f"{100 * right:.1f} % right"
                top_one = right == best
                sheet.text(
                    place.x, y + down + 15, words, 12, INK if top_one else SOFT, bold=top_one
                )
    entries = [(LINE, "thin lines and colours: the regions of the label map")]
    if truth is not None and np.any(truth == label_map.ignore):
        entries.append((BARE, "not annotated"))
    sheet.legend(entries, sheet.height - 18)
    return sheet


def _window_sums(values: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Sums over all windows of rows x cols, by their first pixel."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[rows:, cols:] - total[:-rows, cols:] - total[rows:, :-cols] + total[:-rows, :-cols]
    # Rounding of long sums must not make boxes of nothing.
    sums[sums < 1e-6] = 0
    return sums


def _middle_of_best(sums: np.ndarray) -> tuple[int, int] | None:
    """The greatest sum; of many alike the one in their middle, so that it frames what it holds."""
    top = sums.max()
    if top <= 0:
        return None
    places = np.argwhere(sums >= top * (1 - 1e-9))
    near = np.abs(places - places.mean(0)).sum(1).argmin()
    return int(places[near][0]), int(places[near][1])


def _right(
    labels: np.ndarray, truth: np.ndarray | None, box: Box, ignore: int | None
) -> float | None:
    """Share of annotated pixels that agree with the truth; background on both sides is left out."""
    if truth is None:
        return None
    own, true = labels[box.window], truth[box.window]
    counted = (true != BACKGROUND) | (own != BACKGROUND)
    if ignore is not None:
        counted &= true != ignore
    return float((own == true)[counted].mean()) if counted.any() else None
