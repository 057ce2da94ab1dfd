"""A study of cell detectors: train and tune on some brains, find and score in the others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError, keyed_rng
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.datasets.registry import DATASETS
from brodmann.datasets.splits import grouped_folds
from brodmann.pipeline.cells.study.recipe import CellRecipe, CellRow, DetectorRecipe
from brodmann.pipeline.cells.study.table import RANDOM, cell_table, markdown
from brodmann.pipeline.cells.study.training import Trainer, content_of, measure_brains
from brodmann.pipeline.counting import Report
from brodmann.pipeline.environment import facts_of_run, write_recipe
from brodmann.pipeline.stages import Stages, content_key
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import Detector, Intensity, heat_of
from brodmann.problems.cells.tuning import Choice

TOGETHER = ", seeds together"
"""Ends the name of a row whose heat is the mean over the seeds of another."""
BLOCK_VOXELS = 1 << 21
"""Of the block that speed is measured on; larger ones have less halo to a voxel."""


@dataclass
class CellStudy:
    """A recipe, its samples in memory, and the folder where finished work is kept."""

    recipe: CellRecipe
    data: Dataset
    trainer: Trainer
    content: str
    folder: Path
    report: Report

    @property
    def folds(self) -> list[tuple[list[str], list[str]]]:
        """Names that train and names that test."""
        count = self.recipe.folds or len(set(self.data.subjects.values()))
        return grouped_folds(self.data, count)

    def row(self, row: CellRow) -> dict[int, dict[str, np.ndarray]]:
        """Seed -> sample -> (n, d) cells found in it by detectors that never saw its brain."""
        self.trainer.kept.clear()
        found: dict[int, dict[str, np.ndarray]] = {}
        seeds = self.recipe.seeds if row.net is not None else self.recipe.seeds[:1]
        for seed in seeds:
            found[seed] = {}
            for fold in range(len(self.folds)):
                found[seed] |= self._fold(row, seed, fold)
        return found

    def together(self, row: CellRow) -> dict[str, np.ndarray]:
        """Cells by the mean heat of all seeds, with the mean of their thresholds."""
        found = {}
        for fold, (_, test) in enumerate(self.folds):
            stages = [self._stage(row, seed, fold) for seed in self.recipe.seeds]
            choices = [_choice(stage) for stage in stages]
            threshold = float(np.mean([choice.threshold for choice in choices]))
            radii = [choice.radius for choice in choices]
            radius = max(radii, key=radii.count)
            for name in test:
                heats = [np.load(stage / f"{name}.npy") for stage in stages]
                found[name] = find_maxima(np.mean(heats, 0), radius, threshold)[0]
        return found

    def _stage(self, row: CellRow, seed: int, fold: int) -> Path:
        return self.folder / slug(row.name) / f"seed{seed}" / f"fold{fold}"

    def _fold(self, row: CellRow, seed: int, fold: int) -> dict[str, np.ndarray]:
        train, test = self.folds[fold]
        depends = {"data": self.content, **self.trainer.depends(row, seed, train)}
        path = self._stage(row, seed, fold)

        def work(stage: Path) -> dict[str, Any]:
            began = time.monotonic()
            note = f"{row.name}: seed {seed}, fold {fold + 1}"
            detector, choice = self.trainer.train(row, seed, train, stage, note)
            trained = round(time.monotonic() - began, 1)
            detector.save(stage / "detector")
            cells = {}
            for done, name in enumerate(test, 1):
                heat = heat_of(detector, self.data[name].image, self.trainer.intensities[name])
                np.save(stage / f"{name}.npy", heat, allow_pickle=False)
                cells[name] = find_maxima(heat, choice.radius, choice.threshold)[0].tolist()
                self.report(f"{note}: find", done, len(test), "")
            first = seed == self.recipe.seeds[0] and fold == 0
            return {
                "cells": cells,
                "megavoxels_per_s": megavoxels_per_s(detector) if first else None,
                "radius": choice.radius,
                "threshold": choice.threshold,
                "train_f1": choice.f1,
                "sigma_um": getattr(detector, "sigma_um", None),
                "train_seconds": trained,
            }

        outcome, _ = Stages(path.parent).run(path.name, depends, work)
        ndim = len(self.data[0].image.spacing)
        return {
            name: np.array(cells, float).reshape(-1, ndim)
            for name, cells in outcome["cells"].items()
        }


def _choice(stage: Path) -> Choice:
    from brodmann.problems.cells import load_detector

    detector = load_detector(stage / "detector")
    return Choice(detector.radius, detector.threshold, 0.0)


def megavoxels_per_s(detector: Detector) -> float:
    """How fast heat is made within a block, of noise, by what this process may use.

    Of a block of about `BLOCK_VOXELS` voxels, read with its halo, on the second try.
    """
    ndim = len(detector.spacing)
    side = round(BLOCK_VOXELS ** (1 / ndim))
    shape = [-(-side // m) * m + 2 * h for m, h in zip(detector.multiple, detector.halo)]
    noise = keyed_rng(0, "speed").integers(0, 1000, (detector.channels, *shape), np.uint16)
    wanted = np.prod([n - 2 * h for n, h in zip(shape, detector.halo)])
    for _ in range(2):
        began = time.monotonic()
        detector.heat(noise, Intensity(500.0, 100.0), detector.halo)
        seconds = time.monotonic() - began
    return float(f"{wanted / 1e6 / seconds:.3g}")


def slug(name: str) -> str:
    """A row's name as that of a folder.

    >>> slug("U-Net, mask")
    'u-net-mask'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def open_cells(recipe: DetectorRecipe) -> Dataset:
    """The recipe's samples, each read once.

    Raises
    ------
    DataError
        If a sample has no table of points, or samples differ in dimensions.
    """
    params = dict(recipe.data)
    dataset = DATASETS[params.pop("kind")](**params)
    dataset = dataset.with_load(cache(dataset.__getitem__))
    for sample in dataset:
        if sample.points is None:
            raise DataError("a sample has no centres, not even an empty table", sample.name)
        if sample.image.ndim != dataset[0].image.ndim:
            raise DataError("samples differ in dimensions", sample.name, sample.image.axes)
    ndim = dataset[0].image.ndim
    for radius in recipe.radii:
        if len(radius) != ndim or min(radius) < 0:
            raise RecipeError(f"a peak window has {ndim} radii from 0", "radii", radius)
    return dataset


