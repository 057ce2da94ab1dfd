"""Outlines: rasterising the polygons gives back exactly the label image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from brodmann.core import DataError
from brodmann.report import trace_regions

FIXED = settings(deadline=None, max_examples=60)
SMALL = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14)


def rasterised(parts, shape):
    """Label image from polygons by matplotlib's point-in-path at pixel centres, even-odd."""
    from matplotlib.path import Path

    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    out = np.zeros(shape, np.int64)
    for part in parts:
        inside = np.zeros(len(centres), bool)
        for ring in part.rings:
            inside ^= Path(np.vstack([ring, ring[:1]])).contains_points(centres)
        inside = inside.reshape(shape)
        assert not out[inside].any(), "polygons overlap"
        out[inside] = part.id
    return out


@FIXED
@given(arrays(np.uint8, SMALL, elements=st.integers(0, 3)))
def test_rasterising_gives_back_the_labels(labels):
    assert np.array_equal(rasterised(trace_regions(labels), labels.shape), labels)


@FIXED
@given(arrays(np.uint8, SMALL, elements=st.sampled_from([0, 1, 1, 1, 2])))
def test_one_valid_polygon_for_each_4_connected_piece(labels):
    parts = trace_regions(labels)
    assert len(parts) == sum(ndimage.label(labels == id_)[1] for id_ in (1, 2))
    for part in parts:
        mask = rasterised([part], labels.shape) == part.id
        assert ndimage.label(mask)[1] == 1
        outside = np.pad(~mask, 1, constant_values=True)
        assert len(part.rings) == ndimage.label(outside)[1], "one ring for each side of the piece"
        for ring in part.rings:
            assert len(np.unique(ring, axis=0)) == len(ring), "a ring meets itself"
            turn = np.roll(ring, -1, 0) - ring
            assert ((turn == 0).sum(1) == 1).all(), "edges run along pixels"
            across = turn[:, 0] != 0
            assert (across != np.roll(across, 1)).all(), "corners only"


def test_deep_nesting_with_holes_beside_and_inside_each_other():
    labels = np.ones((60, 60), np.int32)
    labels[2:50, 3:9] = 0  # a tall hole to the left of a short one
    labels[5:9, 20:30] = 0
    labels[20:50, 20:50] = 0
    labels[24:46, 24:46] = 1
    labels[30:40, 30:40] = 5
    parts = trace_regions(labels)
    assert [(part.id, len(part.rings)) for part in parts] == [(1, 4), (1, 2), (5, 1)]
    assert np.array_equal(rasterised(parts, labels.shape), labels)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.uint32, np.int64])
def test_every_whole_number_type(dtype):
    labels = np.array([[0, 1], [1, 0]], dtype)
    assert [part.rings[0].tolist() for part in trace_regions(labels)] == [
        [[1, 0], [2, 0], [2, 1], [1, 1]],
        [[0, 1], [1, 1], [1, 2], [0, 2]],
    ]


def test_large_ids_survive():
    assert trace_regions(np.array([[614454277]], np.uint32))[0].id == 614454277


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros((1, 2, 2), int)])
def test_what_is_no_label_image_is_refused(labels):
    with pytest.raises(DataError, match="2D label image"):
        trace_regions(labels)


def test_empty_and_full():
    assert trace_regions(np.zeros((3, 4), int)) == []
    assert trace_regions(np.zeros((0, 4), int)) == []
    full = trace_regions(np.full((3, 4), 2))
    assert full[0].rings[0].tolist() == [[0, 0], [4, 0], [4, 3], [0, 3]]
