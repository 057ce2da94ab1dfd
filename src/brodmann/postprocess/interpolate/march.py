"""Geodesic distances to moving borders, on the graph of the pixels that change."""

from __future__ import annotations

import numpy as np
from numba import njit

NOWHERE = -1


@njit(cache=True, nogil=True)
def changing_graph(before, after):
    """The pixels that change, then the still ones beside them.

    Returns (pixels, rows, neighbours): flat indices (n,); where each pixel row begins among
    those that change, (h + 1,); and (n, 4) numbers of the nodes above, below, left and right,
    NOWHERE where there is none.
    """
    height, width = before.shape
    rows = np.zeros(height + 1, np.int64)
    index = np.full(height * width, NOWHERE, np.int32)
    changing = 0
    for y in range(height):
        for x in range(width):
            if before[y, x] != after[y, x]:
                index[y * width + x] = changing
                changing += 1
        rows[y + 1] = changing
    count = changing
    for y in range(height):
        for x in range(width):
            i = y * width + x
            if before[y, x] != after[y, x]:
                continue
            if (
                (y > 0 and before[y - 1, x] != after[y - 1, x])
                or (y + 1 < height and before[y + 1, x] != after[y + 1, x])
                or (x > 0 and before[y, x - 1] != after[y, x - 1])
                or (x + 1 < width and before[y, x + 1] != after[y, x + 1])
            ):
                index[i] = count
                count += 1
    pixels = np.empty(count, np.int64)
    neighbours = np.full((count, 4), NOWHERE, np.int32)
    for y in range(height):
        for x in range(width):
            i = y * width + x
            n = index[i]
            if n == NOWHERE:
                continue
            pixels[n] = i
            if y > 0:
                neighbours[n, 0] = index[i - width]
            if y + 1 < height:
                neighbours[n, 1] = index[i + width]
            if x > 0:
                neighbours[n, 2] = index[i - 1]
            if x + 1 < width:
                neighbours[n, 3] = index[i + 1]
    return pixels, rows, neighbours


@njit(cache=True, nogil=True, inline="always")
def _face(p, q, before, after, ticks, start, end, wide, step):
    """How far p's centre is from a border of the front with q, or -1 if there is none.

    Narrow: q has p's new label when the interval starts. Wide: p's old label is bounded
    there, by what p's new label will come to, or came from.
    """
    q_start = after[q] if end[q] <= start[p] else before[q]
    if wide:
        q_end = before[q] if start[q] >= end[p] else after[q]
        if q_start == before[p] or not (
            q_start == after[p] or q_end == after[p] or before[q] == before[p]
        ):
            return -1.0
    elif q_start != after[p]:
        return -1.0
    if before[q] != after[q] and end[q] <= start[p] and ticks[p] > ticks[q]:
        # The border of an earlier half: where the time that it stands for is passed.
        return step * (ticks[p] - start[p]) / (ticks[p] - ticks[q])
    return 0.5 * step


