"""Blocks that mix a sequence by a scan: Mamba-1 and Mamba-2, in one direction or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brodmann.core import RecipeError, nearest
from brodmann.nets.scan import CHUNK
from brodmann.nets.scan_kernels import dual, selective

STEP_SIZES = (1e-3, 1e-1)
"""Step sizes at first, drawn evenly in their logarithm."""


@dataclass(frozen=True)
class Order:
    """A way through a sequence (n, length, c): put in order, and put back."""

    name: str
    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


FORWARD = Order("forward", lambda values: values, lambda values: values)
REVERSE = Order("reverse", lambda values: values.flip(1), lambda values: values.flip(1))


def through_slices(slices: int) -> Order:
    """From slice to slice at each place, where a sequence holds one slice after another.

    >>> order = through_slices(2)
    >>> order.there(torch.arange(6).reshape(1, 6, 1)).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """

    def there(values: Tensor) -> Tensor:
        return values.unflatten(1, (slices, -1)).transpose(1, 2).flatten(1, 2)

    def back(values: Tensor) -> Tensor:
        return values.unflatten(1, (-1, slices)).transpose(1, 2).flatten(1, 2)

    return Order("through slices", there, back)


class CausalConv(nn.Module):
    """Depthwise convolution over the last few steps, then SiLU; (n, length, channels).

    A sum of shifted products: channels stay last, and on a CPU its gradient takes half the
    time of a grouped convolution's.
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        bound = steps**-0.5
        self.weight = nn.Parameter(torch.empty(steps, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        steps, length = len(self.weight), values.shape[1]
        weight = self.weight.to(values.dtype)
        padded = F.pad(values, (0, 0, steps - 1, 0))
        mixed = self.bias.to(values.dtype)
        for i in range(steps):
            mixed = torch.addcmul(mixed, padded[:, i : i + length], weight[i])
        return F.silu(mixed)


class Dual(nn.Module):
    """One direction of Mamba-2: (n, length, `inputs`) -> (n, length, inner)."""

    def __init__(
        self, inner: int, state: int, conv: int, head_dim: int, groups: int, chunk: int
    ) -> None:
        super().__init__()
        self.head_dim, self.groups, self.chunk = head_dim, groups, chunk
        self.heads = inner // head_dim
        self.sizes = (inner, groups * state, groups * state)
        self.inputs = sum(self.sizes) + self.heads
        self.conv = CausalConv(sum(self.sizes), conv)
        self.dt_bias = nn.Parameter(_first_steps(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.heads))

    def forward(self, values: Tensor) -> Tensor:
        mixed, dt = values.split([sum(self.sizes), self.heads], -1)
        x, B, C = self.conv(mixed).split(self.sizes, -1)
        y = dual(
            x.unflatten(-1, (self.heads, self.head_dim)),
            F.softplus(dt.to(self.dt_bias.dtype) + self.dt_bias),
            -self.A_log.exp(),
            B.unflatten(-1, (self.groups, -1)),
            C.unflatten(-1, (self.groups, -1)),
            self.D,
            self.chunk,
        )
        return y.flatten(-2)


class Selective(nn.Module):
    """One direction of Mamba-1: (n, length, inner) -> (n, length, inner)."""

    def __init__(self, inner: int, state: int, conv: int, rank: int, chunk: int) -> None:
        super().__init__()
        self.inputs, self.chunk = inner, chunk
        self.sizes = (rank, state, state)
        self.conv = CausalConv(inner, conv)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(_first_steps(inner))
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))

    def forward(self, values: Tensor) -> Tensor:
        u = self.conv(values)
        low, B, C = self.x_proj(u).split(self.sizes, -1)
        dt = F.softplus(self.dt_proj(low))
        return selective(u, dt, -self.A_log.exp(), B, C, self.D, self.chunk)


RECURRENCES = ("mamba2", "mamba1")


