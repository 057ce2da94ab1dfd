"""A table from start to end: every row with every seed, then boards and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.bench.board import boards
from brodmann.bench.data import open_parts
from brodmann.bench.recipe import BenchRecipe
from brodmann.bench.records import Task
from brodmann.bench.results import Result
from brodmann.bench.run import make_method, run_task, work_folder
from brodmann.bench.tasks import Benchmark, benchmarks, find_task
from brodmann.core import Dataset
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.pipeline.counting import Report

MOST_POINTS = 1500
"""Drawn in a picture of representations."""
EXAMPLES = 6


def run_bench(
    recipe: BenchRecipe,
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
    pages: bool = True,
) -> dict[str, Any]:
    """Run a table, or what of it is not done yet.

    Parameters
    ----------
    recipe : BenchRecipe
    folder : Path
        Gets `recipe.yaml`; `results/` with one JSON for each task, row and seed; `table.md`,
        `table.csv`, `result.json` and `report.html`.
    command : str
        What the page shows as the command that made it.
    report : callable
        Called as (what, done, total, note).
    pages : bool
        Write the page.

    Returns
    -------
    dict
        What `result.json` holds: the recipe and the boards.

    Raises
    ------
    BrodmannError
        On bad input; finished results stay, and the next call goes on from them.
    """
    import yaml

    folder = make_folder(folder)
    write_text(
        folder / "recipe.yaml", yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True)
    )
    known = benchmarks(recipe.benchmarks)
    results: list[Result] = []
    for id_ in recipe.tasks:
        _, task = find_task(id_, recipe.benchmarks)
        for name, row in recipe.chosen.items():
            for seed in recipe.seeds or task.seeds:

                def tell(
                    what: str, done: int, total: int, note: str,
                    place: str = f"{task.name} {name} seed {seed}",
                ) -> None:  # fmt: skip
                    report(f"{place}: {what}", done, total, note)

                results.append(
                    run_task(
                        id_, row.method, row.options, seed, folder / "results", tell,
                        recipe.data, row=name, extra=recipe.benchmarks,
                    )
                )  # fmt: skip
    tables = boards(results, known)
    write_text(folder / "table.md", "\n".join(table.to_markdown() for table in tables))
    write_text(folder / "table.csv", "\n".join(table.to_csv() for table in tables))
    result = {
        "name": recipe.name,
        "title": recipe.title or recipe.name,
        "boards": [table.to_dict() for table in tables],
        "notes": recipe.notes,
        "recipe": recipe.dump(),
        "command": command,
    }
    write_json(folder / "result.json", result)
    if pages:
        from brodmann.report.bench import Extras
        from brodmann.report.bench_results import report_results

        extras = Extras(
            embeddings=_embeddings(recipe, results, known, folder), patches=_examples(recipe)
        )
        report_results(
            folder, results, known,
            extras=extras, title=recipe.title or recipe.name, description=recipe.description,
            command=command, notes=recipe.notes,
        )  # fmt: skip
    return result


def _examples(recipe: BenchRecipe) -> dict[str, list[Any]]:
    """A few training images of every category of the first task that has such."""
    for id_ in recipe.tasks:
        _, task = find_task(id_, recipe.benchmarks)
        if task.answer != "category":
            continue
        train = open_parts(task, task.splits[0], recipe.data)["train"]
        found: dict[str, list[Any]] = {name: [] for name in task.categories}
        for sample in _spread_out(train, len(task.categories) * EXAMPLES * 4):
            if sample.category in found and len(found[sample.category]) < EXAMPLES:
                found[sample.category].append(sample.image)
        return {name: images for name, images in found.items() if images}
    return {}


def _spread_out(data: Dataset, most: int) -> Dataset:
    places = np.unique(np.linspace(0, len(data) - 1, min(most, len(data))).astype(int))
    return data.subset([data.names[place] for place in places])


def _embeddings(
    recipe: BenchRecipe,
    results: Sequence[Result],
    known: Mapping[str, Benchmark],
    folder: Path,
) -> list[Any]:
    """What the best encoder of each task learned, in a plane; of its first seed and split."""
    from brodmann.report.bench import Picture
    from brodmann.report.embeddings import embedding_figure, project

    pictures: list[Any] = []
    if recipe.embeddings == "none":
        return pictures
    for id_ in recipe.tasks:
        _, task = find_task(id_, recipe.benchmarks)
        best = _best_encoder(task, recipe, results)
        if best is None:
            continue
        split = task.splits[0]
        method = make_method(best.configuration["method"], best.configuration["options"])
        method.load(work_folder(folder / "results", task, best.method, best.seed) / split.name)
        parts = open_parts(task, split, recipe.data)
        drawn = {part: _spread_out(parts[part], MOST_POINTS // 2) for part in ("train", "test")}
        samples = [sample for data in drawn.values() for sample in data]
        features = np.concatenate([method.features(data) for data in drawn.values()])
        # As the readout sees them: a few numbers of large scale would hide the others.
        features = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
        attributes = {
            name: [sample.attributes[name] for sample in samples] for name in task.attributes
        }
        path = make_folder(folder / "pictures") / f"{task.name}-{task.version}.png"
        embedding_figure(
            project(features, recipe.embeddings), path,
            categories=[sample.category or "" for sample in samples],
            attributes=attributes,
            parts=[part for part, data in drawn.items() for _ in range(len(data))],
            title=best.method,
            lead=f"{len(samples)} images of {task.id}",
        )  # fmt: skip
        pictures.append(
            Picture(
                f"{best.method}, seed {best.seed}",
                f"Representations of {len(samples)} images of {task.id}, split {split.name}, in two "
                f"dimensions by {recipe.embeddings.upper()}; dark rims are images of the test.",
                path,
            )
        )
    return pictures


def _best_encoder(task: Task, recipe: BenchRecipe, results: Sequence[Result]) -> Result | None:
    """The first seed of the row with the best mean main score among those that keep an encoder."""
    scores: dict[str, list[float]] = {}
    first: dict[str, Result] = {}
    for result in results:
        if result.task != task.id or recipe.methods[result.method].method not in ENCODERS:
            continue
        value = result.scores.get(task.main)
        if value is not None:
            scores.setdefault(result.method, []).append(value)
            first.setdefault(result.method, result)
    if not scores:
        return None
    return first[max(scores, key=lambda name: float(np.mean(scores[name])))]


ENCODERS = ("byol", "myow", "myow-m", "supervised", "mixup")
"""Methods that keep their encoder as files."""
