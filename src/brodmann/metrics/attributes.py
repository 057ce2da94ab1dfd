"""Attributes of a picture from its labels: densities, and the number, size and spacing of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brodmann.core import DataError, LabelMap
from brodmann.metrics.components import Components, check_connectivity, components

ATTRIBUTES = ("vessel_density", "axon_density", "cell_count", "cell_size", "cell_distance")
ROLES = ("vessel", "cell", "axon")
"""What ids stand for; a fourth name, "ignore", marks pixels that nobody annotated."""
WORDS = {
    "vessel": ("vessel", "vessels", "blood vessel", "blood vessels", "vasculature"),
    "cell": ("cell", "cells", "cell body", "cell bodies", "soma", "somata", "nucleus", "nuclei"),
    "axon": ("axon", "axons", "myelinated axon", "myelinated axons"),
}
"""Names of labels, in lower case, by which `roles` knows what they are."""
RELEASED_LONELY_PX = 64.0
"""The distance that the release states for a picture of fewer than two cells."""


def attributes_of(
    labels: np.ndarray,
    spacing_um: Sequence[float],
    *,
    vessel: int | None,
    cell: int | None,
    axon: int | None,
    ignore: int | None = None,
    connectivity: int | None = None,
    min_voxels: int = 0,
    published_distance: bool = False,
) -> dict[str, float]:
    """Five attributes of one picture or block.

    Densities are shares of the known pixels. Cells are the connected components of the cell
    id: `cell_count` is their number, `cell_size` their mean area (um2) or volume (um3),
    `cell_distance` the mean distance (um) from each cell's centroid to the nearest other.

    Parameters
    ----------
    labels : (y, x) or (z, y, x) int
        Ids; what is none of those given here is known, and something else.
    spacing_um : sequence of float
        One for each axis.
    vessel, cell, axon : int or None
        Their ids; None where the labels do not know them: NaN.
    ignore : int, optional
        Pixels that nobody annotated: no part of the grid, and no part of a cell.
    connectivity : {4, 8} in 2D, {6, 18, 26} in 3D
        Default: cells hang together by edges (4) or faces (6).
    min_voxels : int
        Components of fewer voxels are no cells.
    published_distance : bool
        Repeat what the release of MTNeuro states: `cell_distance` in pixels, with each cell's
        distance of zero to itself in the mean (half the true one), 64 below two cells, where
        `cell_size` is 0.

    Returns
    -------
    dict
        ATTRIBUTES -> float. Without cells the count is 0 and the size NaN; the distance is NaN
        below two. All are NaN where nothing is known.

    Raises
    ------
    DataError
        If labels are not whole numbers in 2D or 3D, spacing does not fit, or two ids are equal.

    Notes
    -----
    Task 3 of MTNeuro (paper 3.3.3, appendix 5; specs/mtneuro.md, fault 7). A cell at the edge
    counts as what is seen of it.

    Example
    -------
    >>> labels = np.zeros((8, 8), np.uint8)
    >>> labels[1, 1] = labels[1, 5] = 2
    >>> labels[7] = 1
    >>> list(attributes_of(labels, (2.0, 0.5), vessel=1, cell=2, axon=3).values())
    [0.125, 0.0, 2.0, 1.0, 2.0]
    """
    labels = np.asarray(labels)
    ids = check_ids({"vessel": vessel, "cell": cell, "axon": axon, "ignore": ignore})
    check_labels(labels.dtype)
    connectivity = check_connectivity(connectivity, labels.ndim)
    spacing = check_spacing(spacing_um, labels.ndim)
    pixels = count_pixels(labels, ids)
    found = None
    if ids["cell"] is not None:
        found = components(labels == ids["cell"], connectivity).at_least(min_voxels)
    return summary(pixels, ids, found, spacing, published_distance=published_distance)


def summary(
    pixels: Mapping[str, int],
    ids: Mapping[str, int | None],
    cells: Components | None,
    spacing_um: Sequence[float],
    nearest_um: np.ndarray | None = None,
    *,
    published_distance: bool = False,
) -> dict[str, float]:
    """The attributes from what was counted.

    Parameters
    ----------
    pixels : mapping
        From `count_pixels`.
    ids : mapping
        Role -> id or None.
    cells : Components or None
        None where there is no cell id.
    spacing_um : sequence of float
    nearest_um : (n,) float, optional
        Distance of each cell to its neighbour where that may lie outside; default: inside.
    published_distance : bool
        As for `attributes_of`.

    Example
    -------
    >>> pixels = {"known": 8, "vessel": 2, "axon": 0}
    >>> summary(pixels, {"vessel": 1, "axon": 3}, None, (1.0, 1.0))["vessel_density"]
    0.25
    """
    found = dict.fromkeys(ATTRIBUTES, float("nan"))
    known = pixels["known"]
    for role in ("vessel", "axon"):
        if known and ids.get(role) is not None:
            found[f"{role}_density"] = pixels[role] / known
    if cells is None or not (known or len(cells)):
        return found
    found["cell_count"] = float(len(cells))
    if len(cells):
        mean = int(cells.voxels.sum()) / len(cells)
        found["cell_size"] = mean * float(np.prod(spacing_um))
    if published_distance:
        found["cell_distance"] = _released_distance(cells.centroids)
        if len(cells) < 2:
            found["cell_size"] = 0.0
        return found
    if nearest_um is None:
        nearest_um = nearest_distances(cells.centroids * np.asarray(spacing_um))
    if np.isfinite(nearest_um).any():
        found["cell_distance"] = float(nearest_um[np.isfinite(nearest_um)].mean())
    return found


def nearest_distances(points: np.ndarray) -> np.ndarray:
    """Distance of every point to the nearest other one; NaN where there is no other.

    Parameters
    ----------
    points : (n, d) float

    Returns
    -------
    (n,) float64
        0 where two points coincide.

    Example
    -------
    >>> nearest_distances(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])).tolist()
    [5.0, 1.0, 1.0]
    """
    from scipy.spatial import cKDTree

    if len(points) < 2:
        return np.full(len(points), np.nan)
    # The nearest is the point itself, or one that coincides with it: 0 either way.
    return cKDTree(points).query(points, k=2)[0][:, 1]


def count_pixels(labels: np.ndarray, ids: Mapping[str, int | None]) -> dict[str, int]:
    """Pixels that are known, vessel and axon; a role without an id counts 0.

    >>> count_pixels(np.array([[0, 1], [1, 9]]), {"vessel": 1, "axon": 3, "ignore": 9})
    {'known': 3, 'vessel': 2, 'axon': 0}
    """

    def count(role: str) -> int:
        id_ = ids.get(role)
        return 0 if id_ is None else int(np.count_nonzero(labels == id_))

    return {
        "known": labels.size - count("ignore"),
        "vessel": count("vessel"),
        "axon": count("axon"),
    }


def roles(label_map: LabelMap) -> dict[str, int]:
    """The ids of vessels, cells, axons and ignore in a label map, told by name or acronym.

    Parameters
    ----------
    label_map : LabelMap

    Returns
    -------
    dict
        "vessel", "cell", "axon", "ignore" -> id, where the map has them.

    Raises
    ------
    DataError
        If two labels have names of one role.

    Example
    -------
    >>> from brodmann.core import Label
    >>> roles(LabelMap([Label(1, "Blood vessels", "BV"), Label(2, "cell", "cell")], ignore=255))
    {'vessel': 1, 'cell': 2, 'ignore': 255}
    """
    found: dict[str, int] = {}
    for role in ROLES:
        fits = [
            label
            for label in label_map
            if {label.name.strip().lower(), label.acronym.strip().lower()} & set(WORDS[role])
        ]
        if len(fits) > 1:
            raise DataError(
                f"two labels that are called {role}",
                found=" and ".join(f"{label.id} {label.name!r}" for label in fits[:2]),
                fix="name the ids that are meant",
            )
        if fits:
            found[role] = fits[0].id
    if label_map.ignore is not None:
        found["ignore"] = label_map.ignore
    return found


def check_ids(ids: Mapping[str, int | None]) -> dict[str, int | None]:
    """Ids by role, whole and all different; roles that are not named are None."""
    given = {role: ids.get(role) for role in (*ROLES, "ignore")}
    seen: dict[int, str] = {}
    for role, id_ in given.items():
        if id_ is None:
            continue
        if isinstance(id_, bool) or int(id_) != id_:
            raise DataError("an id is a whole number", role, repr(id_))
        if int(id_) in seen:
            raise DataError(
                "two roles have one id", found=f"{seen[int(id_)]} and {role} are both {id_}"
            )
        seen[int(id_)] = role
    return {role: None if id_ is None else int(id_) for role, id_ in given.items()}


def check_labels(dtype: np.dtype, where: str | None = None) -> None:
    """Refuse labels that are not whole numbers."""
    if np.dtype(dtype).kind not in "iub":
        raise DataError("label images hold whole numbers", where, dtype, "export ids, not scores")


def check_spacing(spacing_um: Sequence[float], ndim: int) -> tuple[float, ...]:
    """A positive step for every axis."""
    spacing = tuple(float(step) for step in spacing_um)
    if len(spacing) != ndim or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise DataError(
            f"spacing must be {ndim} positive numbers in micrometres", found=tuple(spacing_um)
        )
    return spacing


def _released_distance(centroids: np.ndarray) -> float:
    from scipy.spatial import cKDTree

    if len(centroids) < 2:
        return RELEASED_LONELY_PX
    return float(cKDTree(centroids).query(centroids, k=2)[0].mean())
