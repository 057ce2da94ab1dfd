"""Dataset folders: made by hand, written and read again, resumed."""

import os

import numpy as np
import pandas as pd
import pytest
import yaml

from brodmann.core import DataError, Dataset, Label, LabelMap, OutputError, Points, Sample, Volume
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.io import write_volume

TREE = LabelMap(
    [
        Label(10, "Thalamus", "TH", None, "FF7080"),
        Label(300, "VP", "VP", 10, "FF8090"),
        Label(7, "Cortex", "CTX", None, "70FF71"),
    ],
    classes=[300, 7],
    ignore=65535,
)


def make(name):
    rng = np.random.default_rng(ord(name[-1]))
    image = Volume(rng.integers(0, 999, (2, 30, 40)).astype("u2"), "cyx", (25, 20), ("DAPI", "GFP"))
    labels = image.like(rng.choice([0, 300, 7, 65535], (30, 40)).astype(np.uint32))
    points = Points(pd.DataFrame({"y": [1.5, 3.0], "x": [2.0, 4.25], "score": [0.5, 1.0]}))
    return Sample(name, image, labels, points=points, category="P14", attributes={"age": 14.0})


def dataset(names=("001", "002", "003")):
    return Dataset(
        "mice",
        names,
        make,
        TREE,
        subjects={"001": "m1", "002": "m1"},
        splits={"train": ["001", "002"], "test": ["003"]},
        licence="CC-BY-4.0",
        citation="Nobody 2026",
        description="Sections: three of them",
    )


def by_hand(path, config="", labels="id,name\n7,Cortex\n", images=("a", "b")):
    """A folder as a person makes it."""
    path.mkdir(exist_ok=True)
    if config:
        (path / "dataset.yaml").write_text(config)
    if labels:
        (path / "labels.csv").write_text(labels)
    for part in ("images", "labels"):
        (path / part).mkdir(exist_ok=True)
    for i, name in enumerate(images):
        values = np.random.default_rng(i).integers(0, 255, (30, 40)).astype("u1")
        write_volume(path / "images" / f"{name}.tif", Volume(values, "yx", (25, 25)))
        ids = (np.arange(1200).reshape(30, 40) // (100 + 200 * i) % 2 * 7).astype("u1")
        write_volume(path / "labels" / f"{name}.png", Volume(ids, "yx", (25, 25)))
    return path


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz", ".ome.zarr", ".h5"])
def test_everything_comes_back(tmp_path, suffix):
    source = dataset()
    again = read_folder(write_folder(source, tmp_path / "d", suffix=suffix))
    for key in ("name", "names", "subjects", "splits", "licence", "citation", "description"):
        assert getattr(again, key) == getattr(source, key), key
    assert again.label_map == TREE
    for a, b in zip(again, source):
        assert np.array_equal(a.image.numpy(), b.image.numpy())
        assert np.array_equal(a.labels.numpy(), b.labels.numpy())
        assert np.allclose(a.image.spacing, b.image.spacing)
        assert a.labels.spacing == a.image.spacing
        assert a.points.table.equals(b.points.table)
        assert (a.category, dict(a.attributes), a.subject) == (
            "P14",
            {"age": 14.0},
            again.subjects[a.name],
        )
    assert suffix == ".nii.gz" or again["001"].image.channels == ("DAPI", "GFP")


def test_mixed_samples_keep_both_label_maps_and_the_weight(tmp_path):
    def mixed(name):
        sample = make(name)
        return sample.with_(labels2=sample.labels.like(sample.labels.data[::-1]), weight=0.25)

    again = read_folder(write_folder(Dataset("m", ["x"], mixed, TREE), tmp_path / "d"))["x"]
    assert again.weight == 0.25
    assert np.array_equal(again.labels2.numpy(), again.labels.numpy()[::-1])


def test_stopped_work_goes_on_and_finished_samples_stay(tmp_path):
    class Stop(Exception):
        pass

    def fails(name):
        if name == "002":
            raise Stop
        return make(name)

    source = dataset()
    broken = Dataset(
        "mice",
        source.names,
        fails,
        TREE,
        source.subjects,
        source.splits,
        source.licence,
        source.citation,
        source.description,
    )
    with pytest.raises(Stop):
        write_folder(broken, tmp_path / "d")
    done = tmp_path / "d" / "images" / "001.tif"
    os.utime(done, (1, 1))
    write_folder(source, tmp_path / "d")
    assert done.stat().st_mtime == 1
    assert len(read_folder(tmp_path / "d")) == 3
    with pytest.raises(OutputError, match="another dataset is in the way"):
        write_folder(dataset(names=("001", "002", "003", "004")).subset(["001"]), tmp_path / "d")


def test_a_folder_made_by_hand(tmp_path):
    made = read_folder(by_hand(tmp_path / "mine"))
    assert (made.name, made.names) == ("mine", ["a", "b"])
    assert made["a"].image.spacing == (25.0, 25.0)
    assert made.label_map.class_names == ["background", "Cortex"]


def test_the_spacing_of_the_yaml_overrules_files(tmp_path):
    path = by_hand(tmp_path / "d", "spacing_um: [10, 12.5]\nchannels: [Nissl]\n")
    sample = read_folder(path)["a"]
    assert sample.image.spacing == sample.labels.spacing == (10.0, 12.5)
    by_hand(path, "spacing_um: [10, 12.5, 3]\n")
    with pytest.raises(DataError, match=r"spacing_um in dataset\.yaml has 3 numbers"):
        read_folder(path)["a"]


def test_channels_in_files_of_their_own(tmp_path):
    path = by_hand(tmp_path / "d", "channels: [DAPI, GFP]\n", images=("a.GFP", "a.DAPI"), labels="")
    for file in (path / "labels").iterdir():
        file.unlink()
    sample = read_folder(path)["a"]
    assert sample.image.channels == ("DAPI", "GFP")
    gfp = np.random.default_rng(0).integers(0, 255, (30, 40))
    assert np.array_equal(sample.image.numpy()[1], gfp)
    (path / "images" / "a.DAPI.tif").unlink()
    with pytest.raises(DataError, match="channels of this sample are missing"):
        read_folder(path)


def test_names_that_look_like_numbers_stay_names(tmp_path):
    path = by_hand(tmp_path / "d", "splits: {train: [007], test: [1e3]}\n", images=("007", "1e3"))
    assert read_folder(path).splits == {"train": ["007"], "test": ["1e3"]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("spacing: [25, 25]", "unknown key.*did you mean 'spacing_um'"),
        ("spacing_um: 25", "2 or 3 numbers"),
        ("spacing_um: [25, -1]", "positive"),
        ("spacing_um: [a, b]", "spacing_um"),
        ("axes: xyz", "axes"),
        ("channels: DAPI", "list of names"),
        ("splits: [a, b]", "splits"),
        ("subjects: {a: [1]}", "subjects"),
        ("splits: {train: [a, bb]}", "not there.*bb"),
        ("- a\n- b", "cannot read dataset.yaml"),
        ("a: [", "cannot read dataset.yaml"),
        ("a: !!python/object/apply:os.system ['true']", "unknown key"),
    ],
)
def test_faults_of_the_yaml(tmp_path, config, message):
    with pytest.raises(DataError, match=message):
        read_folder(by_hand(tmp_path / "d", config))


