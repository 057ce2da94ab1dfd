"""The matrix of markers and models on small made-up brains, start to end."""

import csv
import json

import pytest
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import RecipeError
from brodmann.pipeline.cells.study.matrix import TUNED, run_matrix
from brodmann.pipeline.cells.study.recipe import load_matrix_recipe
from brodmann.pipeline.recipe import recipe_kind
from brodmann.problems.cells import load_detector

RECIPE = """
name: made
problem: cells-matrix
seeds: [0, 1]
data: {kind: phantom-lightsheet, markers: [cFos, Iba1], shape: [16, 64, 64], train: 2, tune: 0,
       test: 1, patches: 2}
folds: 3
radii: [[1, 3, 3], [3, 6, 6]]
choose_by: mean
contrast: {background_um: [52, 41, 41], scale: volume, unit: 2, blobs_um: [[4, 2.5, 2.5]]}
train: {steps: 4, batch: 2, crop: [8, 32, 32], warmup_steps: 1}
detector:
  name: mixer
  net: {kind: convmixer, features: [8], strides: [[1, 2, 2]], options: {depth: 1, skip: true}}
joint: {all: 1, all twice: 2}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "made.yaml"
    path.write_text(RECIPE)
    return lambda *settings: load_matrix_recipe(str(path), settings)


@pytest.fixture(scope="module")
def ran(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run_matrix(recipe(), folder, command="made here")


def test_every_model_meets_every_marker_of_brains_it_never_saw(ran):
    folder, result = ran
    models = ["cFos", "Iba1", "all", "all" + TUNED, "all twice", "all twice" + TUNED]
    assert sorted(result["models"]) == sorted(models)
    with (folder / "matrix.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["marker"], r["model"]) for r in rows} == {
        (marker, model) for marker in ("cFos", "Iba1") for model in models
    }
    # One brain of three is scored, the same one for all.
    regions = {r["region"] for r in rows} - {"total"}
    assert len(regions) == 1
    true = {(r["marker"], int(r["tp"]) + int(r["fn"])) for r in rows if r["region"] != "total"}
    assert len(true) == 2, "all models are scored against the same cells"
    for name in ("matrix.png", "matrix-f1.csv", "table.md", "result.json"):
        assert (folder / name).stat().st_size > 100
    assert "made here" in (folder / "table.md").read_text()
    assert json.loads((folder / "result.json").read_text())["totals"] == result["totals"]


def test_detectors_are_kept_and_a_joint_one_learned_from_all(ran, recipe):
    folder, _ = ran
    facts = {}
    for path in sorted((folder / "models").iterdir()):
        detector = load_detector(path / "detector")
        facts[path.name] = detector.facts["steps"]
    assert facts == {
        f"{model}-seed{seed}": steps
        for seed in (0, 1)
        for model, steps in {"cfos": 4, "iba1": 4, "all": 4, "all-twice": 8}.items()
    }


def test_a_second_run_trains_nothing(ran, recipe):
    folder, result = ran
    said = []
    again = run_matrix(recipe(), folder, report=lambda *told: said.append(told))
    assert again["totals"] == result["totals"] and not said


def test_counts_of_seeds_are_pooled(ran):
    _, result = ran
    rows = {
        (r["marker"], r["model"]): r for r in result["matrix"]["rows"] if r["region"] == "total"
    }
    means = [result["totals"]["cFos"][model]["mean"] for model in result["models"]]
    assert all(0 <= mean <= 1 for mean in means)
    one = rows["cFos", "all"]
    assert (one["tp"] + one["fn"]) % 2 == 0, "two seeds saw the same cells"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("joint={Iba1: 1}", "name of a marker"),
        ("joint={all: 0}", "above 0"),
        ("fold=3", "no such fold"),
        ("detector.net.kind=convmixr", "convmixer"),
        ("data.markers=[cFos, CD3]", "CD3"),
    ],
)
def test_bad_recipes_are_refused_before_any_training(recipe, tmp_path, setting, said):
    with pytest.raises(RecipeError, match=said):
        run_matrix(recipe(setting), tmp_path / "run")
    assert not (tmp_path / "run" / "models").exists()


def test_the_command_line_runs_it(ran, recipe, tmp_path):
    path = tmp_path / "made.yaml"
    path.write_text(RECIPE)
    assert recipe_kind(str(path)) == "cells-matrix"
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run"), "--seed", "0",
                                    "--set", "joint={}"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "matrix.png" in done.output and (tmp_path / "run" / "matrix.png").exists()


def test_the_packaged_recipe_loads():
    loaded = load_matrix_recipe("cells-markers")
    assert loaded.title and loaded.description and len(loaded.seeds) == 3
