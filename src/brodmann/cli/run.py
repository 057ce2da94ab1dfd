"""`brodmann run`: an experiment from its recipe."""

from __future__ import annotations

from pathlib import Path

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

    command = shlex.join(["brodmann", *sys.argv[1:]])
    kind = recipe_kind(recipe)
    if kind == "neurons":
        extra = [f"seeds=[{seed}]"] if seed is not None else []
        extra += [f"train.workers={workers}"] if workers is not None else []
        _neurons(recipe, [*settings, *extra], out_dir, command, as_json)
    elif kind in ("cells", "cells-matrix"):
        extra = [f"seeds=[{seed}]"] if seed is not None else []
        extra += [f"train.workers={workers}"] if workers is not None else []
        of_kind = _cells if kind == "cells" else _matrix
        of_kind(recipe, [*settings, *extra], out_dir, command, as_json)
    elif kind == "candidates":
        extra = [f"seeds=[{seed}]"] if seed is not None else []
        extra += [f"train.workers={workers}"] if workers is not None else []
        _candidates(recipe, [*settings, *extra], out_dir, command, as_json)
    elif kind == "bench":
        if workers is not None:
            raise typer.BadParameter(
                "set methods.ROW.options.workers instead", param_hint="--workers"
            )
        extra = [f"seeds=[{seed}]"] if seed is not None else []
        _bench(recipe, [*settings, *extra], out_dir, command, as_json)
    elif kind == "study":
        extra = [f"seeds=[{seed}]"] if seed is not None else []
        extra += [f"base.train.workers={workers}"] if workers is not None else []
        _study(recipe, [*settings, *extra], out_dir, command, as_json)
    else:
        extra = [f"seed={seed}"] if seed is not None else []
        extra += [f"train.workers={workers}"] if workers is not None else []
        _single(recipe, [*settings, *extra], out_dir, command, as_json)


