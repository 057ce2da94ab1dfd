"""Linear recurrences over long sequences, in plain PyTorch, on any device.

`scan` is the state-space-dual form of Mamba-2 (Dao & Gu 2024): the decay is one number a head
and step, so that within a chunk the recurrence is a masked matrix product, and only the states
at the ends of chunks are carried on. `selective_scan` is the recurrence of Mamba-1 (Gu & Dao
2023), whose decay differs by channel and state. Both have a plain loop beside them, which is
their definition.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from brodmann.core import ModelError

CHUNK = 32
"""Steps in a chunk; the fastest on a CPU for 8 to 64 states."""
LEAST = -1000.0
"""Log decays below this are 0 in every float type; without a limit -inf - -inf would be NaN."""


def scan(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, chunk: int = CHUNK) -> Tensor:
    """Outputs of ``h[t] = exp(log_decay[t]) h[t-1] + B[t] x[t]``, ``y[t] = C[t] . h[t]``.

    Parameters
    ----------
    x : (batch, length, heads, head_dim) Tensor
        Inputs, already multiplied by the step size where there is one.
    log_decay : (batch, length, heads) Tensor
        Logarithm of the decay, 0 or less; -inf forgets all that was before.
    B, C : (batch, length, groups, state) Tensor
        How an input enters the states and how they are read; heads are a multiple of groups,
        and each group serves as many heads, in order.
    chunk : int
        Steps computed at once. It changes speed and memory, and the answer by rounding alone.

    Returns
    -------
    (batch, length, heads, head_dim) Tensor
        Of x's type. Half-precision inputs are computed with in float32.

    Raises
    ------
    ModelError
        If the shapes do not fit together.

    Source: Dao & Gu 2024, section 6. Sums of log decays are taken in float64, so that a strong
    decay does not drown the weak ones after it.

    Example
    -------
    >>> x, C = torch.ones(1, 4, 1, 1), torch.ones(1, 4, 1, 1)
    >>> scan(x, torch.full((1, 4, 1), 0.5).log(), C, C).flatten().tolist()
    [1.0, 1.5, 1.75, 1.875]
    """
    groups, state = _checked(x, log_decay, B, C, chunk)
    _, length, heads, width = x.shape
    if not length:
        return torch.zeros_like(x)
    chunk = min(chunk, length)
    kind = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        # (batch, chunks, groups, heads of a group, chunk, ...)
        x_, a = _chunks(x.to(kind), chunk), _chunks(log_decay[..., None].to(kind), chunk)
        B_, C_ = (_chunks(matrix.to(kind), chunk) for matrix in (B, C))
        split = (groups, heads // groups)
        x_, a = x_.unflatten(2, split), a.unflatten(2, split).squeeze(-1)
        B_, C_ = B_.unsqueeze(3), C_.unsqueeze(3)
        within, since = _decays(a)
        y = (within * (C_ @ B_.transpose(-1, -2))) @ x_
        if y.shape[1] > 1:
            ends = (within[..., -1, :, None] * x_).transpose(-1, -2) @ B_
            # Chunks become the steps of a shorter recurrence.
            states = ends.flatten(-2).movedim(1, -2)
            states = _recurrence(since[..., -1].movedim(1, -1), states, chunk)
            before = F.pad(states[..., :-1, :], (0, 0, 1, 0))
            before = before.movedim(-2, 1).unflatten(-1, (width, state)).transpose(-1, -2)
            read = C_ * since.unsqueeze(-1).exp()
            y = torch.baddbmm(*(part.flatten(0, -3) for part in (y, read, before))).view(y.shape)
        y = y.flatten(2, 3).transpose(2, 3).flatten(1, 2)[:, :length]
    return y.to(x.dtype)


def scan_sequential(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """`scan` step by step, as it is defined: slow, for tests and for reading."""
    groups, state = _checked(x, log_decay, B, C, 1)
    repeat = x.shape[2] // groups
    B, C = (matrix.repeat_interleave(repeat, 2) for matrix in (B, C))
    h = x.new_zeros(*x.shape[:1], *x.shape[2:], state)
    answers = []
    for t in range(x.shape[1]):
        h = log_decay[:, t, :, None, None].exp() * h + x[:, t, ..., None] * B[:, t, :, None]
        answers.append((h * C[:, t, :, None]).sum(-1))
    return torch.stack(answers, 1) if answers else torch.zeros_like(x)


def _checked(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, chunk: int) -> tuple[int, int]:
    """Groups and states, once all shapes fit."""
    if x.dim() != 4 or log_decay.shape != x.shape[:3]:
        raise ModelError(
            "a scan takes x (batch, length, heads, head_dim) and a decay for each head and step",
            "scan",
            f"x {tuple(x.shape)}, decay {tuple(log_decay.shape)}",
        )
    if B.dim() != 4 or B.shape != C.shape or B.shape[:2] != x.shape[:2] or x.shape[2] % B.shape[2]:
        raise ModelError(
            "B and C are (batch, length, groups, state), with heads a multiple of groups",
            "scan",
            f"x {tuple(x.shape)}, B {tuple(B.shape)}, C {tuple(C.shape)}",
        )
    if chunk < 1:
        raise ModelError("a chunk has at least one step", "scan", chunk)
    return B.shape[2], B.shape[3]


def _chunks(values: Tensor, chunk: int) -> Tensor:
    """(batch, length, k, c) -> (batch, chunks, k, chunk, c), zeros behind the end."""
    missing = -values.shape[1] % chunk
    if missing:
        values = F.pad(values, (0, 0, 0, 0, 0, missing))
    return values.unflatten(1, (-1, chunk)).transpose(2, 3)


def _decays(a: Tensor) -> tuple[Tensor, Tensor]:
    """What is left at step i of what entered at j <= i, (..., q, q), 0 above the diagonal;
    and the log of what is left of what was there before, (..., q)."""
    sums = a.clamp_min(LEAST).double().cumsum(-1)
    later = torch.ones(a.shape[-1:] * 2, dtype=torch.bool, device=a.device).triu(1)
    between = (sums[..., :, None] - sums[..., None, :]).to(a.dtype)
    return between.masked_fill(later, -math.inf).exp(), sums.to(a.dtype)


def _recurrence(a: Tensor, x: Tensor, chunk: int) -> Tensor:
    """All states of ``h[t] = exp(a[t]) h[t-1] + x[t]``; a (..., t), x (..., t, c)."""
    length = a.shape[-1]
    if length <= chunk or chunk == 1:
        return _decays(a)[0] @ x
    missing = -length % chunk
    a = F.pad(a, (0, missing)).unflatten(-1, (-1, chunk))
    x = F.pad(x, (0, 0, 0, missing)).unflatten(-2, (-1, chunk))
    within, since = _decays(a)
    h = within @ x
    ends = _recurrence(since[..., -1], h[..., -1, :], chunk)
    before = F.pad(ends[..., :-1, :], (0, 0, 1, 0)).unsqueeze(-2)
    h = h + since.exp().unsqueeze(-1) * before
    return h.flatten(-3, -2)[..., :length, :]


SLAB = 4096
"""Steps of `selective_scan` whose states are held at once while gradients are computed."""


def selective_scan(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Outputs of ``h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] u[t]``, ``y[t] = C[t] . h[t]``.

    Parameters
    ----------
    u, dt : (batch, length, channels) Tensor
        Inputs and step sizes, 0 or more.
    A : (channels, state) Tensor
        Rates, below 0.
    B, C : (batch, length, state) Tensor
    chunk : int
        Chunks go through their steps side by side, and their last states are carried on.

    Returns
    -------
    (batch, length, channels) Tensor
        Of u's type. Half-precision inputs are computed with in float32.

    Raises
    ------
    ModelError
        If the shapes do not fit together.

    Source: Gu & Dao 2023, algorithm 2. Each state of each channel decays by itself, so that
    there is no matrix product to use: `scan` is several times faster.

    Example
    -------
    >>> u, B = torch.ones(1, 4, 1), torch.ones(1, 4, 1)
    >>> selective_scan(u, u, torch.full((1, 1), 0.5).log(), B, B).flatten().tolist()
    [1.0, 1.5, 1.75, 1.875]
    """
    _check_selective(u, dt, A, B, C, chunk)
    kind = torch.promote_types(u.dtype, torch.float32)
    h = u.new_zeros(u.shape[0], *A.shape, dtype=kind)
    answers = []
    with torch.autocast(u.device.type, enabled=False):
        for begin in range(0, u.shape[1], SLAB):
            slab = (part[:, begin : begin + SLAB].to(kind) for part in (u, dt, B, C))
            if u.shape[1] > SLAB and torch.is_grad_enabled():
                y, h = checkpoint(_slab, *slab, A.to(kind), h, chunk, use_reentrant=False)
            else:
                y, h = _slab(*slab, A.to(kind), h, chunk)
            answers.append(y)
    return torch.cat(answers, 1).to(u.dtype) if answers else torch.zeros_like(u)


