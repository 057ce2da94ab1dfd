"""`brodmann bench`: tasks that prove themselves, methods run on them, and tables of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from brodmann.cli.common import JSON_HELP, emit, out, progress

WIDTH = 110
"""Of a table, in letters, at least."""
EXTRA = typer.Option(None, "--benchmarks", metavar="DIR", help="A folder with further benchmarks.")
ROOT = typer.Option(
    None, "--data", metavar="ROOT", help="Where the data lie.", show_default="$BRODMANN_DATA"
)

app = typer.Typer(help="Tasks with known faults, methods, and tables.", no_args_is_help=True)


@app.command("list")
def list_tasks(
    name: str = typer.Argument(None, help="A benchmark, or a task to tell all about."),
    extra: Path = EXTRA,
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List the tasks, or tell all about one: data, splits, counts, scores, faults.

    Example: brodmann bench list mtneuro/roi-c1@v1
    """
    from brodmann.bench.tasks import benchmarks, find_task

    known = benchmarks(extra)
    if name is not None and name not in known:
        bench, task = find_task(name, extra)
        emit(_told(bench, task), as_json, _show_task)
        return
    chosen = [known[name]] if name else list(known.values())
    result = [
        {
            "name": bench.name,
            "title": bench.title,
            "licence": bench.data.licence,
            "tasks": [
                {
                    "id": task.id,
                    "title": task.title,
                    "answer": task.answer,
                    "main": task.main,
                    "faults": len(task.faults),
                }
                for task in bench.tasks
            ],
        }
        for bench in chosen
    ]
    emit(result, as_json, _show_list)


