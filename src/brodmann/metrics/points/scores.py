"""Counts of found, false and missed cells, and the measures made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.core import DataError, Points, RecipeError
from brodmann.core.errors import nearest
from brodmann.metrics.points.matching import Matching, Mode, check_tolerance, match
from brodmann.metrics.points.pairs import millionths

SCORER = "brodmann cells 1"
"""Printed with every score; its number changes whenever a score could."""
MEASURES = ("f1", "precision", "recall", "accuracy")
TOLERANCE_VX = {
    "NeuN": 6.0,
    "cFos": 6.0,
    "TH": 8.0,
    "PV": 8.0,
    "GFAP": 8.0,
    "Iba1": 5.0,
    "microglia": 5.0,
}
"""Voxels within which a cell counts as found: CANVAS, Table 2; microglia as Iba1."""


@dataclass(frozen=True)
class PointScore:
    """Counts of one matching, or of several pooled.

    `tp`, `fp` and `fn` count pairs, cells found that are none, and true cells missed. Of the
    false ones `duplicates` lie at the very place of another found cell; `truth_duplicates` true
    rows do so and count as one cell. `tolerance` is in `unit` (voxel or um). A measure that
    would divide by 0 is NaN.

    Example
    -------
    >>> score = PointScore(tp=6, fp=2, fn=4, tolerance=6.0)
    >>> round(score.f1, 3), score.precision, score.recall, score.accuracy
    (0.667, 0.75, 0.6, 0.5)
    >>> PointScore(0, 0, 0).as_dict()["f1"] is None
    True
    """

    tp: int
    fp: int
    fn: int
    duplicates: int = 0
    truth_duplicates: int = 0
    tolerance: float = math.nan
    unit: str = "voxel"
    mode: str = "greedy_global"

    @property
    def precision(self) -> float:
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN): NaN only where nothing is true and nothing found."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN), as CANVAS defines it."""
        return _share(self.tp, self.tp + self.fp + self.fn)

    @property
    def true(self) -> int:
        """True cells."""
        return self.tp + self.fn

    def as_dict(self) -> dict[str, Any]:
        """For JSON: counts, measures (None where undefined), and what they depend on."""
        found: dict[str, Any] = {"tp": self.tp, "fp": self.fp, "fn": self.fn}
        found |= {"duplicates": self.duplicates, "truth_duplicates": self.truth_duplicates}
        for name in MEASURES:
            value = getattr(self, name)
            found[name] = None if math.isnan(value) else value
        tolerance = None if math.isnan(self.tolerance) else self.tolerance
        return found | {
            "tolerance": tolerance,
            "unit": self.unit,
            "mode": self.mode,
            "scorer": SCORER,
        }


def score_points(
    found: np.ndarray | Points,
    truth: np.ndarray | Points,
    tolerance: float,
    mode: Mode = "greedy_global",
    spacing: Sequence[float] | None = None,
) -> PointScore:
    """Match found cells with true ones and count; arguments and errors as `match`.

    Example
    -------
    >>> found = np.array([[0, 0, 0], [0, 0, 0], [9, 9, 9]], float)
    >>> score = score_points(found, np.array([[0, 0, 2.0]]), 6)
    >>> score.tp, score.fp, score.fn, score.duplicates
    (1, 2, 0, 1)
    """
    return count(match(found, truth, tolerance, mode, spacing), spacing is not None)


def count(matching: Matching, in_um: bool = False) -> PointScore:
    """The score of a matching; `in_um` says that its distances are micrometres."""
    hits = len(matching.pairs)
    found, true = matching.sizes
    return PointScore(
        tp=hits,
        fp=found - hits,
        fn=true - len(matching.truth_duplicates) - hits,
        duplicates=len(matching.duplicates),
        truth_duplicates=len(matching.truth_duplicates),
        tolerance=matching.tolerance,
        unit="um" if in_um else "voxel",
        mode=matching.mode,
    )


def pool(scores: Iterable[PointScore]) -> PointScore:
    """Counts added up, so that an image without cells counts by what was found in it.

    Raises
    ------
    DataError
        If tolerances, units or modes differ, or there is no score.

    Example
    -------
    >>> pool([PointScore(3, 1, 0), PointScore(0, 1, 0)]).fp
    2
    """
    scores = list(scores)
    if not scores:
        raise DataError("there is no score to pool")
    kinds = {(None if math.isnan(s.tolerance) else s.tolerance, s.unit, s.mode): s for s in scores}
    if len(kinds) > 1:
        shown = sorted(f"{t} {unit} {mode}" for t, unit, mode in kinds)
        raise DataError("scores of different kinds cannot be pooled", found=", ".join(shown))
    first = scores[0]
    names = ("tp", "fp", "fn", "duplicates", "truth_duplicates")
    total = {name: sum(getattr(score, name) for score in scores) for name in names}
    return PointScore(**total, tolerance=first.tolerance, unit=first.unit, mode=first.mode)


