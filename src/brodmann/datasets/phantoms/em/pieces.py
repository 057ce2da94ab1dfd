"""Connected pieces of ids, and ids that keep apart; compiled, in little memory."""

from __future__ import annotations

import numpy as np
from numba import njit

SMALLEST_UM3 = 0.0002
"""A piece of a neuron below this volume that the sampling cut off has no id of its own."""


@njit(cache=True, inline="always")
def _root(parent, v):  # pragma: no cover (compiled)
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@njit(cache=True)
def _components(ids, full, parent):  # pragma: no cover (compiled)
    nz, ny, nx = ids.shape
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                v = (i * ny + j) * nx + k
                parent[v] = -1
                here = ids[i, j, k]
                if here == 0:
                    continue
                parent[v] = v
                # Neighbours that were met before: 3 faces, or 13 of all 26.
                for a in range(-1, 1):
                    for b in range(-1, 2):
                        for c in range(-1, 2):
                            if a == 0 and (b > 0 or (b == 0 and c >= 0)):
                                continue
                            if not full and abs(a) + abs(b) + abs(c) > 1:
                                continue
                            y, x = j + b, k + c
                            if i + a < 0 or y < 0 or y >= ny or x < 0 or x >= nx:
                                continue
                            if ids[i + a, y, x] == here:
                                p = _root(parent, v)
                                q = _root(parent, ((i + a) * ny + y) * nx + x)
                                parent[max(p, q)] = min(p, q)
    count = 0
    for v in range(len(parent)):
        if parent[v] < 0:
            parent[v] = 0
        elif parent[v] == v:
            # Roots come before what they hold; from here on a negative is a number.
            count += 1
            parent[v] = -count
        else:
            # An earlier voxel of the piece, whose number is known.
            parent[v] = parent[parent[v]]
    for v in range(len(parent)):
        parent[v] = -parent[v]
    return count


def components(ids: np.ndarray, full: bool = False) -> tuple[np.ndarray, int]:
    """Pieces of equal id, numbered from 1 in the order of their first voxels.

    Parameters
    ----------
    ids : (z, y, x) integers
        0 is in no piece.
    full : bool
        Voxels hang together by edges and corners too (26 neighbours), not by faces alone (6).

    Returns
    -------
    ndarray, int
        int32 pieces (4 bytes a voxel is all that it takes), and their number.

    Example
    -------
    >>> ids = np.array([[[5, 5, 0, 5, 7]]])
    >>> components(ids)[0].tolist()
    [[[1, 1, 0, 2, 3]]]
    """
    parent = np.empty(ids.size, np.int32)
    count = int(_components(ids, full, parent))
    return parent.reshape(ids.shape), count


@njit(cache=True)
def keep_apart(ids):  # pragma: no cover (compiled)
    """Take voxels away, in place, where two ids touch by face, edge or corner."""
    nz, ny, nx = ids.shape
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                if ids[i, j, k] == 0:
                    continue
                for a in range(max(i - 1, 0), min(i + 2, nz)):
                    for b in range(max(j - 1, 0), min(j + 2, ny)):
                        for c in range(max(k - 1, 0), min(k + 2, nx)):
                            other = ids[a, b, c]
                            if other and other < ids[i, j, k]:
                                ids[i, j, k] = 0


def split_neurons(neurons: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Give each piece of a neuron an id of its own, in place; the neuron of each id.

    The largest piece keeps the neuron's; specks become 0.
    """
    count = int(neurons.max(initial=0))
    pieces, number = components(neurons)
    sizes, owner = _owners(pieces, neurons, number)
    least = SMALLEST_UM3 / float(np.prod(spacing))
    table = np.zeros(number + 1, np.uint32)
    neuron_of = list(range(count + 1))
    seen: set[int] = set()
    for piece in np.argsort(-sizes, kind="stable"):
        neuron = int(owner[piece])
        if neuron == 0 or sizes[piece] < least:
            continue
        if neuron in seen:
            table[piece] = len(neuron_of)
            neuron_of.append(neuron)
        else:
            table[piece] = neuron
            seen.add(neuron)
    _look_up(pieces, table, neurons)
    return np.array(neuron_of)


def number_mitochondria(
    mitochondria: np.ndarray, neurons: np.ndarray, spacing: tuple[float, ...]
) -> dict[int, int]:
    """Number mitochondria anew, each a piece of its own, in place; the neuron of each.

    Specks become 0.
    """
    pieces, number = components(mitochondria, full=True)
    sizes, owner = _owners(pieces, neurons, number)
    keep = sizes >= SMALLEST_UM3 / float(np.prod(spacing))
    keep[0] = False
    table = np.zeros(number + 1, np.uint32)
    table[keep] = np.arange(1, int(keep.sum()) + 1)
    _look_up(pieces, table, mitochondria)
    return {int(table[p]): int(owner[p]) for p in np.flatnonzero(keep)}


@njit(cache=True)
def _owners(pieces, neurons, number):  # pragma: no cover (compiled)
    """Voxels of each piece, and the neuron that it lies in."""
    sizes, owner = np.zeros(number + 1, np.int64), np.zeros(number + 1, np.uint32)
    flat, of = pieces.ravel(), neurons.ravel()
    for v in range(len(flat)):
        sizes[flat[v]] += 1
        owner[flat[v]] = of[v]
    return sizes, owner


@njit(cache=True)
def _look_up(ids, table, out):  # pragma: no cover (compiled)
    flat, to = ids.ravel(), out.ravel()
    for v in range(len(flat)):
        to[v] = table[flat[v]]
