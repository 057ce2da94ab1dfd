"""Skeletons of tubes and of a Y, whose lengths and branches are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_shapes import tube
from scipy import ndimage

from brodmann.core import DataError, Volume
from brodmann.postprocess.shapes import (
    Skeleton,
    read_swc,
    skeleton_mask,
    skeleton_segments,
    write_swc,
)

SPACINGS = [(1.0, 1.0, 1.0), (0.04, 0.008, 0.008), (5.0, 1.0, 1.0)]


def scene(spacing, *lines, radius=5.0, size=(40, 40, 120)):
    """Tubes given in voxels of x, on whatever grid."""
    unit = spacing[2]
    shape = tuple(int(np.ceil(n * unit / s)) + 1 for n, s in zip(size, spacing))
    parts = [
        tube(shape, spacing, np.array(a) * unit, np.array(b) * unit, radius * unit)
        for a, b in lines
    ]
    return np.logical_or.reduce(parts), unit


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("line", [((20, 20, 10), (20, 20, 110)), ((10, 5, 10), (30, 35, 110))])
def test_a_tube_is_one_line_of_its_length(spacing, line):
    mask, unit = scene(spacing, line)
    found = skeleton_mask(mask, spacing)
    true = np.linalg.norm(np.subtract(*line)) + 10  # from tip to tip of its round ends
    assert found.length_um / unit == pytest.approx(true, rel=0.03)
    assert len(found.end_points) == 2 and not len(found.branch_points) and found.pieces == 1
    inner = found.radius_um[15:-15] / unit
    assert 3.5 < inner.mean() < 6
    # Away from the ends it keeps to the axis, within half a voxel of the coarsest axis.
    a, b = (np.array(end) * unit for end in line)
    nodes = found.nodes[15:-15]
    along = (nodes - a) @ (b - a) / ((b - a) @ (b - a))
    away = np.linalg.norm(nodes - a - along[:, None] * (b - a), axis=1)
    assert away.mean() < 0.5 * max(spacing) + unit


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_y_has_one_branch_point_and_three_ends(spacing):
    fork = (20, 30, 50)
    lines = [((20, 30, 8), fork), (fork, (20, 8, 110)), (fork, (20, 52, 110))]
    mask, unit = scene(spacing, *lines, radius=4.0, size=(40, 60, 120))
    found = skeleton_mask(mask, spacing)
    assert len(found.branch_points) == 1 and len(found.end_points) == 3
    true = sum(np.linalg.norm(np.subtract(*line)) for line in lines) + 3 * 4
    assert found.length_um / unit == pytest.approx(true, rel=0.05)
    node = found.nodes[found.branch_points[0]] / unit
    assert np.linalg.norm(node - fork) < 12


def test_segments_keep_their_place_and_what_is_around_does_not_matter():
    labels = np.zeros((20, 30, 60), np.uint16)
    labels[4:7, 2:11, 10:50] = 3
    labels[7:10, 2:11, 10:50] = 5  # touches it
    volume = Volume(labels, "zyx", (0.03, 0.01, 0.01))
    (first, a), (second, b) = skeleton_segments(volume, [5, 3])
    assert (first, second) == (5, 3)
    for line, z in ((a, 8), (b, 5)):
        middle = line.nodes[len(line) // 4 : -len(line) // 4]
        assert (np.abs(middle - [z * 0.03, 0.06, 0.3])[:, :2] <= [0.031, 0.031]).all()
        assert 0.38 < line.length_um < 0.5 and not len(line.branch_points)
    alone = skeleton_mask(labels == 5, volume.spacing)
    np.testing.assert_allclose(np.sort(alone.nodes, 0), np.sort(a.nodes, 0), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, st.tuples(*(st.integers(1, 8),) * 3)).filter(lambda mask: mask.any()))
def test_any_mask_gives_trees_within_it(tmp_path_factory, mask):
    spacing = (0.5, 0.25, 0.25)
    found = skeleton_mask(mask, spacing, smooth=0)
    at = np.rint(found.nodes / spacing).astype(int)
    assert mask[tuple(at.T)].all() and (found.radius_um > 0).all()
    assert found.pieces == ndimage.label(mask, np.ones((3, 3, 3)))[1]
    path = tmp_path_factory.mktemp("swc") / "a.swc"
    again = read_swc(write_swc(path, found))
    assert again.length_um == pytest.approx(found.length_um, rel=1e-5)
    assert sorted(again.degree.tolist()) == sorted(found.degree.tolist())
    key = np.round(np.c_[found.nodes, found.radius_um], 4)
    other = np.round(np.c_[again.nodes, again.radius_um], 4)
    np.testing.assert_allclose(key[np.lexsort(key.T)], other[np.lexsort(other.T)], atol=1e-4)


def test_swc_is_x_y_z_with_parents_first(tmp_path):
    line = Skeleton([[1, 2, 3], [1, 2, 4], [1, 5, 4]], [[0, 1], [1, 2]], [0.5, 0.25, 0.125])
    rows = [row.split() for row in write_swc(tmp_path / "a.swc", line).read_text().splitlines()[1:]]
    assert rows == [
        ["1", "0", "3", "2", "1", "0.5", "-1"],
        ["2", "0", "4", "2", "1", "0.25", "1"],
        ["3", "0", "4", "5", "1", "0.125", "2"],
    ]
    with pytest.raises(DataError, match="ring"):
        write_swc(tmp_path / "b.swc", Skeleton(line.nodes, [[0, 1], [1, 2], [2, 0]], [1, 1, 1]))


@pytest.mark.parametrize(
    "text, word",
    [("1 0 1 1 1", "line 1"), ("1 0 1 1 1 x -1", "line 1"), ("1 0 1 1 1 1 7", "parent"),
     ("1 0 1 1 1 1 -1\n1 0 1 1 1 1 -1", "twice"), ("1 0 nan 1 1 1 -1", "line 1")],
)  # fmt: skip
def test_bad_swc_says_where(tmp_path, text, word):
    (tmp_path / "a.swc").write_text(text)
    with pytest.raises(DataError, match=word):
        read_swc(tmp_path / "a.swc")
