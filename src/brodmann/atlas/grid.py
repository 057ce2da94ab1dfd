"""Grids in a brain: spacing, orientation, and going from one grid to another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brodmann.core import DataError

PAIRS = {"a": "ap", "p": "ap", "s": "si", "i": "si", "l": "lr", "r": "lr"}
SAME_EXTENT = 0.02
"""Share by which extents may differ that should be the same."""


@dataclass(frozen=True)
class Grid:
    """A box of voxels in a brain.

    Parameters
    ----------
    spacing : tuple of float
        Micrometres along (z, y, x).
    orientation : str
        Three letters, one for each axis: the side of the brain at which it begins, as in
        BrainGlobe. "asr": z runs from anterior to posterior, y from superior to inferior,
        x from right to left. (In NIfTI, "PIL" names the same by where axes lead.) Empty
        where it is not known.
    shape : tuple of int, optional
        Voxels along (z, y, x). Turning an axis round needs it.

    Raises
    ------
    DataError
        On letters that are no orientation, or a spacing that is none.

    Example
    -------
    >>> Grid((25, 25, 25), "asr").axis_of("lr")
    2
    """

    spacing: tuple[float, ...]
    orientation: str = ""
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        spacing = tuple(float(step) for step in self.spacing)
        if len(spacing) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing):
            raise DataError(
                "spacing is three positive numbers in micrometres, for z, y and x",
                found=self.spacing,
            )
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "orientation", checked_orientation(self.orientation))
        if self.shape is not None:
            shape = tuple(int(size) for size in self.shape)
            if len(shape) != 3 or min(shape) < 1:
                raise DataError("a shape is three whole numbers, for z, y and x", found=self.shape)
            object.__setattr__(self, "shape", shape)

    def axis_of(self, pair: str) -> int | None:
        """Which axis runs along "ap", "si" or "lr"; None where no orientation is known."""
        pairs = [PAIRS[letter] for letter in self.orientation]
        return pairs.index(pair) if pair in pairs else None

    @property
    def extent_um(self) -> tuple[float, ...]:
        """Size in micrometres along (z, y, x)."""
        if self.shape is None:
            raise DataError("the shape of the image is not known", fix="give it (z, y, x)")
        return tuple(size * step for size, step in zip(self.shape, self.spacing))


def checked_orientation(text: str) -> str:
    """An orientation in lower case, or an empty one.

    >>> checked_orientation("ASR"), checked_orientation("")
    ('asr', '')
    """
    letters = (text or "").strip().lower()
    if letters and sorted(PAIRS.get(letter, "?") for letter in letters) != ["ap", "lr", "si"]:
        raise DataError(
            "an orientation is three letters for where z, y and x begin, one of a or p, one of s "
            "or i, one of l or r",
            found=repr(text),
            fix="write it as asr",
        )
    return letters


def reorient(points: np.ndarray, source: Grid, target: Grid, fit: bool = False) -> np.ndarray:
    """Points of one grid as points of another that lies in the same space.

    The corners of both boxes coincide, whatever their spacings, and axes are swapped and
    turned as the orientations say. Where one of them has no orientation both are taken to
    have the same.

    Parameters
    ----------
    points : (n, 3) array
        In voxels of `source` as (z, y, x); voxel centres are whole numbers.
    source, target : Grid
    fit : bool
        Both boxes hold the same thing, so where both shapes are known the scale is that of
        the shapes (a resampled image has a whole number of voxels, so its true spacing is a
        little off). Extents that differ by more than 2 % and two voxels are refused.

    Returns
    -------
    (n, 3) float64 array
        In voxels of `target`.

    Raises
    ------
    DataError
        If an axis is to be turned round and the source has no shape, or extents differ.

    Example
    -------
    >>> fine = Grid((10, 10, 10), "psl", (100, 80, 60))
    >>> reorient(np.array([[0.0, 0.5, 0.5]]), fine, Grid((20, 20, 20), "asr")).tolist()
    [[49.25, 0.0, 29.0]]
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    known = bool(source.orientation and target.orientation)
    out = np.empty_like(points)
    for axis in range(3):
        own, turned = axis, False
        if known:
            letter = target.orientation[axis]
            own = next(
                i for i, other in enumerate(source.orientation) if PAIRS[other] == PAIRS[letter]
            )
            turned = source.orientation[own] != letter
        scale = source.spacing[own] / target.spacing[axis]
        if fit and source.shape is not None and target.shape is not None:
            scale = _fitted(source, own, target, axis)
        edge = points[:, own] + 0.5
        if turned:
            if source.shape is None:
                raise DataError(
                    f"from orientation {source.orientation} to {target.orientation} an axis turns "
                    "round, which needs the shape of the points' image",
                    fix="give the shape (z, y, x) of the volume in which cells were found",
                )
            edge = source.shape[own] - edge
        out[:, axis] = edge * scale - 0.5
    return out


def with_extent(image: Grid, other: Grid) -> Grid:
    """The image with the shape that gives it the extent of another grid of the same thing.

    >>> with_extent(Grid((10, 5, 5), "sra"), Grid((25, 25, 25), "asr", (4, 6, 8))).shape
    (15, 40, 20)
    """
    if not image.orientation or not other.orientation:
        raise DataError("the orientation of the image is not known", fix="give it, as asr")
    size = dict(zip((PAIRS[letter] for letter in other.orientation), other.extent_um))
    sizes = (size[PAIRS[letter]] for letter in image.orientation)
    shape = tuple(max(1, round(um / step)) for um, step in zip(sizes, image.spacing))
    return replace(image, shape=shape)


def _fitted(source: Grid, own: int, target: Grid, axis: int) -> float:
    """The scale at which both boxes are of one size along an axis."""
    here, there = source.extent_um[own], target.extent_um[axis]
    step = max(source.spacing[own], target.spacing[axis])
    if abs(here - there) > max(SAME_EXTENT * there, 2 * step):
        raise DataError(
            "the points' image is not of the size that was registered",
            f"axis {'zyx'[own]} of the image",
            f"{here:,.0f} um against {there:,.0f} um",
            "check spacing, shape and orientation",
        )
    return target.shape[axis] / source.shape[own]  # type: ignore[index]
