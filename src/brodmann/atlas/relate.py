"""Between markers: which cells carry both, and whether one kind lies near the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brodmann.atlas.annotation import SIDES, Annotation
from brodmann.atlas.count import CellCounts
from brodmann.atlas.passes import sample_voxels, tissue_mask
from brodmann.core import DataError, RecipeError, keyed_rng

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 20
"""Structures with fewer cells of the first marker are left out."""
MAJOR = 12
"""So many structures, or a few more, part the brain where none are named."""
MOST_POINTS = 4_000_000
"""Points of the null that are held at once."""


def coexpression(
    first: CellCounts,
    second: CellCounts,
    spacing: Sequence[float],
    annotation: Annotation,
    tolerance_um: float,
    *,
    regions: Sequence[str] | None = None,
    fewest: int = FEWEST,
    draws: int = 100,
    shift_um: tuple[float, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of one marker's cells that have a cell of another within a tolerance.

    Distances are in the image, where cells were found. Chance: all cells of the second marker
    are shifted together, `draws` times, so that their pattern stays and only its place
    relative to the first is lost; first cells that the shift takes out of the brain (or of
    the half) sit out that draw, so that its edge does not lower chance. Both markers are
    detections of the same image, in the same coordinates.

    Parameters
    ----------
    first, second : CellCounts
        Of the same annotation; only cells counted in a structure take part as first.
    spacing : sequence of float
        Micrometres a voxel of the points' coordinates, (z, y, x).
    annotation : Annotation
    tolerance_um : float
        A cell is near when its distance is less than this.
    regions : sequence of str, optional
        Acronyms; each counts with all below it. Default: every one with `fewest` cells.
    fewest : int
    draws : int
    shift_um : (float, float), optional
        Shortest and longest shift; default 5 and 15 times the tolerance.
    seed : int

    Returns
    -------
    DataFrame
        region, name, cells, with_second, share, chance (mean share over draws), chance_low
        and chance_high (5 and 95 % of them), ratio (share / chance), z, p (one-sided: as many
        or more by chance). NaN where chance is 0 or does not vary.

    Raises
    ------
    RecipeError
        On a tolerance, shift or number of draws that is none.
    DataError
        On an unknown region.
    """
    import pandas as pd
    from scipy.spatial import cKDTree

    low, high = shift_um or (5 * tolerance_um, 15 * tolerance_um)
    if not (np.isfinite(tolerance_um) and tolerance_um > 0):
        raise RecipeError("a tolerance is a positive number of micrometres", found=tolerance_um)
    if not 0 < low <= high:
        raise RecipeError("a shift has a shortest and a longest length in um", found=shift_um)
    _check_draws(draws)
    tree = annotation.tree
    counted, positions = _counted(first, annotation)
    here = counted[["z", "y", "x"]].to_numpy(np.float64) * spacing
    there = second.cells[["z", "y", "x"]].to_numpy(np.float64) * spacing
    cells = tree.roll_up(np.bincount(positions, minlength=len(tree)))
    wanted = _wanted(annotation, regions, cells, fewest)
    hits, stayed = (np.zeros((draws + 1, len(tree)), np.int64) for _ in range(2))
    if len(here):
        stays = _staying(first, counted, here, annotation)
        lookup = cKDTree(there) if len(there) else None
        bound = np.nextafter(tolerance_um, np.inf)
        for draw in range(draws + 1):
            shift = np.zeros(3)
            if draw:
                rng = keyed_rng(seed, "coexpression", draw)
                shift = rng.standard_normal(3)
                shift *= rng.uniform(low, high) / np.linalg.norm(shift)
            kept = stays(shift) if draw else np.full(len(here), True)
            stayed[draw] = np.bincount(positions[kept], minlength=len(tree))
            if lookup is not None:
                distance, _ = lookup.query(here[kept] - shift, distance_upper_bound=bound)
                near = positions[kept][distance < tolerance_um]
                hits[draw] = np.bincount(near, minlength=len(tree))
    seen, taking = tree.roll_up(hits.T), tree.roll_up(stayed.T)
    rows = []
    for i in wanted:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = seen[i] / taking[i]
        # A draw that took every cell of a structure away says nothing about it.
        share, drawn = float(shares[0]), shares[1:][taking[i, 1:] > 0]
        if not len(drawn):
            drawn = np.full(1, np.nan)
        rows.append(
            {
                "region": tree.labels[i].acronym,
                "name": tree.labels[i].name,
                "cells": int(cells[i]),
                "with_second": int(seen[i, 0]),
                "share": share,
                "chance": float(drawn.mean()),
                "chance_low": float(np.percentile(drawn, 5)),
                "chance_high": float(np.percentile(drawn, 95)),
                "ratio": _over(share, drawn.mean()),
                "z": _over(share - drawn.mean(), drawn.std(ddof=1) if len(drawn) > 1 else 0.0),
                "p": (1 + int((drawn >= share).sum())) / (1 + len(drawn)),
            }
        )
    return pd.DataFrame(rows, columns=list(_COEXPRESSION))


