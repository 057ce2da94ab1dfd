"""Scoring files and folders, against the same scores from arrays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sklearn.metrics import f1_score, jaccard_score

from brodmann.core import DataError, LabelMap, keyed_rng
from brodmann.metrics import surface_distances
from brodmann.metrics.score_regions import pair_files, parse_spacing, score_regions, tables

TABLE = """id,name,acronym,parent,color
4,Ventral posterior,VP,10,ff0000
7,Lateral geniculate,LG,10,00ff00
2,CA1,CA1,11,0000ff
9,Subiculum,SUB,11,00ffff
10,Thalamus,TH,,808080
11,Hippocampus,HPF,,808080
255,ignore,ignore,,000000
"""
IDS = [4, 7, 2, 9]


def blocks(*key, values=(0, 4, 7, 2), shape=(48, 60)):
    rng = keyed_rng(6, *key)
    coarse = rng.choice(values, (shape[0] // 6, shape[1] // 6))
    return coarse.repeat(6, 0).repeat(6, 1).astype(np.uint16)


@pytest.fixture
def folders(tmp_path):
    """Three images; truth with spacing and some ignore, predictions shifted by two pixels."""
    images = {}
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
    for name in ("m1", "m2", "m3"):
        truth = blocks(name)
        prediction = np.roll(truth, 2, 1)
        truth[:5, :9] = 255
        images[name] = truth, prediction
        tifffile.imwrite(
            tmp_path / "truth" / f"{name}.tif",
            truth,
            resolution=(400, 1000),  # x, y per centimetre
            resolutionunit="CENTIMETER",
        )
        tifffile.imwrite(tmp_path / "pred" / f"{name}.tiff", prediction)
    (tmp_path / "truth" / "notes.txt").write_text("not an image", encoding="utf-8")
    (tmp_path / "labels.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path, images


def run(folder, **options):
    return score_regions(folder / "pred", folder / "truth", folder / "labels.csv", **options)


def flat(images):
    truth = np.concatenate([t.ravel() for t, _ in images])
    prediction = np.concatenate([p.ravel() for _, p in images])
    return truth[truth != 255], prediction[truth != 255]


def test_folders_against_sklearn(folders):
    folder, images = folders
    calls = []
    found = run(folder, report=lambda *call: calls.append(call))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["kind"], found["classes"], found["images"]) == ("regions", 5, 3)
    assert found["background"] is False and found["rollup"] is False
    truth, prediction = flat(images.values())
    present = [4, 7, 2]
    dice = f1_score(truth, prediction, labels=present, average=None)
    pooled = found["pooled"]
    assert pooled["mean_dice"] == pytest.approx(dice.mean())
    iou = jaccard_score(truth, prediction, labels=present, average="macro")
    assert pooled["mean_iou"] == pytest.approx(iou)
    rows = {row["id"]: row for row in pooled["per_class"]}
    assert list(rows) == IDS
    assert [rows[id_]["dice"] for id_ in present] == pytest.approx(list(dice))
    assert rows[9]["dice"] is None and not rows[9]["counted"]
    assert rows[4]["truth_pixels"] == (truth == 4).sum()
    assert rows[4]["pred_pixels"] == (prediction == 4).sum()
    each = []
    for image, name in zip(found["per_image"], ("m1", "m2", "m3")):
        assert image["name"] == name and "per_class" not in image
        each.append(f1_score(*flat([images[name]]), labels=present, average="macro"))
        assert image["mean_dice"] == pytest.approx(each[-1])
    assert found["over_images"]["mean_dice"] == pytest.approx(np.mean(each))
    assert found["over_images"]["sd_dice"] == pytest.approx(np.std(each, ddof=1))
    assert [call[1:] for call in calls] == [(1, 3, "m1"), (2, 3, "m2"), (3, 3, "m3")]


def test_two_files_background_exclude_and_classes_of_an_image(folders):
    folder, images = folders
    found = score_regions(
        folder / "pred" / "m2.tiff",
        folder / "truth" / "m2.tif",
        LabelMap.from_csv(folder / "labels.csv"),
        background=True,
        exclude=["LG", "2"],
        per_image_classes=True,
    )
    truth, prediction = flat([images["m2"]])
    expected = f1_score(truth, prediction, labels=[0, 4], average="macro")
    assert found["pooled"]["mean_dice"] == pytest.approx(expected)
    assert found["excluded"] == ["LG", "2"]
    assert found["over_images"]["sd_dice"] is None
    assert found["per_image"][0]["per_class"] == found["pooled"]["per_class"]
    assert [row["id"] for row in found["pooled"]["per_class"]] == [0, *IDS]


def test_rollup_against_rolled_up_images(folders):
    folder, images = folders
    found = run(folder, rollup=True)
    truth, prediction = flat(images.values())
    lut = np.zeros(12, int)
    lut[[4, 7, 2, 9]] = 10, 10, 11, 11
    expected = f1_score(lut[truth], lut[prediction], labels=[10, 11], average=None)
    assert [row["acronym"] for row in found["pooled"]["per_class"]] == ["TH", "HPF"]
    assert [row["dice"] for row in found["pooled"]["per_class"]] == pytest.approx(list(expected))
    assert found["classes"] == 3
    with pytest.raises(DataError, match="VP"):
        run(folder, rollup=True, exclude=["VP"])


@pytest.mark.parametrize("rollup", [False, True])
def test_surface_uses_the_spacing_of_the_truth(folders, rollup):
    folder, images = folders
    options = {"surface": True, "tolerance_um": 26.0, "rollup": rollup}
    found = run(folder, **options, per_image_classes=True)
    regions = [[4, 7], [2]] if rollup else [[4], [7], [2]]
    hausdorff, nsd = [], []
    for image in found["per_image"]:
        truth, prediction = images[image["name"]]
        for row, region in zip(image["per_class"], regions):
            one = surface_distances(
                np.isin(truth, region),
                np.isin(prediction, region),
                (10.0, 25.0),
                tolerance_um=26.0,
                ignore=truth == 255,
            )
            hausdorff.append(one.hausdorff_um)
            nsd.append(one.nsd)
            assert row["surface"]["hausdorff_um"] == pytest.approx(one.hausdorff_um)
            assert row["surface"]["nsd"] == pytest.approx(one.nsd)
        if not rollup:
            assert image["per_class"][3]["surface"] is None
    pooled = found["pooled"]["surface"]
    assert pooled["mean_hausdorff_um"] == pytest.approx(np.mean(hausdorff))
    assert pooled["mean_nsd"] == pytest.approx(np.mean(nsd))
    assert pooled["tolerance_um"] == 26 and pooled["matched"] == 3 * len(regions)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_surface_options(folders):
    folder, _ = folders
    with pytest.raises(DataError, match="--tolerance-um"):
        run(folder, surface=True)
    with pytest.raises(DataError, match="--surface"):
        run(folder, tolerance_um=3)
    paths = folder / "pred" / "m1.tiff", folder / "pred" / "m1.tiff", folder / "labels.csv"
    with pytest.raises(DataError, match="spacing"):
        score_regions(*paths, surface=True, tolerance_um=1)
    found = score_regions(*paths, surface=True, tolerance_um=1, spacing_um=parse_spacing("2,3"))
    assert found["pooled"]["surface"]["mean_nsd"] == 1
    with pytest.raises(DataError, match="25um"):
        parse_spacing("25um")


def test_missing_partners(folders):
    folder, _ = folders
    (folder / "pred" / "m2.tiff").rename(folder / "pred" / "x2.tiff")
    with pytest.raises(DataError, match=r"without a prediction.*m2"):
        run(folder)
    (folder / "truth" / "m2.tif").unlink()
    with pytest.raises(DataError, match=r"predictions without.*x2"):
        run(folder)
    with pytest.raises(DataError, match="a file against a file"):
        pair_files(folder / "pred", folder / "truth" / "m1.tif")
    with pytest.raises(DataError, match="no such file"):
        pair_files(folder / "pred", folder / "true")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        pair_files(folder / "empty", folder / "empty")
    tifffile.imwrite(folder / "pred" / "m1.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match=r"two files of one name.*m1\.tif, m1\.tiff"):
        run(folder)


def test_bad_images_are_named(folders):
    folder, images = folders
    file = folder / "pred" / "m3.tiff"
    tifffile.imwrite(file, images["m3"][1][:40])
    with pytest.raises(DataError, match=r"m3.*truth \(48, 60\), prediction \(40, 60\)"):
        run(folder)
    wrong = images["m3"][1].copy()
    wrong[0, 20:22] = 33, 10
    tifffile.imwrite(file, wrong)
    with pytest.raises(DataError, match=r"m3: prediction.*10, 33"):
        run(folder)
    tifffile.imwrite(file, images["m3"][1].astype(np.float32))
    with pytest.raises(DataError, match=r"m3: prediction.*float32"):
        run(folder)


def test_tables_hold_every_row(folders):
    folder, _ = folders
    plain = tables(run(folder))
    assert [row[0] for row in plain[0][2]] == [
        "VP",
        "LG",
        "CA1",
        "SUB (not counted)",
        "mean of 3",
    ]
    found = tables(run(folder, surface=True, tolerance_um=30), per_image=True)
    assert len(found) == len(plain) + 1
    for _, head, rows in found:
        assert rows and all(len(row) == len(head) for row in rows)


@pytest.mark.real
def test_real_sections(tmp_path):
    root = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = root / "sections" / "brain_100um" / "labels.tif"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    volume = tifffile.imread(path)
    truth, prediction = volume[..., 30], volume[..., 31]
    ids = [int(id_) for id_ in np.union1d(truth, prediction) if id_]
    rows = [f"{id_},region {id_},r{id_},,808080" for id_ in ids]
    (tmp_path / "labels.csv").write_text("\n".join(["id,name,acronym,parent,color", *rows]))
    for name, image in (("t", truth), ("p", prediction)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.ascontiguousarray(image))
    found = score_regions(tmp_path / "p.tif", tmp_path / "t.tif", tmp_path / "labels.csv")
    expected = f1_score(truth.ravel(), prediction.ravel(), labels=ids, average="macro")
    assert found["pooled"]["mean_dice"] == pytest.approx(expected)
    assert found["classes"] == len(ids) + 1 > 50
