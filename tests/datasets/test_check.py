"""check lists every fault, each with its file; a sound folder has none."""

import numpy as np
import pytest
from PIL import Image

from brodmann.core import DataError, Volume
from brodmann.datasets.check import check
from brodmann.io import write_volume

YAML = """
spacing_um: [25, 25]
subjects: {s0: m0, s1: m1, s2: m2, s3: m3, s4: m4, s5: m5}
splits: {train: [s0, s1, s2, s3], test: [s4, s5]}
"""


def image_of(i, shape=(40, 50)):
    rng = np.random.default_rng(i)
    rough = rng.integers(20, 200, (5, 5)).repeat(16, 0).repeat(16, 1)[: shape[0], : shape[1]]
    return (rough + rng.integers(0, 50, shape)).astype(np.uint8)


def labels_of(i, shape=(40, 50)):
    rng = np.random.default_rng(100 + i)
    return (
        rng.choice([0, 1, 2], (5, 5))
        .repeat(16, 0)
        .repeat(16, 1)[: shape[0], : shape[1]]
        .astype("u1")
    )


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "d"
    for part in ("images", "labels", "points"):
        (path / part).mkdir(parents=True)
    (path / "dataset.yaml").write_text(YAML)
    (path / "labels.csv").write_text("id,name\n1,Cortex\n2,Thalamus\n255,ignore\n")
    for i in range(6):
        put(path, "images", i, image_of(i))
        put(path, "labels", i, labels_of(i))
        (path / "points" / f"s{i}.csv").write_text("y,x\n3,4\n")
    return path


def put(path, part, i, array, suffix=".tif"):
    axes = {2: "yx", 3: "cyx", 4: "czyx"}[array.ndim]
    spacing = (25,) * (len(axes) - ("c" in axes))
    write_volume(path / part / f"s{i}{suffix}", Volume(array, axes, spacing))


def found(path, severity=None):
    return [(f.file, f.what) for f in check(path) if severity in (None, f.severity)]


def test_a_sound_folder_has_no_faults(folder):
    assert check(folder) == []


