"""The chart of a study: every model a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brodmann.report.charts import ACCENT, FAINT, INK, SECOND, svg_text


def seeds_svg(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]) -> str:
    """A panel for each score: points are models, bars the mean and its deviation.

    Parameters
    ----------
    rows : sequence of mapping
        With name, mean, std and models, as in a study's result.
    columns : sequence of (key, title)

    Returns
    -------
    str
        SVG in the page's colours; empty while no row has a score.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    columns = [(k, t) for k, t in columns if any(row["mean"][k] is not None for row in rows)]
    if not columns:
        return ""
    figure = Figure(figsize=(11, 1.1 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    figure.get_layout_engine().set(w_pad=0.12)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axis, (key, title) in zip(panels, columns):
        best = max(row["mean"][key] for row in rows if row["mean"][key] is not None)
        for place, row in enumerate(rows):
            _row(axis, place, row, key, row["mean"][key] == best)
        axis.set_title(f"{title} (%)", color=INK, loc="left", fontsize=11)
        axis.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.margins(x=0.08)
        axis.locator_params(axis="x", nbins=4)
        axis.patch.set_alpha(0)
        axis.grid(True, axis="x", color=FAINT, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK, length=0, labelsize=9.5)
        for side, spine in axis.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(FAINT)
    return svg_text(figure, "seeds")


def _row(axis, place: int, row: Mapping[str, Any], key: str, best: bool) -> None:
    known = [100 * model[key] for model in row["models"] if model[key] is not None]
    if not known:
        return
    color = SECOND if best else ACCENT
    middle, deviation = 100 * row["mean"][key], row["std"][key]
    if deviation is not None:
        ends = [middle - 100 * deviation, middle + 100 * deviation]
        axis.plot(ends, [place, place], color=color, linewidth=5, alpha=0.3, solid_capstyle="round")
    axis.plot([middle, middle], [place - 0.26, place + 0.26], color=color, linewidth=2.4)
    axis.scatter(known, [place] * len(known), s=22, color=color, alpha=0.85, linewidths=0, zorder=3)
