"""`brodmann recipes`: what can be run."""

from __future__ import annotations

from typing import Any

import typer

from brodmann.cli.common import JSON_HELP, emit, out

KINDS = {
    "recipe": "one run",
    "neurons": "affinities, segments, scores; once for each seed",
    "cells": "detectors compared on brains left out",
    "candidates": "cells told from other candidates",
    "study": "a table of runs",
    "bench": "methods on benchmark tasks",
}


def recipes(
    show: str = typer.Argument(None, help="Print this recipe's YAML, to copy and change."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List the recipes and studies, or print one.

    Example: brodmann recipes demo > mine.yaml
    """
    from brodmann.pipeline.recipe import recipe_names, recipe_text

    if show is not None:
        text, _ = recipe_text(show)
        emit({"name": show, "yaml": text}, as_json, lambda _: print(text, end=""))
        return
    rows = [_row(name) for name in recipe_names()]

    def text_rows(rows: list[dict]) -> None:
        for kind, what in KINDS.items():
            _print([row for row in rows if row["kind"] == kind], kind, what)
        out().print("\nRun one:  brodmann run NAME --out DIR", style="dim")

    emit(rows, as_json, text_rows)


def _row(name: str) -> dict[str, Any]:
    import yaml

    from brodmann.pipeline.recipe import recipe_kind, recipe_text

    tree = yaml.safe_load(recipe_text(name)[0])
    kind = recipe_kind(name)
    study = kind == "study"
    base = tree.get("base") if study else tree
    if isinstance(base, str):
        base = yaml.safe_load(recipe_text(base)[0])
    row = {"name": name, "kind": kind, "title": tree.get("title", "")}
    if kind == "bench":
        row["data"] = ", ".join(dict.fromkeys(task.split("/")[0] for task in tree["tasks"]))
        row["rows"] = list(tree["methods"])
        return row
    row["data"] = base["data"]["kind"] if "data" in base else "crops"
    if study:
        row["rows"] = [one["name"] for one in tree["rows"]]
    return row


def _print(rows: list[dict], kind: str, what: str) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(f"{kind}: {what}", "data", "what it does", box=None, pad_edge=False)
    for row in rows:
        name, data, title = (Text(str(row[key])) for key in ("name", "data", "title"))
        name.stylize("bold")
        table.add_row(name, data, title)
    out().print(table)
    out().print()
