"""`brodmann score cells`: found cells against true ones, and models against markers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from brodmann.cli.common import JSON_HELP, Report, emit, numbers, out, progress
from brodmann.core import DataError, RecipeError

SHOWN = 40
"""Regions in the table of people; all are in the files."""


def cells(
    pred: Path = typer.Argument(
        help="Found cells (csv, parquet, xml, nml), or a folder with a folder for each model."
    ),
    truth: Path = typer.Argument(help="True cells, or a folder of <marker>_<region>_gt.csv."),
    unit: str = typer.Option(
        "voxel", "--unit", help="voxel or um: of coordinates and tolerance. um needs --spacing."
    ),
    spacing: str = typer.Option(
        None, "--spacing", metavar="Z,Y,X", help="um per voxel; where given, both units are scored."
    ),
    tolerance: str = typer.Option(
        None, "--tolerance", metavar="T", help="Closer than this counts as found; 6, 6vx or 10um."
    ),
    marker: str = typer.Option(
        None, "--marker", help="NeuN, cFos, TH, PV, GFAP, Iba1 or microglia: its tolerance."
    ),
    mode: str = typer.Option(
        "greedy_global", "--mode", help="greedy_global, nearest or optimal."
    ),
    by: str = typer.Option(
        None, "--by", metavar="COLUMN",
        help="Cells match only where this column is equal [default: volume, if it holds names].",
    ),
    subject: str = typer.Option(
        None, "--subject", metavar="COLUMN", help="The animal of each value of --by."
    ),
    tally: str = typer.Option(
        None, "--tally", metavar="COLUMN", help="List counts by this column; all cells may match."
    ),
    regions: Path = typer.Option(
        None, "--regions", help="CSV: region,z0,z1,y0,y1,x0,x1 (voxels), subject; all optional."
    ),
    box: str = typer.Option(
        None, "--box", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Only cells in this box count (voxels)."
    ),
    origin: str = typer.Option(
        "brain", "--origin", help="PRED's coordinates start at the corner of the brain or box."
    ),
    truth_origin: str = typer.Option("brain", "--truth-origin", help="The same of TRUTH."),
    shape: str = typer.Option(
        None, "--shape", metavar="Z,Y,X", help="The volume's: cells outside are refused."
    ),
    least_true: int = typer.Option(
        0, "--least-true", min=0, help="True cells that the worst subject has at least."
    ),
    seed: int = typer.Option(0, "--seed", help="Of the bootstrap interval."),
    target: Path = typer.Option(
        Path("cells-score"), "--out", help="A folder for scores.json, regions.csv and pictures."
    ),
    plot: bool = typer.Option(True, help="Draw pictures."),
    matches: bool = typer.Option(
        False, "--matches", help="Write matches.csv: every cell, found, false or missed."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
) -> None:  # fmt: skip
    """Score found cells: F1, precision, recall, accuracy, in total and by region.

    A found cell is true if it is paired with a true cell closer than the tolerance, each with
    one at most. Mode and version of the scorer stand with every score. Of folders it is the
    matrix: every model on every marker.

    Example: brodmann score cells found.csv true.csv --marker NeuN --spacing 4,1.8,1.8
    """
    from brodmann.core.files import make_folder, write_json

    options: dict[str, Any] = {
        "unit": unit, "spacing": numbers(spacing, "--spacing") if spacing else None,
        "tolerance": tolerance, "marker": marker, "mode": mode, "origin": origin,
        "truth_origin": truth_origin, "seed": seed,
    }  # fmt: skip
    for path in (pred, truth):
        if not path.exists():
            raise DataError("no such file or folder", path)
    if truth.is_dir() and not (truth / "info").is_file():
        single = {
            "--by": by,
            "--subject": subject,
            "--tally": tally,
            "--box": box,
            "--shape": shape,
        }
        wrong = [name for name, value in single.items() if value is not None]
        if wrong or matches or least_true:
            raise RecipeError(
                "this option is of single tables", (wrong or ["--matches, --least-true"])[0],
                fix="score two tables, not folders",
            )  # fmt: skip
        if not pred.is_dir():
            raise DataError("a folder is scored against a folder", pred)
        make_folder(target)
        with progress() as report:
            result = _folders(pred, truth, regions, options, target, plot, report)
        write_json(target / "scores.json", result)
        emit(result, as_json, _matrix_text)
        return
    if box is not None and regions is not None:
        raise RecipeError("give a box or regions", "--box", box, "put the box into the regions")
    make_folder(target)
    with progress() as report:
        result = _tables(
            pred, truth, options, target, plot, matches, report,
            by=by, subject_by=subject, tally_by=tally, regions=regions, box=box, shape=shape,
            least_true=least_true,
        )  # fmt: skip
    write_json(target / "scores.json", result)
    for note in result["notes"]:
        print(f"note: {note}", file=sys.stderr)
    emit(result, as_json, _text)


def _tables(
    pred: Path,
    truth: Path,
    options: dict[str, Any],
    target: Path,
    plot: bool,
    matches: bool,
    report: Report,
    *,
    box: str | None,
    regions: Path | None,
    shape: str | None,
    **more: Any,
) -> dict[str, Any]:
    from brodmann.core.files import write_text, written_beside
    from brodmann.metrics.points import parse_box
    from brodmann.metrics.points.matrix import to_csv
    from brodmann.metrics.score_cells import match_table, score_cells
    from brodmann.report.cells import cells_picture

    size = None
    if shape is not None:
        given = numbers(shape, "--shape")
        if any(one < 1 or one != int(one) for one in given):
            raise RecipeError("a shape is whole voxels", "--shape", shape)
        size = tuple(int(one) for one in given)
    chosen = [parse_box(box)] if box else regions
    score = score_cells(pred, truth, **options, **more, regions=chosen, shape=size, report=report)
    result = score.result
    rows = result["tally"] or result["summary"]["regions"]
    files = {"regions": write_text(target / "regions.csv", to_csv(rows))}
    if matches:
        files["matches"] = target / "matches.csv"
        with written_beside(files["matches"]) as beside:
            match_table(score).to_csv(beside, index=False, lineterminator="\n")
    if plot:
        files["picture"] = cells_picture(score, target / "score.png")
    result["files"] = {name: str(path) for name, path in files.items()}
    return result


def _folders(
    pred: Path,
    truth: Path,
    regions: Path | None,
    options: dict[str, Any],
    target: Path,
    plot: bool,
    report: Report,
) -> dict[str, Any]:
    from brodmann.metrics.points.folders import score_folders
    from brodmann.report.cells import matrix_picture

    matrix, result = score_folders(pred, truth, regions=regions, report=report, **options)
    files = matrix.write(target)
    if plot:
        for measure in ("f1", "accuracy"):
            files[f"{measure} picture"] = matrix_picture(
                matrix, target / f"matrix-{measure}.png", measure
            )
    return result | {"files": {name: str(path) for name, path in files.items()}}


def _print(head: tuple[str, ...], rows: list[tuple[str, ...]], title: str | None = None) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(*head, title=title, title_justify="left", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(escape, row))
    out().print(table, "")


def _text(result: dict[str, Any]) -> None:
    from brodmann.report.cells import region_table, score_table

    _print(*score_table(result))
    summary = result["summary"]
    rows = result["tally"] or (summary["regions"] if len(summary["regions"]) > 1 else [])
    if rows:
        shown = sorted(rows, key=lambda row: (row["f1"] is None, row["f1"] or 0))[:SHOWN]
        title = (
            "regions" if len(shown) == len(rows) else f"the {SHOWN} lowest of {len(rows)} regions"
        )
        _print(*region_table(shown), title)
    lines = [*_together(summary)] if len(summary["regions"]) > 1 else []
    left_out = result["outside"]
    if any(left_out.values()):
        lines.append(f"outside the regions  {left_out['pred']:,} found, {left_out['truth']:,} true")
    lines.append(f"scorer  {result['scorer']}, {result['mode']}")
    lines += [f"{name}  {path}" for name, path in result["files"].items()]
    for line in lines:
        out().print(line, markup=False, soft_wrap=True)


def _together(summary: dict[str, Any]) -> list[str]:
    """Interval, mean over regions and the worst subject, in words."""
    lines = []
    share = f"{summary['confidence']:.0%}"
    for name, value, ends in (
        ("pooled F1", summary["pooled"]["f1"], summary["interval"]["f1"]),
        ("mean F1 over regions", summary["macro"]["f1"], summary["macro_interval"]["f1"]),
    ):
        if value is not None:
            within = f" ({share}: {ends[0]:.4f} to {ends[1]:.4f})" if ends else ""
            lines.append(f"{name}  {value:.4f}{within}")
    worst = summary["worst_subject"]
    if worst:
        lines.append(
            f"worst subject  {worst['subject']}: F1 {worst['f1']:.4f}, "
            f"{worst['tp'] + worst['fn']:,} true cells"
        )
    return lines


def _matrix_text(result: dict[str, Any]) -> None:
    totals = {(r["marker"], r["model"]): r["f1"] for r in result["rows"] if r["region"] == "total"}
    rows = []
    for marker in result["markers"]:
        values = [totals.get((marker, model)) for model in result["models"]]
        rows.append((marker, *("-" if v is None else f"{v:.3f}" for v in values)))
    _print(("F1 in total", *result["models"]), rows)
    out().print(f"scorer  {result['scorer']}, {result['mode']}", markup=False, soft_wrap=True)
    for name, path in result["files"].items():
        out().print(f"{name}  {path}", markup=False, soft_wrap=True)
