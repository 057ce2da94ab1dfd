"""Small detectors whose heat is exact in whole numbers, and volumes for them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import correlate1d

from brodmann.core import Volume
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import Intensity
from brodmann.problems.cells.intensity import within

SPACING = (4.0, 2.0, 2.0)
PLAIN = Intensity(0.0, 1.0)


@dataclass(frozen=True)
class Boxes:
    """A small box minus a large one: a difference of means of truncated support.

    With `pool` it takes off the sum of pooled cells too, as a net with strides does: heat then
    depends on where a window begins.
    """

    reach: tuple[int, ...] = (1, 2, 2)
    radius: tuple[int, ...] = (1, 2, 2)
    threshold: float = 0.0
    pool: tuple[int, ...] = (1, 1, 1)
    spacing: tuple[float, ...] = SPACING
    said_halo: tuple[int, ...] | None = None
    said_multiple: tuple[int, ...] | None = None
    name: str = "boxes"
    channels: int = 1

    @property
    def halo(self) -> tuple[int, ...]:
        if self.said_halo is not None:
            return self.said_halo
        return tuple(max(r, p - 1) for r, p in zip(self.reach, self.pool))

    @property
    def multiple(self) -> tuple[int, ...]:
        return self.said_multiple or self.pool

    def heat(self, raw: np.ndarray, intensity: Intensity, trim=()) -> np.ndarray:
        values = raw.astype(np.int64)
        small, large = values, values
        for axis, r in enumerate(self.reach):
            large = correlate1d(large, np.ones(2 * r + 1, np.int64), axis, mode="constant")
        heat = int(np.prod([2 * r + 1 for r in self.reach])) * small - large
        if max(self.pool) > 1:
            pads = [(0, -n % p) for n, p in zip(raw.shape, self.pool)]
            sums = np.pad(values, pads)
            for axis, p in enumerate(self.pool):
                sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], p), axis)
            for axis, p in enumerate(self.pool):
                sums = np.repeat(sums, p, axis)
            heat = heat - sums[tuple(slice(0, n) for n in raw.shape)]
        return heat.astype(np.float32)[within(trim)]


@dataclass(frozen=True)
class Slow(Boxes):
    """Takes its time, so that it can be stopped."""

    pause_s: float = 0.05

    def heat(self, raw: np.ndarray, intensity: Intensity, trim=()) -> np.ndarray:
        time.sleep(self.pause_s)
        return super().heat(raw, intensity, trim)


@dataclass(frozen=True)
class Deadly(Boxes):
    """Kills its process at the first block that holds a voxel of 255, once."""

    folder: str = ""

    def heat(self, raw: np.ndarray, intensity: Intensity, trim=()) -> np.ndarray:
        died = Path(self.folder) / "died"
        if raw.max() == 255 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().heat(raw, intensity, trim)


@dataclass(frozen=True)
class Broken(Boxes):
    """Gives no number, or another shape, where a voxel is 255."""

    shape: bool = False

    def heat(self, raw: np.ndarray, intensity: Intensity, trim=()) -> np.ndarray:
        heat = super().heat(raw, intensity, trim)
        if raw.max() < 255:
            return heat
        return heat[1:] if self.shape else np.full_like(heat, np.nan)


def random_volume(shape, seed=0, levels=6, dtype=np.uint8) -> Volume:
    """Few values, so that plateaus come."""
    values = np.random.default_rng(seed).integers(0, levels, shape)
    return Volume(values.astype(dtype), "zyx"[-len(shape) :], SPACING[-len(shape) :])


def of_whole(detector, volume, threshold=None) -> np.ndarray:
    """(n, d + 1) coordinates and scores of the whole volume in memory: one window, no blocks."""
    values = volume.numpy()
    margin = [-(-h // m) * m for h, m in zip(detector.halo, detector.multiple)]
    raw = np.pad(values, [(n, n) for n in margin], mode="symmetric")
    heat = detector.heat(raw, PLAIN)[within(margin)]
    at, scores = find_maxima(heat, detector.radius, threshold or detector.threshold)
    return np.column_stack([at, scores])


def as_array(points) -> np.ndarray:
    return np.column_stack([points.coordinates, points.table["score"]])