def _single(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.pipeline.recipe import load_recipe
    from brodmann.pipeline.run import run_recipe

    loaded = load_recipe(recipe, settings)
    folder = out_dir or Path("runs") / loaded.name
    with progress() as report:
        result = run_recipe(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        line(f"\n{result['title']}", "bold")
        if result["mean_dice"] is None:
            line("no region to score")
        else:
            line(f"mean Dice {result['mean_dice']:.3f}   mean IoU {result['mean_iou']:.3f}")
        for name, scores in result["baselines"].items():
            if scores["mean_dice"] is not None:
                line(f"  baseline {name}: mean Dice {scores['mean_dice']:.3f}", "dim")
        line(f"result  {folder / 'result.json'}")
        line(f"model   {folder / 'model'}")
        line(f"report  {folder / 'report' / 'report.html'}")

    emit(result, as_json, text)


def _neurons(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.pipeline.neurons.recipe import load_neuron_recipe
    from brodmann.pipeline.neurons.run import run_neurons

    loaded = load_neuron_recipe(recipe, settings)
    folder = out_dir or Path("runs") / loaded.name
    with progress() as report:
        result = run_neurons(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        from rich.table import Table
        from rich.text import Text

        from brodmann.report.neurons import MEASURES, membranes, spread

        line(f"\n{result['title']}", "bold")
        table = Table("post-processing", box=None, pad_edge=False)
        for title in MEASURES.values():
            table.add_column(title, justify="right")
        for row in (*result["rows"], *result["trivial"]):
            style = "bold" if row["name"] == result["best"] else ""
            style = style or ("dim" if row in result["trivial"] else "")
            table.add_row(
                Text(row["name"], style), *(Text(spread(row, key), style) for key in MEASURES)
            )
        console = out()
        console.width = max(console.width, WIDTH)
        console.print(table)
        if membranes(result):
            line(membranes(result))
        line(f"result  {folder / 'result.json'}, table.csv, table.md")
        line(f"models  {folder}/seed*/model")
        line(f"report  {folder / 'report' / 'report.html'}")

    emit(result, as_json, text)


def _cells(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.pipeline.cells.study.recipe import load_cell_recipe
    from brodmann.pipeline.cells.study.run import run_cells

    loaded = load_cell_recipe(recipe, settings)
    folder = out_dir or Path("runs") / loaded.name
    with progress() as report:
        result = run_cells(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        from rich.table import Table

        from brodmann.pipeline.cells.study.table import shown_rows

        line(f"\n{result['title']}", "bold")
        head, rows = shown_rows(result)
        table = Table(head[0], box=None, pad_edge=False)
        for title in head[1:]:
            table.add_column(title, justify="right")
        for row in rows:
            table.add_row(*row)
        console = out()
        console.width = max(console.width, WIDTH)
        console.print(table)
        line(f"table   {folder / 'table.md'}")
        line(f"picture {folder / 'cells.png'}")
        line(f"result  {folder / 'result.json'}")

    emit(result, as_json, text)


def _candidates(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.pipeline.candidates.study import load_candidate_recipe, run_candidates

    loaded = load_candidate_recipe(recipe, settings)
    folder = out_dir or Path("runs") / loaded.name
    with progress() as report:
        result = run_candidates(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        from rich.table import Table

        from brodmann.pipeline.candidates.study.table import shown_rows

        line(f"\n{result['title']}", "bold")
        head, rows = shown_rows(result)
        table = Table(head[0], box=None, pad_edge=False)
        for title in head[1:]:
            table.add_column(title, justify="right")
        for row in rows:
            table.add_row(*row)
        console = out()
        console.width = max(console.width, WIDTH)
        console.print(table)
        line(f"table      {folder / 'table.md'}")
        line(f"classifier {folder / 'classifier'}")
        line(f"result     {folder / 'result.json'}")

    emit(result, as_json, text)


def _matrix(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.pipeline.cells.study.matrix import run_matrix
    from brodmann.pipeline.cells.study.recipe import load_matrix_recipe

    loaded = load_matrix_recipe(recipe, settings)
    folder = out_dir or Path("runs") / loaded.name
    with progress() as report:
        result = run_matrix(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        from rich.table import Table

        line(f"\n{result['title']}", "bold")
        table = Table("F1 of", box=None, pad_edge=False)
        for model in result["models"]:
            table.add_column(model, justify="right")
        for marker, row in result["totals"].items():
            shown = [row[model]["mean"] for model in result["models"]]
            table.add_row(marker, *("–" if mean is None else f"{mean:.3f}" for mean in shown))
        console = out()
        console.width = max(console.width, WIDTH)
        console.print(table)
        line(f"table   {folder / 'table.md'}")
        line(f"picture {folder / 'matrix.png'}")
        line(f"result  {folder / 'result.json'}")

    emit(result, as_json, text)


def _study(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.pipeline.study import load_study, run_study

    study, recipes = load_study(recipe, settings)
    folder = out_dir or Path("runs") / study.name
    with progress() as report:
        result = run_study(study, recipes, folder, command=command, report=report)

    def text(result: dict) -> None:
        from rich.table import Table
        from rich.text import Text

        from brodmann.report.study import TITLES, best_of, images, spread

        keys, best = result["columns"], best_of(result)
        line(f"\n{result['title']}", "bold")
        table = Table("method", box=None, pad_edge=False)
        for title in (*(TITLES[key] for key in keys), "n", "steps x batch", "real + made"):
            table.add_column(title, justify="right")
        for row in result["rows"]:
            cells = [
                Text(
                    spread({"mean": row["mean"][key], "std": row["std"][key]}),
                    "bold" if best[key] == row["name"] else "",
                )
                for key in keys
            ]
            work = f"{row['steps']} x {row['batch']}"
            table.add_row(Text(row["name"]), *cells, str(row["n"]), work, images(row))
        console = out()
        console.width = max(console.width, WIDTH)
        console.print(table)
        for warning in result["warnings"]:
            line(warning, "dim")
        line(f"page    {folder / 'table.html'}")
        line(f"table   {folder / 'table.csv'}, table.md")
        line(f"result  {folder / 'result.json'}")

    emit(result, as_json, text)


def _bench(
    recipe: str, settings: list[str], out_dir: Path | None, command: str, as_json: bool
) -> None:
    from brodmann.bench.recipe import load_bench_recipe
    from brodmann.bench.study import run_bench

    loaded = load_bench_recipe(recipe, settings)
    folder = out_dir or Path("runs") / loaded.name
    with progress() as report:
        result = run_bench(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        from brodmann.bench.board import boards, read_results
        from brodmann.bench.tasks import benchmarks
        from brodmann.cli.bench import show_board

        line(f"\n{result['title']}", "bold")
        for board in boards(read_results([folder / "results"]), benchmarks(loaded.benchmarks)):
            show_board(board.brief())
        line(f"page    {folder / 'report.html'}")
        line(f"table   {folder / 'table.csv'}, table.md")
        line(f"results {folder / 'results'}")

    emit(result, as_json, text)


def line(words: str, style: str | None = None) -> None:
    """One line for people, as it stands."""
    out().print(words, style=style, markup=False, soft_wrap=True)
