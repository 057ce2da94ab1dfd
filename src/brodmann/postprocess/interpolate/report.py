"""The held-out scores of a file, as a table and a picture beside its dense labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brodmann.io.formats import stem_of
from brodmann.postprocess.interpolate.between import METHODS
from brodmann.postprocess.interpolate.held_out import guesses, held_out_scores
from brodmann.postprocess.interpolate.picture import draw_held_out
from brodmann.postprocess.interpolate.volume import Report, quiet, read_labels, take_slice


def score_file(
    source: str | Path,
    target: str | Path,
    axis: str,
    slices: Sequence[int],
    method: str = "recursive",
    ignore: int | None = None,
    spacing: Sequence[float] | None = None,
    report: Report = quiet,
) -> dict[str, Any]:
    """Score every method on slices left out; write STEM-held-out.csv and .png beside `target`.

    The picture shows the slice of median Dice by `method`.

    Returns
    -------
    dict
        methods (see `HeldOut.summary`), table and picture (paths), shown (the slice).

    Raises
    ------
    DataError, OutputError
    """
    labels = read_labels(source, spacing)
    target = Path(target)
    found = held_out_scores(labels, slices, axis, ignore=ignore, report=report)
    table = found.write_csv(target.with_name(f"{stem_of(target)}-held-out.csv"))
    ranked = sorted(found.means(method).values(), key=lambda row: row.dice)
    shown = ranked[(len(ranked) - 1) // 2]
    triple = (shown.before, shown.slice, shown.after)
    titles = {"truth": f"{axis} = {shown.slice}, told from {shown.before} and {shown.after}"}
    for name in METHODS:
        row = found.means(name)[shown.slice]
        shift = "" if row.shift_um is None else f", borders off by {row.shift_um:.1f} um"
        titles[name] = f"mean Dice {row.dice:.3f}{shift}"
    picture = draw_held_out(
        target.with_name(f"{stem_of(target)}-held-out.png"),
        take_slice(labels, axis, shown.slice),
        guesses(labels, triple, axis, tuple(METHODS), ignore),
        titles,
    )
    return {
        "methods": found.summary(),
        "table": str(table),
        "picture": str(picture),
        "shown": shown.slice,
    }
