"""The labels between two annotated slices, by one of three ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from brodmann.core import DataError, RecipeError, nearest
from brodmann.postprocess.interpolate.recursive import recursive_between
from brodmann.postprocess.interpolate.signed import distance_between
from brodmann.postprocess.interpolate.times import FULL, MAX_STEPS, Between, Others


def nearest_between(
    before: np.ndarray, after: np.ndarray, steps: int, spacing: tuple[float, float]
) -> Between:
    """A copy of the nearer slice, in the middle of the first: what any method has to beat."""
    pixels = np.flatnonzero(before.reshape(-1) != after.reshape(-1))
    return Between(before, after, pixels, np.full(len(pixels), FULL // 2 + 1, np.int32))


METHODS: dict[str, Callable[..., Between]] = {
    "recursive": recursive_between,
    "distance": distance_between,
    "nearest": nearest_between,
}


def check_method(method: str) -> str:
    """The name of a method, or an error that names the nearest."""
    if method not in METHODS:
        raise RecipeError(
            "unknown way to interpolate", "method", repr(method), nearest(method, METHODS)
        )
    return method


def interpolate_between(
    before: np.ndarray,
    after: np.ndarray,
    steps: int,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    method: str = "recursive",
    ignore: int | None = None,
) -> Between:
    """When each pixel changes between two annotated slices, for any labels at once.

    Parameters
    ----------
    before, after : (h, w) integers
        Ids; background is a label like any other.
    steps : int
        Slices from the one to the other: 50 for slices 10 and 60.
    spacing : (y, x)
        Pixel spacing in the slice, in micrometres; only its ratio matters.
    method : {"recursive", "distance", "nearest"}
    ignore : int, optional
        An id that says nothing. Between, a pixel that has it in one slice keeps the other's
        label throughout; in both, it stays unknown. Borders pass it by: it stops no front
        and starts none.

    Returns
    -------
    Between
        Its `at(step, steps)` gives a slice; `before` and `after` are as given.

    Raises
    ------
    DataError
        If the slices differ in shape or type, or are no integers; if steps are out of range.
    RecipeError
        If there is no such method.

    Notes
    -----
    MTNeuro, appendix 1.3 (recursive); see `recursive_between` and `distance_between` for the
    rules at junctions, islands and ties.

    Example
    -------
    >>> before, after = np.zeros((3, 9), np.uint8), np.zeros((3, 9), np.uint8)
    >>> before[:, :2], after[:, :6] = 7, 7
    >>> interpolate_between(before, after, 2).at(1, 2)[0].tolist()
    [7, 7, 7, 7, 0, 0, 0, 0, 0]
    """
    if before.shape != after.shape or before.ndim != 2 or before.dtype != after.dtype:
        raise DataError(
            "two slices have the same shape (y, x) and type",
            found=f"{before.shape} {before.dtype}, {after.shape} {after.dtype}",
        )
    if before.dtype.kind not in "iu":
        raise DataError("labels are whole numbers", found=before.dtype, fix="save them as integers")
    if not 1 <= steps <= MAX_STEPS:
        raise DataError(f"slices lie 1 to {MAX_STEPS} apart", found=steps)
    work = METHODS[check_method(method)]
    first, last = before, after
    if ignore is not None:
        first = np.where(before == ignore, after, before)
        last = np.where(after == ignore, before, after)
    ids, classes = _classes(first, last)
    if ignore is not None:
        # A class of its own, that no border starts from, nor ends at.
        classes[:, (before == ignore) | (after == ignore)] = len(ids)
    found = work(classes[0], classes[1], steps, spacing)
    others = found.others
    if others is not None:
        others = _named(others, ids)
    ends = None if ignore is None else (before, after)
    return replace(found, before=first, after=last, others=others, ends=ends)


def _named(others: Others, ids: np.ndarray) -> Others:
    """With ids for classes, and without the class of unknown pixels."""
    keep = others.label < len(ids)
    return Others(
        others.pixel[keep], ids[others.label[keep]], others.value[keep], others.rival[keep]
    )


def _classes(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids in both, ascending, and the two slices as their numbers (2, h, w) int32."""
    both = np.stack([first, last])
    smallest, largest = int(both.min(initial=0)), int(both.max(initial=0))
    if smallest >= 0 and largest < 1 << 16:
        # Much faster than sorting: a table of the ids seen.
        seen = np.zeros(largest + 1, bool)
        seen[both] = True
        ids = np.flatnonzero(seen)
        table = np.zeros(largest + 1, np.int32)
        table[ids] = np.arange(len(ids), dtype=np.int32)
        return ids.astype(both.dtype), table[both]
    ids, inverse = np.unique(both, return_inverse=True)
    return ids, inverse.reshape(both.shape).astype(np.int32)
