"""Annotations and trees as they lie on disk."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import tifffile
from made_atlas import points_of, random_annotation

from brodmann.atlas import (
    Tree,
    count_cells,
    read_annotation,
    read_structures,
    roll_up_table,
    write_counts,
)
from brodmann.atlas.nrrd import read_nrrd
from brodmann.atlas.passes import look_up, occupied, sample_voxels, shadow, take_planes, tissue_mask
from brodmann.core import DataError, Label, LabelMap, RecipeError, Volume
from brodmann.io import write_volume

ROOT = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = [
    pytest.mark.real,
    pytest.mark.skipif(not (ROOT / "atlas").is_dir(), reason=f"no real data at {ROOT}"),
]
TREE = "id,acronym,name,parent\n1,all,all,\n7,a,first,1\n9,b,second,1\n"


def write_nrrd(path, array, encoding="gzip", more="", cut=0):
    """Header sizes in the array's order, the first axis running fastest."""
    data = array.tobytes(order="F")
    packed = {"gzip": gzip.compress, "bzip2": bz2.compress}.get(encoding, bytes)(data)
    names = {"uint8": "uchar", "uint16": "unsigned short", "uint32": "unsigned int"}
    head = (
        f"NRRD0004\n# made here\ntype: {names[array.dtype.name]}\ndimension: 3\n"
        f"sizes: {' '.join(map(str, array.shape))}\nendian: little\nencoding: {encoding}\n"
        f"{more or 'space directions: (25,0,0) (0,50,0) (0,0,100)'}\nkey:=value\n\n"
    )
    path.write_bytes(head.encode() + (packed[:-cut] if cut else packed))
    return path


@pytest.fixture
def ids():
    rng = np.random.default_rng(0)
    return rng.choice(np.array([0, 1, 7, 9], np.uint32), (6, 5, 4))


@pytest.fixture
def table(tmp_path):
    (tmp_path / "tree.csv").write_text(TREE)
    return tmp_path / "tree.csv"


@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "raw"])
def test_nrrd_by_window(tmp_path, ids, encoding):
    array, spacing = read_nrrd(write_nrrd(tmp_path / "a.nrrd", ids, encoding))
    assert spacing == (25, 50, 100) and array.shape == ids.shape
    np.testing.assert_array_equal(array[1:5, 2:, 3], ids[1:5, 2:, 3])
    np.testing.assert_array_equal(np.asarray(array), ids)


def test_nrrd_units_and_detached_data(tmp_path, ids):
    head = 'spacings: 0.025 0.05 0.1\nunits: "mm" "mm" "mm"\ndata file: a.raw'
    path = write_nrrd(tmp_path / "a.nhdr", ids, "raw", head)
    (tmp_path / "a.raw").write_bytes(ids.tobytes(order="F"))
    array, spacing = read_nrrd(path)
    assert spacing == (25, 50, 100)
    np.testing.assert_array_equal(array[...], ids)


@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "raw"])
def test_a_cut_nrrd_is_refused(tmp_path, ids, encoding):
    path = write_nrrd(tmp_path / "a.nrrd", ids, encoding, cut=9)
    with pytest.raises(DataError, match=r"a\.nrrd"):
        read_nrrd(path)


