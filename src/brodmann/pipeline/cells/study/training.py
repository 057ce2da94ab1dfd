"""A detector from some brains: weights, scale, peak window and threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import Dataset, key_seed
from brodmann.pipeline.cells.study.recipe import CellRow, DetectorRecipe
from brodmann.pipeline.counting import Report
from brodmann.pipeline.model import seeded_net
from brodmann.problems.cells import (
    Detector,
    Intensity,
    LaplacianOfGaussian,
    NetDetector,
    measure_intensity,
)
from brodmann.problems.cells.batches import CellBatches, CellCase
from brodmann.problems.cells.net_detector import build_net
from brodmann.problems.cells.problem import Cells
from brodmann.problems.cells.tuning import Choice, choose


@dataclass
class Trainer:
    """What detectors are made with.

    Attributes
    ----------
    recipe : DetectorRecipe
    data : Dataset
        Samples in memory, with points.
    intensities : dict
        Of each sample that of its brain, see `measure_brains`.
    tolerances : dict
        Of each sample, in voxels.
    groups : dict
        Of each sample that over which a mean F1 is taken: its brain.
    report : callable
    kept : dict
        Heat of a Laplacian of Gaussian, which serves every fold that trains on it.
    """

    recipe: DetectorRecipe
    data: Dataset
    intensities: dict[str, Intensity]
    tolerances: dict[str, float]
    groups: dict[str, str]
    report: Report
    kept: dict[Any, np.ndarray] = field(default_factory=dict)

    def train(
        self, row: CellRow, seed: int, names: list[str], stage: Path, note: str
    ) -> tuple[Detector, Choice]:
        """The detector of a row, by the samples named; what it needs to go on lies in `stage`."""
        if row.net is None:
            return self._log(row, names, note)
        return self._net(row, seed, names, stage, note)

    def depends(self, row: CellRow, seed: int, names: list[str]) -> dict[str, Any]:
        """All that a detector follows from, but for the content of the samples."""
        contrast, target, turns, schedule = self.recipe.settings(row)
        return {
            "train": names,
            "seed": seed if row.net else None,
            "row": row.model_dump(exclude={"contrast", "target", "augmentation", "train"}),
            "settings": [contrast.model_dump(), target.model_dump(), turns.model_dump()],
            "schedule": schedule.model_dump(exclude={"workers", "checkpoint_every"}),
            "radii": self.recipe.radii,
            "tolerances": sorted({self.tolerances[name] for name in names}),
            "choose_by": row.choose_by or self.recipe.choose_by,
        }

    def truth(self, name: str) -> np.ndarray:
        """Centres of a sample."""
        return self.data[name].points.coordinates

    def choose(self, row: CellRow, detector: Detector, train: list[str], lowest: float) -> Choice:
        """Settings by the training samples, whose borders are mirrored by the filters' own way."""
        return choose(
            [self._heat(detector, name) for name in train],
            [self.truth(name) for name in train],
            [self.groups[name] for name in train],
            self.recipe.radii,
            [self.tolerances[name] for name in train],
            row.choose_by or self.recipe.choose_by,
            lowest,
        )

    def _heat(self, detector: Detector, name: str) -> np.ndarray:
        """Without margins; a Laplacian of Gaussian's serves every fold that trains on it."""
        key = None
        if isinstance(detector, LaplacianOfGaussian):
            key = (name, detector.sigma_um, detector.contrast)
        if key in self.kept:
            return self.kept[key]
        heat = detector.heat(self.data[name].image.read(), self.intensities[name])
        if key is not None:
            self.kept[key] = heat
        return heat

    def _log(self, row: CellRow, train: list[str], note: str) -> tuple[Detector, Choice]:
        contrast = self.recipe.settings(row)[0].made(compress=False, blobs_um=())
        image, best = self.data[0].image, None
        for done, sigma in enumerate(row.sigmas_um, 1):
            tried = LaplacianOfGaussian(
                image.spacing,
                tuple(sigma),
                tuple(self.recipe.radii[0]),
                0.0,
                contrast,
                row.name,
                image.num_channels,
            )
            choice = self.choose(row, tried, train, 0.0)
            if best is None or choice.f1 > best[1].f1:
                tried.radius, tried.threshold = choice.radius, choice.threshold
                best = tried, choice
            self.report(f"{note}: scales", done, len(row.sigmas_um), f"F1 {choice.f1:.3f}")
        assert best is not None
        return best

    def _net(
        self, row: CellRow, seed: int, train: list[str], stage: Path, note: str
    ) -> tuple[Detector, Choice]:
        from brodmann.problems.learner import Schedule, fit

        contrast, target, turns, section = self.recipe.settings(row)
        look, aim = contrast.made(), target.made()
        cases = [
            CellCase.of(self.data[name], look, self.intensities[name], aim, section.crop)
            for name in train
        ]
        image = self.data[0].image
        options = row.net.made()
        inputs = look.channels(image.num_channels)
        net = seeded_net(key_seed(seed, "net"), lambda: build_net(options, inputs))
        fields = Schedule.__dataclass_fields__
        schedule = Schedule(**{k: v for k, v in section.model_dump().items() if k in fields})
        net, _ = fit(
            net,
            Cells(None, None, aim, section.gamma),
            CellBatches(
                cases,
                section.crop,
                section.batch,
                turns.made(),
                seed,
                centred=section.centred,
                overlays=section.overlays,
            ),
            schedule,
            seed,
            stage,
            workers=section.workers,
            on_step=lambda done, loss: self.report(note, done, section.steps, f"loss {loss:.3f}"),
        )
        axes = "zyx"[-image.ndim :]
        detector = NetDetector(
            [net],
            options,
            image.spacing,
            tuple(self.recipe.radii[0]),
            0.0,
            look,
            image.num_channels,
            tuple(axes.index(axis) for axis in row.mirror),
            row.name,
            {
                "data": self.data.name,
                "brains": ", ".join(sorted({self.data.subjects[n] for n in train})),
                "licence of the data": self.data.licence or "not stated",
                "steps": section.steps,
                "seed": seed,
            },
        )
        choice = self.choose(row, detector, train, 0.02)
        detector.radius, detector.threshold = choice.radius, choice.threshold
        return detector, choice


def measure_brains(data: Dataset) -> dict[str, Intensity]:
    """Of each sample the intensity of its brain (in its own stain), measured once for all."""
    groups: dict[tuple[str, str], list[str]] = {}
    for sample in data:
        brain = data.subjects[sample.name], str(sample.meta.get("marker", ""))
        groups.setdefault(brain, []).append(sample.name)
    found = {}
    for names in groups.values():
        measured = measure_intensity([data[name].image for name in names])
        found |= dict.fromkeys(names, measured)
    return found


def content_of(data: Dataset) -> str:
    """A hash of all voxels, masks and centres."""
    digest = blake2b(digest_size=16)
    for sample in data:
        digest.update(repr((sample.name, sample.subject, sample.image.spacing)).encode())
        digest.update(np.ascontiguousarray(sample.image.numpy()))
        digest.update(np.ascontiguousarray(sample.points.coordinates))
        if sample.labels is not None:
            digest.update(np.ascontiguousarray(sample.labels.numpy()))
    return digest.hexdigest()
