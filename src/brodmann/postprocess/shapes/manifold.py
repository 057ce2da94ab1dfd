"""Surfaces as other programs want them: two faces an edge, one fan of faces a vertex."""

from __future__ import annotations

import numpy as np


def part_shared_edges(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give every edge of a closed surface exactly two faces.

    Where a segment touches itself, marching cubes lets two sheets run through one edge, which
    other programs take for a fault. Each sheet gets its own vertex in the middle of the edge;
    the surface does not move.

    Parameters
    ----------
    vertices : (n, 3) array
    faces : (m, 3) integers
        Each edge is run along as often in one direction as in the other.

    Returns
    -------
    vertices, faces
        The same arrays where no edge is shared by more than two faces.
    """
    while True:
        tails = faces.astype(np.int64).reshape(-1)
        heads = np.roll(faces, -1, axis=1).astype(np.int64).reshape(-1)
        keys = tails * len(vertices) + heads
        order = np.argsort(keys, kind="stable")
        values, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
        shared = np.flatnonzero((counts > 1) & (values // len(vertices) < values % len(vertices)))
        if not len(shared):
            return vertices, faces
        touched: set[int] = set()
        middles: list[np.ndarray] = []
        dropped: list[int] = []
        added: list[tuple[int, int, int]] = []
        for at in shared:
            a, b = divmod(int(values[at]), len(vertices))
            back = int(np.searchsorted(values, b * len(vertices) + a))
            there = order[starts[at] : starts[at] + counts[at]] // 3
            here = order[starts[back] : starts[back] + counts[back]] // 3
            both = {*there.tolist(), *here.tolist()}
            if both & touched:
                continue  # A face with two such edges waits for the next round.
            touched |= both
            for forth, reverse in _pairs(there, here, faces, a, b):
                middle = len(vertices) + len(middles)
                middles.append((vertices[a] + vertices[b]) / 2)
                for face, (p, q) in ((forth, (a, b)), (reverse, (b, a))):
                    third = _third(faces, face, a, b)
                    added += [(p, middle, third), (middle, q, third)]
                dropped += [forth, reverse]
        vertices = np.concatenate([vertices, np.array(middles, vertices.dtype)])
        faces = np.concatenate([np.delete(faces, dropped, axis=0), np.array(added, faces.dtype)])


def part_shared_vertices(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give every fan of faces a vertex of its own, where sheets touch in a point.

    Parameters
    ----------
    vertices : (n, 3) array
    faces : (m, 3) integers
        Each edge has two faces, as `part_shared_edges` leaves it. Vertices without a face go.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(vertices)
    tails = faces.astype(np.int64)
    heads = np.roll(tails, -1, axis=1)
    corner = np.arange(faces.size).reshape(faces.shape)
    after = np.roll(corner, -1, axis=1).reshape(-1)
    forth = np.argsort((tails * count + heads).reshape(-1))
    back = np.argsort((heads * count + tails).reshape(-1))
    # Across an edge, where one face's side starts the other's ends.
    ends = np.concatenate([forth, after[forth]]), np.concatenate([after[back], back])
    links = coo_array((np.ones(len(ends[0]), bool), ends), shape=(faces.size, faces.size))
    fans, fan = connected_components(links, directed=False)
    if fans == count:
        return vertices, faces
    first = np.full(fans, -1, np.int64)
    first[fan[::-1]] = tails.reshape(-1)[::-1]
    return vertices[first], fan.reshape(faces.shape).astype(faces.dtype)


def _third(faces: np.ndarray, face: int, a: int, b: int) -> int:
    return int(faces[face].sum()) - a - b


def _pairs(
    there: np.ndarray, here: np.ndarray, faces: np.ndarray, a: int, b: int
) -> list[tuple[int, int]]:
    """Faces of one edge two by two, no two of them on the same three vertices if it can be."""
    tips = [_third(faces, face, a, b) for face in there]
    best: list[tuple[int, int]] = []
    fewest = len(tips) + 1
    for turn in range(len(here)):
        turned = np.roll(here, turn)
        same = sum(tip == _third(faces, face, a, b) for tip, face in zip(tips, turned))
        if same < fewest:
            fewest, best = same, list(zip(there.tolist(), turned.tolist()))
    return best
