"""`brodmann map --classifier` and `brodmann run` of candidates, as a person types them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.io import write_volume
from brodmann.io.crops import read_crops
from brodmann.io.points import read_points
from brodmann.problems.candidates import CropClassifier
from brodmann.problems.candidates.net import build_crop_net
from brodmann.problems.cells import Contrast, LaplacianOfGaussian

SPACING = (4.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A brain of bright and of dim cells, a detector that finds both, and a classifier.

    The classifier is made by hand: what is bright in the middle is a cell.
    """
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    shape = (20, 90, 80)
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    inside = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 0.7
    image = 20 + 60.0 * inside + rng.normal(0, 2, shape)
    for number, spot in enumerate(rng.choice(np.argwhere(inside), 40, replace=False)):
        d = [(np.arange(n) - p) * s for n, p, s in zip(shape, spot, SPACING)]
        r = d[0][:, None, None] ** 2 + d[1][:, None] ** 2 + d[2] ** 2
        image += (500, 200)[number % 2] * np.exp(-r / 18)
    volume = Volume(image.astype(np.uint16), "zyx", SPACING)
    write_volume(folder / "brain.zarr", volume)
    half = np.where(np.arange(80) < 40, 1, 2) * inside
    write_volume(folder / "ids.tif", Volume(half.astype(np.uint16), "zyx", SPACING))
    pd.DataFrame({"id": [997, 1, 2], "acronym": ["root", "A", "B"], "name": ["root", "a", "b"],
                  "parent": [None, 997, 997]}).to_csv(folder / "s.csv", index=False)  # fmt: skip
    LaplacianOfGaussian(SPACING, (3.0, 3.0, 3.0), (1, 2, 2), 30.0).save(folder / "log")
    torch.manual_seed(0)
    net = build_crop_net({"features": [4, 8]}, 1)
    with torch.no_grad():
        net.skip.weight.fill_(0.1)
        net.head.bias.fill_(-0.1 * 300)
    look = Contrast(scale="fixed", unit=1.0, compress=False)
    made = CropClassifier(net, {"features": [4, 8]}, (6, 20, 20), SPACING, 0.5, look, name="hand")
    made.save(folder / "hand")
    return folder, volume, half


def run(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def test_only_cells_are_written_and_counted(place, tmp_path):
    folder, volume, half = place
    words = ("map", folder / "brain.zarr", "--model", folder / "log", "--classifier",
             folder / "hand", "--out", tmp_path / "d", "--workers", 1, "--uncertain", 3,
             "--annotation", folder / "ids.tif", "--structures", folder / "s.csv")  # fmt: skip
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    cells = read_points(tmp_path / "d/cells.csv")
    others = read_points(tmp_path / "d/non_cells.csv")
    assert 10 < len(cells) < 30 and len(others) > 10
    assert (result["cells"], result["non_cells"]) == (len(cells), len(others))
    for table, above in ((cells, True), (others, False)):
        at = np.rint(table.coordinates).astype(int)
        assert ((table.table["probability"] > 0.5) == above).all()
        bright = volume.data[tuple(at.T)].astype(float)
        assert (bright > 340).all() if above else (bright < 460).all()
    at = np.rint(cells.coordinates).astype(int)
    table = pd.read_csv(tmp_path / "d/regions/regions.csv").set_index("acronym")
    counted = next(column for column in table.columns if "cells" in column)
    ids = half[tuple(at.T)]
    assert [table.loc[name, counted] for name in "AB"] == [(ids == 1).sum(), (ids == 2).sum()]
    assert len(read_crops(result["uncertain"])) == 3
    said = json.loads((tmp_path / "d/detection.json").read_text())
    assert said["classifier"]["name"] == "hand" and said["detector"] == "Laplacian of Gaussian"
    told = run(*words)
    assert told.exit_code == 0 and f"{len(others)} other candidates" in told.stdout
    assert "to judge" in told.stdout


def test_what_is_refused_is_one_line(place, tmp_path):
    folder, volume, _ = place
    write_volume(tmp_path / "other.zarr", Volume(volume.data, "zyx", (5.0, 2.0, 2.0)))
    plain = ("map", folder / "brain.zarr", "--model", folder / "log")
    for words, said in (
        ((*plain, "--background", "b"), "add --classifier"),
        ((*plain, "--uncertain", 3), "add --classifier"),
        ((*plain, "--classifier", folder), "no classifier of cells"),
        (("map", tmp_path / "other.zarr", "--model", folder / "log", "--classifier",
          folder / "hand"), "add --resample"),
        ((*plain, "--classifier", folder / "hand", "--background", folder / "ids.tif"),
         "takes 1 channel"),
    ):  # fmt: skip
        done = run(*words, "--out", tmp_path / "d")
        assert done.exit_code == 2 and said in done.stderr, done.output
        assert done.stderr.count("\n") == 1


def test_a_recipe_from_the_command_line(tmp_path):
    tree = {
        "name": "made",
        "problem": "candidates",
        "data": {"kind": "phantom-lightsheet", "markers": ["cFos"], "shape": [24, 64, 64],
                 "train": 2, "test": 0, "tune": 0, "patches": 1},
        "detector": {"sigmas_um": [[4, 2.5, 2.5]], "radii": [[2, 3, 3]]},
        "crop": [6, 12, 12],
        "features": [4, 8],
        "train": {"steps": 6, "batch": 8},
    }  # fmt: skip
    path = tmp_path / "made.yaml"
    path.write_text(yaml.safe_dump(tree))
    done = run("run", path, "--out", tmp_path / "out", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "all candidates" in done.output and (tmp_path / "out/classifier").is_dir()
    told = run("run", path, "--out", tmp_path / "out", "--seed", 3, "--json")
    assert json.loads(told.stdout)["seeds"] == [3]
    bad = run("run", path, "--out", tmp_path / "out", "--set", "train.step=3")
    assert bad.exit_code == 2 and "did you mean 'steps'" in bad.stderr
