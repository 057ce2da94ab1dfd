"""The numbers of a study's table, from the results of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, get_args

from brodmann.core import Dataset, RecipeError, nearest
from brodmann.metrics import significance
from brodmann.pipeline.study.recipe import ENOUGH, Column, Row, Significance, Span, Study

COLUMNS = get_args(Column)
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Finished:
    """A run that is done: its row's name, its seed, and what its result.json holds."""

    row: str
    seed: int
    result: dict[str, Any]

    def models(self) -> list[dict[str, Any]]:
        """Seed, fold (None without folds) and scores of every model that counts by itself."""
        each = self.result["folds"].get("each") or {None: self.result}
        return [{"seed": self.seed, "fold": fold, **_scores(each[fold])} for fold in each]

    def images(self) -> dict[str, Scores]:
        """Test image -> its scores; those of the folds' ensemble where there are folds."""
        return {row["name"]: _scores(row) for row in self.result["per_image"]}


def _scores(means: Mapping[str, Any]) -> Scores:
    return {key: means[f"mean_{key}"] for key in COLUMNS}


def units_of(tests: Significance, test: Dataset) -> dict[str, str]:
    """Test image -> the unit that it belongs to.

    Raises
    ------
    RecipeError
        If blocks name what is no test image, leave one out or name it twice, or if there are
        fewer than two units.
    """
    if tests.unit == "subject":
        units = {name: test.subjects[name] for name in test.names}
    elif tests.unit == "image":
        units = {name: name for name in test.names}
    else:
        units = {}
        for block, members in tests.blocks.items():
            for name in _members(block, members, test.names):
                if name in units:
                    raise RecipeError("an image is in two blocks", f"tests.blocks.{block}", name)
                units[name] = block
        left = [name for name in test.names if name not in units]
        if left:
            raise RecipeError("test images in no block", "tests.blocks", ", ".join(left[:5]))
    if len(set(units.values())) < 2:
        raise RecipeError(
            "a paired test needs two units or more",
            "tests.unit",
            f"{tests.unit}: {', '.join(set(units.values()))}",
            "test by image or by block, and say so in the notes",
        )
    return units


def _members(block: str, members: list[str] | Span, names: list[str]) -> list[str]:
    ends = [members.first, members.last] if isinstance(members, Span) else members
    for name in ends:
        if name not in names:
            raise RecipeError(
                "no such test image", f"tests.blocks.{block}", name, nearest(name, names)
            )
    if isinstance(members, Span):
        return names[names.index(members.first) : names.index(members.last) + 1]
    return members


def make_table(study: Study, runs: Sequence[Finished], units: Mapping[str, str]) -> dict[str, Any]:
    """The table as plain data.

    Parameters
    ----------
    study : Study
    runs : sequence of Finished
        In any order; rows without runs stand in the table without numbers.
    units : mapping
        Test image -> unit, see `units_of`; empty where nothing is tested.

    Returns
    -------
    dict
        `rows` (models, mean, std (n - 1; None for one model), published; scores from 0 to
        1, published ones too), `tests` (units, their scores, one entry for each comparison
        and column) and `warnings`.
    """
    total = len(study.chosen) * len(study.seeds)
    of_row = {row.name: [run for run in runs if run.row == row.name] for row in study.chosen}
    warnings = []
    if len(runs) < total:
        warnings.append(f"Partial: {len(runs)} of {total} runs are done.")
    rows = [_row(study, row, of_row[row.name]) for row in study.chosen]
    if len(runs) == total and min(row["n"] for row in rows) < ENOUGH:
        few = min(row["n"] for row in rows)
        warnings.append(
            f"{few} model{'s' * (few > 1)} of a row: fewer than three say nothing of chance."
        )
    if not study.matched and len({(row["steps"], row["batch"]) for row in rows}) > 1:
        warnings.append("Rows differ in optimiser steps x batch by design.")
    return {
        "partial": len(runs) < total,
        "runs": {"done": len(runs), "total": total},
        "rows": rows,
        "tests": _tests(study, of_row, units),
        "warnings": warnings,
    }


