"""Tubes and a Y whose lengths are known."""

import numpy as np


def tube(shape, spacing, start_um, end_um, radius_um):
    """Voxels within a radius of a line, (z, y, x) in micrometres."""
    grid = np.stack(
        np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing)), indexing="ij"), -1
    )
    start, end = np.array(start_um, float), np.array(end_um, float)
    along = np.clip((grid - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return np.linalg.norm(grid - (start + along[..., None] * (end - start)), axis=-1) <= radius_um


def ball(shape, spacing, radius_um):
    middle = [(n - 1) / 2 * s for n, s in zip(shape, spacing)]
    grid = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing)), indexing="ij")
    return sum((g - m) ** 2 for g, m in zip(grid, middle)) <= radius_um**2
