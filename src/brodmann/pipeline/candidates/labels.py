"""Candidates with labels, from any image whose cells are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import Points, Volume
from brodmann.metrics.points import match
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import Detector, Intensity, heat_of
from brodmann.problems.cells.detector import as_points


def label_candidates(
    found: Points,
    truth: np.ndarray | Points,
    tolerance: float,
    *,
    spacing: Sequence[float] | None = None,
    add_missed: bool = False,
) -> Points:
    """The same points with `label`: 1 those that a true centre is matched with, 0 the others.

    Parameters
    ----------
    found : Points
    truth : Points or (m, d) float
        Centres of all cells, in voxels.
    tolerance : float
        Voxels, or micrometres with a spacing; see `metrics.points.match` (greedy_global).
    add_missed : bool
        Append true centres that no candidate is matched with, as cells with an empty score.

    Returns
    -------
    Points
        With columns `label` and `missed` (whether the point is a true centre).

    Example
    -------
    >>> found = as_points(np.array([[0, 0, 0], [0, 9, 9]]), np.array([0.5, 0.4]))
    >>> truth = np.array([[0.0, 1, 0], [5, 5, 5]])
    >>> told = label_candidates(found, truth, 3, add_missed=True).table
    >>> told["label"].tolist(), told["missed"].tolist()
    ([1, 0, 1], [False, False, True])
    """
    import pandas as pd

    centres = truth.coordinates if isinstance(truth, Points) else np.asarray(truth, float)
    centres = centres.reshape(-1, len(found.axes))
    labels, seen = np.zeros(len(found), np.int64), np.zeros(len(centres), bool)
    if len(found) and len(centres):
        pairs = match(found, centres, tolerance, spacing=spacing).pairs
        labels[pairs[:, 0]] = 1
        seen[pairs[:, 1]] = True
    table = found.table.assign(label=labels, missed=False)
    if add_missed and not seen.all():
        more = pd.DataFrame(centres[~seen], columns=list(found.axes))
        table = pd.concat([table, more.assign(label=1, missed=True)], ignore_index=True)
    return Points(table, "candidates")


def candidates(
    volume: Volume,
    detector: Detector,
    truth: np.ndarray | Points,
    tolerance: float,
    *,
    threshold: float | None = None,
    intensity: Intensity | None = None,
    add_missed: bool = False,
) -> Points:
    """What a detector proposes in a volume in memory, labelled by true centres.

    Parameters
    ----------
    volume : Volume
    detector : Detector
    truth : Points or (m, d) float
    tolerance : float
        In voxels.
    threshold : float, optional
        Lower than the detector's, so that nearly all cells are among the candidates.
    intensity : Intensity, optional
        Of the brain that the volume is a piece of.
    add_missed : bool
        See `label_candidates`.

    Returns
    -------
    Points
        z, y, x, score, label, missed.
    """
    heat = heat_of(detector, volume, intensity)
    limit = detector.threshold if threshold is None else threshold
    found = as_points(*find_maxima(heat, detector.radius, limit))
    return label_candidates(found, truth, tolerance, add_missed=add_missed)
