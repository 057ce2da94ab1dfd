"""A cube goes to ITK-SNAP and comes back, edited or not."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from brodmann.core import DataError, Volume
from brodmann.datasets.cube_files import export_cube, import_cube
from brodmann.datasets.cubes import MICROSTRUCTURE, Box, Cube, cube_dataset

SPACING = (1.17, 0.65, 0.7)


@pytest.fixture
def cube():
    rng = np.random.default_rng(0)
    shape = (5, 7, 9)
    image = rng.integers(0, 256, shape).astype(np.uint8)
    ids = rng.integers(0, 4, shape).astype(np.uint8)
    return Cube(
        "vp-A",
        "VP",
        Volume(image, "zyx", SPACING),
        None,
        Volume(ids, "zyx", SPACING),
        (110, 850, 3063),
    )


def save(file, data):
    """As another program does: same header, its own type."""
    old = nibabel.load(file)
    image = nibabel.Nifti1Image(data, old.affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, file)


def test_a_cube_comes_back_as_it_went(cube, tmp_path):
    files = export_cube(cube, tmp_path / "vp", MICROSTRUCTURE)
    assert all(file.is_file() for file in files)
    back = import_cube(tmp_path / "vp", MICROSTRUCTURE)
    assert (back.name, back.region, back.origin) == ("vp-A", "VP", (110, 850, 3063))
    assert back.image.spacing == back.microstructure.spacing == SPACING
    for kind in ("image", "microstructure"):
        there, here = getattr(cube, kind), getattr(back, kind)
        assert here.axes == "zyx" and here.dtype == there.dtype
        assert (here.numpy() == there.numpy()).all()


def test_another_program_sees_x_first_in_millimetres(cube, tmp_path):
    export_cube(cube, tmp_path, MICROSTRUCTURE)
    image = nibabel.load(tmp_path / "image.nii.gz")
    labels = nibabel.load(tmp_path / "labels.nii.gz")
    assert image.shape == labels.shape == (9, 7, 5)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header.get_zooms() == pytest.approx((0.7e-3, 0.65e-3, 1.17e-3), rel=1e-6)
    assert (image.affine == labels.affine).all()
    assert image.dataobj[8, 2, 3] == cube.image.numpy()[3, 2, 8]
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    assert '1 215 48 31 1 1 1 "Blood vessel"' in lines and len(lines) == 6


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_edited_labels_are_read_whatever_their_type(cube, tmp_path, dtype):
    export_cube(cube, tmp_path, MICROSTRUCTURE)
    ids = np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj).astype(dtype)
    ids[1, 2, 3] = 3
    ids[4, 5, 0] = 0
    save(tmp_path / "labels.nii.gz", ids)
    back = import_cube(tmp_path, MICROSTRUCTURE)
    assert back.microstructure.dtype == np.uint8
    assert (back.microstructure.numpy() == ids.T).all()
    data = cube_dataset(
        "proofread",
        {"vp-A": lambda: back},
        {"train": [Box("vp-A", (110, 115))]},
        answer="labels",
        label_map=MICROSTRUCTURE,
    )
    assert data["vp-A-z0113"].labels.numpy()[2, 1] == 3


def test_a_cube_without_labels_begins_empty(cube, tmp_path):
    bare = Cube(cube.name, cube.region, cube.image, origin=cube.origin)
    export_cube(bare, tmp_path, MICROSTRUCTURE)
    assert not import_cube(tmp_path, MICROSTRUCTURE).microstructure.numpy().any()


def test_what_does_not_fit_is_refused(cube, tmp_path):
    def fresh():
        export_cube(cube, tmp_path, MICROSTRUCTURE)
        return np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj)

    ids = fresh().copy()
    ids[0, 0, 0] = 9
    save(tmp_path / "labels.nii.gz", ids)
    with pytest.raises(DataError, match=r"outside the vocabulary.*found \[9\]"):
        import_cube(tmp_path, MICROSTRUCTURE)
    save(tmp_path / "labels.nii.gz", fresh() + np.float32(0.5))
    with pytest.raises(DataError):
        import_cube(tmp_path, MICROSTRUCTURE)
    save(tmp_path / "labels.nii.gz", fresh()[:-1])
    with pytest.raises(DataError, match="another grid"):
        import_cube(tmp_path, MICROSTRUCTURE)
    nibabel.save(nibabel.Nifti1Image(fresh(), np.eye(4)), tmp_path / "labels.nii.gz")
    with pytest.raises(DataError, match="another spacing"):
        import_cube(tmp_path, MICROSTRUCTURE)
    fresh()
    (tmp_path / "cube.json").write_text(json.dumps({"name": "vp-A", "origin": [1]}))
    with pytest.raises(DataError, match="where this cube lies"):
        import_cube(tmp_path, MICROSTRUCTURE)
    wrong = Cube("a", "VP", cube.image, None, cube.image)
    with pytest.raises(DataError, match="outside the vocabulary"):
        export_cube(wrong, tmp_path / "x", MICROSTRUCTURE)
