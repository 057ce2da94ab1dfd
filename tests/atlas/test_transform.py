"""Ways into an atlas: turns and affines give exact places."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_atlas import points_of

from brodmann.atlas import (
    Affine,
    Annotation,
    Grid,
    SameSpace,
    count_cells,
    read_transform,
)
from brodmann.atlas.grid import PAIRS, reorient
from brodmann.core import DataError, Label, LabelMap, RecipeError, Volume

ALL = [
    "".join(letters)
    for order in itertools.permutations(("ap", "si", "lr"))
    for letters in itertools.product(*order)
]


@pytest.mark.parametrize("orientation", ALL)
def test_turned_volumes_hold_the_same(orientation):
    """numpy turns the volume, reorient the points: both meet at every voxel."""
    atlas = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    pairs = [PAIRS[letter] for letter in "asr"]
    order = [pairs.index(PAIRS[letter]) for letter in orientation]
    turned = atlas.transpose(order)
    flips = [i for i, letter in enumerate(orientation) if letter not in "asr"]
    turned = np.flip(turned, flips)
    image = Grid((7, 7, 7), orientation, turned.shape)
    places = np.array(list(np.ndindex(*turned.shape)), float)
    found = reorient(places, image, Grid((7, 7, 7), "asr", atlas.shape))
    index = tuple(found.astype(int).T)
    np.testing.assert_array_equal(found, found.astype(int))
    np.testing.assert_array_equal(atlas[index], turned[tuple(places.astype(int).T)])


@settings(max_examples=30, deadline=None)
@given(
    first=st.sampled_from(ALL),
    second=st.sampled_from(ALL),
    points=st.lists(st.tuples(*[st.floats(-1, 30)] * 3), min_size=1, max_size=5),
)
def test_there_and_back(first, second, points):
    here = Grid((4, 2, 3), first, (12, 30, 20))
    sizes = {PAIRS[letter]: um for letter, um in zip(first, here.extent_um)}
    there = Grid((1, 1, 1), second, tuple(int(sizes[PAIRS[letter]]) for letter in second))
    back = reorient(reorient(np.array(points), here, there), there, here)
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_spacings_meet_at_the_corner():
    found = SameSpace().apply(np.array([[-0.5, 0.0, 9.5]]), Grid((4, 5, 10)), Grid((8, 25, 5)))
    np.testing.assert_allclose(found, [[-0.5, 0.5 / 5 - 0.5, 19.5]])


def test_turning_an_axis_needs_the_shape():
    with pytest.raises(DataError, match="needs the shape"):
        reorient(np.zeros((1, 3)), Grid((1, 1, 1), "psr"), Grid((1, 1, 1), "asr", (4, 4, 4)))


@pytest.mark.parametrize("text", ["aasr", "as", "axr", "apr"])
def test_what_is_no_orientation(text):
    with pytest.raises(DataError, match="orientation"):
        Grid((1, 1, 1), text)


def brain():
    ids = np.zeros((8, 8, 8), np.uint32)
    ids[2:4, 2:4, 2:4] = 1
    ids[4:6, 2:4, 2:4] = 2
    tree = LabelMap([Label(1, "a", "a"), Label(2, "b", "b")])
    return Annotation(Volume(ids, "zyx", (50, 50, 50)), tree, "asr")


@pytest.mark.parametrize("kind", ["json", "rows", "csv", "txt"])
def test_a_known_affine_lands_where_it_should(tmp_path, kind):
    # Turn a quarter in the plane, double in depth, then shift by whole voxels.
    matrix = np.array([[2, 0, 0, 100], [0, 0, 1, -50], [0, -1, 0, 250], [0, 0, 0, 1]], float)
    file = tmp_path / f"affine.{'json' if kind in ('json', 'rows') else kind}"
    if kind == "json":
        file.write_text(json.dumps({"matrix": matrix.tolist()}))
    elif kind == "rows":
        file.write_text(json.dumps(matrix.tolist()))
    else:
        np.savetxt(file, matrix, delimiter="," if kind == "csv" else "  ")
    points = np.array([[0, 2, 3], [1, 2, 3], [0, 20, 30]], float)
    counts = count_cells(
        points_of(points), (50, 50, 50), brain(), read_transform(file), allow_outside=True
    )
    np.testing.assert_allclose(
        counts.cells[["atlas_z", "atlas_y", "atlas_x"]].to_numpy(),
        [[2, 2, 3], [4, 2, 3], [2, 29, -15]],
    )
    assert counts.cells["region"].tolist() == ["a", "b", ""]
    back = read_transform(file, inverse=True)
    grid = Grid((50, 50, 50))
    there = read_transform(file).apply(points, grid, grid)
    np.testing.assert_allclose(back.apply(there, grid, grid), points, atol=1e-9)


def test_an_affine_in_millimetres(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("1,0,0,0.1\n0,1,0,0\n0,0,1,0\n0,0,0,1\n")
    found = read_transform(file, unit="mm").apply(
        np.zeros((1, 3)), Grid((5, 5, 5)), Grid((25, 25, 25))
    )
    np.testing.assert_allclose(found, [[4, 0, 0]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,0\n0,1\n", "no transform"),
        ("hello", "no transform"),
        ("1,0,0,0\n0,1,0,0\n0,0,0,0\n0,0,0,1\n", "inverted"),
        ("1,0,0,0\n0,1,0,0\n0,0,1,0\n0,0,1,1\n", "last row"),
        ("1,0,0,nan\n0,1,0,0\n0,0,1,0\n0,0,0,1\n", "finite"),
        ("1,0,0,0\n0,1,0,0\n0,0,1,0\n", "4 x 4"),
    ],
)
def test_what_is_no_affine(tmp_path, text, words):
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        read_transform(file)


def test_missing_files_and_units(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_transform(tmp_path / "none.txt")
    with pytest.raises(RecipeError, match="um or mm"):
        read_transform(tmp_path / "none.txt", unit="cm")
    with pytest.raises(DataError, match="no output folder of brainreg"):
        read_transform(tmp_path)


def test_affine_takes_a_matrix_only():
    with pytest.raises(DataError, match="4 x 4"):
        Affine("hello")
