"""Overlap-aware placement: where a region fits best, for every shift at once.

How much a mask, shifted by s, covers of what it must not cover is the cross-correlation of
both at s. Two ways count it, both exactly. By FFT, whose cost hardly depends on how many shifts
are asked for: one transform of the forbidden map serves every rotation and scale of the mask
that is tried, and rounding float64 gives whole counts. By runs: a mask is a few runs of pixels
a row, and what lies under a run is the difference of two running sums, for all shifts along the
row in one go; for the searches that are usual this is many times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numba import njit
from scipy import fft

from brodmann.augment.mixing import grown
from brodmann.augment.regions import Box

Engine = Literal["auto", "fft", "runs"]
WORKERS = 2
ADDS_PER_POINT = 60.0
"""So many of the additions of `_by_runs` take as long as one point of an FFT (measured)."""


@dataclass(frozen=True)
class Candidate:
    """A mask in the target's frame, before it is shifted.

    `mask` is bool, its corner lies at `corner` (voxels, may be negative).
    """

    mask: np.ndarray
    corner: tuple[int, ...]

    @cached_property
    def area(self) -> int:
        """Voxels of the mask."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def runs(self) -> np.ndarray:
        """(n, 4) int64 runs of the mask along its last axis, by row: z, y, first x, last x + 1."""
        solid = self.mask.reshape(*(1,) * (3 - self.mask.ndim), *self.mask.shape)
        edges = np.diff(np.pad(solid, ((0, 0), (0, 0), (1, 1))).view(np.int8), axis=2)
        begin, end = np.argwhere(edges == 1), np.argwhere(edges == -1)
        return np.concatenate([begin, end[:, 2:]], axis=1)

    def box(self, shift: Sequence[int] = ()) -> Box:
        """Where the mask lies after a shift."""
        moved = np.add(self.corner, shift) if len(shift) else np.asarray(self.corner)
        return tuple(slice(int(c), int(c) + n) for c, n in zip(moved, self.mask.shape))


@dataclass(frozen=True)
class Placement:
    """The best candidate: its index, its shift in voxels and the overlap there and unshifted."""

    index: int
    shift: tuple[int, ...]
    overlap: int
    overlap_unshifted: int


