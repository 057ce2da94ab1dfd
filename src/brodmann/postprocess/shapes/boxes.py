"""Where every segment of a label volume lies, from one pass that memory never limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import BACKGROUND, DataError, Volume

SLAB_VOXELS = 1 << 24
"""Voxels read at a time."""
ALIGN = 64
"""Slabs are whole multiples of this many planes, so that no chunk of a Zarr is read twice."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Sizes and bounding boxes of all segments, in order of their ids.

    Attributes
    ----------
    ids : (n,) array of uint64
        Ascending; the background, 0, is left out.
    voxels : (n,) array of int64
    low, high : (n, 3) arrays of int64
        First voxel, and one past the last, along (z, y, x).
    """

    ids: np.ndarray
    voxels: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, id_: int) -> int:
        """The row of a segment.

        Raises
        ------
        DataError
            If the volume has no such segment.
        """
        place = int(np.searchsorted(self.ids, np.uint64(id_))) if 0 < id_ < 1 << 64 else len(self)
        if place == len(self) or int(self.ids[place]) != id_:
            raise DataError(
                "no such segment in the volume",
                found=f"id {id_}",
                fix=f"it has {len(self)} segments; the largest are "
                + (", ".join(map(str, self.largest(5))) or "none"),
            )
        return place

    def largest(self, count: int) -> list[int]:
        """Ids of the segments with the most voxels, the first of equals before the others."""
        order = np.argsort(-self.voxels, kind="stable")[:count]
        return [int(id_) for id_ in self.ids[order]]

    def window(self, id_: int) -> tuple[slice, slice, slice]:
        """The smallest window that holds a segment."""
        row = self.index(id_)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(self.low[row], self.high[row]))
        return z, y, x


def segment_boxes(
    labels: Volume, report: Callable[[int, int], None] = lambda done, total: None
) -> Boxes:
    """Voxel counts and bounding boxes of all segments, read slab by slab.

    Parameters
    ----------
    labels : Volume
        Axes "zyx", whole numbers; 0 is background. Only a slab is in memory at a time.
    report : callable
        Called with planes done and all planes.

    Raises
    ------
    DataError
        If the axes are others, or the values no ids.

    Example
    -------
    >>> grid = np.zeros((4, 5, 6), np.uint16)
    >>> grid[1:3, 2:5, 4] = 7
    >>> boxes = segment_boxes(Volume(grid, "zyx", (1, 1, 1)))
    >>> boxes.ids.tolist(), boxes.voxels.tolist(), boxes.window(7)[0]
    ([7], [6], slice(1, 3, None))
    """
    check_labels(labels)
    table = (np.zeros(1 << 10, np.uint64), np.zeros((1 << 10, 7), np.int64))
    used = 0
    for window in slabs(labels.spatial_shape):
        block = np.ascontiguousarray(labels.read(window)[0])
        if block.dtype.kind == "i" and block.size and block.min() < 0:
            raise DataError("segment ids are 0 or more", found=int(block.min()))
        block = block.view(f"u{block.dtype.itemsize}")
        row = 0
        while True:
            used, row = _scan(block, window[0].start, row, *table, used)
            if row == block.shape[0] * block.shape[1]:
                break
            table = _doubled(*table)
        report(window[0].stop, labels.spatial_shape[0])
    keys, rows = table
    taken = np.flatnonzero(rows[:, 0])
    taken = taken[np.argsort(keys[taken])]
    rows = rows[taken]
    return Boxes(keys[taken], rows[:, 0], rows[:, 1:4].copy(), rows[:, 4:7] + 1)


def check_labels(labels: Volume) -> None:
    """Refuse what is no volume of segment ids."""
    if labels.axes != "zyx":
        raise DataError("a label volume has axes zyx", found=repr(labels.axes))
    if labels.dtype.kind not in "iub":
        raise DataError("segment ids are whole numbers", found=labels.dtype)


def check_ids(boxes: Boxes, ids: Iterable[int]) -> list[int]:
    """The ids as given, each once, when the volume has them all."""
    chosen = list(dict.fromkeys(int(id_) for id_ in ids))
    if BACKGROUND in chosen:
        raise DataError("0 is the background, not a segment", found="id 0")
    for id_ in chosen:
        boxes.index(id_)
    return chosen


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Windows over whole planes, about SLAB_VOXELS each.

    >>> [window[0] for window in slabs((100, 1024, 1024))]
    [slice(0, 64, None), slice(64, 100, None)]
    """
    depth, height, width = shape
    planes = max(1, SLAB_VOXELS // max(1, height * width))
    # A slab of chunks is read whole, unless its planes alone would burst the memory.
    planes = -(-planes // ALIGN) * ALIGN if planes * 4 >= ALIGN else planes
    for start in range(0, depth, planes):
        yield slice(start, min(start + planes, depth)), slice(0, height), slice(0, width)


@njit(cache=True, nogil=True)
def _place(keys, rows, id_):
    """The row of an id in the open-addressing table, or the free one where it belongs."""
    mask = np.uint64(len(keys) - 1)
    place = (id_ * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    place &= mask
    while rows[place, 0] and keys[place] != id_:
        place = (place + np.uint64(1)) & mask
    return place


@njit(cache=True, nogil=True)
def _scan(block, z0, first, keys, rows, used):
    """Enter runs along x, row by row; stops at a row that might overfill the table."""
    depth, height, width = block.shape
    for row in range(first, depth * height):
        if 4 * (used + width) > 3 * len(keys):
            return used, row
        z, y = row // height, row % height
        x = 0
        while x < width:
            start, value = x, block[z, y, x]
            x += 1
            while x < width and block[z, y, x] == value:
                x += 1
            if value == 0:
                continue
            id_ = np.uint64(value)
            place = _place(keys, rows, id_)
            entry = rows[place]
            if entry[0] == 0:
                keys[place] = id_
                used += 1
                entry[1], entry[2], entry[3] = z0 + z, y, start
                entry[4], entry[5], entry[6] = z0 + z, y, x - 1
            entry[0] += x - start
            entry[4] = z0 + z
            entry[2] = min(entry[2], y)
            entry[5] = max(entry[5], y)
            entry[3] = min(entry[3], start)
            entry[6] = max(entry[6], x - 1)
    return used, depth * height


@njit(cache=True, nogil=True)
def _doubled(keys, rows):
    more = np.zeros(2 * len(keys), np.uint64)
    entries = np.zeros((2 * len(keys), 7), np.int64)
    for i in range(len(keys)):
        if rows[i, 0]:
            place = _place(more, entries, keys[i])
            more[place] = keys[i]
            entries[place] = rows[i]
    return more, entries
