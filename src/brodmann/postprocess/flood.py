"""The passes that make fragments: distances, smoothing, maxima, watersheds; numba, without the GIL.

All are O(n): distances are exact and Euclidean by lower envelopes, the first watershed climbs,
the second keeps a first-in, first-out list for each of 256 levels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAR = 1 << 29
"""Rows to a boundary where a column has none."""
LOST = -3
"""Label of voxels on a way up that ends without a seed."""


@njit(cache=True, nogil=True)
def boundary_slice(down, across, sums):
    """Sums of each voxel's affinities to its predecessors along y and x, 0..510.

    Where one lies beyond the slice the other counts twice; the first voxel is no boundary.
    """
    height, width = down.shape
    for x in range(1, width):
        sums[0, x] = 2 * np.int16(across[0, x])
    for y in range(1, height):
        sums[y, 0] = 2 * np.int16(down[y, 0])
        for x in range(1, width):
            sums[y, x] = np.int16(down[y, x]) + np.int16(across[y, x])
    sums[0, 0] = 510


@njit(cache=True, nogil=True)
def distances_2d(sums, cut, out):
    """Distance in voxels to the nearest voxel whose sum is at most `cut`; float32.

    The height + width of the slice where there is none.
    """
    height, width = sums.shape
    rows = np.empty((height, width), np.int32)
    for x in range(width):
        rows[0, x] = 0 if sums[0, x] <= cut else FAR
    for y in range(1, height):
        for x in range(width):
            rows[y, x] = 0 if sums[y, x] <= cut else rows[y - 1, x] + 1
    for y in range(height - 2, -1, -1):
        for x in range(width):
            rows[y, x] = min(rows[y, x], rows[y + 1, x] + 1)
    sites = np.empty(width, np.int64)
    until = np.empty(width, np.int64)
    for y in range(height):
        row = rows[y]
        # Lower envelope of parabolas (Meijster et al. 2000). Whole numbers below 2**53 divide
        # in float64 so that the floor is right, and much faster.
        last = -1
        for x in range(width):
            g = np.int64(row[x])
            if g >= FAR:
                continue
            mine = x * x + g * g
            begin = np.int64(0)
            while last >= 0:
                s = sites[last]
                h = np.int64(row[s])
                # First place where x is strictly nearer than s.
                gap = np.float64(mine - s * s - h * h) / np.float64(2 * (x - s))
                begin = np.int64(np.floor(gap)) + 1
                if begin > until[last]:
                    break
                last -= 1
            if last < 0:
                begin = np.int64(0)
            if begin < width:
                last += 1
                sites[last] = x
                until[last] = begin
        if last < 0:
            out[y] = height + width
            continue
        stop = width
        while last >= 0:
            s, begin = sites[last], until[last]
            across = np.int64(row[s]) * np.int64(row[s])
            for x in range(begin, stop):
                out[y, x] = np.sqrt(np.float32((x - s) * (x - s) + across))
            stop = begin
            last -= 1


def gaussian_weights(sigma: float) -> np.ndarray:
    """Half a Gaussian, the centre first, cut at 3 sigma; float32, the whole sums to 1."""
    radius = int(3 * sigma + 0.5)
    half = np.exp(-0.5 * (np.arange(radius + 1) / max(sigma, 1e-9)) ** 2)
    return (half / (2 * half.sum() - half[0])).astype(np.float32)


@njit(cache=True, nogil=True)
def smooth_2d(image, weights):
    """Gaussian in place, float32; beyond the edge the edge's value."""
    radius = weights.size - 1
    if radius == 0:
        return
    height, width = image.shape
    wide = np.empty((height, width + 2 * radius), np.float32)
    total = np.empty(width, np.float32)
    for y in range(height):
        for x in range(width):
            total[x] = weights[0] * image[y, x]
        for k in range(1, radius + 1):
            above, below, weight = image[max(y - k, 0)], image[min(y + k, height - 1)], weights[k]
            for x in range(width):
                total[x] += weight * (above[x] + below[x])
        row = wide[y]
        row[:radius] = total[0]
        row[radius + width :] = total[width - 1]
        for x in range(width):
            row[radius + x] = total[x]
    for y in range(height):
        row, out = wide[y], image[y]
        for x in range(width):
            out[x] = weights[0] * row[radius + x]
        for k in range(1, radius + 1):
            left, right, weight = row[radius - k :], row[radius + k :], weights[k]
            for x in range(width):
                out[x] += weight * (left[x] + right[x])


