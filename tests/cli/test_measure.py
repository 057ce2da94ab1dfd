"""`brodmann measure attributes` on files and folders."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from brodmann.cli import measure
from brodmann.cli.app import Verbs
from brodmann.core import Dataset, Label, LabelMap, Sample, Volume, keyed_rng
from brodmann.datasets.folder import write_folder
from brodmann.io import write_volume
from brodmann.metrics.attributes import ATTRIBUTES, attributes_of

IDS = {"vessel": 1, "cell": 2, "axon": 3}
NAMED = "cell=2,vessel=1,axon=3"
SPACING = (2.0, 0.5, 0.7)
ROOT = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[3] / "shared" / "data"))


def volume(*key, shape=(9, 30, 34)):
    """Boxes of cells, a vessel across, axons strewn."""
    rng = keyed_rng(0, "boxes", *key)
    labels = np.where(rng.random(shape) < 0.08, 3, 0).astype(np.uint8)
    for _ in range(25):
        at = [int(rng.integers(0, n - 2)) for n in shape]
        labels[tuple(slice(a, a + int(rng.integers(2, 6))) for a in at)] = 2
    labels[:, 14:16] = 1
    return labels


app = typer.Typer(cls=Verbs)


@app.callback()
def _options(debug: bool = typer.Option(False, "--debug")) -> None:
    pass


app.add_typer(measure.app, name="measure")


def run(*args):
    return CliRunner().invoke(app, ["measure", "attributes", *map(str, args)])


def table(path):
    return list(csv.DictReader(path.open(encoding="utf-8")))


@pytest.fixture
def file(tmp_path):
    labels = volume()
    write_volume(tmp_path / "cube.zarr", Volume(labels, "zyx", SPACING), labels=True)
    return tmp_path / "cube.zarr", labels


def close(row, wanted):
    for name, value in wanted.items():
        head = next(key for key in row if key.startswith(name))
        if math.isnan(value):
            assert row[head] in ("", None)
        else:
            assert float(row[head]) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", ["cube.zarr", "cube.tif", "cube.nii.gz", "cube.h5"])
def test_slices_of_any_format(tmp_path, name):
    labels = volume()
    path = write_volume(tmp_path / name, Volume(labels, "zyx", SPACING), labels=True)
    out = tmp_path / "deep" / "table.csv"
    done = run(path, "--ids", NAMED, "--out", out)
    assert done.exit_code == 0, done.output
    rows = table(out)
    assert len(rows) == len(labels)
    for row, plane in zip(rows, labels):
        close(row, attributes_of(plane, SPACING[1:], **IDS))
    assert str(out) in done.stdout and "table.png" in done.stdout
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_the_volume_as_json_and_nothing_else(file, tmp_path):
    path, labels = file
    out = tmp_path / "v.csv"
    done = run(path, "--ids", NAMED, "--per", "volume", "--connectivity", 26, "--min-voxels", 30,
               "--out", out, "--json")  # fmt: skip
    result = json.loads(done.stdout)
    wanted = attributes_of(labels, SPACING, **IDS, connectivity=26, min_voxels=30)
    close(result["rows"][0], wanted)
    close(table(out)[0], wanted)
    assert wanted["cell_count"] < attributes_of(labels, SPACING, **IDS)["cell_count"]
    assert result["plot"] is None and result["ids"] == {**IDS, "ignore": None}
    assert result["means"]["cell_count"]["mean"] == wanted["cell_count"]


def test_blocks_whole_and_cut(file, tmp_path):
    path, labels = file
    counts = {}
    for cut in ((), ("--cut-cells",)):
        out = tmp_path / f"b{len(cut)}.csv"
        assert run(path, "--ids", NAMED, "--block-um", "8,8,7", "--out", out, *cut).exit_code == 0
        rows = table(out)
        assert [rows[0][key] for key in ("depth", "height", "width")] == ["4", "16", "10"]
        counts[len(cut)] = sum(float(row["cell_count"]) for row in rows)
    assert counts[0] == attributes_of(labels, SPACING, **IDS)["cell_count"] < counts[1]
    out = tmp_path / "voxels.csv"
    assert run(path, "--ids", NAMED, "--block", "4,16,10", "--out", out).exit_code == 0
    assert out.read_bytes() == (tmp_path / "b0.csv").read_bytes()


def test_published_distances_are_in_pixels_and_called_so(file, tmp_path):
    path, labels = file
    out = tmp_path / "p.csv"
    assert run(path, "--ids", NAMED, "--published-distance", "--out", out).exit_code == 0
    rows = table(out)
    assert "cell_distance_px" in rows[0] and "cell_distance_um" not in rows[0]
    close(rows[4], attributes_of(labels[4], SPACING[1:], **IDS, published_distance=True))


def folder(path, names=("a", "b", "c"), ignore=255):
    tree = LabelMap(
        [Label(1, "blood vessel", "v"), Label(2, "cell body", "c"), Label(3, "axon", "a"),
         Label(8, "glia", "g")], ignore=ignore,
    )  # fmt: skip
    planes = {}
    for name in names:
        planes[name] = volume(name)[4]
        planes[name][:3] = 255
        planes[name][-2:, :5] = 8

    def load(name):
        grid = Volume(np.zeros(planes[name].shape, np.uint8), "yx", (1.5, 1.5))
        return Sample(name, grid, grid.like(planes[name]))

    return write_folder(Dataset("sections", list(names), load, tree), path), planes


def test_a_dataset_folder_says_its_ids_itself(tmp_path):
    path, planes = folder(tmp_path / "sections")
    out = tmp_path / "t.csv"
    done = run(path, "--out", out)
    assert done.exit_code == 0, done.output
    rows = table(out)
    assert [row["sample"] for row in rows] == ["a", "b", "c"]
    for row in rows:
        close(row, attributes_of(planes[row["sample"]], (1.5, 1.5), **IDS, ignore=255))
        assert 0.8 < float(row["known"]) < 1
    assert out.with_suffix(".png").is_file()
    # An id named by hand goes before the table's.
    assert run(path, "--ids", "cell=8", "--out", out, "--no-plot").exit_code == 0
    close(
        table(out)[0], attributes_of(planes["a"], (1.5, 1.5), vessel=1, cell=8, axon=3, ignore=255)
    )


def test_a_label_table_of_its_own(file, tmp_path):
    path, labels = file
    names = tmp_path / "labels.csv"
    names.write_text("id,name\n1,Vessels\n2,Cells\n3,myelinated axon\n", encoding="utf-8")
    out = tmp_path / "t.csv"
    assert run(path, "--labels", names, "--out", out).exit_code == 0
    close(table(out)[2], attributes_of(labels[2], SPACING[1:], **IDS))


def test_no_plot_where_none_is_wanted(file, tmp_path):
    out = tmp_path / "t.csv"
    assert run(file[0], "--ids", NAMED, "--out", out, "--no-plot").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cube.zarr", "t.csv"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--ids", "cell=2,vessel=1"], "outside the vocabulary"),
        (["--ids", "vessel=1,axon=3"], "no id is that of cells"),
        ([], "do not say which ids"),
        (["--ids", "cell:2"], "NAME=ID"),
        (["--ids", "cell=2,soma=3"], "given twice"),
        (["--ids", "cell=2,vessel=2,axon=3"], "one id"),
        (["--ids", NAMED, "--per", "row"], "slice, volume or block"),
        (["--ids", NAMED, "--per", "block"], "size of blocks"),
        (["--ids", NAMED, "--connectivity", "5"], "4 or 8"),
        (["--ids", NAMED, "--axes", "zxy"], "yx or zyx"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(file, tmp_path, args, words):
    done = run(file[0], *args, "--out", tmp_path / "t.csv")
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1 and words in done.stderr
    assert not (tmp_path / "t.csv").exists()


def test_labels_that_are_no_labels(tmp_path):
    scores = tmp_path / "scores.tif"
    write_volume(scores, Volume(np.full((3, 8, 8), 0.5, np.float32), "zyx", SPACING))
    colours = tmp_path / "rgb.tif"
    write_volume(colours, Volume(np.zeros((3, 8, 8), np.uint8), "cyx", SPACING[1:]))
    out = tmp_path / "t.csv"
    for path, words in ((scores, "whole numbers"), (colours, "one channel"),
                        (tmp_path / "none.tif", "no such file")):  # fmt: skip
        done = run(path, "--ids", NAMED, "--out", out)
        assert done.exit_code == 2 and words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert run(scores, "--ids", NAMED, "--out", tmp_path / "t.xlsx").exit_code == 2


def test_cells_may_be_none(file, tmp_path):
    out = tmp_path / "t.csv"
    done = run(file[0], "--ids", "vessel=1,cell=none,axon=3,other=2", "--out", out)
    assert done.exit_code == 0
    row = table(out)[0]
    assert row["cell_count"] == "" and float(row["vessel_density"]) > 0


@pytest.mark.real
def test_planes_of_the_tomography_volume(tmp_path):
    planes = ROOT / "xray" / "vp_microstructure.tif"
    if not planes.is_file():
        pytest.skip("no real data: set BRODMANN_DATA or put it at ../shared/data")
    done = run(planes, "--axes", "zyx", "--spacing-um", "1.17,1.17,1.17",
               "--ids", "axon=1,vessel=2,cell=3", "--out", tmp_path / "t.csv", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [row["cell_count"] for row in result["rows"]] == [4, 4, 6, 6]
    assert result["means"]["axon_density"]["mean"] == pytest.approx(13310 / 38400)
    assert set(ATTRIBUTES) <= set(result["rows"][0])
