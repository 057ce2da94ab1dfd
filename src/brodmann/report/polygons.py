"""Regions as GeoJSON polygons that QuPath opens."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, LabelMap, Volume, check_same_grid
from brodmann.core.files import write_text
from brodmann.report.counts import label_of, primary_of, sums_by_id
from brodmann.report.outlines import Part, trace_regions, twice_area

SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://www.rfc-editor.org/rfc/rfc7946")


def region_features(
    prediction: Volume,
    label_map: LabelMap,
    *,
    name: str = "",
    confidence: Volume | None = None,
) -> list[dict[str, Any]]:
    """One GeoJSON Feature for each region (and each plane of a volume).

    Geometry is in pixels, origin at the top left corner of the first pixel, y downwards, as
    QuPath counts: polygons run along pixel edges, neighbours share their edges, and holes are
    inner rings. Background and the ignore id are left out.

    Parameters
    ----------
    prediction : Volume
        Label ids, "yx" or "zyx"; read whole ("zyx" plane by plane).
    label_map : LabelMap
        Names and colours; an id that it does not have is drawn grey.
    name : str
        The section's name; it goes into the features' UUIDs, which are therefore the same
        every time.
    confidence : Volume, optional
        uint8 on the same grid, 0..255 for 0..1.

    Returns
    -------
    list of dict
        `properties` has QuPath's objectType, name, classification (name and [r, g, b]),
        isLocked and measurements, and in plain words id, acronym, primary, area_mm2 and
        mean_confidence (0..1; None without confidence).

    Raises
    ------
    DataError
        If the prediction is no label image, or the confidence lies on another grid.

    Example
    -------
    >>> from brodmann.core import Label
    >>> labels = Volume(np.array([[0, 3], [3, 3]]), "yx", (1000.0, 1000.0))
    >>> feature, = region_features(labels, LabelMap([Label(3, "Thalamus", "TH", None, "FF90A0")]))
    >>> feature["geometry"]["coordinates"]
    [[[1, 0], [2, 0], [2, 2], [0, 2], [0, 1], [1, 1], [1, 0]]]
    >>> feature["properties"]["classification"], feature["properties"]["area_mm2"]
    ({'name': 'TH', 'color': [255, 144, 160]}, 3.0)
    """
    if prediction.axes not in ("yx", "zyx"):
        raise DataError("polygons are made from label images without channels", name)
    if confidence is not None:
        check_same_grid(prediction, confidence, name)
    if prediction.ndim == 2:
        sure = None if confidence is None else confidence.read()[0]
        return _plane(prediction.read()[0], sure, prediction, label_map, name, None)
    features = []
    rest = (slice(None), slice(None))
    for z in range(prediction.spatial_shape[0]):
        window = (slice(z, z + 1), *rest)
        sure = None if confidence is None else confidence.read(window)[0, 0]
        plane = prediction.read(window)[0, 0]
        features += _plane(plane, sure, prediction, label_map, name, z)
    return features


def write_polygons(
    path: Path,
    prediction: Volume,
    label_map: LabelMap,
    *,
    name: str = "",
    confidence: Volume | None = None,
) -> Path:
    """Write `region_features` as a GeoJSON FeatureCollection, whole or not at all.

    Drop the file on the image in QuPath (0.4 or later): each region becomes a locked
    annotation in its colour, and areas and confidence stand in the measurement table.

    Raises
    ------
    DataError
        As `region_features`.
    OutputError
        If the file cannot be written.
    """
    features = region_features(prediction, label_map, name=name, confidence=confidence)
    lines = ",\n".join(json.dumps(f, ensure_ascii=False, allow_nan=False) for f in features)
    return write_text(path, '{"type": "FeatureCollection", "features": [\n' + lines + "\n]}\n")


def _plane(
    labels: np.ndarray,
    confidence: np.ndarray | None,
    grid: Volume,
    label_map: LabelMap,
    name: str,
    z: int | None,
) -> list[dict[str, Any]]:
    parts: dict[int, list[Part]] = {}
    for part in trace_regions(labels):
        if part.id != label_map.ignore:
            parts.setdefault(part.id, []).append(part)
    pixel_mm2 = grid.spacing[-1] * grid.spacing[-2] / 1e6
    sure = {} if confidence is None else sums_by_id(labels, confidence)
    features = []
    for id_ in sorted(parts):
        label = label_of(label_map, id_)
        polygons = [[_closed(ring) for ring in part.rings] for part in parts[id_]]
        # Holes count negative.
        pixels = sum(twice_area(ring) for part in parts[id_] for ring in part.rings) // 2
        geometry: dict[str, Any] = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        if z is not None:
            geometry["plane"] = {"c": -1, "z": z, "t": 0}
        area_mm2 = round(pixels * pixel_mm2, 9)
        mean = None if confidence is None else round(sure[id_][1] / sure[id_][0] / 255, 4)
        measurements: Mapping[str, float] = {"Area mm^2": area_mm2} | (
            {} if mean is None else {"Mean confidence": mean}
        )
        properties = {
            "objectType": "annotation",
            "name": label.name,
            "classification": {"name": label.acronym, "color": list(label.rgb)},
            "isLocked": True,
            "measurements": measurements,
            "id": id_,
            "acronym": label.acronym,
            "primary": primary_of(label_map, id_),
            "area_mm2": area_mm2,
            "mean_confidence": mean,
        }
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(SPACE, f"{name}\x1f{id_}\x1f{z}")),
                "geometry": geometry,
                "properties": properties,
            }
        )
    return features


def _closed(ring: np.ndarray) -> list[list[int]]:
    return [*ring.tolist(), ring[0].tolist()]
