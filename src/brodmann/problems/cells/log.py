"""The classical detector: Laplacian of Gaussian at one scale."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from brodmann.core import RecipeError
from brodmann.problems.cells.detector import card_of, write_detector
from brodmann.problems.cells.intensity import Contrast, Intensity

TRUNCATE = 4.0
"""The kernel ends after so many deviations."""


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

    def __post_init__(self) -> None:
        if len(self.sigma_um) != len(self.spacing) or not min(self.sigma_um) > 0:
            raise RecipeError(
                f"sigma_um has {len(self.spacing)} numbers above 0", "sigma_um", self.sigma_um
            )

    channels = 1

    @property
    def sigma(self) -> tuple[float, ...]:
        """In voxels."""
        return tuple(um / step for um, step in zip(self.sigma_um, self.spacing))

    @property
    def halo(self) -> tuple[int, ...]:
        ground = self.contrast.halo(self.spacing)
        return tuple(len(_gaussian(s)) // 2 + h for s, h in zip(self.sigma, ground))

    @property
    def multiple(self) -> tuple[int, ...]:
        return (1,) * len(self.spacing)

    def heat(self, raw: np.ndarray, intensity: Intensity) -> np.ndarray:
        """See `Detector.heat`."""
        from scipy.ndimage import correlate1d

        values = np.asarray(raw).reshape((1, *np.shape(raw)[-len(self.spacing) :]))
        smooth = self.contrast.apply(values, self.spacing, intensity)[0]
        # Along one axis at a time: `bent` holds the sum of second derivatives so far.
        bent = np.zeros_like(smooth)
        for axis, sigma in enumerate(self.sigma):
            kernel, second = _gaussian(sigma), _second(sigma)
            bent = correlate1d(bent, kernel, axis, mode="reflect")
            bent -= correlate1d(smooth, second, axis, mode="reflect")
            smooth = correlate1d(smooth, kernel, axis, mode="reflect")
        return bent

    def save(self, folder: Path) -> Path:
        """Write `detector.yaml` and a card."""
        tree = {
            "name": self.name,
            "spacing": list(self.spacing),
            "sigma_um": list(self.sigma_um),
            "radius": list(self.radius),
            "threshold": float(self.threshold),
            "contrast": asdict(self.contrast)
            | {"background_um": list(self.contrast.background_um)},
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
        )


def contrast_from(tree: dict[str, Any]) -> Contrast:
    """A contrast as YAML holds it."""
    return Contrast(**tree | {"background_um": tuple(map(float, tree["background_um"]))})


def _gaussian(sigma: float) -> np.ndarray:
    reach = int(TRUNCATE * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def _second(sigma: float) -> np.ndarray:
    """sigma ** 2 times the second derivative; sums to 0, so that a flat image has no heat."""
    kernel = _gaussian(sigma)
    reach = len(kernel) // 2
    bend = (np.arange(-reach, reach + 1) ** 2 / sigma**2 - 1) * kernel
    return bend - bend.sum() * kernel
