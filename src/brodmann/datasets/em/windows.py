"""Windows of a volume: checked, shrunk, and read lazily."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from brodmann.core import RecipeError

Span = tuple[int, int]
Box = tuple[Span, Span, Span]
"""First voxel and the one after the last along z, y and x."""
NOT_AT_ALL = slice(None)


def as_box(part: Any, shape: tuple[int, ...], where: str = "parts") -> Box:
    """A window as a recipe gives it: [a, b] slices, or three such pairs for z, y and x.

    Raises
    ------
    RecipeError
        If it is neither, or not within `shape`.

    Example
    -------
    >>> as_box([0, 4], (10, 8, 8))
    ((0, 4), (0, 8), (0, 8))
    """
    pairs = part if isinstance(part, list | tuple) else ()
    if len(pairs) == 2 and all(_whole(n) for n in pairs):
        pairs = (pairs, (0, shape[1]), (0, shape[2]))
    try:
        box = tuple((int(a), int(b)) for a, b in pairs)
    except (TypeError, ValueError):
        box = ()
    if len(box) != 3 or not all(_whole(n) for pair in pairs for n in pair):
        raise RecipeError(
            "a part is [first, end] slices, or three such pairs for z, y, x", where, repr(part)
        )
    if any(not 0 <= a < b <= n for (a, b), n in zip(box, shape)):
        raise RecipeError("this part is not within the volume", where, box, f"its shape is {shape}")
    return box  # type: ignore[return-value]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def centred(box: Box, percent: float) -> Box:
    """A window in the middle of another, of much the same proportions, with a share of its voxels.

    Sides are whole numbers, so that the share is met as nearly as they allow: z is rounded
    first, y and x make up for it.

    Raises
    ------
    RecipeError
        If `percent` is not above 0 and at most 100.

    Example
    -------
    >>> centred(((0, 16), (0, 64), (0, 64)), 12.5)
    ((4, 12), (16, 48), (16, 48))
    """
    number = isinstance(percent, int | float) and not isinstance(percent, bool)
    if not number or not 0 < percent <= 100:
        raise RecipeError("ratio is a number above 0 and at most 100 (percent)", "ratio", percent)
    sizes = [b - a for a, b in box]
    share, kept = percent / 100, []
    for axis, size in enumerate(sizes):
        # What is left to be reached is shared evenly among the axes that are left.
        side = max(1, min(size, round(size * share ** (1 / (3 - axis)))))
        kept.append(side)
        share = min(1.0, share * size / side)
    starts = [a + (size - side) // 2 for (a, _), size, side in zip(box, sizes, kept)]
    return tuple((a, a + side) for a, side in zip(starts, kept))  # type: ignore[return-value]


def voxels(box: Box) -> int:
    """How many a window holds."""
    return int(np.prod([b - a for a, b in box], dtype=np.int64))


def overlap(a: Box, b: Box) -> bool:
    """Whether two windows share a voxel.

    >>> overlap(((0, 2), (0, 9), (0, 9)), ((2, 4), (0, 9), (0, 9)))
    False
    """
    return all(p[0] < q[1] and q[0] < p[1] for p, q in zip(a, b))


class Lazy:
    """A window of an array-like, changed as it is read; picklable if its parts are.

    Parameters
    ----------
    source : array-like
        Three axes.
    box : Box
    change : callable, optional
        Values of a window -> values of the same shape, voxel by voxel.
    dtype : optional
        What `change` gives.
    """

    def __init__(
        self,
        source: Any,
        box: Box,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
        dtype: Any = None,
    ) -> None:
        self._source, self._box, self._change = source, box, change
        self.shape = tuple(b - a for a, b in box)
        self.dtype = np.dtype(source.dtype if dtype is None else dtype)

    @property
    def ndim(self) -> int:
        return 3

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on disk cannot be handed out without a copy")
        return self[...].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            missing = 3 - (len(keys) - 1)
            keys = keys[:at] + (NOT_AT_ALL,) * missing + keys[at + 1 :]
        if len(keys) > 3:
            raise IndexError(f"too many indices for shape {self.shape}")
        keys = keys + (NOT_AT_ALL,) * (3 - len(keys))
        window, after = [], []
        for part, (low, _), size in zip(keys, self._box, self.shape):
            if isinstance(part, slice):
                start, stop, step = part.indices(size)
                if step < 0:
                    raise IndexError("a lazy array is not read backwards")
                window.append(slice(low + start, low + max(start, stop), step))
                after.append(NOT_AT_ALL)
                continue
            index = int(part) + (size if int(part) < 0 else 0)
            if not 0 <= index < size:
                raise IndexError(f"index {part} is out of bounds for size {size}")
            window.append(slice(low + index, low + index + 1))
            after.append(0)
        values = np.asarray(self._source[tuple(window)])
        if self._change is not None:
            values = self._change(values)
        return values.astype(self.dtype, copy=False)[tuple(after)]
