"""Other layouts: trees as others write them, and there and back again."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image

from brodmann.core import (
    DataError,
    Dataset,
    Label,
    LabelMap,
    OutputError,
    RecipeError,
    Sample,
    Volume,
)
from brodmann.datasets.convert import convert, detect, open_dataset, read_coco, read_nnunet
from brodmann.datasets.convert.coco import mask_of, run_lengths
from brodmann.datasets.folder import write_folder

ROOT = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
TREE = LabelMap(
    [
        Label(10, "Thalamus", "TH", None, "FF7080"),
        Label(300, "Ventral posterior", "VP", 10, "FF8090"),
        Label(7, "Cortex", "CTX", None, "70FF71"),
    ],
    classes=[300, 7],
    ignore=65535,
)


def dataset(axes="cyx", channels=("DAPI", "GFP")):
    shape = {"yx": (30, 40), "cyx": (len(channels), 30, 40), "zyx": (5, 30, 40),
             "czyx": (2, 5, 30, 40)}[axes]  # fmt: skip
    spacing = (50.0, 25.0, 20.0)[-len(axes.removeprefix("c")) :]

    def make(name):
        rng = np.random.default_rng(ord(name[-1]))
        kind = np.uint8 if channels[0] == "red" else np.uint16
        image = Volume(
            rng.integers(0, 250, shape).astype(kind), axes, spacing,
            channels if axes.startswith("c") else (),
        )  # fmt: skip
        ids = rng.choice([0, 300, 7, 65535], image.spatial_shape).astype(np.uint32)
        return Sample(name, image, image.like(ids))

    return Dataset(
        "mice", ["m.1", "m2", "m3"], make, TREE, {"m.1": "one", "m2": "one"},
        {"train": ["m.1", "m2"], "test": ["m3"]}, "CC0", "Nobody 2026", "Three mice",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "axes", "channels"),
    [
        ("nnunet", "cyx", ("DAPI", "GFP")),
        ("nnunet", "yx", ("a", "b")),
        ("nnunet", "zyx", ("a", "b")),
        ("nnunet", "czyx", ("DAPI", "GFP")),
        ("coco", "cyx", ("red", "green", "blue")),
        ("coco", "cyx", ("DAPI", "GFP")),
        ("coco", "yx", ("a", "b")),
        ("nifti", "czyx", ("a", "b")),
        ("nifti", "yx", ("a", "b")),
    ],
)
def test_there_and_back(tmp_path, layout, axes, channels):
    source = dataset(axes, channels)
    write_folder(source, tmp_path / "folder")
    there = convert(tmp_path / "folder", tmp_path / "there", layout)
    assert there == {"path": str(tmp_path / "there"), "from": "folder", "to": layout, "samples": 3}
    assert detect(tmp_path / "there") == ("folder" if layout == "nifti" else layout)
    convert(tmp_path / "there", tmp_path / "back", "folder")
    back = open_dataset(tmp_path / "back")
    assert back.label_map == TREE
    assert back.names == source.names
    for key in ("name", "splits", "subjects", "licence", "citation", "description"):
        assert getattr(back, key) == getattr(source, key), key
    for a, b in zip(back, source):
        assert np.array_equal(a.image.numpy(), b.image.numpy())
        assert np.array_equal(a.labels.numpy(), b.labels.numpy())
        assert np.allclose(a.image.spacing, b.image.spacing)
        if layout != "nifti" and axes.startswith("c"):
            assert a.image.channels == channels


def test_nnunet_labels_are_consecutive_and_ignore_is_the_last(tmp_path):
    from brodmann.datasets.convert import write_nnunet

    path = write_nnunet(dataset("zyx"), tmp_path / "Dataset001_Mice")
    info = json.loads((path / "dataset.json").read_text())
    assert info["labels"] == {"background": 0, "VP": 1, "CTX": 2, "ignore": 3}
    assert (info["numTraining"], info["file_ending"]) == (2, ".nii.gz")
    assert info["channel_names"] == {"0": "image"}
    values = np.asarray(nibabel.load(path / "labelsTr" / "m2.nii.gz").dataobj).T
    truth = dataset("zyx")["m2"].labels.numpy()
    table = np.vectorize({0: 0, 300: 1, 7: 2, 65535: 3}.get)
    assert np.array_equal(values, table(truth))
    assert sorted(file.name for file in (path / "imagesTs").iterdir()) == ["m3_0000.nii.gz"]
    with pytest.raises(OutputError, match="in the way"):
        write_nnunet(dataset("zyx"), path)


def nnunet_by_others(path, labels, ending=".png"):
    (path / "imagesTr").mkdir(parents=True)
    (path / "labelsTr").mkdir()
    values = np.arange(200, dtype=np.uint8).reshape(10, 20)
    for channel in range(2):
        Image.fromarray(values + channel).save(path / "imagesTr" / f"case_1_000{channel}{ending}")
    Image.fromarray(values % 3).save(path / "labelsTr" / f"case_1{ending}")
    info = {"channel_names": {"0": "DAPI", "1": "GFP"}, "labels": labels, "numTraining": 1}
    (path / "dataset.json").write_text(json.dumps(info | {"file_ending": ending}))
    return path


def test_nnunet_folders_of_others(tmp_path):
    path = nnunet_by_others(tmp_path / "a", {"background": 0, "CTX": 1, "ignore": 2})
    assert detect(path) == "nnunet"
    with pytest.raises(DataError, match="spacing"):
        read_nnunet(path)["case_1"]
    sample = read_nnunet(path, spacing=(25, 25))["case_1"]
    values = np.arange(200).reshape(10, 20)
    assert np.array_equal(sample.image.numpy(), np.stack([values, values + 1]))
    assert sample.image.channels == ("DAPI", "GFP")
    data = read_nnunet(path, spacing=(25, 25))
    assert (data.label_map.classes, data.label_map.ignore) == ((1,), 2)
    assert np.array_equal(sample.labels.numpy(), values % 3)
    with pytest.raises(DataError, match="overlapping regions"):
        read_nnunet(nnunet_by_others(tmp_path / "b", {"background": 0, "whole": [1, 2]}))
    short = nnunet_by_others(tmp_path / "c", {"background": 0, "CTX": 1})
    with pytest.raises(DataError, match=r"missing from the label table.*\[2\]"):
        read_nnunet(short, spacing=(25, 25))["case_1"]
    (short / "imagesTr" / "case_1_0000.png").unlink()
    with pytest.raises(DataError, match="a channel is missing"):
        read_nnunet(short)


def coco_by_others(path):
    """Polygons, one over the other, and a run-length mask; COCO's first category id is 0 here."""
    (path / "annotations").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path / "brain 1.jpg")
    big = [[5, 5, 45, 5, 45, 35, 5, 35]]
    small = [[10, 10, 20, 10, 20, 20, 10, 20], [30, 10, 35, 10, 35, 15, 30, 15]]
    far = np.zeros((40, 60), bool)
    far[3:9, 50:55] = True
    table = {
        "images": [{"id": 3, "file_name": "brain 1.jpg", "height": 40, "width": 60}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "segmentation": small},
            {"id": 2, "image_id": 3, "category_id": 0, "segmentation": big},
            {
                "id": 3,
                "image_id": 3,
                "category_id": 1,
                "segmentation": {"size": [40, 60], "counts": run_lengths(far)},
            },
        ],
        "categories": [{"id": 0, "name": "cortex"}, {"id": 1, "name": "nucleus"}],
    }
    (path / "annotations" / "instances_val.json").write_text(json.dumps(table))
    return path