def proximity(
    first: CellCounts,
    second: CellCounts,
    annotation: Annotation,
    *,
    regions: Sequence[str] | None = None,
    fewest: int = FEWEST,
    draws: int = 50,
    most: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether cells of one marker lie nearer to another's than chance has it, by structure.

    For each structure, distances go from its cells of the first marker to the nearest of its
    cells of the second, in the annotation's space. Chance: as many points as the second
    marker has there, drawn uniformly in the structure's voxels (of the half that was
    counted), so the structure's shape and the cells' number play no part. Gradients within a
    structure do: prefer small ones.

    Parameters
    ----------
    first, second : CellCounts
        Of the same annotation.
    annotation : Annotation
    regions : sequence of str, optional
        Acronyms; each counts with all below it. Default: a dozen or more that part the brain
        (`Tree.parted`).
    fewest : int
        Structures with fewer cells of the first marker, or none of the second, are left out.
    draws : int
    most : int
        Cells of the first marker that distances are measured from, in each structure; of more
        a sample is taken.
    seed : int

    Returns
    -------
    DataFrame
        region, name, cells_first, cells_second, mean_um and median_um to the nearest,
        chance_um (mean over draws of the mean), chance_sd_um, ratio (mean / chance: below 1 is
        nearer), z, p (two-sided, from the draws).

    Source: section 6.2.3 of the CANVAS paper names the measure; the null is ours.
    """
    import pandas as pd
    from scipy.spatial import cKDTree

    _check_draws(draws)
    if first.half != second.half:
        raise DataError(
            "both markers have to be counted in the same half",
            found=f"{first.half}, {second.half}",
            fix="give the half",
        )
    tree = annotation.tree
    side = SIDES.get(first.half, 0)
    (near, at_first), (far, at_second) = (_counted(one, annotation) for one in (first, second))
    froms = near[["atlas_z", "atlas_y", "atlas_x"]].to_numpy(np.float64)
    tos = far[["atlas_z", "atlas_y", "atlas_x"]].to_numpy(np.float64)
    step = np.array(annotation.spacing)
    cells = tree.roll_up(np.bincount(at_first, minlength=len(tree)))
    others = tree.roll_up(np.bincount(at_second, minlength=len(tree)))
    if regions is None:
        major = tree.parted(annotation.sizes.total, MAJOR)
        wanted = [i for i in major if cells[i] >= fewest]
    else:
        wanted = _wanted(annotation, regions, cells, fewest)
    wanted = [i for i in wanted if others[i]]
    start: dict[int, np.ndarray] = {}
    seen: dict[int, np.ndarray] = {}
    for i in wanted:
        mine = froms[(at_first >= i) & (at_first < tree.ends[i])] * step
        if len(mine) > most:
            rng = keyed_rng(seed, "proximity sample", int(tree.ids[i]))
            mine = mine[np.sort(rng.choice(len(mine), most, replace=False))]
        theirs = tos[(at_second >= i) & (at_second < tree.ends[i])] * step
        start[i], seen[i] = mine, cKDTree(theirs).query(mine)[0]
    chance: dict[int, list[float]] = {i: [] for i in wanted}
    jobs = [(i, draw) for draw in range(draws) for i in wanted]
    while jobs:
        batch, size = [jobs.pop(0)], 0
        size = int(others[batch[0][0]])
        while jobs and size + others[jobs[0][0]] <= MOST_POINTS:
            batch.append(jobs.pop(0))
            size += int(others[batch[-1][0]])
        drawn = sample_voxels(
            annotation,
            {job: (range(job[0], tree.ends[job[0]]), int(others[job[0]])) for job in batch},
            lambda job: keyed_rng(seed, "proximity", int(tree.ids[job[0]]), job[1]),
            side,
        )
        for (i, _), points in drawn.items():
            chance[i].append(float(cKDTree(points * step).query(start[i])[0].mean()))
    rows = []
    for i in wanted:
        mean, null = float(seen[i].mean()), np.array(chance[i])
        tails = min(int((null <= mean).sum()), int((null >= mean).sum()))
        rows.append(
            {
                "region": tree.labels[i].acronym,
                "name": tree.labels[i].name,
                "cells_first": int(cells[i]),
                "cells_second": int(others[i]),
                "mean_um": mean,
                "median_um": float(np.median(seen[i])),
                "chance_um": float(null.mean()),
                "chance_sd_um": float(null.std(ddof=1)) if draws > 1 else np.nan,
                "ratio": _over(mean, null.mean()),
                "z": _over(mean - null.mean(), null.std(ddof=1) if draws > 1 else 0.0),
                "p": min(1.0, 2 * (1 + tails) / (1 + draws)),
            }
        )
    return pd.DataFrame(rows, columns=list(_PROXIMITY))


_COEXPRESSION = (
    "region", "name", "cells", "with_second", "share", "chance", "chance_low", "chance_high",
    "ratio", "z", "p",
)  # fmt: skip
_PROXIMITY = (
    "region", "name", "cells_first", "cells_second", "mean_um", "median_um", "chance_um",
    "chance_sd_um", "ratio", "z", "p",
)  # fmt: skip


def _counted(counts: CellCounts, annotation: Annotation) -> tuple[pd.DataFrame, np.ndarray]:
    """The cells that lie in a structure of the half that is counted, and its tree position."""
    cells = counts.cells[counts.cells["place"] == "region"]
    return cells, annotation.tree.positions(cells["id"].to_numpy(np.int64), annotation.name)


def _staying(
    counts: CellCounts, cells: pd.DataFrame, here: np.ndarray, annotation: Annotation
) -> Callable[[np.ndarray], np.ndarray]:
    """Which cells are still in the brain when moved by minus a shift in the image, in um.

    How the image turns and stretches into the annotation is told by the cells' places in
    both: a straight line through them, near enough for so short a way.
    """
    mask, factor = tissue_mask(annotation, SIDES.get(counts.half, 0))
    there = cells[["atlas_z", "atlas_y", "atlas_x"]].to_numpy(np.float64)
    middle = here.mean(axis=0)
    slope, _, rank, _ = np.linalg.lstsq(here - middle, there - there.mean(axis=0), rcond=None)
    if rank < 3:
        return lambda shift: np.full(len(here), True)

    def stays(shift: np.ndarray) -> np.ndarray:
        index = np.floor((there - shift @ slope + 0.5) / factor).astype(np.int64)
        inside = ((index >= 0) & (index < mask.shape)).all(axis=1)
        inside[inside] = mask[tuple(index[inside].T)]
        return inside

    return stays


def _wanted(
    annotation: Annotation, regions: Sequence[str] | None, cells: np.ndarray, fewest: int
) -> list[int]:
    """Tree positions of the structures asked for, or of all with cells enough."""
    tree = annotation.tree
    if regions is None:
        return [i for i in range(len(tree)) if cells[i] >= max(fewest, 1)]
    places = [tree.place[annotation.structures.find(name).id] for name in regions]
    return [i for i in places if cells[i] >= fewest]


def _check_draws(draws: Any) -> None:
    if int(draws) < 1:
        raise RecipeError("chance needs at least one draw", found=draws)


def _over(value: float, by: float) -> float:
    return float(value / by) if by > 0 else float("nan")
