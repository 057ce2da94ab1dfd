import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage

from brodmann.core import Label, LabelMap, ModelError, Volume, keyed_rng
from brodmann.inference import sliding_logits
from brodmann.io import read_volume
from brodmann.pipeline.mapping import map_image
from brodmann.pipeline.model import Model, build_net, seeded_net
from brodmann.preprocess import Normalisation, measure
from brodmann.preprocess.resample import at_spacing
from brodmann.problems.semantic.plan import Plan
from brodmann.problems.semantic.problem import forward

TREE = LabelMap([Label(300, "left", "L"), Label(7, "right", "R")], ignore=9)
PLAN = Plan((16, 16), 2, (4, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (10.0, 10.0))
OPTIONS = {"kind": "plain-unet", "convs_per_stage": 1, "dropout": 0.0}


def make(folds=1, normalisation=None):
    nets = [seeded_net(i, lambda: build_net(OPTIONS, PLAN, 2, 3)) for i in range(folds)]
    return Model(
        "semantic",
        nets,
        OPTIONS,
        PLAN,
        normalisation or Normalisation(),
        TREE,
        ("green", "red"),
        {"title": "T"},
    )


def picture(shape=(50, 70), spacing=(10.0, 10.0)):
    values = keyed_rng(0, "picture").normal(100, 30, (2, *shape))
    smooth = ndimage.gaussian_filter(values, (0, 3, 3)).astype(np.float32)
    return Volume(smooth, "cyx", spacing, ("green", "red"))


def test_a_model_folder_gives_the_same_model_back(tmp_path):
    image = picture()
    model = make(2, Normalisation("dataset", measure([image])))
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.fingerprint == model.fingerprint and again.label_map == TREE
    assert again.normalisation == model.normalisation and again.plan == PLAN
    a = map_image(model, image, tmp_path / "a.tif", confidence_path=tmp_path / "ac.tif")
    b = map_image(again, image, tmp_path / "b.tif", confidence_path=tmp_path / "bc.tif")
    assert a.labels.read_bytes() == b.labels.read_bytes()
    assert (read_volume(a.confidence).numpy() == read_volume(b.confidence).numpy()).all()
    assert "brodmann predict" in (tmp_path / "m" / "README.md").read_text()


def test_a_map_is_the_argmax_of_averaged_folds_in_label_ids(tmp_path):
    model, image = make(2), picture()
    mapped = map_image(model, image, tmp_path / "a.tif", mirror=[1])
    values = Normalisation.apply(image.numpy(), measure([image]))
    logits = [
        sliding_logits(forward(net, [1]), image.like(values), patch=PLAN.patch, num_classes=3)
        for net in model.nets
    ]
    expected = TREE.to_ids(np.asarray(sum(logits)).argmax(0))
    found = read_volume(mapped.labels).numpy()
    assert found.dtype == np.uint16 and (found == expected).mean() > 0.999
    assert not list(tmp_path.glob(".*partial"))


def test_mirroring_averages_both_views():
    net = make().nets[0]
    x = torch.randn(1, 2, 16, 16)
    both = (forward(net)(x) + forward(net)(x.flip(3)).flip(3)) / 2
    assert torch.allclose(forward(net, [1])(x), both, atol=1e-6)


def test_another_spacing_is_resampled_and_comes_back_on_its_own_grid(tmp_path):
    model = make()
    fine = picture((100, 140), (5.0, 5.0))
    mapped = read_volume(map_image(model, fine, tmp_path / "a.tif").labels)
    assert mapped.spatial_shape == (100, 140) and mapped.spacing == (5.0, 5.0)
    coarse = at_spacing(fine, (10.0, 10.0))
    direct = read_volume(
        map_image(model, Volume(coarse.read(), "cyx", (10, 10)), tmp_path / "b.tif").labels
    )
    assert (mapped.numpy()[::2, ::2] == direct.numpy()).all()
    assert (mapped.numpy()[1::2, 1::2] == direct.numpy()).all()


def test_a_resampled_window_is_part_of_the_resampled_whole():
    fine = at_spacing(picture((60, 80), (4.0, 7.0)), (10.0, 5.0))
    whole = fine.read()
    assert whole.shape == (2, 24, 112)
    window = (slice(5, 13), slice(40, 90))
    assert np.allclose(fine.read(window), whole[(slice(None), *window)], atol=1e-5)


@pytest.mark.parametrize(
    ("image", "word"),
    [
        (Volume(np.zeros((20, 20)), "yx", (10, 10)), "takes 2 channels"),
        (Volume(np.zeros((2, 4, 20, 20)), "czyx", (10, 10, 10)), "model is 2D"),
        (Volume(np.zeros((2, 20, 20)), "cyx", (10, 20)), "spacing"),
    ],
)
def test_images_that_do_not_fit_are_refused(image, word):
    with pytest.raises(ModelError, match=word):
        make().check(image, "a.tif")


def test_damaged_model_folders_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        Model.load(tmp_path)
    folder = make().save(tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="weights"):
        Model.load(folder)
    (folder / "model.safetensors").write_bytes(weights)
    tree = yaml.safe_load((folder / "model.yaml").read_text("utf-8"))
    for change, word in [
        ({"format": 99}, "another format"),
        ({"plan": {}}, "does not describe"),
        ({"net": {"kind": "os.system"}}, "unknown net"),
        ({"plan": tree["plan"] | {"features": [4, 16]}}, "weights"),
    ]:
        (folder / "model.yaml").write_text(yaml.safe_dump(tree | change), "utf-8")
        with pytest.raises(Exception, match=word) as caught:
            Model.load(folder)
        assert caught.value.__class__.__module__ == "brodmann.core.errors"
