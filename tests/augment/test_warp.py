"""The warp against scipy.ndimage, and what holds for every warp."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import BSpline

from brodmann.augment.warp import Elastic, moved_points, warp, window_shape
from brodmann.core import DataError


def turn(degrees, scale=1.0):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]]) * scale


TILT = np.array([[0.9, 0.2, -0.1], [-0.15, 1.1, 0.3], [0.05, -0.25, 0.95]])
CASES = [
    (turn(20), (30, 41), (24, 32)),
    (turn(-77, 1.3), (17, 40), (20, 21)),
    (np.diag([0.6, 0.6]), (19, 33), (19, 33)),
    (TILT, (9, 14, 17), (8, 12, 11)),
    (np.diag([1.0, 1.2, 0.7]), (5, 20, 20), (5, 16, 16)),
]


def coordinates(matrix, window, shape, elastic=None):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, len(shape))
    moved = grid + (0 if elastic is None else elastic.at(grid.astype(float), shape))
    centre = (np.array(shape) - 1) / 2
    return ((moved - centre) @ matrix.T + (np.array(window) - 1) / 2).T.reshape(-1, *shape)


@pytest.mark.parametrize("bend", [False, True])
@pytest.mark.parametrize(("matrix", "window", "shape"), CASES)
def test_equals_map_coordinates(matrix, window, shape, bend):
    rng = np.random.default_rng(3)
    image = rng.normal(size=(2, *window)).astype(np.float32)
    labels = rng.integers(0, 300, window).astype(np.int16)
    elastic = Elastic((5.0,) * len(shape), (1.7,) * len(shape), 8) if bend else None
    got, ids = warp(image, labels, matrix, shape, elastic, np.array([0.5, -2.0]), -1)
    places = coordinates(matrix, window, shape, elastic)
    for channel, outside, mine in zip(image, (0.5, -2.0), got):
        expected = ndimage.map_coordinates(
            channel, places, order=1, mode="grid-constant", cval=outside
        )
        np.testing.assert_allclose(mine, expected, atol=2e-5)
    nearest = ndimage.map_coordinates(labels, places, order=0, mode="grid-constant", cval=-1)
    # Halfway between two voxels either is the nearest.
    clear = np.all(np.abs(places - np.floor(places) - 0.5) > 1e-6, axis=0)
    assert clear.mean() > 0.7
    np.testing.assert_array_equal(ids[clear], nearest[clear])


def test_equals_affine_transform():
    image = np.random.default_rng(0).normal(size=(1, 40, 50)).astype(np.float32)
    matrix = turn(33, 0.8)
    offset = np.array([19.5, 24.5]) - matrix @ np.array([11.5, 14.5])
    got, _ = warp(image, None, matrix, (24, 30))
    expected = ndimage.affine_transform(
        image[0], matrix, offset, (24, 30), order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(got[0], expected, atol=2e-5)


def test_identity_and_quarter_turn_are_exact():
    image = np.random.default_rng(0).normal(size=(2, 6, 9)).astype(np.float32)
    labels = np.arange(54, dtype=np.uint16).reshape(6, 9)
    same, ids = warp(image, labels, np.eye(2), (6, 9), outside_label=0)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(ids, labels)
    turned, ids = warp(image, labels, np.array([[0.0, -1], [1, 0]]), (9, 6), outside_label=0)
    np.testing.assert_array_equal(turned, np.rot90(image, -1, (1, 2)))
    np.testing.assert_array_equal(ids, np.rot90(labels, -1))


def test_displacement_is_a_cubic_b_spline():
    elastic = Elastic((4.0, 7.0), (1.0, 1.5), 5)
    shape = (20, 30)
    knots = elastic.knots(shape)
    ty, tx = (
        np.arange(-3, n + 1, dtype=float) * step
        for n, step in zip(knots.shape[1:], elastic.knot_px)
    )
    at = np.array([[0.0, 0.0], [3.3, 28.1], [19.0, 29.0], [8.0, 14.0]])
    for axis in range(2):
        expected = [float(BSpline(ty, BSpline(tx, knots[axis].T, 3)(x), 3)(y)) for y, x in at]
        np.testing.assert_allclose(elastic.at(at, shape)[:, axis], expected, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-180, 180),
    st.floats(0.5, 2.0),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
def test_window_holds_all_that_is_read(angle, scale, shape, bend, seed):
    matrix = turn(angle, scale)
    elastic = Elastic((4.0, 6.0), (1.5, 2.0), seed) if bend else None
    window = window_shape(shape, matrix, elastic)
    assert all((w - n) % 2 == 0 for w, n in zip(window, shape))
    labels = np.random.default_rng(1).choice([2, 5, 40], window).astype(np.int16)
    image = np.ones((1, *window), np.float32)
    got, ids = warp(image, labels, matrix, shape, elastic, outside_value=-50.0, outside_label=-1)
    # A tap outside would show as a dent in the constant image and as -1 in the labels.
    np.testing.assert_allclose(got, 1.0, atol=1e-4)
    assert set(np.unique(ids)) <= set(np.unique(labels))
    larger = np.pad(labels, 2, constant_values=99)
    _, again = warp(np.ones((1, *larger.shape), np.float32), larger, matrix, shape, elastic)
    np.testing.assert_array_equal(ids, again)


@settings(deadline=None, max_examples=25)
@given(st.floats(-180, 180), st.floats(0.3, 3.0), st.sampled_from(["i2", "u1", "u2", "i4", "u4"]))
def test_labels_never_interpolate(angle, scale, dtype):
    labels = np.random.default_rng(2).choice([0, 3, 200], (21, 16)).astype(dtype)
    image = np.zeros((1, 21, 16), np.float32)
    _, ids = warp(image, labels, turn(angle, scale), (15, 22), outside_label=7)
    assert ids.dtype == labels.dtype
    assert set(np.unique(ids)) <= {0, 3, 7, 200}


@pytest.mark.parametrize("elastic", [None, Elastic((6.0, 6.0), (2.0, 2.0), 4)])
def test_points_go_where_the_image_goes(elastic):
    matrix, shape = turn(25, 0.8), (60, 70)
    spots = np.array([[25.0, 30.0], [33.0, 41.0], [30.0, 22.0]])
    image = np.zeros((len(spots), *shape), np.float32)
    for channel, (y, x) in zip(image, spots.astype(int)):
        channel[y, x] = 1
        channel[:] = ndimage.gaussian_filter(channel, 1.5)
    got, _ = warp(image, None, matrix, shape, elastic)
    for channel, place in zip(got, moved_points(spots, matrix, shape, shape, elastic)):
        np.testing.assert_allclose(ndimage.center_of_mass(channel), place, atol=0.35)


def test_points_invert_exactly():
    elastic, matrix = Elastic((5.0, 5.0), (1.9, 1.9), 4), turn(10, 1.2)
    out = np.random.default_rng(0).uniform(0, 30, (50, 2))
    centre = np.array([15.0, 15.0])
    source = (out + elastic.at(out, (31, 31)) - centre) @ matrix.T + centre
    back = moved_points(source, matrix, (31, 31), (31, 31), elastic)
    np.testing.assert_allclose(back, out, atol=1e-4)


def test_clear_words():
    image = np.zeros((1, 8, 8), np.float32)
    with pytest.raises(DataError, match="differ in shape"):
        warp(image, np.zeros((8, 7), np.int16), np.eye(2), (8, 8))
    with pytest.raises(DataError, match="does not fit into uint8"):
        warp(image, np.zeros((8, 8), np.uint8), np.eye(2), (8, 8), outside_label=-1)
    with pytest.raises(DataError, match="square matrix"):
        warp(image, None, np.eye(3), (8, 8))
    with pytest.raises(DataError, match="whole numbers"):
        warp(image, np.zeros((8, 8)), np.eye(2), (8, 8))
