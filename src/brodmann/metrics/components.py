"""Connected components of a mask: counts and centroids, exact whether read whole or in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import DataError

CONNECTIVITY = {2: (4, 8), 3: (6, 18, 26)}
"""Neighbours of a pixel, by the number of axes; the first (shared edges, faces) is the default."""
_REACH = {
    6: ((0, 0),),
    18: ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)),
    26: tuple((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)),
}
_IN_3D = {4: 6, 8: 26, 6: 6, 18: 18, 26: 26}


@dataclass(frozen=True, eq=False)
class Components:
    """The components of one mask, in an order that does not depend on how it was read.

    `voxels` (n,) int64 is the size of each; `sums` (n, ndim) int64 adds up its coordinates.
    """

    voxels: np.ndarray
    sums: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def centroids(self) -> np.ndarray:
        """(n, ndim) float64, in voxels of the grid; (0, 0, 0) is the centre of the first voxel."""
        return self.sums / self.voxels[:, None]

    def at_least(self, voxels: int) -> Components:
        """Those of so many voxels or more."""
        return self.among(self.voxels >= voxels)

    def among(self, some: np.ndarray) -> Components:
        """Those at some positions, or where a mask is true."""
        return Components(self.voxels[some], self.sums[some])


def check_connectivity(connectivity: int | None, ndim: int) -> int:
    """The number of neighbours wanted, edges (2D) or faces (3D) where none is given.

    >>> check_connectivity(None, 3), check_connectivity(8, 2)
    (6, 8)
    """
    if ndim not in CONNECTIVITY:
        raise DataError("components need 2 or 3 axes", found=f"{ndim}")
    if connectivity is None:
        return CONNECTIVITY[ndim][0]
    if connectivity not in CONNECTIVITY[ndim]:
        allowed = " or ".join(map(str, CONNECTIVITY[ndim]))
        raise DataError(
            f"connectivity in {ndim}D is {allowed} neighbours", found=repr(connectivity)
        )
    return int(connectivity)


def components(mask: np.ndarray, connectivity: int | None = None) -> Components:
    """The components of a mask in memory.

    Parameters
    ----------
    mask : (y, x) or (z, y, x) bool
    connectivity : {4, 8} in 2D, {6, 18, 26} in 3D
        Default: neighbours share an edge (4) or a face (6).

    Example
    -------
    >>> mask = np.array([[1, 1, 0], [0, 0, 1]], bool)
    >>> len(components(mask)), components(mask, 8).voxels.tolist()
    (2, [3])
    """
    stream = ComponentStream(mask.shape, connectivity)
    stream.add(mask, (0,) * mask.ndim)
    return stream.result()


class ComponentStream:
    """Components of a mask that comes in windows; those that windows cut are put together.

    Windows must tile the grid and come in row-major order, the last axis fastest, those of one
    row alike in depth and height, as from a grid of cuts along each axis. What is held: the
    labels of one plane, a size and a sum for every piece.

    Parameters
    ----------
    shape : tuple of int
        Of the whole mask, 2D or 3D.
    connectivity : int, optional
        As for `components`.

    Notes
    -----
    Sizes and sums are whole numbers, so the result is the same to the last bit for all windows.

    Example
    -------
    >>> mask = np.ones((4, 6), bool)
    >>> stream = ComponentStream(mask.shape)
    >>> for x in (0, 2, 4):
    ...     stream.add(mask[:, x : x + 2], (0, x))
    >>> stream.result().voxels.tolist(), stream.result().centroids.tolist()
    ([24], [[1.5, 2.5]])
    """

    def __init__(self, shape: Sequence[int], connectivity: int | None = None) -> None:
        self.ndim = len(shape)
        self._own = check_connectivity(connectivity, self.ndim)
        self._in_3d = _IN_3D[self._own]
        self._reach = np.array(_REACH[self._in_3d], np.int64)
        self._shape = (1,) * (3 - self.ndim) + tuple(int(n) for n in shape)
        self._count = 0
        self._parent = np.empty(0, np.int64)
        self._voxels = np.empty(0, np.int64)
        self._sums = np.empty((0, 3), np.int64)
        self._at: tuple[int, int, int] | None = None
        # Global labels (from 1) of the last plane, row and column of what came before.
        self._roof = self._next_roof = np.empty((0, 0), np.int64)
        self._wall = self._next_wall = np.empty((0, 0), np.int64)
        self._side = np.empty((0, 0), np.int64)

    def add(self, mask: np.ndarray, at: Sequence[int]) -> None:
        """The next window: its mask, and where its first voxel lies."""
        if mask.ndim == 2:
            mask, at = mask[None], (0, *at)
        z, y, x = (int(i) for i in at)
        depth, height, width = mask.shape
        labels, found = _label(mask, self._in_3d)
        voxels, sums = np.zeros(found, np.int64), np.zeros((found, 3), np.int64)
        _add_up(labels, z, y, x, voxels, sums)
        first = self._count
        self._grow(found)
        self._voxels[first : first + found] = voxels
        self._sums[first : first + found] = sums
        self._turn(z, y, x, depth)
        if z:
            _join(labels[0], first, self._roof, y, x, self._reach, self._parent)
        if y:
            _join(labels[:, 0], first, self._wall, 0, x, self._reach, self._parent)
        if x:
            _join(labels[:, :, 0], first, self._side, 0, 0, self._reach, self._parent)
        if z + depth < self._shape[0]:
            self._next_roof[y : y + height, x : x + width] = _numbered(labels[-1], first)
        if y + height < self._shape[1]:
            self._next_wall[:, x : x + width] = _numbered(labels[:, -1], first)
        if x + width < self._shape[2]:
            self._side = _numbered(labels[:, :, -1], first)

    def result(self) -> Components:
        """The components of all windows so far."""
        n = self._count
        roots = _roots(self._parent[:n])
        voxels, sums = np.zeros(n, np.int64), np.zeros((n, 3), np.int64)
        np.add.at(voxels, roots, self._voxels[:n])
        np.add.at(sums, roots, self._sums[:n])
        whole = roots == np.arange(n)
        voxels, sums = voxels[whole], sums[whole]
        # Sums of floats further on depend on the order, which windows must not change.
        order = np.lexsort((voxels, *sums.T[::-1]))
        return Components(voxels[order], sums[order][:, 3 - self.ndim :])

    def _grow(self, found: int) -> None:
        need = self._count + found
        if need > len(self._parent):
            more = max(need, 2 * len(self._parent)) - len(self._parent)
            self._parent = np.concatenate([self._parent, np.empty(more, np.int64)])
            self._voxels = np.concatenate([self._voxels, np.empty(more, np.int64)])
            self._sums = np.concatenate([self._sums, np.empty((more, 3), np.int64)])
        self._parent[self._count : need] = np.arange(self._count, need)
        self._count = need

    def _turn(self, z: int, y: int, x: int, depth: int) -> None:
        """On to the next row or layer of windows, where this window begins one."""
        _, rows, columns = self._shape
        last, self._at = self._at, (z, y, x)
        if last is not None and (z, y, x) <= last:
            raise ValueError(f"windows come in row-major order, not {(z, y, x)} after {last}")
        if last is None or z != last[0]:
            self._roof = self._next_roof
            # A mask that is read whole has no seams to keep.
            lies_above = z + depth < self._shape[0]
            self._next_roof = np.zeros((rows, columns) if lies_above else (0, 0), np.int64)
        if last is None or (z, y) != last[:2]:
            self._wall = self._next_wall
            self._next_wall = np.zeros((depth, columns), np.int64)


def _label(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """(z, y, x) uint32 labels from 1 (uint64 in huge masks), and how many."""
    import cc3d

    kind = np.uint32 if mask.size < 1 << 32 else np.uint64
    if not mask.size:
        return np.zeros(mask.shape, kind), 0
    mask = np.ascontiguousarray(mask, bool)
    flat = mask.shape[0] == 1
    # As bytes: the library's binary mode merges or fails on small masks of odd sides (4.1.1).
    labels, found = cc3d.connected_components(
        (mask[0] if flat else mask).view(np.uint8),
        connectivity={6: 4, 18: 8, 26: 8}[connectivity] if flat else connectivity,
        return_N=True,
        out_dtype=kind,
        binary_image=False,
    )
    return np.ascontiguousarray(labels).reshape(mask.shape), int(found)


def _numbered(labels: np.ndarray, first: int) -> np.ndarray:
    """Labels of one window as those of all: int64, 0 stays 0."""
    out = labels.astype(np.int64)
    out[out > 0] += first
    return out


@njit(cache=True, nogil=True)
def _add_up(labels, z0, y0, x0, voxels, sums):
    """Size and summed coordinates of every label, a run of equal neighbours at a time."""
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            x = 0
            while x < width:
                label = labels[z, y, x]
                if label == 0:
                    x += 1
                    continue
                start = x
                while x < width and labels[z, y, x] == label:
                    x += 1
                n = x - start
                at = np.int64(label) - 1
                voxels[at] += n
                sums[at, 0] += n * (z + z0)
                sums[at, 1] += n * (y + y0)
                sums[at, 2] += n * x0 + n * (start + x - 1) // 2


@njit(cache=True, nogil=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _join(new, first, old, row, column, reach, parent):
    """Unite what touches across a seam; `new` lies at (row, column) of the plane `old`."""
    height, width = new.shape
    rows, columns = old.shape
    for i in range(height):
        for j in range(width):
            if new[i, j] == 0:
                continue
            mine = first + np.int64(new[i, j]) - 1
            for k in range(reach.shape[0]):
                a, b = row + i + reach[k, 0], column + j + reach[k, 1]
                if 0 <= a < rows and 0 <= b < columns and old[a, b] > 0:
                    one, other = _root(parent, mine), _root(parent, old[a, b] - 1)
                    if one < other:
                        parent[other] = one
                    elif other < one:
                        parent[one] = other


@njit(cache=True, nogil=True)
def _roots(parent):
    out = np.empty(parent.size, np.int64)
    for i in range(parent.size):
        out[i] = _root(parent, i)
    return out
