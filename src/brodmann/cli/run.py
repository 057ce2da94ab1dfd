"""`brodmann run`: an experiment from its recipe."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, out, progress


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
    """Run a recipe: data, augment, train, predict, score, report.

    What is done is kept: the same command goes on where it was stopped, and does again only
    what a change touches.

    Example: brodmann run demo --out runs/demo --set train.steps=300

    Your own: brodmann run sections --set data.path=my_sections --out runs/mine
    """
    import shlex
    import sys

    from brodmann.pipeline.recipe import load_recipe
    from brodmann.pipeline.run import run_recipe

    extra = [f"seed={seed}"] if seed is not None else []
    extra += [f"train.workers={workers}"] if workers is not None else []
    loaded = load_recipe(recipe, [*settings, *extra])
    folder = out_dir or Path("runs") / loaded.name
    command = shlex.join(["brodmann", *sys.argv[1:]])
    with progress() as report:
        result = run_recipe(loaded, folder, command=command, report=report)

    def text(result: dict) -> None:
        console = out()

        def line(words: str, style: str | None = None) -> None:
            console.print(words, style=style, markup=False, soft_wrap=True)

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
