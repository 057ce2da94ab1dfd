"""Rows of the page's tables, from scores and areas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from brodmann.core import LabelMap
from brodmann.report.counts import label_of

MATRIX = 14
"""Regions in the picture of confusions, at most."""
HEADLINE = (
    ("mean_dice", "Mean Dice"),
    ("mean_iou", "Mean IoU"),
    ("mean_precision", "Precision"),
    ("mean_recall", "Recall"),
)


def number(value: Any) -> float | None:
    """A finite float, or None for what is missing, NaN or infinite."""
    if value is None or isinstance(value, bool):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def headline(pooled: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The pooled means that there are, with their titles."""
    found = [(title, number(pooled.get(key))) for key, title in HEADLINE]
    return [(title, value) for title, value in found if value is not None]


def compared(
    pooled: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """This run and every baseline: name, dice, iou, ours; best Dice first."""
    rows = [("this run", pooled, True), *((name, b, False) for name, b in baselines.items())]
    table = [
        {
            "name": name,
            "dice": number(scores.get("mean_dice")),
            "iou": number(scores.get("mean_iou")),
            "ours": ours,
        }
        for name, scores, ours in rows
    ]
    table = [row for row in table if row["dice"] is not None]
    return sorted(table, key=lambda row: (-row["dice"], not row["ours"]))


def region_rows(
    per_class: Sequence[Mapping[str, Any]],
    surface: Sequence[Mapping[str, Any]],
    totals: Mapping[int, Mapping[str, Any]],
    label_map: LabelMap,
    confidence: Mapping[int, float],
) -> list[dict[str, Any]]:
    """One row for each region that was scored or has an area; largest first."""
    scores = {int(row["id"]): row for row in per_class if number(row.get("dice")) is not None}
    distances = {int(row["id"]): row for row in surface}
    rows = []
    for id_ in {**dict.fromkeys(scores), **dict.fromkeys(totals)}:
        if id_ in (0, label_map.ignore):
            continue
        label = label_of(label_map, id_)
        area = totals.get(id_, {})
        true, found = area.get("true"), area.get("compared")
        score = scores.get(id_, {})
        rows.append(
            {
                "id": id_,
                "acronym": label.acronym,
                "name": label.name,
                "color": f"#{label.color}",
                **{key: number(score.get(key)) for key in ("dice", "iou", "precision", "recall")},
                "hd95_um": number(distances.get(id_, {}).get("hd95_um")),
                "true": true,
                "predicted": found if found is not None else area.get("predicted"),
                "error": (found - true) / true if true and found is not None else None,
                "confidence": confidence.get(id_),
            }
        )
    return sorted(rows, key=lambda row: (-(row["true"] or row["predicted"] or 0), row["id"]))


def primary_totals(
    totals: Mapping[int, Mapping[str, Any]], label_map: LabelMap
) -> dict[int, dict[str, Any]]:
    """Sizes summed over the regions of each primary region."""
    rolled: dict[int, dict[str, Any]] = {}
    for id_, entry in totals.items():
        if id_ not in label_map:
            continue
        into = rolled.setdefault(label_map.primary(id_), {"unit": entry["unit"]})
        for key in ("predicted", "compared", "true"):
            if entry[key] is None:
                into.setdefault(key, None)
            else:
                into[key] = (into.get(key) or 0.0) + entry[key]
    return rolled


def mean_confidence(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Confidence of each id over all sections, weighted by pixels."""
    sums: dict[int, list[float]] = {}
    for row in rows:
        if row.get("mean_confidence") is not None:
            entry = sums.setdefault(row["id"], [0.0, 0.0])
            entry[0] += row["mean_confidence"] * row["pixels"]
            entry[1] += row["pixels"]
    return {id_: total / pixels for id_, (total, pixels) in sums.items() if pixels}


def confusion_rows(
    confusions: Sequence[Mapping[str, Any]], label_map: LabelMap, count: int = 16
) -> list[dict[str, Any]]:
    """The most confused pairs with the regions' colours."""
    colors = {label.acronym: f"#{label_of(label_map, label.id).color}" for label in label_map}
    return [
        {
            "truth": row["truth"],
            "prediction": row["prediction"],
            "pixels": int(row["pixels"]),
            "share": number(row["share"]),
            "truth_color": colors.get(row["truth"], "#000000"),
            "prediction_color": colors.get(row["prediction"], "#000000"),
        }
        for row in confusions[:count]
    ]


def confusion_matrix(
    confusions: Sequence[Mapping[str, Any]], label_map: LabelMap
) -> dict[str, Any] | None:
    """Shares among the regions of the most confused pairs: names and rows (truth) of shares.

    Regions stand in the label map's order, so that neighbours in the tree are neighbours
    here. None when there are fewer than two regions.
    """
    names: list[str] = []
    for row in confusions:
        new = [name for name in (row["truth"], row["prediction"]) if name not in names]
        if len(names) + len(set(new)) <= MATRIX:
            names += dict.fromkeys(new)
    if len(names) < 2:
        return None
    order = {label.acronym: place for place, label in enumerate(label_map)}
    names.sort(key=lambda name: order.get(name, -1))
    share = {(row["truth"], row["prediction"]): number(row["share"]) for row in confusions}
    rows = [[share.get((truth, found)) for found in names] for truth in names]
    top = max((value for row in rows for value in row if value), default=0.0)
    return {"names": names, "rows": rows, "top": top or 1.0}
