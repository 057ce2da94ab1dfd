"""Charts of a benchmark's page: every seed a dot, R2 as bars, attributes true and predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.report.bench_rows import Standing
from brodmann.report.charts import ACCENT, FAINT, INK, SECOND, svg_text

LEAST_R2 = -0.25
"""Left end of a chart of R2; worse values stand there with their number."""
MOST_DOTS = 1500


def seeds_svg(
    standings: Sequence[Standing],
    columns: Sequence[tuple[str, str]],
    name: str,
    *,
    main: str = "",
    maximum: float | None = None,
    bars: bool = False,
) -> str:
    """A panel for each score, a line for each method.

    Dots are seeds, the tick is their mean, the band one standard deviation either way, the thin
    line an interval where one is given (of `main`). Baselines stand on a shade; published means
    are open diamonds with their deviation. With `bars` a bar leads from 0 to the mean.

    Returns
    -------
    str
        SVG in the page's colours; empty where no score is known.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    columns = [
        (key, title)
        for key, title in columns
        if any(one.mean.get(key) is not None for one in standings)
    ]
    if not columns:
        return ""
    figure = Figure(figsize=(11, 0.95 + 0.34 * len(standings)), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    figure.get_layout_engine().set(w_pad=0.1)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axis, (key, title) in zip(panels, columns):
        known = [one.mean[key] for one in standings if one.kind == "method" and key in one.mean]
        best = max((value for value in known if value is not None), default=None)
        floor = LEAST_R2 if key.startswith("r2") else None
        for place, one in enumerate(standings):
            if one.kind == "baseline":
                axis.axhspan(place - 0.5, place + 0.5, color=FAINT, alpha=0.45, lw=0, zorder=0)
            span = one.interval if key == main else None
            leads = one.kind == "method" and best is not None and one.mean.get(key) == best
            _line(axis, place, one, key, SECOND if leads else ACCENT, span, floor, bars)
        _dressed(axis, title)
        axis.set_yticks(range(len(standings)), [_name(one) for one in standings])
        for label in axis.get_yticklabels():
            label.set_parse_math(False)
        axis.set_ylim(len(standings) - 0.45, -0.55)
        axis.margins(x=0.08)
        if floor is not None:
            left, right = axis.get_xlim()
            axis.set_xlim(min(max(left, floor * 1.12), 0), max(right, 0.1))
            axis.axvline(0, color=INK, lw=0.8, alpha=0.5)
        if maximum is not None and key == main:
            # A limit far away would squeeze the scores themselves.
            axis.axvline(maximum, color=INK, lw=1, ls=(0, (4, 3)), alpha=0.6)
    return svg_text(figure, name)


def attributes_svg(values: np.ndarray, titles: Sequence[str], name: str) -> str:
    """True against predicted, a panel for each attribute; (n, 2, attributes) float, NaN unknown."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    known = np.isfinite(values).all(axis=1)
    if not known.any():
        return ""
    count = values.shape[2]
    figure = Figure(figsize=(11, 10.4 / max(count, 4) + 0.35), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    panels = figure.subplots(1, max(count, 4), squeeze=False)[0]
    for axis in panels[count:]:
        axis.set_axis_off()
    for place, (axis, title) in enumerate(zip(panels, titles)):
        _dressed(axis, title, grid="both")
        truth, guess = values[known[:, place], :, place].T
        if not len(truth):
            continue
        thin = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), MOST_DOTS)).astype(int))
        low, high = np.percentile(np.concatenate([truth, guess]), (0.5, 99.5))
        low, high = min(low, truth.min()), max(high, truth.max())
        room = 0.06 * (high - low or 1)
        low, high = low - room, high + room
        axis.plot([low, high], [low, high], color=INK, lw=1, alpha=0.6)
        dots = np.clip(np.stack([truth[thin], guess[thin]]), low, high)
        axis.scatter(*dots, s=9, color=ACCENT, alpha=0.45, linewidths=0, rasterized=False)
        axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axis.locator_params(nbins=4)
        axis.set_xlabel("true", color=INK, fontsize=9.5)
        if place == 0:
            axis.set_ylabel("predicted", color=INK, fontsize=9.5)
    return svg_text(figure, name)


def _name(one: Standing) -> str:
    return f"{one.name}, published" if one.kind == "published" else one.name


def _line(
    axis,
    place: int,
    one: Standing,
    key: str,
    color: str,
    interval: tuple[float, float] | None,
    floor: float | None,
    bars: bool,
) -> None:
    mean, deviation = one.mean.get(key), one.std.get(key)
    if mean is None:
        return
    color = INK if one.kind != "method" else color
    strength = 1.0 if one.kind == "method" else 0.55
    if floor is not None and mean < floor:
        axis.plot([floor], [place], marker="<", ms=6, color=color, alpha=strength)
        text = f"{mean:.2f}".replace("-", "−")
        axis.annotate(text, (floor, place), (8, 0), textcoords="offset points", va="center",
                      color=INK, fontsize=8.5)  # fmt: skip
        return
    if bars:
        axis.barh(place, mean, height=0.55, color=color, alpha=0.28 * strength, lw=0, zorder=1)
    if one.kind == "published":
        ends = [mean - (deviation or 0), mean + (deviation or 0)]
        axis.plot(ends, [place, place], color=color, lw=1.2, alpha=0.7)
        axis.plot([mean], [place], marker="D", ms=5.5, mfc="none", mec=color, mew=1.2, ls="")
        return
    if interval is not None:
        axis.plot(interval, [place, place], color=color, lw=1.2, alpha=strength)
        axis.plot(interval, [place, place], ls="", marker="|", ms=7, color=color, alpha=strength)
    if deviation is not None:
        ends = [mean - deviation, mean + deviation]
        axis.plot(ends, [place, place], color=color, lw=5, alpha=0.3, solid_capstyle="round")
    axis.plot([mean, mean], [place - 0.26, place + 0.26], color=color, lw=2.4, alpha=strength)
    values = one.values.get(key, [])
    if floor is not None:
        values = [max(value, floor) for value in values]
    axis.scatter(values, [place] * len(values), s=22, color=color, alpha=0.85 * strength,
                 linewidths=0, zorder=3)  # fmt: skip


def _dressed(axis, title: str, grid: str = "x") -> None:
    axis.set_title(title, color=INK, loc="left", fontsize=11)
    axis.locator_params(axis="x", nbins=4)
    axis.patch.set_alpha(0)
    axis.grid(True, axis=grid, color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, length=0, labelsize=9.5)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom" or (grid == "both" and side == "left"))
        spine.set_color(FAINT)