def selective_scan_sequential(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """`selective_scan` step by step, as it is defined: slow, for tests and for reading."""
    _check_selective(u, dt, A, B, C, 1)
    h = u.new_zeros(u.shape[0], *A.shape)
    answers = []
    for t in range(u.shape[1]):
        h = (dt[:, t, :, None] * A).exp() * h + (dt * u)[:, t, :, None] * B[:, t, None]
        answers.append((h * C[:, t, None]).sum(-1))
    return torch.stack(answers, 1) if answers else torch.zeros_like(u)


def _check_selective(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> None:
    fits = u.dim() == 3 and dt.shape == u.shape and A.dim() == 2 and len(A) == u.shape[2]
    if not fits or B.shape != C.shape or B.shape != (*u.shape[:2], A.shape[1]):
        raise ModelError(
            "a selective scan takes u and dt (batch, length, channels), A (channels, state), "
            "B and C (batch, length, state)",
            "selective_scan",
            ", ".join(str(tuple(part.shape)) for part in (u, dt, A, B, C)),
        )
    if chunk < 1:
        raise ModelError("a chunk has at least one step", "selective_scan", chunk)


def _slab(
    u: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, h: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Outputs (batch, length, channels) from states h (batch, channels, state) on; last states."""
    batch, length, channels = u.shape
    missing = -length % chunk
    # Steps first: (chunk, batch, chunks, ...). Steps of size 0 behind the end change nothing.
    u, dt, B, C = (
        F.pad(part, (0, 0, 0, missing)).unflatten(1, (-1, chunk)).movedim(2, 0).contiguous()
        for part in (u, dt, B, C)
    )
    entering, passed = (dt * u).unsqueeze(-1), dt.cumsum(0).unsqueeze(-1)
    B, C, dt = B.unsqueeze(-2), C.unsqueeze(-1), dt.unsqueeze(-1)
    own = torch.zeros_like(passed[0] * A)
    parts = []
    for i in range(chunk):
        own = torch.addcmul(entering[i] * B[i], (dt[i] * A).exp(), own)
        parts.append(own @ C[i])
    before = []
    whole = (passed[-1] * A).exp()
    for factor, end in zip(whole.unbind(1), own.unbind(1)):
        before.append(h)
        h = torch.addcmul(end, factor, h)
    start = torch.stack(before, 1)
    parts = [part + ((passed[i] * A).exp() * start) @ C[i] for i, part in enumerate(parts)]
    y = torch.stack(parts, 2).view(batch, -1, channels)
    return y[:, :length], h
