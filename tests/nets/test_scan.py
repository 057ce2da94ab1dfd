import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from brodmann.core import ModelError
from brodmann.nets import scan as room
from brodmann.nets.scan import (
    scan,
    scan_sequential,
    selective_scan,
    selective_scan_sequential,
)


def operands(length, heads=4, width=3, groups=2, state=5, batch=2, seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, heads, width, generator=rng, dtype=dtype)
    log_decay = -3 * torch.rand(batch, length, heads, generator=rng, dtype=dtype)
    B, C = torch.randn(2, batch, length, groups, state, generator=rng, dtype=dtype)
    return x, log_decay, B, C


def selective_operands(length, channels=4, state=3, batch=2, seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    u = torch.randn(batch, length, channels, generator=rng, dtype=dtype)
    dt = torch.rand(batch, length, channels, generator=rng, dtype=dtype)
    A = -4 * torch.rand(channels, state, generator=rng, dtype=dtype)
    B, C = torch.randn(2, batch, length, state, generator=rng, dtype=dtype)
    return u, dt, A, B, C


SEVERAL = settings(max_examples=25, deadline=None)


@SEVERAL
@given(
    length=st.integers(1, 90),
    groups=st.integers(1, 3),
    share=st.integers(1, 3),
    width=st.integers(1, 4),
    state=st.integers(1, 6),
    chunk=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_scan_is_the_sequential_recurrence(length, groups, share, width, state, chunk, seed):
    parts = operands(length, groups * share, width, groups, state, seed=seed)
    assert (scan(*parts, chunk) - scan_sequential(*parts)).abs().max() < 1e-12


@SEVERAL
@given(
    length=st.integers(1, 60),
    channels=st.integers(1, 5),
    state=st.integers(1, 6),
    chunk=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_selective_scan_is_the_sequential_recurrence(length, channels, state, chunk, seed):
    parts = selective_operands(length, channels, state, seed=seed)
    off = selective_scan(*parts, chunk) - selective_scan_sequential(*parts)
    assert off.abs().max() < 1e-12


@pytest.mark.parametrize("length", [1, 7, 1000, 1024])
def test_a_steady_decay_is_a_recursive_filter(length):
    x = np.random.default_rng(0).normal(size=length)
    expected = lfilter([2.0], [1, -0.9], x)
    values, ones = torch.from_numpy(x)[None, :, None, None], torch.ones(1, length, 1, 1)
    decay = torch.full((1, length, 1), 0.9, dtype=torch.float64).log()
    y = scan(values, decay, 2 * ones.double(), ones.double())
    assert np.abs(y.flatten().numpy() - expected).max() < 1e-12
    rate, flat = torch.tensor([[np.log(0.9)]]), values[..., 0]
    y = selective_scan(flat, torch.ones_like(flat), rate, 2 * flat**0, flat**0)
    assert np.abs(y.flatten().numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("chunk", [1, 3, 4, 20])
def test_gradient_of_scan_agrees_with_finite_differences(chunk):
    parts = [part.requires_grad_() for part in operands(11, 2, 2, 1, 2, batch=1)]
    assert torch.autograd.gradcheck(lambda *p: scan(*p, chunk), parts)


@pytest.mark.parametrize(("chunk", "slab"), [(1, 99), (3, 99), (20, 99), (3, 4)])
def test_gradient_of_selective_scan_agrees_with_finite_differences(chunk, slab, monkeypatch):
    monkeypatch.setattr(room, "SLAB", slab)
    parts = [part.requires_grad_() for part in selective_operands(7, 2, 2, batch=1)]
    assert torch.autograd.gradcheck(lambda *p: selective_scan(*p, chunk), parts)


def test_slabs_change_neither_answer_nor_gradient(monkeypatch):
    parts = [part.requires_grad_() for part in selective_operands(50)]
    whole = selective_scan(*parts, 4)
    gradients = torch.autograd.grad(whole.square().sum(), parts)
    monkeypatch.setattr(room, "SLAB", 12)
    cut = selective_scan(*parts, 4)
    assert torch.allclose(whole, cut, atol=1e-12)
    for a, b in zip(gradients, torch.autograd.grad(cut.square().sum(), parts)):
        assert torch.allclose(a, b, atol=1e-10)


def test_it_is_causal_and_not_blind():
    x, log_decay, B, C = operands(70)
    later = [part.clone() for part in (x, log_decay, B, C)]
    for part in later:
        part[:, 41:] = -part[:, 41:].abs()
    before, after = scan(x, log_decay, B, C, 16), scan(*later, 16)
    assert torch.equal(before[:, :41], after[:, :41])
    x[:, 3] += 1
    assert (scan(x, log_decay * 0, B, C, 16)[:, 69] - before[:, 69]).abs().min() > 0


def test_of_two_orders_each_is_the_other_seen_from_behind():
    parts = operands(37)
    behind = scan(*(part.flip(1) for part in parts)).flip(1)
    expected = scan_sequential(*(part.flip(1) for part in parts)).flip(1)
    assert torch.allclose(behind, expected, atol=1e-12)
    assert not torch.allclose(behind, scan(*parts), atol=1e-3)


def test_weak_decays_survive_a_strong_one_in_float32():
    x, log_decay, B, C = operands(200)
    log_decay = log_decay / 100
    log_decay[:, 50], log_decay[:, 120] = -1e6, -torch.inf
    expected = scan_sequential(x, log_decay, B, C)
    low = [part.float() for part in (x, log_decay, B, C)]
    assert (scan(*low, 64) - expected).abs().max() < 1e-4 * expected.abs().max()
    low = [part.requires_grad_() for part in low]
    for gradient in torch.autograd.grad(scan(*low, 64).sum(), low):
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_lower_precision_costs_rounding_only(dtype, tolerance):
    parts = [part.to(dtype) for part in operands(300)]
    answer = scan(*parts)
    assert answer.dtype == dtype
    expected = scan_sequential(*(part.double() for part in parts))
    assert (answer.double() - expected).abs().max() < tolerance * expected.abs().max()
    parts = [part.to(dtype) for part in selective_operands(300)]
    answer = selective_scan(*parts)
    assert answer.dtype == dtype
    expected = selective_scan_sequential(*(part.double() for part in parts))
    assert (answer.double() - expected).abs().max() < tolerance * expected.abs().max()


def test_mixed_precision_does_not_reach_into_it():
    parts = operands(100, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = scan(*parts)
    assert torch.equal(mixed, scan(*parts))


def test_nothing_in_is_nothing_out():
    assert scan(*(part[:, :0] for part in operands(3))).shape == (2, 0, 4, 3)
    u, dt, A, B, C = selective_operands(3)
    assert selective_scan(u[:, :0], dt[:, :0], A, B[:, :0], C[:, :0]).shape == (2, 0, 4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, a, B, C: (x, a[..., :1], B, C),
        lambda x, a, B, C: (x[0], a, B, C),
        lambda x, a, B, C: (x, a, B[:, :2], C),
        lambda x, a, B, C: (x, a, B.repeat(1, 1, 2, 1)[:, :, :3], C.repeat(1, 1, 2, 1)[:, :, :3]),
        lambda x, a, B, C: (x, a, B, C, 0),
    ],
)
def test_shapes_that_do_not_fit_are_refused(spoil):
    with pytest.raises(ModelError, match="scan"):
        scan(*spoil(*operands(5)))


@pytest.mark.parametrize("which", range(5))
def test_selective_shapes_that_do_not_fit_are_refused(which):
    parts = list(selective_operands(5))
    parts[which] = parts[which][:1]
    with pytest.raises(ModelError, match="selective_scan"):
        selective_scan(*parts)
    with pytest.raises(ModelError, match="chunk"):
        selective_scan(*selective_operands(5), 0)


def test_nets_need_no_zarr_dask_or_monai():
    names = ("scan", "mamba", "superhuman", "segmamba", "swinunetr")
    code = (
        f"import sys, {', '.join(f'brodmann.nets.{name}' for name in names)}; "
        "print([m for m in ('zarr', 'dask', 'monai', 'distributed', 'mamba_ssm', 'lightning') "
        "if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