def tolerance_of(marker: str) -> float:
    """The tolerance of a marker in voxels, whatever its capitals.

    Raises
    ------
    DataError
        If the marker is unknown.

    >>> tolerance_of("neun"), tolerance_of("IBA1")
    (6.0, 5.0)
    """
    known = {name.lower(): value for name, value in TOLERANCE_VX.items()}
    if marker.lower() not in known:
        raise DataError(
            "this marker has no tolerance",
            "marker",
            repr(marker),
            nearest(marker, TOLERANCE_VX) + ", or give a tolerance",
        )
    return known[marker.lower()]


def resolve_tolerance(
    tolerance: float | str | None,
    marker: str | None,
    unit: str,
    spacing: Sequence[float] | None,
) -> tuple[float, str]:
    """The tolerance and its unit, voxel or um.

    >>> resolve_tolerance("10um", None, "voxel", (4, 1.8, 1.8))
    (10.0, 'um')
    >>> resolve_tolerance(None, "NeuN", "um", (4, 1.8, 1.8))
    (6.0, 'voxel')
    """
    if unit not in ("voxel", "um"):
        raise RecipeError("the unit is voxel or um", "unit", repr(unit))
    if (tolerance is None) == (marker is None):
        raise RecipeError(
            "give a tolerance, or a marker that has one", fix="--tolerance or --marker"
        )
    if marker is not None:
        return tolerance_of(marker), "voxel"
    text, measure = str(tolerance).strip(), unit
    for suffix, meant in (("voxel", "voxel"), ("vx", "voxel"), ("um", "um")):
        if text.endswith(suffix):
            text, measure = text.removesuffix(suffix), meant
            break
    try:
        limit = float(text)
    except ValueError:
        raise RecipeError(
            "a tolerance is a number", "tolerance", repr(tolerance), "6, 6vx or 10um"
        ) from None
    if measure == "um" and spacing is None:
        raise RecipeError(
            "a tolerance in um needs the spacing", "tolerance", text, "--spacing Z,Y,X"
        )
    check_tolerance(limit)
    return limit, measure


def tolerance_um(tolerance: float, spacing: Sequence[float]) -> float:
    """A tolerance in voxels as um in the plane, where voxels are smallest as a rule.

    >>> round(tolerance_um(6, (4.0, 1.8, 1.8)), 6)
    10.8
    """
    in_plane = [float(step) for step in spacing][-2:]
    return float(tolerance) * sum(in_plane) / len(in_plane)


def scores_by_tolerance(
    found: np.ndarray | Points,
    truth: np.ndarray | Points,
    tolerances: Sequence[float],
    mode: Mode = "greedy_global",
    spacing: Sequence[float] | None = None,
) -> list[PointScore]:
    """A score for each tolerance; arguments and errors as `match`.

    greedy_global and nearest are matched once, at the largest: a pair closer than a smaller
    tolerance is taken at both or at neither.

    >>> found, truth = np.array([[0.0, 0.0]]), np.array([[0.0, 3.0]])
    >>> [score.tp for score in scores_by_tolerance(found, truth, (2, 3, 4))]
    [0, 0, 1]
    """
    if not len(tolerances):
        return []
    if mode == "optimal":
        return [score_points(found, truth, t, mode, spacing) for t in tolerances]
    # A wrong tolerance is refused, not taken for one at which nothing matches.
    check_tolerance(min(tolerances))
    whole = match(found, truth, max(tolerances), mode, spacing)
    costs = np.floor(whole.distances * 1e6 + 0.5)
    at_most = count(whole, spacing is not None)
    scores = []
    for tolerance in tolerances:
        hits = int((costs < millionths(tolerance)).sum())
        lost = at_most.tp - hits
        scores.append(
            PointScore(
                hits,
                at_most.fp + lost,
                at_most.fn + lost,
                at_most.duplicates,
                at_most.truth_duplicates,
                float(tolerance),
                at_most.unit,
                mode,
            )
        )
    return scores


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
