"""Mutex watershed on voxels: near pairs attract, far pairs forbid; no fragments, no threshold.

Wolf et al., "The mutex watershed and its objective", 2020; the loop is bioimage-cpp's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from brodmann.core import Affinities, RecipeError
from brodmann.core.affinities import NEAREST
from brodmann.postprocess.fragments import checked

STRIDES = (1, 2, 2)
"""Of the far pairs along z, y, x one in four is enough, and much quicker."""


def mutex_segments(
    affinities: Affinities,
    biases: Sequence[float] = (0.0,),
    *,
    strides: tuple[int, int, int] = STRIDES,
) -> Iterator[tuple[float, np.ndarray]]:
    """Segments by the mutex watershed, one after another for each bias.

    Channels to the nearest neighbours attract by their affinity; all others forbid by 1 less
    theirs. Where there are no others, the nearest do both.

    Parameters
    ----------
    affinities : Affinities
        Whole; 4 bytes a value are made, and sorted: about 100 bytes a voxel in all with the
        twelve long-range offsets.
    biases : sequence of float
        In -1..1, added to what attracts; more merges more.
    strides : (z, y, x)
        Far pairs are kept on a regular grid of these steps: nothing is drawn at random, so
        there is no seed.

    Yields
    ------
    (bias, labels (z, y, x) uint32)
        Ids 1, 2, ...

    Raises
    ------
    DataError, RecipeError
        On affinities that cannot be segmented; on a bias or strides out of range.
    """
    from bioimage_cpp.segmentation import mutex_watershed

    if not all(-1 <= bias <= 1 for bias in biases):
        raise RecipeError("the bias of the mutex watershed lies in -1..1", found=list(biases))
    if len(strides) != 3 or min(strides) < 1:
        raise RecipeError("strides are three numbers of at least 1", found=strides)
    affinities = checked(affinities)
    convention = affinities.convention
    near = convention.channels_of(NEAREST)
    far = [c for c in range(len(convention.offsets)) if c not in near] or near
    offsets = [convention.offsets[c] for c in (*near, *far)]
    values = affinities.volume.data[[*near, *far]] / np.float32(255)
    values[len(near) :] = 1 - values[len(near) :]
    last = 0.0
    for bias in biases:
        values[: len(near)] += np.float32(bias - last)
        last = bias
        labels = mutex_watershed(
            values,
            [list(offset) for offset in offsets],
            number_of_attractive_channels=len(near),
            strides=list(strides) if far != near else [1, 1, 1],
        )
        yield float(bias), labels.astype(np.uint32)
