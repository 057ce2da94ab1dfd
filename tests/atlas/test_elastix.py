"""elastix' transforms as scipy and the sum over control points have them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brodmann.atlas import (
    Grid,
    read_transform,
)
from brodmann.core import DataError

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
