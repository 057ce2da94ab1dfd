"""Counting pixels by label id, and naming the ids."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np

from brodmann.core import Label, LabelMap
from brodmann.core.labels import unique_inverse

CHUNK_VOXELS = 1 << 24
PLAIN = "808080"
"""The colour that a table without colours gives to every region."""


def label_of(label_map: LabelMap, id_: int) -> Label:
    """The label with this id, made up for an id that the tree does not have.

    In a tree without any colours each region gets one of its own, by the golden angle.
    """
    label = label_map[id_] if id_ in label_map else Label(id_, f"id {id_}", f"id {id_}")
    if label.color == PLAIN and all(other.color == PLAIN for other in label_map):
        hue = (id_ * 0.61803398875) % 1
        rgb = colorsys.hls_to_rgb(hue, 0.58 + 0.1 * (id_ % 3 - 1), 0.62)
        return replace(label, color="".join(f"{round(255 * part):02X}" for part in rgb))
    return label


def primary_of(label_map: LabelMap, id_: int) -> str:
    """Acronym of the primary region that an id belongs to; empty for an unknown id."""
    return label_map[label_map.primary(id_)].acronym if id_ in label_map else ""


def sums_by_id(
    labels: np.ndarray, values: np.ndarray | None = None
) -> dict[int, tuple[int, float]]:
    """Id -> (pixels, sum of `values` over them), for each id present; 0.0 without values.

    >>> sums_by_id(np.array([4, 4, 0]), np.array([1, 2, 5], np.uint8))
    {0: (1, 5.0), 4: (2, 3.0)}
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    weights = None if values is None else np.ascontiguousarray(values).reshape(-1)
    found: dict[int, tuple[int, float]] = {}
    for start in range(0, len(flat), CHUNK_VOXELS):
        chunk = slice(start, start + CHUNK_VOXELS)
        present, place = unique_inverse(flat[chunk])
        counts = np.bincount(place, minlength=len(present))
        if weights is None:
            totals = np.zeros(len(present))
        else:
            totals = np.bincount(place, weights=weights[chunk], minlength=len(present))
        for id_, count, total in zip(present.tolist(), counts.tolist(), totals.tolist()):
            before = found.get(id_, (0, 0.0))
            found[id_] = before[0] + count, before[1] + total
    return dict(sorted(found.items()))
