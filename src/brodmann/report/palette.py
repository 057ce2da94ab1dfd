"""Colours for many neurons: the same for an id everywhere, and far apart for ids in a row."""

from __future__ import annotations

from colorsys import hls_to_rgb

import numpy as np

GOLDEN = 0.61803398875


def color_of(rank: int) -> tuple[float, float, float]:
    """Red, green and blue in 0..1 of the n-th colour; hues go round by the golden section.

    >>> color_of(0) != color_of(1), all(0 <= c <= 1 for c in color_of(7))
    (True, True)
    """
    hue = (0.58 + rank * GOLDEN) % 1
    light = (0.56, 0.45, 0.66)[rank % 3]
    saturation = (0.62, 0.72, 0.55)[(rank // 3) % 3]
    return hls_to_rgb(hue, light, saturation)


def colors_of(ids: np.ndarray) -> np.ndarray:
    """(n, 3) float32 of ids of any size: neighbours in number are far apart in colour."""
    known = np.asarray(ids, np.uint64)
    # Ids made in a row lie beside each other; a multiplication scatters them.
    ranks = (known * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(54)
    return np.array([color_of(int(rank)) for rank in ranks], np.float32).reshape(-1, 3)
