"""Overlap-aware placement: every shift at once beside the printed loop over a grid of shifts.

A full-size section (6383 x 12531), a source region in a box of about 2300 x 6580 pixels, shifts
within +-256 on both axes. Ours counts the overlap exactly at all 263,169 shifts, by runs and, told
beside, by FFT. The loop of PRMix's Algorithm 1 shifts the whole frame and counts at 1,089 of them
(every 16th), both of its faults mended for the timing; what it returns as printed is told beside.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import harness
from brodmann.augment.prmix.placement import Candidate, Forbidden, best_shift, overlaps
from brodmann.augment.regions import Regions
from brodmann.datasets.phantoms.sections import phantom_section

SHAPE = (6383, 12531)
BOX = (2305, 6579)
REACH, STEP = 256, 16


def scene() -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """The target's own region, the source's in the target's frame, and the source's box."""
    pair = [phantom_section(SHAPE, subject=animal, plane=0.45, channels=1) for animal in (0, 1)]
    numbers = []
    for section in pair:
        regions = Regions(section_tree())
        numbers.append(regions.of(section.labels.numpy()))
    largest = 1 + int(np.bincount(numbers[1][::8, ::8].reshape(-1))[1:].argmax())
    own = numbers[0] == largest
    # The largest region, stretched to the box that the target is stated for.
    found = np.argwhere(numbers[1][::4, ::4] == largest) * 4
    low, high = found.min(0), found.max(0) + 1
    rows = low[0] + (np.arange(BOX[0]) * (high[0] - low[0]) // BOX[0])
    columns = low[1] + (np.arange(BOX[1]) * (high[1] - low[1]) // BOX[1])
    mask = numbers[1][np.ix_(rows, columns)] == largest
    corner = [int(np.clip(a, REACH, n - b - REACH)) for a, n, b in zip(low, SHAPE, BOX)]
    box = tuple(slice(c, c + b) for c, b in zip(corner, BOX))
    source = np.zeros(SHAPE, bool)
    source[box] = mask
    return own, source, box


def section_tree() -> Any:
    from brodmann.datasets.phantoms.tree import phantom_tree

    return phantom_tree()


def shifted(mask: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The whole frame moved, zeros coming in."""
    moved = np.zeros_like(mask)
    height, width = mask.shape
    to = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
    of = slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0))
    moved[to] = mask[of]
    return moved


def grid_loop(source: np.ndarray, complement: np.ndarray) -> int:
    """The least overlap on the grid."""
    grid = range(-REACH, REACH + 1, STEP)
    return min(
        int(np.count_nonzero(shifted(source, dy, dx) & complement)) for dx in grid for dy in grid
    )


def as_printed(source: np.ndarray, complement: np.ndarray, tau: float) -> int:
    """Algorithm 1 to the letter: s_y is never reset, the last mask is what it returns."""

    def tried() -> Iterator[tuple[int, int]]:
        dy = -REACH
        for dx in range(-REACH, REACH + 1, STEP):
            while dy <= REACH:
                yield dy, dx
                dy += STEP

    best, last = np.inf, 0
    for dy, dx in tried():
        last = int(np.count_nonzero(shifted(source, dy, dx) & complement))
        best = min(best, last)
        if best < tau:
            break
    return last


def run(repeats: int) -> dict[str, Any]:
    """Both in turn; seconds, and the overlap that each ends with at tau = 0."""
    own, source, box = scene()
    complement = ~own
    forbidden = Forbidden(complement)
    candidate = Candidate(source[box], tuple(side.start for side in box))
    least: dict[str, int] = {}

    def ours() -> None:
        (counts,) = overlaps(forbidden, [candidate], (REACH, REACH))
        _, least["ours"] = best_shift(counts, 0.0)

    def theirs() -> None:
        least["loop"] = grid_loop(source, complement)

    (counts,) = overlaps(forbidden, [candidate], (REACH, REACH), "fft")
    by_fft = [
        harness.seconds(lambda: overlaps(forbidden, [candidate], (REACH, REACH), "fft"))
        for _ in range(3)
    ]
    ours()
    if best_shift(counts, 0.0)[1] != least["ours"]:
        raise RuntimeError("FFT and runs do not agree")
    began = time.perf_counter()
    printed = as_printed(source, complement, 0.0)
    print(f"oaa: as printed took {time.perf_counter() - began:.1f} s", file=sys.stderr)
    mine, other = harness.alternate(ours, theirs, repeats)
    return harness.result(
        "oaa",
        "PRMix Algorithm 1, 1,089 shifts",
        f"numpy {np.__version__}",
        mine,
        other,
        "s",
        ours_by_fft=float(f"{np.median(by_fft):.4g}"),
        shape=list(SHAPE),
        box=list(BOX),
        shifts_ours=(2 * REACH + 1) ** 2,
        shifts_theirs=len(range(-REACH, REACH + 1, STEP)) ** 2,
        overlap_ours=least["ours"],
        overlap_loop=least["loop"],
        overlap_as_printed=printed,
    )


if __name__ == "__main__":
    harness.main(run, __doc__, repeats=2)
