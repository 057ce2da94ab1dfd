import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from brodmann.nets.layers import ELU, Conv3d, InstanceNorm3d


def compared(ours, theirs, values, atol=1e-4):
    """Answers and all gradients of a layer and of torch's with the same weights."""
    theirs.load_state_dict(ours.state_dict())
    found = []
    for net in (ours, theirs):
        entering = values.clone().requires_grad_()
        answer = net(entering)
        answer.square().sum().backward()
        found.append([answer, entering.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (1, 1, 1), (3, 1, 5), (5, 5, 5)])
@pytest.mark.parametrize(
    "shape", [(4, 6, 5), (5, 6, 7), (5, 7, 6), (5, 7, 9), (1, 6, 6), (2, 6, 6), (3, 4, 1)]
)
@pytest.mark.parametrize("samples", [1, 2])
def test_a_convolution_is_torchs(kernel, shape, samples):
    torch.manual_seed(0)
    padding = tuple(k // 2 for k in kernel)
    ours, theirs = (kind(3, 4, kernel, padding=padding) for kind in (Conv3d, nn.Conv3d))
    compared(ours, theirs, torch.randn(samples, 3, *shape))


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"padding": 0},
        {"padding": "same"},
        {"padding": 2, "dilation": 2},
        {"padding": 1, "padding_mode": "replicate"},
        {"padding": 1, "groups": 2},
        {"padding": 1, "bias": False},
    ],
)
def test_a_convolution_of_another_kind_is_torchs_too(options):
    torch.manual_seed(0)
    ours, theirs = (kind(4, 4, 3, **options) for kind in (Conv3d, nn.Conv3d))
    compared(ours, theirs, torch.randn(1, 4, 6, 6, 6))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3)])
def test_a_small_convolution_avoids_the_slow_kernel(kernel):
    net = Conv3d(4, 4, kernel, padding=tuple(k // 2 for k in kernel))
    values = torch.randn(1, 4, 6, 8, 8)
    with torch.profiler.profile() as seen:
        net(values).sum().backward()
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv3d" in name for name in names)
    with torch.profiler.profile() as seen:
        nn.Conv3d.forward(net, values)
    # Should torch no longer be slow here, the layer can go.
    assert any("slow_conv3d" in event.key for event in seen.key_averages())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("samples", [1, 3])
def test_instance_norm_is_torchs_in_either_mode(layout, samples):
    torch.manual_seed(0)
    values = (3 + 2 * torch.randn(samples, 5, 4, 6, 7)).to(memory_format=layout)
    ours, theirs = InstanceNorm3d(5, affine=True), nn.InstanceNorm3d(5, affine=True)
    nn.init.normal_(ours.weight)
    compared(ours, theirs, values, atol=1e-3)
    assert_close(ours.eval()(values), ours.train()(values))


def test_elu_is_torchs_with_its_gradient():
    values = torch.linspace(-30, 30, 1001)
    compared(ELU(), nn.ELU(), values, atol=2e-7)
    values = torch.randn(7, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(ELU(), [values])
    assert_close(ELU()(values), F.elu(values))
