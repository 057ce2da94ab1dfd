"""Brightness of a brain by which its crops are scaled, and the contrast of crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brodmann.core import DataError, Volume
from brodmann.problems.cells.intensity import Contrast, Intensity, measure_intensity

MEASURED = 512
"""At most so many crops say how bright their brain is."""


def crop_intensities(crops: np.ndarray, spacing: Sequence[float]) -> tuple[Intensity, ...]:
    """Level and texture of a brain that is known by its crops alone, one for each channel.

    Both are robust, so that the few bright voxels of cells hardly count; see
    `problems.cells.measure_intensity`. At most `MEASURED` crops are looked at, evenly spread.

    Parameters
    ----------
    crops : (n, channels, z, y, x)
        Of one brain.
    spacing : (z, y, x)
        Micrometres.

    Raises
    ------
    DataError
        If there are none, or one is not finite.

    Example
    -------
    >>> noise = np.random.default_rng(0).normal(1000, 30, (20, 1, 8, 32, 32))
    >>> found, = crop_intensities(noise, (5.0, 2.0, 2.0))
    >>> round(found.level, -1), round(found.deviation)
    (1000.0, 30)
    """
    if not len(crops):
        raise DataError("no crop says how bright this brain is", "crops")
    picks = np.unique(np.linspace(0, len(crops) - 1, min(len(crops), MEASURED)).astype(int))
    return tuple(
        measure_intensity([Volume(crops[i, channel], "zyx", tuple(spacing)) for i in picks])
        for channel in range(crops.shape[1])
    )


def crop_contrast(
    crops: np.ndarray,
    contrast: Contrast,
    spacing: Sequence[float],
    intensities: Sequence[Intensity],
) -> np.ndarray:
    """What a net sees of crops: (n, c, z, y, x) -> float32 (n, contrast.channels(c), z, y, x).

    The scale is the brain's. The ground is each crop's own median, or, where the contrast has a
    background, the mean of a box within the crop: the surround beyond it is not known.

    Parameters
    ----------
    crops : (n, c, z, y, x)
        As recorded.
    contrast : Contrast
    spacing : (z, y, x)
    intensities : sequence of Intensity
        Of the brain, one for each channel.

    Example
    -------
    >>> crop = np.full((1, 1, 4, 8, 8), 700.0)
    >>> crop[0, 0, 2, 4, 4] = 900
    >>> look = Contrast(scale="volume", unit=2.0, compress=False)
    >>> seen = crop_contrast(crop, look, (5, 2, 2), [Intensity(500, 10)])
    >>> float(seen.min()), float(seen.max())
    (0.0, 10.0)
    """
    shape = (len(crops), contrast.channels(crops.shape[1]), *crops.shape[2:])
    seen = np.empty(shape, np.float32)
    for crop, out in zip(crops, seen):
        parts = [
            contrast.apply(
                values[None], spacing, Intensity(float(np.median(values)), intensity.deviation)
            )
            for values, intensity in zip(crop, intensities, strict=True)
        ]
        # All contrasts first, then their blobs, as the contrast of several channels has them.
        np.stack([part[i] for i in range(len(parts[0])) for part in parts], out=out)
    return seen