def _row(study: Study, row: Row, runs: Sequence[Finished]) -> dict[str, Any]:
    models = [model for run in sorted(runs, key=lambda r: r.seed) for model in run.models()]
    values = {key: _known(model[key] for model in models) for key in study.columns}
    first = runs[0].result if runs else {}
    return {
        "name": row.name,
        "n": len(models),
        "seeds": sorted(run.seed for run in runs),
        "steps": first.get("steps"),
        "batch": first["plan"]["batch"] if runs else None,
        "images_real": first.get("training_images"),
        "images_made": first.get("made_images"),
        "schedule": first.get("schedule"),
        "mean": {key: mean(some) if some else None for key, some in values.items()},
        "std": {key: stdev(some) if len(some) > 1 else None for key, some in values.items()},
        "models": models,
        "published": {key: _share(row.published[key]) for key in row.published},
        "seconds": round(sum(run.result["seconds"] for run in runs), 1),
    }


def _share(printed: float | tuple[float, float]) -> dict[str, float | None]:
    """A published value, in percent, as the table's own are: mean and deviation from 0 to 1."""
    value, deviation = printed if isinstance(printed, tuple) else (printed, None)
    return {
        "mean": round(value / 100, 6),
        "std": None if deviation is None else round(deviation / 100, 6),
    }


def _tests(
    study: Study, of_row: Mapping[str, Sequence[Finished]], units: Mapping[str, str]
) -> dict[str, Any]:
    tests = study.tests
    pairs = [pair for pair in tests.pairs() if set(pair) <= of_row.keys()]
    found = []
    for reference, method in pairs:
        seeds = {run.seed for run in of_row[reference]} & {run.seed for run in of_row[method]}
        if not seeds:
            continue
        theirs, ours = (
            _images([run for run in of_row[name] if run.seed in seeds], units)
            for name in (reference, method)
        )
        for column in study.columns:
            found.append(
                {"reference": reference, "method": method, "column": column, "seeds": sorted(seeds)}
                | _test(tests, ours[column], theirs[column], units)
            )
    averages = {
        name: {
            column: _by_unit(scores, units) for column, scores in _images(runs, units).items()
            if column in study.columns
        }
        for name, runs in of_row.items()
        if runs and units
    }  # fmt: skip
    return {
        "kind": tests.kind,
        "unit": tests.unit,
        "units": len(set(units.values())),
        "alternative": "greater",
        "comparisons": found,
        "unit_scores": averages,
    }


def _test(
    tests: Significance,
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    units: Mapping[str, str],
) -> dict[str, Any]:
    """One comparison in one column, on the images that both could score."""
    names = [name for name in units if name in ours and name in theirs]
    if tests.kind == "bootstrap":
        groups = [units[name] for name in names]
        if len(set(groups)) > 1:
            return significance.bootstrap(
                [ours[n] for n in names], [theirs[n] for n in names], groups=groups
            ).to_dict()
    else:
        a, b = (_by_unit({n: scores[n] for n in names}, units) for scores in (ours, theirs))
        if len(a) > 1:
            test = getattr(significance, tests.kind)
            return test(list(a.values()), list(b.values())).to_dict()
    note = "fewer than two units could be scored"
    return {"test": tests.kind, "pairs": len(names), "difference": None, "p": None, "note": note}


def _images(runs: Sequence[Finished], units: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Column -> test image -> score averaged over seeds; what a seed cannot score is left out.

    Raises
    ------
    RecipeError
        If a run's test images are not those that the units were made of.
    """
    columns: dict[str, dict[str, float]] = {}
    images = [run.images() for run in runs]
    for run, scored in zip(runs, images):
        other = sorted(units.keys() ^ scored.keys())
        if units and other:
            raise RecipeError(
                "the rows of a test must share their test images",
                f"{run.row}, seed {run.seed}",
                ", ".join(other[:5]),
                "name the test samples under splits in dataset.yaml",
            )
    for name in units:
        for column in images[0][name]:
            known = _known(scored[name][column] for scored in images)
            if len(known) == len(images):
                columns.setdefault(column, {})[name] = mean(known)
    return {column: columns.get(column, {}) for column in COLUMNS}


def _by_unit(scores: Mapping[str, float], units: Mapping[str, str]) -> dict[str, float]:
    gathered: dict[str, list[float]] = {}
    for name, value in scores.items():
        gathered.setdefault(units[name], []).append(value)
    return {unit: mean(some) for unit, some in gathered.items()}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
