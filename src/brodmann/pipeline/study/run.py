"""A study's runs, one after the other, and its table after each."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from brodmann.core import RecipeError
from brodmann.core.files import make_folder, write_json
from brodmann.datasets.registry import DATASETS
from brodmann.pipeline.counting import Report
from brodmann.pipeline.environment import commit, peak_memory_mb, versions
from brodmann.pipeline.recipe import Recipe
from brodmann.pipeline.run import dataset_hash, run_recipe
from brodmann.pipeline.stages import MARK, content_key
from brodmann.pipeline.study.recipe import Row, Study, models_of
from brodmann.pipeline.study.table import Finished, make_table, units_of
from brodmann.report.study import write_study

WORDS = ("name", "title", "description", "notes")
"""Keys of a recipe that change no number."""
SCHEDULE = ("schedule", "synthetic_share")
"""Keys of its section that do not change what augmentation makes."""
WHOLE = ("data", "check", "augment", "prior", "train", "model", "predict", "score")


def run_study(
    study: Study,
    recipes: Mapping[str, Recipe],
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
) -> dict[str, Any]:
    """Run every row with every seed, or what of it is not done yet, and write the table.

    Parameters
    ----------
    study, recipes
        From `load_study`.
    folder : Path
        Holds `runs/ROW/seedN` (ordinary run folders) and `table.csv`, `table.md`,
        `table.html` and `result.json`, which are written anew after every run.
    command : str
        What the table shows as the command that made it.
    report : callable
        Called as (what, done, total, note), counting optimiser steps over all runs.

    Returns
    -------
    dict
        What `result.json` holds.

    Raises
    ------
    BrodmannError
        On bad input; finished runs stay and the next call goes on after them.
    """
    folder = make_folder(folder)
    units = _units(study, recipes)
    runs = [
        _Run(row, seed, recipes[row.name].model_copy(update={"seed": seed}), folder)
        for seed in study.seeds
        for row in study.chosen
    ]
    steps = [run.recipe.train.steps * models_of(run.recipe) for run in runs]
    donors = [donor for other in study.reuse for donor in _finished_under(Path(other))]
    data_hash = cache(dataset_hash)
    finished: list[Finished] = []
    result: dict[str, Any] = {}
    for number, run in enumerate(runs):
        kept = run.kept(study.pages, data_hash)
        if kept is None:
            run.borrow(donors)
            note = f"run {number + 1} of {len(runs)}: {run.row.name}, seed {run.seed}"
            found = run_recipe(
                run.recipe,
                run.folder,
                command=command,
                report=_steps(report, note, sum(steps[:number]), sum(steps)),
                pages=study.pages,
            )
            gc.collect()
        else:
            found = kept
        donors.append((found["recipe"], run.folder))
        finished.append(Finished(run.row.name, run.seed, found))
        if kept is None or number + 1 == len(runs):
            result = _write(study, finished, units, folder, command)
    report("study", sum(steps), sum(steps), f"{len(runs)} runs")
    return result


@dataclass(frozen=True)
class _Run:
    """One row with one seed."""

    row: Row
    seed: int
    recipe: Recipe
    study_folder: Path

    @property
    def folder(self) -> Path:
        return self.study_folder / "runs" / self.row.slug / f"seed{self.seed}"

    def kept(self, pages: bool, data_hash: Callable[[Path], str]) -> dict[str, Any] | None:
        """The result of this very run, if it is done and nothing has changed since."""
        result, data = _read_result(self.folder), self.recipe.data
        if (
            result is None
            or result["recipe"] != self.recipe.dump()
            or result["environment"]["brodmann"] != versions()["brodmann"]
            or (pages and not (self.folder / "report" / "report.html").exists())
        ):
            return None
        if data["kind"] == "folder" and data_hash(Path(data["path"])) != result["data_hash"]:
            return None
        return result

    def borrow(self, donors: list[tuple[dict[str, Any], Path]]) -> None:
        """Link the stages that a finished run has done for this one; their keys decide."""
        mine = self.recipe.dump()
        make_folder(self.folder)
        trained = (self.folder / "train").exists() or (self.folder / "model").exists()
        for theirs, donor in donors:
            same = all(theirs.get(key) == mine[key] for key in mine if key not in WORDS)
            for stage in WHOLE if same and not trained else _alike(mine, theirs):
                _link(donor / stage, self.folder / stage)


def _alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The first stages that two recipes would do alike."""

    def made(recipe: Mapping[str, Any]) -> list[Any]:
        augment = {k: v for k, v in recipe["augment"].items() if k not in SCHEDULE}
        return [augment, recipe["split"], recipe["seed"]]

    if mine["data"] != theirs["data"]:
        return []
    return ["data", "check", *(["augment"] if made(mine) == made(theirs) else [])]


def _link(source: Path, target: Path) -> None:
    """The same files under another folder, where they are all there; copies on a second disk.

    Sound because stages replace files or whole folders and never write into a file that stands.
    """
    if target.exists() or not ((source / MARK).exists() or source.name == "model"):
        return
    beside = target.with_name(f".{target.name}.linked")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside, copy_function=_link_file)
    beside.replace(target)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _finished_under(study_folder: Path) -> list[tuple[dict[str, Any], Path]]:
    """(recipe, folder) of the finished runs of a study."""
    folders = sorted(p.parent for p in study_folder.glob("runs/*/seed*/result.json"))
    if not folders:
        raise RecipeError("no finished runs", "reuse", study_folder, "name the folder of a study")
    results = [(_read_result(folder), folder) for folder in folders]
    return [(result["recipe"], folder) for result, folder in results if result is not None]


def _read_result(folder: Path) -> dict[str, Any] | None:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "recipe" in result else None


def _units(study: Study, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """Test image -> unit, of data that every row can be opened with."""
    if not study.tests.pairs():
        return {}
    units: dict[str, str] = {}
    for recipe in {content_key(r.data): r for r in recipes.values()}.values():
        options = {key: value for key, value in recipe.data.items() if key != "kind"}
        dataset = DATASETS[recipe.data["kind"]](**options)
        if not dataset.splits:
            raise RecipeError(
                "tests need the same test images in every run",
                dataset.name,
                "no splits",
                "name train and test samples under splits in dataset.yaml",
            )
        units |= units_of(study.tests, dataset.split(recipe.split.test))
    return units


def _steps(report: Report, run: str, before: int, total: int) -> Report:
    """Turns what one run tells into optimiser steps of the whole study."""
    trained: dict[str, int] = {}

    def tell(what: str, done: int, most: int, note: str) -> None:
        if what.startswith("train"):
            trained[what] = done
        steps = min(before + sum(trained.values()), total - 1)
        report("study", steps, total, f"{run}, {what} {done}/{most} {note}")

    return tell


def _write(
    study: Study,
    finished: list[Finished],
    units: Mapping[str, str],
    folder: Path,
    command: str,
) -> dict[str, Any]:
    result = {
        "name": study.name,
        "title": study.title or study.name,
        "description": study.description,
        "notes": study.notes,
        "columns": study.columns,
        "published_as": study.published_as,
        **make_table(study, finished, units),
        "study": study.dump(),
        "command": command,
        "commit": commit(),
        "environment": versions(),
        "seconds": round(sum(run.result["seconds"] for run in finished), 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }
    write_json(folder / "result.json", result)
    write_study(result, folder)
    return result
