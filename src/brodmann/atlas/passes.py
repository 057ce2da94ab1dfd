"""Passes over an annotation, slab by slab: sizes, look-ups, samples and sections.

Ids are constant over long runs of voxels, so runs are counted and not voxels, and memory
is that of one slab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from brodmann.core import BACKGROUND

if TYPE_CHECKING:
    from brodmann.atlas.annotation import Annotation, Sizes


def runs(*flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of equal values begin in flat arrays of one length, and how long they are.

    >>> starts, lengths = runs(np.array([7, 7, 7, 3]), np.array([0, 0, 1, 1]))
    >>> starts.tolist(), lengths.tolist()
    ([0, 2, 3], [2, 1, 1])
    """
    size = len(flat[0])
    change = flat[0][1:] != flat[0][:-1]
    for other in flat[1:]:
        change |= other[1:] != other[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1]) if size else np.empty(0, np.int64)
    return starts, np.diff(starts, append=size)


def measure_sizes(annotation: Annotation) -> Sizes:
    """Voxels of every structure on each side."""
    from brodmann.atlas.annotation import LEFT, RIGHT, Sizes

    tree = annotation.tree
    found = np.zeros((3, len(tree)), np.int64)
    background = 0
    for window, block in annotation.slabs():
        ids, sides = block.reshape(-1), annotation.sides(window).reshape(-1)
        starts, lengths = runs(ids, sides)
        positions = tree.positions(ids[starts], annotation.name)
        inside = positions >= 0
        background += int(lengths[~inside].sum())
        rows = np.choose(np.minimum(sides[starts], 3), (0, LEFT, RIGHT, 0))[inside]
        flat = rows.astype(np.int64) * len(tree) + positions[inside]
        counted = np.bincount(flat, weights=lengths[inside], minlength=found.size)
        found += counted.reshape(found.shape).astype(np.int64)
    return Sizes(found[LEFT], found[RIGHT], found[0], background)


