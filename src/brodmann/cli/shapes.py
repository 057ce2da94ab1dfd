"""`brodmann shapes`: surfaces and centre lines of segments."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress
from brodmann.core import RecipeError


def shapes(
    labels: Path = typer.Argument(
        help="Label volume (z, y, x): .zarr, .h5, .tif. FILE::NAME names a dataset within."
    ),
    target: Path = typer.Argument(metavar="OUT", help="Folder for the files and shapes.csv."),
    ids: str = typer.Option(None, "--ids", metavar="1,2,3", help="The segments wanted."),
    largest: int = typer.Option(0, "--largest", min=0, help="So many of the largest segments."),
    mesh: bool = typer.Option(True, help="Write surfaces, ID.ply or ID.stl."),
    skeleton: bool = typer.Option(True, help="Write centre lines, ID.swc."),
    suffix: str = typer.Option("ply", "--format", help="Of surfaces: ply or stl."),
    smooth: int = typer.Option(
        0, "--smooth", min=0, help="Rounds of smoothing; 10 take away the staircase."
    ),
    keep: float = typer.Option(
        1.0,
        "--keep",
        help="Share of the triangles to keep, in (0, 1]; takes minutes on large segments.",
    ),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="Micrometres per voxel, for files that do not say."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Meshes and skeletons of chosen segments, in micrometres.

    The volume is passed once in slabs for the boxes of all segments, then only the box of
    each chosen one is read. Surfaces are closed; skeletons are by TEASAR.

    Example: brodmann shapes segments.zarr shapes --largest 20 --smooth 10
    """
    from brodmann.pipeline.neurons.shapes import COLUMNS, write_shapes

    with progress() as report:
        result = write_shapes(
            labels,
            target,
            _ids(ids) if ids is not None else (),
            largest,
            mesh=mesh,
            skeleton=skeleton,
            suffix=suffix.lower().lstrip("."),
            smooth=smooth,
            keep=keep,
            spacing=numbers(spacing, "--spacing") if spacing else None,
            report=report,
        )

    def text(result: dict) -> None:
        from rich.table import Table

        asked = [c for c in COLUMNS if any(row[c] is not None for row in result["shapes"])]
        table = Table(*(name.replace("_", " ") for name in asked), box=None, pad_edge=False)
        for column in table.columns:
            column.justify = "right"
        for row in result["shapes"]:
            table.add_row(*(_shown(row[name], name) for name in asked))
        out().print(table)
        out().print(f"\nwritten  {result['out']}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


def _shown(value: float | int, name: str) -> str:
    if name == "id":
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _ids(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RecipeError("write ids parted by commas", "--ids", repr(text)) from None
