"""Closed surfaces of chosen segments, in micrometres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.postprocess.shapes.boxes import Boxes, check_ids, check_labels, segment_boxes
from brodmann.postprocess.shapes.manifold import part_shared_edges, part_shared_vertices

PASS_BAND = (0.5, -0.53)
"""Taubin's lambda and mu: steps out and back that smooth without shrinking."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes
    ----------
    vertices : (n, 3) array of float32
        (z, y, x) in micrometres; the centre of voxel (0, 0, 0) is the origin.
    faces : (m, 3) array of int32
        Indices of vertices. The normal (b - a) x (c - a), taken in the order (z, y, x), points
        inwards, which in the order (x, y, z), as files hold it, is outwards.

    Example
    -------
    >>> grid = np.zeros((8, 8, 8), np.uint8)
    >>> grid[2:6, 2:6, 2:6] = 1
    >>> mesh = mesh_segment(Volume(grid, "zyx", (0.5, 0.5, 0.5)), 1)
    >>> mesh.is_closed, bool(abs(mesh.volume_um3 / 8 - 1) < 0.15)
    (True, True)
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        for name, array in (("vertices", self.vertices), ("faces", self.faces)):
            if array.ndim != 2 or array.shape[1] != 3:
                raise DataError(f"{name} of a mesh are an (n, 3) array", found=array.shape)
        object.__setattr__(self, "vertices", np.ascontiguousarray(self.vertices, np.float32))
        object.__setattr__(self, "faces", np.ascontiguousarray(self.faces, np.int32))

    @property
    def _crosses(self) -> np.ndarray:
        """Twice the area of each face times its outward normal, (m, 3) in (z, y, x)."""
        a, b, c = np.moveaxis(self.vertices.astype(np.float64)[self.faces], 1, 0)
        return -np.cross(b - a, c - a)

    @property
    def area_um2(self) -> float:
        return float(np.linalg.norm(self._crosses, axis=1).sum() / 2)

    @property
    def volume_um3(self) -> float:
        """What a closed surface holds (by the divergence theorem); cavities are left out."""
        corners = self.vertices.astype(np.float64)[self.faces]
        return float((corners.mean(axis=1) * self._crosses).sum() / 6)

    @property
    def is_closed(self) -> bool:
        """Whether every edge has exactly two faces, which run along it in opposite directions."""
        a, b, c = self.faces.astype(np.int64).T
        count = len(self.vertices)
        there = np.sort(np.concatenate([a * count + b, b * count + c, c * count + a]))
        back = np.sort(np.concatenate([b * count + a, c * count + b, a * count + c]))
        once = len(there) > 0 and bool((np.diff(there) > 0).all())
        return once and bool(np.array_equal(there, back))

    def normals(self) -> np.ndarray:
        """Outward unit normals at the vertices, (n, 3) float32 in (z, y, x), area-weighted."""
        total = np.zeros((len(self.vertices), 3))
        crosses = self._crosses
        for corner in range(3):
            for axis in range(3):
                total[:, axis] += np.bincount(
                    self.faces[:, corner], crosses[:, axis], len(self.vertices)
                )
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return (total / np.maximum(length, 1e-300)).astype(np.float32)

    def smoothed(self, rounds: int) -> Mesh:
        """Taubin's smoothing: staircases go, the volume stays (Taubin, SIGGRAPH 1995)."""
        if rounds < 0:
            raise DataError("rounds of smoothing are 0 or more", found=rounds)
        from scipy.sparse import coo_array

        a, b, c = self.faces.T
        ends = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
        count = len(self.vertices)
        ones = np.ones(len(ends[0]), np.float32)
        links = coo_array((ones, ends), shape=(count, count)).tocsr()
        links.data[:] = 1  # An edge of two faces is one edge.
        degree = np.maximum(np.diff(links.indptr), 1)[:, None].astype(np.float32)
        vertices = self.vertices.copy()
        for _ in range(rounds):
            for step in PASS_BAND:
                vertices += np.float32(step) * (links @ vertices / degree - vertices)
        return replace(self, vertices=vertices)

    def simplified(self, keep: float) -> Mesh:
        """About this share of the faces, by quadric error edge collapse; stays closed."""
        if not 0 < keep <= 1:
            raise DataError("the share of faces to keep is in (0, 1]", found=keep)
        if keep == 1 or not len(self.faces):
            return self
        from bioimage_cpp.mesh import simplify_mesh

        vertices, faces, _, _ = simplify_mesh(self.vertices, self.faces, 1 - keep)
        return Mesh(vertices, faces)


def mesh_segment(
    labels: Volume,
    id_: int,
    boxes: Boxes | None = None,
    smooth: int = 0,
    keep: float = 1.0,
) -> Mesh:
    """The closed surface of one segment, by marching cubes (Lewiner et al. 2003).

    Parameters
    ----------
    labels : Volume
        Axes "zyx", whole numbers. Only the segment's bounding box and a voxel around it are
        read.
    id_ : int
    boxes : Boxes, optional
        Of the whole volume; found by a pass over it when not given.
    smooth : int
        Rounds of Taubin's smoothing; 10 take the staircase off a binary mask.
    keep : float
        Share of the faces to keep, in (0, 1].

    Raises
    ------
    DataError
        If the volume has no such segment, or an option is out of range.
    """
    check_labels(labels)
    boxes = segment_boxes(labels) if boxes is None else boxes
    mask, start = segment_mask(labels, id_, boxes)
    return mesh_mask(mask, labels.spacing, start, smooth, keep)


def mesh_segments(
    labels: Volume,
    ids: Iterable[int],
    boxes: Boxes | None = None,
    smooth: int = 0,
    keep: float = 1.0,
) -> Iterator[tuple[int, Mesh]]:
    """The surfaces of several segments, one at a time; as `mesh_segment`."""
    boxes = segment_boxes(labels) if boxes is None else boxes
    for id_ in check_ids(boxes, ids):
        yield id_, mesh_segment(labels, id_, boxes, smooth, keep)


def mesh_mask(
    mask: np.ndarray,
    spacing: tuple[float, ...],
    start: tuple[int, ...] = (0, 0, 0),
    smooth: int = 0,
    keep: float = 1.0,
) -> Mesh:
    """The closed surface of a (z, y, x) mask whose first voxel lies at `start`."""
    from skimage.measure import marching_cubes

    if not mask.any():
        raise DataError("an empty mask has no surface")
    padded = np.pad(mask, 1).astype(np.float32)
    # The surface cuts edges between voxels midway, so that no two of its vertices coincide.
    vertices, faces, _, _ = marching_cubes(padded, 0.5, allow_degenerate=False)
    origin = np.array(start, np.float64) - 1
    vertices, faces = part_shared_edges((vertices + origin) * np.array(spacing), faces)
    mesh = Mesh(*part_shared_vertices(vertices, faces))
    if mesh.volume_um3 < 0:
        mesh = replace(mesh, faces=mesh.faces[:, ::-1])
    if smooth:
        mesh = mesh.smoothed(smooth)
    return mesh.simplified(keep)


def segment_mask(
    labels: Volume, id_: int, boxes: Boxes, margin: int = 0
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """A segment within its bounding box, (z, y, x) bool, and the box's first voxel."""
    window = tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(boxes.window(id_), labels.spatial_shape)
    )
    mask = labels.read(window)[0] == id_
    z, y, x = (part.start for part in window)
    return mask, (z, y, x)
