"""The passes that make fragments: distances, smoothing, maxima, floods, in numba without the GIL.

Distances are exact and Euclidean; the floods keep one first-in, first-out list for each of 256
levels, so that they are O(n).
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAR = 1 << 29
"""Rows to a boundary where a column has none."""


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
    sites = np.empty(width, np.int32)
    until = np.empty(width, np.int32)
    for y in range(height):
        row = rows[y]
        # Lower envelope of parabolas, in whole numbers (Meijster et al. 2000).
        last = -1
        for x in range(width):
            g = np.int64(row[x])
            if g >= FAR:
                continue
            begin = np.int64(0)
            while last >= 0:
                s = np.int64(sites[last])
                h = np.int64(row[s])
                # First place where x is strictly nearer than s.
                begin = (x * x - s * s + g * g - h * h) // (2 * (x - s)) + 1
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
        for x in range(width - 1, -1, -1):
            while until[last] > x:
                last -= 1
            s = sites[last]
            out[y, x] = np.sqrt(np.float32((x - s) * (x - s) + row[s] * row[s]))


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
def maxima_2d(image, labels):
    """Number the maxima over 8 neighbours in a padded, flat label image; how many there are.

    Of equal neighbours the first wins, so that a flat part gets one seed. Where nothing is
    above 0 the first voxel is the seed.
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
                labels[(y + 1) * (width + 2) + x + 1] = count
    if count == 0:
        count = 1
        labels[width + 3] = 1
    return count


@njit(cache=True, nogil=True)
def maxima_3d(image, labels):
    """The same over 26 neighbours, in a padded label volume (z + 2, y + 2, x + 2)."""
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
    if count == 0:
        count = 1
        labels[1, 1, 1] = 1
    return count


@njit(cache=True, nogil=True)
def flood(heights, labels, steps):
    """Grow labels over zeros in place, lowest voxels first, equal ones in order of arrival.

    Parameters
    ----------
    heights : (n,) uint8
        Padded and flat.
    labels : (n,) int32
        1, 2, ... are seeds, 0 is to be filled, less is left alone: the padding, walls.
    steps : (k,) int64
        From a voxel to its neighbours, in the flat array.
    """
    following = np.empty(labels.size, np.int64)
    head = np.full(256, -1, np.int64)
    tail = np.empty(256, np.int64)
    for p in range(labels.size):
        if labels[p] > 0:
            level = heights[p]
            if head[level] < 0:
                head[level] = p
            else:
                following[tail[level]] = p
            tail[level] = p
            following[p] = -1
    for level in range(256):
        while head[level] >= 0:
            p = head[level]
            head[level] = following[p]
            label = labels[p]
            for step in steps:
                q = p + step
                if labels[q] == 0:
                    labels[q] = label
                    at = max(level, np.int64(heights[q]))
                    if head[at] < 0:
                        head[at] = q
                    else:
                        following[tail[at]] = q
                    tail[at] = q
                    following[q] = -1


@njit(cache=True, nogil=True)
def flood_pairs(pairs, labels, steps):
    """Grow labels over zeros in place along the strongest pairs; equal ones in order of arrival.

    What comes out is a forest of greatest weight with one tree a label.

    Parameters
    ----------
    pairs : (k, n) uint8
        The affinity of voxel p and p + steps[i] is pairs[i, p]; padded and flat.
    labels : (n,) int32
        1, 2, ... are labels, 0 is to be filled, less is left alone.
    steps : (k,) int64
        To half of the neighbours, all negative.
    """
    waiting = 0
    for p in range(labels.size):
        waiting += labels[p] == 0
    # A voxel waits once for each neighbour that reached it before it was taken.
    room = 2 * steps.size * waiting
    voxel = np.empty(room, np.int64)
    source = np.empty(room, np.int32)
    following = np.empty(room, np.int64)
    head = np.full(256, -1, np.int64)
    tail = np.empty(256, np.int64)
    count = 0
    for p in range(labels.size):
        if labels[p] == 0:
            for i in range(steps.size):
                for sign in range(2):
                    q = p - steps[i] if sign else p + steps[i]
                    if labels[q] > 0:
                        at = 255 - np.int64(pairs[i, q if sign else p])
                        voxel[count], source[count] = p, labels[q]
                        following[count] = -1
                        if head[at] < 0:
                            head[at] = count
                        else:
                            following[tail[at]] = count
                        tail[at] = count
                        count += 1
    for level in range(256):
        while head[level] >= 0:
            entry = head[level]
            head[level] = following[entry]
            p = voxel[entry]
            if labels[p] > 0:
                continue
            label = source[entry]
            labels[p] = label
            for i in range(steps.size):
                for sign in range(2):
                    q = p - steps[i] if sign else p + steps[i]
                    if labels[q] == 0:
                        at = max(level, 255 - np.int64(pairs[i, q if sign else p]))
                        voxel[count], source[count] = q, label
                        following[count] = -1
                        if head[at] < 0:
                            head[at] = count
                        else:
                            following[tail[at]] = count
                        tail[at] = count
                        count += 1
