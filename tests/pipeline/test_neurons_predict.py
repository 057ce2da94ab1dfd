"""Affinities of a volume by a neuron model: shared among processes, stopped, refused."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import Volume
from brodmann.core.affinities import NEAREST
from brodmann.inference import sliding_logits
from brodmann.inference.channels import probabilities_uint8
from brodmann.io import read_volume, write_volume
from brodmann.pipeline.model import Model, build_net, seeded_net
from brodmann.pipeline.neurons.predict import predict_affinities
from brodmann.preprocess import Normalisation
from brodmann.problems.neurons.forward import forward
from brodmann.problems.semantic.plan import Plan

SPACING = (0.03, 0.006, 0.006)
PLAN = Plan((8, 32, 32), 1, (4, 8), ((1, 1, 1), (1, 2, 2)), ((1, 3, 3), (3, 3, 3)), SPACING)
NET = {"kind": "plain-unet", "deep_supervision": False}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("affinities")
    net = seeded_net(3, lambda: build_net(NET, PLAN, 1, 3))
    options = {"offsets": "nearest", "widen": 1, "dice": 1.0}
    model = Model("neurons", [net], NET, PLAN, Normalisation("image"), None, ("em",), {},
                  problem_options=options)  # fmt: skip
    model.save(folder / "model")
    image = np.random.default_rng(0).integers(0, 256, (20, 300, 40)).astype(np.uint8)
    write_volume(folder / "em.zarr", Volume(image, "zyx", SPACING))
    predict_affinities(folder / "model", folder / "em.zarr", folder / "one.zarr")
    return folder, image


def test_the_answer_is_the_nets_in_255ths(made):
    folder, image = made
    net = Model.load(folder / "model").nets[0]
    values = (image - image.mean()) / image.std()
    logits = sliding_logits(
        forward(net, NEAREST), values[None].astype(np.float32), patch=PLAN.patch, num_classes=3
    )
    found = read_volume(folder / "one.zarr")
    difference = found.read().astype(int) - probabilities_uint8(logits)
    assert np.abs(difference).max() <= 1 and found.spacing == SPACING
    assert found.numpy().std() > 0
    group = json.loads((folder / "one.zarr" / "zarr.json").read_text("utf-8"))
    assert group["attributes"]["affinities"]["offsets"] == [list(o) for o in NEAREST]


def test_processes_share_the_work_and_change_nothing(made):
    folder, _ = made
    done = CliRunner().invoke(
        app,
        ["predict", str(folder / "model"), str(folder / "em.zarr"), str(folder / "two.zarr"),
         "--workers", "2", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["shape"] == [3, 20, 300, 40]
    np.testing.assert_array_equal(
        read_volume(folder / "two.zarr").numpy(), read_volume(folder / "one.zarr").numpy()
    )


def test_stopped_it_goes_on_and_ends_the_same(made):
    folder, _ = made
    seen = []

    def stop(what, done, total, note):
        seen.append(done)
        if done and done > total // 2:
            raise KeyboardInterrupt

    pair = folder / "model", folder / "em.zarr"
    with pytest.raises(KeyboardInterrupt):
        predict_affinities(*pair, folder / "three.zarr", report=stop)
    assert not (folder / "three.zarr").exists()
    partial = folder / ".three.zarr.partial"
    assert partial.is_dir()
    predict_affinities(*pair, folder / "three.zarr")
    assert not partial.exists() and len(seen) > 1
    np.testing.assert_array_equal(
        read_volume(folder / "three.zarr").numpy(), read_volume(folder / "one.zarr").numpy()
    )


def test_what_cannot_be_is_refused_in_one_line(made, tmp_path):
    folder, _ = made
    model, image = str(folder / "model"), str(folder / "em.zarr")
    for args, words in (
        ([str(folder / "one.zarr")], "in the way"),
        ([str(tmp_path / "a.tif")], "Zarr"),
        ([str(tmp_path / "a.zarr"), "--tissue"], "--tissue"),
        ([str(tmp_path / "a.zarr"), "--mirror", "q"], "--mirror"),
    ):
        done = CliRunner().invoke(app, ["predict", model, image, *args])
        assert done.exit_code == 2 and words in done.stderr, done.output
        assert done.stderr.count("\n") == 1
