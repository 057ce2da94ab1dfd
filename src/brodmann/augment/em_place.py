"""Where the tissue of an electron-microscopy patch goes: sections, one warp, then turned axes.

A window becomes a patch in this order: sections are displaced in plane by whole pixels, all is
resampled at most once, then axes are put in another order and flipped. All functions take
three spatial axes (z, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.augment.base import Params, crop_centre
from brodmann.augment.warp import Elastic, moved_points, warp, window_shape
from brodmann.core import DataError, Points

AXES = "zyx"


def three_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """(y, x) as one section (1, y, x); (z, y, x) as it is."""
    if len(shape) not in (2, 3):
        raise DataError("a patch has axes y, x or z, y, x", found=tuple(shape))
    return (1,) * (3 - len(shape)) + tuple(shape)


def still(params: Params) -> bool:
    """Whether every voxel stays where it is."""
    return (
        params["matrix"] is None
        and params["elastic"] is None
        and params["order"] == AXES
        and not params["flip"]
        and not params["misalignment"]
    )


def geometry(params: Params) -> tuple[np.ndarray | None, Elastic | None]:
    """The matrix and the displacement that were drawn; both None when nothing is resampled."""
    bend = params["elastic"]
    if bend is None and params["matrix"] is None:
        return None, None
    matrix = np.eye(3) if params["matrix"] is None else np.array(params["matrix"], float)
    if bend is None:
        return matrix, None
    return matrix, Elastic(tuple(bend["knot_px"]), tuple(bend["magnitude_px"]), bend["seed"])


def resampled_shape(params: Params, shape: Sequence[int]) -> tuple[int, ...]:
    """What the warp reads: the window after sections are back in place."""
    matrix, elastic = geometry(params)
    return tuple(shape) if matrix is None else window_shape(shape, matrix, elastic)


def outside_id(label: int, dtype: np.dtype) -> int:
    """What stands for voxels without a label: `label`, or 0 where ids are unsigned and it is -1."""
    if dtype.kind not in "iu":
        raise DataError("labels hold whole numbers", found=dtype)
    limits = np.iinfo(dtype)
    if label < 0 and limits.min == 0:
        return 0
    if not limits.min <= label <= limits.max:
        raise DataError(f"the label for outside does not fit into {dtype} labels", found=label)
    return int(label)


def section_shifts(params: Params, shape: Sequence[int], depth: int) -> np.ndarray:
    """(depth, 2) pixels (y, x) that the tissue of each section of a window moves.

    The window lies about a patch of `shape`; sections are counted in the patch. A translation
    from some section on moves all that follow, also outside the patch.
    """
    section = np.arange(depth) - (depth - shape[0]) // 2
    moves = np.zeros((depth, 2), int)
    for step in params["misalignment"]:
        here = section == step["section"] if step["op"] == "slip" else section >= step["section"]
        moves[here] += step["shift_px"]
    return moves


def source_window(params: Params, shape: Sequence[int]) -> tuple[int, ...]:
    """Voxels to read so that neither turning nor displacing leaves anything empty."""
    depth, height, width = resampled_shape(params, shape)
    reach = 2 * np.abs(section_shifts(params, shape, depth)).max(axis=0)
    return depth, height + int(reach[0]), width + int(reach[1])


def place(
    params: Params,
    image: np.ndarray,
    labels: np.ndarray | None,
    shape: Sequence[int],
    outside_value: float | np.ndarray,
    outside_label: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The patch before its axes are turned, from a window (c, z, y, x) and its labels."""
    matrix, elastic = geometry(params)
    if params["misalignment"]:
        inner = resampled_shape(params, shape)
        moves = section_shifts(params, shape, inner[0])
        fill = np.broadcast_to(np.asarray(outside_value, image.dtype), len(image))
        image = _displaced(image, moves, inner, fill)
        if labels is not None:
            fill = np.array([outside_label], labels.dtype)
            labels = _displaced(labels[None], moves, inner, fill)[0]
    if matrix is not None:
        return warp(image, labels, matrix, shape, elastic, outside_value, outside_label)
    return crop_centre(image, tuple(shape)), (
        None if labels is None else crop_centre(labels, tuple(shape))
    )


def _displaced(
    window: np.ndarray, moves: np.ndarray, shape: Sequence[int], fill: np.ndarray
) -> np.ndarray:
    """(c, *shape) about the window's centre, each section moved by whole pixels."""
    out = np.empty((len(window), *shape), window.dtype)
    start = [(have - want) // 2 for have, want in zip(window.shape[1:], shape)]
    for z, (dy, dx) in enumerate(moves):
        k = z + start[0]
        rows, from_rows = _overlap(start[1] - dy, shape[1], window.shape[2])
        columns, from_columns = _overlap(start[2] - dx, shape[2], window.shape[3])
        whole = from_rows.stop - from_rows.start == shape[1]
        whole = whole and from_columns.stop - from_columns.start == shape[2]
        inside = 0 <= k < window.shape[1]
        if not (whole and inside):
            out[:, z] = fill[:, None, None]
        if inside:
            out[:, z, rows, columns] = window[:, k, from_rows, from_columns]
    return out


def _overlap(start: int, size: int, have: int) -> tuple[slice, slice]:
    """Where `size` voxels from `start` lie in the result, and where in an array of `have`."""
    low = min(max(start, 0), have)
    high = max(min(start + size, have), low)
    return slice(low - start, high - start), slice(low, high)


def turned(array: np.ndarray, params: Params) -> np.ndarray:
    """The last three axes in another order, then flipped: a copy, or the array itself."""
    if params["order"] == AXES and not params["flip"]:
        return array
    lead = array.ndim - 3
    result = array.transpose(*range(lead), *(lead + AXES.index(a) for a in params["order"]))
    return np.ascontiguousarray(np.flip(result, [lead + AXES.index(a) for a in params["flip"]]))


def moved(points: Points, params: Params, shape: Sequence[int]) -> Points:
    """The points that are still in a volume of which the whole is taken as the window.

    A point between two sections moves with the nearer.
    """
    axes = AXES[-len(shape) :]
    if points.axes != axes:
        raise DataError(f"points of this image need columns {list(axes)}", found=list(points.axes))
    found = np.zeros((len(points.table), 3))
    found[:, -len(shape) :] = points.coordinates
    found = _moved(found, params, three_axes(shape))[:, -len(shape) :]
    table = points.table.copy()
    table[list(axes)] = found
    inside = np.all((found >= -0.5) & (found < np.asarray(shape) - 0.5), axis=1)
    return Points(table[inside])


def _moved(found: np.ndarray, params: Params, shape: tuple[int, ...]) -> np.ndarray:
    matrix, elastic = geometry(params)
    inner = shape
    if params["misalignment"]:
        inner = resampled_shape(params, shape)
        section = np.clip(np.floor(found[:, 0] + 0.5).astype(int), 0, shape[0] - 1)
        found[:, 1:] += section_shifts(params, shape, shape[0])[section]
        found += (np.asarray(inner) - np.asarray(shape)) / 2
    if matrix is not None:
        found = moved_points(found, matrix, inner, shape, elastic)
    found = found[:, [AXES.index(axis) for axis in params["order"]]]
    for axis in params["flip"]:
        column = AXES.index(axis)
        found[:, column] = shape[column] - 1 - found[:, column]
    return found
