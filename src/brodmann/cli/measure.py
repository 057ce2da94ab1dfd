"""`brodmann measure`: numbers of what label images hold."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress
from brodmann.core import RecipeError

app = typer.Typer(help="Measure what label images hold.", no_args_is_help=True)


@app.callback()
def _kinds() -> None:
    pass


@app.command("attributes")
def attributes(
    labels: Path = typer.Argument(
        help="Label image or volume (tif, nii.gz, zarr, h5, png), or a dataset folder."
    ),
    ids: str = typer.Option(
        None, "--ids", metavar="NAME=ID,...",
        help="Ids of cell, vessel, axon and ignore, as cell=2,vessel=1,axon=3; cell=none if there "
        "are none. Any other name makes its id known.",
    ),
    label_table: Path = typer.Option(
        None, "--labels", help="A labels.csv whose names tell the ids; a folder has its own."
    ),
    axes: str = typer.Option(
        None, "--axes", help="yx or zyx, where a file takes slices for channels."
    ),
    spacing_um: str = typer.Option(
        None, "--spacing-um", metavar="Z,Y,X", help="Spacing where the file does not say it."
    ),
    per: str = typer.Option("slice", "--per", help="A row for each: slice, volume or block."),
    block: str = typer.Option(
        None, "--block", metavar="Z,Y,X", help="Size of blocks in voxels; makes --per block."
    ),
    block_um: str = typer.Option(
        None, "--block-um", metavar="Z,Y,X", help="The same in micrometres."
    ),
    cut_cells: bool = typer.Option(
        False, "--cut-cells",
        help="Blocks: cut cells at their faces, where else a cell counts once, whole.",
    ),
    connectivity: int = typer.Option(
        None, "--connectivity", help="4 or 8 in a slice, 6, 18 or 26 in 3D; default 4 and 6."
    ),
    min_voxels: int = typer.Option(
        0, "--min-voxels", min=0, help="Smaller components are no cells."
    ),
    published_distance: bool = typer.Option(
        False, "--published-distance",
        help="Distances as in the release of MTNeuro: in pixels, zero to itself in the mean.",
    ),
    target: Path = typer.Option(Path("attributes.csv"), "--out", help="The table to write."),
    plot: bool = typer.Option(True, help="Draw it too, as a .png beside the table."),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:  # fmt: skip
    """Densities of vessels and axons; number, mean size and spacing of cells.

    Volumes are read by window and may be larger than memory. A slice shows profiles of cells,
    in 2D; --per volume and --per block measure cells in 3D.

    Example: brodmann measure attributes labels.tif --ids cell=2,vessel=1,axon=3 --out table.csv
    """
    from brodmann.metrics.measure_attributes import means, measure_attributes
    from brodmann.report.attributes import save_attributes

    if target.suffix.lower() != ".csv":
        raise RecipeError("the table is a .csv", "--out", str(target))
    if per == "slice" and (block or block_um):
        per = "block"
    with progress() as report:
        result = measure_attributes(
            labels,
            target,
            ids=ids,
            label_table=label_table,
            axes=axes,
            spacing_um=numbers(spacing_um, "--spacing-um") if spacing_um else None,
            per=per,  # type: ignore[arg-type]
            block=numbers(block, "--block") if block else None,  # type: ignore[arg-type]
            block_um=numbers(block_um, "--block-um") if block_um else None,
            whole_cells=not cut_cells,
            connectivity=connectivity,
            min_voxels=min_voxels,
            published_distance=published_distance,
            report=report,
        )
    result["means"] = means(result["rows"])
    result["plot"] = None
    if plot:
        drawn = save_attributes(
            result["rows"],
            target.with_suffix(".png"),
            axes=result["axes"],
            spacing_um=result["spacing_um"],
            per=per,
            title=labels.name,
            distance_unit="px" if published_distance else "µm",
        )
        result["plot"] = str(drawn) if drawn else None

    def text(result: dict) -> None:
        from rich.table import Table

        units = {"cell_size": "um2" if per == "slice" or result["axes"] == "yx" else "um3"}
        units["cell_distance"] = "px" if published_distance else "um"
        many = len(result["rows"]) > 1
        head = ("attribute", "unit", "mean", "least", "most", "rows") if many else (
            "attribute", "unit", "value")  # fmt: skip
        table = Table(*head, box=None, pad_edge=False)
        for column in table.columns[2:]:
            column.justify = "right"
        for name, found in result["means"].items():
            shown = [_shown(found[key]) for key in ("mean", "min", "max")]
            cells = [*shown, f"{found['rows']:,}"] if many else shown[:1]
            table.add_row(name.replace("_", " "), units.get(name, ""), *cells)
        out().print(table)
        out().print(f"\ntable  {result['out']}", markup=False, soft_wrap=True)
        if result["plot"]:
            out().print(f"plot   {result['plot']}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
