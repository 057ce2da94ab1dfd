"""The candidates of brains, from a detector on a dataset or from folders of crops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

from brodmann.core import DataError, Dataset, Points, RecipeError, Volume
from brodmann.datasets.registry import DATASETS
from brodmann.datasets.splits import grouped_folds
from brodmann.io.crops import cut_crops, read_crops
from brodmann.metrics.points import PointScore, pool, score_points
from brodmann.pipeline.candidates.labels import candidates
from brodmann.pipeline.candidates.study.recipe import CandidateRecipe, DetectorSection
from brodmann.problems.candidates import CropSet
from brodmann.problems.cells import (
    Contrast,
    Detector,
    Intensity,
    LaplacianOfGaussian,
    heat_of,
    load_detector,
    measure_intensity,
)
from brodmann.problems.cells.detector import check_volume
from brodmann.problems.cells.tuning import choose

LOWEST = 0.0
Folds = list[tuple[list[str], list[str]]]
"""Brains that train and brains that test."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """Candidates of one sample and the true centres."""

    candidates: Points
    truth: np.ndarray


@dataclass(frozen=True, eq=False)
class Proposed:
    """The candidates of one brain.

    Attributes
    ----------
    crops : CropSet
    added : (n,) bool
        Crops of cells that are no candidates: to train on only.
    strong : (n,) bool
        Candidates above the detector's own threshold.
    samples : tuple of Sampled
        Whose candidates follow each other in the crops, before those added; none for crops
        from a folder.
    tolerance : float
        In voxels.
    """

    crops: CropSet
    added: np.ndarray
    strong: np.ndarray
    samples: tuple[Sampled, ...] = ()
    tolerance: float = 6.0

    @property
    def own(self) -> CropSet:
        """Candidates alone."""
        kept = ~self.added
        return replace(self.crops, crops=self.crops.crops[kept], labels=self.crops.labels[kept])

    def score(self, kept: np.ndarray) -> PointScore:
        """Counts when these candidates are taken for cells, by all true cells.

        Of a folder of crops only those that show cells are known.
        """
        if not self.samples:
            cells = self.own.labels == 1
            hit = int((kept & cells).sum())
            return PointScore(hit, int(kept.sum()) - hit, int(cells.sum()) - hit)
        scores, first = [], 0
        for sample in self.samples:
            last = first + len(sample.candidates)
            found = sample.candidates.coordinates[kept[first:last]]
            scores.append(score_points(found, sample.truth, self.tolerance))
            first = last
        return pool(scores)


class Brains(Protocol):
    """Where candidates come from."""

    folds: Folds
    spacing: tuple[float, ...]
    content: str

    def detector(self, train: list[str], fold: int) -> Detector | None:
        """Who proposes candidates, chosen without the other brains; at its own threshold."""

    def proposed(self, subject: str, detector: Detector | None) -> Proposed:
        """The candidates of a brain."""


@dataclass(frozen=True, eq=False)
class SampleBrains:
    """Brains of a dataset whose samples have points."""

    data: Dataset
    recipe: CandidateRecipe
    folds: Folds
    spacing: tuple[float, ...]
    content: str
    intensities: dict[str, Intensity]
    heats: dict[tuple, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: CandidateRecipe) -> SampleBrains:
        """Each sample is read once.

        Raises
        ------
        DataError
            If a sample has no table of points, or is no volume.
        """
        params = dict(recipe.data or {})
        data = DATASETS[params.pop("kind")](**params)
        data = data.with_load(cache(data.__getitem__))
        digest = blake2b(digest_size=16)
        for sample in data:
            if sample.points is None:
                raise DataError("a sample has no centres, not even an empty table", sample.name)
            if sample.image.ndim != 3:
                raise DataError("crops are cut from volumes in 3D", sample.name, sample.image.axes)
            digest.update(repr((sample.name, sample.subject, sample.image.spacing)).encode())
            digest.update(np.ascontiguousarray(sample.image.numpy()))
            digest.update(np.ascontiguousarray(sample.points.coordinates))
        spacing = tuple(recipe.spacing_um or data[0].image.spacing)
        intensities = {
            subject: measure_intensity([s.image for s in data if s.subject == subject])
            for subject in sorted(set(data.subjects.values()))
        }
        folds = _folds(data, recipe.folds)
        return cls(data, recipe, folds, spacing, digest.hexdigest(), intensities)

    def detector(self, train: list[str], fold: int) -> Detector:
        """The recipe's; a Laplacian of Gaussian is tuned on the training brains."""
        section = self.recipe.detector
        assert section is not None
        if section.folder is not None:
            found = load_detector(Path(section.folder.replace("{fold}", str(fold))))
            check_volume(found, self.data[0].image, self.data[0].name)
            return found
        return self._tuned(section, train)

    def _tuned(self, section: DetectorSection, train: list[str]) -> Detector:
        names = [name for name in self.data.names if self.data.subjects[name] in train]
        truths = [self.data[name].points.coordinates for name in names]
        subjects = [self.data.subjects[name] for name in names]
        image, look = self.data[0].image, section.contrast.made(compress=False, blobs_um=())
        best, most = None, -1.0
        for sigma in section.sigmas_um:
            tried = LaplacianOfGaussian(
                image.spacing,
                tuple(sigma),
                tuple(section.radii[0]),
                0.0,
                look,
                channels=image.num_channels,
            )
            heats = [self._heat(tried, look, name) for name in names]
            choice = choose(
                heats, truths, subjects, section.radii, self.recipe.tolerance, lowest=LOWEST
            )
            if choice.f1 > most:
                tried.radius, tried.threshold = choice.radius, choice.threshold
                best, most = tried, choice.f1
        assert best is not None
        return best

    def _heat(self, tried: LaplacianOfGaussian, look: Contrast, name: str) -> np.ndarray:
        key = (name, tried.sigma_um, look)
        if key not in self.heats:
            intensity = self.intensities[self.data.subjects[name]]
            self.heats[key] = heat_of(tried, self.data[name].image, intensity)
        return self.heats[key]

    def proposed(self, subject: str, detector: Detector | None) -> Proposed:
        """Peaks of all samples of a brain, above a part of the detector's threshold."""
        assert detector is not None and self.recipe.detector is not None
        recipe, shape = self.recipe, tuple(self.recipe.crop)
        parts, crops, labels, strong, added, missed = [], [], [], [], [], 0
        late: list[np.ndarray] = []
        mine = [s for s in self.data if s.subject == subject]
        for sample in mine:
            told = candidates(
                sample.image,
                detector,
                sample.points,
                recipe.tolerance,
                threshold=detector.threshold * recipe.detector.lower,
                intensity=self.intensities[subject],
                add_missed=True,
            )
            table = told.table
            lost = table["missed"].to_numpy(bool)
            own = Points(table[~lost], sample.name)
            parts.append(Sampled(own, sample.points.coordinates))
            labels.append(own.table["label"].to_numpy(np.int64))
            strong.append(own.table["score"].to_numpy(float) > detector.threshold)
            crops += self._cut(sample.image, own, shape)
            missed += int(lost.sum())
            if recipe.add_missed:
                late += self._cut(sample.image, Points(table[lost], sample.name), shape)
        every = crops + late
        channels, dtype = mine[0].image.num_channels, mine[0].image.dtype
        cubes = np.stack(every) if every else np.zeros((0, channels, *shape), dtype)
        added = np.arange(len(every)) >= len(crops)
        return Proposed(
            CropSet(
                subject,
                cubes,
                np.concatenate([*labels, np.ones(len(late), np.int64)]).astype(np.int64),
                self._channel_intensities(mine),
                missed,
            ),
            added,
            np.concatenate(strong),
            tuple(parts),
            recipe.tolerance,
        )

    def _cut(self, image: Volume, points: Points, shape: tuple[int, ...]) -> list[np.ndarray]:
        if not len(points):
            return []
        channels = [Volume(values, "zyx", image.spacing) for values in image.read()]
        same = np.allclose(self.spacing, image.spacing, rtol=0.02)
        spacing = None if same else self.spacing
        return list(cut_crops(points, channels, shape=shape, spacing=spacing))

    def _channel_intensities(self, samples: list) -> tuple[Intensity, ...]:
        if samples[0].image.num_channels == 1:
            return (self.intensities[samples[0].subject],)
        return tuple(
            measure_intensity([Volume(s.image.read()[c], "zyx", s.image.spacing) for s in samples])
            for c in range(samples[0].image.num_channels)
        )


