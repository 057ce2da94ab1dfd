"""Overlap-aware placement: where a region fits best, for every shift at once.

How much a mask, shifted by s, covers of what it must not cover is the cross-correlation of
both at s. One FFT of the forbidden map serves every rotation and scale of the mask that is
tried. Sums of up to 2^53 are whole numbers in float64, so that rounding gives exact counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft

from brodmann.augment.mixing import grown
from brodmann.augment.regions import Box

WORKERS = 2


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
    forbidden: Forbidden, candidates: Sequence[Candidate], search: Sequence[int]
) -> list[np.ndarray]:
    """Forbidden voxels under every candidate at every shift.

    Parameters
    ----------
    forbidden : Forbidden
    candidates : sequence of Candidate
    search : sequence of int
        Largest shift along each axis, in voxels.

    Returns
    -------
    list of (*(2 * search + 1)) int64 arrays
        One for each candidate; entry ``search + s`` is the overlap at the shift s.

    The FFT spans the candidates' common box and the shifts, no more: wrapped-around products
    fall on shifts that are not asked for.

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
    size = [fft.next_fast_len(n, real=True) for n in field.shape]
    axes = tuple(range(field.ndim))
    spectrum = fft.rfftn(field.astype(np.float64), size, axes, workers=WORKERS)
    found = []
    for candidate in candidates:
        product = fft.rfftn(candidate.mask.astype(np.float64), size, axes, workers=WORKERS)
        np.conjugate(product, out=product)
        product *= spectrum
        counts = fft.irfftn(product, size, axes, overwrite_x=True, workers=WORKERS)
        # A candidate away from the common corner has its shifts that much further on.
        start = np.subtract(candidate.corner, low)
        part = tuple(slice(int(a), int(a + 2 * r + 1)) for a, r in zip(start, reach))
        found.append(np.rint(counts[part]).astype(np.int64))
    return found


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
