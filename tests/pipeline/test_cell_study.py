"""A study of detectors on a made-up tree of DELiVR's layout, start to end."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from brodmann.core import DataError, RecipeError
from brodmann.pipeline.cells.study.recipe import load_cell_recipe
from brodmann.pipeline.cells.study.run import open_cells, random_cells, run_cells, slug
from brodmann.pipeline.recipe import recipe_kind, recipe_names
from brodmann.problems.cells import find_cells, load_detector, measure_intensity

SHAPE = (16, 40, 40)
RECIPE = """
name: made
problem: cells
seeds: [0, 1]
data: {kind: delivr, marker: cFos}
folds: 0
tolerance: 4
voxels: [2]
um: [8]
least_cells: 8
radii: [[1, 3, 3], [2, 4, 4]]
contrast: {background_um: [78, 53, 53], scale: volume, unit: 3}
target: {kind: gaussian, size_um: 3.5}
train: {steps: 30, lr: 0.02, warmup_steps: 3, crop: [8, 24, 24], batch: 4, checkpoint_every: 5}
rows:
  - name: LoG
    sigmas_um: [[3.6, 2.4, 2.4], [6, 4, 4]]
  - name: mixer
    net: {kind: convmixer, features: [16], strides: [[1, 2, 2]], options: {depth: 2}}
    mirror: x
