"""`brodmann annotate interpolate` on files."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from brodmann.cli.annotate import parse_slices
from brodmann.cli.app import app
from brodmann.core import RecipeError, Volume
from brodmann.io import read_volume, write_volume
from brodmann.postprocess.interpolate import METHODS
from brodmann.postprocess.interpolate.held_out import guesses

SPACING = (50.0, 2.0, 2.0)


@pytest.fixture
def sparse(tmp_path):
    """A border that shifts by two pixels from slice to slice; four of 31 slices annotated."""
    grid = np.zeros((31, 24, 90), np.uint16)
    for z in (0, 10, 20, 30):
        grid[z, 4:20] = np.where(np.arange(90) < 10 + 2 * z, 7, 300)
    path = tmp_path / "sparse.nii.gz"
    write_volume(path, Volume(grid, "zyx", SPACING))
    return path


def run(*args):
    return CliRunner().invoke(app, ["annotate", "interpolate", *map(str, args)])


def test_dense_labels(sparse, tmp_path):
    out = tmp_path / "dense.zarr"
    done = run(sparse, out, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["slices"] == [0, 10, 20, 30] and len(result["gaps"]) == 3
    found = read_volume(out).numpy()
    assert ((found[:, 10] == 7).sum(1) == 10 + 2 * np.arange(31)).all()
    assert not found[:, :4].any() and not found[:, 20:].any()
    again = run(sparse, out)
    assert again.exit_code == 0
    assert "4 annotated slices along z, at most 10 apart" in again.stdout


def test_chosen_slices_and_another_axis(sparse, tmp_path):
    done = run(sparse, tmp_path / "a.tif", "--slices", "0:31:30")
    assert done.exit_code == 0, done.output
    found = read_volume(tmp_path / "a.tif").numpy()
    # Half-way between 10 and 70, whatever is annotated there.
    assert abs((found[15, 10] == 7).sum() - 40) <= 1 and (found[20, 10] == 300).any()
    turned = tmp_path / "turned.zarr"
    grid = read_volume(sparse).numpy()
    write_volume(turned, Volume(np.moveaxis(grid, 0, 2), "zyx", SPACING[::-1]), labels=True)
    done = run(turned, tmp_path / "b.zarr", "--axis", "x")
    assert done.exit_code == 0, done.output
    other = run(sparse, tmp_path / "c.zarr")
    assert other.exit_code == 0
    whole = read_volume(tmp_path / "c.zarr").numpy()
    assert np.array_equal(np.moveaxis(read_volume(tmp_path / "b.zarr").numpy(), 2, 0), whole)


def test_unannotated_and_ignored_ids(tmp_path):
    grid = np.full((9, 6, 20), 255, np.uint8)
    for z in (0, 4, 8):
        grid[z] = np.where(np.arange(20) < 4 + z, 1, 0)
    grid[4, 2] = 99
    write_volume(tmp_path / "a.zarr", Volume(grid, "zyx", SPACING), labels=True)
    done = run(tmp_path / "a.zarr", tmp_path / "b.zarr", "--unannotated", 255, "--ignore", 99)
    assert done.exit_code == 0, done.output
    found = read_volume(tmp_path / "b.zarr").numpy()
    assert (found != 255).all() and (found[4, 2] == 99).all() and (found == 99).sum() == 20
    # The row says nothing in one slice only: it does not disturb those beside it.
    assert ((found[6, [0, 1, 3, 5]] == 1).sum(1) == 10).all()


def test_slices_left_out_are_scored_and_shown(sparse, tmp_path):
    out = tmp_path / "dense.nii.gz"
    done = run(sparse, out, "--score-held-out", "--json")
    assert done.exit_code == 0, done.output
    held = json.loads(done.stdout)["held_out"]
    assert held["methods"]["recursive"]["mean_dice"] == 1 and held["shown"] in (10, 20)
    # A copy is 20 pixels off, of borders 90 and 16 long.
    assert held["methods"]["nearest"]["mean_dice"] < 0.8
    rows = list(csv.DictReader((tmp_path / "dense-held-out.csv").open(encoding="utf-8")))
    assert {row["method"] for row in rows} == {"recursive", "distance", "nearest"}
    assert {row["label"] for row in rows} == {"0", "7", "300", "mean"}
    with Image.open(tmp_path / "dense-held-out.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels == (214, 39, 40)).all(-1).sum()
    # A panel for each method, and its wrong pixels are red, four by four.
    z, labels = held["shown"], read_volume(sparse)
    made = guesses(labels, (z - 10, z, z + 10), "z", tuple(METHODS))
    wrong = {name: int((guess != labels.data[z]).sum()) for name, guess in made.items()}
    assert red == 16 * sum(wrong.values())
    assert wrong["nearest"] == 20 * 16 and not wrong["recursive"]
    text = run(sparse, out, "--score-held-out")
    assert text.exit_code == 0 and "nearest" in text.stdout and "shift um" in text.stdout


@pytest.mark.parametrize(
    "args, words",
    [
        (["--slices", "10"], "two annotated slices"),
        (["--slices", "0,31"], "slices along z are 0 to 30: found slice 31"),
        (["--slices", "0,x"], "10,60,110"),
        (["--slices", "0:31:0"], "10,60,110"),
        (["--axis", "w"], "z, y or x"),
        (["--method", "recursiv"], "did you mean 'recursive'"),
        (["--slices", "0,30", "--score-held-out"], "three annotated"),
        (["--spacing", "1,b,2"], "parted by commas"),
    ],
)
def test_one_line_and_exit_code_two(sparse, tmp_path, args, words):
    done = run(sparse, tmp_path / "out.zarr", *args)
    assert done.exit_code == 2 and words in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("brodmann:")]
    assert len(lines) == 1


def test_other_inputs_that_are_refused(sparse, tmp_path):
    floats = tmp_path / "floats.zarr"
    write_volume(floats, Volume(np.zeros((4, 5, 6), np.float32), "zyx", SPACING))
    assert "whole numbers" in run(floats, tmp_path / "out.zarr").stderr
    assert run(floats, tmp_path / "out.zarr").exit_code == 2
    done = run(sparse, sparse)
    assert done.exit_code == 2 and "in the way" in done.stderr
    assert run(sparse, tmp_path / "out.jpg").exit_code == 2
    assert run(tmp_path / "none.zarr", tmp_path / "out.zarr").exit_code == 2


def test_slices_in_words():
    assert parse_slices("5") == (5,)
    assert parse_slices("1,4:6,10:30:10") == (1, 4, 5, 10, 20)
    for text in ("", "1:2:3:4", "a", "1,,2"):
        with pytest.raises(RecipeError):
            parse_slices(text)
