"""`brodmann map`: a brain on disk to cells, and to cells per region."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.io import write_volume
from brodmann.io.points import read_points
from brodmann.problems.cells import Intensity, LaplacianOfGaussian
from brodmann.problems.cells.detector import find_cells

SPACING = (4.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def brain():
    """Cells of 6 um in a dim brain, and where they are."""
    rng = np.random.default_rng(0)
    shape = (20, 90, 80)
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    inside = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 0.7
    at = rng.choice(np.argwhere(inside), 40, replace=False)
    image = 20 + 60.0 * inside + rng.normal(0, 2, shape)
    for place in at:
        d = [(np.arange(n) - p) * s for n, p, s in zip(shape, place, SPACING)]
        r = d[0][:, None, None] ** 2 + d[1][:, None] ** 2 + d[2] ** 2
        image += 500 * np.exp(-r / 18)
    return Volume(image.astype(np.uint16), "zyx", SPACING), at, inside


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    detector = LaplacianOfGaussian(SPACING, (3.0, 3.0, 3.0), (1, 2, 2), 60.0)
    folder = tmp_path_factory.mktemp("model") / "log"
    detector.save(folder)
    return folder, detector


def run(*words):
    return CliRunner().invoke(app, ["map", *map(str, words)])


def test_a_brain_to_cells_and_regions(tmp_path, brain, model):
    volume, at, inside = brain
    folder, detector = model
    write_volume(tmp_path / "brain.zarr", volume)
    half = np.where(np.arange(80) < 40, 1, 2) * inside
    write_volume(tmp_path / "ids.tif", Volume(half.astype(np.uint16), "zyx", SPACING))
    pd.DataFrame({"id": [997, 1, 2], "acronym": ["root", "A", "B"], "name": ["root", "a", "b"],
                  "parent": [None, 997, 997]}).to_csv(tmp_path / "s.csv", index=False)  # fmt: skip
    done = run(tmp_path / "brain.zarr", "--model", folder, "--out", tmp_path / "d", "--json",
               "--workers", 1, "--block", "8,32,32", "--annotation", tmp_path / "ids.tif",
               "--structures", tmp_path / "s.csv")  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    cells = read_points(tmp_path / "d/cells.csv")
    expected = find_cells(detector, volume, Intensity(**result["intensity"]))
    assert np.array_equal(cells.coordinates, expected.coordinates)
    assert result["cells"] == len(cells) and abs(len(cells) - len(at)) <= 4
    assert 0 < result["tissue_share"] < 0.8
    table = pd.read_csv(tmp_path / "d/regions/regions.csv").set_index("acronym")
    at = np.rint(cells.coordinates).astype(int)
    ids = half[tuple(at.T)]
    counted = next(column for column in table.columns if "cells" in column)
    assert [table.loc[name, counted] for name in "AB"] == [(ids == 1).sum(), (ids == 2).sum()]
    assert (tmp_path / "d/regions/report.html").exists()
    told = run(tmp_path / "brain.zarr", "--model", folder, "--out", tmp_path / "d", "--workers", 1)
    assert told.exit_code == 0 and f"{len(cells)} in 20 x 90 x 80 voxels" in told.stdout


def test_planes_compressed_whole_are_copied_once(tmp_path, brain, model, monkeypatch):
    monkeypatch.setattr("brodmann.pipeline.cells.source.SMALL", 5000)
    monkeypatch.setattr("brodmann.pipeline.cells.source.COSTLY", 1.5)
    monkeypatch.setattr("brodmann.pipeline.cells.convert.VOXELS", 100_000)
    monkeypatch.setattr("brodmann.pipeline.cells.convert.CHUNK", 16)
    volume, _, _ = brain
    (tmp_path / "p").mkdir()
    for z, plane in enumerate(volume.data):
        tifffile.imwrite(tmp_path / f"p/z{z:02d}.tif", plane, compression="zlib", rowsperstrip=90)
    words = (tmp_path / "p", "--spacing", "4,2,2", "--model", model[0], "--workers", 1,
             "--everywhere", "--block", "20,30,40")  # fmt: skip
    plain = run(*words, "--out", tmp_path / "a")
    assert plain.exit_code == 0 and "--to-zarr BRAIN.zarr" in plain.stderr, plain.output
    copied = run(*words, "--out", tmp_path / "b", "--to-zarr", tmp_path / "brain.zarr")
    assert copied.exit_code == 0 and "--to-zarr" not in copied.stderr, copied.output
    again = run(*words, "--out", tmp_path / "c", "--to-zarr", tmp_path / "brain.zarr")
    assert again.exit_code == 0 and "copy" not in again.stderr
    assert (tmp_path / "a/cells.csv").read_bytes() == (tmp_path / "b/cells.csv").read_bytes()
    assert not (tmp_path / "brain.zarr.work").exists()


def test_what_is_refused_is_one_line(tmp_path, brain, model):
    volume, _, _ = brain
    write_volume(tmp_path / "brain.zarr", Volume(volume.data, "zyx", (5.0, 2.0, 2.0)))
    write_volume(tmp_path / "zeros.zarr", Volume(volume.data * 0, "zyx", SPACING))
    folder = model[0]
    for words, said in (
        ((tmp_path / "brain.zarr", "--model", folder), "add --resample"),
        ((tmp_path / "brain.zarr", "--model", tmp_path), "this is no detector"),
        ((tmp_path / "none.zarr", "--model", folder), "no such file"),
        ((tmp_path / "brain.zarr", "--model", folder, "--transform", "t"), "add --annotation"),
        ((tmp_path / "brain.zarr", "--model", folder, "--block", "1,2"), "3 whole numbers"),
        ((tmp_path / "brain.zarr", "--model", folder, "--slurm", "x.yaml"), "recipe of jobs"),
    ):
        done = run(*words, "--out", tmp_path / "d")
        assert done.exit_code == 2 and said in done.stderr, done.output
        assert done.stderr.count("\n") == 1
    zeros = run(tmp_path / "zeros.zarr", "--model", folder, "--out", tmp_path / "z")
    assert zeros.exit_code == 0 and "nothing stands out" in zeros.stdout