@dataclass(frozen=True, eq=False)
class FolderBrains:
    """Brains as folders of crops that people sorted into cells/ and non_cells/."""

    sets: dict[str, CropSet]
    folds: Folds
    spacing: tuple[float, ...]
    content: str

    @classmethod
    def of(cls, recipe: CandidateRecipe) -> FolderBrains:
        """Every crop is read.

        Raises
        ------
        DataError
            If a folder has no crops, or one that nobody sorted.
        """
        assert recipe.crops is not None and recipe.spacing_um is not None
        sets, digest = {}, blake2b(digest_size=16)
        for subject, folder in sorted(recipe.crops.items()):
            sets[subject] = crop_set(folder, subject)
            digest.update(subject.encode())
            digest.update(np.ascontiguousarray(sets[subject].crops))
            digest.update(np.ascontiguousarray(sets[subject].labels))
        names = list(sets)
        listed = Dataset("crops", names, lambda name: None, None, {n: n for n in names})
        folds = _folds(listed, recipe.folds)
        return cls(sets, folds, tuple(recipe.spacing_um), digest.hexdigest())

    def detector(self, train: list[str], fold: int) -> None:
        """Nobody knows."""

    def proposed(self, subject: str, detector: Detector | None) -> Proposed:
        """The crops of a folder."""
        count = len(self.sets[subject].crops)
        return Proposed(self.sets[subject], np.zeros(count, bool), np.ones(count, bool))


