"""A neuron recipe from start to end on a small made-up volume, its restarts and its refusals."""

import csv
import json

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import DataError, RecipeError
from brodmann.io import read_volume
from brodmann.pipeline.model import Model, build_net
from brodmann.pipeline.neurons.recipe import load_neuron_recipe
from brodmann.pipeline.neurons.run import run_neurons
from brodmann.pipeline.recipe import recipe_kind, recipe_names
from brodmann.problems.neurons import Neurons

NEEDS = {
    "neurons-phantom": [],
    "neurons-files": ["data.image=x.tif", "data.labels=y.tif", "data.spacing_um=[1, 1, 1]"],
}
RECIPE = """
name: tiny
title: A tiny volume
description: Cells between dark borders.
problem: neurons
data: {{kind: em-files, image: {folder}/image.tif, labels: {folder}/labels.tif,
       spacing_um: [0.01, 0.01, 0.01], parts: {{train: [0, 23], tune: [26, 39], test: [42, 55]}}}}
net: {{patch: [16, 24, 24], features: [8, 16]}}
train: {{steps: 70, optimizer: adamw, lr: 0.01, ema: 0.9, warmup_steps: 5, augmentation: {{method: none}}}}
segment: {{methods: [mean, multicut], fragments: {{per_slice: false, sigmas: [1.0]}}}}
"""


def write_volume_pair(folder, shape=(56, 40, 40), count=40, seed=0):
    """Nearest-seed cells; their borders dark in a noisy image."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (count, 3)) * shape
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    labels = 1 + ((grid[..., None, :] - points) ** 2).sum(-1).argmin(-1)
    border = ndimage.morphological_gradient(labels, size=3) > 0
    image = ndimage.gaussian_filter(np.where(border, 40.0, 190.0), 0.6)
    image = np.clip(image + rng.normal(0, 12, shape), 0, 255).astype(np.uint8)
    tifffile.imwrite(folder / "image.tif", image)
    tifffile.imwrite(folder / "labels.tif", labels.astype(np.uint16))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neurons")
    write_volume_pair(folder)
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(folder=folder), "utf-8")
    result = run_neurons(
        load_neuron_recipe(str(recipe)), folder / "run", command="brodmann run tiny"
    )
    return folder, recipe, result


@pytest.mark.parametrize("name", [n for n in recipe_names() if recipe_kind(n) == "neurons"])
def test_every_packaged_neuron_recipe_is_valid(name):
    settings = NEEDS.get(name, ["data.root=x"])
    recipe = load_neuron_recipe(name, settings)
    assert recipe.name == name and recipe.title and recipe.description
    plan = recipe.net.plan((0.03, 0.006, 0.006))
    options = {"kind": recipe.net.kind, **recipe.net.options}
    outputs = Neurons(None, plan, **recipe.problem_options).outputs
    # MONAI's asks for numbers while it is built.
    with torch.device("cpu" if recipe.net.kind == "swinunetr" else "meta"):
        net = build_net(options, plan, 1, outputs)
    assert sum(p.numel() for p in net.parameters()) > 1e5


def test_segments_are_better_than_what_needs_no_net(ran):
    _, _, result = ran
    assert [row["name"] for row in result["rows"]] == ["mean", "multicut"]
    best = next(row for row in result["rows"] if row["name"] == result["best"])["mean"]
    trivial = {row["name"]: row["mean"] for row in result["trivial"]}
    assert set(trivial) == {"one segment", "fragments only", "intensity threshold"}
    assert best["vi"] < min(row["vi"] for row in trivial.values())
    assert best["arand"] < 0.3
    assert trivial["one segment"]["vi_split"] == 0
    assert best["vi"] == pytest.approx(best["vi_split"] + best["vi_merge"])


def test_what_it_leaves_can_be_read(ran):
    folder, _, result = ran
    run = folder / "run"
    assert json.loads((run / "result.json").read_text("utf-8"))["rows"] == result["rows"]
    rows = list(csv.DictReader((run / "table.csv").open(encoding="utf-8")))
    assert [row["row"] for row in rows][:2] == ["mean", "multicut"]
    assert float(rows[0]["vi_mean"]) == pytest.approx(result["rows"][0]["mean"]["vi"], abs=1e-5)
    page = (run / "report" / "report.html").read_text("utf-8")
    assert "A tiny volume" in page and "data:image/png" in page and "brodmann run tiny" in page
    assert "://" not in page.replace("http://www.w3.org", "")
    model = Model.load(run / "seed0" / "model")
    assert model.label_map is None and model.asked().outputs == 3
    labels = read_volume(run / "seed0" / "segment" / "mean" / f"{_test_name(result)}.zarr")
    assert labels.spatial_shape == (13, 40, 40) and len(np.unique(labels.numpy())) > 2


def _test_name(result):
    return next(iter(result["volumes"]["test"]))


def test_only_what_a_change_touches_is_done_again(ran):
    folder, recipe, result = ran
    said = []
    changed = load_neuron_recipe(str(recipe), ["segment.methods=[gasp]"])
    again = run_neurons(
        changed, folder / "run", report=lambda what, *_: said.append(what), pages=False
    )
    assert [row["name"] for row in again["rows"]] == ["gasp"]
    assert not any("train" in what or "predict" in what for what in said)
    back = run_neurons(load_neuron_recipe(str(recipe)), folder / "run", pages=False)
    assert back["rows"] == result["rows"]


def test_a_model_predicts_affinities_by_the_command_line(ran, tmp_path):
    folder, _, _ = ran
    run = CliRunner().invoke
    out = tmp_path / "affinities.zarr"
    model = str(folder / "run" / "seed0" / "model")
    done = run(
        app, ["predict", model, str(folder / "image.tif"), str(out), "--spacing", "0.01,0.01,0.01"]
    )
    assert done.exit_code == 0, done.output
    volume = read_volume(out)
    assert volume.axes == "czyx" and volume.dtype == np.uint8 and volume.shape == (3, 56, 40, 40)
    segments = tmp_path / "segments.zarr"
    done = run(
        app,
        [
            "neurons",
            str(out),
            str(segments),
            "--method",
            "mean",
            "--threshold",
            "0.5",
            "--volumetric",
        ],
    )
    assert done.exit_code == 0, done.output
    assert read_volume(segments).spatial_shape == (56, 40, 40)


@pytest.mark.parametrize(
    "settings, words",
    [
        (["segment.methods=[meen]"], "mean"),
        (["affinities.offsets=nearst"], "nearest"),
        (["net.features=[8, 8, 8, 8, 8, 8]"], "stages"),
        (["net.patch=[16, 24, 25]"], "multiple"),
        (["seeds=[1, 1]"], "seeds"),
        (["train.foreground=0.9"], "foreground"),
        (["net.kind=unett"], "unet"),
        (["segment.fragments.sigma=[1]"], "sigmas"),
        (["data.parts={train: [0, 23], test: [42, 55]}"], "tune"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(ran, settings, words):
    folder, recipe, _ = ran
    with pytest.raises((RecipeError, DataError), match=words) as refused:
        run_neurons(load_neuron_recipe(str(recipe), settings), folder / "bad", pages=False)
    assert "\n" not in str(refused.value)


def test_a_truth_of_one_neuron_is_refused(ran, tmp_path):
    write_volume_pair(tmp_path, count=1)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(folder=tmp_path), "utf-8")
    with pytest.raises(DataError):
        run_neurons(load_neuron_recipe(str(recipe)), tmp_path / "run", pages=False)
