"""What lies between two slices: when every pixel changes from one label to the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from brodmann.core import DataError

FULL = 1 << 30
"""Ticks from one annotated slice to the next; whole, so that both directions agree exactly."""
MAX_STEPS = 1 << 20


@dataclass(frozen=True, eq=False)
class Others:
    """Pixels where a third label stands for a while: (m,) arrays, one entry a candidate.

    `pixel` indexes the changing pixels, `label` is an id; `value` is (m, 2) float64, the
    candidate's height at both slices, and `rival` is (m, 4): that of the pixel's label
    before (at both slices), and of its label after.
    """

    pixel: np.ndarray
    label: np.ndarray
    value: np.ndarray
    rival: np.ndarray


@dataclass(frozen=True, eq=False)
class Between:
    """The labels between two annotated slices, at any of the slices between them.

    Parameters
    ----------
    before, after : (h, w) integers
        The two slices.
    pixels : (n,) int64
        Flat indices of the pixels whose label changes.
    ticks : (n,) int32
        When each changes, in 0..FULL.
    jumped : int
        How many of them have no border to follow in either slice, and change in the middle.
    others : Others, optional
        Third labels that some pixels take on the way.
    ends : (before, after), optional
        The two slices as they were annotated, where `before` and `after` are mended.

    Example
    -------
    >>> before, after = np.array([[1, 1, 2, 2]]), np.array([[1, 2, 2, 2]])
    >>> move = Between(before, after, np.array([1]), np.array([FULL // 2], np.int32))
    >>> move.at(1, 4).tolist(), move.at(3, 4).tolist()
    ([[1, 1, 2, 2]], [[1, 2, 2, 2]])
    """

    before: np.ndarray
    after: np.ndarray
    pixels: np.ndarray
    ticks: np.ndarray
    jumped: int = 0
    others: Others | None = field(default=None, repr=False)
    ends: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def at(self, step: int, steps: int) -> np.ndarray:
        """The slice `step` of `steps` after the first, (h, w) of the labels' own type.

        A pixel that changes at that very instant has the label of the nearer slice; right in
        the middle the smaller id. So the slices are the same when the two ends are swapped.

        Raises
        ------
        DataError
            If the step is not in 0..steps.
        """
        if not 0 <= step <= steps or not 1 <= steps <= MAX_STEPS:
            raise DataError(f"a step is between 0 and {steps}", found=step)
        if step in (0, steps):
            return (self.ends or (self.before, self.after))[bool(step)].copy()
        out = self.before.copy()
        first, last = self.before.reshape(-1)[self.pixels], self.after.reshape(-1)[self.pixels]
        passed = self.ticks.astype(np.int64) * steps - step * FULL
        tie = np.minimum(first, last) if 2 * step == steps else first if 2 * step < steps else last
        values = np.where(passed < 0, last, np.where(passed > 0, first, tie))
        if self.others is not None and len(self.others.pixel):
            _put_others(values, self.others, step, steps)
        out.reshape(-1)[self.pixels] = values
        return out

    def slices(self, steps: int) -> np.ndarray:
        """All slices strictly between the two, (steps - 1, h, w)."""
        out = np.empty((max(steps - 1, 0), *self.before.shape), self.before.dtype)
        for step in range(1, steps):
            out[step - 1] = self.at(step, steps)
        return out


def _put_others(values: np.ndarray, others: Others, step: int, steps: int) -> None:
    """Third labels where they stand higher than the pixel's own two; of equals the smaller id."""
    near = steps - step
    height = near * others.value[:, 0] + step * others.value[:, 1]
    rival = np.maximum(
        near * others.rival[:, 0] + step * others.rival[:, 1],
        near * others.rival[:, 2] + step * others.rival[:, 3],
    )
    wins = np.flatnonzero(height > rival)
    # The last entry written stays, so the best of a pixel comes last.
    order = wins[np.lexsort((-others.label[wins].astype(np.int64), height[wins]))]
    values[others.pixel[order]] = others.label[order]


def as_ticks(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """near / (near + far) in ticks, such that swapping the two gives exactly FULL - ticks.

    >>> as_ticks(np.array([1.0, 0.0]), np.array([3.0, 0.0])).tolist() == [FULL // 4, FULL // 2]
    True
    """
    total = near + far
    share = np.minimum(near, far) / np.where(total > 0, total, 1)
    small = np.rint(np.where(total > 0, share, 0.5) * FULL).astype(np.int64)
    return np.where(near <= far, small, FULL - small).astype(np.int32)
