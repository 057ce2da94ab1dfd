"""The classical detector: Laplacian of Gaussian at one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from brodmann.core import ModelError, RecipeError
from brodmann.problems.cells.blobness import blobness, gaussian_reach
from brodmann.problems.cells.detector import card_of, write_detector
from brodmann.problems.cells.intensity import (
    Contrast,
    Intensity,
    contrast_from,
    contrast_tree,
    within,
)


@dataclass
class LaplacianOfGaussian:
    """Heat is the scale-normalised, negated Laplacian of the image smoothed by a Gaussian.

    Attributes
    ----------
    spacing : tuple of float
        Micrometres per voxel.
    sigma_um : tuple of float
        Deviation along each axis. A blob of radius r answers most at r / sqrt(dimensions).
    radius : tuple of int
        Of the peak window, in voxels.
    threshold : float
        In units of the contrast.
    contrast : Contrast
        What the filter is given.
    channels : int
        Of several channels each voxel takes the highest heat.

    Example
    -------
    >>> raw = np.zeros((5, 9, 9), np.float32)
    >>> raw[2, 4, 4] = 100
    >>> log = LaplacianOfGaussian((2.0, 2.0, 2.0), (2.0, 2.0, 2.0), (1, 1, 1), 1.0)
    >>> heat = log.heat(raw, Intensity(0.0, 1.0))
    >>> [int(n) for n in np.unravel_index(heat.argmax(), heat.shape)], log.halo
    ([2, 4, 4], (4, 4, 4))
    """

    spacing: tuple[float, ...]
    sigma_um: tuple[float, ...]
    radius: tuple[int, ...]
    threshold: float
    contrast: Contrast = field(default_factory=lambda: Contrast(compress=False))
    name: str = "Laplacian of Gaussian"
    channels: int = 1

    def __post_init__(self) -> None:
        if self.contrast.blobs_um:
            raise RecipeError("a Laplacian of Gaussian takes no further channels", "blobs_um")
        if len(self.sigma_um) != len(self.spacing) or not min(self.sigma_um) > 0:
            raise RecipeError(
                f"sigma_um has {len(self.spacing)} numbers above 0", "sigma_um", self.sigma_um
            )

    @property
    def sigma(self) -> tuple[float, ...]:
        """In voxels."""
        return tuple(um / step for um, step in zip(self.sigma_um, self.spacing))

    @property
    def halo(self) -> tuple[int, ...]:
        ground = self.contrast.halo(self.spacing)
        return tuple(gaussian_reach(s) + h for s, h in zip(self.sigma, ground))

    @property
    def multiple(self) -> tuple[int, ...]:
        return (1,) * len(self.spacing)

    def heat(self, raw: np.ndarray, intensity: Intensity, trim: Sequence[int] = ()) -> np.ndarray:
        """See `Detector.heat`."""
        raw = np.asarray(raw)
        raw = raw[None] if raw.ndim == len(self.spacing) else raw
        if raw.ndim != len(self.spacing) + 1 or len(raw) != self.channels:
            raise ModelError(
                f"the detector takes {self.channels} channels of a {len(self.spacing)}D image",
                self.name,
                f"shape {raw.shape}",
            )
        trim = tuple(trim) or (0,) * len(self.spacing)
        room = tuple(min(t, gaussian_reach(s)) for t, s in zip(trim, self.sigma))
        outer = [t - r for t, r in zip(trim, room)]
        values = self.contrast.apply(raw, self.spacing, intensity, outer)
        inner = within(room)
        heat = blobness(values[0], self.sigma, inner)
        for channel in values[1:]:
            np.maximum(heat, blobness(channel, self.sigma, inner), out=heat)
        return heat

    def save(self, folder: Path) -> Path:
        """Write `detector.yaml` and a card."""
        tree = {
            "name": self.name,
            "channels": self.channels,
            "spacing": list(self.spacing),
            "sigma_um": list(self.sigma_um),
            "radius": list(self.radius),
            "threshold": float(self.threshold),
            "contrast": contrast_tree(self.contrast),
        }
        return write_detector(folder, "log", tree, card_of(self, {"sigma": tree["sigma_um"]}))

    @classmethod
    def load(cls, tree: dict[str, Any], folder: Path) -> Self:
        """What `save` wrote."""
        return cls(
            tuple(map(float, tree["spacing"])),
            tuple(map(float, tree["sigma_um"])),
            tuple(map(int, tree["radius"])),
            float(tree["threshold"]),
            contrast_from(tree["contrast"]),
            str(tree["name"]),
            int(tree["channels"]),
        )
