"""How many voxels each true neuron shares with each segment, from one pass over a volume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numba import njit

from brodmann.core import DataError, RecipeError, Volume

SLAB_VOXELS = 1 << 24
"""Voxels read at a time."""
FIRST_SLOTS = 1 << 14
Keep = Callable[[slice], np.ndarray]
"""Slab of slices -> which of its voxels count, bool."""


@dataclass(frozen=True, eq=False)
class ClusterTable:
    """The sparse contingency table of two segmentations.

    Attributes
    ----------
    truth_ids, segment_ids : (m,) uint64
        Pairs of ids that share voxels, sorted, each once.
    counts : (m,) int64
        How many voxels they share.

    Tables of parts of a volume add up to that of the whole.

    Example
    -------
    >>> table = cluster_table(np.array([[1, 1, 2]]), np.array([[5, 7, 7]]))
    >>> (table + table).counts.tolist(), table.truth_ids.tolist(), table.segment_ids.tolist()
    ([2, 2, 2], [1, 1, 2], [5, 7, 7])
    """

    truth_ids: np.ndarray
    segment_ids: np.ndarray
    counts: np.ndarray

    @property
    def voxels(self) -> int:
        return int(self.counts.sum())

    def __add__(self, other: ClusterTable) -> ClusterTable:
        return ClusterTable.merged([self, other])

    @classmethod
    def merged(cls, tables: Iterable[ClusterTable]) -> ClusterTable:
        """The sum of tables; their order does not matter."""
        tables = list(tables)
        none = np.zeros(0, np.uint64)
        truth = np.concatenate([none, *(t.truth_ids for t in tables)])
        segment = np.concatenate([none, *(t.segment_ids for t in tables)])
        counts = np.concatenate([np.zeros(0, np.int64), *(t.counts for t in tables)])
        if not len(counts):
            return cls(truth, segment, counts)
        order = np.lexsort((segment, truth))
        truth, segment = truth[order], segment[order]
        new = np.ones(len(order), bool)
        new[1:] = (truth[1:] != truth[:-1]) | (segment[1:] != segment[:-1])
        first = np.flatnonzero(new)
        return cls(truth[first], segment[first], np.add.reduceat(counts[order], first))

    def without_truth(self, id_: int | None) -> ClusterTable:
        """The table of the voxels whose truth is another id."""
        if id_ is None:
            return self
        if not 0 <= id_ < 1 << 64:
            raise RecipeError("an id is a whole number from 0", "ignore", id_, "None counts all")
        keep = self.truth_ids != np.uint64(id_)
        return ClusterTable(self.truth_ids[keep], self.segment_ids[keep], self.counts[keep])


def cluster_table(
    truth: Any,
    segments: Any,
    *,
    ignore: int | None = 0,
    keep: Any = None,
    workers: int = 1,
    where: str = "",
) -> ClusterTable:
    """Count voxels by (true neuron, segment) in one pass, a slab of slices at a time.

    Equal neighbours along the last axis are counted as one run, and runs in a hash table of
    the pairs that there are, so that the cost is near that of reading the voxels
    (benchmarks/clusters.py).

    Parameters
    ----------
    truth, segments : array or Volume of whole numbers from 0, same shape, 2D or 3D
        Anything that can be sliced: numpy, memory map, zarr. Ids up to 2**64 - 1.
    ignore : int, optional
        Voxels with this truth are not counted; None counts all.
    keep : array or callable, optional
        Which voxels count: an array of the same shape, or a function from a slice of the
        first axis to bool.
    workers : int
        Threads; they change no number.
    where : str
        Name of the volume, for errors.

    Raises
    ------
    DataError
        If shapes differ, or ids are no whole numbers from 0.
    """
    shapes = [_shape(volume) for volume in (truth, segments)]
    names = [f"{where}: {side}" if where else side for side in ("truth", "segments")]
    if shapes[0] != shapes[1]:
        raise DataError(
            "truth and segments differ in shape", where or None, f"{shapes[0]} and {shapes[1]}"
        )
    if keep is not None and not callable(keep) and np.shape(keep) != shapes[0]:
        raise DataError("mask and truth differ in shape", where or None, np.shape(keep))

    def count(slab: slice) -> ClusterTable:
        left, right = (
            _flat(_read(volume, slab), name) for volume, name in zip((truth, segments), names)
        )
        mask = np.zeros(0, bool)
        if keep is not None:
            mask = np.ascontiguousarray(keep(slab) if callable(keep) else keep[slab], bool)
        return _table(left, right, mask.reshape(-1))

    table = ClusterTable.merged([])
    slabs = _slabs(shapes[0], workers)
    with ThreadPoolExecutor(workers) as pool:
        # Tables are added up as they come, so that memory holds a few of them.
        while some := list(islice(slabs, workers)):
            tables = pool.map(count, some) if workers > 1 else map(count, some)
            table = ClusterTable.merged([table, *tables])
    for volume, ids, name in zip((truth, segments), (table.truth_ids, table.segment_ids), names):
        _refuse_negative(volume, ids, name)
    return table.without_truth(ignore)


def _table(truth: np.ndarray, segments: np.ndarray, keep: np.ndarray) -> ClusterTable:
    slots = FIRST_SLOTS
    keys = np.zeros((slots, 2), np.uint64)
    counts = np.zeros(slots, np.int64)
    position = used = 0
    while True:
        position, used = _count(truth, segments, keep, position, keys, counts, used)
        if position >= truth.size:
            break
        # Full: twice as many slots, each pair at its place in the new table.
        old_keys, old_counts = keys, counts
        slots *= 4
        keys, counts = np.zeros((slots, 2), np.uint64), np.zeros(slots, np.int64)
        _refill(old_keys, old_counts, keys, counts)
    there = np.flatnonzero(counts)
    return ClusterTable.merged(
        [ClusterTable(keys[there, 0].copy(), keys[there, 1].copy(), counts[there])]
    )


def _shape(volume: Any) -> tuple[int, ...]:
    shape = volume.spatial_shape if isinstance(volume, Volume) else tuple(np.shape(volume))
    if not 1 <= len(shape) <= 3:
        raise DataError("segmentations have one to three axes", found=f"shape {shape}")
    return shape


def _slabs(shape: tuple[int, ...], workers: int) -> Iterator[slice]:
    rows = max(1, SLAB_VOXELS // max(1, int(np.prod(shape[1:], dtype=np.int64))))
    rows = min(rows, max(1, -(-shape[0] // workers)))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def _read(volume: Any, slab: slice) -> np.ndarray:
    if isinstance(volume, Volume):
        if volume.num_channels != 1:
            raise DataError("segmentations have one channel", found=volume.num_channels)
        return volume.read((slab, *(slice(None),) * (volume.ndim - 1)))[0]
    return np.asarray(volume[slab])


def _flat(ids: np.ndarray, where: str) -> np.ndarray:
    """Flat, contiguous, uint32 or uint64; negative ids become large ones."""
    if ids.dtype.kind not in "iub":
        raise DataError("ids are whole numbers", where, ids.dtype, "save the ids as integers")
    flat = np.ascontiguousarray(ids).reshape(-1)
    if flat.dtype.itemsize < 4:
        # Signed ones keep their sign on the way to 32 bits.
        flat = flat.astype(np.int32 if flat.dtype.kind == "i" else np.uint32)
    native = flat.dtype.newbyteorder("=")
    return flat.astype(native, copy=False).view(f"u{native.itemsize}")


def _refuse_negative(volume: Any, ids: np.ndarray, where: str) -> None:
    dtype = np.dtype(volume.dtype)
    if dtype.kind != "i" or not len(ids):
        return
    bits = 8 * max(4, dtype.itemsize)
    if int(ids.max()) >= 1 << (bits - 1):
        raise DataError(
            "ids are whole numbers from 0",
            where,
            int(ids.max()) - (1 << bits),
            "set what is unknown to 0",
        )


@njit(cache=True, nogil=True, inline="always")
def _slot(keys, counts, t, p):
    """Where a pair is, or where it would go."""
    mask = np.uint64(counts.size - 1)
    h = (t * np.uint64(0x9E3779B97F4A7C15)) ^ (p * np.uint64(0xC2B2AE3D27D4EB4F))
    # High bits come down, so that ids that differ in these alone do not share a slot.
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(32))) & mask
    while counts[h] != 0 and (keys[h, 0] != t or keys[h, 1] != p):
        h = (h + np.uint64(1)) & mask
    return h


@njit(cache=True, nogil=True)
def _refill(old_keys, old_counts, keys, counts):
    for i in range(old_counts.size):
        if old_counts[i]:
            h = _slot(keys, counts, old_keys[i, 0], old_keys[i, 1])
            keys[h, 0], keys[h, 1] = old_keys[i, 0], old_keys[i, 1]
            counts[h] = old_counts[i]


@njit(cache=True, nogil=True)
def _count(truth, segments, keep, position, keys, counts, used):
    """Count runs from a position on until the end, or until the table is half full."""
    one, block = np.uint64(1), np.uint64(16)
    n, i = np.uint64(truth.size), np.uint64(position)
    masked = keep.size > 0
    most = counts.size // 2
    while i < n and used < most:
        if masked and not keep[i]:
            i += one
            continue
        t, p, start = truth[i], segments[i], i
        i += one
        if masked:
            while i < n and keep[i] and truth[i] == t and segments[i] == p:
                i += one
        else:
            # Sixteen voxels are compared at a time, in a loop that becomes vector instructions.
            while i + block <= n:
                differ = np.uint64(0)
                for k in range(16):
                    at = i + np.uint64(k)
                    differ |= np.uint64(truth[at] ^ t) | np.uint64(segments[at] ^ p)
                if differ != 0:
                    break
                i += block
            while i < n and truth[i] == t and segments[i] == p:
                i += one
        wide_t, wide_p = np.uint64(t), np.uint64(p)
        h = _slot(keys, counts, wide_t, wide_p)
        if counts[h] == 0:
            keys[h, 0], keys[h, 1] = wide_t, wide_p
            used += 1
        counts[h] += np.int64(i - start)
    return np.int64(i), used
