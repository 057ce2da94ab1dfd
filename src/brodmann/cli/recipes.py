"""`brodmann recipes`: what can be run."""

from __future__ import annotations

import typer

from brodmann.cli.common import JSON_HELP, emit, out


def recipes(
    show: str = typer.Argument(None, help="Print this recipe's YAML, to copy and change."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List the recipes, or print one.

    Example: brodmann recipes demo > mine.yaml
    """
    from brodmann.pipeline.recipe import recipe_names, recipe_text

    if show is not None:
        text, _ = recipe_text(show)
        emit({"name": show, "yaml": text}, as_json, lambda _: print(text, end=""))
        return
    rows = []
    for name in recipe_names():
        import yaml

        tree = yaml.safe_load(recipe_text(name)[0])
        rows.append({"name": name, "title": tree.get("title", ""), "data": tree["data"]["kind"]})

    def text_rows(rows: list[dict]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table("recipe", "data", "what it does", box=None, pad_edge=False)
        for row in rows:
            name, data, title = (Text(str(row[key])) for key in ("name", "data", "title"))
            name.stylize("bold")
            table.add_row(name, data, title)
        out().print(table)
        out().print("\nRun one:  brodmann run NAME --out DIR", style="dim")

    emit(rows, as_json, text_rows)
