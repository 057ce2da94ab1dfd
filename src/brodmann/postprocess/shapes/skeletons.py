"""Centre lines of chosen segments, in micrometres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.postprocess.shapes.boxes import Boxes, check_ids, check_labels, segment_boxes
from brodmann.postprocess.shapes.meshes import segment_mask


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Nodes, edges between them, and the radius at each node; a tree for each connected piece.

    Attributes
    ----------
    nodes : (n, 3) array of float64
        (z, y, x) in micrometres; the centre of voxel (0, 0, 0) is the origin.
    edges : (m, 2) array of int64
        Pairs of nodes.
    radius_um : (n,) array of float32
        Distance to the nearest voxel outside the segment.

    Example
    -------
    >>> line = Skeleton([[0, 0, 0], [0, 0, 2], [0, 0, 5]], [[0, 1], [1, 2]], [1, 1, 1])
    >>> line.length_um, line.end_points.tolist(), line.branch_points.tolist()
    (5.0, [0, 2], [])
    """

    nodes: np.ndarray
    edges: np.ndarray
    radius_um: np.ndarray

    def __post_init__(self) -> None:
        nodes = np.ascontiguousarray(self.nodes, np.float64).reshape(-1, 3)
        edges = np.ascontiguousarray(self.edges, np.int64).reshape(-1, 2)
        radius = np.ascontiguousarray(self.radius_um, np.float32)
        if radius.shape != (len(nodes),):
            raise DataError(f"{len(nodes)} nodes need as many radii", found=radius.shape)
        if len(edges) and (edges.min() < 0 or edges.max() >= len(nodes)):
            raise DataError("an edge names a node that is not there", found=int(edges.max()))
        for name, array in (("nodes", nodes), ("edges", edges), ("radius_um", radius)):
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def length_um(self) -> float:
        """The sum of the lengths of all edges."""
        a, b = self.nodes[self.edges[:, 0]], self.nodes[self.edges[:, 1]]
        return float(np.linalg.norm(a - b, axis=1).sum())

    @property
    def degree(self) -> np.ndarray:
        """Edges at each node, (n,) int64."""
        return np.bincount(self.edges.reshape(-1), minlength=len(self))

    @property
    def branch_points(self) -> np.ndarray:
        """Indices of nodes with three edges or more."""
        return np.flatnonzero(self.degree > 2)

    @property
    def end_points(self) -> np.ndarray:
        """Indices of nodes with one edge."""
        return np.flatnonzero(self.degree == 1)

    @property
    def pieces(self) -> int:
        """Connected pieces."""
        return int(self._pieces()[0])

    def _pieces(self) -> tuple[int, np.ndarray]:
        from scipy.sparse.csgraph import connected_components

        return connected_components(self._links(), directed=False)

    def _links(self):
        from scipy.sparse import coo_array

        a, b = self.edges.T
        ones = np.ones(2 * len(a))
        ends = np.concatenate([a, b]), np.concatenate([b, a])
        return coo_array((ones, ends), shape=(len(self), len(self))).tocsr()

    def parents(self) -> tuple[np.ndarray, np.ndarray]:
        """The nodes in an order in which parents come first, and the parent of each (-1: root).

        The root of a piece is its first end point, or its only node.

        Raises
        ------
        DataError
            If edges form a ring.
        """
        from scipy.sparse.csgraph import breadth_first_order

        count, piece = self._pieces()
        if len(self.edges) != len(self) - count:
            raise DataError("the skeleton has a ring, and is no tree")
        links = self._links()
        ends = self.degree < 2
        parent = np.full(len(self), -1, np.int64)
        order = []
        # lexsort puts the end points of every piece first.
        sorted_ = np.lexsort((~ends, piece))
        for root in sorted_[np.searchsorted(piece[sorted_], np.arange(count))]:
            walk, before = breadth_first_order(links, root, directed=False)
            parent[walk[1:]] = before[walk[1:]]
            order.append(walk)
        return (np.concatenate(order) if order else np.zeros(0, np.int64)), parent

    def smoothed(self, rounds: int) -> Skeleton:
        """Nodes between two others moved to the mean of three, so that stairs become lines.

        A path from voxel to voxel is up to an eighth too long, more where voxels are not
        cubes. End points and branch points stay where they are.
        """
        if rounds < 0:
            raise DataError("rounds of smoothing are 0 or more", found=rounds)
        links = self._links()
        inner = (self.degree == 2)[:, None]
        nodes = self.nodes
        for _ in range(rounds):
            nodes = np.where(inner, (nodes + links @ nodes) / 3, nodes)
        return replace(self, nodes=nodes)


