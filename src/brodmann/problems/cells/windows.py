"""What filters of images share: their axes as three, their window, their mirrored borders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit


def in_depth(
    values: np.ndarray, window: Sequence[slice], out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and answer for a filter that knows three axes.

    Parameters
    ----------
    values : ndarray of 1 to 3 axes, any byte order
    window : sequence of slice
        What is wanted of the answer; all if empty.
    out : ndarray, optional
        Contiguous float32 of the window's shape; made if not given.

    Returns
    -------
    values : ndarray (z, y, x)
        Contiguous.
    spans : ndarray (3, 2), int64
        First and last voxel of the window along each axis.
    out : ndarray, float32
        Of the window's own axes.

    >>> values, spans, out = in_depth(np.zeros((4, 5), ">u2"), [slice(1, 3), slice(None)], None)
    >>> values.shape, spans.tolist(), out.shape
    ((1, 4, 5), [[0, 1], [1, 3], [0, 5]], (2, 5))
    """
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    window = tuple(window) or (slice(None),) * values.ndim
    spans = [part.indices(n)[:2] for part, n in zip(window, values.shape, strict=True)]
    if out is None:
        out = np.empty([max(0, b - a) for a, b in spans], np.float32)
    lead = 3 - values.ndim
    spans = [(0, 1)] * lead + spans
    return values.reshape((1,) * lead + values.shape), np.array(spans, np.int64), out


@njit(cache=True, nogil=True, inline="always")
def mirrored(place, size):  # pragma: no cover (compiled)
    """Where a place beyond the border is seen: d c b a | a b c d | d c b a."""
    place %= 2 * size
    return place if place < size else 2 * size - 1 - place
