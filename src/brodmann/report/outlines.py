"""Boundaries of label images along pixel edges, exact and all regions at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from brodmann.core import DataError

# Directions east, south, west, north as (dy, dx); turning right is +1.
_DY = np.array([0, 1, 0, -1], np.int64)
_DX = np.array([1, 0, -1, 0], np.int64)
# The pixel ahead on the right of a vertex when heading that way, and the one on the left.
_RIGHT_Y = np.array([0, 0, -1, -1], np.int64)
_RIGHT_X = np.array([0, -1, -1, 0], np.int64)
_LEFT_Y = np.array([-1, 0, 0, -1], np.int64)
_LEFT_X = np.array([0, 0, -1, -1], np.int64)


@dataclass(frozen=True)
class Part:
    """One 4-connected piece of a region: rings of (x, y) corners, the outer one first.

    Each ring is an (n, 2) int array, not closed, with corners only; the outer ring runs
    clockwise as seen on the screen (y downwards), holes the other way.
    """

    id: int
    rings: tuple[np.ndarray, ...]


def trace_regions(labels: np.ndarray) -> list[Part]:
    """The pixel-edge polygons of every region of a label image.

    Follows the cracks between pixels, so the polygons of neighbours share their edges, tile
    without gaps, and give back exactly the label image when rasterised at pixel centres.
    Rings are simple: where a region meets itself at a corner they touch, but never cross, so
    the polygons are valid in the sense of the Simple Features standard (OGC 06-103r4, 6.1.11).

    Parameters
    ----------
    labels : (height, width) array of int
        0 is background and is not traced.

    Returns
    -------
    list of Part
        Ordered by the first pixel met, row by row. Coordinates are pixel edges: pixel
        (0, 0) covers x and y from 0 to 1.

    Raises
    ------
    DataError
        If `labels` are not whole numbers in two dimensions.

    Example
    -------
    >>> part, = trace_regions(np.array([[0, 7], [7, 7]]))
    >>> part.id, part.rings[0].tolist()
    (7, [[1, 0], [2, 0], [2, 2], [0, 2], [0, 1], [1, 1]])
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise DataError(
            "outlines need a 2D label image of whole numbers",
            found=f"{labels.dtype}, shape {labels.shape}",
        )
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    corners, ends, ids, pinched, keys, owners = _trace(np.ascontiguousarray(labels))
    order = np.argsort(keys)
    keys, owners = keys[order], owners[order]
    width = labels.shape[1]
    rings_of: dict[int, list[np.ndarray]] = {}
    holes_of: dict[int, list[np.ndarray]] = {}
    met: dict[int, int] = {}
    start = 0
    for number, end in enumerate(ends):
        ring = corners[start:end]
        start = end
        pieces = _split(ring) if pinched[number] else [ring]
        outer: list[np.ndarray] = []
        holes: list[np.ndarray] = []
        for piece in pieces:
            area = twice_area(piece)
            if area:
                (outer if area > 0 else holes).append(piece)
        if outer:
            rings_of[number] = [*outer, *holes]
            continue
        # The run of this region above the hole's first pixel begins at a left edge, which lies
        # on another ring of the same piece that reaches higher up.
        x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]]
        above = (int(y) - 1) * width + int(x)
        met[number] = int(owners[np.searchsorted(keys, above, side="right") - 1])
        holes_of[number] = holes
    for number, holes in holes_of.items():
        owner = met[number]
        while owner in met:
            owner = met[owner]
        rings_of[owner] += holes
    return [Part(int(ids[number]), tuple(rings)) for number, rings in rings_of.items()]


@njit(cache=True, nogil=True)
def twice_area(ring):  # pragma: no cover (compiled)
    """Twice the signed area of an (n, 2) ring of (x, y), positive when clockwise on the screen."""
    total, last = np.int64(0), len(ring) - 1
    for k in range(len(ring)):
        total += np.int64(ring[last, 0]) * ring[k, 1] - np.int64(ring[k, 0]) * ring[last, 1]
        last = k
    return total


def _split(ring: np.ndarray) -> list[np.ndarray]:
    """Cut a ring that comes back to a corner into rings that do not."""
    pieces: list[np.ndarray] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for corner in map(tuple, ring.tolist()):
        if corner in place:
            at = place[corner]
            loop = path[at:]
            pieces.append(np.array(loop, ring.dtype))
            for gone in loop[1:]:
                del place[gone]
            del path[at + 1 :]
        else:
            place[corner] = len(path)
            path.append(corner)
    pieces.append(np.array(path, ring.dtype))
    return pieces


@njit(cache=True, nogil=True)
def _at(labels, y, x):
    if y < 0 or x < 0 or y >= labels.shape[0] or x >= labels.shape[1]:
        return np.int64(0)
    return np.int64(labels[y, x])


@njit(cache=True, nogil=True)
def _trace(labels):
    """Walk every boundary with its region on the right, keeping to one 4-connected piece.

    Gives the corners (x, y) of all rings one after the other, each ring's end, id and
    whether it meets itself, and for every left edge walked its pixel number and ring.
    """
    height, width = labels.shape
    seen = np.zeros((height, width), np.bool_)  # top edges already walked
    corners = np.empty((1024, 2), np.int32)
    keys = np.empty(1024, np.int64)
    owners = np.empty(1024, np.int32)
    ends = np.empty(64, np.int64)
    ids = np.empty(64, np.int64)
    pinched = np.empty(64, np.bool_)
    n = 0
    k = 0
    rings = 0
    for y0 in range(height):
        for x0 in range(width):
            v = np.int64(labels[y0, x0])
            if v == 0 or seen[y0, x0] or _at(labels, y0 - 1, x0) == v:
                continue
            if _at(labels, y0, x0 - 1) == v and _at(labels, y0 - 1, x0 - 1) != v:
                continue  # the middle of a straight edge: walked from where it begins
            if rings == len(ends):
                ends = np.concatenate((ends, np.empty_like(ends)))
                ids = np.concatenate((ids, np.empty_like(ids)))
                pinched = np.concatenate((pinched, np.empty_like(pinched)))
            y, x, d = y0, x0, 0
            pinch = False
            while True:
                # Corner at (y, x): walk straight on from here.
                if n == len(corners):
                    corners = np.concatenate((corners, np.empty_like(corners)))
                corners[n, 0] = x
                corners[n, 1] = y
                n += 1
                while True:
                    if d == 0:
                        seen[y, x] = True
                    elif d == 3:
                        if k == len(keys):
                            keys = np.concatenate((keys, np.empty_like(keys)))
                            owners = np.concatenate((owners, np.empty_like(owners)))
                        keys[k] = (y - 1) * width + x
                        owners[k] = rings
                        k += 1
                    y += _DY[d]
                    x += _DX[d]
                    right = _at(labels, y + _RIGHT_Y[d], x + _RIGHT_X[d]) == v
                    left = _at(labels, y + _LEFT_Y[d], x + _LEFT_X[d]) == v
                    if right and not left:
                        continue
                    if right:
                        d = (d + 3) % 4
                    else:
                        pinch = pinch or left
                        d = (d + 1) % 4
                    break
                if y == y0 and x == x0 and d == 0:
                    break
            ends[rings] = n
            ids[rings] = v
            pinched[rings] = pinch
            rings += 1
    return corners[:n], ends[:rings], ids[:rings], pinched[:rings], keys[:k], owners[:k]
