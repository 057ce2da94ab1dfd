"""Charts as inline SVG that takes the page's colours and fonts."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brodmann.core import LabelMap
from brodmann.report.counts import label_of

INK, FAINT, ACCENT, SECOND = "#010203", "#040506", "#070809", "#0a0b0c"
"""Stand-ins that become the page's CSS colours."""
VARIABLES = {INK: "--ink", FAINT: "--line", ACCENT: "--accent", SECOND: "--second"}
MOST_POINTS = 500
MOST_NAMED = 8


def curve_svgs(curve: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    """Title and chart of the loss over steps and of the validation Dice, each where it is known.

    Losses are thinned to MOST_POINTS; the strong line is a running median over a twentieth.
    Fewer than two points make no chart.
    """
    charts = []
    for key, title in (("loss", "Training loss"), ("val_dice", "Validation Dice")):
        points = [(row["step"], row[key]) for row in curve if _finite(row.get(key))]
        if len(points) < 2:
            continue
        figure, axis = _figure((5.6, 3.2))
        step, value = np.array(points, float).T
        if key == "loss":
            _loss(axis, step, value)
        else:
            _dice(axis, step, value)
        axis.set_title(title, color=INK, loc="left", fontsize=11)
        axis.set_xlabel("optimiser step", color=INK)
        charts.append((title, svg_text(figure, key)))
    return charts


def _loss(axis, step: np.ndarray, loss: np.ndarray) -> None:
    thin = np.unique(np.linspace(0, len(step) - 1, min(len(step), MOST_POINTS)).astype(int))
    axis.plot(step[thin], loss[thin], color=ACCENT, alpha=0.35, linewidth=0.9)
    if len(step) >= 20:
        axis.plot(step[thin], _median(loss, len(loss) // 20)[thin], color=ACCENT, linewidth=2)


def _dice(axis, step: np.ndarray, dice: np.ndarray) -> None:
    axis.plot(step, dice, color=SECOND, linewidth=2, marker="o", markersize=4)
    best = int(np.argmax(dice))
    axis.annotate(
        f"{dice[best]:.3f}",
        (step[best], dice[best]),
        (0, 7),
        textcoords="offset points",
        ha="center",
        color=INK,
    )
    axis.margins(y=0.18)


def areas_svg(totals: Mapping[int, Mapping[str, Any]], label_map: LabelMap) -> str:
    """True against predicted size of every region, both logarithmic, in the regions' colours.

    The regions farthest from the diagonal are named. Empty without two regions to compare.
    """
    pairs = [
        (id_, entry["true"], entry["compared"], entry["unit"])
        for id_, entry in totals.items()
        if entry["true"] and entry["compared"]
    ]
    if len(pairs) < 2:
        return ""
    figure, axis = _figure((5.4, 5.0))
    true, found = (np.array([pair[i] for pair in pairs]) for i in (1, 2))
    low, high = min(true.min(), found.min()) / 1.8, max(true.max(), found.max()) * 1.8
    axis.plot([low, high], [low, high], color=INK, linewidth=1, alpha=0.6)
    axis.fill_between(
        [low, high],
        [low / 1.25, high / 1.25],
        [low * 1.25, high * 1.25],
        color=INK,
        alpha=0.07,
        lw=0,
    )
    colors = [f"#{label_of(label_map, pair[0]).color}" for pair in pairs]
    axis.scatter(true, found, s=42, c=colors, edgecolors=INK, linewidths=0.6, zorder=3)
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter("{x:g}")
        each.set_minor_formatter("")
    off = np.abs(np.log(found / true))
    named: list[np.ndarray] = []
    for i in np.argsort(-off):
        above = found[i] > true[i]
        place = np.log(np.array([true[i], found[i]]) / low) / np.log(high / low)
        free = all(np.abs(place - other).max() > 0.06 for other in named)
        if off[i] > np.log(1.1) and free and len(named) < MOST_NAMED:
            named.append(place)
            axis.annotate(
                label_of(label_map, pairs[i][0]).acronym,
                (true[i], found[i]),
                (-6, 4) if above else (6, -4),
                textcoords="offset points",
                ha="right" if above else "left",
                va="bottom" if above else "top",
                color=INK,
                fontsize=9,
            )
    unit = pairs[0][3].replace("mm2", "mm²").replace("mm3", "mm³")
    axis.set_xlabel(f"true ({unit})", color=INK)
    axis.set_ylabel(f"predicted ({unit})", color=INK)
    return svg_text(figure, "areas")


def _figure(size: tuple[float, float]):
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    figure.patch.set_alpha(0)
    axis.patch.set_alpha(0)
    axis.grid(True, color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, length=0, labelsize=9.5, which="both")
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    return figure, axis


def svg_text(figure, name: str) -> str:
    """The figure as SVG text: ids made its own, colours and fonts left to the page."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    return text


def _median(values: np.ndarray, window: int) -> np.ndarray:
    from scipy.ndimage import median_filter

    return median_filter(values, size=max(3, window), mode="nearest")


def _finite(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
