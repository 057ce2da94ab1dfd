"""Morph: a section bent part of the way towards the anatomy of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage

from brodmann.augment.base import CannotDraw, Params
from brodmann.augment.mixing import (
    Canvas,
    Mixing,
    OnGrid,
    check_shape,
    is_number,
    labelled,
    rounded,
)
from brodmann.augment.regions import Regions
from brodmann.core import BACKGROUND, Dataset, RecipeError, Sample

Range = tuple[float, float]
LEVELS = (4, 2, 1)
"""Grids of the registration, so many times coarser than the finest, which skips every second
pixel of maps larger than SMALL_PX."""
SMALL_PX, FEWEST_PX = 64, 6
STEPS = (60, 50, 40)
FLUID_PX, ELASTIC_PX = 1.0, 1.5
"""Blur of every update and of the whole displacement, in pixels of the level."""
MASK_BLUR_PX = 1.0


@dataclass(frozen=True)
class Morph(Mixing):
    """The target, image and labels by one smooth bend, on the way to a partner's anatomy.

    The displacement that brings the target's regions onto the partner's is found from both
    label maps; a drawn share of it is applied. Between two annotated sections of one block this
    stands for the planes between them, between two animals for animals in between. Nothing of
    the partner is pasted and no label is guessed: labels move with the tissue under them.

    Parameters
    ----------
    share : (float, float)
        Range of the share of the displacement; 0 is the target, 1 the partner's shape, and what
        lies beyond half-way is better made from the partner. Negative shares lead away from it.
    side_px : int
        Longest side of the grid on which sections are registered.

    Source: ours. The registration is the demons of Thirion 1998 over blurred masks of all
    primary regions at once, from coarse to fine; bending by registrations between labelled
    images is in Zhao et al. 2019, "Data augmentation using learned transformations for one-shot
    medical image segmentation".

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> from brodmann.datasets.phantoms.sections import phantom_sections
    >>> pool = phantom_sections(2, 1, (32, 64), subregions=4, primary=2)
    >>> params = Morph().draw(keyed_rng(0, "doc"), pool[0], pool)
    >>> sorted(params), Morph().apply(params, pool[0], pool).image.shape
    (['shape', 'share', 'sources'], (2, 32, 64))
    """

    name: ClassVar[str] = "morph"

    share: Range = (0.0, 0.5)
    side_px: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds = self.share
        if not (
            isinstance(bounds, tuple)
            and len(bounds) == 2
            and all(map(is_number, bounds))
            and -1 <= bounds[0] <= bounds[1] <= 1.5
        ):
            raise RecipeError("shares are [least, most] within -1..1.5", "morph.share", bounds)
        if not (isinstance(self.side_px, int) and 16 <= self.side_px <= 1024):
            raise RecipeError("a side is 16 to 1024 pixels", "morph.side_px", self.side_px)

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """A partner that shares a region, and the share of the way."""
        regions = Regions.of_pool(pool)
        mine = set(np.unique(regions.of(labelled(target).labels.numpy()))) - {0, 255}
        for partner in self.partners(rng, target, pool, len(pool)):
            source = OnGrid(labelled(pool[partner]), target)
            if mine & set(np.unique(regions.of(source.labels))):
                break
        else:
            raise CannotDraw("shares no primary region with any other sample", target.name)
        return {
            "shape": list(target.image.spatial_shape),
            "sources": [partner],
            "share": round(float(rng.uniform(*self.share)), 6),
        }

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The bent target."""
        check_shape(params, target)
        regions = Regions.of_pool(pool)
        source = OnGrid(pool[params["sources"][0]], target)
        frame = target.image.spatial_shape
        other = np.zeros(frame, np.uint8)
        other[source.box] = regions.of(source.labels)[source.own(source.box)]
        step = -(-max(frame) // self.side_px)
        grid = (slice(None, None, step),) * len(frame)
        numbers = regions.of(target.labels.numpy())
        field = params["share"] * demons(numbers[grid], other[grid], len(regions))
        canvas = Canvas(target)
        _bend(canvas, field, step)
        return self.finished(target, canvas)


def _bend(canvas: Canvas, field: np.ndarray, step: int) -> None:
    """Pull image and labels through a displacement known on every `step`-th pixel."""
    shape = canvas.labels.shape
    image, labels = canvas.image.copy(), canvas.labels.copy()
    # Slab by slab along the first axis, so that coordinates of a full section fit in memory.
    rows = max(1, (1 << 22) // int(np.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        stop = min(shape[0], start + rows)
        index = np.meshgrid(
            np.arange(start, stop, dtype=np.float32),
            *(np.arange(n, dtype=np.float32) for n in shape[1:]),
            indexing="ij",
        )
        coarse = [axis / step for axis in index]
        places = [
            axis + step * ndimage.map_coordinates(one, coarse, order=1, mode="nearest")
            for axis, one in zip(index, field)
        ]
        for values, out in zip(image, canvas.image):
            moved = ndimage.map_coordinates(values, places, np.float32, order=1, mode="nearest")
            out[start:stop] = rounded(moved, canvas.image.dtype)
        nearest = [np.rint(place).astype(np.int64) for place in places]
        inside = np.ones(nearest[0].shape, bool)
        for place, n in zip(nearest, shape):
            inside &= (place >= 0) & (place < n)
            place.clip(0, n - 1, out=place)
        canvas.labels[start:stop] = np.where(inside, labels[tuple(nearest)], BACKGROUND)


def demons(moving: np.ndarray, fixed: np.ndarray, count: int) -> np.ndarray:
    """The displacement that lays the regions of one map on those of another.

    Parameters
    ----------
    moving, fixed : (*spatial) uint8
        Region numbers 1..count, on one grid; others belong to none.
    count : int

    Returns
    -------
    (ndim, *spatial) float32
        In pixels: moving(p + field(p)) resembles fixed(p).

    Example
    -------
    >>> a = np.zeros((40, 60), np.uint8); a[10:30, 15:35] = 1
    >>> field = demons(a, np.roll(a, 6, axis=1), 1)
    >>> bool(abs(field[1][20, 31] + 6) < 1.5)
    True
    """
    shared = [n for n in range(1, count + 1) if (moving == n).any() and (fixed == n).any()]
    # The whole brain too, so that regions that one lacks do not tear.
    pairs = [(moving == n, fixed == n) for n in shared] + [
        ((moving > 0) & (moving <= count), (fixed > 0) & (fixed <= count))
    ]
    ndim = moving.ndim
    field: np.ndarray | None = None
    finest = 2 if max(moving.shape) > SMALL_PX else 1
    for level, steps in zip(LEVELS, STEPS):
        # A short axis is thinned less.
        thin = [max(1, min(level * finest, n // FEWEST_PX)) for n in moving.shape]
        a, b = (np.stack([_shrunk(pair[i], thin) for pair in pairs]) for i in (0, 1))
        shape = a.shape[1:]
        field = np.zeros((ndim, *shape), np.float32) if field is None else _resized(field, shape)
        field = _refined(a, b, field, steps)
    assert field is not None
    return _resized(field, moving.shape)


def _shrunk(mask: np.ndarray, thin: Sequence[int]) -> np.ndarray:
    """A mask blurred and thinned to the middle of every so many pixels."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), [MASK_BLUR_PX * t for t in thin])
    return soft[tuple(slice(t // 2, None, t) for t in thin)]


def _resized(field: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A displacement on a finer grid, its pixels being smaller."""
    scale = [n / m for n, m in zip(shape, field.shape[1:])]
    grid = np.meshgrid(
        *((np.arange(n) + 0.5) / s - 0.5 for n, s in zip(shape, scale)), indexing="ij"
    )
    return np.stack(
        [s * ndimage.map_coordinates(one, grid, order=1, mode="nearest")
         for one, s in zip(field, scale)]
    ).astype(np.float32)  # fmt: skip


def _refined(a: np.ndarray, b: np.ndarray, field: np.ndarray, steps: int) -> np.ndarray:
    """Demons over several channels: each pulls along its own slope, together normalised."""
    ndim = field.shape[0]
    index = np.indices(field.shape[1:], dtype=np.float32)
    axes = tuple(range(1, ndim + 1))
    for _ in range(steps):
        places = index + field
        moved = np.stack(
            [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in a]
        )
        apart = b - moved
        slopes = np.gradient(moved, axis=axes)
        weight = sum((slope**2).sum(0) for slope in slopes) + (apart**2).sum(0) + 1e-4
        push = np.stack([(apart * slope).sum(0) / weight for slope in slopes])
        for one in push:
            ndimage.gaussian_filter(one, FLUID_PX, output=one)
        field = field + push.astype(np.float32)
        for one in field:
            ndimage.gaussian_filter(one, ELASTIC_PX / 2, output=one, mode="nearest")
    return field


__all__ = ["Morph", "demons"]