@njit(cache=True, nogil=True)
def march(neighbours, rows, before, after, ticks, start, end, active, wide, steps):
    """Geodesic distance of every active node from its front's border, infinite where none is.

    The upwind scheme of fast marching, solved by sweeps in four directions that visit only
    nodes beside one that has changed: memory is walked in order, and no heap is kept.

    Parameters
    ----------
    neighbours : (n, 4) int32
    rows : (m + 1,) int64
        Where the nodes of each pixel row begin among the first rows[-1] nodes.
    before, after : (n,) int32
        Class indices.
    ticks, start, end : (n,) int32
        Estimated time of change, and the interval that it lies in.
    active : (n,) bool
    wide : bool
        False: from where a node's new label stands at the start, through all that will have
        this label. True: from where its old label is bounded, through all that had it.
    steps : (2,) float64
        Pixel spacing, y and x.

    Returns
    -------
    (n,) float64
    """
    n = len(before)
    time = np.full(n, np.inf)
    waiting = np.zeros(n, np.bool_)
    # Which sides lead on within the region, and how far the nearest border is along y and x.
    inner = np.zeros(n, np.uint8)
    border = np.full((n, 2), np.inf)
    left = 0
    for p in range(rows[-1]):
        if not active[p]:
            continue
        for side in range(4):
            q = neighbours[p, side]
            if q == NOWHERE:
                continue
            key = before[q] == before[p] if wide else after[q] == after[p]
            if key and active[q] and start[q] == start[p] and end[q] == end[p]:
                inner[p] |= 1 << side
                continue
            axis = side // 2
            length = _face(p, q, before, after, ticks, start, end, wide, steps[axis])
            if length >= 0:
                border[p, axis] = min(border[p, axis], length)
        if border[p, 0] < np.inf or border[p, 1] < np.inf:
            waiting[p] = True
            left += 1
    sweep = 0
    while left:
        down, right = sweep % 2 == 0, (sweep // 2) % 2 == 0
        for i in range(len(rows) - 1):
            row = i if down else len(rows) - 2 - i
            for k in range(rows[row + 1] - rows[row]):
                p = rows[row] + k if right else rows[row + 1] - 1 - k
                if not waiting[p]:
                    continue
                waiting[p] = False
                left -= 1
                t = _arrival(p, neighbours, inner[p], border, steps, time)
                if t >= time[p]:
                    continue
                time[p] = t
                for side in range(4):
                    if inner[p] >> side & 1:
                        q = neighbours[p, side]
                        if time[q] > t and not waiting[q]:
                            waiting[q] = True
                            left += 1
        sweep += 1
    return time


@njit(cache=True, nogil=True)
def _arrival(p, neighbours, inner, border, steps, time):
    """When a front of speed one reaches p, from what is known of its neighbours."""
    step_y, step_x = border[p, 0], border[p, 1]
    if step_y == 0.0 or step_x == 0.0:
        return 0.0
    from_y = 0.0 if step_y < np.inf else np.inf
    from_x = 0.0 if step_x < np.inf else np.inf
    for side in range(4):
        if inner >> side & 1:
            value = time[neighbours[p, side]]
            if side < 2:
                if value + steps[0] < from_y + step_y:
                    from_y, step_y = value, steps[0]
            elif value + steps[1] < from_x + step_x:
                from_x, step_x = value, steps[1]
    if from_y == np.inf:
        return from_x + step_x
    if from_x == np.inf:
        return from_y + step_y
    # (t - from_y)^2 wy + (t - from_x)^2 wx = 1
    wy, wx = 1 / (step_y * step_y), 1 / (step_x * step_x)
    total = wy + wx
    mean = (wy * from_y + wx * from_x) / total
    under = 1 / total - wy * wx * (from_y - from_x) ** 2 / (total * total)
    if under >= 0:
        t = mean + np.sqrt(under)
        if t >= from_y and t >= from_x:
            return t
    return min(from_y + step_y, from_x + step_x)


@njit(cache=True, nogil=True)
def deepest(neighbours, key, start, end, active, seeds, distance):
    """The largest finite distance in the region of each seed: same key, same interval.

    Returns (n,) float64, -1 outside the regions of the seeds.
    """
    n = len(key)
    out = np.full(n, -1.0)
    region = np.empty(n, np.int32)
    for seed in range(n):
        if not seeds[seed] or out[seed] >= 0:
            continue
        region[0], count, done, most = seed, 1, 0, 0.0
        out[seed] = 0.0
        while done < count:
            p = region[done]
            done += 1
            if distance[p] < np.inf:
                most = max(most, distance[p])
            for side in range(4):
                q = neighbours[p, side]
                if q == NOWHERE or not active[q] or out[q] >= 0 or key[q] != key[p]:
                    continue
                if start[q] == start[p] and end[q] == end[p]:
                    out[q] = 0.0
                    region[count] = q
                    count += 1
        for i in range(count):
            out[region[i]] = most
    return out
