"""A study of cell detectors: train and tune on some brains, find and score in the others."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError, key_seed, keyed_rng
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.datasets.registry import DATASETS
from brodmann.datasets.splits import grouped_folds
from brodmann.pipeline.cells.study.recipe import CellRecipe, CellRow
from brodmann.pipeline.cells.study.table import RANDOM, cell_table, markdown
from brodmann.pipeline.counting import Report
from brodmann.pipeline.environment import commit, peak_memory_mb, versions
from brodmann.pipeline.model import seeded_net
from brodmann.pipeline.stages import Stages, content_key
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import (
    Detector,
    Intensity,
    LaplacianOfGaussian,
    NetDetector,
    heat_of,
    measure_intensity,
)
from brodmann.problems.cells.batches import CellBatches, CellCase
from brodmann.problems.cells.net_detector import build_net
from brodmann.problems.cells.problem import Cells
from brodmann.problems.cells.tuning import Choice, choose

TOGETHER = ", seeds together"
"""Ends the name of a row whose heat is the mean over the seeds of another."""


@dataclass
class CellStudy:
    """A recipe, its samples in memory, and the folder where finished work is kept."""

    recipe: CellRecipe
    data: Dataset
    intensities: dict[str, Intensity]
    content: str
    folder: Path
    report: Report
    kept: dict[Any, np.ndarray] = field(default_factory=dict)

    @property
    def folds(self) -> list[tuple[list[str], list[str]]]:
        """Names that train and names that test."""
        count = self.recipe.folds or len(set(self.data.subjects.values()))
        return grouped_folds(self.data, count)

    def truth(self, name: str) -> np.ndarray:
        """Centres of a sample."""
        return self.data[name].points.coordinates

    def row(self, row: CellRow) -> dict[int, dict[str, np.ndarray]]:
        """Seed -> sample -> (n, d) cells found in it by detectors that never saw its brain."""
        self.kept.clear()
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
        recipe, (train, test) = self.recipe, self.folds[fold]
        contrast, target, turns, schedule = recipe.settings(row)
        depends = {
            "data": self.content,
            "train": train,
            "seed": seed if row.net else None,
            "row": row.model_dump(exclude={"contrast", "target", "augmentation", "train"}),
            "settings": [contrast.model_dump(), target.model_dump(), turns.model_dump()],
            "schedule": schedule.model_dump(exclude={"workers", "checkpoint_every"}),
            "radii": recipe.radii,
            "tolerance": recipe.tolerance,
            "choose_by": row.choose_by or recipe.choose_by,
        }
        path = self._stage(row, seed, fold)

        def work(stage: Path) -> dict[str, Any]:
            began = time.monotonic()
            note = f"{row.name}: seed {seed}, fold {fold + 1}"
            if row.net is not None:
                detector, choice = self._net(row, seed, train, stage, note)
            else:
                detector, choice = self._log(row, train, note)
            trained = round(time.monotonic() - began, 1)
            detector.save(stage / "detector")
            cells = {}
            for done, name in enumerate(test, 1):
                heat = heat_of(detector, self.data[name].image, self._intensity(name))
                np.save(stage / f"{name}.npy", heat, allow_pickle=False)
                cells[name] = find_maxima(heat, choice.radius, choice.threshold)[0].tolist()
                self.report(f"{note}: find", done, len(test), "")
            return {
                "cells": cells,
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

    def _intensity(self, name: str) -> Intensity:
        return self.intensities[self.data.subjects[name]]

    def _choose(self, row: CellRow, detector: Detector, train: list[str], lowest: float) -> Choice:
        """Settings by the training samples, whose borders are mirrored by the filters' own way."""
        return choose(
            [self._heat(detector, name) for name in train],
            [self.truth(name) for name in train],
            [self.data.subjects[name] for name in train],
            self.recipe.radii,
            self.recipe.tolerance,
            row.choose_by or self.recipe.choose_by,
            lowest,
        )

    def _heat(self, detector: Detector, name: str) -> np.ndarray:
        """Without margins; a Laplacian of Gaussian's serves every fold that trains on it."""
        key = None
        if isinstance(detector, LaplacianOfGaussian):
            key = (name, detector.sigma_um, detector.contrast)
        if key in self.kept:
            return self.kept[key]
        heat = detector.heat(self.data[name].image.read(), self._intensity(name))
        if key is not None:
            self.kept[key] = heat
        return heat

    def _log(self, row: CellRow, train: list[str], note: str) -> tuple[Detector, Choice]:
        contrast = self.recipe.settings(row)[0].made(compress=False, blobs_um=())
        image, best = self.data[0].image, None
        for done, sigma in enumerate(row.sigmas_um, 1):
            tried = LaplacianOfGaussian(
                image.spacing,
                tuple(sigma),
                tuple(self.recipe.radii[0]),
                0.0,
                contrast,
                row.name,
                image.num_channels,
            )
            choice = self._choose(row, tried, train, 0.0)
            if best is None or choice.f1 > best[1].f1:
                tried.radius, tried.threshold = choice.radius, choice.threshold
                best = tried, choice
            self.report(f"{note}: scales", done, len(row.sigmas_um), f"F1 {choice.f1:.3f}")
        assert best is not None
        return best

    def _net(
        self, row: CellRow, seed: int, train: list[str], stage: Path, note: str
    ) -> tuple[Detector, Choice]:
        from brodmann.problems.learner import Schedule, fit

        contrast, target, turns, section = self.recipe.settings(row)
        look, aim = contrast.made(), target.made()
        cases = [
            CellCase.of(self.data[name], look, self._intensity(name), aim, section.crop)
            for name in train
        ]
        image = self.data[0].image
        options = row.net.made()
        inputs = look.channels(image.num_channels)
        net = seeded_net(key_seed(seed, "net"), lambda: build_net(options, inputs))
        fields = Schedule.__dataclass_fields__
        schedule = Schedule(**{k: v for k, v in section.model_dump().items() if k in fields})
        net, _ = fit(
            net,
            Cells(None, None, aim, section.gamma),
            CellBatches(
                cases,
                section.crop,
                section.batch,
                turns.made(),
                seed,
                centred=section.centred,
                overlays=section.overlays,
            ),
            schedule,
            seed,
            stage,
            workers=section.workers,
            on_step=lambda done, loss: self.report(note, done, section.steps, f"loss {loss:.3f}"),
        )
        axes = "zyx"[-image.ndim :]
        detector = NetDetector(
            [net],
            options,
            image.spacing,
            tuple(self.recipe.radii[0]),
            0.0,
            look,
            image.num_channels,
            tuple(axes.index(axis) for axis in row.mirror),
            row.name,
            {
                "data": self.data.name,
                "brains": ", ".join(sorted({self.data.subjects[n] for n in train})),
                "licence of the data": self.data.licence or "not stated",
                "steps": section.steps,
                "seed": seed,
            },
        )
        choice = self._choose(row, detector, train, 0.02)
        detector.radius, detector.threshold = choice.radius, choice.threshold
        return detector, choice


