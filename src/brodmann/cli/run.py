"""`brodmann run`: an experiment from its recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from brodmann.cli.common import JSON_HELP, emit, out, progress

WIDTH = 110
"""Of a study's table, in letters, at least."""


def run(
    recipe: str = typer.Argument(help="Name of a recipe (see `brodmann recipes`) or a YAML file."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="A.B=C", help="Change a key of the recipe; may be given often."
    ),
    out_dir: Path = typer.Option(None, "--out", help="Run folder.", show_default="runs/RECIPE"),
    seed: int = typer.Option(None, "--seed", min=0, help="The same as --set seed=N."),
    workers: int = typer.Option(
        None, "--workers", min=0, help="Processes that make batches; changes no byte."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Run a recipe: data, augment, train, predict, score, report. Or a study: a table of runs.

    What is done is kept: the same command goes on where it was stopped, and does again only
    what a change touches.

    Example: brodmann run demo --out runs/demo --set train.steps=300

    Your own: brodmann run sections --set data.path=my_sections --out runs/mine

    A benchmark's table: brodmann run slice309 --set data.root=DATA --set only=[byol,pca]

    A study: brodmann run prmix-table1-phantom --set base.train.steps=300 --out runs/table1
    """
    import shlex
    import sys

    from brodmann.pipeline.recipe import recipe_kind

    form = FORMS[recipe_kind(recipe)]
    if workers is not None and form.workers is None:
        raise typer.BadParameter("set methods.ROW.options.workers instead", param_hint="--workers")
    extra = [form.seed.format(seed)] if seed is not None else []
    extra += [str(form.workers).format(workers)] if workers is not None else []
    # A study is loaded with the recipes of its rows.
    loaded = _named(form.load)(recipe, [*settings, *extra])
    parts = loaded if isinstance(loaded, tuple) else (loaded,)
    folder = out_dir or Path("runs") / parts[0].name
    with progress() as report:
        result = _named(form.run)(
            *parts, folder, command=shlex.join(["brodmann", *sys.argv[1:]]), report=report
        )

    def text(result: dict[str, Any]) -> None:
        line(f"\n{result['title']}", "bold")
        form.show(result, folder)
        width = max(map(len, form.files))
        for word, names in form.files.items():
            line(f"{word:<{width}} {folder / names}")

    emit(result, as_json, text)


def _named(name: str) -> Any:
    """A function by module:name, imported when it is asked for."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _show_single(result: dict[str, Any], folder: Path) -> None:
    if result["mean_dice"] is None:
        line("no region to score")
    else:
        line(f"mean Dice {result['mean_dice']:.3f}   mean IoU {result['mean_iou']:.3f}")
    for name, scores in result["baselines"].items():
        if scores["mean_dice"] is not None:
            line(f"  baseline {name}: mean Dice {scores['mean_dice']:.3f}", "dim")


def _show_neurons(result: dict[str, Any], folder: Path) -> None:
    from rich.text import Text

    from brodmann.report.neurons import MEASURES, membranes, spread

    rows = []
    for row in (*result["rows"], *result["trivial"]):
        style = "bold" if row["name"] == result["best"] else ""
        style = style or ("dim" if row in result["trivial"] else "")
        rows.append(
            [Text(row["name"], style), *(Text(spread(row, key), style) for key in MEASURES)]
        )
    _table(["post-processing", *MEASURES.values()], rows)
    if membranes(result):
        line(membranes(result))


def _show_cells(result: dict[str, Any], folder: Path) -> None:
    from brodmann.pipeline.cells.study.table import shown_rows

    _table(*shown_rows(result))


def _show_candidates(result: dict[str, Any], folder: Path) -> None:
    from brodmann.pipeline.candidates.study.table import shown_rows

    _table(*shown_rows(result))


def _show_matrix(result: dict[str, Any], folder: Path) -> None:
    rows = []
    for marker, row in result["totals"].items():
        means = [row[model]["mean"] for model in result["models"]]
        rows.append([marker, *("–" if mean is None else f"{mean:.3f}" for mean in means)])
    _table(["F1 of", *result["models"]], rows)


def _show_study(result: dict[str, Any], folder: Path) -> None:
    from rich.text import Text

    from brodmann.report.study import TITLES, best_of, images, spread

    keys, best = result["columns"], best_of(result)
    rows = []
    for row in result["rows"]:
        cells = [
            Text(
                spread({"mean": row["mean"][key], "std": row["std"][key]}),
                "bold" if best[key] == row["name"] else "",
            )
            for key in keys
        ]
        work = f"{row['steps']} x {row['batch']}"
        rows.append([Text(row["name"]), *cells, str(row["n"]), work, images(row)])
    _table(
        ["method", *(TITLES[key] for key in keys), "n", "steps x batch", "real + made"],
        rows,
    )
    for warning in result["warnings"]:
        line(warning, "dim")


def _show_bench(result: dict[str, Any], folder: Path) -> None:
    from brodmann.bench.board import boards, read_results
    from brodmann.bench.tasks import benchmarks
    from brodmann.cli.bench import show_board

    own = result["recipe"]["benchmarks"]
    known = benchmarks(Path(own) if own else None)
    for board in boards(read_results([folder / "results"]), known):
        show_board(board.brief())


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.table import Table

    table = Table(head[0], box=None, pad_edge=False)
    for title in head[1:]:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*row)
    console = out()
    console.width = max(console.width, WIDTH)
    console.print(table)


@dataclass(frozen=True)
class Form:
    """A form of recipe: how it is loaded, run and shown, and the files that a run is told of."""

    load: str
    run: str
    show: Callable[[dict[str, Any], Path], None]
    files: dict[str, str]
    seed: str = "seeds=[{}]"
    workers: str | None = "train.workers={}"


CELLS, CANDIDATES = "brodmann.pipeline.cells.study", "brodmann.pipeline.candidates.study"
FORMS = {
    "recipe": Form(
        "brodmann.pipeline.recipe:load_recipe",
        "brodmann.pipeline.run:run_recipe",
        _show_single,
        {"result": "result.json", "model": "model", "report": "report/report.html"},
        seed="seed={}",
    ),
    "study": Form(
        "brodmann.pipeline.study:load_study",
        "brodmann.pipeline.study:run_study",
        _show_study,
        {"page": "table.html", "table": "table.csv, table.md", "result": "result.json"},
        workers="base.train.workers={}",
    ),
    "neurons": Form(
        "brodmann.pipeline.neurons.recipe:load_neuron_recipe",
        "brodmann.pipeline.neurons.run:run_neurons",
        _show_neurons,
        {
            "result": "result.json, table.csv, table.md",
            "models": "seed*/model",
            "report": "report/report.html",
        },
    ),
    "cells": Form(
        f"{CELLS}.recipe:load_cell_recipe",
        f"{CELLS}.run:run_cells",
        _show_cells,
        {"table": "table.md", "pictures": "cells.png, speed.png", "result": "result.json"},
    ),
    "cells-matrix": Form(
        f"{CELLS}.recipe:load_matrix_recipe",
        f"{CELLS}.matrix:run_matrix",
        _show_matrix,
        {"table": "table.md", "picture": "matrix.png", "result": "result.json"},
    ),
    "candidates": Form(
        f"{CANDIDATES}:load_candidate_recipe",
        f"{CANDIDATES}:run_candidates",
        _show_candidates,
        {"table": "table.md", "classifier": "classifier", "result": "result.json"},
    ),
    "bench": Form(
        "brodmann.bench.recipe:load_bench_recipe",
        "brodmann.bench.study:run_bench",
        _show_bench,
        {"page": "report.html", "table": "table.csv, table.md", "results": "results"},
        workers=None,
    ),
}


def line(words: str, style: str | None = None) -> None:
    """One line for people, as it stands."""
    out().print(words, style=style, markup=False, soft_wrap=True)