class Mixer(nn.Module):
    """What a scan adds to a sequence: (n, length, channels) -> the same shape.

    In-projection, then for each direction a short causal convolution, SiLU and scan; the sum
    of the directions is gated, normalised (Mamba-2 only) and projected back. Directions share
    projections, gate and normalisation, and have their own convolution, rates, step sizes and,
    in Mamba-1, input-dependent weights, as in Vim (Zhu et al. 2024): the second costs little,
    and may remember over another distance than the first.

    Parameters
    ----------
    channels : int
    directions : int
        How many orders `forward` is given.
    state : int
        Numbers remembered for each inner channel.
    conv : int
        Steps that the convolution sees.
    expand : int
        Inner channels to one channel.
    head_dim : int
        Channels that decay together in Mamba-2; the largest divisor of the inner channels that
        also divides this is taken. Mamba-1 has no heads.
    groups : int
        Sets of B and C in Mamba-2; heads must be a multiple.
    recurrence : "mamba2" or "mamba1"
    chunk : int
        Steps that the plain scan computes at once.

    Raises
    ------
    RecipeError
        If the recurrence is unknown, or heads are no multiple of groups.

    Source: Gu & Dao 2023 (Mamba-1), Dao & Gu 2024 (Mamba-2). Uses mamba-ssm's kernels where
    they are installed and the data lie on a GPU, with the same parameters.

    Example
    -------
    >>> Mixer(8, directions=2)(torch.zeros(1, 5, 8), (FORWARD, REVERSE)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        directions: int = 1,
        state: int = 16,
        conv: int = 4,
        expand: int = 2,
        head_dim: int = 64,
        groups: int = 1,
        recurrence: str = "mamba2",
        chunk: int = CHUNK,
    ) -> None:
        super().__init__()
        if recurrence not in RECURRENCES:
            raise RecipeError(
                "unknown recurrence",
                "recurrence",
                repr(recurrence),
                nearest(recurrence, RECURRENCES),
            )
        inner, dims = channels * expand, math.gcd(channels * expand, head_dim)
        if recurrence == "mamba2":
            if (inner // dims) % groups:
                raise RecipeError(
                    "heads must be a multiple of groups", "groups", f"{inner // dims} heads"
                )
            ways = [Dual(inner, state, conv, dims, groups, chunk) for _ in range(directions)]
        else:
            rank = math.ceil(channels / 16)
            ways = [Selective(inner, state, conv, rank, chunk) for _ in range(directions)]
        self.sizes = (inner, ways[0].inputs)
        self.in_proj = nn.Linear(channels, sum(self.sizes), bias=False)
        self.directions = nn.ModuleList(ways)
        self.norm = nn.RMSNorm(inner, eps=1e-5) if recurrence == "mamba2" else None
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, values: Tensor, orders: Sequence[Order] = (FORWARD,)) -> Tensor:
        """(n, length, channels), and as many orders as the mixer has directions."""
        gate, entering = self.in_proj(values).split(self.sizes, -1)
        y = None
        for way, order in zip(self.directions, orders, strict=True):
            answer = order.back(way(order.there(entering)))
            y = answer if y is None else y + answer
        gated = y * F.silu(gate)
        if isinstance(self.norm, nn.RMSNorm):
            # In mixed precision the norm is taken in full.
            gated = self.norm(gated.to(self.norm.weight.dtype))
        return self.out_proj(gated)


class ScanMixer(nn.Module):
    """A residual block: values + what a scan finds in their normalised form.

    Parameters
    ----------
    channels : int
    bidirectional : bool
        Scan forward and reversed; see `Mixer` for what the directions share. Otherwise the
        answer at a step depends on nothing after it.
    options
        As for `Mixer`: state, conv, expand, head_dim, groups, recurrence, chunk.

    Example
    -------
    >>> ScanMixer(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, channels: int, *, bidirectional: bool = True, **options: int | str) -> None:
        super().__init__()
        self.orders = (FORWARD, REVERSE) if bidirectional else (FORWARD,)
        self.norm = nn.LayerNorm(channels)
        self.mixer = Mixer(channels, directions=len(self.orders), **options)

    def forward(self, values: Tensor) -> Tensor:
        """(n, length, channels) -> the same shape."""
        return values + self.mixer(self.norm(values), self.orders)


def _first_steps(count: int) -> Tensor:
    """Biases whose softplus is a step size within STEP_SIZES."""
    low, high = (math.log(size) for size in STEP_SIZES)
    steps = torch.empty(count).uniform_(low, high).exp()
    return steps + torch.log(-torch.expm1(-steps))