class Forbidden:
    """What a pasted region must not cover, over the whole frame; outside it, everything.

    Parameters
    ----------
    mask : (*frame) bool
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def window(self, box: Box) -> np.ndarray:
        """The map in a box that may reach beyond the frame, where all is forbidden."""
        shape = [side.stop - side.start for side in box]
        found = np.ones(shape, bool)
        inner = grown(box, 0, self.mask.shape)
        if all(side.start < side.stop for side in inner):
            place = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, box))
            found[place] = self.mask[inner]
        return found

    def overlap(self, candidate: Candidate, shift: Sequence[int] = ()) -> int:
        """Forbidden voxels under a mask."""
        return int(np.count_nonzero(self.window(candidate.box(shift)) & candidate.mask))


def overlaps(
    forbidden: Forbidden,
    candidates: Sequence[Candidate],
    search: Sequence[int],
    engine: Engine = "auto",
) -> list[np.ndarray]:
    """Forbidden voxels under every candidate at every shift.

    Parameters
    ----------
    forbidden : Forbidden
    candidates : sequence of Candidate
    search : sequence of int
        Largest shift along each axis, in voxels.
    engine : "auto", "fft" or "runs"
        How to count; by default what costs less. The counts are the same.

    Returns
    -------
    list of (*(2 * search + 1)) int64 arrays
        One for each candidate; entry ``search + s`` is the overlap at the shift s.

    Only the candidates' common box and the shifts are looked at.

    Example
    -------
    >>> wall = np.zeros((4, 6), bool); wall[:, 3:] = True
    >>> block = Candidate(np.ones((2, 2), bool), (1, 2))
    >>> overlaps(Forbidden(wall), [block], (0, 1))[0].tolist()
    [[0, 2, 4]]
    """
    reach = np.asarray(search, int)
    low = np.min([c.corner for c in candidates], axis=0)
    high = np.max([np.add(c.corner, c.mask.shape) for c in candidates], axis=0)
    window = tuple(slice(int(a), int(b)) for a, b in zip(low - reach, high + reach))
    field = forbidden.window(window)
    # A candidate away from the common corner has its shifts that much further on.
    starts = [np.subtract(candidate.corner, low) for candidate in candidates]
    if engine == "auto":
        adds = sum(len(c.runs) for c in candidates) * float(np.prod(2 * reach + 1))
        points = field.size * (1 + 2 * len(candidates)) / 3
        engine = "runs" if adds < ADDS_PER_POINT * points else "fft"
    count = _by_runs if engine == "runs" else _by_fft
    return count(field, candidates, starts, reach)


def _by_fft(
    field: np.ndarray,
    candidates: Sequence[Candidate],
    starts: Sequence[np.ndarray],
    reach: np.ndarray,
) -> list[np.ndarray]:
    # Products that wrap around fall on shifts that are not asked for.
    size = [fft.next_fast_len(n, real=True) for n in field.shape]
    axes = tuple(range(field.ndim))
    spectrum = fft.rfftn(field.astype(np.float64), size, axes, workers=WORKERS)
    found = []
    for candidate, start in zip(candidates, starts):
        product = fft.rfftn(candidate.mask.astype(np.float64), size, axes, workers=WORKERS)
        np.conjugate(product, out=product)
        product *= spectrum
        part = tuple(slice(int(a), int(a + 2 * r + 1)) for a, r in zip(start, reach))
        # Axis by axis, so that the later ones are done only where they are asked for.
        for axis in axes[:-1]:
            whole = fft.ifft(product, axis=axis, overwrite_x=True, workers=WORKERS)
            product = whole[(slice(None),) * axis + (part[axis],)]
        counts = fft.irfft(product, size[-1], axis=-1, workers=WORKERS)[..., part[-1]]
        found.append(np.rint(counts).astype(np.int64))
    return found


def _by_runs(
    field: np.ndarray,
    candidates: Sequence[Candidate],
    starts: Sequence[np.ndarray],
    reach: np.ndarray,
) -> list[np.ndarray]:
    extra = (1,) * (3 - field.ndim)
    solid = field.reshape(*extra, *field.shape)
    sums = np.zeros((*solid.shape[:2], solid.shape[2] + 1), np.int32)
    np.cumsum(solid, axis=2, out=sums[:, :, 1:], dtype=np.int32)
    wide = np.concatenate([np.zeros(len(extra), int), reach])
    found = []
    for candidate, start in zip(candidates, starts):
        shift = np.concatenate([np.zeros(len(extra), int), start])
        runs = candidate.runs + np.array([shift[0], shift[1], shift[2], shift[2]])
        counts = np.zeros(2 * wide + 1, np.int64)
        _count_runs(sums, runs, counts)
        found.append(counts.reshape(2 * reach + 1))
    return found


@njit(nogil=True, cache=True)
def _count_runs(sums, runs, counts):
    """Add up what lies under every run (z, y, x0, x1) of a mask, at every shift.

    Row by row of the forbidden map, so that the row and the counts it adds to stay in cache.
    """
    depth, height = sums.shape[:2]
    shifts = counts.shape[2]
    # Runs are sorted by row; first[r] is where those of row r begin.
    rows = depth * height
    first = np.zeros(rows + 1, np.int64)
    for n in range(runs.shape[0]):
        first[runs[n, 0] * height + runs[n, 1] + 1] += 1
    for r in range(rows):
        first[r + 1] += first[r]
    for z in range(depth):
        for y in range(height):
            row = sums[z, y]
            for dz in range(min(counts.shape[0], z + 1)):
                for dy in range(min(counts.shape[1], y + 1)):
                    r = (z - dz) * height + (y - dy)
                    total = counts[dz, dy]
                    for n in range(first[r], first[r + 1]):
                        left, right = row[runs[n, 2] :], row[runs[n, 3] :]
                        for s in range(shifts):
                            total[s] += right[s] - left[s]


def best_shift(counts: np.ndarray, tolerance: float) -> tuple[tuple[int, ...], int]:
    """Among shifts with fewer than `tolerance` overlapping voxels the smallest displacement.

    If there are none, the least overlap, again with the smallest displacement; ties go to the
    first in scan order.

    >>> best_shift(np.array([[3, 0, 5, 0, 9]]), 1)
    ((0, -1), 0)
    """
    reach = [n // 2 for n in counts.shape]
    fits = counts < tolerance
    if not fits.any():
        fits = counts == counts.min()
    steps = np.meshgrid(*(np.arange(n) - r for n, r in zip(counts.shape, reach)), indexing="ij")
    far = sum(step.astype(np.int64) ** 2 for step in steps)
    best = int(np.where(fits, far, np.iinfo(np.int64).max).argmin())
    place = np.unravel_index(best, counts.shape)
    return tuple(int(p) - r for p, r in zip(place, reach)), int(counts[place])


def place(
    forbidden: Forbidden,
    candidates: Sequence[Candidate],
    search: Sequence[int],
    tau: float,
) -> Placement:
    """The candidate and the shift that fit.

    A candidate that fits where it lies is taken at once. Else, of all candidates and shifts
    whose overlap is below `tau` times the mask's area, the smallest displacement; if there
    are none, the smallest share of the mask's area.

    Parameters
    ----------
    forbidden : Forbidden
    candidates : sequence of Candidate
        In the order of preference; none empty.
    search : sequence of int
        Largest shift along each axis, in voxels.
    tau : float
        Tolerated overlap as a share of the mask's area; 0 asks for the least there is.

    Source: Yuan et al. 2026 (PRMix), section 4.4. Their printed loop never resets one of its
    two shifts and returns the last mask that it tried; here every shift is counted.
    """
    still = [forbidden.overlap(candidate) for candidate in candidates]
    for index, (candidate, overlap) in enumerate(zip(candidates, still)):
        if overlap < tau * candidate.area or overlap == 0:
            return Placement(index, (0,) * candidate.mask.ndim, overlap, overlap)
    best, rank = None, None
    for index, counts in enumerate(overlaps(forbidden, candidates, search)):
        area = candidates[index].area
        shift, overlap = best_shift(counts, tau * area)
        fits = overlap < tau * area
        far = sum(step * step for step in shift)
        own = (0, far, overlap) if fits else (1, overlap / area, far)
        if rank is None or own < rank:
            best, rank = Placement(index, shift, overlap, still[index]), own
    assert best is not None
    return best