"""


def write_tree(root, brains=("11", "22", "33"), seed=0):
    """Two patches a brain, each brain of another brightness; the last patch holds no cell."""
    folder = root / "cells" / "delivr" / "cFos"
    folder.mkdir(parents=True)
    rows = []
    for number, brain in enumerate(brains):
        gain = (1.0, 2.5, 5.0)[number]
        for patch in range(2):
            rng = np.random.default_rng((seed, number, patch))
            spots = np.zeros(SHAPE)
            cells = 0 if (number, patch) == (2, 1) else 9
            while (spots > 0).sum() < cells:
                at = [int(rng.integers(2, n - 2)) for n in SHAPE]
                near = np.argwhere(spots > 0)
                if not len(near) or np.abs(near - at).max(1).min() > 6:
                    spots[tuple(at)] = 1
            shape = ndimage.gaussian_filter(spots, (0.6, 1.5, 1.5))
            shape /= max(shape.max(), 1e-9)
            image = 400 * gain * (1 + 0.06 * rng.standard_normal(SHAPE) + 1.5 * shape)
            tifffile.imwrite(folder / f"{brain}_{patch}.tif", image.astype(np.uint16))
            tifffile.imwrite(folder / f"{brain}_{patch}_mask.tif", (shape > 0.4).astype(np.uint8))
            rows += [(f"{brain}_{patch}", *map(float, at)) for at in np.argwhere(spots > 0)]
    pd.DataFrame(rows, columns=["volume", "z", "y", "x"]).to_csv(
        folder / "centres.csv", index=False
    )
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def recipe(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "made.yaml"
    path.write_text(RECIPE)
    return lambda *settings: load_cell_recipe(str(path), [f"data.root={tree}", *settings])


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run_cells(recipe(), folder, command="brodmann run made")


def test_detectors_find_cells_of_brains_that_they_never_saw(run):
    _, result = run
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["LoG", "mixer", "mixer, seeds together", "random points"]
    chance = rows["random points"]["mean"]["f1"]
    assert rows["LoG"]["mean"]["f1"] > 0.85
    assert rows["mixer"]["mean"]["f1"] > max(0.5, chance + 0.2)
    assert rows["mixer"]["std"]["f1"] is not None and rows["LoG"]["std"]["f1"] is None
    mean = rows["LoG"]["mean"]
    assert mean["f1_2_voxels"] <= mean["f1"] and mean["minimum"] <= mean["mean_over_brains"]
    assert result["cells"] == {"11": 18, "22": 18, "33": 9}


def test_what_is_told_can_be_counted_again(run, recipe):
    folder, result = run
    data = open_cells(recipe())
    row = result["rows"][0]
    one = row["seeds"][0]
    pooled = one["pooled"]
    assert (pooled["tp"], pooled["fp"], pooled["fn"]) == tuple(
        np.sum(list(one["by_sample"].values()), 0)
    )
    assert set(one["by_sample"]) == set(data.names)
    # The detector of a fold finds the same cells again, the brain's intensity being the same.
    test = result["folds"][1]
    detector = load_detector(folder / "log" / "seed0" / "fold1" / "detector")
    intensity = measure_intensity([data[name].image for name in test])
    stage = json.loads((folder / "log" / "seed0" / "fold1" / "stage.json").read_text())
    for name in test:
        found = find_cells(detector, data[name].image, intensity).coordinates
        assert found.tolist() == stage["outcome"]["cells"][name]
    assert set(stage["outcome"]["cells"]) == set(test)


def test_a_second_run_does_nothing_again(run, recipe):
    folder, result = run
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    assert len(before) == 6
    again = run_cells(recipe(), folder, command="brodmann run made")
    assert (
        again["rows"] == json.loads(json.dumps(result["rows"])) or again["rows"] == result["rows"]
    )
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")} == before


def test_files_for_people(run):
    folder, _ = run
    table = (folder / "table.md").read_text()
    assert "| mixer |" in table and "brodmann run made" in table and "±" in table
    import matplotlib.image

    for name in ("cells.png", "speed.png"):
        picture = matplotlib.image.imread(folder / name)
        assert picture.shape[0] > 300 and picture[..., :3].std() > 0.03
    speeds = json.loads((folder / "result.json").read_text())["megavoxels_per_s"]
    assert set(speeds) == {"LoG", "mixer"} and min(speeds.values()) > 0
    assert f" {speeds['LoG']:g} |" in table


def test_a_killed_training_ends_the_same(recipe, tmp_path):
    """Stopped after a checkpoint, gone on with, the weights are the same bytes."""
    one = recipe("only=[mixer]", "seeds=[3]", "train.steps=12", "folds=3")
    run_cells(one, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(what, done, total, note):
        if "find" not in what and done == 7:
            raise Stop

    with pytest.raises(Stop):
        run_cells(one, tmp_path / "cut", report=stop)
    assert list((tmp_path / "cut").rglob("checkpoint.pt"))
    assert not (tmp_path / "cut" / "result.json").exists()
    run_cells(one, tmp_path / "cut")
    for path in (tmp_path / "whole").rglob("model.safetensors"):
        other = tmp_path / "cut" / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes()


def test_random_points_are_as_many_as_cells(recipe):
    data = open_cells(recipe())
    points = random_cells(data, 0)
    assert {name: len(p) for name, p in points.items()} == {s.name: len(s.points) for s in data}
    assert all((p >= 0).all() and (p <= np.subtract(SHAPE, 1)).all() for p in points.values())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("contrast.scal=fixed", "did you mean 'scale'"),
        ("rows=[{name: a}]", "net or"),
        ("only=[mixr]", "no such row"),
        ("seeds=[1, 1]", "different"),
        ("rows=[{name: a, net: {strides: [[2, 2]], kernels: [[3, 3, 3]]}}]", "each of 2 or 3"),
        ("rows=[{name: a, sigmas_um: [[1, 1, 1]], mirror: x}]", "learns nothing"),
        ("rows=[{name: a, net: {}, contrast: {scale: fast}}]", "fixed"),
        ("radii=[]", "at least 1"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(recipe, setting, words):
    with pytest.raises(RecipeError, match=words) as caught:
        recipe(setting)
    assert "\n" not in str(caught.value)


def test_bad_data_is_refused(recipe, tmp_path):
    with pytest.raises(RecipeError, match="3 radii"):
        open_cells(recipe("radii=[[2, 2]]"))
    with pytest.raises(DataError):
        run_cells(recipe("data.root=/nowhere"), tmp_path / "run")


def test_packaged_recipes_are_valid():
    names = [name for name in recipe_names() if recipe_kind(name) == "cells"]
    assert {"cells-delivr-cfos", "cells-delivr-microglia", "cells-macaque"} <= set(names)
    for name in names:
        real = [] if name in ("cells-phantom", "cells-patches") else ["data.root=DATA"]
        assert load_cell_recipe(name, real).name == name


def test_the_command_line(tree, tmp_path):
    from typer.testing import CliRunner

    from brodmann.cli.app import app

    path = tmp_path / "made.yaml"
    path.write_text(RECIPE)
    out = tmp_path / "out"
    arguments = ["run", str(path), "--set", f"data.root={tree}", "--set", "only=[LoG]"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert (out / "table.md").exists() and "random points" in done.output


def test_slugs():
    assert slug("ConvMixer, fast (2)") == "convmixer-fast-2"


@pytest.mark.real
def test_scale_decides_on_real_brains(real_data):
    """Texture tells brains apart where grey levels do not; see docs/results/cells.md."""
    data = open_cells(load_cell_recipe("cells-delivr-cfos", [f"data.root={real_data}"]))
    texture = {
        brain: measure_intensity([s.image for s in data if s.subject == brain]).deviation
        for brain in ("695", "753", "969")
    }
    assert texture["695"] < texture["969"] < texture["753"]
