"""How alike the slices of a volume are, and what gap a split of them needs (MTNeuro, Fig. A1).

Neighbouring slices of a tomogram show the same cells. A test slice that lies too near a training
slice is not new, so a split leaves slices out between its parts; how many, this file measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.report.plots import axes_on, category_colors, points
from brodmann.report.sheet import INK, MARGIN, SOFT, Cell, Sheet, checked

LEVEL = 0.1
"""Mean correlation below which slices count as new."""
MOST_VALUES = 1 << 24
"""Voxels held at a time."""
FEWEST_PAIRS = 10
"""Pairs that a mean of the decay rests on, at least."""
SIDE, GAP, TOP = 300, 46, 108
"""Side of a matrix, space between panels, and height of the heading, in pixels."""
PANEL_COLUMNS = 4


@dataclass(frozen=True, eq=False)
class Decay:
    """Correlation of slices over their distance.

    `lags` are distances in slices, 0 first; `mean`, `low` and `high` are the mean and the 5th
    and 95th percentile over all `pairs` that lie so far apart; `spacing_um` is one slice's
    step.
    """

    lags: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pairs: np.ndarray
    spacing_um: float

    def length(self, level: float = LEVEL) -> int | None:
        """The smallest lag whose mean lies below `level`; None where no lag's does."""
        if not -1 <= level <= 1:
            raise DataError("a correlation lies within -1..1", "level", level)
        below = np.flatnonzero(self.mean < level)
        return int(self.lags[below[0]]) if len(below) else None

    def guard_slices(self, level: float = LEVEL) -> int | None:
        """Slices to leave out between the parts of a split; None as in `length`.

        With g slices left out the nearest ones of both parts lie g + 1 apart.
        """
        length = self.length(level)
        return None if length is None else max(length - 1, 0)


