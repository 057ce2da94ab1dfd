"""`brodmann score`: the leaderboard's own functions on your files."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli import score_cells
from brodmann.cli.common import JSON_HELP, emit, out, progress

app = typer.Typer(help="Score predictions against the truth.", no_args_is_help=True)


@app.callback()
def _kinds() -> None:
    pass


@app.command("regions")
def regions(
    pred: Path = typer.Argument(help="Predicted label image, or a folder of them."),
    truth: Path = typer.Argument(help="True label image, or a folder with the same names."),
    labels: Path = typer.Option(..., "--labels", help="labels.csv: id,name,acronym,parent,color."),
    background: bool = typer.Option(False, "--background", help="Count background as a class."),
    exclude: list[str] = typer.Option(
        [], "--exclude", metavar="ACRONYM", help="Keep a class out of the means; may be repeated."
    ),
    rollup: bool = typer.Option(False, "--rollup", help="Score primary regions of the tree."),
    surface: bool = typer.Option(False, "--surface", help="Add distances between surfaces."),
    tolerance_um: float = typer.Option(
        None, "--tolerance-um", min=0, help="Tolerance of the surface Dice; needs --surface."
    ),
    spacing_um: str = typer.Option(
        None, "--spacing-um", metavar="Y,X", help="Spacing where the true files do not say it."
    ),
    per_image: bool = typer.Option(
        False, "--per-image", help="Show every image; with --json, its classes too."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Score region maps: Dice (F1), IoU, precision, recall, and surfaces on request.

    Scores are of all pixels pooled over the images. A class in neither map is not counted,
    one in only one of them counts 0.

    Example: brodmann score regions maps/ labels/ --labels labels.csv --exclude AOB
    """
    from brodmann.metrics.score_regions import parse_spacing, score_regions, tables

    with progress() as report:
        result = score_regions(
            pred,
            truth,
            labels,
            background=background,
            exclude=exclude,
            rollup=rollup,
            surface=surface,
            tolerance_um=tolerance_um,
            spacing_um=parse_spacing(spacing_um),
            per_image_classes=per_image and as_json,
            report=report,
        )

    def text(result: dict) -> None:
        from rich.markup import escape
        from rich.table import Table

        for title, head, rows in tables(result, per_image):
            table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
            for column in table.columns[1:]:
                column.justify = "right"
            for row in rows:
                table.add_row(*map(escape, row))
            out().print(table, "")

    emit(result, as_json, text)


@app.command("neurons")
def neurons(
    pred: Path = typer.Argument(help="Segments: any label volume (tif, zarr, h5, nii.gz)."),
    truth: Path = typer.Argument(help="True neuron ids, of the same shape."),
    ignore: int = typer.Option(0, "--ignore", help="A true id that is not counted; -1 for none."),
    border_um: float = typer.Option(
        None, "--border-um", min=0, help="Leave out voxels so near to a true border."
    ),
    border_voxels: float = typer.Option(
        None, "--border-voxels", min=0, help="The same in voxels, in the plane of a section."
    ),
    volumetric: bool = typer.Option(
        False, "--volumetric", help="Measure that distance in 3D, not section by section."
    ),
    per_slice: bool = typer.Option(
        False, "--per-slice", help="Score each section by itself and average (ISBI 2012)."
    ),
    zero: str = typer.Option(
        "cremi",
        "--zero",
        help="Segment 0: segment, singletons (each voxel alone), or cremi (a segment to VI, "
        "alone to ARAND).",
    ),
    spacing_um: str = typer.Option(
        None, "--spacing-um", metavar="Z,Y,X", help="Spacing where the true file does not say it."
    ),
    errors: Path = typer.Option(
        None, "--errors", help="Write what every neuron adds to VI as CSV (of the whole volume)."
    ),
    workers: int = typer.Option(1, "--workers", min=1, help="Threads; changes no number."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Score segments of neurons: variation of information and adapted Rand error.

    VI split and merge are in bits (H(pred|truth), H(truth|pred)); precision and recall of the
    Rand error are named as CREMI names them.

    Example: brodmann score neurons segments.zarr neurons.tif --errors errors.csv
    """
    from brodmann.metrics.score_neurons import score_neurons
    from brodmann.metrics.score_regions import parse_spacing

    result = score_neurons(
        pred,
        truth,
        ignore=None if ignore < 0 else ignore,
        border_um=border_um,
        border_voxels=border_voxels,
        in_plane=not volumetric,
        per_slice=per_slice,
        zero=zero,
        spacing_um=parse_spacing(spacing_um),
        errors=errors,
        workers=workers,
    )

    def text(result: dict) -> None:
        from rich.table import Table

        table = Table("measure", "value", box=None, pad_edge=False)
        table.columns[1].justify = "right"
        for key, value in result["scores"].items():
            shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
            table.add_row(key.replace("_", " "), shown)
        out().print(table)
        if errors is not None:
            out().print(f"\nerrors  {errors}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


app.command("cells")(score_cells.cells)
