"""Training of a classifier from crops of several brains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, RecipeError, key_seed
from brodmann.core.files import make_folder
from brodmann.problems.candidates.batches import CropBatches, Pool
from brodmann.problems.candidates.classifier import CropClassifier, check_finite
from brodmann.problems.candidates.intensity import crop_contrast, crop_intensities
from brodmann.problems.candidates.net import FEATURES, build_crop_net
from brodmann.problems.candidates.problem import Candidates
from brodmann.problems.candidates.tuning import choose_threshold
from brodmann.problems.cells.batches import Turns
from brodmann.problems.cells.intensity import Contrast, Intensity
from brodmann.problems.learner import Schedule, fit

SLIDE = (0, 1, 1)
CONTRAST, TURNS, SCHEDULE = Contrast(scale="volume", unit=2.0), Turns(), Schedule()


@dataclass(frozen=True, eq=False)
class CropSet:
    """Crops of one brain and what they are.

    Attributes
    ----------
    subject : str
        The brain.
    crops : (n, channels, z, y, x)
        As recorded.
    labels : (n,) int
        1 cell, 0 none.
    intensities : tuple of Intensity
        Of the brain, one for each channel; measured on the crops if not given.
    missed : int
        Cells of the brain that are no crop.
    """

    subject: str
    crops: np.ndarray
    labels: np.ndarray
    intensities: tuple[Intensity, ...] = ()
    missed: int = 0

    def known(self, spacing: Sequence[float]) -> tuple[Intensity, ...]:
        """The intensities, measured if need be."""
        return self.intensities or crop_intensities(self.crops, spacing)


def train_classifier(
    sets: Sequence[CropSet],
    spacing: Sequence[float],
    folder: Path,
    *,
    contrast: Contrast = CONTRAST,
    features: Sequence[int] = FEATURES,
    turns: Turns = TURNS,
    slide: Sequence[int] = SLIDE,
    schedule: Schedule = SCHEDULE,
    batch: int = 32,
    seed: int = 0,
    workers: int = 0,
    tune: Sequence[CropSet] = (),
    name: str = "cell classifier",
    facts: Mapping[str, Any] | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> CropClassifier:
    """Train a classifier, or go on training it from the checkpoint in `folder`.

    Parameters
    ----------
    sets : sequence of CropSet
        At least one cell and one other crop in all; held in memory as float32.
    spacing : (z, y, x)
        Micrometres of the crops' voxels.
    folder : Path
        Where the checkpoint and the learning curve go.
    contrast : Contrast
        See `crop_contrast`.
    features : sequence of int
        Of the net's stages.
    turns, slide
        Augmentation, see `CropBatches`.
    schedule, seed, workers, on_step
        See `problems.learner.fit`.
    batch : int
        Crops in a batch, an even number.
    tune : sequence of CropSet
        Crops by which the threshold is chosen; those trained on if there are none, whose
        probabilities are surer than those of others.
    name, facts
        For the card.

    Returns
    -------
    CropClassifier

    Raises
    ------
    DataError
        If a class is missing, crops differ in shape, or a voxel is not finite.
    RecipeError
        If an option does not fit.
    """
    check_sets(sets)
    if batch < 2 or batch % 2:
        raise RecipeError("half of each batch are cells: an even number", "train.batch", batch)
    spacing = tuple(float(n) for n in spacing)
    shape, channels = sets[0].crops.shape[2:], sets[0].crops.shape[1]
    if len(slide) != 3 or any(not 0 <= n <= side // 4 for n, side in zip(slide, shape)):
        raise RecipeError("crops slide by 0 to a quarter of their sides", "slide", tuple(slide))
    seen = [crop_contrast(one.crops, contrast, spacing, one.known(spacing)) for one in sets]
    pool = Pool(
        np.concatenate(seen),
        np.concatenate([np.asarray(one.labels, np.int64) for one in sets]),
        np.concatenate([np.full(len(one.crops), one.subject, object) for one in sets]).astype(str),
    )
    del seen
    options = {"features": [int(n) for n in features]}
    net = seeded(key_seed(seed, "net"), lambda: build_crop_net(options, pool.seen.shape[1]))
    net, _ = fit(
        net,
        Candidates(),  # type: ignore[arg-type]
        CropBatches(pool, batch, turns, slide, seed),
        schedule,
        seed,
        make_folder(folder),
        workers=workers,
        on_step=on_step,
    )
    told = {
        "brains": ", ".join(sorted({one.subject for one in sets})),
        "cells": int((pool.labels == 1).sum()),
        "other candidates": int((pool.labels == 0).sum()),
        "steps": schedule.steps,
        "seed": seed,
        **(facts or {}),
    }
    made = CropClassifier(net, options, shape, spacing, 0.5, contrast, channels, name, told)
    judged = list(tune) or list(sets)
    check_sets(judged)
    made.threshold = choose_threshold(
        np.concatenate([made.probability(one.crops, one.known(spacing)) for one in judged]),
        np.concatenate([one.labels for one in judged]),
        sum(one.missed for one in judged),
    )
    return made


def seeded(seed: int, make: Callable[[], Any]) -> Any:
    """A net whose first weights depend on the seed alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def check_sets(sets: Sequence[CropSet]) -> None:
    """Refuse crops that nothing can be learned from.

    Raises
    ------
    DataError
    """
    if not sets:
        raise DataError("there are no crops", "crops")
    first = sets[0].crops
    for one in sets:
        if one.crops.ndim != 5 or one.crops.shape[1:] != first.shape[1:]:
            raise DataError(
                "crops differ in channels or shape",
                one.subject,
                f"{one.crops.shape[1:]}, those of {sets[0].subject} {first.shape[1:]}",
                "cut all of them alike",
            )
        if len(one.labels) != len(one.crops) or not np.isin(one.labels, (0, 1)).all():
            raise DataError(
                "each crop is labelled 1 (cell) or 0 (none)",
                one.subject,
                sorted({int(n) for n in one.labels} - {0, 1}),
                "put crops into cells/ and non_cells/",
            )
        check_finite(one.crops, one.subject)
    labels = np.concatenate([one.labels for one in sets])
    for label, what in ((1, "cell"), (0, "candidate that is no cell")):
        if not (labels == label).any():
            raise DataError(
                f"no crop shows a {what}",
                ", ".join(one.subject for one in sets),
                f"{len(labels)} crops",
                "a classifier needs some of both",
            )
