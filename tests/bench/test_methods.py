"""Methods on images and pixels: what they see, what they keep, and that they learn."""

import json

import numpy as np
import pytest

from brodmann.bench.methods import METHODS
from brodmann.bench.methods.images import Chosen
from brodmann.bench.run import make_method
from brodmann.core import BrodmannError, Dataset, Label, LabelMap, RecipeError, Sample, Volume

QUICK = {"steps": 40, "batch": 8, "stem": "large", "lr": 0.1, "optimizer": "adamw",
         "precision": "32", "whole": True}  # fmt: skip


def striped(count, seed, kind="category", side=16):
    """Images of stripes along x or y, whose width is their attribute."""
    rng = np.random.default_rng(seed)
    samples = {}
    for k in range(count):
        width = int(rng.integers(1, 4)) if kind == "attributes" else 2
        wave = np.where(np.arange(side) // width % 2, 200, 50)
        plane = np.broadcast_to(wave if k % 2 else wave[:, None], (side, side))
        image = Volume(
            np.clip(plane + rng.normal(0, 8, (side, side)), 0, 255).astype(np.uint8), "yx", (1, 1)
        )
        attributes = {"width": float(width)} if kind == "attributes" else {}
        labels = image.like((image.data > 125).astype(np.uint8)) if kind == "labels" else None
        category = "columns" if k % 2 else "rows"
        samples[f"s{k}"] = Sample(
            f"s{k}", image, labels, category=category, attributes=attributes, subject=f"g{k // 4}"
        )
    label_map = LabelMap([Label(1, "bright", "bright")]) if kind == "labels" else None
    return Dataset("striped", list(samples), samples.__getitem__, label_map)


def right(method, test):
    return np.mean(
        [method.predict(sample.with_(category=None)) == sample.category for sample in test]
    )


@pytest.mark.parametrize("name", ["supervised", "texture", "pca", "nmf"])
def test_methods_learn_categories(name, tmp_path):
    net = QUICK | {"stem": "small", "whole": False, "weight_decay": 0.01}
    options = {"supervised": net, "texture": {}}.get(name, {"size": 4})
    method = make_method(name, options)
    method.fit(striped(24, 0), None, seed=0, folder=tmp_path)
    if name != "texture":
        # Histograms cannot tell rows from columns.
        assert right(method, striped(12, 1)) >= 0.9
    assert method.predict(striped(1, 2)[0]) in ("rows", "columns")


@pytest.mark.parametrize("name", ["byol", "myow", "myow-m", "random-net"])
def test_the_readout_leaves_the_features_as_they_are(name, tmp_path):
    train, test = striped(16, 0), striped(8, 1)
    options = {k: v for k, v in QUICK.items() if k != "lr"} | {"steps": 3, "hidden": 16, "size": 8}
    method = make_method(name, options)
    method.fit(train, None, seed=0, folder=tmp_path)
    fresh = make_method(name, options)
    fresh.encoder.load(tmp_path)
    assert np.allclose(fresh.encoder.encode(_images(test)), method.features(test), atol=1e-5)
    before = method.features(test)
    [method.predict(sample) for sample in test]
    assert np.array_equal(before, method.features(test))
    assert not method.encoder.trained.training


def _images(data):
    return np.stack([sample.image.numpy()[None] for sample in data])


def test_attributes_are_read_linearly(tmp_path):
    method = make_method("texture")
    method.fit(striped(40, 0, "attributes"), None, seed=0, folder=tmp_path)
    test = striped(20, 1, "attributes")
    guess = [method.predict(sample)["width"] for sample in test]
    truth = [sample.attributes["width"] for sample in test]
    assert np.corrcoef(guess, truth)[0, 1] > 0.9


def test_an_encoder_may_learn_from_other_data(tmp_path):
    seen = []
    method = make_method("pca", {"size": 4})
    original = method.encoder.fit
    method.encoder.fit = lambda stack, **more: seen.append(len(stack)) or original(stack, **more)
    method.fit(
        striped(10, 0, "attributes"), None, seed=0, folder=tmp_path, encoder_data=striped(22, 3)
    )
    assert seen == [22] and method.attributes == ("width",)


def test_the_mixing_is_chosen_by_what_validates(tmp_path):
    method = make_method("mixup", QUICK | {"mixup": [0.1, 0.9], "steps": 6})
    assert isinstance(method, Chosen)
    with pytest.raises(RecipeError, match="validation"):
        method.fit(striped(8, 0), None, seed=0, folder=tmp_path)
    method.fit(striped(16, 0), striped(8, 5), seed=0, folder=tmp_path)
    kept = json.loads((tmp_path / "chosen.json").read_text(encoding="utf-8"))
    assert kept["validation"][kept["chosen"]] == max(kept["validation"].values())
    assert method.best is method.candidates[kept["chosen"]]
    again = make_method("mixup", QUICK | {"mixup": [0.1, 0.9], "steps": 6})
    again.load(tmp_path)
    test = striped(4, 7)
    assert np.allclose(again.features(test), method.features(test), atol=1e-5)


def test_a_segmenter_labels_pixels(tmp_path):
    method = make_method(
        "segment",
        {
            "net": {"patch": [16, 16], "batch": 4, "base_features": 8},
            "train": {
                "steps": 40,
                "optimizer": "adamw",
                "lr": 0.01,
                "augmentation": {"method": "none"},
            },
            "predict": {"confidence": False},
        },
    )
    method.fit(striped(12, 0, "labels"), None, seed=0, folder=tmp_path)
    test = striped(4, 1, "labels")
    answers = [method.predict(sample) for sample in test]
    share = np.mean([(a == s.labels.data).mean() for a, s in zip(answers, test)])
    assert share > 0.95 and answers[0].shape == (16, 16)
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_wrong_options_are_named():
    for name, options in (
        ("byol", {"stepps": 3}),
        ("supervised", {"crop": 2}),
        ("segment", {"nett": {}}),
        ("segment", {"net": {"kindd": "x"}}),
        ("segment", {"net": {"kind": "smp", "options": {"decodr": "fpn"}}}),
        ("pca", {"sizes": 3}),
    ):
        with pytest.raises(BrodmannError):
            make_method(name, options)
    with pytest.raises(BrodmannError, match="this encoder cannot be read"):
        make_method("byol").encoder.load(__import__("pathlib").Path("nowhere"))


def test_every_method_can_be_made():
    for name in METHODS.names():
        assert callable(make_method(name).predict)


def test_vessels_are_filled_in_training_and_after(tmp_path):
    """A vessel in every image of one category is all that a method learns, unless it is filled."""
    samples = {}
    rows, columns = np.mgrid[:48, :48]
    rng = np.random.default_rng(0)
    for k in range(24):
        # Darker by a little is what tells categories apart; a vessel lies in half of each.
        plane = rng.normal(120 - 8 * (k % 2), 6, (48, 48))
        if k % 4 < 2:
            plane[(rows - 24) ** 2 + (columns - 20) ** 2 < 100] = 5
        image = Volume(np.clip(plane, 0, 255).astype(np.uint8), "yx", (1, 1))
        samples[f"s{k}"] = Sample(f"s{k}", image, category="ab"[k % 2], subject=f"g{k // 4}")
    data = Dataset("vessels", list(samples), samples.__getitem__)
    holes = {"wider_px": 12, "margin_px": 2, "darker": 2.0}
    plain, filled = (
        make_method("texture", {"sigmas": [1], "strength": 0.1, **more})
        for more in ({}, {"holes": holes})
    )
    for method in (plain, filled):
        method.fit(data, None, seed=0, folder=tmp_path)
    with_vessel = _images(data)[::4]
    changed = [
        float(np.abs(method.encoder.encode(with_vessel) - method.features(data)[::4]).max())
        for method in (plain, filled)
    ]
    assert changed[0] == 0 and changed[1] > 0.05
    net = make_method("supervised", QUICK | {"holes": holes, "steps": 3})
    net.fit(data, None, seed=0, folder=tmp_path / "net")
    again = make_method("supervised", QUICK | {"holes": holes, "steps": 3})
    again.load(tmp_path / "net")
    assert np.allclose(again.features(data), net.features(data), atol=1e-5)
    for wrong in ({"holes": {"wide": 3}}, {"holes": True}, {"holes": {"darker": -1}}):
        with pytest.raises(RecipeError, match="holes"):
            make_method("texture", wrong)
