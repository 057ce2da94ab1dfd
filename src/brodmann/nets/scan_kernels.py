"""Scans with step sizes, by mamba-ssm's kernels where they are installed and the data on a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

from brodmann.nets.scan import CHUNK, scan, selective_scan

KERNEL_CHUNK = 256
"""Steps in a chunk of the kernel; its own blocks' default."""


@cache
def kernel(module: str, name: str) -> Callable[..., Any] | None:
    """A function of mamba-ssm, or None where that is not installed or does not load."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, OSError):
        return None


def on_gpu(values: Tensor) -> bool:
    """Whether kernels can run on these values."""
    return values.is_cuda


def dual(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Mamba-2: ``h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t]``, ``y[t] = C[t] . h[t] + D x[t]``.

    Parameters
    ----------
    x : (batch, length, heads, head_dim) Tensor
    dt : (batch, length, heads) Tensor
        Step sizes, 0 or more.
    A, D : (heads,) Tensor
        Rates, below 0, and what passes by.
    B, C : (batch, length, groups, state) Tensor
    chunk : int
        Of the plain scan; the kernel has its own.

    Returns
    -------
    (batch, length, heads, head_dim) Tensor

    Example
    -------
    >>> import torch
    >>> x, one, B = torch.ones(1, 2, 1, 1), torch.ones(1), torch.ones(1, 2, 1, 1)
    >>> dual(x, x[..., 0], torch.tensor([0.5]).log(), B, B, one).flatten().tolist()
    [2.0, 2.5]
    """
    if on_gpu(x):
        fused = kernel("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
        if fused is not None:
            return fused(x, dt, A, B, C, chunk_size=KERNEL_CHUNK, D=D)
    y = scan(x * dt.unsqueeze(-1), dt * A, B, C, chunk)
    return (y + D.unsqueeze(-1) * x).to(x.dtype)


def selective(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Mamba-1: `selective_scan` with what passes by, ``y[t] = C[t] . h[t] + D u[t]``.

    Parameters
    ----------
    u, dt : (batch, length, channels) Tensor
        Inputs, and step sizes, 0 or more.
    A : (channels, state) Tensor
    B, C : (batch, length, state) Tensor
    D : (channels,) Tensor
    chunk : int
        Of the plain scan; the kernel has its own.

    Returns
    -------
    (batch, length, channels) Tensor

    Example
    -------
    >>> import torch
    >>> u, one = torch.ones(1, 2, 1), torch.ones(1)
    >>> selective(u, u, torch.tensor([[0.5]]).log(), u, u, one).flatten().tolist()
    [2.0, 2.5]
    """
    if on_gpu(u):
        fused = kernel("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")
        if fused is not None:
            # Its types must agree, and the length comes last.
            last = (part.to(u.dtype).transpose(1, 2).contiguous() for part in (u, dt, B, C))
            u_, dt_, B_, C_ = last
            return fused(u_, dt_, A.float(), B_, C_, D.float()).transpose(1, 2)
    return selective_scan(u, dt, A, B, C, chunk) + D.to(u.dtype) * u