def look_up(annotation: Annotation, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The id and the side of each voxel; outside the volume, or unknown (NaN), they are -1.

    Parameters
    ----------
    annotation : Annotation
    voxels : (n, 3) float array
        As (z, y, x); voxel i holds what lies in [i - 0.5, i + 0.5).

    Returns
    -------
    (n,) int64 ids, (n,) int8 sides (1 left, 2 right, 0 unknown)
    """
    voxels = np.asarray(voxels, np.float64).reshape(-1, 3)
    shape = np.array(annotation.shape)
    known = np.isfinite(voxels).all(axis=1)
    index = np.floor(np.where(known[:, None], voxels, -1.0) + 0.5)
    inside = known & (index >= 0).all(axis=1) & (index < shape).all(axis=1)
    ids = np.full(len(voxels), -1, np.int64)
    sides = np.full(len(voxels), -1, np.int8)
    rows = np.flatnonzero(inside)
    index = index[rows].astype(np.int64)
    slow = annotation.storage[0]
    order = np.argsort(index[:, slow], kind="stable")
    rows, index = rows[order], index[order]
    for window, block in annotation.slabs():
        first, last = np.searchsorted(index[:, slow], (window[slow].start, window[slow].stop))
        if first == last:
            continue
        here = index[first:last].copy()
        here[:, slow] -= window[slow].start
        place = tuple(here[:, axis] for axis in annotation.storage)
        ids[rows[first:last]] = block[place]
        sides[rows[first:last]] = annotation.sides(window)[place]
    return ids, sides


def sample_voxels(
    annotation: Annotation,
    wanted: Mapping[int, tuple[Sequence[int], int]],
    rng_of,
    side: int = 0,
) -> dict[int, np.ndarray]:
    """Points drawn uniformly in the voxels of structures, in one pass after counting.

    Parameters
    ----------
    annotation : Annotation
    wanted : mapping of int to (sequence of int, int)
        Key -> the tree positions that a region is made of, and how many points.
    rng_of : callable
        Key -> numpy Generator.
    side : int
        0, or only voxels of this side.

    Returns
    -------
    dict
        Key -> (n, 3) float64 points in voxels, in the order drawn; jittered within voxels.
        Empty where the region has no voxel.
    """
    sizes = annotation.sizes
    own = (sizes.total, sizes.left, sizes.right)[side]
    member: dict[int, np.ndarray] = {}
    ranks: dict[int, np.ndarray] = {}
    points: dict[int, np.ndarray] = {}
    rngs = {}
    for key, (positions, count) in wanted.items():
        chosen = np.zeros(len(annotation.tree) + 1, bool)
        chosen[np.asarray(positions, np.int64)] = True
        member[key] = chosen
        total = int(own[chosen[:-1]].sum())
        rngs[key] = rng_of(key)
        ranks[key] = rngs[key].integers(0, total, count) if total else np.empty(0, np.int64)
        points[key] = np.empty((len(ranks[key]), 3))
    done = dict.fromkeys(wanted, 0)
    orders = {key: np.argsort(ranks[key], kind="stable") for key in wanted}
    for window, block in annotation.slabs():
        ids = block.reshape(-1)
        if side:
            beside = annotation.sides(window).reshape(-1)
            starts, lengths = runs(ids, beside)
            kept = beside[starts] == side
            starts, lengths = starts[kept], lengths[kept]
        else:
            starts, lengths = runs(ids)
        # Position -1, the background, reads the last entry, which is never set.
        positions = annotation.tree.positions(ids[starts], annotation.name)
        for key, chosen in member.items():
            mine = chosen[positions]
            begins, ends = starts[mine], np.cumsum(lengths[mine])
            if not len(ends):
                continue
            order = orders[key]
            sought = ranks[key][order]
            first, last = np.searchsorted(sought, (done[key], done[key] + ends[-1]))
            local = sought[first:last] - done[key]
            run = np.searchsorted(ends, local, side="right")
            before = np.concatenate([[0], ends[:-1]])
            flat = begins[run] + local - before[run]
            place = np.unravel_index(flat, block.shape)
            for axis, along in zip(annotation.storage, place):
                points[key][order[first:last], axis] = along + window[axis].start
            done[key] += int(ends[-1])
    return {key: found + rngs[key].random(found.shape) - 0.5 for key, found in points.items()}


def take_planes(annotation: Annotation, axis: int, places: Sequence[int]) -> np.ndarray:
    """Planes of ids across an axis, (k, ...) with the other two axes in their order."""
    rest = [i for i in range(3) if i != axis]
    planes = np.empty((len(places), *(annotation.shape[i] for i in rest)), annotation.ids.dtype)
    for window, block in annotation.slabs():
        back = block.transpose(np.argsort(annotation.storage))
        target = tuple(window[i] for i in rest)
        for k, place in enumerate(places):
            if window[axis].start <= place < window[axis].stop:
                plane = [slice(None)] * 3
                plane[axis] = place - window[axis].start  # type: ignore[call-overload]
                planes[(k, *target)] = back[tuple(plane)]
    return planes


def occupied(annotation: Annotation, axis: int) -> np.ndarray:
    """(n,) voxels of any structure in each plane across an axis."""
    counts = np.zeros(annotation.shape[axis], np.int64)
    at = annotation.storage.index(axis)
    others = tuple(i for i in range(3) if i != at)
    for window, block in annotation.slabs():
        counts[window[axis]] += np.count_nonzero(block != BACKGROUND, axis=others)
    return counts


def shadow(annotation: Annotation, axis: int) -> np.ndarray:
    """Whether any structure lies along an axis: the brain's outline seen along it, 2D bool."""
    rest = [i for i in range(3) if i != axis]
    seen = np.zeros([annotation.shape[i] for i in rest], bool)
    for window, block in annotation.slabs():
        back = block.transpose(np.argsort(annotation.storage))
        seen[tuple(window[i] for i in rest)] |= (back != BACKGROUND).any(axis=axis)
    return seen


def tissue_mask(
    annotation: Annotation, side: int = 0, most: int = 1 << 24
) -> tuple[np.ndarray, int]:
    """Where any structure is (on a side), from every f-th voxel so that few are held.

    Returns
    -------
    bool array, f
        Voxel v of the annotation, as a float, is answered by ``mask[floor((v + 0.5) / f)]``.
    """
    factor = 1
    while np.prod([-(-size // factor) for size in annotation.shape]) > most:
        factor += 1
    mask = np.zeros([-(-size // factor) for size in annotation.shape], bool)
    back = np.argsort(annotation.storage)
    for window, block in annotation.slabs():
        picks, places = [], []
        for part, size in zip(window, annotation.shape):
            centres = np.minimum(np.arange(0, size, factor) + factor // 2, size - 1)
            first, last = np.searchsorted(centres, (part.start, part.stop))
            picks.append(centres[first:last] - part.start)
            places.append(slice(int(first), int(last)))
        kept = block.transpose(back)[np.ix_(*picks)] != BACKGROUND
        if side:
            kept &= annotation.sides(window).transpose(back)[np.ix_(*picks)] == side
        mask[tuple(places)] = kept
    return mask, factor
