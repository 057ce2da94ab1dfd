"""`brodmann atlas`: cells per structure of an atlas, and tables rolled up its tree."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress
from brodmann.core import RecipeError

app = typer.Typer(help="Cells and structures of an atlas.", no_args_is_help=True)


@app.callback()
def _kinds() -> None:
    pass


@app.command("count")
def count(
    points: list[Path] = typer.Argument(
        help="Cells: .csv, .parquet, .xml, .nml. Several files, or a column marker, are markers."
    ),
    annotation: str = typer.Option(
        ..., "--annotation", help="Volume of ids (.nrrd, .tif, .nii.gz, .zarr), a BrainGlobe "
        "atlas folder, or a brainreg folder: its atlas, laid over the image.",
    ),
    target: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for tables and page."),
    structures: Path = typer.Option(
        None, "--structures", help="CSV or JSON of the tree: id, acronym, name, parent or path."
    ),
    transform: Path = typer.Option(
        None, "--transform", help="From image to atlas: a brainreg folder, an elastix "
        "TransformParameters.txt, or a 4 x 4 matrix (.csv, .json). Default: same space.",
    ),
    transform_unit: str = typer.Option("um", "--transform-unit", help="Of that file: um or mm."),
    inverse: bool = typer.Option(
        False, "--inverse", help="The transform leads from the atlas to the image."
    ),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="Micrometres a voxel of the points. Default: the "
        "voxel sizes that a brainreg folder names.",
    ),
    unit: str = typer.Option("voxel", "--unit", help="Of the points: voxel or um."),
    orientation: str = typer.Option(
        None, "--orientation", help="Where z, y and x of the image begin, as psl or asr."
    ),
    shape: str = typer.Option(
        None, "--shape", metavar="Z,Y,X", help="Voxels of the image; to turn axes round."
    ),
    annotation_orientation: str = typer.Option(
        None, "--annotation-orientation", help="Of the annotation, where its file does not say."
    ),
    annotation_spacing: str = typer.Option(
        None, "--annotation-spacing", metavar="Z,Y,X", help="Of the annotation, likewise."
    ),
    hemispheres: Path = typer.Option(
        None, "--hemispheres", help="A volume of 1 (left) and 2 (right), of the annotation's shape."
    ),
    half: str = typer.Option("auto", "--half", help="auto, both, left or right."),
    allow_outside: bool = typer.Option(
        False, "--allow-outside", help="Count even if most points lie outside the annotation."
    ),
    tolerance_um: float = typer.Option(
        None, "--tolerance-um", min=0, help="Co-expression of every two markers within this."
    ),
    near: bool = typer.Option(False, "--proximity", help="Nearest neighbours between markers."),
    draws: int = typer.Option(50, "--draws", min=1, help="Of chance, for these two."),
    seed: int = typer.Option(0, "--seed", help="Of those draws."),
    title: str = typer.Option("Cells per structure", "--title", help="Of the page."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:  # fmt: skip
    """Count cells in every structure: numbers, volumes and densities, left and right.

    Writes regions.csv, regions.json, cells.csv, a heat map on sections, and report.html.

    Example: brodmann atlas count cells.csv --spacing 4,1.8,1.8 --annotation annotation_25.nrrd
    --structures structures.csv --transform brainreg_out --out counts
    """
    from brodmann.report.atlas_run import count_files

    with progress() as report:
        result = count_files(
            points,
            annotation,
            target,
            structures=structures,
            transform=transform,
            transform_unit=transform_unit,
            inverse=inverse,
            spacing=numbers(spacing, "--spacing") if spacing else None,
            unit=unit,
            orientation=orientation,
            shape=_whole(shape, "--shape") if shape else None,
            annotation_orientation=annotation_orientation,
            annotation_spacing=(
                numbers(annotation_spacing, "--annotation-spacing") if annotation_spacing else None
            ),
            hemispheres=hemispheres,
            half=half,
            allow_outside=allow_outside,
            tolerance_um=tolerance_um,
            near=near,
            draws=draws,
            seed=seed,
            title=title,
            report=report,
        )

    def text(result: dict) -> None:
        from rich.table import Table

        head = ("marker", "half", "cells", "in structures", "background", "other half", "outside")
        table = Table(*head, "per mm³", box=None, pad_edge=False)
        for column in table.columns[2:]:
            column.justify = "right"
        for row in result["markers"]:
            found = row["cells"]
            shown = ("all", "region", "background", "other half", "outside")
            density = row["density_per_mm3"]
            table.add_row(
                row["marker"], row["half"], *(f"{found[key]:,}" for key in shown),
                "-" if density is None else f"{density:,.4g}",
            )  # fmt: skip
        out().print(table)
        for row in result["markers"]:
            for note in row["notes"]:
                out().print(f"\n{row['marker']}: {note}", markup=False, soft_wrap=True)
        out().print("")
        for key in ("regions", "report"):
            out().print(f"{key}  {result['files'][key]}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


@app.command("rollup")
def rollup(
    table: Path = typer.Argument(help="CSV with a row for each structure, named by id or acronym."),
    structures: Path = typer.Option(..., "--structures", help="CSV or JSON of the tree."),
    target: Path = typer.Option(..., "--out", metavar="CSV", help="The table to write."),
    to: str = typer.Option(None, "--to", metavar="A,B,...", help="Acronyms of those wanted."),
    depth: int = typer.Option(
        None, "--depth", min=0, help="Or all at this depth; the root is 0."
    ),
    values: str = typer.Option(
        None, "--values", metavar="COLUMN,...", help="Columns to add up, each of the structure "
        "alone. Default: those with 'direct' in their names, else all numbers.",
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:  # fmt: skip
    """Add up a table over every structure and all below it; densities from cells and volumes.

    Example: brodmann atlas rollup counts/regions.csv --structures structures.csv
    --to Isocortex,HPF,TH --out major.csv
    """
    from brodmann.report.atlas_run import roll_up_file

    result = roll_up_file(
        table,
        structures,
        target,
        to=[part.strip() for part in to.split(",")] if to else None,
        depth=depth,
        values=[part.strip() for part in values.split(",")] if values else None,
    )

    def text(result: dict) -> None:
        from rich.table import Table

        rows = result["rows"]
        names = [name for name in (rows[0] if rows else ()) if name not in ("id", "depth")]
        shown = Table(*names, box=None, pad_edge=False)
        for column in shown.columns:
            column.justify = "left" if column.header in ("marker", "acronym", "name") else "right"
        for row in rows:
            shown.add_row(*(_shown(row[name]) for name in names))
        out().print(shown)
        out().print(f"\ntable  {result['out']}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)


def _whole(text: str, option: str) -> tuple[int, ...]:
    found = numbers(text, option)
    if any(number != int(number) for number in found):
        raise RecipeError("write whole numbers parted by commas", option, repr(text))
    return tuple(int(number) for number in found)
