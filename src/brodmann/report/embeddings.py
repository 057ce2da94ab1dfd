"""Representations in two dimensions, coloured by region and by what images hold (MTNeuro, Fig. 4)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BrodmannError, DataError, RecipeError, key_seed, keyed_rng, nearest
from brodmann.report.plots import axes_on, category_colors, points
from brodmann.report.sheet import INK, MARGIN, SOFT, Cell, Sheet, checked

METHODS = ("pca", "umap")
NEIGHBOURS, MIN_DIST = 15, 0.1
ATTRIBUTE_TITLES = {
    "vessel_density": ("Vessel density", "%", 100.0),
    "axon_density": ("Axon density", "%", 100.0),
    "cell_count": ("Cell count", "cells an image", 1.0),
    "cell_size": ("Cell size", "µm²", 1.0),
    "cell_distance": ("Cell distance", "µm", 1.0),
}
"""Attribute -> title, unit of the colour bar, and what its values are multiplied by."""
MOST_COLUMNS = 6
SIDES = {1: 560, 2: 440, 3: 380, 4: 300}
SIDE, GAP, TOP, UNDER = 240, 26, 112, 74
"""Panel, space between panels, heading, and what stands below a panel, in pixels."""
FLATTEST = 0.5
"""Height over width of a panel, at least."""
UNKNOWN = "#b9b6ad"
CLIPPED = 0.02
"""Share of the values beyond either end of a colour bar, at most."""


def project(features: np.ndarray, method: str = "pca", *, seed: int = 0) -> np.ndarray:
    """Places of feature vectors in a plane.

    Parameters
    ----------
    features : (n, d) float
        One row for each image; finite.
    method : {"pca", "umap"}
        The first two principal components, or UMAP with 15 neighbours and a least distance of
        0.1. UMAP needs the extra `umap`; nothing takes its place where that is missing.
    seed : int
        Of UMAP; the same seed gives the same places on the same machine.

    Returns
    -------
    (n, 2) float32
        Of PCA: in units of the features, signs such that the largest loading of each component
        is positive; a component that does not vary is 0. UMAP's units mean nothing.

    Raises
    ------
    RecipeError
        If the method is unknown.
    DataError
        If there are too few images (PCA: 2, UMAP: 4), or a value is not finite.
    BrodmannError
        If UMAP is not installed.

    Example
    -------
    >>> line = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    >>> project(line).round(3).tolist()
    [[-5.0, 0.0], [0.0, 0.0], [5.0, 0.0]]
    """
    if method not in METHODS:
        raise RecipeError("unknown projection", "method", repr(method), nearest(method, METHODS))
    features = np.asarray(features)
    fewest = 2 if method == "pca" else 4
    if features.ndim != 2 or len(features) < fewest or not features.shape[1]:
        raise DataError(f"{method} needs (n, d) features, n >= {fewest}", found=features.shape)
    features = features.astype(np.float64)
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise DataError("a feature is not finite", f"image {int(np.argmax(bad))}", int(bad.sum()))
    return _umap(features, seed) if method == "umap" else _pca(features)


def embedding_figure(
    xy: np.ndarray,
    path: Path,
    *,
    categories: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[float]] | None = None,
    parts: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
    title: str = "Representations",
    lead: str = "",
) -> Path:
    """Draw a row of panels of the same points, each coloured by one thing.

    Parameters
    ----------
    xy : (n, 2) float
        As from `project`.
    path : Path
        .png, .pdf or .svg.
    categories : sequence of str, optional
        Region of each point, for the first panel.
    attributes : mapping of str to (n,) float, optional
        A panel for each, with a colour bar from the 2nd to the 98th percentile. NaN is known to
        be unknown: a grey cross. Known names (`ATTRIBUTE_TITLES`) have titles and units;
        densities, kept as shares, are shown in percent.
    parts : sequence of str, optional
        Part of the split of each point. Points of "test" have a dark rim, others none.
    units : mapping of str to str, optional
        Attribute -> unit, where it differs from the usual: of a 3D cell size, say.
    colors : mapping of str to str, optional
        Region -> "#rrggbb".
    title, lead : str

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    DataError
        If there is nothing to colour by, or something has not one value for each point.
    """
    path = checked(path)
    xy, attributes = np.asarray(xy, float), attributes or {}
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy) or not np.isfinite(xy).all():
        raise DataError("places of points are (n, 2) and finite", path, xy.shape)
    given = {"categories": categories, "parts": parts, **attributes}
    for name, values in given.items():
        if values is not None and len(values) != len(xy):
            raise DataError(f"{name} needs a value for each point", path, len(values))
    if categories is None and not attributes:
        raise DataError("points need a region or an attribute to be coloured by", path)
    test = np.zeros(len(xy), bool) if parts is None else np.array([p == "test" for p in parts])
    panels: list[tuple[str, Any]] = [] if categories is None else [("", list(categories))]
    panels += [(name, np.asarray(values, float)) for name, values in attributes.items()]
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    side = SIDES.get(columns, SIDE)
    width = max(columns * (side + GAP) - GAP, 520) + 2 * MARGIN
    low, high = xy.min(axis=0), xy.max(axis=0)
    wide, tall = np.maximum(high - low, 1e-9)
    height = round(side * float(np.clip(tall / wide, FLATTEST, 1)))
    under = UNDER if attributes else 40
    foot = 40 if test.any() and not test.all() else 4
    sheet = Sheet(width, TOP + rows * (height + under) + (rows - 1) * 30 + foot)
    sheet.head(title, lead or f"{len(xy):,} images")
    # Points lie in random order, so that none of the kinds hides another.
    order = keyed_rng(0, "embedding", len(xy)).permutation(len(xy))
    order = order[np.argsort(test[order], kind="stable")]
    size = points(float(np.clip(side / 2.6 / math.sqrt(len(xy)), 3.6, 11)))
    for number, (name, values) in enumerate(panels):
        row, column = divmod(number, columns)
        top = TOP + row * (height + under + 30)
        cell = Cell(MARGIN + column * (side + GAP), top, side, height)
        cloud = _Cloud(sheet, cell, xy[order], test[order], size)
        if name:
            known = ATTRIBUTE_TITLES.get(name, (name.replace("_", " ").capitalize(), "", 1.0))
            unit = (units or {}).get(name, known[1])
            cloud.values(known[0], unit, values[order] * known[2])
        else:
            cloud.kinds([values[i] for i in order], category_colors(sorted(set(values)), colors))
    if test.any() and not test.all():
        _parts_legend(sheet, size)
    return sheet.save(path)


class _Cloud:
    """One panel: the points, the title above, and what the colours say below."""

    def __init__(self, sheet: Sheet, cell: Cell, xy: np.ndarray, test: np.ndarray, size: float):
        self.sheet, self.cell, self.xy, self.test, self.size = sheet, cell, xy, test, size
        self.axes = axes_on(sheet, cell, frame=True)
        self.axes.set(xticks=[], yticks=[])
        low, high = xy.min(axis=0), xy.max(axis=0)
        # One scale for both axes: distances mean the same in each direction.
        size = (cell.width, cell.height)
        unit = max(*((high - low) / size), 1e-12) * 0.54
        (x, y), (half_x, half_y) = (low + high) / 2, np.multiply(size, unit)
        self.axes.set(xlim=(x - half_x, x + half_x), ylim=(y - half_y, y + half_y))

    def title(self, words: str) -> None:
        self.sheet.text(self.cell.x, self.cell.y - 10, words, 15, bold=True, width=self.cell.width)

    def draw(self, where: np.ndarray, **style: Any) -> Any:
        """Points of `where`, those of the test part with a rim; the last collection drawn."""
        drawn = None
        color = style.pop("c")
        for test in (False, True):
            chosen = where & (self.test == test)
            if not chosen.any():
                continue
            rim = {"edgecolors": INK, "linewidths": 0.13 * self.size} if test else {"linewidths": 0}
            drawn = self.axes.scatter(
                *self.xy[chosen].T,
                c=color[chosen],
                s=(self.size * (1.15 if test else 1)) ** 2,
                alpha=0.95 if test else 0.6,
                zorder=3 + test,
                **rim,
                **style,
            )
        return drawn

    def kinds(self, names: Sequence[str], colors: Mapping[str, str]) -> None:
        self.title("Region")
        self.draw(np.ones(len(names), bool), c=np.array([colors[name] for name in names]))
        x, y = self.cell.x, self.cell.y + self.cell.height + 24
        for name, color in colors.items():
            if x > self.cell.x and x + 24 + 9 * len(name) > self.cell.x + self.cell.width:
                x, y = self.cell.x, y + 20
            x = self.sheet.chip(x, y, color, 11)
            x = self.sheet.text(x, y, name, 13, width=self.cell.width - 20) + 16

    def values(self, title: str, unit: str, values: np.ndarray) -> None:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.ticker import MaxNLocator

        self.title(title)
        known = np.isfinite(values)
        if (~known).any():
            self.axes.scatter(
                *self.xy[~known].T, c=UNKNOWN, s=self.size**2, marker="x",
                linewidths=0.22 * self.size, zorder=2,
            )  # fmt: skip
        y = self.cell.y + self.cell.height + 14
        if not known.any():
            self.sheet.text(self.cell.x, y + 10, "unknown for every image", 12, SOFT)
            return
        found = values[known]
        low, high = np.percentile(found, (100 * CLIPPED, 100 * (1 - CLIPPED)))
        if high <= low:
            low, high = found.min(), found.max()
        if high <= low:
            low, high = low - 0.5, high + 0.5
        scale = ScalarMappable(Normalize(low, high), colormaps["cividis"])
        self.draw(known, c=scale.to_rgba(values))
        under, over = bool((found < low).any()), bool((found > high).any())
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[under, over]
        place = Cell(self.cell.x, y, self.cell.width, 12)
        bar = self.sheet.figure.colorbar(
            scale, cax=axes_on(self.sheet, place), orientation="horizontal", extend=extend
        )
        bar.outline.set_visible(False)
        whole = bool((found == np.rint(found)).all())
        bar.locator = MaxNLocator(nbins=4, integer=whole)
        bar.update_ticks()
        bar.ax.tick_params(colors=INK, length=0, labelsize=points(12), pad=points(4))
        words = unit
        if (~known).any():
            words += f"{', ' if unit else ''}unknown for {int((~known).sum()):,} (×)"
        self.sheet.text(
            self.cell.x + self.cell.width / 2, y + 46, words, 12, SOFT, ha="center",
            width=self.cell.width,
        )  # fmt: skip


def _parts_legend(sheet: Sheet, size: float) -> None:
    from matplotlib.lines import Line2D

    x, y = float(MARGIN), sheet.height - 20
    for words, edge in (("train and validation", "none"), ("test", INK)):
        dot = Line2D(
            [x + 6], [y - 4.5], marker="o", ms=max(size, points(8)), mfc="#9fb3b1", mec=edge,
            mew=max(0.13 * size, 0.8), zorder=5,
        )  # fmt: skip
        sheet.axes.add_line(dot)
        x = sheet.text(x + 18, y, words, 12, SOFT) + 22


def _pca(features: np.ndarray) -> np.ndarray:
    """Scores on the two largest components, through the smaller of both Gram matrices."""
    from scipy.linalg import eigh

    centred = features - features.mean(axis=0)
    count, width = centred.shape
    keep = min(2, count, width)
    if width <= count:
        last = [width - keep, width - 1]
        loadings = eigh(centred.T @ centred, subset_by_index=last)[1][:, ::-1]
        scores = centred @ loadings
    else:
        last = [count - keep, count - 1]
        strength, vectors = eigh(centred @ centred.T, subset_by_index=last)
        scores = (vectors * np.sqrt(np.maximum(strength, 0)))[:, ::-1]
        loadings = centred.T @ scores
    places = np.arange(keep)
    sign = np.sign(loadings[np.abs(loadings).argmax(axis=0), places])
    scores = scores * np.where(sign == 0, 1, sign)
    # What is left of a component that does not vary is rounding.
    scores[:, np.abs(scores).max(axis=0) < 1e-9 * max(np.abs(centred).max(), 1e-300)] = 0
    return np.pad(scores, ((0, 0), (0, 2 - keep))).astype(np.float32)


def _umap(features: np.ndarray, seed: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP
    except ImportError as error:
        raise BrodmannError(
            "UMAP is not installed", "method", error,
            "pip install 'brodmann[umap]', or choose the method pca",
        ) from error  # fmt: skip
    reducer = UMAP(
        n_neighbors=min(NEIGHBOURS, len(features) - 1),
        min_dist=MIN_DIST,
        random_state=key_seed(seed, "umap") % 2**32,
        n_jobs=1,
        # The spectral start needs more points than it has dimensions to solve for.
        init="spectral" if len(features) > 20 else "random",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(reducer.fit_transform(features.astype(np.float32)), np.float32)
