"""The score stage: every number of a run from contingency matrices and surfaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from brodmann.core import Dataset, LabelMap, Sample, Volume
from brodmann.io import read_volume
from brodmann.metrics import confusions, overlap, roll_up, surfaces
from brodmann.pipeline.model import Model
from brodmann.pipeline.recipe import Recipe, ScoreSection
from brodmann.preprocess import PRIOR
from brodmann.problems.base import PROBLEMS
from brodmann.problems.semantic.copying import copied_labels, prior_labels

Predict = Callable[[Sample], Volume]


def score_run(
    recipe: Recipe,
    model: Model,
    train: Dataset,
    test: Dataset,
    predicted: Path,
    report: Callable[[str, int, int, str], None],
) -> dict[str, Any]:
    """Score the label images of a folder against a test set.

    Returns
    -------
    dict
        `pooled`, `primary`, `per_image`, `confusions`, `surface`, `baselines` and `folds`
        (each fold's own scores with mean and deviation), as plain data.
    """
    label_map, section = model.label_map, recipe.score
    problem = PROBLEMS[recipe.problem](label_map, model.plan)

    def from_folder(folder: Path) -> Predict:
        return lambda sample: read_volume(folder / f"{sample.name}.tif", spacing="unit")

    def count(what: str, predict: Predict) -> list[np.ndarray]:
        tables = []
        for done, name in enumerate(test.names, start=1):
            sample = test[name]
            tables.append(problem.score(predict(sample), sample))
            report(what, done, len(test), "")
        return tables

    tables = count("score", from_folder(predicted))
    pooled = sum(tables)
    coarse_table, coarse = roll_up(pooled, label_map)
    rivals = {"copy": copied_labels(train, label_map.ignore)}
    if any(name.startswith(PRIOR) for name in model.channels):
        rivals["propagate"] = prior_labels(label_map)
    baselines = {
        name: _means(sum(count(f"score {name}", rival)), label_map, section.exclude)
        for name, rival in rivals.items()
    }
    folds = sorted(p for p in predicted.glob("fold*") if p.is_dir())
    return {
        "pooled": _scores(pooled, label_map, section.exclude),
        "primary": _scores(coarse_table, coarse, ())
        if len(coarse.classes) < len(label_map.classes)
        else {},
        "per_image": [
            {"name": name, **overlap(table, label_map, exclude=section.exclude).mean}
            for name, table in zip(test.names, tables)
        ],
        "confusions": confusions(pooled, label_map, section.neighbours),
        "surface": _surface(section, label_map, test, predicted, report) if section.surface else {},
        "baselines": baselines,
        "folds": _folds(
            {f.name: sum(count(f"score {f.name}", from_folder(f))) for f in folds},
            label_map,
            section.exclude,
        ),
    }


def _means(table: np.ndarray, label_map: LabelMap, exclude: Iterable[str]) -> dict[str, Any]:
    return dict(overlap(table, label_map, exclude=exclude).mean)


def _scores(table: np.ndarray, label_map: LabelMap, exclude: Iterable[str]) -> dict[str, Any]:
    found = overlap(table, label_map, exclude=exclude)
    return {**found.mean, "per_class": found.rows()}


def _folds(
    tables: dict[str, np.ndarray], label_map: LabelMap, exclude: list[str]
) -> dict[str, Any]:
    """Every fold's model by itself, as PRMix's Table 1 counts, and mean and deviation."""
    if not tables:
        return {}
    each = {name: _means(table, label_map, exclude) for name, table in tables.items()}
    keys = next(iter(each.values())).keys()
    columns = {key: [scores[key] for scores in each.values()] for key in keys}
    known = {key: values for key, values in columns.items() if None not in values}
    return {
        "each": each,
        "mean": {key: mean(values) for key, values in known.items()},
        "std": {key: stdev(values) if len(values) > 1 else 0.0 for key, values in known.items()},
    }


def _surface(
    section: ScoreSection,
    label_map: LabelMap,
    test: Dataset,
    predicted: Path,
    report: Callable[[str, int, int, str], None],
) -> dict[str, Any]:
    """Surface distances of every region, averaged over the images that hold it."""
    from brodmann.metrics.surface import summary

    found: dict[int, list] = {}
    tolerance_um = None
    for done, name in enumerate(test.names, start=1):
        sample = test[name]
        spacing = sample.labels.spacing
        tolerance_um = 2 * max(spacing) if section.tolerance_um is None else section.tolerance_um
        answer = read_volume(predicted / f"{name}.tif", spacing="unit")
        per_class = surfaces(
            label_map.to_classes(sample.labels.numpy(), name),
            label_map.to_classes(answer.numpy(), name),
            label_map.num_classes,
            spacing,
            tolerance_um=tolerance_um,
        )
        for class_, surface in per_class.items():
            found.setdefault(class_, []).append(surface)
        report("score surfaces", done, len(test), "")
    rows = [
        {"id": label_map.classes[class_ - 1], **summary(some)}
        for class_, some in sorted(found.items())
        if class_ > 0
    ]
    everything = [surface for some in found.values() for surface in some]
    return {"tolerance_um": tolerance_um, "mean": summary(everything), "per_class": rows}