def test_what_is_no_nrrd(tmp_path, ids):
    (tmp_path / "a.nrrd").write_text("hello")
    with pytest.raises(DataError, match="no NRRD"):
        read_nrrd(tmp_path / "a.nrrd")
    big = write_nrrd(tmp_path / "b.nrrd", ids)
    big.write_bytes(big.read_bytes().replace(b"sizes: 6 5 4", b"sizes: 1 5 4"))
    with pytest.raises(DataError, match="more data"):
        read_nrrd(big)
    with pytest.raises(DataError, match="encoding"):
        read_nrrd(write_nrrd(tmp_path / "c.nrrd", ids, "hex"))


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a.h5", "a.nrrd"])
def test_any_format_counts_alike(tmp_path, ids, table, name):
    path = tmp_path / name
    if name.endswith("nrrd"):
        write_nrrd(path, ids)
    else:
        write_volume(path, Volume(ids, "zyx", (25, 50, 100)), labels=True)
    annotation = read_annotation(path, table, orientation="asr")
    assert annotation.spacing == (25, 50, 100) and annotation.shape == (6, 5, 4)
    voxels = np.array(list(np.ndindex(*ids.shape)), float)
    found, sides = look_up(annotation, voxels)
    np.testing.assert_array_equal(found, ids[tuple(voxels.astype(int).T)])
    np.testing.assert_array_equal(sides, np.where(voxels[:, 2] < 2, 2, 1))
    np.testing.assert_array_equal(
        take_planes(annotation, 1, [3, 0]), ids[:, [3, 0]].transpose(1, 0, 2)
    )
    np.testing.assert_array_equal(occupied(annotation, 2), (ids > 0).sum((0, 1)))
    np.testing.assert_array_equal(shadow(annotation, 0), (ids > 0).any(0))
    whole, factor = tissue_mask(annotation)
    np.testing.assert_array_equal(whole, ids > 0)
    few, factor = tissue_mask(annotation, side=1, most=30)
    assert factor == 2
    left = np.where(np.arange(4) >= 2, ids > 0, False)
    np.testing.assert_array_equal(few, left[np.ix_([1, 3, 5], [1, 3, 4], [1, 3])])
    assert annotation.sizes.total.tolist() == [(ids == i).sum() for i in (1, 7, 9)]


