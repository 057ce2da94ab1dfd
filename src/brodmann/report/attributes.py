"""The picture of a table of attributes: along z, over samples, or as maps of a cut-up image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core.files import written_beside
from brodmann.metrics.attributes import ATTRIBUTES
from brodmann.report.sheet import ACCENT, INK, LINE, PAPER, SOFT

Rows = Sequence[Mapping[str, Any]]
MANY = 40
"""Samples that are named beneath the chart."""
TITLES = {
    "vessel_density": ("vessels", "share of pixels", 100, "%"),
    "axon_density": ("axons", "share of pixels", 100, "%"),
    "cell_count": ("cells", "number", 1, ""),
    "cell_size": ("cell size", "mean", 1, "{size}"),
    "cell_distance": ("nearest cell", "mean distance", 1, "{distance}"),
}


def save_attributes(
    rows: Rows,
    path: Path,
    *,
    axes: str,
    spacing_um: Sequence[float],
    per: str = "slice",
    title: str = "",
    distance_unit: str = "µm",
) -> Path | None:
    """Draw the rows of `attribute_table`: a panel for each attribute that some row knows.

    Parameters
    ----------
    rows : sequence of mapping
        None or NaN where nothing is known; `sample` in tables of several.
    path : Path
        A .png, .pdf or .svg.
    axes : {"yx", "zyx"}
    spacing_um : sequence of float
    per : {"slice", "volume", "block"}
    title : str
    distance_unit : str
        Of `cell_distance`: px for published ones.

    Returns
    -------
    Path or None
        None where there is nothing to compare: fewer than two rows, or no attribute.
    """
    from matplotlib.figure import Figure

    size = "µm³" if axes == "zyx" and per != "slice" else "µm²"
    names = [name for name in ATTRIBUTES if any(_known(row.get(name)) for row in rows)]
    if len(rows) < 2 or not names:
        return None
    samples = list(dict.fromkeys(row.get("sample", "") for row in rows))
    along_z = all("z" in row for row in rows)
    tiled = per == "block" and not along_z and len(samples) == 1
    if tiled:
        figure = Figure(figsize=(3.4 * len(names), 3.0), dpi=110, layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
    else:
        figure = Figure(figsize=(8.6, 0.9 + 1.45 * len(names)), dpi=110, layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    figure.set_facecolor(PAPER)
    for panel, name in zip(panels, names):
        head, what, factor, unit = TITLES[name]
        unit = unit.format(size=size, distance=distance_unit)
        values = np.array([factor * row[name] if _known(row.get(name)) else np.nan for row in rows])
        if tiled:
            _map(panel, rows, values, spacing_um)
        elif along_z:
            _along_z(panel, rows, values, samples, spacing_um[0])
        else:
            _over_samples(panel, rows, values, samples)
        panel.set_title(
            f"{head}: {what}" + (f" ({unit})" if unit else ""), loc="left", fontsize=10, color=INK
        )
        if not tiled:
            low = min(0.0, np.nanmin(values))
            panel.set_ylim(low, max(np.nanmax(values) * 1.12, low + 1e-9))
            _quiet(panel)
    if not tiled:
        _beneath(panels[-1], along_z, samples)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    with written_beside(Path(path)) as beside:
        figure.savefig(beside, facecolor=PAPER)
    return Path(path)


def _along_z(panel, rows: Rows, values: np.ndarray, samples: Sequence[str], step: float) -> None:
    centre = np.array([(row["z"] + (row.get("depth", 1) - 1) / 2) * step for row in rows])
    blocks = "width" in rows[0]
    several = len(samples) > 1
    for sample in samples:
        own = np.array([row.get("sample", "") == sample for row in rows])
        if blocks:
            panel.plot(centre[own], values[own], ".", color=SOFT, alpha=0.35, markersize=4, mew=0)
        at = np.unique(centre[own])
        with np.errstate(all="ignore"):
            line = [_mean(values[own & (centre == z)]) for z in at]
        mark = "o" if len(at) < 30 else None
        panel.plot(
            at, line, color=ACCENT, alpha=0.45 if several else 1, linewidth=1.6, marker=mark,
            markersize=3.5,
        )  # fmt: skip


def _over_samples(panel, rows: Rows, values: np.ndarray, samples: Sequence[str]) -> None:
    place = np.array([samples.index(row.get("sample", "")) for row in rows])
    panel.plot(place, values, "o", color=ACCENT, markersize=5, mew=0, alpha=0.8)
    panel.set_xlim(-0.6, len(samples) - 0.4)


def _map(panel, rows: Rows, values: np.ndarray, spacing_um: Sequence[float]) -> None:
    edges = []
    for axis, size, step in zip("yx", ("height", "width"), spacing_um):
        starts = sorted({row[axis] for row in rows})
        last = max(row[axis] + row[size] for row in rows)
        edges.append(np.array([*starts, last]) * step)
    table = np.full([len(along) - 1 for along in edges], np.nan)
    for row, value in zip(rows, values):
        at = (np.searchsorted(along / step, row[axis]) for along, axis, step in
              zip(edges, "yx", spacing_um))  # fmt: skip
        table[tuple(at)] = value
    shown = panel.pcolormesh(edges[1], edges[0], table, cmap="viridis", rasterized=True)
    panel.set_aspect("equal")
    panel.invert_yaxis()
    panel.set_facecolor(LINE)
    panel.tick_params(colors=SOFT, labelsize=8, length=2)
    panel.set_xlabel("x (µm)", fontsize=9, color=SOFT)
    bar = panel.figure.colorbar(shown, cax=panel.inset_axes((1.03, 0, 0.04, 1)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=8, length=2)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _quiet(panel) -> None:
    panel.set_facecolor(PAPER)
    panel.grid(True, axis="y", color=LINE, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.locator_params(axis="y", nbins=4)
    panel.tick_params(colors=SOFT, labelsize=9, length=0)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)


def _beneath(panel, along_z: bool, samples: Sequence[str]) -> None:
    if along_z:
        panel.set_xlabel("z (µm)", fontsize=9, color=SOFT)
        panel.margins(x=0.01)
    elif len(samples) <= MANY:
        panel.set_xticks(range(len(samples)), samples, rotation=60, ha="right", fontsize=8)
    else:
        panel.set_xlabel("sample, in the order of the table", fontsize=9, color=SOFT)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _known(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
