import copy
import sys

import pytest
import torch

from brodmann.core import BrodmannError, ModelError, RecipeError
from brodmann.nets import NETS
from brodmann.nets.swinunetr import FEATURES, STRIDES, swinunetr

TINY = (12, 12, 24, 48, 96, 192)


def tiny(**options):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "window": 2} | options
    return NETS["swinunetr"](1, 3, TINY, STRIDES, **options)


def test_every_weight_learns_and_the_shape_is_kept():
    monai = pytest.importorskip("monai.networks.nets")
    net = tiny()
    assert isinstance(net, monai.SwinUNETR)
    answer = net(torch.randn(1, 1, 32, 32, 64))
    assert answer.shape == (1, 3, 32, 32, 64)
    answer.square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
    assert sum(w.grad.abs().max() > 0 for w in net.parameters()) > 0.9 * len([*net.parameters()])


def test_the_published_crop_fits():
    pytest.importorskip("monai")
    net = swinunetr(1, 3, FEATURES, STRIDES)
    # 62.2 M: MONAI's net of feature size 48.
    assert abs(sum(p.numel() for p in net.parameters()) / 62.2e6 - 1) < 0.01
    with torch.inference_mode():
        assert tiny().eval()(torch.zeros(1, 1, 64, 96, 96)).shape == (1, 3, 64, 96, 96)


def test_dropout_acts_in_training_alone_and_a_copy_is_the_same():
    pytest.importorskip("monai")
    net, image = tiny(dropout=0.5), torch.randn(1, 1, 32, 32, 64)
    with torch.inference_mode():
        assert not torch.equal(net(image), net(image))
        expected = net.eval()(image)
        assert torch.equal(copy.deepcopy(net)(image), expected)


@pytest.mark.parametrize("shape", [(1, 1, 16, 32, 32), (1, 1, 32, 32, 32), (1, 2, 32, 32, 64)])
def test_patches_that_do_not_fit_are_refused(shape):
    pytest.importorskip("monai")
    with pytest.raises(ModelError):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("features", "strides", "options", "message"),
    [
        (TINY, ((1, 1, 1), *((1, 2, 2),) * 5), {}, "no anisotropic strides"),
        ((12, 24), STRIDES[:2], {}, "halves every axis five times"),
        ((16, 16, 32, 64, 128, 256), STRIDES, {}, r"\[12, 12, 24"),
        ((12, 24, 48, 96, 192, 384), STRIDES, {}, "doubles"),
        (TINY, STRIDES, {"kernels": ((1, 3, 3),) * 6}, "kernels"),
        (TINY, STRIDES, {"convs_per_stage": 3}, "two convolutions"),
        (TINY, STRIDES, {"deep_supervision": True}, "deep supervision"),
        (TINY, STRIDES, {"depths": (1, 1)}, "four encoder stages"),
        (TINY, STRIDES, {"heads": (5, 6, 12, 24)}, "divide"),
        (TINY, STRIDES, {"window": 0}, "window"),
    ],
)
def test_what_it_cannot_do_is_refused(features, strides, options, message):
    with pytest.raises(RecipeError, match=message):
        swinunetr(1, 3, features, strides, **options)


def test_without_monai_the_extra_is_named(monkeypatch):
    for name in [n for n in sys.modules if n == "monai" or n.startswith("monai.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(BrodmannError, match=r"brodmann\[bench\]"):
        tiny()
