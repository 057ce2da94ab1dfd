"""`brodmann data show | check | convert | get`: look at, test, convert and fetch datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brodmann.cli.common import JSON_HELP, emit, out, progress
from brodmann.core import RecipeError

app = typer.Typer(help="Look at, check, convert and fetch datasets.", no_args_is_help=True)

LAYOUT_HELP = "folder, nnunet, coco or nifti; seen from the files unless given."
SPACING_HELP = "Micrometres where the files do not say, as 25,25 or 50,25,25 (z, y, x)."
SHOWN = 30


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="A dataset in any layout that convert reads.")],
    figure: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Draw pixels per region and which image holds which; for a dataset of cells, "
            "images with their points (.png, .pdf, .svg).",
        ),
    ] = None,
    layout: str = typer.Option(None, "--from", help=LAYOUT_HELP),
    spacing: str = typer.Option(None, help=SPACING_HELP),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Samples, sizes, channels, splits, animals, points, and pixels per region.

    Example: brodmann data show my_sections --out regions.png
    """
    from brodmann.datasets.convert import open_dataset
    from brodmann.datasets.convert.layouts import numbers
    from brodmann.datasets.statistics import describe, save_availability

    dataset = open_dataset(path, layout, numbers(spacing))
    with progress() as report:
        result = describe(dataset, report)
        if figure is not None and any(sample["points"] is not None for sample in result["samples"]):
            from brodmann.report.points_sheet import save_points

            result["figure"] = str(save_points(dataset, figure, report=report))
        elif figure is not None:
            result["figure"] = str(save_availability(result, figure))
    emit(result, as_json, _show)


def _show(result: dict) -> None:
    from rich.table import Table
    from rich.text import Text

    from brodmann.datasets.statistics import region_rows, summary_rows

    console = out()
    console.print(Text(result["name"], style="bold"), Text(result["description"]))
    for key, value in summary_rows(result):
        console.print(Text(f"{key:<10} "), Text(value), sep="")
    rows = region_rows(result)
    if rows:
        table = Table("", "region", "name", box=None, pad_edge=False)
        for column in ("pixels", "size", "images"):
            table.add_column(column, justify="right")
        for color, *cells in rows:
            table.add_row(Text("■", style=f"#{color}"), *(Text(cell) for cell in cells))
        console.print(table)
    counted = any(sample["points"] is not None for sample in result["samples"])
    columns = ["sample", "shape", "spacing um", "type", "split", "animal", "labels"]
    table = Table(*columns, *(["points"] if counted else []), box=None)
    for sample in result["samples"][:SHOWN]:
        cells = (
            sample["name"],
            f"{sample['axes']} " + " x ".join(map(str, sample["shape"])),
            " x ".join(f"{step:g}" for step in sample["spacing_um"]),
            sample["dtype"],
            sample["split"],
            sample["subject"],
            "yes" if sample["labelled"] else "-",
        )
        if counted:
            cells += ("-" if sample["points"] is None else f"{sample['points']:,}",)
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if len(result["samples"]) > SHOWN:
        console.print(f"... and {len(result['samples']) - SHOWN} more (--json lists all)")
    if "figure" in result:
        console.print(Text(f"figure     {result['figure']}"))


@app.command("check")
def check(
    path: Annotated[
        Path, typer.Argument(help="A dataset folder (dataset.yaml, images/, labels/, ...).")
    ],
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """List every fault of a dataset folder, with the file and what to do.

    Exits 2 if there are errors, 0 if there are only warnings or nothing.

    Example: brodmann data check my_sections
    """
    from brodmann.datasets.check import check as check_folder

    with progress() as report:
        findings = check_folder(path, report)
    errors = sum(finding.severity == "error" for finding in findings)
    result = {
        "path": str(path),
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [finding.as_dict() for finding in findings],
    }
    emit(result, as_json, _check)
    if errors:
        raise typer.Exit(2)


def _check(result: dict) -> None:
    from rich.text import Text

    console = out()
    for finding in result["findings"]:
        style = "bold red" if finding["severity"] == "error" else "bold yellow"
        line = Text.assemble((f"{finding['severity']:<8}", style), (finding["file"], "bold"))
        line.append(f"  {finding['what']}")
        if finding["found"]:
            line.append(f": {finding['found']}")
        if finding["fix"]:
            line.append(f"\n        → {finding['fix']}", style="dim")
        console.print(line, soft_wrap=True)
    counts = f"{result['errors']} errors, {result['warnings']} warnings"
    console.print(
        Text(
            f"{result['path']}: {counts}"
            if result["findings"]
            else f"{result['path']}: nothing wrong"
        )
    )


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="The dataset to read.")],
    target: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: str = typer.Option("folder", help="folder, nnunet, coco or nifti."),
    layout: str = typer.Option(None, "--from", help=LAYOUT_HELP),
    spacing: str = typer.Option(None, help=SPACING_HELP),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Write a dataset in another layout.

    Example: brodmann data convert nnUNet_raw/Dataset004_Hippocampus hippocampus --to folder
    """
    from brodmann.datasets.convert import convert as convert_dataset
    from brodmann.datasets.convert.layouts import numbers

    with progress() as report:
        result = convert_dataset(source, target, to, layout, numbers(spacing), report)
    emit(
        result,
        as_json,
        lambda r: out().print(
            f"{r['samples']} samples, {r['from']} -> {r['to']}: {r['path']}",
            soft_wrap=True,
            markup=False,
        ),
    )


@app.command("get")
def get(
    name: str = typer.Argument(None, help="A public set; without it all are listed."),
    folder: Path = typer.Argument(None, metavar="OUT", help="The folder to fetch into."),
    url: str = typer.Option(None, help="A page, a folder or one file, instead of the known place."),
    sha256: str = typer.Option(
        None, help='A file of lines "SHA256  NAME", or the 64 digits of the one file.'
    ),
    listed: bool = typer.Option(False, "--list", help="List what can be fetched."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Fetch a public dataset, check and unpack it; stopped, it goes on where it was.

    Run again, it checks every file against fetched.json. Of a volume in BossDB (mtneuro, or a
    YAML of your own) the cubes are fetched, chunk by chunk; --url then is another host.

    Example: brodmann data get dmbm data/dmbm
    """
    from brodmann.datasets.bossdb_get import boss_sources, get_boss, is_boss
    from brodmann.datasets.fetch import fetch, sources

    if listed or name is None:
        emit({"sources": [*sources(), *boss_sources()]}, as_json, _sources)
        return
    if folder is None:
        raise RecipeError("say where to", "OUT", fix=f"brodmann data get {name} FOLDER")
    with progress() as report:
        if is_boss(name):
            if sha256 is not None:
                raise RecipeError("BossDB names no checksums to compare with", "--sha256")
            result = get_boss(name, folder, url, report)
        else:
            result = fetch(name, folder, url, sha256, report)
    emit(result, as_json, _got)


def _sources(result: dict) -> None:
    from rich.text import Text

    for source in result["sources"]:
        out().print(Text.assemble((source["name"], "bold"), f"  {source['title']}"), soft_wrap=True)
        for key in ("size", "licence", "citation", "url"):
            out().print(Text(f"    {key:<9} {source[key]}"), soft_wrap=True)


def _got(result: dict) -> None:
    from rich.text import Text

    size = f"{result['files']} files, {result['bytes'] / 1e6:,.1f} MB: {result['path']}"
    for line in (
        size,
        result["vouched"],
        f"licence: {result['licence']}; cite {result['citation']}",
        f"use it with data.kind={result['name']} data.root={result['path']}",
    ):
        out().print(Text(line), soft_wrap=True)