def test_nifti_says_its_orientation(tmp_path, ids, table):
    # Array axes x, y, z lead to the right, to the front and up: RAS.
    image = nibabel.Nifti1Image(ids.T, np.diag([0.1, 0.05, 0.025, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii.gz")
    annotation = read_annotation(tmp_path / "a.nii.gz", table)
    assert annotation.orientation == "ipl" and annotation.shape == ids.shape
    assert annotation.side_of_planes().tolist() == [1, 1, 2, 2]


def test_orientation_is_not_guessed(tmp_path, ids, table):
    write_volume(tmp_path / "a.tif", Volume(ids, "zyx", (25, 50, 100)), labels=True)
    assert read_annotation(tmp_path / "a.tif", table).orientation == ""
    ccf = np.ones((33, 20, 28), np.uint32)
    write_volume(tmp_path / "ccf.tif", Volume(ccf, "zyx", (400, 400, 400)), labels=True)
    assert read_annotation(tmp_path / "ccf.tif", table).orientation == "asr"


def test_a_brainglobe_folder(tmp_path, ids):
    folder = tmp_path / "made_mouse_100um_v1.2"
    folder.mkdir()
    tifffile.imwrite(folder / "annotation.tiff", ids, photometric="minisblack")
    tifffile.imwrite(
        folder / "hemispheres.tiff", np.full(ids.shape, 2, np.uint8), photometric="minisblack"
    )
    facts = {"resolution": [25, 50, 100], "orientation": "asr", "symmetric": False}
    (folder / "metadata.json").write_text(json.dumps(facts))
    rows = [
        {"id": 1, "acronym": "all", "name": "all", "structure_id_path": [1], "rgb_triplet": [255, 0, 9]},
        {"id": 7, "acronym": "a", "name": "a", "structure_id_path": [1, 7], "rgb_triplet": [1, 2, 3]},
        {"id": 9, "acronym": "b", "name": "b", "structure_id_path": [1, 9], "rgb_triplet": [1, 2, 3]},
    ]  # fmt: skip
    (folder / "structures.json").write_text(json.dumps(rows))
    annotation = read_annotation(folder)
    assert annotation.spacing == (25, 50, 100) and annotation.structures[1].color == "FF0009"
    assert annotation.sizes.left.sum() == 0 and annotation.sizes.right.sum() == (ids > 0).sum()
    (folder / "metadata.json").write_text(json.dumps(facts | {"symmetric": True}))
    assert read_annotation(folder).sizes.left.sum() == (ids[:, :, 2:] > 0).sum()
    (folder / "annotation.tiff").unlink()
    with pytest.raises(DataError, match=r"no annotation\.tiff"):
        read_annotation(folder)


def test_missing_tables_and_atlases(tmp_path, ids, table):
    path = write_nrrd(tmp_path / "a.nrrd", ids)
    with pytest.raises(DataError, match="--structures"):
        read_annotation(path)
    with pytest.raises(DataError, match=r"brainglobe-atlasapi.*pip install"):
        read_annotation("nowhere_mouse_25um", table)
    bare = write_nrrd(tmp_path / "b.nrrd", ids, more="# nothing")
    with pytest.raises(DataError, match="spacing"):
        read_annotation(bare, table)
    assert read_annotation(bare, table, spacing=(5, 5, 5)).spacing == (5, 5, 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acronym,parent\na,\n", "columns id"),
        ("id,acronym\nx,a\n", r"line 2.*'x'"),
        ("id,acronym,parent\n1,a,zz\n", "unknown parent"),
        ("id,acronym,structure_id_path\n5,a,/4/5/\n", "unknown parent in the path"),
        ("id,acronym\n1,a\n1,b\n", "used twice"),
        ("id,acronym,parent\n1,a,2\n2,b,1\n", "cycle"),
        ("id,acronym,color\n1,a,red\n", "colour"),
        ("id,acronym,parent\n1,a,3\n", "unknown parent"),
    ],
)
def test_broken_trees(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_structures(tmp_path / "t.csv")


def test_parents_by_id_acronym_or_path(tmp_path):
    texts = (
        "id,acronym,parent\n1,all,\n600000001,a,1\n",
        "id,name,parent_structure_id\n1,all,\n600000001,a,1.0\n",
        "id,acronym,parent\n1,all,all\n600000001,a,all\n",
        "id,acronym,structure_id_path\n1,all,/1/\n600000001,a,/1/600000001/\n",
    )
    for text in texts:
        (tmp_path / "t.csv").write_text(text)
        tree = read_structures(tmp_path / "t.csv")
        assert tree[600000001].parent == 1 and tree[1].parent is None


def test_parts_are_even_and_whole():
    tree = Tree(
        LabelMap(
            [Label(1, "r", "r"), *(Label(i, f"s{i}", f"s{i}", 1) for i in (2, 3)),
             *(Label(i, f"s{i}", f"s{i}", 2) for i in range(4, 8)), Label(8, "s8", "s8", 3)]
        )
    )  # fmt: skip
    voxels = np.array([0, 0, 5, 5, 5, 5, 0, 3])
    names = [tree.labels[i].acronym for i in tree.parted(voxels, 5)]
    assert names == ["s4", "s5", "s6", "s7", "s3"]
    # Four below s2 are too many for three parts, so it stays whole.
    assert [tree.labels[i].acronym for i in tree.parted(voxels, 3)] == ["s2", "s8"]
    group = tree.group_of(tree.parted(voxels, 5))
    assert group.tolist() == [-1, -1, 0, 1, 2, 3, 4, 4]


def test_samples_are_uniform_in_their_structures():
    rng = np.random.default_rng(7)
    brain = random_annotation(rng, (6, 7, 8), storage=(1, 2, 0))
    tree, ids = brain.tree, brain.ids.numpy()
    present = [i for i in range(len(tree)) if brain.sizes.total[i]]
    drawn = sample_voxels(brain, {0: (present[:2], 6000)}, np.random.default_rng)[0]
    voxels = np.floor(drawn + 0.5).astype(int)
    inside = np.isin(ids, tree.ids[present[:2]])
    assert inside[tuple(voxels.T)].all()
    hits = np.zeros(ids.shape)
    np.add.at(hits, tuple(voxels.T), 1)
    expected = 6000 / inside.sum()
    chi2 = ((hits[inside] - expected) ** 2 / expected).sum()
    assert chi2 < inside.sum() + 5 * np.sqrt(2 * inside.sum())
    left = sample_voxels(brain, {0: (present, 500)}, np.random.default_rng, side=1)[0]
    assert (look_up(brain, left)[1] == 1).all()
    assert not len(sample_voxels(brain, {0: ([], 5)}, np.random.default_rng)[0])


def test_tables_on_disk(tmp_path, ids, table):
    annotation = read_annotation(write_nrrd(tmp_path / "a.nrrd", ids), table, orientation="asr")
    rng = np.random.default_rng(0)
    counts = count_cells(
        points_of(rng.random((60, 3)) * ids.shape - 0.5),
        annotation.spacing,
        annotation,
        half="both",
    )
    written = write_counts({"cFos": counts}, annotation, tmp_path / "out")
    regions = pd.read_csv(written["regions"])
    assert regions["marker"].eq("cFos").all()
    for column in ("cells", "cells_left", "cells_direct_right"):
        assert regions[column].dtype.kind == "i"
    np.testing.assert_allclose(regions["density_per_mm3"], counts.table["density_per_mm3"])
    plain = json.loads(written["json"].read_text())
    assert plain["markers"][0]["cells"] == counts.summary
    assert [row["cells"] for row in plain["markers"][0]["regions"]] == regions["cells"].tolist()
    assert len(pd.read_csv(written["cells"])) == 60
    # What was rolled up once is found again from the direct columns.
    again = roll_up_table(regions.drop(columns="marker"), annotation.structures)
    for column in ("cells", "cells_left", "volume_mm3", "density_per_mm3", "density_right_per_mm3"):
        np.testing.assert_allclose(again[column], regions[column], rtol=1e-6)


def test_roll_up_of_a_foreign_table():
    tree = LabelMap([Label(1, "all", "all"), Label(2, "a", "a", 1), Label(3, "b", "b", 2)])
    table = pd.DataFrame({"acronym": ["b", "a", "b"], "spots": [1, 10, 100]})
    found = roll_up_table(table, tree)
    assert found[["acronym", "spots"]].values.tolist() == [["all", 111], ["a", 111], ["b", 101]]
    assert roll_up_table(table, tree, depth=2)["acronym"].tolist() == ["b"]
    assert roll_up_table(table, tree, to=["a"])["spots"].tolist() == [111]
    with pytest.raises(DataError, match=r"missing from the tree.*zz"):
        roll_up_table(table.replace("b", "zz"), tree)
    with pytest.raises(DataError, match="id or acronym"):
        roll_up_table(table[["spots"]], tree)
    with pytest.raises(DataError, match="columns to add up"):
        roll_up_table(table, tree, values=["none"])
    with pytest.raises(RecipeError, match="not both"):
        roll_up_table(table, tree, to=["a"], depth=1)


@pytest.mark.parametrize("kind", [pytest.param("nrrd", marks=real)])
def test_the_real_atlas(kind):
    """Volumes of the CCFv3 against an independent count by numpy."""
    import zlib

    path = ROOT / "atlas" / "ccfv3_annotation_25um.nrrd"
    annotation = read_annotation(path, ROOT / "atlas" / "structures.csv")
    assert annotation.shape == (528, 320, 456) and annotation.orientation == "asr"
    raw = path.read_bytes()
    volume = np.frombuffer(zlib.decompress(raw[raw.index(b"\n\n") + 2 :], 31), "<u4")
    volume = volume.reshape(456, 320, 528).transpose(2, 1, 0)
    cells = np.array([[264, 160, 114], [264, 160, 341], [0, 0, 0], [300, 90, 250]], float)
    counts = count_cells(points_of(cells), (25, 25, 25), annotation)
    assert counts.cells["id"].tolist() == [int(volume[tuple(c.astype(int))]) for c in cells]
    assert counts.cells["hemisphere"].tolist() == ["right", "left", "right", "left"]
    caudoputamen = counts.region("CP")
    assert caudoputamen["volume_mm3"] == pytest.approx((volume == 672).sum() * 25**3 / 1e9)
    assert caudoputamen["volume_left_mm3"] == pytest.approx(
        (volume[..., 228:] == 672).sum() * 25**3 / 1e9
    )
    root = counts.table.iloc[0]
    assert root["volume_mm3"] == pytest.approx((volume > 0).sum() * 25**3 / 1e9)
