"""`brodmann score neurons` on files."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.io import write_volume
from brodmann.metrics.clusters import cluster_scores


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 5, (2, 4, 4)), np.ones((2, 4, 4), int)).astype(np.uint32)
    segments = rng.integers(0, 7, truth.shape).astype(np.uint16)
    for name, data in (("truth.zarr", truth), ("pred.tif", segments)):
        write_volume(tmp_path / name, Volume(data, "zyx", (0.03, 0.006, 0.006)), labels=True)
    return tmp_path, truth, segments


def run(*args):
    return CliRunner().invoke(app, ["score", "neurons", *map(str, args)])


def test_numbers_are_those_of_the_function(files):
    folder, truth, segments = files
    pair = folder / "pred.tif", folder / "truth.zarr"
    for args, options in (
        ([], {}),
        (["--ignore", "3"], {"ignore": 3}),
        (["--ignore", "-1", "--workers", "2"], {"ignore": None}),
        (["--border-voxels", "1"], {"border_voxels": 1}),
        (["--border-um", "0.006"], {"border_um": 0.006, "spacing_um": (0.03, 0.006, 0.006)}),
        (["--border-um", "0.006", "--volumetric"],
         {"border_um": 0.006, "spacing_um": (0.03, 0.006, 0.006), "in_plane": False}),
        (["--per-slice", "--zero", "singletons"], {"per_slice": True, "zero": "singletons"}),
    ):  # fmt: skip
        done = run(*pair, "--json", *args)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["scores"]
        assert found == pytest.approx(cluster_scores(truth, segments, **options).as_dict())


def test_people_see_a_table_and_where_the_errors_went(files):
    folder, truth, _ = files
    done = run(folder / "pred.tif", folder / "truth.zarr", "--errors", folder / "e.csv")
    assert done.exit_code == 0 and "arand" in done.stdout and "e.csv" in done.stdout
    rows = list(csv.DictReader((folder / "e.csv").open(encoding="utf-8")))
    assert {int(row["neuron"]) for row in rows} == set(np.unique(truth).tolist()) - {0}


def test_errors_are_of_the_voxels_that_count(files):
    folder, truth, segments = files
    border = ["--border-um", "0.006", "--errors", folder / "e.csv"]
    assert run(folder / "pred.tif", folder / "truth.zarr", *border).exit_code == 0
    rows = list(csv.DictReader((folder / "e.csv").open(encoding="utf-8")))
    expected = cluster_scores(truth, segments, border_um=0.006, spacing_um=(0.03, 0.006, 0.006))
    for name in ("vi_split", "vi_merge"):
        assert sum(float(r[name]) for r in rows) == pytest.approx(getattr(expected, name))


def test_bad_input_is_one_line_and_exit_2(files):
    folder, truth, _ = files
    write_volume(folder / "small.tif", Volume(truth[:2].astype(np.uint16), "zyx", (1, 1, 1)))
    write_volume(folder / "one.tif", Volume(np.ones_like(truth, np.uint8), "zyx", (1, 1, 1)))
    for pred, true, words in (
        ("small.tif", "truth.zarr", "shape"),
        ("pred.tif", "one.tif", "one neuron"),
        ("pred.tif", "gone.tif", "gone.tif"),
    ):
        done = run(folder / pred, folder / true)
        assert done.exit_code == 2 and words in done.stderr
        assert done.stderr.count("\n") == 1
