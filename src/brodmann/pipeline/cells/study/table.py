"""Scores of a study of cell detectors, pooled, by brain and at other tolerances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from brodmann.core import Dataset
from brodmann.metrics.points import SCORER, PointScore, pool, score_points
from brodmann.pipeline.cells.study.recipe import CellRecipe

RANDOM = "random points"
Found = Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]
"""Row -> seed -> sample -> (n, d) cells in voxels."""


def cell_table(recipe: CellRecipe, data: Dataset, found: Found) -> dict[str, Any]:
    """`rows`: for each detector every seed's scores, their mean and deviation.

    A score holds pooled counts and F1, F1 by brain, the mean over brains, the worst brain of
    at least `least_cells` cells, and pooled F1 at the further tolerances.
    """
    rows = []
    for name, by_seed in found.items():
        seeds = {seed: _scores(recipe, data, cells) for seed, cells in by_seed.items()}
        keys = list(next(iter(seeds.values()))["measures"])
        values = {k: [one["measures"][k] for one in seeds.values()] for k in keys}
        rows.append(
            {
                "name": name,
                "mean": {k: _mean(v) for k, v in values.items()},
                "std": {
                    k: float(np.std(v, ddof=1)) if len(v) > 1 and None not in v else None
                    for k, v in values.items()
                },
                "seeds": seeds,
            }
        )
    cells = {
        subject: sum(len(s.points) for s in data if s.subject == subject)
        for subject in sorted(set(data.subjects.values()))
    }
    return {"rows": rows, "cells": cells, "scorer": SCORER, "mode": "greedy_global"}


def _scores(recipe: CellRecipe, data: Dataset, cells: Mapping[str, np.ndarray]) -> dict[str, Any]:
    spacing = data[0].image.spacing

    def each(tolerance: float, um: bool = False) -> dict[str, PointScore]:
        return {
            name: score_points(
                points,
                data[name].points.coordinates,
                tolerance,
                spacing=spacing if um else None,
            )
            for name, points in cells.items()
        }

    main = each(recipe.tolerance)
    pooled = pool(main.values())
    brains: dict[str, PointScore] = {}
    for subject in sorted({data.subjects[name] for name in cells}):
        brains[subject] = pool(s for name, s in main.items() if data.subjects[name] == subject)
    by_brain = {subject: _number(score.f1) for subject, score in brains.items()}
    known = [f1 for f1 in by_brain.values() if f1 is not None]
    large = [
        by_brain[subject] for subject, score in brains.items() if score.true >= recipe.least_cells
    ]
    measures = {
        "f1": _number(pooled.f1),
        "precision": _number(pooled.precision),
        "recall": _number(pooled.recall),
        "mean_over_brains": float(np.mean(known)) if known else None,
        "minimum": min(known) if known else None,
        "worst_large": min(large) if large else None,
        **{f"f1_{t:g}_voxels": _number(pool(each(t).values()).f1) for t in recipe.voxels},
        **{f"f1_{t:g}_um": _number(pool(each(t, True).values()).f1) for t in recipe.um},
    }
    return {
        "measures": measures,
        "pooled": pooled.as_dict(),
        "by_brain": by_brain,
        "by_sample": {name: [s.tp, s.fp, s.fn] for name, s in main.items()},
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The table in Markdown, means over seeds with their deviation."""
    recipe = result["recipe"]
    titles = {
        "f1": "F1",
        "precision": "precision",
        "recall": "recall",
        "mean_over_brains": "mean over brains",
        "worst_large": f"worst brain ({recipe['least_cells']} cells or more)",
        "minimum": "minimum",
    }
    further = [k for k in result["rows"][0]["mean"] if k not in titles]
    titles |= {k: "F1 at " + k.removeprefix("f1_").replace("_", " ") for k in further}
    brains = list(result["cells"])
    speeds = result["megavoxels_per_s"]
    head = [
        "detector",
        *titles.values(),
        "MVox/s",
        *(f"{b} ({result['cells'][b]})" for b in brains),
    ]
    lines = [
        f"# {result['title']}",
        "",
        f"F1 at {recipe['tolerance']:g} voxels, {result['mode']}, {result['scorer']}; "
        f"brains never seen; mean and deviation of seeds {result['seeds']}.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for row in result["rows"]:
        cells = [_text(row["mean"][k], row["std"][k]) for k in titles]
        by_brain = [
            _text(_mean([one["by_brain"].get(b) for one in row["seeds"].values()]), None)
            for b in brains
        ]
        speed = speeds.get(row["name"])
        shown = "–" if speed is None else f"{speed:g}"
        lines.append("| " + " | ".join([row["name"], *cells, shown, *by_brain]) + " |")
    notes = [f"- {note}" for note in result["notes"]]
    made = ["", f"Made by `{result['command']}`."] if result["command"] else []
    return "\n".join([*lines, "", *notes, *made]) + "\n"


def shown_rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The heads and cells of a short table for a terminal."""
    keys = {
        "f1": "F1",
        "mean_over_brains": "mean over brains",
        "worst_large": "worst brain",
        "minimum": "minimum",
    }
    further = {k: k.removeprefix("f1_").replace("_", " ") for k in result["rows"][0]["mean"]
               if k.startswith("f1_")}  # fmt: skip
    keys |= further
    rows = [
        [row["name"], *(_text(row["mean"][k], row["std"][k]) for k in keys)]
        for row in result["rows"]
    ]
    return ["detector", *keys.values()], rows


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _text(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"
