"""Voxels near a border of the truth, which annotators draw each a little otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from brodmann.core import RecipeError


def border_mask(
    truth: Any,
    distance: float,
    spacing: Sequence[float] | None = None,
    *,
    in_plane: bool = True,
    slab: slice | None = None,
) -> np.ndarray:
    """Which voxels lie no farther than `distance` from a border of the truth.

    Border voxels are those with a neighbour, face to face, of another id (0 is one); the
    distance is Euclidean, between voxel centres, as CREMI measures it slice by slice.

    Parameters
    ----------
    truth : (z, y, x) or (y, x) integers
        Read by slices of the first axis.
    distance : float
        In units of `spacing`; 0 gives the border voxels alone.
    spacing : sequence of float, optional
        Along each axis; 1 by default, so that the distance is in voxels.
    in_plane : bool
        Every slice by itself, as CREMI does for thick sections; else in 3D.
    slab : slice, optional
        Only these slices of the first axis; what lies beyond them is looked at in 3D.

    Returns
    -------
    bool, the shape of the truth, or of its slab

    Example
    -------
    >>> border_mask(np.array([[1, 1, 1, 2, 2, 2]]), 1.0).tolist()
    [[False, True, True, True, True, False]]
    """
    shape = tuple(truth.shape)
    steps = np.ones(len(shape)) if spacing is None else np.asarray(spacing, float)
    if len(steps) != len(shape) or not distance >= 0:
        raise RecipeError(
            "a border needs a distance from 0 and a spacing for each axis",
            found=f"{distance}, {spacing}",
        )
    start, stop, _ = (slab or slice(None)).indices(shape[0])
    if len(shape) == 3 and in_plane:
        return np.stack(
            [_near(np.asarray(truth[z]), distance, steps[1:]) for z in range(start, stop)]
        )
    halo = int(np.ceil(distance / steps[0])) + 1
    low, high = max(0, start - halo), min(shape[0], stop + halo)
    found = _near(np.asarray(truth[low:high]), distance, steps)
    return found[start - low : stop - low]


def _near(ids: np.ndarray, distance: float, steps: np.ndarray) -> np.ndarray:
    border = np.zeros(ids.shape, bool)
    for axis in range(ids.ndim):
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        differ = ids[low] != ids[high]
        border[low] |= differ
        border[high] |= differ
    if not distance or not border.any():
        return border
    return distance_transform_edt(~border, sampling=steps) <= distance