def test_every_fault_is_listed_at_once(folder):
    whole = (folder / "images" / "s0.tif").read_bytes()
    (folder / "images" / "s0.tif").write_bytes(whole[: len(whole) // 2])
    ids = labels_of(1)
    ids[:2] = 9
    ids[5, 5] = 17
    put(folder, "labels", 1, ids)
    put(folder, "labels", 2, labels_of(2)[:30])
    bad = image_of(3).astype(np.float32)
    bad[0, :3] = np.nan
    put(folder, "images", 3, bad)
    (folder / "labels" / "s4.tif").unlink()
    put(folder, "labels", 44, labels_of(4))
    (folder / "labels.csv").write_text("id,name\n1,Cortex\n2,Thalamus\n255,ignore\n")
    faults = [(f.file, f.what, f.found) for f in check(folder) if f.severity == "error"]
    whats = {(file, what) for file, what, _ in faults}
    missing = "label id missing from labels.csv"
    assert ("images/s0.tif", "the file is cut short") in whats
    assert ("labels/s1.tif", missing, "id 9 on 100 pixels") in faults
    assert ("labels/s1.tif", missing, "id 17 on 1 pixels") in faults
    assert ("labels/s2.tif", "image and labels differ in shape") in whats
    nan = "the image holds values that are not finite (NaN or infinite)"
    assert ("images/s3.tif", nan, "3 pixels") in faults
    assert ("labels/s44.tif", "labels without an image") in whats
    assert ("images/s4.tif", "image without labels") in found(folder, "warning")
    assert all(f.fix for f in check(folder) if f.severity == "error")


@pytest.mark.parametrize(
    ("break_it", "severity", "file", "what"),
    [
        (lambda p: put(p, "labels", 0, np.zeros((40, 50), "u1")), "warning", "labels/s0.tif", "empty"),
        (lambda p: put(p, "labels", 0, np.full((40, 50), 255, "u1")), "warning", "labels/s0.tif", "empty"),
        (lambda p: put(p, "images", 0, np.full((40, 50), 9, "u1")), "warning", "images/s0.tif", "one value"),
        (lambda p: put(p, "labels", 0, labels_of(0) + 0.5), "error", "labels/s0.tif", "whole numbers"),
        (lambda p: put(p, "labels", 0, labels_of(0) + 0.0), "warning", "labels/s0.tif", "stored as floats"),
        (lambda p: put(p, "labels", 0, np.stack([labels_of(0)] * 3)), "error", "labels/s0.tif", "not colours"),
        (lambda p: put(p, "images", 0, np.stack([image_of(0)] * 2)), "error", "images/s0.tif", "number of channels"),
        (lambda p: put(p, "images", 0, image_of(0).astype("u2")), "warning", "images/s0.tif", "pixel type"),
        (lambda p: put(p, "images", 0, image_of(0), ".png"), "error", "images/s0.png", "several images of one name"),
        (lambda p: put(p, "labels", 0, labels_of(0), ".png"), "error", "labels/s0.tif", "several labels"),
        (lambda p: (p / "images" / "s0.tif").write_bytes(b""), "error", "images/s0.tif", "empty (0 bytes)"),
        (lambda p: (p / "images" / "notes.txt").write_text("x"), "warning", "images/notes.txt", "not an image"),
        (lambda p: (p / "points" / "s0.csv").write_text("y,x\n3,400\n"), "warning", "points/s0.csv", "outside"),
        (lambda p: (p / "points" / "s0.csv").write_text("y,x\n3,oops\n"), "error", "points/s0.csv", "1 of 1 points cannot be used"),
        (lambda p: (p / "points" / "s0.csv").write_text("z,y,x\n1,3,4\n"), "error", "points/s0.csv", "dimensions"),
        (lambda p: (p / "points" / "s9.csv").write_text("y,x\n3,4\n"), "error", "points/s9.csv", "without an image"),
        (lambda p: (p / "labels.csv").unlink(), "warning", "labels.csv", "no table"),
        (lambda p: (p / "labels.csv").write_text("id\n1\n"), "error", "labels.csv", "columns"),
        (lambda p: (p / "labels.csv").write_text("id,name\n1,A\n2,B\n3,C\n"), "warning", "labels.csv", "no label image holds"),
        (lambda p: retold(p, "s3]", "s3, s4]"), "error", "dataset.yaml", "several splits"),
        (lambda p: retold(p, "s3]", "s3, s3]"), "error", "dataset.yaml", "twice"),
        (lambda p: retold(p, "s3]", "sx]"), "error", "dataset.yaml", "not there"),
        (lambda p: retold(p, ", s3]", "]"), "warning", "dataset.yaml", "samples in no split"),
        (lambda p: retold(p, "test: [s4, s5]", "test: []"), "error", "dataset.yaml", "is empty"),
        (lambda p: retold(p, "s5: m5", "s5: m0"), "warning", "dataset.yaml", "leak: animals"),
        (lambda p: retold(p, "spacing_um: [25, 25]", "spacing_um: [20, 20]"), "warning", "images/s0.tif", "spacing is not that"),
        (lambda p: retold(p, "spacing_um: [25, 25]", "spacing: [25, 25]"), "error", "dataset.yaml", "unknown key"),
        (lambda p: retold(p, "spacing_um: [25, 25]", "spacing_um: [25, 25, 25]"), "error", "images/s0.tif", "3 numbers"),
    ],
)  # fmt: skip
def test_one_fault_at_a_time(folder, break_it, severity, file, what):
    break_it(folder)
    assert any(f == file and what in w for f, w in found(folder, severity)), check(folder)


def retold(path, old, new):
    file = path / "dataset.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_sizes_and_spacings_unlike_the_others(folder):
    retold(folder, "spacing_um: [25, 25]", "")
    write_volume(folder / "images" / "s0.tif", Volume(image_of(0), "yx", (10, 10)))
    put(folder, "images", 1, image_of(1, (10, 50)))
    put(folder, "labels", 1, labels_of(1, (10, 50)))
    warnings = found(folder, "warning")
    assert ("images/s0.tif", "spacing in um unlike the other samples") in warnings
    assert ("images/s1.tif", "its size is far from the median") in warnings


def test_a_class_only_in_the_test(folder):
    for i in range(4):
        put(folder, "labels", i, np.minimum(labels_of(i), 1))
    assert any("training never sees" in what for _, what in found(folder, "warning"))


def test_twins_across_the_split_also_mirrored(folder):
    put(folder, "labels", 4, labels_of(0)[:, ::-1])
    put(folder, "images", 5, image_of(2)[::-1])
    leaks = [f for f in check(folder) if f.what.startswith("leak")]
    assert [(f.file, f.what.split("same ")[1]) for f in leaks] == [
        ("labels/s4", "labels as s0, mirrored along x"),
        ("images/s5", "images as s2, mirrored along y"),
    ]


@pytest.mark.filterwarnings("error")
def test_a_broken_image_does_not_hide_the_leaks_of_others(folder):
    bad = image_of(0).astype(np.float32)
    bad[6] = np.inf
    put(folder, "images", 0, bad)
    put(folder, "images", 5, image_of(2))
    assert [f for f, what in found(folder) if what.startswith("leak")] == ["images/s5"]


def test_an_empty_and_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such dataset folder"):
        check(tmp_path / "nowhere")
    assert [f.what for f in check(tmp_path)] == ["the dataset is empty"]


def test_volumes_and_progress(tmp_path):
    path = tmp_path / "v"
    (path / "images").mkdir(parents=True)
    values = np.random.default_rng(0).normal(size=(6, 20, 30)).astype(np.float32)
    values[2, 3, 4] = np.inf
    write_volume(path / "images" / "a.nii.gz", Volume(values, "zyx", (5, 2, 2)))
    Image.fromarray(np.eye(20, dtype=np.uint8)).save(path / "images" / "b.png")
    seen = []
    findings = check(path, lambda *told: seen.append(told))
    assert seen == [("check", 1, 2, "a"), ("check", 2, 2, "b")]
    assert ("images/a.nii.gz", "1 pixels") in [(f.file, f.found) for f in findings]
    assert any(f.file == "images/b.png" and "spacing" in f.what for f in findings)
