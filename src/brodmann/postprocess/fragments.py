"""Fragments: seeded watershed on the distance to the nearest boundary, slice by slice or in 3D.

The recipe is that of the field (Beier et al., "Multicut brings automated neurite segmentation
closer to human performance", 2017): threshold the boundary map, take distances, smooth them,
seed at their maxima, flood. No pass needs a heap: O(n), tens of nanoseconds a voxel.

Within neurons (boundary not above the threshold) the basins are those of the distance. Boundary
voxels, and what walls keep from any seed, then follow the strongest affinity. So a fragment ends exactly where pairs are
cut, and not half a voxel beside.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import Affinities, DataError, RecipeError
from brodmann.core.affinities import IN_PLANE, NEAREST
from brodmann.postprocess.flood import (
    boundary_slice,
    distances_2d,
    flood,
    follow,
    gaussian_weights,
    maxima_2d,
    maxima_3d,
    smooth_2d,
    ways_up,
    ways_up_2d,
)

MAX_IDS = np.iinfo(np.uint32).max
PADDING, WALL = -1, -2
"""Labels of what is never filled, and of boundary voxels until the inside is full."""


@dataclass(frozen=True)
class FragmentOptions:
    """How fragments are made.

    Attributes
    ----------
    threshold : float
        Boundary probability, 0..1, above which a voxel is boundary for the distance transform.
        The boundary probability of a voxel is 1 less the mean of its affinities to its
        predecessors along y and x (and z in 3D).
    sigma : float
        Of the Gaussian on the distances before seeds are taken, in voxels (along the finest
        axis in 3D); 0 for none.
    per_slice : bool
        A 2D watershed in each z slice, else one in 3D with distances in true proportion.
    min_size : int
        Fragments of fewer voxels are grown over by their neighbours; 0 for none.

    Example
    -------
    >>> FragmentOptions().threshold
    0.25
    """

    threshold: float = 0.25
    sigma: float = 2.0
    per_slice: bool = True
    min_size: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise RecipeError("the threshold of boundaries lies in 0..1", found=self.threshold)
        if not 0 <= self.sigma < 100:
            raise RecipeError("sigma lies in 0..100 voxels", found=self.sigma)
        if self.min_size < 0:
            raise RecipeError("min_size is 0 or more voxels", found=self.min_size)


USUAL = FragmentOptions()


def make_fragments(
    affinities: Affinities, options: FragmentOptions = USUAL, *, workers: int = 1
) -> np.ndarray:
    """Cut a volume into fragments, pieces that are to be joined later and never cut again.

    Parameters
    ----------
    affinities : Affinities
        Of a volume or a block of it; only the nearest neighbours' channels are used.
    options : FragmentOptions
    workers : int
        Threads over slices; the answer does not depend on them.

    Returns
    -------
    ndarray (z, y, x) uint32
        Ids 1..n without gaps, every voxel in one. Per slice, those of slice k depend on slice
        k alone but for their numbers, which go on from slice k - 1.

    Raises
    ------
    DataError
        If channels are missing, the volume is too small, or values are not in 0..1.

    Example
    -------
    >>> from brodmann.core import Convention, Volume
    >>> values = np.full((2, 1, 8, 12), 255, np.uint8)
    >>> values[:, :, :, 6] = 0
    >>> volume = Volume(values, "czyx", (0.04, 0.004, 0.004))
    >>> make_fragments(Affinities(volume, Convention(IN_PLANE)))[0, 0]
    array([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2], dtype=uint32)
    """
    affinities = checked(affinities)
    if not options.per_slice:
        return _volume(affinities, options)
    down, across = (
        affinities.volume.data[channel] for channel in affinities.convention.channels_of(IN_PLANE)
    )
    depth, height, width = affinities.shape
    out = np.empty((depth, height, width), np.uint32)
    weights = gaussian_weights(options.sigma)
    cut = _cut(options.threshold)

    def one(z: int) -> int:
        pair = np.ascontiguousarray(down[z]), np.ascontiguousarray(across[z])
        return _slice(*pair, cut, weights, options.min_size, out[z])

    with ThreadPoolExecutor(workers) as pool:
        counts = list(pool.map(one, range(depth)))
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        if starts[-1] > MAX_IDS:
            raise DataError("more fragments than uint32 counts", found=int(starts[-1]))

        def shift(z: int) -> None:
            out[z] += np.uint32(starts[z])

        list(pool.map(shift, range(1, depth)))
    return out


def checked(affinities: Affinities, where: str = "affinities") -> Affinities:
    """The affinities in memory, canonical and uint8, with in-plane channels and enough voxels.

    Raises
    ------
    DataError
    """
    if min(affinities.shape) < 1 or min(affinities.shape[1:]) < 2:
        raise DataError(
            "too small to segment", where, f"{affinities.shape} voxels", "give slices of 2 x 2"
        )
    if affinities.shape[1] * affinities.shape[2] >= 2**30:
        raise DataError(
            "slices of 2**30 voxels or more are not segmented whole",
            where,
            f"{affinities.shape} voxels",
            "cut them into blocks",
        )
    if len(affinities.convention.channels_of(IN_PLANE)) < 2:
        raise DataError(
            "affinities to the neighbours along y and x are needed",
            where,
            f"offsets {affinities.convention.offsets}",
        )
    plain = isinstance(affinities.volume.data, np.ndarray) and affinities.volume.dtype == np.uint8
    if plain and affinities.convention.is_canonical:
        return affinities
    return affinities.canonical(where=where)


def _cut(threshold: float) -> int:
    """The largest sum of two affinities (0..510) that still makes a boundary voxel."""
    # Boundary where 1 - sum / 510 > threshold.
    return int(np.ceil(510 * (1 - threshold) - 1e-9)) - 1


@njit(cache=True, nogil=True)
def _slice(down, across, cut, weights, min_size, out):
    """Fragments of one slice, numbered from 1, into `out`; how many there are."""
    height, width = down.shape
    sums = np.empty((height, width), np.int16)
    boundary_slice(down, across, sums)
    distance = np.empty((height, width), np.float32)
    distances_2d(sums, cut, distance)
    smooth_2d(distance, weights)
    labels = np.full((height + 2, width + 2), PADDING, np.int32)
    heights = np.full((height + 2, width + 2), np.float32(-1))
    pairs = np.zeros((2, height + 2, width + 2), np.uint8)
    for y in range(height):
        pairs[0, y + 1, 1 : width + 1] = down[y]
        pairs[1, y + 1, 1 : width + 1] = across[y]
        for x in range(width):
            inside = sums[y, x] > cut
            labels[y + 1, x + 1] = 0 if inside else WALL
            heights[y + 1, x + 1] = distance[y, x] if inside else np.float32(-1)
    count = maxima_2d(distance, labels, heights)
    above = np.empty((height + 2, width + 2), np.int32)
    ways_up_2d(heights, above)
    flat = labels.reshape(-1)
    follow(above.reshape(-1), flat)
    stride = width + 2
    count = finish(pairs.reshape(2, -1), flat, (-stride, -1), count, min_size)
    for y in range(height):
        for x in range(width):
            out[y, x] = labels[y + 1, x + 1]
    return count


@njit(cache=True, nogil=True)
def finish(pairs, labels, steps, count, min_size):
    """Fill what is still empty, walls too, then drop small labels and fill again.

    The largest stays if all are small. Numbers stay consecutive and in order; the new count.
    """
    for p in range(labels.size):
        if labels[p] == WALL:
            labels[p] = 0
    flood(pairs, labels, steps)
    if min_size < 2:
        return count
    sizes = np.zeros(count + 1, np.int64)
    for p in range(labels.size):
        if labels[p] > 0:
            sizes[labels[p]] += 1
    largest = np.argmax(sizes)
    number = np.zeros(count + 1, np.int32)
    kept = 0
    for label in range(1, count + 1):
        if sizes[label] >= min_size or label == largest:
            kept += 1
            number[label] = kept
    if kept < count:
        for p in range(labels.size):
            if labels[p] > 0:
                labels[p] = number[labels[p]]
        flood(pairs, labels, steps)
    return kept


def _volume(affinities: Affinities, options: FragmentOptions) -> np.ndarray:
    """Fragments of a whole volume in 3D."""
    from bioimage_cpp.distance import distance_transform
    from scipy.ndimage import gaussian_filter

    channels = affinities.convention.channels_of(NEAREST)
    if len(channels) < 3:
        raise DataError(
            "fragments in 3D need affinities along z",
            found=f"offsets {affinities.convention.offsets}",
            fix="make them per slice",
        )
    values = affinities.volume.data[channels]
    shape = affinities.shape
    total = np.zeros(shape, np.int16)
    pairs = np.zeros(shape, np.int16)
    for axis, channel in enumerate(values):
        inside = (slice(None),) * axis + (slice(1, None),)
        total[inside] += channel[inside]
        pairs[inside] += 1
    affinity = np.where(pairs > 0, total / np.maximum(pairs, 1) / 255, 1).astype(np.float32)
    boundary = (1 - affinity) > options.threshold + 1e-6
    spacing = np.array(affinities.volume.spacing)
    proportion = spacing / spacing.min()
    if boundary.any():
        distance = distance_transform((~boundary).view(np.uint8), sampling=list(proportion))
        distance = np.asarray(distance, np.float32)
    else:
        distance = np.ones(shape, np.float32)
    if options.sigma:
        sigma = options.sigma / proportion
        distance = gaussian_filter(distance, sigma, mode="nearest", truncate=3)
    labels = np.pad(np.where(boundary, WALL, 0).astype(np.int32), 1, constant_values=PADDING)
    heights = np.pad(np.where(boundary, np.float32(-1), distance), 1, constant_values=-1)
    count = maxima_3d(distance, labels, heights)
    _, rows, columns = labels.shape
    steps = (-rows * columns, -columns, -1)
    ways = (*steps, 1, columns, rows * columns)
    corners = tuple((a, b) for i, a in enumerate(ways) for b in ways[i + 1 :] if a + b)
    above = np.empty(labels.size, np.int64)
    ways_up(heights.reshape(-1), ways, corners, above)
    flat = labels.reshape(-1)
    follow(above, flat)
    pairs = np.stack([np.pad(channel, 1).reshape(-1) for channel in values])
    finish(pairs, flat, steps, count, options.min_size)
    return np.ascontiguousarray(labels[1:-1, 1:-1, 1:-1]).astype(np.uint32)