SMOOTH = 10
"""Rounds of smoothing by default."""


def skeleton_segment(
    labels: Volume,
    id_: int,
    boxes: Boxes | None = None,
    scale: float = 1.5,
    constant_um: float | None = None,
    smooth: int = SMOOTH,
) -> Skeleton:
    """The skeleton of one segment by TEASAR (Sato et al. 2000).

    Parameters
    ----------
    labels : Volume
        Axes "zyx", whole numbers. Only the segment's bounding box is read.
    id_ : int
    boxes : Boxes, optional
        Of the whole volume; found by a pass over it when not given.
    scale, constant_um : float
        A path covers what lies within scale x radius + constant_um of it; what is covered
        gets no branch of its own. More leaves out more spurs. Default of the second: twice
        the coarsest spacing, since the radius is known no better.
    smooth : int
        Rounds of `Skeleton.smoothed`.

    Raises
    ------
    DataError
        If the volume has no such segment, or an option is out of range.

    Example
    -------
    >>> grid = np.zeros((9, 9, 40), np.uint8)
    >>> grid[2:7, 2:7, 4:36] = 3
    >>> found = skeleton_segment(Volume(grid, "zyx", (0.01, 0.01, 0.01)), 3)
    >>> round(found.length_um, 2), len(found.branch_points)
    (0.32, 0)
    """
    check_labels(labels)
    boxes = segment_boxes(labels) if boxes is None else boxes
    mask, start = segment_mask(labels, id_, boxes)
    return skeleton_mask(mask, labels.spacing, start, scale, constant_um, smooth)


def skeleton_segments(
    labels: Volume,
    ids: Iterable[int],
    boxes: Boxes | None = None,
    scale: float = 1.5,
    constant_um: float | None = None,
    smooth: int = SMOOTH,
) -> Iterator[tuple[int, Skeleton]]:
    """The skeletons of several segments, one at a time; as `skeleton_segment`."""
    boxes = segment_boxes(labels) if boxes is None else boxes
    for id_ in check_ids(boxes, ids):
        yield id_, skeleton_segment(labels, id_, boxes, scale, constant_um, smooth)


def skeleton_mask(
    mask: np.ndarray,
    spacing: tuple[float, ...],
    start: tuple[int, ...] = (0, 0, 0),
    scale: float = 1.5,
    constant_um: float | None = None,
    smooth: int = SMOOTH,
) -> Skeleton:
    """The skeleton of a (z, y, x) mask whose first voxel lies at `start`; as above."""
    from bioimage_cpp.skeleton import teasar

    constant_um = 2 * max(spacing) if constant_um is None else constant_um
    for name, value in (("scale", scale), ("constant_um", constant_um)):
        if not (np.isfinite(value) and value >= 0):
            raise DataError(f"{name} is 0 or more", found=value)
    if not mask.any():
        raise DataError("an empty mask has no skeleton")
    # A rim of background, so that the end of the box is no inside.
    vertices, edges, radii = teasar(
        np.pad(mask, 1), spacing=spacing, scale=scale, constant=constant_um
    )
    nodes = vertices + (np.array(start) - 1) * np.array(spacing)
    return Skeleton(nodes, edges.astype(np.int64), radii).smoothed(smooth)
