"""Recursive interpolation of borders: find the middle of every shift, then of both halves."""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.postprocess.interpolate.march import changing_graph, deepest, march
from brodmann.postprocess.interpolate.times import FULL, Between


def recursive_between(
    before: np.ndarray, after: np.ndarray, steps: int, spacing: tuple[float, float]
) -> Between:
    """Every border between two labels shifts linearly from one slice to the next.

    A pixel that is `a` before and `b` after lies in a transition region. There b's front
    starts from where b is in the first slice, and a's last stand is where a is in the second.
    The pixel belongs to the first half of the shift if it is nearer to the former, by
    geodesic distance within the region; the set of equal distance is the border halfway.
    Each half is a transition between two slices again, and is halved in turn until a part
    lasts no longer than the step from slice to slice; in it a pixel is timed by the ratio of
    its two distances.

    The front of b runs through all pixels that become b, whatever they were; the last stand
    of a is sought through all that were a. So a front may pass over a label that vanishes, and
    three labels meet without a gap. Where a vanishes (no last stand) the front's end counts:
    where it meets other fronts into a, or stops beyond. A region with neither, an island,
    shrinks towards its innermost pixels, in proportion to the depth of the deepest; one that
    appears grows likewise. A region that shares no border with either of its labels, in
    either slice, has nothing to follow and changes halfway, all at once: `jumped` counts
    these pixels.

    Parameters
    ----------
    before, after : (h, w) non-negative integers
        Class indices below 2**31, as `np.unique` numbers them.
    steps : int
        Slices from the one to the other.
    spacing : (y, x)
        Pixel spacing in micrometres.

    Returns
    -------
    Between
        Exactly mirrored if the two slices are swapped.

    Notes
    -----
    MTNeuro (Quesada et al. 2022), appendix 1.3 and figure A2. Distances are by fast marching
    (Sethian 1996); the middle is the morphological median of the two borders.

    Example
    -------
    >>> before, after = np.array([[1] * 2 + [0] * 6]), np.array([[1] * 6 + [0] * 2])
    >>> move = recursive_between(before, after, 4, (1.0, 1.0))
    >>> move.slices(4).sum(axis=(1, 2)).tolist()
    [3, 4, 5]
    """
    pixels, rows, neighbours = changing_graph(before, after)
    changing = int(rows[-1])
    a = before.reshape(-1)[pixels].astype(np.int32)
    b = after.reshape(-1)[pixels].astype(np.int32)
    start, end = np.zeros(len(a), np.int32), np.full(len(a), FULL, np.int32)
    end[changing:] = 0
    ticks = np.full(len(a), FULL // 2, np.int32)
    active = a != b
    gaps = np.asarray(spacing, np.float64)
    jumped = 0
    while active.any():
        near = _reach(neighbours, rows, a, b, ticks, start, end, active, gaps)
        far = _reach(neighbours, rows, b, a, FULL - ticks, FULL - end, FULL - start, active, gaps)
        ends, begins = active & np.isinf(far), active & np.isinf(near)
        most_near = deepest(neighbours, b, start, end, active, ends & ~begins, near)
        most_far = deepest(neighbours, a, start, end, active, begins & ~ends, far)
        jumped += _settle(near, far, most_near, most_far, ticks, start, end, active, steps)
    return Between(before, after, pixels[:changing], ticks[:changing], jumped)


def _reach(neighbours, rows, a, b, ticks, start, end, active, gaps):
    """Distance from the border that the front starts from, or failing that, from a's bounds."""
    near = march(neighbours, rows, a, b, ticks, start, end, active, False, gaps)
    missing = active & np.isinf(near)
    if missing.any():
        regions = deepest(neighbours, a, start, end, active, missing, near) >= 0
        wide = march(neighbours, rows, a, b, ticks, start, end, regions, True, gaps)
        near[missing] = wide[missing]
    return near


@njit(cache=True, nogil=True)
def _settle(near, far, most_near, most_far, ticks, start, end, active, steps):
    """Time the active pixels in their interval, halve it; how many had nothing to follow."""
    jumped = 0
    for p in range(len(near)):
        if not active[p]:
            continue
        width = end[p] - start[p]
        here, there = near[p], far[p]
        if here == np.inf and there == np.inf:
            jumped += width == FULL
            ticks[p] = start[p] + width // 2
            start[p] = end[p] = ticks[p]
            active[p] = False
            continue
        if there == np.inf:
            there = max(most_near[p] - here, 0.0)
        elif here == np.inf:
            here = max(most_far[p] - there, 0.0)
        total = here + there
        share = min(here, there) / total if total > 0 else 0.5
        # A pixel changes within its interval; the end slices are given.
        part = max(1, int(np.rint(share * width)))
        ticks[p] = start[p] + (part if here <= there else width - part)
        middle = start[p] + width // 2
        first = np.int64(start[p]) * steps // FULL
        last = -(-np.int64(end[p]) * steps // FULL)
        if last - first < 2 or np.int64(width) * steps <= FULL:
            active[p] = False
        elif ticks[p] < middle:
            end[p] = middle
        elif ticks[p] > middle:
            start[p] = middle
        else:
            start[p] = end[p] = middle
            active[p] = False
    return jumped
