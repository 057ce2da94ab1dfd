"""Every model on every marker: the table of CANVAS, by region and in total."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brodmann.core import DataError
from brodmann.core.files import write_json, write_text
from brodmann.metrics.points.scores import MEASURES, SCORER, TOLERANCE_VX, PointScore, pool

TOTAL = "total"


@dataclass(frozen=True, eq=False)
class MarkerMatrix:
    """Scores of models (columns) on the regions of markers (rows).

    `regions` has the regions of each marker; a score that is not there was not measured.
    """

    markers: tuple[str, ...]
    models: tuple[str, ...]
    regions: dict[str, tuple[str, ...]]
    scores: dict[tuple[str, str, str], PointScore]

    def score(self, marker: str, region: str, model: str) -> PointScore | None:
        """One entry; of region "total" the pooled counts of all regions of the marker.

        None if it was not measured, or if a region is missing of the total: totals over
        different regions would not compare.
        """
        if region != TOTAL:
            return self.scores.get((marker, region, model))
        parts = [self.scores.get((marker, one, model)) for one in self.regions[marker]]
        return None if None in parts else pool(part for part in parts if part is not None)

    def rows(self) -> list[dict[str, Any]]:
        """Long table: marker, region, model, counts and measures; totals among them."""
        found = []
        for marker in self.markers:
            for region in (TOTAL, *self.regions[marker]):
                for model in self.models:
                    score = self.score(marker, region, model)
                    if score is not None:
                        key = {"marker": marker, "region": region, "model": model}
                        found.append(key | score.as_dict())
        return found

    def best(self, marker: str, region: str = TOTAL, measure: str = "f1") -> tuple[str, ...]:
        """The models of the highest value; several where they are equal, none if undefined."""
        values = {model: self.value(marker, region, model, measure) for model in self.models}
        known = {model: value for model, value in values.items() if value is not None}
        return tuple(m for m, value in known.items() if value == max(known.values()))

    def value(self, marker: str, region: str, model: str, measure: str = "f1") -> float | None:
        """One number, None where it is undefined or was not measured."""
        score = self.score(marker, region, model)
        return None if score is None else score.as_dict()[measure]

    def wide(self, measure: str = "f1") -> list[dict[str, Any]]:
        """The table of the paper: a row for each marker and region, a column for each model."""
        return [
            {
                "marker": marker,
                "region": region,
                **{m: self.value(marker, region, m, measure) for m in self.models},
            }
            for marker in self.markers
            for region in (TOTAL, *self.regions[marker])
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": "cells matrix",
            "scorer": SCORER,
            "markers": list(self.markers),
            "models": list(self.models),
            "rows": self.rows(),
            "best": {marker: list(self.best(marker)) for marker in self.markers},
        }

    def write(self, folder: str | Path, stem: str = "matrix") -> dict[str, Path]:
        """Write matrix.json (everything), matrix.csv (long) and a wide table a measure."""
        folder = Path(folder)
        files = {"json": write_json(folder / f"{stem}.json", self.as_dict())}
        files["csv"] = write_text(folder / f"{stem}.csv", to_csv(self.rows()))
        for measure in ("f1", "accuracy"):
            text = to_csv(self.wide(measure))
            files[measure] = write_text(folder / f"{stem}-{measure}.csv", text)
        return files


def marker_matrix(
    records: Iterable[tuple[str, str, str, PointScore]], models: Sequence[str] = ()
) -> MarkerMatrix:
    """Put scores together that were measured one by one.

    Parameters
    ----------
    records : iterable of (marker, region, model, PointScore)
    models : sequence of str, optional
        The order of columns. Default: markers' own models first, in the order of markers,
        then the others as they come.

    Raises
    ------
    DataError
        If nothing is given, an entry comes twice, or a region is named "total".

    Example
    -------
    >>> table = marker_matrix([("NeuN", "region_1", "NeuN", PointScore(8, 2, 2, tolerance=6))])
    >>> table.wide()[0]
    {'marker': 'NeuN', 'region': 'total', 'NeuN': 0.8}
    """
    scores: dict[tuple[str, str, str], PointScore] = {}
    for marker, region, model, score in records:
        key = (marker, region, model)
        if key in scores or region == TOTAL:
            what = "a region cannot be named 'total'" if region == TOTAL else "scored twice"
            raise DataError(what, found=" / ".join(key))
        scores[key] = score
    if not scores:
        raise DataError("a matrix needs at least one score")
    seen = list(dict.fromkeys(marker for marker, _, _ in scores))
    known = [name for name in TOLERANCE_VX if name in seen]
    markers = (*known, *(name for name in seen if name not in known))
    there = list(dict.fromkeys(model for _, _, model in scores))
    missing = [name for name in models if name not in there]
    if missing:
        raise DataError("no score of this model", found=missing[0])
    own = [model for marker in markers for model in there if model.lower() == marker.lower()]
    order = tuple(dict.fromkeys([*models, *own, *there]))
    regions = {
        marker: tuple(sorted({r for m, r, _ in scores if m == marker})) for marker in markers
    }
    return MarkerMatrix(markers, order, regions, scores)


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A table as text; empty where a value is None.

    >>> to_csv([{"a": 1, "b": None}])
    'a,b\\n1,\\n'
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else MEASURES, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
