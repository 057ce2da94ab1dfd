"""Boxes against scipy, surfaces against closed forms, files against readers written apart."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_shapes import ball
from scipy import ndimage

from brodmann.core import DataError, OutputError, Volume
from brodmann.io import open_output
from brodmann.postprocess.shapes import (
    boxes as boxes_module,
)
from brodmann.postprocess.shapes import mesh_mask, mesh_segment, segment_boxes, write_mesh

masks = hnp.arrays(bool, st.tuples(*(st.integers(1, 6),) * 3)).filter(lambda mask: mask.any())


class Spy:
    """An array that remembers which windows were read."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.read = data, data.shape, data.dtype, []

    def __getitem__(self, key):
        self.read.append(key)
        return self.data[key]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(*(st.integers(1, 9),) * 3), elements=st.integers(0, 12)))
def test_boxes_are_scipys(labels):
    found = segment_boxes(Volume(labels, "zyx", (1, 1, 1)))
    assert found.ids.tolist() == [i for i in np.unique(labels).tolist() if i]
    objects = ndimage.find_objects(labels)
    for id_, voxels in zip(found.ids.tolist(), found.voxels.tolist()):
        assert found.window(id_) == objects[id_ - 1]
        assert voxels == (labels == id_).sum()


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int64, np.uint64])
def test_boxes_of_many_ids_slab_by_slab(dtype, monkeypatch):
    monkeypatch.setattr(boxes_module, "SLAB_VOXELS", 200)
    monkeypatch.setattr(boxes_module, "ALIGN", 1)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2 if dtype is bool else 5000, (40, 11, 13))
    high = 0 if dtype in (bool, np.int32) else 1 << 62
    labels = np.where(labels, labels + high, 0).astype(dtype)
    spy = Spy(labels)
    found = segment_boxes(Volume(spy, "zyx", (1, 1, 1)))
    ids, counts = np.unique(labels[labels != 0], return_counts=True)
    assert len(spy.read) > 10
    assert np.array_equal(found.ids, ids.astype(np.uint64))
    assert np.array_equal(found.voxels, counts)
    for id_ in found.ids[::97].tolist():
        at = np.argwhere(labels == id_)
        window = found.window(id_)
        assert [w.start for w in window] == at.min(0).tolist()
        assert [w.stop for w in window] == (at.max(0) + 1).tolist()


def test_what_is_no_label_volume_is_refused():
    grid = np.zeros((3, 4, 5))
    for data, axes in ((grid, "zyx"), (grid.astype(np.int16)[0], "yx")):
        with pytest.raises(DataError):
            segment_boxes(Volume(data, axes, (1,) * len(axes)))
    with pytest.raises(DataError, match="0 or more"):
        segment_boxes(Volume(grid.astype(np.int16) - 1, "zyx", (1, 1, 1)))
    with pytest.raises(DataError, match=r"no such segment.*found id 9"):
        mesh_segment(Volume(grid.astype(np.uint8) + 2, "zyx", (1, 1, 1)), 9)


@settings(max_examples=150, deadline=None)
@given(masks, st.floats(0.2, 1))
def test_any_mask_has_a_closed_surface(mask, keep):
    mesh = mesh_mask(mask, (3, 1, 1))
    assert mesh.is_closed
    assert mesh.simplified(keep).is_closed
    # Half of every boundary voxel lies inside: never empty, never more than the voxels.
    assert 0 < mesh.volume_um3 <= mask.sum() * 3 + 1e-6


@pytest.mark.parametrize("spacing", [(0.1, 0.1, 0.1), (0.4, 0.1, 0.1), (0.1, 0.1, 0.3)])
def test_a_ball_has_its_volume_area_and_outward_normals(spacing):
    radius = 2.0
    shape = tuple(int(2 * radius / s) + 3 for s in spacing)
    mask = ball(shape, spacing, radius)
    mesh = mesh_mask(mask, spacing, smooth=10)
    voxels = mask.sum() * np.prod(spacing)
    assert mesh.volume_um3 == pytest.approx(voxels, rel=0.01)
    assert mesh.volume_um3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    assert mesh.area_um2 == pytest.approx(4 * np.pi * radius**2, rel=0.06)
    middle = (np.array(shape) - 1) / 2 * spacing
    away = mesh.vertices - middle
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    assert (np.sum(mesh.normals() * away, axis=1) > 0.2).all()
    small = mesh.simplified(0.1)
    assert small.is_closed and len(small.faces) < 0.2 * len(mesh.faces)
    assert small.volume_um3 == pytest.approx(mesh.volume_um3, rel=0.02)


