"""A neuron run as CSV, as Markdown, and as one self-contained page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from brodmann.core.files import write_text
from brodmann.report.charts import curve_svgs
from brodmann.report.html import render

MEASURES = {
    "vi": "VI",
    "vi_split": "VI split",
    "vi_merge": "VI merge",
    "arand": "ARAND",
    "arand_precision": "precision",
    "arand_recall": "recall",
}
CHOICES = {"vi": "VI", "arand": "ARAND", "both": "sum of VI and ARAND"}
SETTINGS = ("threshold", "beta", "bias", "watershed_threshold", "seed_sigma")


def spread(row: Mapping[str, Any], key: str) -> str:
    """A mean and its deviation over seeds.

    >>> spread({"mean": {"vi": 1.23456}, "std": {"vi": 0.0312}}, "vi")
    '1.235 ± 0.031'
    >>> spread({"mean": {"vi": 1.5}, "std": {"vi": None}}, "vi")
    '1.500'
    """
    deviation = row["std"][key]
    return f"{row['mean'][key]:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def neurons_csv(result: Mapping[str, Any]) -> str:
    """One line for each method and trivial row: n, and mean and deviation of every measure."""
    text = io.StringIO()
    columns = ["row", "kind", "n"]
    columns += [f"{key}_{part}" for key in MEASURES for part in ("mean", "std")]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for kind in ("rows", "trivial"):
        for row in result[kind]:
            line = {"row": row["name"], "kind": "method" if kind == "rows" else "trivial"}
            for key in MEASURES:
                for part in ("mean", "std"):
                    value = row[part][key]
                    line[f"{key}_{part}"] = None if value is None else round(value, 5)
            writer.writerow({**line, "n": row["n"]})
    return text.getvalue()


def neurons_markdown(result: Mapping[str, Any]) -> str:
    """The table, its notes and the command, to paste into a text."""
    head = ["Method", *MEASURES.values()]
    rows = [
        [row["name"], *(spread(row, key) for key in MEASURES)]
        for row in (*result["rows"], *result["trivial"])
    ]
    rows += [
        [f"published: {name}", *(f"{row[key]:.3f}" if key in row else "–" for key in MEASURES)]
        for name, row in result["published"].items()
    ]
    lines = [head, ["---", *["---:"] * len(MEASURES)], *rows]
    parts = [
        f"# {result['title']}",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
        caption(result),
        membranes(result),
        "\n".join(f"- {note}" for note in result["notes"]),
        f"    {result['command']}" if result["command"] else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def caption(result: Mapping[str, Any]) -> str:
    """How to read the table."""
    seeds = len(result["seeds"])
    over = f"mean ± standard deviation over {seeds} seeds; " if seeds > 1 else ""
    return (
        f"{over.capitalize()}VI in bits (split + merge), ARAND with its precision and recall; lower "
        "VI and ARAND are better. Thresholds were chosen on the tuning part, by the lowest "
        f"{CHOICES[result['recipe']['segment']['choose_by']]} there; "
        "truth label 0 is not counted."
    )


def membranes(result: Mapping[str, Any]) -> str:
    """How well membranes are drawn, in a sentence; empty where they are not marked."""
    row = result["membranes"]
    if row is None:
        return ""
    return (
        f"Membrane voxels: F1 {spread(row, 'f1')}, precision {spread(row, 'precision')}, recall "
        f"{spread(row, 'recall')}."
    )


def write_neurons_page(
    result: Mapping[str, Any],
    curve: Sequence[Mapping[str, float]],
    figures: Sequence[tuple[str, str, Path]],
    errors: Sequence[Mapping[str, Any]],
    out: Path,
) -> Path:
    """Write report.html into a folder; it needs no network and no other file.

    Parameters
    ----------
    result : mapping
        What a neuron run's result.json holds.
    curve : sequence of mapping
        The learning curve of one seed.
    figures : sequence of (title, caption, PNG file)
    errors : sequence of mapping
        Neurons with the most error: neuron, voxels, segments, share, vi_split, vi_merge.
    out : Path
    """
    facts = {
        "Net": f"{result['recipe']['net']['kind']}, {result['parameters']:,} parameters",
        "Patch": " x ".join(map(str, result["patch"])) + f" voxels, batch {result['batch']}",
        "Optimiser steps": f"{result['steps']:,}",
        "Seeds": ", ".join(map(str, result["seeds"])),
        **{
            f"Volumes: {part}": "; ".join(
                f"{name} ({' x '.join(map(str, shape))})" for name, shape in volumes.items()
            )
            for part, volumes in result["volumes"].items()
        },
        "Time": f"{result['seconds'] / 60:.1f} min (what was kept from earlier calls not counted)",
        "Peak memory": f"{result['peak_memory_mb'] / 1000:.1f} GB",
        "Brodmann": result["environment"]["brodmann"],
        "PyTorch": result["environment"]["torch"],
        "Commit": result["commit"] or "installed package",
    }
    page = render(
        "neurons.html.j2",
        result=result,
        measures=MEASURES,
        spread=spread,
        caption=caption(result),
        membranes=membranes(result),
        settings=[
            s for s in SETTINGS if any(s in one for r in result["rows"] for one in r["seeds"])
        ],
        figures=[(title, text, _uri(path)) for title, text, path in figures],
        errors=errors,
        curve=[(title, Markup(chart)) for title, chart in curve_svgs(curve)],
        facts=facts,
    )
    return write_text(out / "report.html", page)


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