@app.command("check")
def check(
    tasks: list[str] = typer.Argument(None, help="Tasks or benchmarks; all by default."),
    data: Path = ROOT,
    extra: Path = EXTRA,
    counts: bool = typer.Option(
        False, "--write-counts", help="Write counts.yaml anew with what is counted."
    ),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the random baseline."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Prove the splits, count the classes and ask the baselines; nothing is trained.

    An oracle below the maximum shows a broken task. Where a version lists the fault, its reason
    is printed; else the check fails, with exit code 1. What needs data that are not at hand
    stays open.

    Example: brodmann bench check mtneuro/roi-c1@v1
    """
    from brodmann.bench.check import check_task, write_counts

    chosen = _chosen(tasks, extra)
    options = _data_options(data)
    found: list[tuple[Any, Any]] = []
    with progress() as report:
        for number, (bench, task) in enumerate(chosen):
            one = check_task(bench, task, options, seed=seed, compare=not counts)
            found.append((bench, one))
            report("check", number + 1, len(chosen), task.id)
    written = []
    if counts:
        for bench in {bench.name: bench for bench, _ in found}.values():
            written.append(write_counts(bench, [one for of, one in found if of is bench]))
    result = {
        "checks": [one.to_dict() for _, one in found],
        "written": [str(path) for path in written],
    }
    emit(result, as_json, _show_checks)
    if any(one.state == "broken" for _, one in found):
        raise typer.Exit(1)


@app.command("run")
def run(
    task: str = typer.Argument(help="A task, such as slice309/regions-32px@v1."),
    method: str = typer.Argument(help="A method, such as constant, pca or byol."),
    data: Path = ROOT,
    seeds: list[int] = typer.Option(
        None, "--seed", min=0, help="May be given often.", show_default="the task's first"
    ),
    all_seeds: bool = typer.Option(False, "--all-seeds", help="Every seed of the task."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="K=V", help="An option of the method; may be given often."
    ),
    name: str = typer.Option(None, "--name", help="What tables call it.", show_default="METHOD"),
    folder: Path = typer.Option(Path("results"), "--out", help="Folder of result files."),
    again: bool = typer.Option(False, "--again", help="Run what is done already."),
    extra: Path = EXTRA,
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Fit a method on a task, score it, and write one result file for each seed.

    Example: brodmann bench run slice309/regions-32px pca --data ../shared/data --all-seeds
    """
    from brodmann.bench.run import run_task
    from brodmann.bench.tasks import find_task
    from brodmann.core import RecipeError
    from brodmann.pipeline.recipe import set_key

    _, found = find_task(task, extra)
    if all_seeds and seeds:
        raise RecipeError("give --seed or --all-seeds", fix="not both")
    options: dict[str, Any] = {}
    for setting in settings:
        set_key(options, setting)
    results = []
    with progress() as report:
        for seed in found.seeds if all_seeds else (seeds or found.seeds[:1]):
            results.append(
                run_task(
                    found.id,
                    method,
                    options,
                    seed,
                    folder,
                    report,
                    _data_options(data),
                    row=name,
                    again=again,
                    extra=extra,
                )
            )
    answer = [
        {
            "task": one.task,
            "method": one.method,
            "seed": one.seed,
            "scores": one.scores,
            "seconds": one.seconds,
            "file": str(folder / one.file_name),
        }
        for one in results
    ]

    def text(answer: list[dict[str, Any]]) -> None:
        for one in answer:
            value = one["scores"][found.main]
            shown = "no score" if value is None else f"{value:.4f}"
            line(f"{one['task']}  {one['method']}, seed {one['seed']}: {found.main} {shown}")
            line(f"result  {one['file']}")

    emit(answer, as_json, text)


@app.command("table")
def table(
    results: list[Path] = typer.Argument(help="Result files, or folders of them."),
    task: str = typer.Option(None, "--task", help="This one only."),
    form: str = typer.Option("text", "--format", help="text, markdown or csv."),
    classes: bool = typer.Option(
        False, "--classes", help="Scores of every class too (JSON and CSV always)."
    ),
    to: Path = typer.Option(None, "--out", help="Write into this file (.md, .csv or .json)."),
    extra: Path = EXTRA,
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Make the table of every task version that the results hold: mean and deviation over seeds.

    Scores are made anew from the evidence in the files. Published rows stand beside version 1.

    Example: brodmann bench table results --task slice309/regions-32px --format markdown
    """
    import json

    from brodmann.bench.board import boards, read_results
    from brodmann.bench.tasks import benchmarks, find_task
    from brodmann.core import DataError, RecipeError, nearest
    from brodmann.core.files import write_text

    forms = ("text", "markdown", "csv")
    if form not in forms:
        raise RecipeError("unknown format", "--format", repr(form), nearest(form, forms))
    found = read_results(results)
    if task is not None:
        id_ = find_task(task, extra)[1].id
        found = [one for one in found if one.task == id_]
        if not found:
            raise DataError("no result of this task", found=id_)
    made = boards(found, benchmarks(extra))
    texts = {
        "markdown": "\n".join((one if classes else one.brief()).to_markdown() for one in made),
        "csv": "\n".join(one.to_csv() for one in made),
        "json": json.dumps([one.to_dict() for one in made], indent=1, ensure_ascii=False) + "\n",
    }
    if to is not None:
        kinds = {".md": "markdown", ".csv": "csv", ".json": "json"}
        if to.suffix not in kinds:
            raise RecipeError("unknown kind of file", "--out", to, "end it in .md, .csv or .json")
        write_text(to, texts[kinds[to.suffix]])

    def text(_: Any) -> None:
        if form == "text":
            for one in made:
                show_board(one if classes else one.brief())
        else:
            print(texts[form], end="")
        if to is not None and form == "text":
            line(f"written  {to}")

    emit([one.to_dict() for one in made], as_json, text)


def line(words: str = "", style: str | None = None) -> None:
    """One line for people, as it stands."""
    out().print(words, style=style, markup=False, soft_wrap=True)


def _data_options(data: Path | None) -> dict[str, Any]:
    from brodmann.core import DataError
    from brodmann.pipeline.environment import data_folder

    if data is not None and not data.is_dir():
        raise DataError("no such folder", "--data", data)
    root = data if data is not None else data_folder()
    return {"root": root} if root is not None else {}


def _chosen(names: list[str] | None, extra: Path | None) -> list[tuple[Any, Any]]:
    from brodmann.bench.tasks import benchmarks, find_task

    known = benchmarks(extra)
    chosen: dict[str, tuple[Any, Any]] = {}
    for name in names or list(known):
        if name in known:
            chosen |= {task.id: (known[name], task) for task in known[name].tasks}
        elif "@" not in name and any(
            t.id.startswith(f"{name}@") for b in known.values() for t in b.tasks
        ):
            chosen |= {
                t.id: (b, t) for b in known.values() for t in b.tasks if t.id.startswith(f"{name}@")
            }
        else:
            bench, task = find_task(name, extra)
            chosen[task.id] = (bench, task)
    return list(chosen.values())


def _told(bench: Any, task: Any) -> dict[str, Any]:
    tree = task.model_dump(mode="json")
    return {
        "id": task.id,
        **tree,
        "licence": bench.data.licence,
        "citation": bench.data.citation,
        "published": {
            method: {key: list(pair) for key, pair in scores.items()}
            for method, scores in bench.published_rows(task).items()
        },
    }


def _show_list(result: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    for bench in result:
        line(f"{bench['title']} ({bench['licence']})", "bold")
        table = Table("task", "asks", "answer", "main score", "faults", box=None, pad_edge=False)
        table.columns[4].justify = "right"
        for task in bench["tasks"]:
            cells = (task["id"], task["title"], task["answer"], task["main"])
            table.add_row(*map(Text, cells), str(task["faults"] or ""))
        _wide(table)
        line()


def _show_task(task: dict[str, Any]) -> None:
    line(f"{task['title']} ({task['id']})", "bold")
    line(task["description"])
    line(f"answer   {task['answer']}: {', '.join(_classes(task))}")
    line(f"data     {', '.join(f'{k} {v}' for k, v in task['data'].items())} ({task['licence']})")
    for metric in task["metrics"]:
        main = ", the main score" if metric["name"] == task["main"] else ""
        line(f"score    {metric['name']} over {metric['aggregation']}, absent classes: "
             f"{metric['absent']}{main}")  # fmt: skip
    for split in task["splits"]:
        line(
            f"split    {split['name']}: gap {split['guard_slices']} slices, {split['guard_px']} px"
        )
        for part, counts in task["counts"].get(split["name"], {}).items():
            told = ", ".join(f"{name} {n:,}" for name, n in counts.items())
            line(f"         {part}: {sum(counts.values()):,} ({told})")
    line(f"seeds    {', '.join(map(str, task['seeds']))}")
    for fault in task["faults"]:
        line(f"fault    {fault}")
    if task["published"]:
        line(f"published  {', '.join(task['published'])}")


def _classes(task: dict[str, Any]) -> list[str]:
    return task["categories"] or task["labels"] or task["attributes"]


def _show_checks(result: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "capped": "yellow", "broken": "bold red", "open": "dim"}
    table = Table("task", "state", "from", box=None, pad_edge=False)
    for title in ("constant", "random", "oracle"):
        table.add_column(title, justify="right")
    table.add_column("splits")
    for one in result["checks"]:
        scores = [_main_of(one, name) for name in ("constant", "random", "oracle")]
        proofs = "; ".join(dict.fromkeys(one["splits"].values()))
        table.add_row(
            Text(one["task"]), Text(one["state"], styles[one["state"]]), Text(one["source"]),
            *scores, Text(proofs),
        )  # fmt: skip
    _wide(table)
    for one in result["checks"]:
        if one["reasons"]:
            line(
                f"\n{one['task']}: the oracle reaches {one['oracle']:.4g} of {one['maximum']:g}."
                " Faults of this version:"
            )
            for reason in one["reasons"]:
                line(f"- {reason}")
        for problem in one["problems"]:
            line(f"\n{one['task']}: {problem}", "bold red")
    missing = dict.fromkeys(one["missing"] for one in result["checks"] if one["missing"])
    for why in missing:
        line(f"\nnot at hand: {why}", "dim")
    for path in result["written"]:
        line(f"written  {path}")


def _main_of(check: dict[str, Any], name: str) -> str:
    value = check["main"].get(name)
    return "–" if value is None else f"{value:.3f}"


def show_board(board: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    line(f"{board.title} ({board.task})", "bold")
    table = Table(*board.head[:2], box=None, pad_edge=False)
    for title in board.head[2:]:
        table.add_column(title, justify="right", no_wrap=True)
    styles = {"baseline": "dim", "published": "italic"}
    for row, cells in zip(board.rows, board.cells()):
        table.add_row(*(Text(cell, styles.get(row.kind, "")) for cell in cells))
    _wide(table)
    for note in board.notes:
        line(f"- {note}", "dim")
    line()


def _wide(table: Any) -> None:
    console = out()
    console.width = max(console.width, WIDTH)
    console.print(table)
