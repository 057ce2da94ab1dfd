"""Cells found before and after the stage, on brains that no training saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brodmann.metrics.points import SCORER, PointScore, pool
from brodmann.pipeline.candidates.study.recipe import CandidateRecipe

ROWS = {
    "detector": "detector alone",
    "candidates": "all candidates",
    "classified": "classified",
}
MEASURES = ("f1", "precision", "recall", "accuracy")
HEADS = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "mean_over_brains": "mean over brains",
    "told": "told right",
}


def candidate_table(
    recipe: CandidateRecipe, outcomes: Mapping[int, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """`rows`: the detector, all candidates and the classified ones; mean and deviation of seeds.

    Parameters
    ----------
    recipe : CandidateRecipe
    outcomes : mapping
        Seed -> folds, see `CandidateStudy.fold`.
    """
    shown = [key for key in ROWS if recipe.crops is None or key != "detector"]
    rows = []
    for key in shown:
        seeds = {seed: _scores(key, folds) for seed, folds in outcomes.items()}
        names = list(next(iter(seeds.values()))["measures"])
        values = {name: [one["measures"][name] for one in seeds.values()] for name in names}
        rows.append(
            {
                "name": ROWS[key],
                "mean": {k: None if None in v else float(np.mean(v)) for k, v in values.items()},
                "std": {
                    k: float(np.std(v, ddof=1)) if len(v) > 1 and None not in v else None
                    for k, v in values.items()
                },
                "seeds": seeds,
            }
        )
    first = next(iter(rows[-1]["seeds"].values()))
    cells = {brain: counts[0] + counts[2] for brain, counts in first["by_brain"].items()}
    return {"rows": rows, "cells": cells, "scorer": SCORER, "mode": "greedy_global"}


def _scores(key: str, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    brains = {name: one for fold in folds for name, one in fold["brains"].items()}
    by_brain = {name: one["counts"][key] for name, one in sorted(brains.items())}
    scores = {name: PointScore(*counts) for name, counts in by_brain.items()}
    pooled = pool(scores.values())
    known = [score.f1 for score in scores.values() if not math.isnan(score.f1)]
    every = sum(len(one["labels"]) for one in brains.values())
    right = {
        "candidates": sum(sum(one["labels"]) for one in brains.values()),
        "classified": sum(one["right"] for one in brains.values()),
    }.get(key)
    measures = {name: _number(getattr(pooled, name)) for name in MEASURES}
    measures["mean_over_brains"] = float(np.mean(known)) if known else None
    measures["told"] = right / every if right is not None and every else None
    return {
        "measures": measures,
        "by_brain": by_brain,
        "f1_by_brain": {name: _number(score.f1) for name, score in scores.items()},
        "candidates": every,
    }


def shown_rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table."""
    brains = list(result["cells"])
    head = ["", *HEADS.values(), *(f"{b} ({result['cells'][b]})" for b in brains)]
    rows = []
    for row in result["rows"]:
        by_brain = []
        for brain in brains:
            values = [one["f1_by_brain"][brain] for one in row["seeds"].values()]
            by_brain.append(_text(None if None in values else float(np.mean(values)), None))
        told = [_text(row["mean"][key], row["std"][key]) for key in HEADS]
        rows.append([row["name"], *told, *by_brain])
    return head, rows


def markdown(result: Mapping[str, Any]) -> str:
    """The table in Markdown, means over seeds with their deviation."""
    head, rows = shown_rows(result)
    recipe = result["recipe"]
    by = "of the crops that show cells"
    if recipe["crops"] is None:
        by = f"at {recipe['tolerance']:g} voxels, {result['mode']}, {result['scorer']}"
    lines = [
        f"# {result['title']}",
        "",
        f"Scores {by}; brains never seen; mean and deviation of seeds {result['seeds']}. "
        "Told right: the share of candidates. Columns of brains are F1, with the number of cells.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"- {note}" for note in result["notes"]),
        *(["", f"Made by `{result['command']}`."] if result["command"] else []),
    ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _text(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"
