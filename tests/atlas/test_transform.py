"""Ways into an atlas: known shifts, turns and fields give exact places."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_atlas import points_of, write_brainreg
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from brodmann.atlas import (
    Affine,
    Annotation,
    Grid,
    SameSpace,
    count_cells,
    read_annotation,
    read_transform,
)
from brodmann.atlas.brainreg import linear
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


# --- brainreg ---------------------------------------------------------------------------

SHAPE = (8, 6, 10)  # downsampled image, asr, 25 um: 200 x 150 x 250 um


def identity_fields(shape=SHAPE, shift_mm=(0.0, 0.0, 0.0)):
    """Where each voxel lies in the atlas, in mm from the first voxel's centre."""
    grid = np.meshgrid(*(np.arange(n) * 0.025 for n in shape), indexing="ij")
    return [axis + shift for axis, shift in zip(grid, shift_mm)]


def test_fields_of_brainreg(tmp_path):
    """A psl image of 5 x 2 x 2 um whose fields shift by 50, 0 and -25 um."""
    folder = write_brainreg(tmp_path / "reg", SHAPE, identity_fields(shift_mm=(0.05, 0, -0.025)))
    transform = read_transform(folder)
    assert transform.image_grid.orientation == "psl"
    image = Grid((5, 2, 2), "psl", (40, 75, 125))
    atlas = Grid((25, 25, 25), "asr", SHAPE)
    # z of the image runs from posterior: its voxel 37.5 lies 10 um from the anterior face.
    points = np.array([[37.0, 12.0, 112.0]])
    edge = np.array([(40 - 37.5) * 5 + 50, 12.5 * 2, (125 - 112.5) * 2 - 25])
    np.testing.assert_allclose(transform.apply(points, image, atlas), [edge / 25 - 0.5], atol=1e-5)
    # The annotation may be finer than the atlas that was registered.
    fine = Grid((10, 10, 10), "asr", (20, 15, 25))
    np.testing.assert_allclose(transform.apply(points, image, fine), [edge / 10 - 0.5], atol=1e-5)
    # Without the shape of the image the extent of the fields stands in.
    blind = transform.apply(points, Grid((5, 2, 2), "psl"), atlas)
    np.testing.assert_allclose(blind, [edge / 25 - 0.5], atol=1e-5)


def test_a_bent_field_is_linear_between_voxels(tmp_path):
    rng = np.random.default_rng(0)
    fields = [rng.random(SHAPE) for _ in range(3)]
    folder = write_brainreg(tmp_path / "reg", SHAPE, fields, orientation="asr")
    atlas = Grid((25, 25, 25), "asr", SHAPE)
    points = rng.random((200, 3)) * (np.array(SHAPE) - 1)
    found = read_transform(folder).apply(points, atlas, atlas)
    for axis in range(3):
        wanted = map_coordinates(fields[axis].astype(np.float32), points.T, order=1) * 1000 / 25
        np.testing.assert_allclose(found[:, axis], wanted, atol=1e-4)


def test_points_outside_the_fields_are_outside(tmp_path):
    folder = write_brainreg(tmp_path / "reg", SHAPE, identity_fields(), orientation="asr")
    atlas = Grid((25, 25, 25), "asr", SHAPE)
    points = np.array([[-0.6, 0, 0], [7.49, 5.49, 9.49], [0, 0, 9.5]])
    found = read_transform(folder).apply(points, atlas, atlas)
    assert np.isnan(found).all(axis=1).tolist() == [True, False, True]


def test_counts_through_fields_and_in_the_image_agree(tmp_path):
    """The atlas shifted by whole voxels: laid over the image, or the other way round."""
    rng = np.random.default_rng(1)
    tree = LabelMap([Label(i, f"s{i}", f"s{i}") for i in range(1, 5)])
    atlas_ids = rng.integers(1, 5, (12, 6, 10)).astype(np.uint32)
    laid = atlas_ids[2:10]
    sides = np.where(np.arange(10) < 5, 2, 1).astype(np.uint8) * np.ones(SHAPE, np.uint8)
    folder = write_brainreg(
        tmp_path / "reg", SHAPE, identity_fields(shift_mm=(0.05, 0, 0)), laid, sides
    )
    points = points_of(rng.random((300, 3)) * (40, 75, 125) - 0.5)
    annotation = Annotation(Volume(atlas_ids, "zyx", (25, 25, 25)), tree, "asr")
    through = count_cells(
        points, (5, 2, 2), annotation, read_transform(folder), shape=(40, 75, 125)
    )
    inside = count_cells(points, (5, 2, 2), read_annotation(folder, tree), shape=(40, 75, 125))
    assert through.cells["region"].tolist() == inside.cells["region"].tolist()
    assert through.cells["hemisphere"].tolist() == inside.cells["hemisphere"].tolist()
    # Volumes are the brain's own only where the atlas was laid over it.
    assert inside.table["volume_direct_mm3"].sum() == pytest.approx(8 * 6 * 10 * 25**3 / 1e9)
    assert through.table["volume_direct_mm3"].sum() == pytest.approx(12 * 6 * 10 * 25**3 / 1e9)
    assert inside.summary["region"] == 300


