"""A study of a classifier: train on some brains, judge the candidates of the others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core.files import make_folder, write_json, write_text
from brodmann.pipeline.candidates.study.proposals import Brains, Proposed, open_brains
from brodmann.pipeline.candidates.study.recipe import CandidateRecipe
from brodmann.pipeline.candidates.study.table import candidate_table, markdown
from brodmann.pipeline.counting import Report
from brodmann.pipeline.environment import facts_of_run, write_recipe
from brodmann.pipeline.stages import Stages, content_key
from brodmann.problems.candidates import CropClassifier, load_classifier, train_classifier
from brodmann.problems.cells import Detector


@dataclass
class CandidateStudy:
    """A recipe, its brains, and the folder where finished work is kept."""

    recipe: CandidateRecipe
    brains: Brains
    folder: Path
    report: Report

    def depends(self, train: list[str], fold: int, seed: int) -> dict[str, Any]:
        """All that a trained classifier is made of."""
        recipe = self.recipe.dump()
        settings = ("detector", "tolerance", "add_missed", "spacing_um", "crop", "contrast",
                    "augmentation", "slide", "features")  # fmt: skip
        return {
            "data": self.brains.content,
            "train": train,
            "fold": fold,
            "seed": seed,
            "settings": {key: recipe[key] for key in settings},
            "train_section": {
                k: v for k, v in recipe["train"].items() if k not in ("workers", "checkpoint_every")
            },
        }

    def fold(self, seed: int, fold: int) -> dict[str, Any]:
        """What the classifier of a fold says of the candidates of brains that it never saw."""
        train, test = self.brains.folds[fold]

        def work(stage: Path) -> dict[str, Any]:
            detector = self.brains.detector(train, fold)
            note = f"seed {seed}, fold {fold + 1}"
            classifier, seconds = self.train(train, detector, seed, stage, note)
            outcome = {}
            for done, subject in enumerate(test, 1):
                one = self.brains.proposed(subject, detector)
                outcome[subject] = judged(one, classifier, self.brains.spacing)
                self.report(f"{note}: judge", done, len(test), "")
            return {
                "brains": outcome,
                "threshold": classifier.threshold,
                "detector_threshold": getattr(detector, "threshold", None),
                "train_seconds": seconds,
            }

        name = f"seed{seed}-fold{fold}"
        outcome, _ = Stages(self.folder).run(name, self.depends(train, fold, seed), work)
        return outcome

    def whole(self) -> None:
        """The classifier of all brains, and the detector whose candidates it knows, for use."""
        seed = self.recipe.seeds[0]
        every = sorted({subject for _, test in self.brains.folds for subject in test})

        def work(stage: Path) -> dict[str, Any]:
            detector = self.brains.detector(every, 0)
            self.train(every, detector, seed, stage, "all brains")
            return {}

        Stages(self.folder).run("all", self.depends(every, 0, seed), work)
        load_classifier(self.folder / "all" / "classifier").save(self.folder / "classifier")
        if (self.folder / "all" / "detector").exists():
            from brodmann.problems.cells import load_detector

            load_detector(self.folder / "all" / "detector").save(self.folder / "detector")

    def train(
        self, train: list[str], detector: Detector | None, seed: int, stage: Path, note: str
    ) -> tuple[CropClassifier, float]:
        """A classifier, saved beside the detector at the threshold of its candidates."""
        from brodmann.problems.learner import Schedule

        began = time.monotonic()
        recipe, section = self.recipe, self.recipe.train
        sets = [self.brains.proposed(subject, detector) for subject in train]
        fields = Schedule.__dataclass_fields__
        classifier = train_classifier(
            [one.crops for one in sets if len(one.crops.crops)],
            self.brains.spacing,
            stage,
            contrast=recipe.contrast.made(),
            features=recipe.features,
            turns=recipe.augmentation.made(),
            slide=recipe.slide,
            schedule=Schedule(**{k: v for k, v in section.model_dump().items() if k in fields}),
            batch=section.batch,
            seed=seed,
            workers=section.workers,
            tune=[one.own for one in sets if len(one.own.crops)],
            name=recipe.name,
            facts={"recipe": recipe.title or recipe.name}
            | ({"detector": detector.name} if detector is not None else {}),
            on_step=lambda done, loss: self.report(note, done, section.steps, f"loss {loss:.3f}"),
        )
        classifier.save(stage / "classifier")
        if detector is not None and recipe.detector is not None:
            own = detector.threshold
            detector.threshold = own * recipe.detector.lower
            detector.save(stage / "detector")
            detector.threshold = own
        return classifier, round(time.monotonic() - began, 1)


def judged(one: Proposed, classifier: CropClassifier, spacing: tuple[float, ...]) -> dict[str, Any]:
    """Counts of a brain's cells: by the detector, of all candidates, and after the stage."""
    own = one.own
    found = np.zeros(0, np.float32)
    if len(own.crops):
        found = classifier.probability(own.crops, own.known(spacing))
    kept = found > classifier.threshold
    counts = {
        "detector": one.score(one.strong),
        "candidates": one.score(np.ones(len(kept), bool)),
        "classified": one.score(kept),
    }
    return {
        "counts": {name: [score.tp, score.fp, score.fn] for name, score in counts.items()},
        "right": int((kept == (own.labels == 1)).sum()),
        "probability": [round(float(p), 6) for p in found],
        "labels": own.labels.tolist(),
    }


def run_candidates(
    recipe: CandidateRecipe,
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
) -> dict[str, Any]:
    """Run a recipe of candidates, or what of it is not done yet.

    Parameters
    ----------
    recipe : CandidateRecipe
    folder : Path
        Gets `classifier/` (of all brains, and the first seed) with the `detector/` at the
        threshold of its candidates, a folder for each seed and fold, `result.json` and
        `table.md`.
    command : str
        What the table names as the command that made it.
    report : callable
        Called as (what, done, total, note).

    Returns
    -------
    dict
        What `result.json` holds.

    Raises
    ------
    BrodmannError
        On bad input; what is finished stays and the next call goes on from it.
    """
    began = time.monotonic()
    folder = make_folder(Path(folder))
    write_recipe(recipe, folder)
    study = CandidateStudy(recipe, open_brains(recipe), folder, report)
    folds = range(len(study.brains.folds))
    outcomes = {seed: [study.fold(seed, fold) for fold in folds] for seed in recipe.seeds}
    study.whole()
    result = {
        **facts_of_run(recipe, command, began),
        **candidate_table(recipe, outcomes),
        "choices": [
            {"seed": seed, "fold": fold}
            | {k: one[k] for k in ("threshold", "detector_threshold", "train_seconds")}
            for seed, found in outcomes.items()
            for fold, one in enumerate(found)
        ],
        "folds": [test for _, test in study.brains.folds],
        "data_hash": content_key(study.brains.content),
    }
    write_json(folder / "result.json", result)
    write_text(folder / "table.md", markdown(result))
    return result
