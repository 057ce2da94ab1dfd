"""How well slices that are annotated are told from their neighbours."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import IGNORE_CLASS, DataError, Volume
from brodmann.core.files import write_text
from brodmann.postprocess.interpolate.between import METHODS, interpolate_between
from brodmann.postprocess.interpolate.volume import (
    Report,
    axis_of,
    check_slices,
    plane_spacing,
    quiet,
    take_slice,
)

BACKGROUND = 0


@dataclass(frozen=True)
class Score:
    """One label of one slice that was left out; `label` None is the mean over its labels."""

    slice: int
    before: int
    after: int
    method: str
    label: int | None
    dice: float
    shift_um: float | None
    """Mean distance between the label's borders in truth and guess; None if one lacks it."""
    truth_pixels: int
    guess_pixels: int


@dataclass(frozen=True)
class HeldOut:
    """All scores, slice by slice."""

    scores: tuple[Score, ...]

    def means(self, method: str) -> dict[int, Score]:
        """Slice -> its mean over labels."""
        return {s.slice: s for s in self.scores if s.method == method and s.label is None}

    def summary(self) -> dict[str, dict[str, Any]]:
        """Method -> mean and least Dice over slices, mean shift in um, number of slices."""
        found = {}
        for method in dict.fromkeys(score.method for score in self.scores):
            rows = list(self.means(method).values())
            shifts = [row.shift_um for row in rows if row.shift_um is not None]
            found[method] = {
                "mean_dice": float(np.mean([row.dice for row in rows])),
                "least_dice": float(min(row.dice for row in rows)),
                "shift_um": float(np.mean(shifts)) if shifts else None,
                "slices": len(rows),
            }
        return found

    def write_csv(self, path: Path) -> Path:
        """One row a score; the mean over labels is named "mean"."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(Score.__dataclass_fields__)
        for score in self.scores:
            row = asdict(score) | {"label": "mean" if score.label is None else score.label}
            row["dice"] = f"{score.dice:.6f}"
            row["shift_um"] = "" if score.shift_um is None else f"{score.shift_um:.4f}"
            table.writerow(row.values())
        return write_text(path, text.getvalue())


def held_out_scores(
    labels: Volume,
    slices: Sequence[int],
    axis: str = "z",
    *,
    methods: Sequence[str] = tuple(METHODS),
    ignore: int | None = None,
    report: Report = quiet,
) -> HeldOut:
    """Leave out each annotated slice between two others, tell it from these two, and score.

    Parameters
    ----------
    labels : Volume (z, y, x) of integers
        Three slices are in memory at a time.
    slices : sequence of int
        Three or more, annotated.
    axis : {"z", "y", "x"}
    methods : sequence of str
        "nearest", a copy of the nearer slice (the earlier of equals), is the baseline.
    ignore : int, optional
        An id whose pixels in the true slice are not counted.

    Returns
    -------
    HeldOut
        Dice of every label in truth or guess (0 if in one only) and the mean over labels
        other than 0; shift_um is the average symmetric distance between borders, of labels in
        both (`metrics.surface`; the edge of the image counts as border).

    Raises
    ------
    DataError
        If there are fewer than three slices, or the volume holds no labels between them.

    Notes
    -----
    The gap in use is twice as wide as that in the volume, so that scores are on the low side.

    Example
    -------
    >>> grid = np.zeros((5, 4, 40), np.uint8)
    >>> for z in range(5):
    ...     grid[z, :, : 8 + 4 * z] = 1
    >>> found = held_out_scores(Volume(grid, "zyx", (50, 1, 1)), (0, 2, 4)).summary()
    >>> found["recursive"]["mean_dice"], round(found["nearest"]["mean_dice"], 2)
    (1.0, 0.67)
    """
    known = check_slices(slices, labels.shape[axis_of(axis)], axis)
    if len(known) < 3:
        raise DataError(
            "to leave a slice out takes three annotated ones", found=f"{len(known)} along {axis}"
        )
    scores: list[Score] = []
    for number, (first, middle, last) in enumerate(zip(known, known[1:], known[2:])):
        report("held-out slices", number, len(known) - 2, str(middle))
        truth = take_slice(labels, axis, middle)
        for method, guess in guesses(labels, (first, middle, last), axis, methods, ignore).items():
            rows = _compare(truth, guess, plane_spacing(labels, axis), ignore)
            place = (middle, first, last, method)
            scores += [Score(*place, *row) for row in rows]
    report("held-out slices", len(known) - 2, len(known) - 2, "")
    if not scores:
        raise DataError("the slices left out hold no labels", found=f"slices {known[1:-1]}")
    return HeldOut(tuple(scores))


def guesses(
    labels: Volume,
    triple: tuple[int, int, int],
    axis: str,
    methods: Sequence[str],
    ignore: int | None = None,
) -> dict[str, np.ndarray]:
    """The middle slice by every method, from the first and the last."""
    first, middle, last = triple
    before, after = take_slice(labels, axis, first), take_slice(labels, axis, last)
    return {
        method: interpolate_between(
            before,
            after,
            last - first,
            spacing=plane_spacing(labels, axis),
            method=method,
            ignore=ignore,
        ).at(middle - first, last - first)
        for method in methods
    }


def _compare(
    truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, float], ignore: int | None
) -> list[tuple]:
    """(label, dice, shift_um, truth pixels, guess pixels) of every label, then the mean."""
    from brodmann.metrics import contingency
    from brodmann.metrics.surface import surfaces

    ids, numbers = np.unique(np.stack([truth, guess]), return_inverse=True)
    classes = numbers.reshape(2, *truth.shape).astype(np.int16)
    if ignore is not None:
        classes[0][truth == ignore] = IGNORE_CLASS
    counts = contingency(classes[0], classes[1], len(ids))
    both, true, made = np.diag(counts), counts.sum(1), counts.sum(0)
    wanted = [i for i in range(len(ids)) if true[i] + made[i] and ids[i] != ignore]
    borders = surfaces(*classes, len(ids), spacing, tolerance_um=0, classes=wanted)
    rows: list[tuple] = []
    for i in wanted:
        shift = float(borders[i].assd_um) if borders[i].matched else None
        dice = float(2 * both[i] / (true[i] + made[i]))
        rows.append((int(ids[i]), dice, shift, int(true[i]), int(made[i])))
    counted = [row for row in rows if row[0] != BACKGROUND]
    if not counted:
        return []
    shifts = [row[2] for row in counted if row[2] is not None]
    mean_shift = float(np.mean(shifts)) if shifts else None
    pixels = (sum(row[k] for row in counted) for k in (3, 4))
    mean_dice = float(np.mean([row[1] for row in counted]))
    return [*rows, (None, mean_dice, mean_shift, *pixels)]
