"""Scan of 4,096 steps x 256 channels x 16 states, forward and backward: ours against mambapy's.

Both are given the same numbers and must give the same answer and gradients. The decay is one
number a head and step, the case of Mamba-2, for which ours is a chain of matrix products. The
peer's scan is that of Mamba-1: its decay may differ by channel and state, and the same numbers
are repeated for it. So the ratio is what the restriction to one decay a head buys. Where decays
do differ, ours is `selective_scan`: see `mamba1`.

`scan` is from step sizes, rates, B and C to outputs; `pscan_alone` leaves the peer's making of
its operands and its reading of the states out of its time, and nothing out of ours. `block` is
a residual block in one direction against theirs, each with its own recurrence, and `long` is
forward only, 32,768 steps. One thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import harness

LENGTH, LONG = 4096, 32768
CHANNELS, STATE, HEADS = 256, 16, 4
PEER = "mambapy"


def operands(length: int, seed: int = 0) -> tuple[Tensor, ...]:
    """x, dt, A, B, C, D of `dual`, one sequence, all wanting gradients."""
    rng = torch.Generator().manual_seed(seed)
    width = CHANNELS // HEADS
    found = (
        torch.randn(1, length, HEADS, width, generator=rng),
        torch.rand(1, length, HEADS, generator=rng) * 0.1,
        -1 - 15 * torch.rand(HEADS, generator=rng),
        torch.randn(1, length, 1, STATE, generator=rng),
        torch.randn(1, length, 1, STATE, generator=rng),
        torch.ones(HEADS),
    )
    return tuple(part.requires_grad_() for part in found)


def spread_out(parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same numbers for a recurrence with a decay for each channel and state."""
    x, dt, A, B, C, D = (part.detach() for part in parts)
    width = x.shape[3]
    found = (
        x.flatten(2),
        dt.repeat_interleave(width, 2),
        A.repeat_interleave(width)[:, None].repeat(1, STATE),
        B[:, :, 0],
        C[:, :, 0],
        D.repeat_interleave(width),
    )
    return tuple(part.clone().requires_grad_() for part in found)


def backward(answer: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the sum of squares, which depend on all of the answer."""
    return torch.autograd.grad(answer.square().sum(), parts)


def peer_scan() -> Callable[..., Tensor]:
    """Mambapy's selective scan: u, dt, A, B, C, D -> outputs."""
    from mambapy.mamba import MambaBlock, MambaConfig

    block = MambaBlock(MambaConfig(d_model=CHANNELS // 2, n_layers=1, d_state=STATE))
    return block.selective_scan


def blocks() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Ours of Mamba-2 and of Mamba-1, and theirs: norm, mixing and sum, 128 channels."""
    from mambapy.mamba import MambaConfig, ResidualBlock

    from brodmann.nets.mamba import ScanMixer

    channels, options = CHANNELS // 2, {"state": STATE, "expand": 2, "bidirectional": False}
    theirs = ResidualBlock(MambaConfig(d_model=channels, n_layers=1, d_state=STATE))
    ours = [ScanMixer(channels, recurrence=kind, **options) for kind in ("mamba2", "mamba1")]
    return ours[0], ours[1], theirs


def agree(name: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """Stop where two ways of computing the same differ by more than float32 lets them."""
    for mine, other in zip(ours, theirs):
        off = (mine.reshape(-1) - other.reshape(-1)).norm() / other.norm()
        if off > 1e-4:
            raise RuntimeError(f"{name}: the two ways differ by {off:.2g} of the answer")


def peak_megabytes(which: str) -> float:
    """Memory that one forward and backward pass adds, in a process of its own."""
    code = f"from benchmarks.scan import measure_peak; measure_peak({which!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return round(json.loads(done.stdout.splitlines()[-1]), 1)


def measure_peak(which: str) -> None:
    """Print by how much the largest resident set exceeds what was held before, in MB."""
    from brodmann.nets.scan_kernels import dual

    def resident(key: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    torch.set_num_threads(1)
    parts: tuple[Tensor, ...] = operands(LENGTH)
    work: Callable[..., Tensor] = dual
    if which == "theirs":
        parts, work = spread_out(parts), peer_scan()
    before = resident("VmRSS")
    backward(work(*parts), parts)
    print((resident("VmHWM") - before) / 1024)


def run(repeats: int = 3) -> dict[str, Any]:
    """The whole comparison, about a minute at three repeats on a quiet machine."""
    from mambapy.pscan import pscan

    from brodmann.nets.scan_kernels import dual, selective

    torch.set_num_threads(1)
    torch.manual_seed(0)
    release, theirs = version(PEER), peer_scan()

    def compare(
        name: str, mine: Callable[[], object], other: Callable[[], object], peer: str
    ) -> dict[str, Any]:
        mine(), other()
        return harness.result(
            name, peer, release, *harness.alternate(mine, other, repeats), unit="s"
        )

    parts = operands(LENGTH)
    wide = spread_out(parts)
    with torch.no_grad():
        agree("scan", [dual(*parts)], [theirs(*wide)])
        agree("mamba1", [selective(*wide)], [theirs(*wide)])
    agree("gradient", backward(dual(*parts), parts)[:1], backward(theirs(*wide), wide)[:1])
    agree("mamba1 gradient", backward(selective(*wide), wide), backward(theirs(*wide), wide))

    def ours() -> object:
        return backward(dual(*parts), parts)

    def others() -> object:
        return backward(theirs(*wide), wide)

    decay = (wide[1].unsqueeze(-1) * wide[2]).exp().detach().requires_grad_()
    entering = ((wide[1] * wide[0]).unsqueeze(-1) * wide[3].unsqueeze(2)).detach()
    entering.requires_grad_()
    whole = compare("scan", ours, others, f"{PEER} selective_scan")
    alone = compare(
        "pscan_alone",
        ours,
        lambda: backward(pscan(decay, entering), (decay, entering)),
        f"{PEER} pscan",
    )
    mamba1 = compare(
        "mamba1", lambda: backward(selective(*wide), wide), others, f"{PEER} selective_scan"
    )
    dual_block, selective_block, their_block = blocks()
    image = torch.randn(1, LENGTH, CHANNELS // 2)

    def through(block: nn.Module) -> Callable[[], object]:
        weights = tuple(block.parameters())
        return lambda: backward(block(image), weights)

    block = compare("block", through(dual_block), through(their_block), f"{PEER} ResidualBlock")
    block1 = compare(
        "mamba1_block", through(selective_block), through(their_block), f"{PEER} ResidualBlock"
    )
    linux = sys.platform == "linux"
    peaks = {which: peak_megabytes(which) for which in ("ours", "theirs")} if linux else None
    with torch.no_grad():
        forward = compare(
            "forward", lambda: dual(*parts), lambda: theirs(*wide), f"{PEER} selective_scan"
        )
        long = operands(LONG)
        long_wide = spread_out(long)
        far = compare(
            "long", lambda: dual(*long), lambda: theirs(*long_wide), f"{PEER} selective_scan"
        )
    return {
        **whole,
        "shape": {"length": LENGTH, "channels": CHANNELS, "state": STATE, "heads": HEADS},
        "note": "one decay a head and step; for a decay by channel and state see mamba1",
        "pscan_alone": alone,
        "block": block,
        "mamba1": mamba1,
        "mamba1_block": block1,
        "forward": forward,
        "long": {**far, "length": LONG},
        "peak_mb": peaks,
    }


if __name__ == "__main__":
    harness.main(run, __doc__)
