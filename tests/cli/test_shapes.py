"""`brodmann shapes` on files."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.io import write_volume
from brodmann.postprocess.shapes import read_swc

SPACING = (0.03, 0.01, 0.01)


@pytest.fixture
def labels(tmp_path):
    grid = np.zeros((16, 24, 60), np.uint32)
    grid[4:9, 4:12, 5:55] = 70_000
    grid[10:13, 14:22, 5:30] = 3
    grid[0, 0, 0] = 9
    path = tmp_path / "labels.zarr"
    write_volume(path, Volume(grid, "zyx", SPACING), labels=True)
    return path


def run(*args):
    return CliRunner().invoke(app, ["shapes", *map(str, args)])


def test_files_and_table(labels, tmp_path):
    out = tmp_path / "out"
    done = run(labels, out, "--largest", 2, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [row["id"] for row in result["shapes"]] == [70_000, 3] and result["segments"] == 3
    first = result["shapes"][0]
    assert first["voxels"] == 5 * 8 * 50
    assert first["volume_um3"] == pytest.approx(first["voxels"] * 3e-6)
    box = 2 * (0.15 * 0.08 + 0.15 * 0.5 + 0.08 * 0.5)
    assert first["area_um2"] == pytest.approx(box, rel=0.1)
    assert first["length_um"] == pytest.approx(read_swc(out / "70000.swc").length_um, rel=1e-4)
    assert 0.48 < first["length_um"] < 0.6 and not first["branch_points"]
    assert sorted(p.name for p in out.iterdir()) == [
        "3.ply", "3.swc", "70000.ply", "70000.swc", "shapes.csv"
    ]  # fmt: skip
    rows = list(csv.DictReader((out / "shapes.csv").open(encoding="utf-8")))
    assert [int(row["voxels"]) for row in rows] == [row["voxels"] for row in result["shapes"]]


def test_only_what_is_asked_for(labels, tmp_path):
    done = run(labels, tmp_path / "a", "--ids", "9,3", "--no-skeleton", "--format", "stl")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["3.stl", "9.stl", "shapes.csv"]
    assert "area um2" in done.stdout and "length" not in done.stdout
    done = run(labels, tmp_path / "b", "--ids", "3", "--no-mesh")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["3.swc", "shapes.csv"]
    small = run(labels, tmp_path / "c", "--ids", "3", "--keep", "0.3", "--smooth", "5")
    full = run(labels, tmp_path / "d", "--ids", "3")
    assert small.exit_code == full.exit_code == 0
    sizes = [(tmp_path / name / "3.ply").stat().st_size for name in "cd"]
    assert sizes[0] < 0.5 * sizes[1]


@pytest.mark.parametrize(
    "args, words",
    [
        (["--ids", "3,8"], "found id 8"),
        (["--ids", "0"], "background"),
        (["--ids", "3,x"], "parted by commas"),
        (["--ids", "-4"], "found id -4"),
        ([], "--ids or --largest"),
        (["--ids", "3", "--largest", "2"], "--ids or --largest"),
        (["--ids", "3", "--format", "obj"], "ply or stl"),
        (["--ids", "3", "--keep", "0"], "(0, 1]"),
        (["--ids", "3", "--no-mesh", "--no-skeleton"], "neither"),
    ],
)
def test_bad_words_are_one_line_and_exit_2(labels, tmp_path, args, words):
    done = run(labels, tmp_path / "out", *args)
    assert done.exit_code == 2 and words in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("brodmann: ")
    assert not (tmp_path / "out" / "shapes.csv").exists()


def test_a_picture_is_no_label_volume(tmp_path):
    write_volume(tmp_path / "a.tif", Volume(np.ones((8, 9), np.uint8), "yx", (1, 1)))
    done = run(tmp_path / "a.tif", tmp_path / "out", "--largest", 1)
    assert done.exit_code == 2 and "zyx" in done.stderr