def _choice(stage: Path) -> Choice:
    from brodmann.problems.cells import load_detector

    detector = load_detector(stage / "detector")
    return Choice(detector.radius, detector.threshold, 0.0)


def slug(name: str) -> str:
    """A row's name as that of a folder.

    >>> slug("U-Net, mask")
    'u-net-mask'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def open_cells(recipe: CellRecipe) -> Dataset:
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


def content_of(data: Dataset) -> str:
    """A hash of all voxels, masks and centres."""
    digest = blake2b(digest_size=16)
    for sample in data:
        digest.update(repr((sample.name, sample.subject, sample.image.spacing)).encode())
        digest.update(np.ascontiguousarray(sample.image.numpy()))
        digest.update(np.ascontiguousarray(sample.points.coordinates))
        if sample.labels is not None:
            digest.update(np.ascontiguousarray(sample.labels.numpy()))
    return digest.hexdigest()


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
        the brains that it never saw, and `result.json`, `table.md` and `cells.png`.
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
    import yaml

    began = time.monotonic()
    folder = make_folder(folder)
    write_text(
        folder / "recipe.yaml", yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True)
    )
    data = open_cells(recipe)
    subjects = sorted(set(data.subjects.values()))
    intensities = {
        subject: measure_intensity([s.image for s in data if s.subject == subject])
        for subject in subjects
    }
    study = CellStudy(recipe, data, intensities, content_of(data), folder, report)
    found: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for row in recipe.chosen:
        found[row.name] = study.row(row)
        if row.net is not None and len(recipe.seeds) > 1:
            found[row.name + TOGETHER] = {recipe.seeds[0]: study.together(row)}
    found[RANDOM] = {seed: random_cells(data, seed) for seed in recipe.seeds}
    result = {
        "name": recipe.name,
        "title": recipe.title or recipe.name,
        "problem": "cells",
        "seeds": recipe.seeds,
        **cell_table(recipe, data, found),
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
            subject: {"level": one.level, "deviation": one.deviation}
            for subject, one in intensities.items()
        },
        "notes": recipe.notes,
        "data_hash": content_key(study.content),
        "recipe": recipe.dump(),
        "command": command,
        "commit": commit(),
        "environment": versions(),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }
    write_json(folder / "result.json", result)
    write_text(folder / "table.md", markdown(result))
    from brodmann.pipeline.cells.study.picture import write_cell_picture

    write_cell_picture(folder / "cells.png", data, found, recipe.tolerance)
    return result


def _told(stage: Path) -> dict[str, Any]:
    import json

    outcome = json.loads((stage / "stage.json").read_text(encoding="utf-8"))["outcome"]
    return {key: outcome[key] for key in outcome if key != "cells"}