@njit(cache=True, nogil=True)
def maxima_2d(image, labels, heights):
    """Number the maxima over 8 neighbours in a padded label image; how many there are.

    Of equal neighbours the first wins, so that a flat part gets one seed. Where nothing is
    above 0 the first voxel is the seed. No seed stays a wall in the padded heights.
    """
    height, width = image.shape
    count = 0
    for y in range(height):
        for x in range(width):
            value = image[y, x]
            if value <= 0:
                continue
            if x > 0 and image[y, x - 1] >= value:
                continue
            if x + 1 < width and image[y, x + 1] > value:
                continue
            best = True
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                if y > 0 and image[y - 1, nx] >= value:
                    best = False
                if y + 1 < height and image[y + 1, nx] > value:
                    best = False
            if best:
                count += 1
                labels[y + 1, x + 1] = count
                heights[y + 1, x + 1] = value
    if count == 0:
        count = 1
        labels[1, 1] = 1
    return count


@njit(cache=True, nogil=True)
def maxima_3d(image, labels, heights):
    """The same over 26 neighbours, in padded volumes (z + 2, y + 2, x + 2)."""
    depth, height, width = image.shape
    count = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                value = image[z, y, x]
                best = value > 0
                for nz in range(max(z - 1, 0), min(z + 2, depth)):
                    for ny in range(max(y - 1, 0), min(y + 2, height)):
                        for nx in range(max(x - 1, 0), min(x + 2, width)):
                            other = image[nz, ny, nx]
                            before = (nz, ny, nx) < (z, y, x)
                            if other > value or (before and other == value):
                                best = False
                if best:
                    count += 1
                    labels[z + 1, y + 1, x + 1] = count
                    heights[z + 1, y + 1, x + 1] = value
    if count == 0:
        count = 1
        labels[1, 1, 1] = 1
    return count


@njit(cache=True, nogil=True)
def ways_up(heights, steps, corners, above):
    """Where the steepest way up leads from each voxel: itself at a maximum.

    Parameters
    ----------
    heights : (n,) float32
        Padded and flat; of equal neighbours the first counts as higher. Below 0 is a wall.
    steps : tuple of int
        From a voxel to its neighbours, in the flat array.
    corners : tuple of (int, int)
        Pairs of steps that together lead to a voxel across an edge or a corner; one of the
        two must not be a wall, too.
    above : (n,) int32 or int64
        Filled where there is no wall.
    """
    for p in range(heights.size):
        if heights[p] >= 0:
            best, height = p, heights[p]
            for step in steps:
                q = p + step
                if heights[q] > height or (heights[q] == height and q < best):
                    best, height = q, heights[q]
            for one, other in corners:
                q = p + one + other
                if (heights[q] > height or (heights[q] == height and q < best)) and (
                    heights[p + one] >= 0 or heights[p + other] >= 0
                ):
                    best, height = q, heights[q]
            above[p] = best


@njit(cache=True, nogil=True)
def ways_up_2d(heights, above):
    """The same over 8 neighbours of a padded slice, in selects that become vector instructions.

    Parameters
    ----------
    heights : (y + 2, x + 2) float32
    above : (y + 2, x + 2) int32
    """
    stride = heights.shape[1]
    for y in range(1, heights.shape[0] - 1):
        up, row, down, out = heights[y - 1], heights[y], heights[y + 1], above[y]
        for x in range(1, stride - 1):
            n, w, e, s = up[x], row[x - 1], row[x + 1], down[x]
            wall = np.float32(-1)
            # In ascending order of places, so that the first of equals stays.
            best = up[x - 1] if max(n, w) >= 0 else wall
            way = np.int32(-stride - 1)
            way = np.int32(-stride) if n > best else way
            best = max(n, best)
            corner = up[x + 1] if max(n, e) >= 0 else wall
            way = np.int32(1 - stride) if corner > best else way
            best = max(corner, best)
            way = np.int32(-1) if w > best else way
            best = max(w, best)
            way = np.int32(0) if row[x] > best else way
            best = max(row[x], best)
            way = np.int32(1) if e > best else way
            best = max(e, best)
            corner = down[x - 1] if max(s, w) >= 0 else wall
            way = np.int32(stride - 1) if corner > best else way
            best = max(corner, best)
            way = np.int32(stride) if s > best else way
            best = max(s, best)
            corner = down[x + 1] if max(s, e) >= 0 else wall
            way = np.int32(stride + 1) if corner > best else way
            out[x] = np.int32(y * stride + x) + way


