"""Training batches of cells, each a function of (seed, step) alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from brodmann.core import DataError, RecipeError, Sample, keyed_rng
from brodmann.problems.cells.intensity import Contrast, Intensity
from brodmann.problems.cells.targets import ball_target, gaussian_target

TARGETS = ("gaussian", "ball", "mask")


@dataclass(frozen=True)
class Target:
    """What is learned: `gaussian` or `ball` about centres, `size_um` wide, or the `mask`.

    For a Gaussian the size is its deviation, for a ball its radius; a mask has none.
    """

    kind: str = "gaussian"
    size_um: float = 4.0

    def __post_init__(self) -> None:
        if self.kind not in TARGETS:
            raise RecipeError(
                "unknown target", "target.kind", repr(self.kind), f"use one of {TARGETS}"
            )
        if not (math.isfinite(self.size_um) and self.size_um > 0):
            raise RecipeError("the size of a target is above 0 um", "target.size_um", self.size_um)

    def of(self, sample: Sample) -> np.ndarray:
        """(*spatial) float32 in 0..1.

        Raises
        ------
        DataError
            If the sample lacks the points or the mask.
        """
        if self.kind == "mask":
            if sample.labels is None:
                raise DataError("a mask is asked for, and there is none", sample.name)
            return (sample.labels.numpy() > 0).astype(np.float32)
        if sample.points is None:
            raise DataError("a training sample has no centres", sample.name)
        draw = gaussian_target if self.kind == "gaussian" else ball_target
        image = sample.image
        return draw(sample.points.coordinates, image.spatial_shape, self.size_um, image.spacing)


@dataclass(frozen=True)
class Turns:
    """Augmentation of a crop: mirrored, turned in the plane, brighter or dimmer, noisier.

    Attributes
    ----------
    mirror : str
        Letters of the axes, each mirrored with probability one half.
    turn : bool
        Quarter turns in the plane, where the crop is square.
    gain : float
        Deviation of the logarithm of a factor on the contrast.
    shift : float
        Deviation of a number added to each channel.
    noise : float
        Largest deviation of Gaussian noise; the deviation is drawn uniformly.
    """

    mirror: str = "zyx"
    turn: bool = True
    gain: float = 0.1
    shift: float = 0.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        if set(self.mirror) - set("zyx"):
            raise RecipeError("axes are letters of zyx", "augmentation.mirror", repr(self.mirror))
        if min(self.gain, self.shift, self.noise) < 0:
            raise RecipeError("deviations are 0 or more", "augmentation", self)

    def apply(
        self, rng: np.random.Generator, image: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(c, *crop) and (*crop) float32 -> the same shapes."""
        axes = "zyx"[-target.ndim :]
        flips = [i - len(axes) for i, axis in enumerate(axes) if axis in self.mirror]
        flips = [axis for axis in flips if rng.random() < 0.5]
        image, target = np.flip(image, flips), np.flip(target, flips)
        if self.turn and target.shape[-1] == target.shape[-2]:
            quarters = int(rng.integers(4))
            image = np.rot90(image, quarters, (-2, -1))
            target = np.rot90(target, quarters, (-2, -1))
        tail = (1,) * target.ndim
        image = image * np.float32(np.exp(self.gain * rng.standard_normal()))
        if self.shift:
            image = image + self.shift * rng.standard_normal((len(image), *tail), np.float32)
        if self.noise:
            spread = np.float32(self.noise * rng.random())
            image = image + spread * rng.standard_normal(image.shape, np.float32)
        return np.ascontiguousarray(image), np.ascontiguousarray(target)


@dataclass(frozen=True, eq=False)
class CellCase:
    """A sample ready for crops: contrast (c, *spatial), target (*spatial), centres (n, d).

    `pressed` says that asinh was taken of the contrast.
    """

    name: str
    subject: str
    image: np.ndarray
    target: np.ndarray
    centres: np.ndarray
    pressed: bool = False

    @classmethod
    def of(
        cls,
        sample: Sample,
        contrast: Contrast,
        intensity: Intensity,
        target: Target,
        crop: Sequence[int],
    ) -> CellCase:
        """Prepared in memory; mirrored outwards where the sample is smaller than a crop."""
        image = contrast.apply(sample.image.read(), sample.image.spacing, intensity)
        aim = target.of(sample)
        more = [(0, max(0, side - n)) for side, n in zip(crop, aim.shape, strict=True)]
        centres = np.zeros((0, aim.ndim)) if sample.points is None else sample.points.coordinates
        return cls(
            sample.name,
            sample.subject,
            np.pad(image, [(0, 0), *more], mode="symmetric"),
            np.pad(aim, more, mode="symmetric"),
            centres,
            contrast.compress,
        )


