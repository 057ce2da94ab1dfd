"""The compiled ConvMixer against torch's, in windows and on several threads."""

import numpy as np
import pytest
import torch
from torch import nn

from brodmann.nets.convmixer import convmixer
from brodmann.nets.convmixer_kernels import CompiledConvMixer

CASES = [
    # channels, classes, width, patch, kernel, depth, skip, size
    (1, 1, 8, (2, 4, 4), (3, 3, 3), 2, False, (8, 20, 24)),
    (3, 1, 64, (2, 4, 4), (3, 3, 3), 4, True, (10, 32, 140)),
    (2, 2, 24, (1, 2, 2), (1, 7, 5), 3, True, (3, 14, 38)),
    (1, 1, 160, (4, 8, 8), (3, 5, 5), 2, False, (8, 16, 160)),
    (3, 1, 16, (2, 4), (5, 9), 3, True, (22, 36)),
    (1, 3, 7, (1, 1, 1), (1, 1, 1), 1, True, (2, 3, 35)),
]


def made(channels, classes, width, patch, kernel, depth, skip):
    """A net whose normalisation is not that of the beginning."""
    torch.manual_seed(width)
    net = convmixer(channels, classes, (width,), (patch,), (kernel,), depth=depth, skip=skip)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3)
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    return net.eval()


@pytest.mark.parametrize(("channels", "classes", "width", "patch", "kernel", "depth", "skip", "size"),
                         CASES)  # fmt: skip
def test_it_answers_as_torch_does(channels, classes, width, patch, kernel, depth, skip, size):
    net = made(channels, classes, width, patch, kernel, depth, skip)
    image = 3 * torch.randn(1, channels, *size)
    with torch.no_grad():
        wanted = net(image)[0].numpy()
    found = CompiledConvMixer(net)(image[0].numpy())
    assert found.dtype == np.float32 and found.shape == (classes, *size)
    assert np.abs(found - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


def test_threads_and_windows_change_no_number():
    net = made(3, 1, 64, (2, 4, 4), (3, 3, 3), 2, True)
    compiled = CompiledConvMixer(net)
    image = np.random.default_rng(0).normal(size=(3, 24, 64, 200)).astype(np.float32)
    whole = compiled(image)
    for threads in (2, 5, 1000):
        assert np.array_equal(compiled(image, threads), whole)
    for trim in ((0, 0, 5), (3, 18, 41), (11, 31, 99)):
        inner = tuple(slice(t, n - t) for t, n in zip(trim, image.shape[1:]))
        assert np.array_equal(compiled(image, 3, trim), whole[:, *inner])
    reach = [-(-r // p) * p for r, p in zip(net.reach, net.patch)]
    for low, high in (((4, 8, 12), (24, 64, 188)), ((0, 4, 40), (22, 60, 92))):
        part = compiled(image[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]])
        inner = tuple(
            slice(r if a else 0, b - a - (r if b < n else 0))
            for r, a, b, n in zip(reach, low, high, image.shape[1:])
        )
        assert np.array_equal(part[0][inner], whole[0, low[0]:high[0], low[1]:high[1],
                                                    low[2]:high[2]][inner])  # fmt: skip


def test_gelu_is_right_far_from_zero():
    # Weights of one, so that values reach where erf is cut off.
    net = made(1, 1, 4, (1, 1, 1), (1, 1, 1), 1, False)
    image = torch.linspace(-60, 60, 4001).reshape(1, 1, 1, 1, -1)
    with torch.no_grad():
        wanted = net(image)[0].numpy()
    assert np.allclose(CompiledConvMixer(net)(image[0].numpy()), wanted, rtol=2e-6, atol=2e-5)


def test_what_is_no_number_stays_none():
    net = made(1, 1, 8, (1, 2, 2), (3, 3, 3), 1, True)
    image = np.zeros((1, 4, 8, 8), np.float32)
    image[0, 1, 3, 3] = np.nan
    assert np.isnan(CompiledConvMixer(net)(image)).any()
