"""Fragments to segments by a table, numbers without gaps, small segments away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from brodmann.core import DataError


def apply_lookup(
    fragments: np.ndarray, lookup: np.ndarray, out: np.ndarray | None = None, *, workers: int = 1
) -> np.ndarray:
    """Segments of a volume or a block: `lookup[fragments]`, quickly, refusing unknown ids.

    Parameters
    ----------
    fragments : (z, y, x) unsigned integers
    lookup : (num_nodes + 1,) unsigned integers
        One row of what `agglomerate` gives.
    out : (z, y, x) ndarray, optional
        Where to write; may be `fragments` itself.
    workers : int
        Threads over slices.

    Raises
    ------
    DataError
        If an id has no row, or shapes differ.

    Example
    -------
    >>> apply_lookup(np.array([[[1, 2, 3]]], np.uint32), np.array([0, 5, 5, 7], np.uint32))
    array([[[5, 5, 7]]], dtype=uint32)
    """
    if fragments.ndim != 3 or fragments.dtype.kind != "u":
        raise DataError(
            "fragments are (z, y, x) unsigned numbers",
            found=f"shape {fragments.shape}, {fragments.dtype}",
        )
    written = np.empty(fragments.shape, lookup.dtype) if out is None else out
    if written.shape != fragments.shape:
        raise DataError(
            "segments are as large as their fragments",
            found=f"{written.shape}, {fragments.shape}",
        )
    with ThreadPoolExecutor(workers) as pool:
        largest = list(
            pool.map(lambda z: _take(fragments[z], lookup, written[z]), range(len(fragments)))
        )
    if max(largest, default=0) >= len(lookup):
        raise DataError(
            f"the table knows fragments up to {len(lookup) - 1}",
            found=f"fragment {max(largest)}",
        )
    return written


@njit(cache=True, nogil=True)
def _take(fragments, lookup, out):
    """One slice; the largest id that is not in the table, or 0."""
    largest = np.uint64(0)
    height, width = fragments.shape
    for y in range(height):
        for x in range(width):
            label = np.uint64(fragments[y, x])
            if label < np.uint64(lookup.size):
                out[y, x] = lookup[label]
            else:
                largest = max(largest, label)
    return largest


def numbered(labels: np.ndarray) -> np.ndarray:
    """Unsigned ids as 1, 2, ... in order of first appearance, 0 stays; any shape, uint32.

    >>> numbered(np.array([7, 0, 3, 7])).tolist()
    [1, 0, 2, 1]
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    largest = int(flat.max(initial=0))
    if largest > max(4 * flat.size, 1 << 16):
        _, inverse = np.unique(np.append(flat, np.zeros(1, flat.dtype)), return_inverse=True)
        flat, largest = inverse[:-1], int(inverse.max())
    out = np.empty(flat.size, np.uint32)
    _number(flat.astype(np.uint64, copy=False), np.zeros(largest + 1, np.uint32), out)
    return out.reshape(labels.shape)


@njit(cache=True, nogil=True)
def _number(flat, names, out):
    """Names in order of first appearance; that of 0 is 0."""
    count = np.uint32(0)
    for i in range(flat.size):
        label = flat[i]
        name = names[label]
        if name == 0 and label != 0:
            count += np.uint32(1)
            names[label] = name = count
        out[i] = name


def remove_small(labels: np.ndarray, min_voxels: int) -> np.ndarray:
    """Segments of fewer voxels become 0; the others keep their ids.

    Parameters
    ----------
    labels : integers
        Ids up to the number of voxels or so; a table of that many is made.
    min_voxels : int

    Example
    -------
    >>> remove_small(np.array([1, 1, 2, 0], np.uint32), 2).tolist()
    [1, 1, 0, 0]
    """
    if not labels.size:
        return labels.copy()
    sizes = np.bincount(labels.reshape(-1))
    ids = np.arange(len(sizes), dtype=labels.dtype)
    ids[sizes < min_voxels] = 0
    return ids[labels]