def test_the_half_that_brainreg_registered(tmp_path):
    tree = LabelMap([Label(1, "a", "a")])
    folder = write_brainreg(
        tmp_path / "reg", SHAPE, atlas=np.ones(SHAPE, np.uint32), orientation="asr",
        voxel_sizes=("25", "25", "25"), geometry="hemisphere_r",
    )  # fmt: skip
    counts = count_cells(
        points_of([[1, 1, 1], [1, 1, 8]]), (25, 25, 25), read_annotation(folder, tree)
    )
    assert counts.half == "right" and counts.summary["region"] == 1
    assert counts.region("a")["volume_mm3"] == pytest.approx(8 * 6 * 5 * 25**3 / 1e9)


def test_the_half_that_fields_lead_to(tmp_path):
    tree = LabelMap([Label(1, "a", "a")])
    folder = write_brainreg(
        tmp_path / "reg", SHAPE, identity_fields(), orientation="asr",
        voxel_sizes=("25", "25", "25"), geometry="hemisphere_l",
    )  # fmt: skip
    atlas = Annotation(Volume(np.ones(SHAPE, np.uint32), "zyx", (25, 25, 25)), tree, "asr")
    cells = points_of([[1, 1, 1], [1, 1, 8]])
    counts = count_cells(cells, (25, 25, 25), atlas, read_transform(folder))
    assert counts.half == "left" and counts.cells["place"].tolist() == ["other half", "region"]
    assert (
        count_cells(cells, (25, 25, 25), atlas, read_transform(folder), half="both").half == "both"
    )


def test_an_image_of_another_size_is_refused(tmp_path):
    folder = write_brainreg(tmp_path / "reg", SHAPE, identity_fields())
    with pytest.raises(DataError, match="not of the size that was registered"):
        read_transform(folder).apply(
            np.zeros((1, 3)),
            Grid((5, 4, 4), "psl", (40, 75, 125)),
            Grid((25, 25, 25), "asr", SHAPE),
        )


def test_broken_brainreg_folders(tmp_path):
    tree = LabelMap([Label(1, "a", "a")])
    folder = write_brainreg(tmp_path / "bare", SHAPE)
    with pytest.raises(DataError, match=r"no deformation field.*as the annotation"):
        read_transform(folder)
    with pytest.raises(DataError, match="no registered atlas"):
        read_annotation(folder, tree)
    odd = write_brainreg(tmp_path / "odd", SHAPE, atlas=np.ones(SHAPE, np.uint32), name="mine")
    with pytest.raises(DataError, match="resolution"):
        read_annotation(odd, tree)
    assert read_annotation(odd, tree, spacing=(25, 25, 25)).shape == SHAPE
    with pytest.raises(RecipeError, match="not inverted"):
        read_transform(write_brainreg(tmp_path / "x", SHAPE, identity_fields()), inverse=True)
    other = read_transform(write_brainreg(tmp_path / "y", SHAPE, identity_fields()))
    with pytest.raises(DataError, match="orientation asr"):
        other.apply(np.zeros((1, 3)), Grid((5, 2, 2), "psl"), Grid((25, 25, 25), "psl", SHAPE))


def test_linear_takes_single_planes():
    block = np.arange(6.0).reshape(1, 2, 3)
    assert linear(block, np.array([[0, 0.5, 1.0]])).tolist() == [2.5]


# --- elastix -----------------------------------------------------------------------------

HEAD = """
(FixedImageDimension 3)
(MovingImageDimension 3)
(Size 20 30 40)
(Index 0 0 0)
(Spacing 10 20 25)
(Origin {origin})
(Direction 1 0 0 0 1 0 0 0 1)
(HowToCombineTransforms "{how}")
(InitialTransformParametersFileName "{first}")
"""
FIXED = Grid((25, 20, 10), "asr", (40, 30, 20))
UNIT = Grid((1, 1, 1))