class CellBatches(TorchDataset):
    """Step -> {"image": (n, c, *crop), "target": (n, 1, *crop)}, float32.

    Each subject has the same share of the crops, whatever its number of cells; within it a
    sample comes as often as the root of its number of cells.

    Parameters
    ----------
    cases : sequence of CellCase
    crop : sequence of int
        Voxels along each axis.
    batch : int
    turns : Turns
    seed : int
    centred : float
        Share of the crops that hold a certain cell; the others lie anywhere.
    overlays : int
        To each crop the cells of up to so many others of the same subject are added, as light
        adds up: a net that saw only sparse cells takes crowded ones for something else.
    purpose : str
        Part of the key, so that training and validation draw different crops.
    """

    def __init__(
        self,
        cases: Sequence[CellCase],
        crop: Sequence[int],
        batch: int,
        turns: Turns,
        seed: int,
        *,
        centred: float = 0.6,
        overlays: int = 0,
        purpose: str = "cells",
    ) -> None:
        if not cases:
            raise DataError("there are no samples to train on")
        if not any(len(case.centres) for case in cases):
            raise DataError("no training sample holds a cell", cases[0].name)
        self.cases, self.crop, self.batch = list(cases), tuple(crop), batch
        self.turns, self.seed, self.centred, self.purpose = turns, seed, centred, purpose
        self.overlays = overlays
        self.subjects = sorted({case.subject for case in cases})

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        items = [self.item(step, i) for i in range(self.batch)]
        return {
            "image": torch.from_numpy(np.stack([image for image, _ in items])),
            "target": torch.from_numpy(np.stack([target for _, target in items]))[:, None],
        }

    def item(self, step: int, item: int) -> tuple[np.ndarray, np.ndarray]:
        """One crop, augmented."""
        rng = keyed_rng(self.seed, self.purpose, step, item)
        subject = self.subjects[(step * self.batch + item) % len(self.subjects)]
        mine = [case for case in self.cases if case.subject == subject]
        case, window = self._window(mine, rng, self.centred)
        image, target = case.image[(slice(None), *window)], case.target[window]
        for _ in range(int(rng.integers(self.overlays + 1))):
            other, there = self._window(mine, rng, 1.0)
            added = other.image[(slice(None), *there)], other.target[there]
            image, target = overlaid((image, target), self.turns.apply(rng, *added), case.pressed)
        return self.turns.apply(rng, image, target)

    def _window(
        self, mine: Sequence[CellCase], rng: np.random.Generator, centred: float
    ) -> tuple[CellCase, tuple[slice, ...]]:
        weights = np.sqrt([len(case.centres) for case in mine])
        if rng.random() < centred and weights.sum() > 0:
            case = mine[rng.choice(len(mine), p=weights / weights.sum())]
            centre = case.centres[rng.integers(len(case.centres))]
            # Anywhere in the middle half, so that cells are not learnt to be in the middle.
            centre = centre + [rng.integers(-(side // 4), side // 4 + 1) for side in self.crop]
        else:
            case = mine[rng.integers(len(mine))]
            centre = np.array([rng.integers(n) for n in case.target.shape])
        starts = [
            int(np.clip(round(float(c)) - side // 2, 0, n - side))
            for c, side, n in zip(centre, self.crop, case.target.shape)
        ]
        return case, tuple(slice(a, a + side) for a, side in zip(starts, self.crop))


def overlaid(
    below: tuple[np.ndarray, np.ndarray], above: tuple[np.ndarray, np.ndarray], pressed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A crop with the cells of another added; what lies between those cells is not.

    Parameters
    ----------
    below, above : pair of (c, *crop) contrast and (*crop) target
    pressed : bool
        Contrast is asinh of what adds up.

    Example
    -------
    >>> spot = np.array([[0.0, 3.0]]), np.array([0.0, 1.0])
    >>> overlaid((np.ones((1, 2)), np.zeros(2)), spot, False)[0].tolist()
    [[1.0, 4.0]]
    """
    (image, target), (more, aim) = below, above
    # A Gaussian to this power is 2.8 times as wide, which takes a cell in with its blur.
    share = aim**0.125
    if pressed:
        image = np.arcsinh(np.sinh(image) + share * np.sinh(more))
    else:
        image = image + share * more
    return image, np.maximum(target, aim)
