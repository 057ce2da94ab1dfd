"""Folds: what each net learns from, and that nothing of its validation subjects gets there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brodmann.augment.base import Augmentation, Progress, make_augmentation
from brodmann.core import DataError, Dataset, LabelMap, RecipeError
from brodmann.datasets.folder import read_folder
from brodmann.datasets.splits import grouped_folds
from brodmann.pipeline.recipe import AugmentSection, SplitSection
from brodmann.problems.semantic.dealing import Maker


@dataclass(frozen=True, eq=False)
class Fold:
    """What one net learns from.

    Attributes
    ----------
    number : int
        Part of its seed.
    real : Dataset
        Training samples as they are.
    held : Dataset
        Samples of other subjects for the learning curve; may be empty.
    made : Dataset or Maker, optional
        Augmented copies of `real`: on disk, or made when asked for.
    skipped : int
        Copies that the augmentation could not make.
    """

    number: int
    real: Dataset
    held: Dataset
    made: Dataset | Maker | None = None
    skipped: int = 0

    @property
    def label_map(self) -> LabelMap:
        """Of all that is learned from: copies may bring an ignore id."""
        return self.real.label_map if self.made is None else self.made.label_map


def make_folds(dataset: Dataset, split: SplitSection, seed: int) -> list[Fold]:
    """The folds of a recipe that are to be trained; a single one has nothing held out.

    Raises
    ------
    RecipeError
        If `split.run` names a fold that is not there.
    """
    train = dataset.split(split.train)
    if split.folds == 1:
        return [Fold(0, train, dataset.subset([]))]
    parts = grouped_folds(train, split.folds, seed)
    wanted = split.run if split.run is not None else list(range(split.folds))
    if not wanted or not all(0 <= n < split.folds for n in wanted):
        raise RecipeError("no such fold", "split.run", wanted, f"folds are 0 to {split.folds - 1}")
    return [Fold(n, *(train.subset(names) for names in parts[n])) for n in wanted]


@dataclass(frozen=True)
class Copying:
    """How copies of a fold's training samples come about, each fold by itself.

    Mixing methods draw partners and learn from all samples that they are given; so a fold's
    copies are made of its own training samples only.
    """

    section: AugmentSection
    split: SplitSection
    seed: int

    @property
    def method(self) -> Augmentation:
        return make_augmentation(self.section.method, self.section.options)

    def place(self, fold: Fold, stage: Path) -> Path:
        return stage if self.split.folds == 1 else stage / f"fold{fold.number}"

    def make(self, fold: Fold, dataset: Dataset, stage: Path, progress: Progress) -> None:
        """Write the copies; online, only what the method finds out about its pool."""
        from brodmann.augment.expand import FITTED, expand

        folder, split = self.place(fold, stage), self.split.train
        if self.section.online:
            self.method.fitted(fold.real, folder / FITTED, seed=self.seed, progress=progress)
            return
        expand(
            # The folder of a single fold shows the whole dataset, test samples and all.
            dataset if self.split.folds == 1 else fold.real,
            self.method,
            folder / "dataset",
            factor=self.section.factor,
            seed=self.seed,
            split=split,
            progress=progress,
        )

    def added(self, fold: Fold, stage: Path) -> Fold:
        """The fold with what `make` has left.

        Raises
        ------
        DataError
            If the copies have other classes.
        """
        from brodmann.augment.expand import FITTED

        folder = self.place(fold, stage)
        made: Dataset | Maker
        if self.section.online:
            fitted = self.method.fitted(fold.real, folder / FITTED, seed=self.seed)
            made, skipped = Maker(fitted, fold.real, self.seed), 0
        else:
            made = read_folder(folder / "dataset").split(f"{self.split.train}-made")
            skipped = self.section.factor * len(fold.real) - len(made)
        if made.label_map.classes != fold.real.label_map.classes:
            raise DataError(
                "the copies have other classes", f"augment.method={self.section.method}"
            )
        return replace(fold, made=made, skipped=skipped)


def learned_from(section: AugmentSection, folds: list[Fold]) -> dict[str, Any]:
    """What a result tells of the samples that its nets have learned from.

    `schedule` ("real" where nothing is made); `made_images` and `skipped_copies`, of all
    folds, None online, where nobody counts; `training_samples`, all on disk that batches are
    dealt from.
    """
    if section.method == "none":
        schedule, made, skipped = "real", 0, 0
    elif section.online:
        schedule, made, skipped = section.schedule, None, None
    else:
        schedule, made = section.schedule, sum(len(fold.made) for fold in folds)
        skipped = sum(fold.skipped for fold in folds)
    real = {name for fold in folds for name in fold.real.names}
    return {
        "schedule": schedule,
        "made_images": made,
        "skipped_copies": skipped,
        "training_samples": (made or 0) + (0 if schedule == "synthetic" else len(real)),
    }
