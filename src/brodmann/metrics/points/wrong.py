"""Why nothing matches: cells in another unit, order of axes or origin than was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import DataError
from brodmann.metrics.points.matching import match
from brodmann.metrics.points.regions import Region
from brodmann.metrics.points.scores import PointScore, count, pool

DOUBTED, GOOD, BETTER = 0.15, 0.5, 5
"""F1 below which a score is doubted; what another reading must reach, and be times as good."""
ENOUGH = 5
"""Cells on either side that an explanation rests on, at least."""

Pair = tuple[np.ndarray, np.ndarray]


def explain(
    parts: Sequence[tuple[Region, Pair]],
    score: PointScore,
    tolerance: float,
    measure_spacing: Sequence[float] | None,
    spacing: Sequence[float] | None,
    unit: str,
    where: str,
) -> list[str]:
    """Notes on a score that is nearly 0; an error where another reading of the files fits.

    Parameters
    ----------
    parts : sequence of (Region, (found, true))
        (n, d) coordinates in voxels of the brain, also of cells outside the region.
    score : PointScore
        Of all of them.
    tolerance, measure_spacing
        As they were matched.
    spacing : sequence of float, optional
        um per voxel, if it is known at all.
    unit : {"voxel", "um"}
        What the files were said to hold.
    where : str
        The file to name.

    Raises
    ------
    DataError
        If F1 is below DOUBTED as it stands, and GOOD and BETTER times as high with either
        table in the other unit, with axes exchanged, or moved by the box's corner.
    """
    tables = [pair for _, pair in parts]
    found, true = (sum(len(pair[side]) for pair in tables) for side in (0, 1))
    if min(found, true) < ENOUGH or not score.f1 < DOUBTED:
        return []
    ndim = tables[0][0].shape[1]
    steps = None if spacing is None else np.array(spacing, float)
    other = "um" if unit == "voxel" else "voxel"
    readings: list[tuple[str, str]] = []
    ways = []
    if steps is not None and not np.allclose(steps, 1):
        ratio = 1 / steps if unit == "voxel" else steps
        mixed = f"convert it, for both are read as {unit}"
        readings += [
            (f"the prediction looks like {other}", mixed),
            (f"the truth looks like {other}", mixed),
        ]
        ways += [lambda a, b: (a * ratio, b), lambda a, b: (a, b * ratio)]
    readings.append(("first and last axis look exchanged", "see which columns are z and x"))
    ways.append(lambda a, b: (a[:, ::-1], b))
    if all(region.start for region, _ in parts) and len(parts) == 1:
        corner = np.array(parts[0][0].start)
        readings += [
            ("the prediction looks counted from the box's corner", "say --origin box"),
            ("the prediction looks counted from the brain's corner", "say --origin brain"),
        ]
        ways += [lambda a, b: (a + corner, b), lambda a, b: (a - corner, b)]
    for (what, fix), way in zip(readings, ways):
        scores = []
        for region, pair in parts:
            a, b = (points[region.holds(points)] for points in way(*pair))
            scores.append(count(match(a, b, tolerance, "greedy_global", measure_spacing)))
        again = pool(scores)
        if again.f1 >= max(GOOD, BETTER * score.f1):
            raise DataError(
                what, where, f"F1 {score.f1:.2f} as it is and {again.f1:.2f} otherwise", fix
            )
    if score.tp:
        return []
    spans = [
        " x ".join(
            f"{min(p[side][:, axis].min() for p in tables if len(p[side])):.4g}.."
            f"{max(p[side][:, axis].max() for p in tables if len(p[side])):.4g}"
            for axis in range(ndim)
        )
        for side in (0, 1)
    ]
    note = f"nothing matches; in voxels the prediction spans {spans[0]}, the truth {spans[1]}"
    return [note + ("" if spacing else "; with --spacing a wrong unit would be seen")]
