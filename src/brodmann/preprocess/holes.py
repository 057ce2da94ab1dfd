"""Holes in tissue: large vessels and bubbles that say nothing about where in the brain one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from brodmann.core import DataError, RecipeError

SMOOTHING = 10.0
"""Of the narrowest hole's width, one such part is the deviation of the filter against noise."""


@dataclass(frozen=True)
class Holes:
    """What is darker than tissue and wider than cells, and how it is filled.

    Parameters
    ----------
    darker : float
        Deviations of the intensities by which a hole lies below their mean.
    wider_px : float
        Diameter in pixels of the disc that must fit into a hole, so that cells and capillaries
        are left alone.
    margin_px : int
        A hole grows by so many pixels: its wall and its bright rim go with it.

    A large vessel is found in any region of a brain, but few images hold one, so a method that
    learns from few labels takes it for a mark of the region where it met one.

    Example
    -------
    >>> image = np.random.default_rng(0).normal(120, 5, (1, 64, 64))
    >>> image[:, 20:40, 20:40] = 0
    >>> holes = Holes(wider_px=12, margin_px=2)
    >>> mask = holes.find(image, mean=120, deviation=30)
    >>> bool(mask[30, 30]), bool(mask[50, 50])
    (True, False)
    >>> bool(holes.fill(image, mean=120, deviation=30).min() > 80)
    True
    """

    darker: float = 2.4
    wider_px: float = 20.0
    margin_px: int = 10

    def __post_init__(self) -> None:
        for key in ("darker", "wider_px"):
            value = getattr(self, key)
            if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise RecipeError("a number above 0 is needed", f"holes.{key}", value)
        if not isinstance(self.margin_px, int) or self.margin_px < 0:
            raise RecipeError("a whole number from 0 is needed", "holes.margin_px", self.margin_px)

    def find(self, image: np.ndarray, mean: float, deviation: float) -> np.ndarray:
        """Where holes are, with their margin.

        Parameters
        ----------
        image : (channel, *spatial) array
            Of several channels their mean is looked at.
        mean, deviation : float
            Of the intensities of tissue, in the image's own units.

        Returns
        -------
        (*spatial) bool

        Raises
        ------
        DataError
            If the image has no spatial axis or no pixel.
        """
        from scipy import ndimage

        if image.ndim < 2 or not image.size:
            raise DataError("an image with its channels first is needed", found=image.shape)
        values = image.mean(0, dtype=np.float32)
        smooth = ndimage.gaussian_filter(values, self.wider_px / SMOOTHING)
        dark = smooth < mean - self.darker * deviation
        radius = self.wider_px / 2
        reach = int(np.ceil(radius)) + 1
        inside = _opened(_continued(dark, reach), radius)
        inside = inside[tuple(slice(reach, reach + n) for n in dark.shape)]
        if not inside.any():
            return inside
        whole = ndimage.binary_propagation(inside, mask=dark)
        return ndimage.distance_transform_edt(~whole) <= self.margin_px

    def fill(self, image: np.ndarray, mean: float, deviation: float) -> np.ndarray:
        """The image with tissue of its own in the place of holes; what has none is left as it is.

        Tissue is taken from where the hole comes to lie if the image is mirrored or shifted by
        half its size, and blends in over the outer half of the margin.

        Parameters
        ----------
        image, mean, deviation
            As for `find`.

        Returns
        -------
        (channel, *spatial) array
            In the image's dtype; the image itself where there is no hole, or nothing else.
        """
        from scipy import ndimage

        mask = self.find(image, mean, deviation)
        if not mask.any() or mask.all():
            return image
        patch = image.astype(np.float32)
        left = mask.copy()
        for move in _moves(mask.ndim):
            where = left & ~move(mask)
            for channel, values in zip(patch, image):
                channel[where] = move(values)[where]
            left &= ~where
        for channel, values in zip(patch, image):
            channel[left] = np.median(values[~mask])
        depth = ndimage.distance_transform_edt(mask)
        share = np.minimum(depth / max(self.margin_px / 2, 1), 1).astype(np.float32)
        mixed = image + share * (patch - image)
        return (np.rint(mixed) if image.dtype.kind in "iu" else mixed).astype(image.dtype)


def _continued(mask: np.ndarray, reach: int) -> np.ndarray:
    """The mask and what it would be beyond each face; nothing beyond edges and corners.

    A hole that a face cuts goes on as wide as it is there. A cell in a corner would become
    as wide as one likes.
    """
    out = np.pad(mask, reach)
    for axis in range(mask.ndim):
        widths = [(reach, reach) if one == axis else (0, 0) for one in range(mask.ndim)]
        place = tuple(
            slice(None) if one == axis else slice(reach, reach + n)
            for one, n in enumerate(mask.shape)
        )
        out[place] = np.pad(mask, widths, mode="edge")
    return out


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """Opening by a ball: what is covered by balls of this radius that lie within the mask."""
    from scipy import ndimage

    centres = ndimage.distance_transform_edt(mask) > radius
    if not centres.any():
        return centres
    return ndimage.distance_transform_edt(~centres) < radius


def _moves(axes: int) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Ways to lay an image over itself: mirrored, then shifted by half."""
    every = tuple(range(axes))
    chosen = dict.fromkeys((every, *((axis,) for axis in every)))
    for along in chosen:
        yield partial(np.flip, axis=along)
    for along in chosen:
        yield partial(_shifted, along=along)


def _shifted(values: np.ndarray, along: tuple[int, ...]) -> np.ndarray:
    return np.roll(values, [values.shape[axis] // 2 for axis in along], along)