def test_a_shell_counts_without_its_cavity():
    mask = np.zeros((24, 24, 24), bool)
    mask[2:22, 2:22, 2:22] = True
    mask[8:16, 8:16, 8:16] = False
    mesh = mesh_mask(mask, (1, 1, 1))
    assert mesh.is_closed and mesh.volume_um3 == pytest.approx(mask.sum(), rel=0.02)


def test_only_the_box_is_read_and_the_place_is_kept(tmp_path):
    labels = np.zeros((30, 40, 50), np.uint32)
    labels[5:10, 0:8, 43:50] = 7
    labels[20:, 20:, :20] = 9
    spacing = (0.04, 0.01, 0.01)
    boxes = segment_boxes(Volume(labels, "zyx", spacing))
    spy = Spy(labels)
    mesh = mesh_segment(Volume(spy, "zyx", spacing), 7, boxes)
    assert [tuple(part.stop - part.start for part in key) for key in spy.read] == [(5, 8, 7)]
    low = np.array([4.5, -0.5, 42.5]) * spacing
    high = np.array([9.5, 7.5, 49.5]) * spacing
    np.testing.assert_allclose(mesh.vertices.min(0), low, rtol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(0), high, rtol=1e-6)
    array = open_output(tmp_path / "l.zarr", labels.shape, "uint32", "zyx", spacing)
    array[:] = labels
    again = mesh_segment(Volume(array, "zyx", spacing), 7)
    assert np.array_equal(again.vertices, mesh.vertices)


def read_ply(path):
    header, body = path.read_bytes().split(b"end_header\n", 1)
    words = header.decode().split()
    assert words[0] == "ply" and "binary_little_endian" in words
    count, faces = (int(words[words.index(name) + 1]) for name in ("vertex", "face"))
    assert len(body) == count * 12 + faces * 13
    points = [struct.unpack_from("<3f", body, 12 * i) for i in range(count)]
    rows = [struct.unpack_from("<B3i", body, 12 * count + 13 * i) for i in range(faces)]
    assert all(row[0] == 3 for row in rows)
    return np.array(points), np.array([row[1:] for row in rows])


def read_stl(path):
    data = path.read_bytes()
    (count,) = struct.unpack_from("<I", data, 80)
    assert len(data) == 84 + 50 * count
    rows = [struct.unpack_from("<12fH", data, 84 + 50 * i)[:12] for i in range(count)]
    return np.array(rows).reshape(count, 4, 3)


def volume_xyz(triangles):
    """Signed: positive when faces run counter-clockwise seen from outside."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    return np.sum(a * np.cross(b, c)) / 6


def test_files_hold_x_y_z_and_face_outwards(tmp_path):
    mask = np.zeros((4, 6, 9), bool)
    mask[1:3, 1:5, 1:8] = True
    mesh = mesh_mask(mask, (2.0, 1.0, 0.5))
    points, faces = read_ply(write_mesh(tmp_path / "a.ply", mesh))
    np.testing.assert_array_equal(points, mesh.vertices[:, ::-1])
    np.testing.assert_array_equal(faces, mesh.faces)
    assert volume_xyz(points[faces]) == pytest.approx(mesh.volume_um3, rel=1e-5)
    rows = read_stl(write_mesh(tmp_path / "a.STL", mesh))
    np.testing.assert_array_equal(rows[:, 1:], points[faces])
    normals = np.cross(rows[:, 2] - rows[:, 1], rows[:, 3] - rows[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(rows[:, 0], normals, atol=1e-6)
    with pytest.raises(OutputError, match=r"ply or \.stl"):
        write_mesh(tmp_path / "a.obj", mesh)