def crop_set(folder: str | Path, subject: str) -> CropSet:
    """The crops of a folder in memory, all of them labelled.

    Raises
    ------
    DataError
        If there are none, one is not labelled, or they differ in shape.
    """
    found = read_crops(folder)
    if (found.labels < 0).any():
        raise DataError(
            "crops that nobody judged teach nothing",
            folder,
            f"{int((found.labels < 0).sum())} of {len(found)}",
            "move each into cells/ or non_cells/",
        )
    first = found[0]
    cubes = np.empty((len(found), *first.shape), first.dtype)
    for number in range(len(found)):
        cube = found[number]
        if cube.shape != first.shape:
            raise DataError(
                "crops of one folder differ in channels or shape",
                found.files[number][0],
                f"{cube.shape}, the first one {first.shape}",
                "cut all of them alike",
            )
        cubes[number] = cube
    return CropSet(subject, cubes, found.labels)


def open_brains(recipe: CandidateRecipe) -> Brains:
    """The recipe's brains, by either way."""
    return SampleBrains.of(recipe) if recipe.data is not None else FolderBrains.of(recipe)


def _folds(data: Dataset, count: int) -> Folds:
    subjects = sorted(set(data.subjects.values()))
    if len(subjects) < 2:
        raise RecipeError(
            "a classifier is scored on a brain that it never saw",
            "data",
            f"one brain, {subjects[0]}",
            "give two or more",
        )

    def of(names: Iterable[str]) -> list[str]:
        return sorted({data.subjects[name] for name in names})

    return [(of(a), of(b)) for a, b in grouped_folds(data, count or len(subjects))]