def test_ids_missing_from_the_table_and_nan_are_told_when_read(tmp_path):
    path = by_hand(tmp_path / "d", labels="id,name\n9,Other\n")
    with pytest.raises(DataError, match=r"label id missing.*a\.png.*found 7"):
        read_folder(path)["a"]
    by_hand(path)
    bad = np.ones((30, 40), np.float32)
    bad[3, 4] = np.nan
    write_volume(path / "images" / "a.tif", Volume(bad, "yx", (25, 25)))
    with pytest.raises(DataError, match=r"not finite.*a\.tif.*1 pixels"):
        read_folder(path)["a"]
    assert read_folder(path)["b"].name == "b"


def test_labels_stored_as_floats(tmp_path):
    path = by_hand(tmp_path / "d")
    (path / "labels" / "a.png").unlink()
    ids = np.full((30, 40), 7, np.float32)
    write_volume(path / "labels" / "a.tif", Volume(ids, "yx", (25, 25)))
    assert read_folder(path)["a"].labels.numpy().dtype.kind == "i"
    ids[0, 0] = 6.5
    write_volume(path / "labels" / "a.tif", Volume(ids, "yx", (25, 25)))
    with pytest.raises(DataError, match="whole numbers"):
        read_folder(path)["a"]


def test_names_that_are_no_file_names(tmp_path):
    for name in ("../x", ".hidden", "a/b"):
        with pytest.raises(OutputError, match="no file name"):
            write_folder(Dataset("d", [name], make), tmp_path / "d")
    assert yaml.safe_load((tmp_path / "d" / "dataset.yaml").read_text())["name"] == "d"


def test_loading_works_in_other_processes(tmp_path):
    import pickle

    made = read_folder(by_hand(tmp_path / "d"))
    again = pickle.loads(pickle.dumps(made))
    assert np.array_equal(again["a"].image.numpy(), made["a"].image.numpy())


def test_points_of_every_sample_return_digit_by_digit(tmp_path):
    rng = np.random.default_rng(0)
    tables = {
        "a": pd.DataFrame(rng.random((40, 2)) * 30, columns=["y", "x"]).assign(
            score=rng.random(40), region=["NA", "", "CTX", "null"] * 10, marker="cFos"
        ),
        "b": pd.DataFrame({"y": [], "x": []}, dtype=float),
        "c": pd.DataFrame({"id": [7], "x": [1 / 3], "y": [2.0], "label": [1]}),
    }

    def load(name):
        return Sample(name, Volume(np.ones((30, 40), np.uint8), "yx", (1, 1)), points=points(name))

    def points(name):
        return Points(tables[name]) if name in tables else None

    data = Dataset("cells", ["a", "b", "c", "none"], load)
    again = read_folder(write_folder(data, tmp_path / "d"))
    for name, table in tables.items():
        found = again[name].points
        assert np.array_equal(found.coordinates, table[["y", "x"]].to_numpy())
        for column in table.columns:
            assert found.table[column].tolist() == table[column].tolist()
    assert again["none"].points is None
    file = tmp_path / "d" / "points" / "c.csv"
    file.write_text("y,x\n1,2\n1,inf\n")
    with pytest.raises(DataError, match=r"c\.csv.*line 3: x is infinite"):
        again["c"]
