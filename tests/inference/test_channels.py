"""Channels in blocks are those of one pass in memory, bit for bit, also after an interruption."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import Convention, ModelError, OutputError, RecipeError, Volume
from brodmann.inference.channels import _block, predict_channels, probabilities_uint8
from brodmann.inference.heads import Headed
from brodmann.inference.tiles import Grid, sliding_logits
from brodmann.io import read_volume

SPACING = (0.04, 0.004, 0.004)


def image_of(shape, seed=0):
    values = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    return Volume(values, "czyx" if len(shape) == 3 else "cyx", SPACING[-len(shape) :])


class Net:
    """A net whose answer depends on the place in the window, so that blending matters."""

    def __init__(self, channels, seed=0):
        rng = np.random.default_rng(seed)
        self.scale = torch.from_numpy(rng.normal(size=channels).astype(np.float32))
        self.calls, self.fails_at = 0, None

    def __call__(self, x):
        if self.calls == self.fails_at:
            raise OSError(errno.EIO, "the card fell out")
        self.calls += len(x)
        ramp = torch.linspace(-1, 1, x[0, 0].numel()).reshape(x.shape[2:])
        y = 3 * x + ramp
        return y * self.scale.reshape(1, -1, *(1,) * (x.ndim - 2))


axis = st.tuples(st.integers(1, 22), st.integers(1, 9), st.integers(1, 25))


@settings(deadline=None, max_examples=15)
@given(
    st.lists(axis, min_size=2, max_size=3),
    st.sampled_from([0.3, 0.5, 1.0]),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 99),
)
def test_blocks_never_change_a_bit(axes, step, channels, headed, seed):
    shape, patch, block = (tuple(a[i] for a in axes) for i in range(3))
    image = image_of(shape, seed)
    nets = [Net(channels, seed), Net(channels, seed + 1)]
    if headed:
        rng = np.random.default_rng(seed)
        weight = torch.from_numpy(rng.normal(size=(channels, 1)).astype(np.float32))
        nets = [Headed(Net(1, s), weight, torch.zeros(channels)) for s in (seed, seed + 1)]
    more = dict(patch=patch, step=step, prepare=lambda values: values - 0.5)
    whole = sliding_logits(nets, image, num_classes=channels, **more)
    for blocks in (block, None):
        out = np.zeros((channels, *shape), np.float32)
        predict_channels(
            nets, image, out, channels=channels, block=blocks, dtype=np.float32,
            transform=lambda logits: logits, sums_bytes=4000, **more,
        )  # fmt: skip
        assert np.array_equal(out, whole)


def test_uint8_is_the_rounded_sigmoid():
    logits = np.linspace(-120, 120, 10001, dtype=np.float32)
    exact = np.rint(255 / (1 + np.exp(-logits.astype(np.float64))))
    found = probabilities_uint8(logits)
    assert np.abs(found - exact).max() <= 1 and (found == exact).mean() > 0.999
    with pytest.raises(ModelError, match="NaN"):
        probabilities_uint8(np.array([np.nan], np.float32))


def test_windows_are_counted_and_the_overhead_is_what_the_net_saw():
    image, net = image_of((12, 40, 50)), Net(2)
    out = np.zeros((2, 12, 40, 50), np.uint8)
    found = predict_channels(net, image, out, patch=(4, 16, 16), channels=2, block=(5, 20, 25))
    assert net.calls == found["predicted"] > found["windows"]
    assert found["overhead"] == pytest.approx(net.calls / found["windows"])
    net.calls = 0
    found = predict_channels(net, image, out, patch=(4, 16, 16), channels=2)
    assert net.calls == found["windows"] and found["overhead"] == 1


def test_chosen_blocks_fit_memory_and_chunks():
    grid = Grid((300, 4000, 5000), (16, 128, 128))

    class Stored:
        shards, chunks = None, (1, 32, 128, 128)

    for room in (1 << 28, 1 << 30):
        deep, *wide = _block(None, Stored, grid, 3, room)
        assert all(n % c == 0 for n, c in zip((deep, *wide), (32, 128, 128)))
        assert 4 * 3 * (2 * deep) * np.prod(wide) <= room
    assert _block((1, 100, 129), Stored, grid, 3, 1) == (32, 128, 256)
    with pytest.raises(RecipeError):
        _block((1, 0, 1), Stored, grid, 3, 1)


@pytest.mark.parametrize("fails_at", [0, 5, 17])
def test_interrupted_work_goes_on_and_ends_the_same(tmp_path, fails_at):
    image, net = image_of((70, 40, 50)), Net(3)
    convention = Convention()
    more = dict(patch=(8, 24, 24), channels=3, convention=convention)
    whole = predict_channels(net, image, tmp_path / "whole.zarr", **more)
    expected = probabilities_uint8(sliding_logits(net, image, patch=(8, 24, 24), num_classes=3))
    assert np.array_equal(read_volume(tmp_path / "whole.zarr").numpy(), expected)
    group = zarr.open_group(str(tmp_path / "whole.zarr"), mode="r")
    assert Convention.from_dict(group.attrs["affinities"]) == convention

    net.calls, net.fails_at = 0, whole["windows"] * fails_at // 20
    place = dict(marks=tmp_path / "marks", key="k", **more)
    with pytest.raises(OSError, match="fell out"):
        predict_channels(net, image, tmp_path / "a.zarr", **place)
    marked = len(list((tmp_path / "marks").rglob("*.json")))
    assert marked == (fails_at * 70 // 20 - 8) // 32 if fails_at > 5 else marked == 0
    before, net.fails_at, net.calls = net.calls, None, 0
    predict_channels(net, image, tmp_path / "a.zarr", **place)
    assert net.calls < whole["windows"] if marked else net.calls == whole["windows"]
    assert net.calls + before >= whole["windows"]
    assert np.array_equal(read_volume(tmp_path / "a.zarr").numpy(), expected)
    files = {
        p.relative_to(tmp_path / "whole.zarr"): p.read_bytes()
        for p in (tmp_path / "whole.zarr").rglob("*")
        if p.is_file() and p.parent.name != "whole.zarr"
    }
    for name, data in files.items():
        assert (tmp_path / "a.zarr" / name).read_bytes() == data, name

    net.calls = 0
    predict_channels(net, image, tmp_path / "a.zarr", **place)
    assert net.calls == 0, "all is done"
    predict_channels(net, image, tmp_path / "a.zarr", **{**place, "key": "other weights"})
    assert net.calls == whole["windows"]


def test_marks_without_their_output_count_for_nothing(tmp_path):
    import shutil

    image, net = image_of((10, 30, 30)), Net(1)
    place = dict(patch=(4, 16, 16), channels=1, marks=tmp_path / "marks")
    predict_channels(net, image, tmp_path / "a.zarr", **place)
    expected = read_volume(tmp_path / "a.zarr").numpy()
    shutil.rmtree(tmp_path / "a.zarr")
    predict_channels(net, image, tmp_path / "a.zarr", **place)
    assert np.array_equal(read_volume(tmp_path / "a.zarr").numpy(), expected)


def test_a_full_disk_is_an_output_error_and_not_done(tmp_path, monkeypatch):
    image, net = image_of((70, 30, 30)), Net(1)
    place = dict(patch=(8, 16, 16), channels=1, marks=tmp_path / "marks")
    import zarr.storage._local as local

    put, count = local._put, iter(range(10**6))

    def full(path, *rest, **more):
        if "/c/" in path.as_posix() and next(count) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_put", full)
        with pytest.raises(OutputError, match="No space left"):
            predict_channels(net, image, tmp_path / "a.zarr", **place)
    assert len(list((tmp_path / "marks").rglob("*.json"))) == 1
    predict_channels(net, image, tmp_path / "a.zarr", **place)
    expected = probabilities_uint8(sliding_logits(net, image, patch=(8, 16, 16), num_classes=1))
    assert np.array_equal(read_volume(tmp_path / "a.zarr").numpy(), expected)


def test_what_does_not_fit_is_refused(tmp_path):
    image = image_of((4, 20, 20))
    with pytest.raises(RecipeError, match="a channel for each offset"):
        predict_channels(
            Net(2), image, tmp_path / "a.zarr", patch=(2, 8, 8), channels=2, convention=Convention()
        )
    with pytest.raises(OutputError, match="the output must be"):
        predict_channels(Net(2), image, np.zeros((3, 4, 20, 20), np.uint8), patch=(2, 8, 8), channels=2)  # fmt: skip
    with pytest.raises(ModelError, match="logits of shape"):
        predict_channels(Net(2), image, np.zeros((3, 4, 20, 20), np.uint8), patch=(2, 8, 8), channels=3)  # fmt: skip
    with pytest.raises(OutputError, match="the transform must give"):
        predict_channels(
            Net(1), image, np.zeros((1, 4, 20, 20), np.uint8), patch=(2, 8, 8), channels=1,
            transform=lambda logits: logits,
        )  # fmt: skip