def slice_correlation(
    volume: Volume,
    axis: str = "z",
    *,
    downsample: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Pearson correlation of every two slices, over all their pixels.

    The volume is read once, in blocks that hold all slices but few of their pixels, so that
    memory does not grow with the slices' size. Blocks keep to the chunks of a store where
    these fit.

    Parameters
    ----------
    volume : Volume
        "zyx", or "czyx" with one channel; n slices of any size.
    axis : {"z", "y", "x"}
        Along which slices follow each other.
    downsample : int
        Slices are averaged over blocks of this many pixels squared first, the last ones over
        what there is. Fine noise is then no difference.
    report : callable, optional
        Called as (pixels done, pixels in all).

    Returns
    -------
    (n, n) float32
        Symmetric, 1 on the diagonal; NaN where a slice is the same everywhere.

    Raises
    ------
    DataError
        If the volume is not 3D or has several channels, the axis is unknown, there are fewer
        than two slices, or a voxel is not finite.

    Notes
    -----
    The cross-covariance of standardised slices. The paper's Figure A1 shows it for 1.17 um
    slices of four regions.

    Example
    -------
    >>> ramp = np.arange(12.0).reshape(1, 3, 4)
    >>> slices = np.concatenate([ramp, 2 * ramp + 1, -ramp])
    >>> slice_correlation(Volume(slices, "zyx", (1, 1, 1)))[0].tolist()
    [1.0, 1.0, -1.0]
    """
    if volume.ndim != 3 or volume.num_channels != 1:
        raise DataError("slices are compared in a volume with one channel", found=volume.axes)
    if axis not in tuple("zyx"):
        raise DataError("unknown axis", "axis", repr(axis), "use z, y or x")
    if downsample < 1:
        raise DataError("pixels are averaged over at least one", "downsample", downsample)
    along = "zyx".index(axis)
    count = volume.spatial_shape[along]
    if count < 2:
        raise DataError("a correlation needs at least two slices", f"axis {axis}", count)
    rows, columns = (place for place in range(3) if place != along)
    tall, wide = (volume.spatial_shape[place] for place in (rows, columns))
    tile = _tile(volume, count, (rows, columns), downsample)
    blocks = [(top, left) for top in range(0, tall, tile[0]) for left in range(0, wide, tile[1])]
    total, shift, products = np.zeros(count), None, np.zeros((count, count))
    pixels = done = 0
    for top, left in blocks:
        window = [slice(None)] * 3
        window[rows] = slice(top, min(top + tile[0], tall))
        window[columns] = slice(left, min(left + tile[1], wide))
        block = np.moveaxis(volume.read(tuple(window))[0], along, 0)
        done += block[0].size
        values = _means(block, downsample).reshape(count, -1)
        if not np.isfinite(values).all():
            raise DataError("a voxel is not finite", f"rows from {top}, columns from {left}")
        # Sums of squares of values far from 0 lose their digits; a rough mean suffices.
        shift = values.mean(axis=1) if shift is None else shift
        values = values - shift[:, None]
        total += values.sum(axis=1)
        products += values @ values.T
        pixels += values.shape[1]
        if report is not None:
            report(done, tall * wide)
    assert shift is not None
    covariance = products - np.outer(total, total) / pixels
    spread = np.sqrt(np.maximum(np.diag(covariance), 0))
    # A constant slice leaves nothing but rounding of its value.
    spread[spread <= 1e-9 * np.abs(shift) * math.sqrt(pixels)] = np.nan
    matrix = np.clip(covariance / np.outer(spread, spread), -1, 1)
    matrix[np.diag_indices(count)] = np.where(np.isnan(spread), np.nan, 1)
    return matrix.astype(np.float32)


def correlation_decay(matrix: np.ndarray, spacing_um: float = 1.0) -> Decay:
    """Mean correlation over the distance of two slices.

    Parameters
    ----------
    matrix : (n, n) float
        As from `slice_correlation`; NaN is left out.
    spacing_um : float
        Distance of neighbouring slices.

    Returns
    -------
    Decay
        Of lags 0 to n - 1, as far as FEWEST_PAIRS pairs are known (of short stacks: one).

    Example
    -------
    >>> alike = np.array([[1, 0.5, 0.1], [0.5, 1, 0.3], [0.1, 0.3, 1]])
    >>> decay = correlation_decay(alike, 1.17)
    >>> decay.mean.round(2).tolist(), decay.length(0.2), decay.guard_slices(0.2)
    ([1.0, 0.4, 0.1], 2, 1)
    """
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise DataError("a correlation of slices is a square matrix", found=matrix.shape)
    if not spacing_um > 0:
        raise DataError("spacing must be positive", "spacing_um", spacing_um)
    enough = FEWEST_PAIRS if len(matrix) >= 2 * FEWEST_PAIRS else 1
    rows = []
    for lag in range(len(matrix)):
        line = np.diag(matrix, lag)
        line = line[np.isfinite(line)]
        if len(line) >= enough:
            rows.append((lag, line.mean(), *np.percentile(line, (5, 95)), len(line)))
    if not rows:
        raise DataError("no two slices can be compared", found="slices that are the same all over")
    lags, mean, low, high, pairs = map(np.array, zip(*rows))
    return Decay(lags.astype(int), mean, low, high, pairs.astype(int), float(spacing_um))


def correlation_length(matrix: np.ndarray, level: float = LEVEL) -> int | None:
    """Slices until the mean correlation falls below `level`; None where it never does.

    A split of the slices leaves out one less between its parts: `Decay.guard_slices`.
    """
    return correlation_decay(matrix).length(level)


def covariance_figure(
    matrices: Mapping[str, np.ndarray],
    path: Path,
    *,
    spacing_um: float,
    level: float = LEVEL,
    guard_slices: int | None = None,
    title: str = "How alike slices are",
    lead: str = "",
    colors: Mapping[str, str] | None = None,
) -> dict[str, int | None]:
    """Draw the matrix of every region, and their decay with the gap that a split needs.

    Parameters
    ----------
    matrices : mapping of str to (n, n) float
        Region -> as from `slice_correlation`.
    path : Path
        .png, .pdf or .svg.
    spacing_um : float
        Distance of neighbouring slices.
    level : float
        Mean correlation below which slices count as new.
    guard_slices : int, optional
        Slices that the split leaves out; by default what the slowest region needs.
    title, lead : str
    colors : mapping of str to str, optional
        Region -> "#rrggbb".

    Returns
    -------
    dict
        Region -> its correlation length in slices, None where the level is never reached.

    Raises
    ------
    DataError
        If there is no region, or a matrix is none.
    """
    path = checked(path)
    if not matrices:
        raise DataError("a figure of slices needs at least one region", path, 0)
    decays = {name: correlation_decay(one, spacing_um) for name, one in matrices.items()}
    lengths = {name: decay.length(level) for name, decay in decays.items()}
    needed = [decay.guard_slices(level) for decay in decays.values()]
    if guard_slices is None and None not in needed:
        guard_slices = max(gap for gap in needed if gap is not None)
    columns = min(len(matrices), PANEL_COLUMNS)
    rows = -(-len(matrices) // columns)
    right = MARGIN + 34 + columns * (SIDE + GAP) - GAP + 14
    beside = columns == 1
    low = TOP + rows * (SIDE + 66)
    wide = right + 660 if beside else max(right + 64 + MARGIN, 860)
    tall = max(300, 58 * len(matrices) + 70)
    sheet = Sheet(wide, low if beside else low + tall + 72)
    place = Cell(right + 120, TOP, 310, SIDE)
    if not beside:
        place = Cell(MARGIN + 42, low + 16, wide - 2 * MARGIN - 42 - 190, tall)
    sheet.head(title, lead or f"Pearson correlation of slices {spacing_um:g} µm apart")
    shown = [np.asarray(one, float)[~np.eye(len(one), dtype=bool)] for one in matrices.values()]
    known = np.concatenate([one[np.isfinite(one)] for one in shown])
    floor, top = np.percentile(known, (1, 99.5)) if len(known) else (0.0, 1.0)
    floor, top = min(float(floor), 0.0), max(float(top), 0.1)
    picture = None
    for number, (name, matrix) in enumerate(matrices.items()):
        row, column = divmod(number, columns)
        cell = Cell(MARGIN + 34 + column * (SIDE + GAP), TOP + row * (SIDE + 66), SIDE, SIDE)
        picture = _matrix(sheet, cell, matrix, (floor, top))
        sheet.text(cell.x, cell.y - 9, name, 15, bold=True, width=SIDE)
        if number + columns >= len(matrices):
            sheet.text(cell.x + SIDE / 2, cell.y + SIDE + 34, "slice", 12, SOFT, ha="center")
    _bar(sheet, picture, Cell(right, TOP, 14, SIDE))
    _decay(sheet, place, decays, level, guard_slices, category_colors(decays, colors))
    sheet.save(path)
    return lengths


def _tile(volume: Volume, count: int, places: Sequence[int], downsample: int) -> tuple[int, int]:
    """Rows and columns of a block: whole chunks of the store where they fit the memory."""
    tall, wide = (volume.spatial_shape[place] for place in places)
    chunks = getattr(volume.data, "chunks", None)
    units = [downsample, downsample]
    if chunks and all(isinstance(size, int) for size in chunks):
        inner = chunks[-3:]
        units = [math.lcm(downsample, inner[place]) for place in places]
    if units[0] * min(units[1], wide) * count > MOST_VALUES:
        units = [downsample, downsample]
    columns = max(MOST_VALUES // (count * units[0]) // units[1], 1) * units[1]
    columns = min(columns, wide)
    rows = max(MOST_VALUES // (count * columns) // units[0], 1) * units[0]
    return min(rows, tall), columns


def _means(block: np.ndarray, step: int) -> np.ndarray:
    """(n, h, w) as float64, averaged over blocks of step x step."""
    values = block.astype(np.float64)
    if step == 1:
        return values
    for axis in (1, 2):
        size = values.shape[axis]
        starts = np.arange(0, size, step)
        counts = np.minimum(starts + step, size) - starts
        values = np.add.reduceat(values, starts, axis=axis)
        values /= counts[:, None] if axis == 1 else counts
    return values


def _matrix(sheet: Sheet, cell: Cell, matrix: np.ndarray, limits: tuple[float, float]):
    axes = axes_on(sheet, cell, frame=True)
    picture = axes.imshow(
        matrix, cmap="cividis", vmin=limits[0], vmax=limits[1], interpolation="antialiased"
    )
    axes.locator_params(nbins=4, integer=True)
    return picture


def _bar(sheet: Sheet, picture, cell: Cell) -> None:
    bar = sheet.figure.colorbar(picture, cax=axes_on(sheet, cell, frame=True), extend="max")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, length=0, labelsize=points(12))
    sheet.text(cell.x + cell.width, cell.y - 9, "correlation", 12, SOFT, ha="center")


def _decay(
    sheet: Sheet,
    cell: Cell,
    decays: Mapping[str, Decay],
    level: float,
    guard_slices: int | None,
    colors: Mapping[str, str],
) -> None:
    axes = axes_on(sheet, cell, grid="both")
    lengths = [decay.length(level) for decay in decays.values()]
    reach = max(length or 0 for length in lengths)
    last = max(int(decay.lags[-1]) for decay in decays.values())
    last = min(last, max(4 * max(reach, (guard_slices or 0) + 1), 20)) if reach else last
    for name, decay in decays.items():
        axes.fill_between(decay.lags, decay.low, decay.high, color=colors[name], alpha=0.13, lw=0)
        axes.plot(
            decay.lags, decay.mean, color=colors[name], lw=points(2.4), marker="o",
            ms=points(5 if last <= 60 else 0), label=name,
        )  # fmt: skip
    axes.axhline(level, color=INK, lw=points(1.2), ls=(0, (4, 3)))
    if guard_slices:
        axes.axvspan(0.5, guard_slices + 0.5, color=INK, alpha=0.07, lw=0)
    axes.set_xlim(0, last)
    axes.set_xlabel("slices apart", color=INK, fontsize=points(13))
    axes.set_ylabel("mean correlation", color=INK, fontsize=points(13))
    axes.locator_params(axis="x", integer=True)
    x, y = cell.x + cell.width + 22, cell.y + 8
    for (name, decay), length in zip(decays.items(), lengths):
        after = sheet.chip(x, y, colors[name], 11)
        sheet.text(after, y, name, 13, bold=True, width=150)
        words = f"below {level:g} after {length} slices," if length else f"never below {level:g}"
        sheet.text(after, y + 18, words, 12, SOFT, width=170)
        if length:
            sheet.text(after, y + 34, f"{length * decay.spacing_um:.3g} µm", 12, SOFT)
        y += 58
    sheet.text(x, y + 4, "bands: 5 to 95 % of pairs", 12, SOFT, width=190)
    y += 18
    if guard_slices is not None:
        words = f"grey: {guard_slices} slices" if guard_slices else "no gap is needed"
        sheet.text(x, y + 4, words, 12, INK, width=190)
        if guard_slices:
            sheet.text(x, y + 20, "left out between parts", 12, INK, width=190)
