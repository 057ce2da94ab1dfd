"""Nets whose last layer waits: the same answers, and a window's logits never whole."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from brodmann.core import ModelError, Volume, keyed_rng
from brodmann.inference import Headed, predict_strips, sliding_logits
from brodmann.inference.heads import Blend, _multiply, _multiply_planes
from brodmann.inference.rolling import _largest

CPU = torch.device("cpu")


def normal(*shape, key="values"):
    return torch.from_numpy(keyed_rng(0, key, *shape).normal(size=shape).astype(np.float32))


def image_of(*shape):
    return Volume(
        normal(*shape).numpy(), "cyx" if len(shape) == 3 else "czyx", (1.0,) * (len(shape) - 1)
    )


def headed(channels, features, classes, patch, key=0):
    """Its features depend on the place within the window, so that weights and order matter."""
    mix, place = normal(features, channels, key=key), normal(features, *patch, key=key)
    return Headed(
        lambda batch: torch.einsum("fc,nc...->nf...", mix, batch) + place,
        normal(classes, features, key=("head", key)),
        normal(classes, key=("bias", key)),
    )


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation gave back."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(answer) if isinstance(t, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return answer


@st.composite
def cases(draw):
    ndim = draw(st.sampled_from([2, 2, 3]))
    top, most = (40, 12) if ndim == 2 else (14, 6)
    shape = [draw(st.integers(1, top)) for _ in range(ndim)]
    patch = [draw(st.integers(1, most)) for _ in range(ndim)]
    widths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))
    return shape, patch, draw(st.sampled_from([0.33, 0.5, 1.0])), draw(st.integers(1, 3)), widths


@settings(deadline=None, max_examples=30)
@given(cases(), st.sampled_from([1, 64, 1 << 21]))
@example(([20, 31], [8, 10], 0.5, 1, [6, 5]), 200)  # logits, two rows at a time
@example(([20, 31], [8, 10], 0.5, 2, [4, 2]), 1 << 21)  # features of two nets
def test_strips_are_the_argmax_of_the_whole_bit_for_bit(case, chunk):
    shape, patch, step, batch, widths = case
    image = image_of(2, *shape)
    nets = [headed(2, width, 7, patch, key) for key, width in enumerate(widths)]
    kwargs = {"patch": patch, "num_classes": 7, "step": step, "batch": batch}
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr("brodmann.inference.heads.CHUNK", chunk)
        logits = sliding_logits(nets, image, **kwargs)
        out, chance = np.full(shape, 99, np.uint8), np.zeros(shape, np.uint8)
        predict_strips(nets, image, out, confidence=chance, **kwargs)
    assert np.array_equal(out, logits.argmax(0))
    expected = 255 * torch.softmax(torch.from_numpy(logits).double(), 0).amax(0).numpy()
    assert np.abs(chance - expected).max() <= 0.5 + 1e-3
    # A lambda hides what it is: its logits are made first and summed.
    plain = [lambda batch, net=net: net(batch) for net in nets]
    assert np.allclose(logits, sliding_logits(plain, image, **kwargs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("widths", "channels"), [([3], 3), ([3, 3], 6), ([3, 4], 7), ([9], 7)])
def test_features_are_summed_where_they_are_fewer_than_the_classes(widths, channels):
    nets = [headed(1, width, 7, (4, 4), key) for key, width in enumerate(widths)]
    assert Blend(nets, 7, CPU).channels == channels
    assert Blend([*nets, nets[0].__call__], 7, CPU).channels == 7


@pytest.mark.parametrize("width", [1, 3, 4, 8, 11])
def test_the_product_is_a_plain_sum_in_order_wherever_it_is_cut(width):
    features, weight, bias = normal(width, 2500), normal(5, width), normal(5)
    out = torch.empty(5, 2500)
    _multiply(features.numpy(), weight.numpy(), bias.numpy(), out.numpy())
    expected = np.repeat(bias.numpy()[:, None], 2500, 1)
    for column, feature in zip(weight.numpy().T, features.numpy()):
        expected = expected + column[:, None] * feature  # NumPy rounds product and sum
    assert np.array_equal(out.numpy(), expected)
    planes, piece = torch.empty(5, 2500), torch.empty(5, 7)
    _multiply_planes(features, weight, bias, planes)
    assert torch.equal(planes, out)
    for start in range(0, 2000, 331):
        part = features[:, start : start + 7].contiguous()
        _multiply(part.numpy(), weight.numpy(), bias.numpy(), piece.numpy())
        assert torch.equal(piece, out[:, start : start + 7])


@pytest.mark.parametrize("shape", [(1, 5), (9, 3000), (300, 40)])
def test_the_largest_is_that_of_numpy_with_ties_and_nan(shape):
    logits = normal(*shape).round(decimals=1).numpy()  # rounded: many ties
    logits[:, 1::7] = -np.inf
    logits[keyed_rng(0, "nan").random(shape) < 0.02] = np.nan
    best, index = np.empty(shape[1], np.float32), np.empty(shape[1], np.int16)
    _largest(logits, best, index)
    assert np.array_equal(index, logits.argmax(0))
    assert np.array_equal(best, logits.max(0), equal_nan=True)


def test_the_logits_of_a_window_never_exist_whole(monkeypatch):
    monkeypatch.setattr("brodmann.inference.rolling.CHUNK", 1 << 12)
    patch, classes, image = (32, 48), 60, image_of(1, 64, 64)
    window = classes * patch[0] * patch[1]

    def largest(net):
        with Largest() as watch:
            predict_strips(
                net, image, np.zeros((64, 64), np.uint8), patch=patch, num_classes=classes
            )
        return watch.numel

    net = headed(1, 4, classes, patch)
    assert largest(net) <= window // 8
    assert largest(lambda batch: net(batch)) >= window, "the watch sees whole logits"


def test_logits_of_many_features_are_made_a_few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr("brodmann.inference.heads.CHUNK", 1 << 12)
    net, windows = headed(1, 12, 10, (32, 48)), normal(1, 1, 32, 48).numpy()
    blend = Blend(net, 10, CPU)
    with Largest() as watch:
        parts = [(part.rows, part.values.clone()) for part in blend.parts(windows)]
    assert watch.numel == 12 * 32 * 48 and len(parts) > 3
    assert max(values.numel() for _, values in parts) <= 1 << 12
    assert [rows.start for rows, _ in parts[1:]] == [rows.stop for rows, _ in parts[:-1]]
    whole = torch.cat([values for _, values in parts], 1)
    assert torch.allclose(whole, net(torch.from_numpy(windows))[0], atol=1e-5)


def test_a_stopped_run_goes_on_to_the_same_answer(tmp_path):
    image, patch, net = image_of(1, 90, 24), (8, 12), headed(1, 3, 6, (8, 12))
    whole, out = np.zeros((90, 24), np.uint8), np.zeros((90, 24), np.uint8)
    predict_strips(net, image, whole, patch=patch, num_classes=6)
    calls = []

    def failing(batch):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return net.features(batch)

    run = {"patch": patch, "num_classes": 6, "state_path": tmp_path / "state.json"}
    with contextlib.suppress(KeyboardInterrupt):
        predict_strips(Headed(failing, net.weight, net.bias), image, out, **run)
    assert 0 < (out == whole).mean() < 1
    predict_strips(net, image, out, **run)
    assert np.array_equal(out, whole)


def test_what_cannot_be_is_refused():
    image, out, net = image_of(1, 20, 20), np.zeros((20, 20), np.uint8), headed(1, 3, 6, (8, 8))
    with pytest.raises(ModelError, match=r"\(6, 3\) and \(3,\)"):
        Headed(net.features, net.weight, net.bias[:3])
    with pytest.raises(ModelError, match="last layer holds NaN"):
        Headed(net.features, net.weight * np.nan, net.bias)
    with pytest.raises(ModelError, match="9 logits"):
        predict_strips(net, image, out, patch=(8, 8), num_classes=9)
    narrow = Headed(lambda batch: batch, net.weight, net.bias)
    with pytest.raises(ModelError, match=r"features of shape \(1, 3, 8, 8\)"):
        predict_strips(narrow, image, out, patch=(8, 8), num_classes=6)
    for broken in (np.nan, np.inf):
        bad = Headed(lambda batch, b=broken: net.features(batch) * b, net.weight, net.bias)
        with pytest.raises(ModelError, match="answered with NaN"):
            predict_strips(bad, image, out, patch=(8, 8), num_classes=6)