def random_cells(data: Dataset, seed: int) -> dict[str, np.ndarray]:
    """As many points as there are cells in each sample, anywhere in it."""
    found = {}
    for sample in data:
        rng = keyed_rng(seed, "random points", sample.name)
        shape = sample.image.spatial_shape
        found[sample.name] = rng.random((len(sample.points), len(shape))) * np.subtract(shape, 1)
    return found


def run_cells(
    recipe: CellRecipe,
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
) -> dict[str, Any]:
    """Run a recipe of cells, or what of it is not done yet.

    Parameters
    ----------
    recipe : CellRecipe
    folder : Path
        Gets `recipe.yaml`, for each row, seed and fold a folder with `detector/` and the heat of
        the brains that it never saw, and `result.json`, `table.md`, `cells.png` and `speed.png`.
    command : str
        What the table names as the command that made it.
    report : callable
        Called as (what, done, total, note).

    Returns
    -------
    dict
        What `result.json` holds: `rows` with mean and deviation over seeds, recipe, environment.

    Raises
    ------
    BrodmannError
        On bad input; what is finished stays and the next call goes on from it.
    """
    began = time.monotonic()
    folder = make_folder(folder)
    write_recipe(recipe, folder)
    data = open_cells(recipe)
    tolerances = dict.fromkeys(data.names, recipe.tolerance)
    trainer = Trainer(recipe, data, measure_brains(data), tolerances, dict(data.subjects), report)
    study = CellStudy(recipe, data, trainer, content_of(data), folder, report)
    found: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for row in recipe.chosen:
        found[row.name] = study.row(row)
        if row.net is not None and len(recipe.seeds) > 1:
            found[row.name + TOGETHER] = {recipe.seeds[0]: study.together(row)}
    found[RANDOM] = {seed: random_cells(data, seed) for seed in recipe.seeds}
    result = {
        **facts_of_run(recipe, command, began),
        **cell_table(recipe, data, found),
        "megavoxels_per_s": {
            row.name: _told(study._stage(row, recipe.seeds[0], 0)).get("megavoxels_per_s")
            for row in recipe.chosen
        },
        "choices": {
            row.name: [
                {"seed": seed, "fold": fold} | _told(study._stage(row, seed, fold))
                for seed in found[row.name]
                for fold in range(len(study.folds))
            ]
            for row in recipe.chosen
        },
        "folds": [test for _, test in study.folds],
        "intensities": {
            data.subjects[name]: {"level": one.level, "deviation": one.deviation}
            for name, one in sorted(trainer.intensities.items())
        },
        "data_hash": content_key(study.content),
    }
    write_json(folder / "result.json", result)
    write_text(folder / "table.md", markdown(result))
    from brodmann.pipeline.cells.study.picture import write_cell_picture
    from brodmann.report.cell_speed import speed_picture

    best = max(result["rows"], key=lambda row: row["mean"]["f1"] or 0.0)["name"]
    shown = next(iter(found[best].values()))
    write_cell_picture(folder / "cells.png", data, best, shown, recipe.tolerance)
    if any(result["megavoxels_per_s"].values()):  # an older version's work does not say
        speed_picture(result, folder / "speed.png")
    return result


def _told(stage: Path) -> dict[str, Any]:
    import json

    outcome = json.loads((stage / "stage.json").read_text(encoding="utf-8"))["outcome"]
    return {key: outcome[key] for key in outcome if key != "cells"}
