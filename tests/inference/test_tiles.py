"""Windows, weights and whole logits against nnU-Net's rule, scipy, MONAI and a plain loop."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from brodmann.core import DataError, RecipeError, Volume, keyed_rng
from brodmann.inference import Grid, sliding_logits, tile_starts
from brodmann.inference.tiles import add_weighted


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 400), st.integers(1, 90), st.floats(0.05, 1.0))
def test_starts_cover_evenly_with_at_most_the_step_between(extra, patch, step):
    size = patch + extra
    starts = tile_starts(size, patch, step)
    assert starts[0] == 0 and starts[-1] == size - patch
    gaps = np.diff(starts)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1
    # Rounding of even spacing may add less than a pixel to the step.
    assert gaps.max() < max(1, patch * step) + 1 and gaps.max() <= patch
    # One window fewer could not keep the distance.
    assert (len(starts) - 2) * max(1, patch * step) < extra + 1e-6


def test_starts_of_the_full_section_are_those_of_nnunet():
    # Its compute_steps_for_sliding_window, written out for 6383 rows and patch 768.
    count = math.ceil((6383 - 768) / 384) + 1
    expected = [int(np.round((6383 - 768) / (count - 1) * i)) for i in range(count)]
    assert tile_starts(6383, 768, 0.5) == expected and count == 16
    assert tile_starts(768, 768, 0.5) == [0]


@pytest.mark.parametrize("patch", [(7, 12), (64, 96), (5, 8, 6)])
def test_weight_is_nnunets_gaussian(patch):
    delta = np.zeros(patch)
    delta[tuple(n // 2 for n in patch)] = 1
    expected = gaussian_filter(delta, [n / 8 for n in patch], mode="constant", cval=0)
    expected /= expected.max()
    weight = Grid(patch, patch).weight().numpy()
    # scipy cuts its kernel off at four sigma, half the patch.
    assert np.allclose(weight[expected > 0], expected[expected > 0], rtol=1e-4, atol=0)
    assert weight.min() > 0 and weight.max() == 1


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_weight_sums_are_those_of_a_plain_loop(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(ndim))
    patch = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    grid = Grid(shape, patch, data.draw(st.sampled_from([0.3, 0.5, 1.0])))
    total = np.zeros(grid.padded)
    for start in itertools.product(*grid.starts):
        total[tuple(slice(a, a + n) for a, n in zip(start, patch))] += grid.weight().numpy()
    product = grid.weight_sums()[0]
    for axis in grid.weight_sums()[1:]:
        product = np.multiply.outer(product, axis)
    assert (total > 0).all() and np.allclose(product, total, rtol=1e-5)


def place_net(channels, classes, patch):
    rng = keyed_rng(3, "net")
    mix = torch.from_numpy(rng.normal(size=(classes, channels)).astype(np.float32))
    place = torch.from_numpy(rng.normal(size=(classes, *patch)).astype(np.float32))
    return lambda x: torch.einsum("kc,nc...->nk...", mix, x) + place


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((32, 60), (16, 12)), ((8, 40), (16, 16)), ((11, 7), (16, 16)), ((12, 16, 10), (8, 8, 4))],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_monais_where_the_tiles_coincide(shape, patch, batch):
    inferers = pytest.importorskip("monai.inferers")
    image = keyed_rng(0, "image", *shape).normal(size=(2, *shape)).astype(np.float32)
    net, grid = place_net(2, 4, patch), Grid(shape, patch)
    theirs = inferers.sliding_window_inference(
        torch.from_numpy(image[None]), patch, batch, net, overlap=0.5, roi_weight_map=grid.weight()
    )[0].numpy()
    ours = sliding_logits(net, image, patch=patch, num_classes=4, batch=batch)
    assert ours.dtype == np.float32 and ours.shape == (4, *shape)
    assert np.allclose(ours, theirs, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_logits_are_those_of_a_loop_in_float64(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    shape = tuple(data.draw(st.integers(1, 16)) for _ in range(ndim))
    patch = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    step = data.draw(st.sampled_from([0.3, 0.5, 0.8, 1.0]))
    image = keyed_rng(0, "image", *shape).normal(size=(2, *shape)).astype(np.float32)
    nets = [place_net(2, 3, patch), lambda x: 2 * torch.cat([x, x[:, :1]], 1)]
    grid = Grid(shape, patch, step)
    pad = [(b, p - b - n) for b, p, n in zip(grid.before, grid.padded, grid.shape)]
    padded = np.pad(2 * image + 1, [(0, 0), *pad])  # prepared first, so that padding is zero
    total, weights = np.zeros((3, *grid.padded)), np.zeros(grid.padded)
    for start in itertools.product(*grid.starts):
        window = tuple(slice(a, a + n) for a, n in zip(start, patch))
        crop = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *window)])[None])
        mean = (nets[0](crop)[0].double() + nets[1](crop)[0].double()).numpy() / 2
        weight = grid.weight().double().numpy()
        total[(slice(None), *window)] += mean * weight
        weights[window] += weight
    inside = tuple(slice(b, b + n) for b, n in zip(grid.before, shape))
    expected = (total / weights)[(slice(None), *inside)]
    ours = sliding_logits(
        nets, image, patch=patch, num_classes=3, step=step, prepare=lambda raw: 2 * raw + 1
    )
    assert np.allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_constant_net_gives_constants_and_keeps_its_tensor():
    answer = torch.arange(3.0)[None, :, None, None].expand(1, 3, 8, 6)
    logits = sliding_logits(lambda x: answer, np.zeros((1, 29, 17)), patch=(8, 6), num_classes=3)
    assert np.allclose(logits, np.arange(3.0)[:, None, None], rtol=1e-6)
    assert torch.equal(answer[0, :, 0, 0], torch.arange(3.0))


def test_weighted_sums_are_the_same_bits_however_they_are_cut():
    rng = keyed_rng(0, "cut")
    logits, sums = (torch.from_numpy(rng.normal(size=(5, 37, 41)).astype("f4")) for _ in range(2))
    weight = torch.from_numpy(rng.random((37, 41)).astype(np.float32))
    whole, cut = sums.clone(), sums.clone()
    add_weighted(whole, logits, weight)
    for y, x in itertools.product(range(0, 37, 5), range(0, 41, 3)):
        part = (slice(y, y + 5), slice(x, x + 3))
        add_weighted(cut[:, *part], logits[:, *part], weight[part])
    assert torch.equal(whole, cut)


def test_what_cannot_be_is_refused():
    with pytest.raises(RecipeError, match="2 sizes"):
        Grid((10, 10), (4, 4, 4))
    with pytest.raises(RecipeError, match="share of the patch"):
        Grid((10, 10), (4, 4), 0.0)
    with pytest.raises(DataError, match="empty"):
        Grid((10, 0), (4, 4))
    with pytest.raises(DataError, match=r"\(c, y, x\)"):
        sliding_logits(lambda x: x, np.zeros((5, 5)), patch=(4, 4), num_classes=1)


def test_reading_touches_the_window_only():
    class Watched:
        shape, dtype = (30, 40), np.dtype(np.float32)

        def __init__(self):
            self.seen = []

        def __getitem__(self, key):
            self.seen.append(key)
            return np.ones([s.stop - s.start for s in key], np.float32)

    watched = Watched()
    Grid((30, 40), (8, 10)).read(Volume(watched, "yx", (1, 1)), (22, 5), None)
    assert watched.seen == [(slice(22, 30), slice(5, 15))]