def test_coco_of_others(tmp_path):
    path = coco_by_others(tmp_path / "a")
    assert detect(path) == "coco"
    data = read_coco(path, spacing=(2, 2))
    assert data.splits == {"val": ["brain 1"]}
    assert data.label_map.class_names == ["background", "cortex", "nucleus"]
    sample = data["brain 1"]
    assert sample.image.channels == ("red", "green", "blue")
    expected = np.zeros((40, 60), int)
    expected[5:35, 5:45] = 1
    expected[10:20, 10:20] = expected[10:15, 30:35] = expected[3:9, 50:55] = 2
    assert np.array_equal(sample.labels.numpy(), expected)


def test_coco_faults(tmp_path):
    path = coco_by_others(tmp_path / "a")
    file = path / "annotations" / "instances_val.json"
    whole = json.loads(file.read_text())

    def reads(message, **changes):
        file.write_text(json.dumps(whole | changes))
        with pytest.raises(DataError, match=message):
            read_coco(path, spacing=(2, 2))["brain 1"]

    mark = whole["annotations"][0]
    compressed = {"size": [40, 60], "counts": "abc"}
    reads("compressed run-length", annotations=[mark | {"segmentation": compressed}])
    wrong = {"size": [40, 60], "counts": [5]}
    reads("does not fit", annotations=[mark | {"segmentation": wrong}])
    reads("three points", annotations=[mark | {"segmentation": [[1, 2, 3, 4]]}])
    reads("no COCO file", annotations=[mark | {"image_id": 99}])
    reads("no COCO file", categories=[{"id": 1}])
    out = [{"id": 3, "file_name": "../../brain 1.jpg"}]
    reads("leads out of the dataset", images=out)
    file.write_text("{")
    with pytest.raises(DataError, match="cannot read this JSON"):
        read_coco(path)