def elastix_file(
    path, kind, parameters, more="", first="NoInitialTransform", how="Compose", origin="0 0 0"
):
    numbers = " ".join(f"{float(p):.12g}" for p in parameters)
    path.write_text(
        f'(Transform "{kind}")\n(NumberOfParameters {len(parameters)})\n'
        f"(TransformParameters {numbers})\n{more}"
        + HEAD.format(first=first, how=how, origin=origin)
    )
    return path


def on(path, points, **options):
    """Image voxels -> micrometres of the moving image as (x, y, z), for an origin of 0."""
    return read_transform(path, **options).apply(np.array(points, float), FIXED, UNIT)[:, ::-1]


POINTS = np.array([[0, 0, 0], [3, 5, 7], [10.5, 2.25, 19]], float)
XYZ = POINTS[:, ::-1] * (10, 20, 25)


def test_translation(tmp_path):
    file = elastix_file(tmp_path / "t.txt", "TranslationTransform", [5, -3, 2])
    np.testing.assert_allclose(on(file, POINTS), XYZ + np.array([5, -3, 2]))


@pytest.mark.parametrize("zyx", ["true", "false"])
def test_euler_is_as_scipy_composes_it(tmp_path, zyx):
    angles, shift, centre = np.array([0.1, -0.2, 0.3]), (4, 5, 6), np.array([50, 60, 70])
    more = f'(CenterOfRotationPoint 50 60 70)\n(ComputeZYX "{zyx}")\n'
    file = elastix_file(tmp_path / "e.txt", "EulerTransform", [*angles, *shift], more)
    # Intrinsic z, then y (or x), then the last, is Rz Ry Rx (or Rz Rx Ry).
    x, y, z = angles
    turn = (
        Rotation.from_euler("ZYX", (z, y, x))
        if zyx == "true"
        else Rotation.from_euler("ZXY", (z, x, y))
    )
    np.testing.assert_allclose(on(file, POINTS), turn.apply(XYZ - centre) + centre + shift)


def test_similarity_is_a_rotation_and_a_scale(tmp_path):
    turn = Rotation.from_rotvec([0.2, -0.1, 0.4])
    file = elastix_file(
        tmp_path / "s.txt", "SimilarityTransform", [*turn.as_quat()[:3], 1, 2, 3, 1.5],
        "(CenterOfRotationPoint 1 2 3)\n",
    )  # fmt: skip
    wanted = 1.5 * turn.apply(XYZ - (1, 2, 3)) + (1, 2, 3) + np.array([1, 2, 3])
    np.testing.assert_allclose(on(file, POINTS), wanted)


MATRIX = np.array([[1.1, 0.1, 0], [-0.05, 0.9, 0.02], [0, 0.03, 1.2]])


def affine_file(path, **more):
    return elastix_file(
        path, "AffineTransform", [*MATRIX.reshape(-1), 7, 8, 9],
        "(CenterOfRotationPoint 100 200 300)\n", **more,
    )  # fmt: skip


def affine_of(xyz):
    centre = np.array([100, 200, 300])
    return (xyz - centre) @ MATRIX.T + centre + (7, 8, 9)


def test_affine_and_its_inverse(tmp_path):
    file = affine_file(tmp_path / "a.txt")
    np.testing.assert_allclose(on(file, POINTS), affine_of(XYZ))
    moving = Grid((2, 3, 4))
    there = read_transform(file).apply(POINTS, FIXED, moving)
    back = read_transform(file, inverse=True).apply(there, moving, FIXED)
    np.testing.assert_allclose(back, POINTS, atol=2e-3)


GRID = (7, 6, 5)  # x, y, z


def spline_file(path, coefficients, order=3, **more):
    text = (
        f"(GridSize {GRID[0]} {GRID[1]} {GRID[2]})\n(GridIndex 0 0 0)\n(GridSpacing 100 150 400)\n"
        "(GridOrigin -120 -160 -410)\n(GridDirection 1 0 0 0 1 0 0 0 1)\n"
        f"(BSplineTransformSplineOrder {order})\n"
    )
    return elastix_file(path, "BSplineTransform", coefficients.reshape(-1), text, **more)


def cubic(t):
    t = abs(t)
    if t < 1:
        return (4 - 6 * t**2 + 3 * t**3) / 6
    return (2 - t) ** 3 / 6 if t < 2 else 0.0


def spline_of(xyz, coefficients):
    """The sum over all control points, written out."""
    out = []
    for point in xyz:
        index = (point - (-120, -160, -410)) / (100, 150, 400)
        shift = np.zeros(3)
        if all(1 <= i < n - 2 for i, n in zip(index, GRID)):
            for z, y, x in np.ndindex(*GRID[::-1]):
                weight = cubic(index[0] - x) * cubic(index[1] - y) * cubic(index[2] - z)
                shift += weight * coefficients[:, z, y, x]
        out.append(point + shift)
    return np.array(out)


