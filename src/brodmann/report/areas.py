"""The table of region areas: one row for each region of each section."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, DataError, LabelMap, Volume, check_same_grid
from brodmann.core.files import write_text
from brodmann.report.counts import label_of, primary_of, sums_by_id

STRIP_VOXELS = 1 << 24
"""Voxels read at a time, so that memory does not grow with the section."""
COLUMNS = ("section", "subject", "split", "id", "acronym", "name", "primary", "pixels")


def measure_areas(
    prediction: Volume,
    label_map: LabelMap,
    *,
    truth: Volume | None = None,
    confidence: Volume | None = None,
    section: str = "",
    subject: str = "",
    split: str = "",
) -> list[dict[str, Any]]:
    """Pixels, area and confidence of every region that is in the prediction or in the truth.

    Read strip by strip, so the volumes may be larger than memory.

    Parameters
    ----------
    prediction, truth : Volume
        Label ids on one grid, "yx" or "zyx".
    label_map : LabelMap
    confidence : Volume, optional
        uint8 on the same grid, 0..255 for 0..1.
    section, subject, split : str
        Written into each row.

    Returns
    -------
    list of dict
        By id: section, subject, split, id, acronym, name, primary (acronym), pixels,
        area_mm2 (2D) or volume_mm3 (3D); with confidence mean_confidence (0..1, None where
        nothing was predicted); with truth truth_pixels, truth_area_mm2 or truth_volume_mm3,
        and annotated_pixels: predicted pixels where the truth is not "ignore", the number to
        hold against truth_pixels. Background and the ignore id have no row.

    Raises
    ------
    DataError
        If the grids differ.

    Example
    -------
    >>> from brodmann.core import Label
    >>> labels = Volume(np.array([[0, 3], [3, 3]]), "yx", (500.0, 500.0))
    >>> row, = measure_areas(labels, LabelMap([Label(3, "Thalamus", "TH")]))
    >>> row["acronym"], row["pixels"], row["area_mm2"]
    ('TH', 3, 0.75)
    """
    for other in (truth, confidence):
        if other is not None:
            check_same_grid(prediction, other, section)
    skip = {BACKGROUND, label_map.ignore}
    pixels: dict[int, int] = {}
    sure: dict[int, float] = {}
    annotated: dict[int, int] = {}
    true: dict[int, int] = {}
    for window in _strips(prediction):
        labels = prediction.read(window)[0]
        if labels.dtype.kind not in "iub":
            raise DataError("label images hold whole numbers", section, labels.dtype)
        values = None if confidence is None else confidence.read(window)[0]
        for id_, (count, total) in sums_by_id(labels, values).items():
            pixels[id_] = pixels.get(id_, 0) + count
            sure[id_] = sure.get(id_, 0.0) + total
        if truth is None:
            continue
        known = truth.read(window)[0]
        for id_, (count, _) in sums_by_id(known).items():
            true[id_] = true.get(id_, 0) + count
        if label_map.ignore is not None:
            labels = labels[known != label_map.ignore]
        for id_, (count, _) in sums_by_id(labels).items():
            annotated[id_] = annotated.get(id_, 0) + count
    flat = prediction.ndim == 2
    size, unit = ("area_mm2", 1e6) if flat else ("volume_mm3", 1e9)
    voxel = prediction.voxel_size / unit
    rows = []
    for id_ in sorted((set(pixels) | set(true)) - skip):
        label = label_of(label_map, id_)
        count = pixels.get(id_, 0)
        row = {
            "section": section,
            "subject": subject,
            "split": split,
            "id": id_,
            "acronym": label.acronym,
            "name": label.name,
            "primary": primary_of(label_map, id_),
            "pixels": count,
            size: round(count * voxel, 9),
        }
        if confidence is not None:
            row["mean_confidence"] = round(sure[id_] / count / 255, 4) if count else None
        if truth is not None:
            row["annotated_pixels"] = annotated.get(id_, 0)
            row["truth_pixels"] = true.get(id_, 0)
            row[f"truth_{size}"] = round(true.get(id_, 0) * voxel, 9)
        rows.append(row)
    return rows


def write_areas(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows of `measure_areas` as CSV, whole or not at all; a value not known is empty.

    Columns that no row has are left out. Without rows only the heading is written.
    """
    rows = list(rows)
    columns = list(COLUMNS)
    for row in rows:
        columns += [key for key in row if key not in columns]
    if not rows:
        columns.append("area_mm2")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def total_areas(rows: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, float | None]]:
    """Sum over sections: id -> predicted, compared and true size (mm2 or mm3), and `unit`.

    `compared` is the predicted size where the truth is known, summed, like `true`, over the
    sections that have a truth; both are None when none has.
    """
    totals: dict[int, dict[str, Any]] = {}
    for row in rows:
        size = "area_mm2" if "area_mm2" in row else "volume_mm3"
        entry = totals.setdefault(
            row["id"],
            {"predicted": 0.0, "compared": None, "true": None, "unit": size.split("_")[1]},
        )
        entry["predicted"] += row[size]
        if "truth_pixels" in row:
            pixels = max(row["pixels"], row["truth_pixels"])
            voxel = max(row[size], row[f"truth_{size}"]) / pixels
            entry["compared"] = (entry["compared"] or 0.0) + row["annotated_pixels"] * voxel
            entry["true"] = (entry["true"] or 0.0) + row[f"truth_{size}"]
    return totals


def _strips(grid: Volume) -> Iterator[tuple[slice, ...]]:
    shape = grid.spatial_shape
    rows = max(1, STRIP_VOXELS // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])), *(slice(None) for _ in shape[1:]))
