"""`brodmann atlas` on files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.spatial.distance import cdist
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.io import write_volume

TREE = "id,acronym,name,parent\n3,all,all,\n1,A,first,3\n2,B,second,3\n"


def run(*args):
    return CliRunner().invoke(app, ["atlas", *map(str, args)])


@pytest.fixture
def folder(tmp_path):
    """20 x 12 x 16 voxels of 50 um: A in front, B behind; 200 cells at 25 um, as psr."""
    ids = np.zeros((20, 12, 16), np.uint32)
    ids[2:10, 1:11, 1:15] = 1
    ids[10:18, 1:11, 1:15] = 2
    write_volume(tmp_path / "atlas.tif", Volume(ids, "zyx", (50, 50, 50)), labels=True)
    (tmp_path / "tree.csv").write_text(TREE)
    rng = np.random.default_rng(0)
    front = np.column_stack(
        [rng.uniform(4, 19, 150), rng.uniform(2, 21, 150), rng.uniform(2, 29, 150)]
    )
    back = front[:50] + np.array([16, 0, 0])
    cells = pd.DataFrame(np.vstack([front, back]), columns=["z", "y", "x"])
    cells.to_csv(tmp_path / "cFos.csv", index=False)
    cells.assign(z=39 - cells["z"]).to_csv(tmp_path / "turned.csv", index=False)
    return tmp_path


def basics(folder, out="out"):
    return (
        "--annotation", folder / "atlas.tif", "--structures", folder / "tree.csv",
        "--annotation-orientation", "asr", "--out", folder / out,
    )  # fmt: skip


def test_count_and_roll_up(folder):
    done = run("count", folder / "cFos.csv", *basics(folder), "--spacing", "25,25,25", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["markers"][0]["marker"] == "cFos"
    assert result["markers"][0]["cells"]["region"] == 200
    regions = pd.read_csv(folder / "out" / "regions.csv").set_index("acronym")
    assert regions["cells"].to_dict() == {"all": 200, "A": 150, "B": 50}
    assert regions.loc["A", "density_per_mm3"] == pytest.approx(150 / (8 * 10 * 14 * 50**3 / 1e9))
    assert (folder / "out" / "report.html").stat().st_size > 20_000
    done = run(
        "rollup", folder / "out" / "regions.csv", "--structures", folder / "tree.csv",
        "--to", "all", "--out", folder / "major.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    row = pd.read_csv(folder / "major.csv").iloc[0]
    assert row["cells"] == 200 and row["cells_left"] == regions.loc["all", "cells_left"]
    assert row["density_per_mm3"] == pytest.approx(regions.loc["all", "density_per_mm3"], rel=1e-6)


def test_a_turned_image_and_micrometres(folder):
    options = ("--spacing", "25,25,25", "--orientation", "psr")
    done = run("count", folder / "turned.csv", *basics(folder), *options)
    assert done.exit_code == 2 and "needs the shape" in done.stderr
    done = run(
        "count", folder / "turned.csv", *basics(folder), *options, "--shape", "40,24,32", "--json"
    )
    assert json.loads(done.stdout)["markers"][0]["cells"]["region"] == 200
    table = pd.read_csv(folder / "turned.csv") * 25
    table.to_csv(folder / "um.csv", index=False)
    wrong = run("count", folder / "um.csv", *basics(folder), *options, "--shape", "40,24,32")
    assert wrong.exit_code == 2 and "unit" in wrong.stderr
    done = run(
        "count", folder / "um.csv", *basics(folder), *options, "--shape", "40,24,32", "--unit", "um",
        "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["markers"][0]["cells"]["region"] == 200
    found = pd.read_csv(folder / "out" / "regions.csv").set_index("acronym")["cells"]
    assert found.to_dict() == {"all": 200, "A": 150, "B": 50}


def test_two_markers_are_related(folder):
    near = pd.read_csv(folder / "cFos.csv").iloc[:100] + 0.1
    near.to_csv(folder / "NeuN.csv", index=False)
    done = run(
        "count", folder / "cFos.csv", folder / "NeuN.csv", *basics(folder), "--spacing", "25,25,25",
        "--tolerance-um", "8", "--proximity", "--draws", "9",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    both = pd.read_csv(folder / "out" / "coexpression.csv").set_index(["markers", "region"])
    assert both.loc[("NeuN with cFos", "all"), "share"] == 1
    first, second = (pd.read_csv(folder / f"{name}.csv") * 25 for name in ("cFos", "NeuN"))
    paired = (cdist(first, second) < 8).any(axis=1).sum()
    assert both.loc[("cFos with NeuN", "all"), "with_second"] == paired >= 100
    near = pd.read_csv(folder / "out" / "proximity.csv").set_index(["markers", "region"])
    assert near.loc[("NeuN to cFos", "A"), "ratio"] < 0.5


def test_a_brainreg_folder_as_annotation(folder):
    reg = folder / "reg"
    reg.mkdir()
    facts = {"atlas": "made_50um", "orientation": "psr", "voxel_sizes": ["25", "25", "25"]}
    (reg / "brainreg.json").write_text(json.dumps(facts))
    tifffile.imwrite(reg / "registered_atlas.tiff", tifffile.imread(folder / "atlas.tif"))
    done = run(
        "count", folder / "turned.csv", "--annotation", reg, "--structures", folder / "tree.csv",
        "--out", folder / "out", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = pd.read_csv(folder / "out" / "regions.csv").set_index("acronym")["cells"]
    assert found.to_dict() == {"all": 200, "A": 150, "B": 50}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "spacing of the points is not known"),
        (("--spacing", "25,25"), "three positive numbers"),
        (("--spacing", "25,25,25", "--tolerance-um", "5"), "need two markers"),
        (("--spacing", "25,25,25", "--shape", "4,4,4.5"), "whole numbers"),
        (("--spacing", "25,25,25", "--half", "top"), "a half is one of"),
        (("--spacing", "25,25,25", "--orientation", "xyz"), "orientation is three letters"),
        (("--spacing", "25,25,25", "--transform", "none.txt"), "cannot read this transform"),
    ],
)
def test_bad_options_are_one_line(folder, options, words):
    done = run("count", folder / "cFos.csv", *basics(folder), *options)
    assert done.exit_code == 2 and words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("brodmann")]) == 1


def test_files_that_hold_nothing_or_the_same(folder):
    (folder / "bad.csv").write_text("a,b\n1,2\n")
    done = run("count", folder / "bad.csv", *basics(folder), "--spacing", "25,25,25")
    assert done.exit_code == 2
    other = folder / "more"
    other.mkdir()
    (other / "cFos.csv").write_text((folder / "cFos.csv").read_text())
    done = run(
        "count", folder / "cFos.csv", other / "cFos.csv", *basics(folder), "--spacing", "25,25,25"
    )
    assert done.exit_code == 2 and "same marker" in done.stderr
