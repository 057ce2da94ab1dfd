"""Distances between predicted and true surfaces, in micrometres, 2D and 3D.

A class's surface is its pixels that touch, face to face, a pixel of another class or the
image's border. All surfaces of an image are found in one pass and measured class by class as
point sets, so neither masks nor distance maps of whole sections are ever made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit

from brodmann.core import IGNORE_CLASS, DataError

SLACK = 1e-9
"""Relative slack of a tolerance: 3 x 0.1 um is within 0.3 um in spite of rounding."""


@dataclass(frozen=True)
class Surface:
    """Distances between two surfaces in micrometres, and their agreement in 0..1.

    For a class in neither image every field is NaN. For one in a single image the distances
    are infinite and `nsd` is 0.
    """

    hausdorff_um: float
    """Largest distance from any surface pixel of one to the nearest of the other."""
    hd95_um: float
    """The larger of the two directed 95th percentiles."""
    assd_um: float
    """Average symmetric surface distance: the mean over the surface pixels of both."""
    contour_um: float
    """Contour mean distance: the mean of the two directed mean distances."""
    nsd: float
    """Normalised surface Dice: share of both surfaces that lies within the tolerance."""

    @property
    def present(self) -> bool:
        """Whether the class is in one image at least."""
        return not np.isnan(self.nsd)

    @property
    def matched(self) -> bool:
        """Whether the class is in both images, so that distances are finite."""
        return bool(np.isfinite(self.hausdorff_um))


NEITHER = Surface(*(float("nan"),) * 5)
ONE_ONLY = Surface(*(float("inf"),) * 4, 0.0)


def surface_distances(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Sequence[float],
    *,
    tolerance_um: float,
    ignore: np.ndarray | None = None,
) -> Surface:
    """Distances between the surfaces of two binary masks.

    Parameters
    ----------
    truth, prediction : (y, x) or (z, y, x), anything that is 0 or not
    spacing : sequence of float
        Micrometres per axis; may differ between axes.
    tolerance_um : float
        For `nsd`.
    ignore : bool, same shape, optional
        Pixels left out of both masks.

    Example
    -------
    >>> a = np.zeros((9, 9), bool); a[2:6, 2:6] = True
    >>> found = surface_distances(a, np.roll(a, 1, 1), (10.0, 25.0), tolerance_um=20)
    >>> found.hausdorff_um, round(found.nsd, 3)
    (25.0, 0.667)
    """
    truth = (np.asarray(truth) != 0).astype(np.int16)
    if ignore is not None:
        truth[np.asarray(ignore) != 0] = IGNORE_CLASS
    prediction = (np.asarray(prediction) != 0).astype(np.int16)
    return surfaces(truth, prediction, 2, spacing, tolerance_um=tolerance_um, classes=[1])[1]


def surfaces(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    spacing: Sequence[float],
    *,
    tolerance_um: float,
    classes: Iterable[int] | None = None,
) -> dict[int, Surface]:
    """Surface distances of every class of two class maps.

    Parameters
    ----------
    truth, prediction : (y, x) or (z, y, x), integer
        Class indices; pixels whose truth is -1 (ignore) are left out of both.
    num_classes : int
        Background (0) among them.
    spacing : sequence of float
        Micrometres per axis.
    tolerance_um : float
        For the normalised surface Dice, 0 or more.
    classes : iterable of int, optional
        Which ones to measure; default: all but background.

    Returns
    -------
    dict of int to Surface
        In the order of `classes`.

    Raises
    ------
    DataError
        If shapes differ, the spacing does not fit them, or the tolerance is negative.

    Notes
    -----
    Surfaces and directed percentiles are as in MONAI's metrics (pixel centres, face
    neighbours, the image's border is outside); contour mean distance as in SeBRe, Table 1.
    Where an ignored area cuts a region, the cut counts as surface of both.

    Example
    -------
    >>> a = np.zeros((6, 6), int); a[1:4, 1:4] = 1
    >>> b = np.zeros((6, 6), int); b[1:4, 1:5] = 1
    >>> surfaces(a, b, 3, (2.0, 2.0), tolerance_um=1)[1].hausdorff_um
    2.0
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape or truth.ndim not in (2, 3):
        raise DataError(
            "surfaces need two class maps of one shape, (y, x) or (z, y, x)",
            found=f"truth {truth.shape}, prediction {prediction.shape}",
        )
    steps = np.asarray(spacing, float)
    if steps.shape != (truth.ndim,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise DataError(
            f"spacing must be {truth.ndim} positive numbers in micrometres", found=tuple(spacing)
        )
    if not (np.isfinite(tolerance_um) and tolerance_um >= 0):
        raise DataError("tolerance_um must be 0 or more", found=tolerance_um)
    classes = list(range(1, num_classes) if classes is None else classes)
    ours, theirs = (_points(image, truth, num_classes, steps) for image in (truth, prediction))
    return {index: _compare(ours[index], theirs[index], tolerance_um) for index in classes}


def summary(found: Iterable[Surface]) -> dict[str, Any]:
    """Means over classes or images, JSON-safe.

    Distances are averaged over those in both images, `nsd` over those in one at least (0 where
    in one only); `matched` and `one_sided` say how many there were of each.

    >>> summary([NEITHER, ONE_ONLY, Surface(3.0, 2.0, 1.0, 1.0, 0.5)])["mean_nsd"]
    0.25
    """
    present = [one for one in found if one.present]
    matched = [one for one in present if one.matched]
    means: dict[str, Any] = {}
    for field in fields(Surface):
        among = present if field.name == "nsd" else matched
        values = [getattr(one, field.name) for one in among]
        means[f"mean_{field.name}"] = float(np.mean(values)) if values else None
    return means | {"matched": len(matched), "one_sided": len(present) - len(matched)}


def _compare(a: np.ndarray, b: np.ndarray, tolerance_um: float) -> Surface:
    from scipy.spatial import cKDTree

    if not len(a) and not len(b):
        return NEITHER
    if not len(a) or not len(b):
        return ONE_ONLY
    ab, ba = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    count = len(ab) + len(ba)
    limit = tolerance_um * (1 + SLACK)
    return Surface(
        float(max(ab.max(), ba.max())),
        float(max(np.percentile(ab, 95), np.percentile(ba, 95))),
        float((ab.sum() + ba.sum()) / count),
        float((ab.mean() + ba.mean()) / 2),
        float(((ab <= limit).sum() + (ba <= limit).sum()) / count),
    )


def _points(
    image: np.ndarray, truth: np.ndarray, num_classes: int, steps: np.ndarray
) -> list[np.ndarray]:
    """For every class its surface pixels in micrometres, (k, ndim) float64."""
    solid = np.ascontiguousarray(image, np.int16).reshape((1,) * (3 - image.ndim) + image.shape)
    known = np.ascontiguousarray(truth, np.int16).reshape(solid.shape) != IGNORE_CLASS
    flat = image.ndim == 2
    each = np.zeros(num_classes, np.int64)
    _surface(solid, known, flat, each, np.zeros(num_classes, np.int64), np.empty(0, np.int64))
    first = np.concatenate([[0], np.cumsum(each)])
    where = np.empty(first[-1], np.int64)
    _surface(solid, known, flat, np.zeros_like(each), first[:-1], where)
    parts = np.split(where, first[1:-1])
    return [np.stack(np.unravel_index(part, image.shape), 1) * steps for part in parts]


@njit(cache=True, nogil=True)
def _surface(image, known, flat, each, first, where):
    """Count surface pixels by class; write their flat positions too where there is room."""
    depth, height, width = image.shape
    write = where.size > 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                c = image[z, y, x]
                if c < 0 or c >= each.size or not known[z, y, x]:
                    continue
                inner = (
                    y > 0
                    and y + 1 < height
                    and x > 0
                    and x + 1 < width
                    and image[z, y - 1, x] == c
                    and image[z, y + 1, x] == c
                    and image[z, y, x - 1] == c
                    and image[z, y, x + 1] == c
                    and known[z, y - 1, x]
                    and known[z, y + 1, x]
                    and known[z, y, x - 1]
                    and known[z, y, x + 1]
                )
                if inner and not flat:
                    inner = (
                        z > 0
                        and z + 1 < depth
                        and image[z - 1, y, x] == c
                        and image[z + 1, y, x] == c
                        and known[z - 1, y, x]
                        and known[z + 1, y, x]
                    )
                if not inner:
                    if write:
                        where[first[c] + each[c]] = (z * height + y) * width + x
                    each[c] += 1
