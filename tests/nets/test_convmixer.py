import math

import pytest
import torch
from torch import nn

from brodmann.core import ModelError, RecipeError
from brodmann.nets import NETS
from brodmann.nets.convmixer import DepthwiseConv3d, convmixer, unpatched

PATCH, KERNEL = (2, 4, 4), (3, 5, 3)


def made(patch=PATCH, kernel=KERNEL, width=8, depth=2, outputs=3):
    torch.manual_seed(0)
    return NETS["convmixer"](2, outputs, (width,), (patch,), (kernel,), depth=depth)


@pytest.mark.parametrize(
    ("patch", "kernel", "shape"),
    [(PATCH, KERNEL, (4, 8, 12)), ((1, 2, 2), (1, 7, 3), (3, 6, 4)), ((2, 4), (5, 3), (6, 8))],
)
def test_every_weight_learns_and_the_shape_is_kept(patch, kernel, shape):
    net = made(patch, kernel)
    answer = net(torch.randn(2, 2, *shape))
    assert answer.shape == (2, 3, *shape)
    answer.square().mean().backward()
    for name, weight in net.named_parameters():
        assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name


def test_the_weights_are_those_of_the_description():
    net = made(width=16, depth=3)
    tokens, volume = math.prod(PATCH), math.prod(KERNEL)
    embed = 2 * 16 * tokens + 16 + 2 * 16
    block = (16 * volume + 16 + 2 * 16) + (16 * 16 + 16 + 2 * 16)
    head = 16 * 3 * tokens + 3 * tokens
    assert sum(p.numel() for p in net.parameters()) == embed + 3 * block + head


def plain(net):
    """The same net of torch's own layers, as the paper draws it."""

    class Residual(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, values):
            return self.inner(values) + values

    blocks = [
        nn.Sequential(
            Residual(nn.Sequential(nn.Conv3d(8, 8, KERNEL, padding="same", groups=8), nn.GELU(), nn.BatchNorm3d(8))),
            nn.Conv3d(8, 8, 1), nn.GELU(), nn.BatchNorm3d(8),
        )
        for _ in range(2)
    ]  # fmt: skip
    other = nn.Sequential(
        nn.Conv3d(2, 8, PATCH, PATCH), nn.GELU(), nn.BatchNorm3d(8), *blocks, nn.Conv3d(8, 96, 1)
    )
    other.load_state_dict(dict(zip(other.state_dict(), net.state_dict().values())))
    return other


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_net_of_plain_layers(training):
    net = made()
    for values in net.buffers():
        if values.dtype.is_floating_point:
            values.uniform_(0.5, 2)
    other = plain(net).train(training)
    net.train(training)
    image = torch.randn(2, 2, 6, 16, 12)
    mine, theirs = net(image), unpatched(other(image), PATCH)
    assert torch.allclose(mine, theirs, atol=1e-5)
    weights = torch.randn(mine.shape)
    (mine * weights).sum().backward()
    (theirs * weights).sum().backward()
    for ours, plain_one in zip(net.parameters(), other.parameters()):
        assert torch.allclose(ours.grad, plain_one.grad, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (3, 5, 5), (5, 7, 1), (1, 3, 9)])
def test_depthwise_gradients_are_torchs(kernel):
    torch.manual_seed(1)
    pad = tuple(k // 2 for k in kernel)
    mine = DepthwiseConv3d(5, 5, kernel, padding=pad, groups=5)
    theirs = nn.Conv3d(5, 5, kernel, padding=pad, groups=5)
    theirs.load_state_dict(mine.state_dict())
    images = [torch.randn(2, 5, 2, 6, 5)]
    images.append(images[0].clone())
    outward = torch.randn(2, 5, 2, 6, 5)
    for net, image in zip((mine, theirs), images):
        net(image.requires_grad_()).mul(outward).sum().backward()
    assert torch.allclose(images[0].grad, images[1].grad, atol=1e-5)
    for ours, other in zip(mine.parameters(), theirs.parameters()):
        assert torch.allclose(ours.grad, other.grad, atol=1e-4)


def test_a_skip_adds_the_inputs_of_each_voxel():
    torch.manual_seed(0)
    net = convmixer(2, 1, (8,), (PATCH,), (KERNEL,), depth=1, skip=True).eval()
    image = torch.randn(1, 2, 4, 8, 8)
    whole, weights = net(image), net.skip.weight.flatten()
    alone, net.skip = net.skip, None
    added = whole - net(image)
    expected = (image * weights.view(1, 2, 1, 1, 1)).sum(1, keepdim=True) + alone.bias
    assert torch.allclose(added, expected, atol=1e-5)


def test_an_answer_depends_on_its_reach_and_on_no_more():
    net = made(patch=(1, 2, 2), kernel=(1, 3, 5), depth=2, outputs=1).eval()
    assert net.reach == (0, 5, 9)
    image = torch.randn(1, 2, 3, 40, 40, requires_grad=True)
    furthest = torch.zeros(3, dtype=torch.long)
    for y, x in [(20, 20), (21, 20), (20, 21), (21, 21)]:
        (grad,) = torch.autograd.grad(net(image)[0, 0, 1, y, x], image)
        seen = (grad.abs().sum((0, 1)) > 0).nonzero() - torch.tensor([1, y, x])
        furthest = torch.maximum(furthest, seen.abs().amax(0))
    assert furthest.tolist() == list(net.reach)


def test_bad_plans_and_images_are_refused():
    with pytest.raises(RecipeError, match="one stage"):
        convmixer(1, 1, (8, 16), ((1, 1, 1), (2, 2, 2)))
    with pytest.raises(RecipeError, match="kernels odd"):
        convmixer(1, 1, (8,), ((2, 2, 2),), ((3, 4, 3),))
    with pytest.raises(RecipeError, match="each of 2 or 3 axes"):
        convmixer(1, 1, (8,), ((2, 2, 2),), ((3, 3),))
    with pytest.raises(ModelError, match="multiples of"):
        made()(torch.zeros(1, 2, 4, 8, 9))
    with pytest.raises(ModelError, match="takes"):
        made()(torch.zeros(1, 1, 4, 8, 8))