@njit(cache=True, nogil=True)
def follow(above, labels):
    """Give every voxel the label of the seed that its way up leads to, in place.

    That is the watershed: of distinct heights, where every maximum has a seed, it gives what
    flooding gives. Voxels whose way ends without a seed stay 0.

    Parameters
    ----------
    above : (n,) integers
        Of `ways_up`.
    labels : (n,) int32
        1, 2, ... are seeds, 0 is to be filled, less is left alone.
    """
    for p in range(labels.size):
        if labels[p] == 0:
            q = p
            while labels[q] == 0 and above[q] != q:
                q = above[q]
            label = labels[q] if labels[q] != 0 else LOST
            q = p
            while labels[q] == 0:
                labels[q] = label
                q = above[q]
    for p in range(labels.size):
        if labels[p] == LOST:
            labels[p] = 0


@njit(cache=True, nogil=True)
def flood(pairs, labels, steps):
    """Grow labels over zeros in place along the strongest pairs; equal ones in order of arrival.

    What comes out is a forest of greatest weight with one tree a label.

    Parameters
    ----------
    pairs : (k, n) uint8
        The affinity of voxel p and p + steps[i] is pairs[i, p]; padded and flat.
    labels : (n,) int32
        1, 2, ... are labels, 0 is to be filled, less is left alone.
    steps : tuple of int
        To half of the neighbours, all negative.
    """
    waiting = 0
    for p in range(labels.size):
        waiting += labels[p] == 0
    # A voxel waits once more each time that it is reached along a stronger pair.
    room = 2 * len(steps) * waiting
    voxel = np.empty(room, np.int64)
    source = np.empty(room, np.int32)
    following = np.empty(room, np.int64)
    reached = np.full(labels.size, 256, np.int16)
    head = np.full(256, -1, np.int64)
    tail = np.full(256, -1, np.int64)
    count = 0
    for p in range(labels.size):
        if labels[p] == 0:
            best, label = np.int16(256), np.int32(0)
            for i in range(len(steps)):
                q = p + steps[i]
                if labels[q] > 0 and 255 - np.int16(pairs[i, p]) < best:
                    best, label = np.int16(255 - np.int16(pairs[i, p])), labels[q]
                q = p - steps[i]
                if labels[q] > 0 and 255 - np.int16(pairs[i, q]) < best:
                    best, label = np.int16(255 - np.int16(pairs[i, q])), labels[q]
            if label > 0:
                count = _wait(p, label, best, reached, voxel, source, following, head, tail, count)
    for level in range(256):
        while head[level] >= 0:
            entry = head[level]
            head[level] = following[entry]
            p = voxel[entry]
            if labels[p] > 0:
                continue
            label = source[entry]
            labels[p] = label
            for i in range(len(steps)):
                q = p + steps[i]
                if labels[q] == 0:
                    at = max(level, 255 - np.int64(pairs[i, p]))
                    if at < reached[q]:
                        count = _wait(
                            q, label, at, reached, voxel, source, following, head, tail, count
                        )
                q = p - steps[i]
                if labels[q] == 0:
                    at = max(level, 255 - np.int64(pairs[i, q]))
                    if at < reached[q]:
                        count = _wait(
                            q, label, at, reached, voxel, source, following, head, tail, count
                        )


@njit(cache=True, nogil=True, inline="always")
def _wait(p, label, level, reached, voxel, source, following, head, tail, count):
    """Put a voxel at the end of a level's list; one more entry."""
    reached[p] = level
    voxel[count], source[count], following[count] = p, label, -1
    if head[level] < 0:
        head[level] = count
    else:
        following[tail[level]] = count
    tail[level] = count
    return count + 1
