import sys
from types import ModuleType

import pytest
import torch
from torch.testing import assert_close

from brodmann.core import RecipeError
from brodmann.nets import scan_kernels
from brodmann.nets.mamba import FORWARD, REVERSE, CausalConv, Mixer, ScanMixer, through_slices
from brodmann.nets.scan import scan, selective_scan

KINDS = pytest.mark.parametrize("recurrence", ["mamba2", "mamba1"])


def block(recurrence="mamba2", seed=0, **options):
    torch.manual_seed(seed)
    return ScanMixer(8, recurrence=recurrence, state=4, head_dim=4, chunk=5, **options)


def sequence(length=23, channels=8, batch=2):
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(1))


@KINDS
def test_in_one_direction_nothing_is_seen_ahead(recurrence):
    net, values = block(recurrence, bidirectional=False).eval(), sequence()
    changed = values.clone()
    changed[:, 12:] += 1
    a, b = net(values), net(changed)
    assert torch.equal(a[:, :12], b[:, :12])
    assert (a[:, 12:] - b[:, 12:]).abs().max() > 0.1


@KINDS
def test_in_both_directions_each_end_sees_the_other(recurrence):
    net, values = block(recurrence).eval(), sequence()
    for place, seen in ((0, -1), (-1, 0)):
        changed = values.clone()
        changed[:, place] = -3
        assert (net(values)[:, seen] - net(changed)[:, seen]).abs().max() > 0


@KINDS
def test_with_directions_swapped_a_reversed_sequence_gives_the_reversed_answer(recurrence):
    net, values = block(recurrence).eval(), sequence()
    expected = net(values)
    first, second = net.mixer.directions
    net.mixer.directions = torch.nn.ModuleList([second, first])
    assert_close(net(values.flip(1)).flip(1), expected)


@KINDS
def test_it_is_residual(recurrence):
    net, values = block(recurrence), sequence()
    torch.nn.init.zeros_(net.mixer.out_proj.weight)
    assert torch.equal(net(values), values)


@KINDS
def test_every_weight_learns_and_a_seed_makes_a_net(recurrence):
    net, again, other = block(recurrence), block(recurrence), block(recurrence, seed=1)
    values = sequence()
    assert torch.equal(net(values), again(values))
    assert not torch.equal(net(values), other(values))
    net(values).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad.abs().max() > 0, name


def test_mamba1_is_that_of_an_independent_block():
    mambapy = pytest.importorskip("mambapy.mamba")
    torch.manual_seed(0)
    theirs = mambapy.MambaBlock(mambapy.MambaConfig(d_model=32, n_layers=1, d_state=6))
    ours = Mixer(32, recurrence="mamba1", state=6)
    way, weights = ours.directions[0], theirs.state_dict()
    weights["in_proj.weight"] = torch.cat(weights["in_proj.weight"].chunk(2)[::-1])
    weights["directions.0.conv.weight"] = weights.pop("conv1d.weight")[:, 0].T
    weights["directions.0.conv.bias"] = weights.pop("conv1d.bias")
    for name in [*way.state_dict()]:
        if not name.startswith("conv"):
            weights[f"directions.0.{name}"] = weights.pop(name)
    ours.load_state_dict(weights)
    values = sequence(75, 32)
    assert_close(ours(values), theirs(values), atol=1e-5, rtol=1e-4)


def test_the_short_convolution_is_torchs():
    conv, values = CausalConv(8, 4), sequence()
    padded = torch.nn.functional.pad(values.transpose(1, 2), (3, 0))
    expected = torch.nn.functional.conv1d(padded, conv.weight.T[:, None], conv.bias, groups=8)
    assert_close(conv(values), torch.nn.functional.silu(expected).transpose(1, 2))


def test_orders_put_back_what_they_put_in_order():
    values = sequence(24)
    for order in (FORWARD, REVERSE, through_slices(4)):
        assert torch.equal(order.back(order.there(values)), values)
    volume = values.unflatten(1, (4, 6))
    assert torch.equal(through_slices(4).there(values)[:, :4], volume[:, :, 0])


def test_what_cannot_be_built_is_refused():
    with pytest.raises(RecipeError, match="did you mean 'mamba1'"):
        ScanMixer(8, recurrence="mamba11")
    with pytest.raises(RecipeError, match="multiple of groups"):
        Mixer(8, head_dim=8, groups=3)
    with pytest.raises(ValueError, match="zip"):
        Mixer(8, directions=2)(sequence(), (FORWARD,))


def test_half_precision_runs_under_autocast():
    net, values = block().eval(), sequence()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(values)
    assert_close(mixed.float(), net(values), atol=0.05, rtol=0.05)


@pytest.fixture
def fake_kernels(monkeypatch):
    """A made-up mamba_ssm whose kernels note what they are called with, and a made-up GPU."""
    calls = {}

    def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D=None):
        calls["mamba2"] = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "D": D, "chunk": chunk_size}
        return scan(x * dt[..., None], dt * A, B, C) + D[:, None] * x

    def selective_scan_fn(u, delta, A, B, C, D=None):
        calls["mamba1"] = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D}
        y = selective_scan(*(v.mT for v in (u, delta)), A, B.mT, C.mT)
        return y.mT + D[:, None] * u

    for path, function in (
        ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
        ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
    ):
        parts = path.split(".")
        for i in range(1, len(parts) + 1):
            name = ".".join(parts[:i])
            if name not in sys.modules:
                monkeypatch.setitem(sys.modules, name, ModuleType(name))
        setattr(sys.modules[path], function.__name__, function)
    monkeypatch.setattr(scan_kernels, "on_gpu", lambda values: True)
    scan_kernels.kernel.cache_clear()
    yield calls
    scan_kernels.kernel.cache_clear()


@KINDS
def test_kernels_are_called_with_the_same_parameters(recurrence, fake_kernels, monkeypatch):
    net, values = block(recurrence).eval(), sequence()
    answer = net(values)
    seen = fake_kernels[recurrence]
    way = net.mixer.directions[1]
    assert_close(seen["A"], -way.A_log.exp())
    assert torch.equal(seen["D"], way.D)
    if recurrence == "mamba2":
        assert seen["x"].shape == (2, 23, 4, 4)
        assert seen["dt"].shape == (2, 23, 4)
        assert seen["B"].shape == seen["C"].shape == (2, 23, 1, 4)
        assert (seen["dt"] > 0).all()
        assert seen["chunk"] == 256
    else:
        assert seen["u"].shape == seen["delta"].shape == (2, 16, 23)
        assert seen["B"].shape == seen["C"].shape == (2, 4, 23)
        assert all(seen[name].is_contiguous() for name in ("u", "delta", "B", "C"))
    monkeypatch.setattr(scan_kernels, "on_gpu", lambda values: False)
    fake_kernels.clear()
    assert_close(net(values), answer)
    assert not fake_kernels


@KINDS
def test_a_gpu_without_kernels_runs_the_plain_scan(recurrence, monkeypatch):
    monkeypatch.setattr(scan_kernels, "on_gpu", lambda values: True)
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    scan_kernels.kernel.cache_clear()
    net, values = block(recurrence).eval(), sequence()
    answer = net(values)
    monkeypatch.setattr(scan_kernels, "on_gpu", lambda values: False)
    assert torch.equal(answer, net(values))
    scan_kernels.kernel.cache_clear()
