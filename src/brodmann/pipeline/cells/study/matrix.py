"""Every marker's detector on every marker, and detectors of all markers together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.datasets.splits import grouped_folds
from brodmann.metrics.points import MarkerMatrix, PointScore, marker_matrix, pool, score_points
from brodmann.metrics.points.matrix import TOTAL
from brodmann.metrics.points.scores import tolerance_of
from brodmann.pipeline.cells.study.recipe import CellRow, MatrixRecipe
from brodmann.pipeline.cells.study.run import open_cells, slug
from brodmann.pipeline.cells.study.training import Trainer, content_of, measure_brains
from brodmann.pipeline.counting import Report
from brodmann.pipeline.environment import facts_of_run, write_recipe
from brodmann.pipeline.stages import Stages
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import heat_of

TUNED = ", marker known"
"""Ends the name of a joint model whose threshold is that of the training brains' marker."""
Records = dict[tuple[str, str, str], PointScore]
"""Marker, brain, model -> score."""


@dataclass
class MatrixStudy:
    """A recipe, its samples in memory, and the folder where finished work is kept."""

    recipe: MatrixRecipe
    data: Dataset
    trainer: Trainer
    folder: Path
    content: str

    @property
    def markers(self) -> list[str]:
        """In the order of the data."""
        return list(dict.fromkeys(self.marker(name) for name in self.data.names))

    def marker(self, name: str) -> str:
        """Of a sample."""
        return str(self.data[name].meta["marker"])

    @property
    def models(self) -> dict[str, tuple[list[str], float]]:
        """Name -> markers that it learns from, and how many times the steps."""
        own = {marker: ([marker], 1.0) for marker in self.markers}
        return own | {name: (self.markers, factor) for name, factor in self.recipe.joint.items()}

    def scores(self, seed: int) -> Records:
        """Of all models on all markers of the brains that train none."""
        found: Records = {}
        for model in self.models:
            for marker, brain, name, counts in self._model(model, seed):
                found[marker, brain, name] = PointScore(
                    *counts, tolerance=tolerance_of(marker), unit="voxel"
                )
        return found

    def _model(self, model: str, seed: int) -> list[tuple[str, str, str, list[int]]]:
        markers, factor = self.models[model]
        train, test = grouped_folds(self.data, self.recipe.folds)[self.recipe.fold]
        learns = [name for name in train if self.marker(name) in markers]
        row = self._row(model, factor)
        note = f"{model}: seed {seed}"

        def work(stage: Path) -> dict[str, Any]:
            detector, choice = self.trainer.train(row, seed, learns, stage, note)
            detector.save(stage / "detector")
            used = {model: dict.fromkeys(self.markers, choice)}
            if len(markers) > 1:
                used[model + TUNED] = {
                    marker: self.trainer.choose(
                        row, detector, [n for n in learns if self.marker(n) == marker], 0.02
                    )
                    for marker in markers
                }
            scores: dict[tuple[str, str, str], list[PointScore]] = {}
            for done, name in enumerate(test, 1):
                sample, marker = self.data[name], self.marker(name)
                heat = heat_of(detector, sample.image, self.trainer.intensities[name])
                for shown, choices in used.items():
                    chosen = choices[marker]
                    at, _ = find_maxima(heat, chosen.radius, chosen.threshold)
                    score = score_points(
                        at.astype(float), sample.points.coordinates, tolerance_of(marker)
                    )
                    scores.setdefault((marker, sample.subject, shown), []).append(score)
                self.trainer.report(f"{note}: find", done, len(test), "")
            return {
                "scores": [[*key, _counts(pool(parts))] for key, parts in scores.items()],
                "choices": {
                    shown: {m: [list(c.radius), c.threshold, c.f1] for m, c in choices.items()}
                    for shown, choices in used.items()
                },
            }

        depends = {
            "data": self.content,
            "test": test,
            **self.trainer.depends(row, seed, learns),
        }
        folder = f"{slug(model)}-seed{seed}"
        outcome, _ = Stages(self.folder / "models").run(folder, depends, work)
        return [tuple(one) for one in outcome["scores"]]

    def _row(self, model: str, factor: float) -> CellRow:
        row = self.recipe.detector
        if row.net is None:
            return row.model_copy(update={"name": model})
        steps = round(factor * self.recipe.settings(row)[3].steps)
        return row.model_copy(update={"name": model, "train": {**row.train, "steps": steps}})