def test_bspline_is_the_sum_over_control_points(tmp_path):
    rng = np.random.default_rng(0)
    coefficients = rng.normal(0, 8, (3, *GRID[::-1]))
    points = np.vstack([POINTS, rng.random((20, 3)) * (39, 29, 19)])
    xyz = points[:, ::-1] * (10, 20, 25)
    file = spline_file(tmp_path / "b.txt", coefficients)
    found, wanted = on(file, points), spline_of(xyz, coefficients)
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    assert (np.abs(wanted - xyz).max(axis=1) > 0).any()
    assert (wanted == xyz).all(axis=1).any(), "some points lie where the grid has ended"


@pytest.mark.parametrize("how", ["Compose", "Add"])
def test_a_chain_begins_with_its_initial_transform(tmp_path, how):
    rng = np.random.default_rng(2)
    coefficients = rng.normal(0, 8, (3, *GRID[::-1]))
    affine_file(tmp_path / "TransformParameters.0.txt")
    file = spline_file(
        tmp_path / "TransformParameters.1.txt", coefficients, how=how,
        first="/elsewhere/TransformParameters.0.txt",
    )  # fmt: skip
    moved = affine_of(XYZ)
    if how == "Compose":
        wanted = spline_of(moved, coefficients)
    else:
        wanted = moved + spline_of(XYZ, coefficients) - XYZ
    np.testing.assert_allclose(on(file, POINTS), wanted, atol=1e-8)


def test_a_chain_is_turned_round(tmp_path):
    rng = np.random.default_rng(3)
    affine_file(tmp_path / "T.0.txt")
    file = spline_file(tmp_path / "T.1.txt", rng.normal(0, 8, (3, *GRID[::-1])), first="T.0.txt")
    # Stay where both the spline and what lies around it are smooth.
    points = rng.random((50, 3)) * (10, 10, 5) + (8, 8, 8)
    moving = Grid((5, 5, 5))
    there = read_transform(file).apply(points, FIXED, moving)
    back = read_transform(file, inverse=True).apply(there, moving, FIXED)
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_origin_direction_unit_and_a_finer_image(tmp_path):
    file = elastix_file(tmp_path / "t.txt", "TranslationTransform", [0, 0, 0], origin="0.5 0 0")
    text = file.read_text().replace("(Spacing 10 20 25)", "(Spacing 0.01 0.02 0.025)")
    file.write_text(text.replace("(Direction 1 0 0 0 1 0", "(Direction -1 0 0 0 1 0"))
    transform = read_transform(file, unit="mm")
    found = transform.apply(POINTS, FIXED, UNIT)[:, ::-1]
    np.testing.assert_allclose(found, XYZ * (-1, 1, 1) + (500, 0, 0))
    # Cells found at twice the resolution, corner on corner.
    fine = Grid((12.5, 10, 5), "asr", (80, 60, 40))
    np.testing.assert_allclose(
        transform.apply(2 * POINTS + 0.5, fine, UNIT), transform.apply(POINTS, FIXED, UNIT)
    )
    with pytest.raises(DataError, match=r"not of the image's size.*unit"):
        read_transform(file).apply(POINTS, FIXED, UNIT)


def test_broken_elastix_files(tmp_path):
    file = tmp_path / "t.txt"
    for text, words in (
        ("(Transform\nbla", "no field"),
        ("(Spacing 1 1 1)", "names no transform"),
        (
            '(Transform "SplineKernelTransform")\n(TransformParameters 1)',
            r"not worked out.*itk-elastix",
        ),
        ('(Transform "AffineTransform")\n(TransformParameters 1 2)', "12 parameters"),
        ('(Transform "AffineTransform")\n(TransformParameters a b)', "no numbers"),
        ('(Transform "AffineTransform")', "no numbers"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=words):
            read_transform(file)
    with pytest.raises(DataError, match="does not end"):
        read_transform(elastix_file(file, "TranslationTransform", [0, 0, 0], first="t.txt"))
    with pytest.raises(DataError, match="missing"):
        read_transform(elastix_file(file, "TranslationTransform", [0, 0, 0], first="none.txt"))
    with pytest.raises(DataError, match="fill the grid"):
        read_transform(spline_file(file, np.zeros(7)))


def test_affine_takes_a_matrix_only():
    with pytest.raises(DataError, match="4 x 4"):
        Affine("hello")
