"""Meshes as PLY and STL, skeletons as SWC: what every other program of the field reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from brodmann.core import DataError, OutputError
from brodmann.core.files import write_text, written_beside
from brodmann.postprocess.shapes.meshes import Mesh
from brodmann.postprocess.shapes.skeletons import Skeleton

MESH_SUFFIXES = (".ply", ".stl")


def write_mesh(path: str | Path, mesh: Mesh) -> Path:
    """Write a mesh as binary PLY or STL, by the suffix: (x, y, z) in micrometres, float32.

    Faces run counter-clockwise when seen from outside.

    Raises
    ------
    OutputError
        On another suffix, or when the disk takes no more.
    """
    path = Path(path)
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise OutputError("meshes are written as .ply or .stl", path, repr(path.suffix))
    corners = mesh.vertices[:, ::-1]
    with written_beside(path) as beside:
        if path.suffix.lower() == ".ply":
            beside.write_bytes(_ply(corners, mesh.faces))
        else:
            beside.write_bytes(_stl(corners, mesh.faces))
    return path


def _ply(corners: np.ndarray, faces: np.ndarray) -> bytes:
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment micrometres\n"
        f"element vertex {len(corners)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), [("count", "u1"), ("index", "<i4", 3)])
    rows["count"], rows["index"] = 3, faces
    return header.encode() + corners.astype("<f4").tobytes() + rows.tobytes()


def _stl(corners: np.ndarray, faces: np.ndarray) -> bytes:
    triangles = corners[faces]
    a, b, c = np.moveaxis(triangles.astype(np.float64), 1, 0)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.zeros(
        len(faces), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    )
    rows["normal"] = normals / np.maximum(length, 1e-300)
    rows["corners"] = triangles
    header = b"binary STL, micrometres".ljust(80)
    return header + np.uint32(len(faces)).astype("<u4").tobytes() + rows.tobytes()


def write_swc(path: str | Path, skeleton: Skeleton) -> Path:
    """Write a skeleton as SWC: id, type 0, x, y, z, radius in micrometres, parent.

    Raises
    ------
    DataError
        If the skeleton has a ring, which SWC cannot hold.
    """
    order, parent = skeleton.parents()
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    lines = ["# id type x_um y_um z_um radius_um parent"]
    for node in order:
        z, y, x = skeleton.nodes[node]
        before = number[parent[node]] if parent[node] >= 0 else -1
        radius = skeleton.radius_um[node]
        lines.append(f"{number[node]} 0 {x:.6g} {y:.6g} {z:.6g} {radius:.6g} {before}")
    return write_text(Path(path), "\n".join(lines) + "\n")


def read_swc(path: str | Path) -> Skeleton:
    """Read a skeleton from SWC; ids may come in any order.

    Raises
    ------
    DataError
        Names the line that is at fault.
    """
    numbers: list[int] = []
    rows: list[list[float]] = []
    before: list[tuple[int, int]] = []
    text = Path(path).read_text(encoding="utf-8")
    for line, content in enumerate(text.splitlines(), start=1):
        words = content.split("#")[0].split()
        if not words:
            continue
        try:
            number, _, *values, parent = words
            rows.append([float(value) for value in values])
            if len(values) != 4 or not np.isfinite(rows[-1]).all():
                raise ValueError
            numbers.append(int(number))
            if int(parent) >= 0:
                before.append((len(numbers) - 1, int(parent)))
        except ValueError:
            raise DataError(
                "a line of SWC is id type x y z radius parent", f"{path}, line {line}", content
            ) from None
    index = {number: i for i, number in enumerate(numbers)}
    if len(index) != len(numbers):
        raise DataError("an SWC id stands twice", path)
    lost = [parent for _, parent in before if parent not in index]
    if lost:
        raise DataError("an SWC parent is not in the file", path, lost[0])
    table = np.array(rows, np.float64).reshape(-1, 4)
    edges = [(i, index[parent]) for i, parent in before]
    return Skeleton(table[:, 2::-1], np.array(edges, np.int64).reshape(-1, 2), table[:, 3])
