"""`brodmann annotate`: dense labels out of few annotated slices."""

from __future__ import annotations

from pathlib import Path

import typer

from brodmann.cli.common import JSON_HELP, emit, numbers, out, progress
from brodmann.core import RecipeError

app = typer.Typer(help="Make dense labels out of few annotations.", no_args_is_help=True)


@app.callback()
def _kinds() -> None:
    pass


@app.command("interpolate")
def interpolate(
    labels: Path = typer.Argument(
        help="Label volume (z, y, x): .zarr, .tif, .nii.gz, .h5. FILE::NAME names a dataset within."
    ),
    target: Path = typer.Argument(metavar="OUT", help="The dense labels, in any of these formats."),
    axis: str = typer.Option("z", "--axis", help="Slices are stacked along z, y or x."),
    slices: str = typer.Option(
        None,
        "--slices",
        metavar="10,60,110",
        help="The annotated slices, from 0; 0:500:50 is a range. Default: those with any label.",
    ),
    unannotated: int = typer.Option(
        0, "--unannotated", help="The id of voxels not annotated yet, by which slices are found."
    ),
    method: str = typer.Option(
        "recursive",
        "--method",
        help="recursive (borders shift linearly), distance (blended signed distances) or nearest.",
    ),
    ignore: int = typer.Option(None, "--ignore", help="An id that says nothing about a pixel."),
    score_held_out: bool = typer.Option(
        False,
        "--score-held-out",
        help="Leave each annotated slice out in turn: OUT's name with -held-out.csv and .png.",
    ),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="Micrometres per voxel, for files that do not say."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:
    """Fill the slices between annotated ones, for any number of labels.

    Ids are kept, and background is a label like any other. One gap is in memory at a time;
    the same command goes on where it was stopped.

    Example: brodmann annotate interpolate sparse.nii.gz dense.nii.gz --score-held-out
    """
    from brodmann.postprocess.interpolate.report import score_file
    from brodmann.postprocess.interpolate.volume import interpolate_volume

    steps = numbers(spacing, "--spacing") if spacing else None
    with progress() as report:
        result = interpolate_volume(
            labels,
            target,
            axis=axis,
            slices=parse_slices(slices) if slices is not None else None,
            unannotated=unannotated,
            method=method,
            ignore=ignore,
            spacing=steps,
            report=report,
        )
        if score_held_out:
            held = score_file(labels, target, axis, result["slices"], method, ignore, steps, report)
            result = result | {"held_out": held}

    def text(result: dict) -> None:
        from rich.table import Table

        gaps = result["gaps"]
        widest = max(gap["to"] - gap["from"] for gap in gaps)
        out().print(
            f"{len(result['slices'])} annotated slices along {result['axis']}, "
            f"at most {widest} apart; {sum(gap['changed'] for gap in gaps):,} pixels change",
            soft_wrap=True,
        )
        jumped = [gap for gap in gaps if gap["jumped"]]
        if jumped:
            most = max(jumped, key=lambda gap: gap["jumped"])
            out().print(
                f"{sum(gap['jumped'] for gap in jumped):,} of them had no border to follow and "
                f"change halfway: look there, most in {most['from']}-{most['to']}",
                soft_wrap=True,
            )
        if "held_out" in result:
            head = ("method", "mean Dice", "least", "shift um", "slices")
            table = Table(*head, title="slices left out", title_justify="left", box=None)
            for column in table.columns[1:]:
                column.justify = "right"
            for name, row in result["held_out"]["methods"].items():
                shift = "-" if row["shift_um"] is None else f"{row['shift_um']:.2f}"
                dice = (f"{row['mean_dice']:.4f}", f"{row['least_dice']:.4f}")
                table.add_row(name, *dice, shift, str(row["slices"]))
            out().print("", table)
            for key in ("table", "picture"):
                out().print(f"{key}  {result['held_out'][key]}", markup=False, soft_wrap=True)
        out().print(f"\nwritten  {target}", markup=False, soft_wrap=True)

    emit(result, as_json, text)


def parse_slices(text: str) -> tuple[int, ...]:
    """Slice numbers parted by commas; START:STOP:STEP is a range without its stop.

    >>> parse_slices("3,10:40:10")
    (3, 10, 20, 30)
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            if ":" in part:
                start, stop, *step = (int(number) for number in part.split(":"))
                if len(step) > 1 or (step and step[0] < 1):
                    raise ValueError
                found += range(start, stop, *step)
            else:
                found.append(int(part))
    except ValueError:
        raise RecipeError("write slices as 10,60,110 or 0:500:50", "--slices", repr(text)) from None
    return tuple(found)