def _counts(score: PointScore) -> list[int]:
    return [score.tp, score.fp, score.fn, score.duplicates, score.truth_duplicates]


def run_matrix(
    recipe: MatrixRecipe,
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
) -> dict[str, Any]:
    """Train a detector for each marker and joint ones, and try each on every marker.

    Parameters
    ----------
    recipe : MatrixRecipe
        Samples need `meta["marker"]`, one of those that have a tolerance.
    folder : Path
        Gets `recipe.yaml`, `models/MODEL-seedS/detector`, `matrix.csv`, `matrix-f1.csv`,
        `matrix.png` (counts of all seeds together), `table.md` (mean and deviation over seeds)
        and `result.json`.
    command : str
        What the table names as the command that made it.
    report : callable
        Called as (what, done, total, note).

    Returns
    -------
    dict
        What `result.json` holds; `totals[marker][model]` has mean and std of F1 over seeds.

    Raises
    ------
    BrodmannError
        On bad input; what is finished stays and the next call goes on from it.
    """
    from brodmann.report.cells import matrix_picture

    began = time.monotonic()
    folder = make_folder(folder)
    write_recipe(recipe, folder)
    data = open_cells(recipe)
    for sample in data:
        if "marker" not in sample.meta:
            raise DataError("a sample does not say its marker", sample.name, fix='meta["marker"]')
    markers = {name: str(data[name].meta["marker"]) for name in data.names}
    if recipe.fold >= (recipe.folds or len(set(data.subjects.values()))):
        raise RecipeError("there is no such fold", "fold", recipe.fold)
    trainer = Trainer(
        recipe,
        data,
        measure_brains(data),
        {name: tolerance_of(marker) for name, marker in markers.items()},
        {name: f"{data.subjects[name]} {marker}" for name, marker in markers.items()},
        report,
    )
    study = MatrixStudy(recipe, data, trainer, folder, content_of(data))
    clash = sorted(set(study.markers) & set(recipe.joint))
    if clash:
        raise RecipeError("a joint model has the name of a marker", "joint", clash)
    by_seed = {seed: study.scores(seed) for seed in recipe.seeds}
    matrices = {seed: _matrix(found) for seed, found in by_seed.items()}
    together = _matrix(
        {key: pool(found[key] for found in by_seed.values()) for key in by_seed[recipe.seeds[0]]}
    )
    result = {
        **facts_of_run(recipe, command, began),
        "models": list(together.models),
        "totals": {
            marker: {
                model: _spread([m.value(marker, TOTAL, model) for m in matrices.values()])
                for model in together.models
            }
            for marker in together.markers
        },
        "matrix": together.as_dict(),
    }
    together.write(folder)
    matrix_picture(together, folder / "matrix.png", title=recipe.title)
    write_text(folder / "table.md", matrix_markdown(result))
    write_json(folder / "result.json", result)
    return result


def _matrix(found: Records) -> MarkerMatrix:
    return marker_matrix((*key, score) for key, score in found.items())


def _spread(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }


def matrix_markdown(result: dict[str, Any]) -> str:
    """F1 of each model (columns) on each marker (rows), mean and deviation over seeds."""
    models = result["models"]
    lines = [
        f"# {result['title']}",
        "",
        "F1 by greedy_global at each marker's tolerance on brains never seen; "
        f"mean and deviation of seeds {result['seeds']}.",
        "",
        "| marker | " + " | ".join(models) + " |",
        "|" + "---|" * (len(models) + 1),
    ]
    for marker, row in result["totals"].items():
        best = max((row[m]["mean"] or 0) for m in models)
        cells = [_shown(row[m], best) for m in models]
        lines.append(f"| {marker} | " + " | ".join(cells) + " |")
    means = [
        float(np.mean([row[m]["mean"] or 0.0 for row in result["totals"].values()])) for m in models
    ]
    lines.append("| mean | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    notes = [f"- {note}" for note in result["notes"]]
    made = ["", f"Made by `{result['command']}`."] if result["command"] else []
    return "\n".join([*lines, "", *notes, *made]) + "\n"


def _shown(one: dict[str, float | None], best: float) -> str:
    if one["mean"] is None:
        return "–"
    text = f"{one['mean']:.3f}" + ("" if one["std"] is None else f" ± {one['std']:.3f}")
    return f"**{text}**" if one["mean"] == best else text