def test_polygons_hold_the_pixels_whose_centre_lies_inside():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:90, 0:100]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    for _ in range(10):
        angles = np.sort(rng.random(12)) * 2 * np.pi
        radius = rng.uniform(15, 40, 12)
        points = np.stack([50 + radius * np.cos(angles), 45 + radius * np.sin(angles)], axis=1)
        mask = mask_of({"segmentation": [points.ravel().tolist()]}, (90, 100), "")
        assert np.array_equal(mask.ravel(), Polygon(points).contains_points(centres))


def test_run_lengths_there_and_back():
    for seed in range(20):
        mask = np.random.default_rng(seed).random((7, 9)) < seed / 20
        counts = run_lengths(mask)
        again = mask_of({"segmentation": {"size": [7, 9], "counts": counts}}, (7, 9), "")
        assert sum(counts) == 63
        assert np.array_equal(again, mask)


def test_nifti_trees_of_others(tmp_path):
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / part).mkdir()
        values = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.uint8)
        image = nibabel.Nifti1Image(values, np.diag([1, 2, 3, 1]))
        nibabel.save(image, tmp_path / part / ("b.nii.gz" if part == "imagesTs" else "a.nii.gz"))
    (tmp_path / "imagesTr" / "._a.nii.gz").write_bytes(b"x")
    assert detect(tmp_path) == "nifti"
    data = open_dataset(tmp_path)
    assert data.splits == {"train": ["a"], "test": ["b"]}
    assert data.label_map.class_names == ["background", "label 1", "label 2"]
    assert data["a"].labels.numpy()[2, 3, 0] == values[0, 3, 2]
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "name": "Hippocampus"}))
    named = open_dataset(tmp_path)
    assert named.label_map.class_names == ["background", "Anterior", "Posterior"]
    assert (named.name, named["b"].labels) == ("Hippocampus", None)


def test_what_cannot_be(tmp_path):
    write_folder(dataset("zyx"), tmp_path / "d")
    with pytest.raises(RecipeError, match="did you mean 'nnunet'"):
        convert(tmp_path / "d", tmp_path / "e", "nnunnet")
    with pytest.raises(RecipeError, match="same folder"):
        convert(tmp_path / "d", tmp_path / "d", "folder")
    with pytest.raises(DataError, match="sections, not volumes"):
        convert(tmp_path / "d", tmp_path / "e", "coco")
    with pytest.raises(DataError, match="no dataset layout"):
        detect(tmp_path)
    with pytest.raises(DataError, match="no such dataset"):
        detect(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match=r"dataset\.yaml"):
        open_dataset(tmp_path / "d", spacing=(1, 1, 1))


@pytest.mark.real
@pytest.mark.skipif(not (ROOT / "mri").is_dir(), reason=f"no real data at {ROOT}")
def test_real_hippocampi():
    path = ROOT / "mri" / "hippocampus"
    assert detect(path) == "nifti"
    data = open_dataset(path)
    assert (len(data), data.label_map.classes) == (70, (1, 2))
    name = data.names[3]
    sample = data[name]
    theirs = nibabel.load(path / "labels" / f"{name}.nii.gz")
    assert np.array_equal(sample.labels.numpy(), np.asarray(theirs.dataobj).T)
    assert np.allclose(sample.image.spacing, np.array(theirs.header.get_zooms())[::-1] * 1000)


def test_labels_without_colours_get_different_ones(tmp_path):
    path = nnunet_by_others(tmp_path / "a", {"background": 0} | {f"r{i}": i for i in range(1, 119)})
    colors = {label.color for label in read_nnunet(path).label_map}
    assert len(colors) == 118
