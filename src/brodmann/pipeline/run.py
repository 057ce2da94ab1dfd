"""A recipe from start to end: data, augment, train, predict, score, report."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brodmann.core import DataError, Dataset, RecipeError, Sample
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.datasets.folder import read_folder, write_folder
from brodmann.datasets.layout import Finding, scan
from brodmann.datasets.registry import DATASETS
from brodmann.datasets.splits import with_split
from brodmann.pipeline.counting import Report, counter
from brodmann.pipeline.environment import facts_of_call, versions
from brodmann.pipeline.folds import Copying, Fold, learned_from, make_folds
from brodmann.pipeline.mapping import map_image
from brodmann.pipeline.model import Model, kept_model
from brodmann.pipeline.recipe import Recipe
from brodmann.pipeline.stages import Stages, content_key, file_hash

TOLD = 2
"""Findings of one sort that a report shows; how many more there are is said with the last."""
HEADLINES = ("mean_dice", "mean_f1", "mean_iou", "mean_precision", "mean_recall")


@dataclass
class Run:
    """One run of one recipe in one folder; each stage is a method."""

    recipe: Recipe
    folder: Path
    stages: Stages
    report: Report

    def data(self) -> tuple[Dataset, str, list[str]]:
        """The dataset, a hash of its content, and warnings about it.

        Data that a program makes or cuts out are written to DIR/data as a dataset folder, to
        be looked at and read like any other.
        """
        params = dict(self.recipe.data)
        kind = params.pop("kind")
        if kind == "folder":
            path = Path(str(params["path"]))
            if not path.is_dir():
                raise DataError("no such dataset folder", path, fix="correct data.path")
        else:

            def make(stage: Path) -> dict[str, Any]:
                dataset = DATASETS[kind](**params)
                counted = _counted(dataset, counter(self.report, "data", len(dataset)))
                write_folder(counted, stage / "dataset")
                return {"samples": len(dataset)}

            depends = {"data": self.recipe.data, "version": versions()["brodmann"]}
            self.stages.run("data", depends, make)
            path = self.folder / "data" / "dataset"
        content = dataset_hash(path)

        def look(stage: Path) -> dict[str, Any]:
            from brodmann.datasets.check import check

            findings = check(path, self.report)
            write_json(stage / "findings.json", [finding.as_dict() for finding in findings])
            errors = [finding for finding in findings if finding.severity == "error"]
            if errors:
                error = errors[0].as_error()
                error.fix = f"{error.fix or 'mend it'}; all {len(errors)} faults: brodmann data check {path}"
                raise error
            return {"warnings": told_briefly(findings, f"brodmann data check {path}")}

        outcome, _ = self.stages.run("check", {"data": content}, look)
        dataset = with_split(read_folder(path), labelled_names(path), self.recipe.seed)
        self._labelled(dataset, set(labelled_names(path)))
        return dataset, content, outcome["warnings"]

    def _labelled(self, dataset: Dataset, labelled: set[str]) -> None:
        """Refuse training and test samples without labels before anything is learned."""
        for split in (self.recipe.split.train, self.recipe.split.test):
            bare = [name for name in dataset.split(split).names if name not in labelled]
            if bare:
                raise DataError(
                    f"samples of split {split!r} without labels",
                    "dataset.yaml",
                    ", ".join(bare[:5]),
                    "add labels/NAME, or move them to a split named unlabelled",
                )

    def augment(self, folds: list[Fold], dataset: Dataset, content: str) -> tuple[list[Fold], str]:
        """The folds, with copies of their training samples where the recipe asks for them.

        DIR/augment holds those of a single fold, DIR/augment/foldN those of several.
        """
        section, split = self.recipe.augment, self.recipe.split
        if section.method == "none":
            return folds, content
        copying = Copying(section, split, self.recipe.seed)

        def work(stage: Path) -> dict[str, Any]:
            for fold in folds:
                copying.make(fold, dataset, stage, self.report)
            return {}

        depends = {
            "data": content,
            "augment": section.model_dump(include={"method", "factor", "options", "online"}),
            "seed": self.recipe.seed,
            "split": split.train,
            "folds": None if split.folds == 1 else [split.folds, [fold.number for fold in folds]],
        }
        _, key = self.stages.run("augment", depends, work)
        return [copying.added(fold, self.folder / "augment") for fold in folds], key

    def priors(self, dataset: Dataset, content: str) -> tuple[Dataset, str]:
        """The dataset, its samples with prior channels where the recipe asks for them."""
        section = self.recipe.prior
        if section.method == "none":
            return dataset, content
        if self.recipe.augment.method != "none":
            raise RecipeError(
                "augment and prior cannot both make the training samples", "prior.method"
            )
        from brodmann.pipeline.priors import write_priors

        def work(stage: Path) -> dict[str, Any]:
            write_priors(
                dataset,
                section,
                self.recipe.split,
                self.recipe.seed,
                stage / "dataset",
                lambda done, total: self.report("prior", done, total, "registration"),
            )
            return {}

        depends = {"data": content, "prior": section.model_dump(), "seed": self.recipe.seed}
        _, key = self.stages.run(
            "prior", {**depends, "split": self.recipe.split.model_dump()}, work
        )
        return read_folder(self.folder / "prior" / "dataset"), key

    def train(self, folds: list[Fold], content: str) -> tuple[Model, str, list[dict]]:
        """One net for each fold, gathered in DIR/model."""
        recipe = self.recipe
        depends = {
            "data": content,
            "problem": recipe.problem,
            "split": recipe.split.model_dump(),
            "augment": recipe.augment.model_dump(),
            "net": recipe.net.model_dump(),
            "train": recipe.train.model_dump(exclude={"workers", "checkpoint_every"}),
            "seed": recipe.seed,
        }
        folder = self.folder / "model"

        def work(stage: Path) -> dict[str, Any]:
            from brodmann.pipeline.training import train_fold

            began, nets, curves, model = time.monotonic(), [], [], None
            for fold in folds:
                name = "train" if len(folds) == 1 else f"train fold {fold.number}"
                model, curve = train_fold(
                    recipe, fold, stage / f"fold{fold.number}",
                    lambda done, total, note, name=name: self.report(name, done, total, note),
                )  # fmt: skip
                nets.extend(model.nets)
                curves.append(curve)
            model.nets = nets
            real = folds[0].real
            model.facts = {
                "title": recipe.title or recipe.name,
                "data": real.name,
                "training images": len({name for fold in folds for name in fold.real.names}),
                "augmentation": recipe.augment.told,
                "licence of the data": real.licence or "not stated",
                "citation": real.citation or "not stated",
                "steps": recipe.train.steps,
                "seed": recipe.seed,
                "brodmann": versions()["brodmann"],
            }
            model.save(folder)
            return {"curves": curves, "seconds": round(time.monotonic() - began, 1)}

        outcome, key = self.stages.run("train", depends, work)
        return kept_model(folder), key, outcome["curves"]

    def predict(self, model: Model, test: Dataset, key: str) -> str:
        """Map every test sample into DIR/predict."""
        section = self.recipe.predict

        def work(stage: Path) -> dict[str, Any]:
            began = time.monotonic()
            members = {"": model}
            if section.per_fold and len(model.nets) > 1:
                for fold, net in enumerate(model.nets):
                    members[f"fold{fold}"] = model.only(net)
            for label, member in members.items():
                out = make_folder(stage / label) if label else stage
                count = counter(self.report, f"predict {label}".strip(), len(test))
                for name in test.names:
                    map_image(
                        member,
                        test[name].image,
                        out / f"{name}.tif",
                        confidence_path=out / f"{name}.confidence.tif"
                        if section.confidence and not label
                        else None,
                        where=name,
                        step=section.step,
                        mirror=[model.spatial_axes.index(axis) for axis in section.mirror],
                        tissue=section.tissue,
                    )
                    count()
            return {"images": len(test), "seconds": round(time.monotonic() - began, 1)}

        depends = {"model": key, "predict": section.model_dump(), "split": self.recipe.split.test}
        _, key = self.stages.run("predict", depends, work)
        return key

    def score(self, model: Model, train: Dataset, test: Dataset, key: str) -> dict[str, Any]:
        """Count what is right, and what a copied label map would have got."""
        from brodmann.pipeline.scoring import score_run

        def work(stage: Path) -> dict[str, Any]:
            scores = score_run(
                self.recipe, model, train, test, self.folder / "predict", self.report
            )
            write_json(stage / "scores.json", scores)
            return scores

        depends = {"predict": key, "score": self.recipe.score.model_dump()}
        outcome, _ = self.stages.run("score", depends, work)
        return outcome


def labelled_names(path: Path) -> list[str]:
    """Samples of a dataset folder that have a label image; nothing is opened."""
    return [name for name, files in scan(path).samples.items() if files.labels is not None]


def dataset_hash(path: Path) -> str:
    """Hash of the files that make up a dataset folder, wherever links lead; others do not count."""
    layout = scan(path)
    parts = [path / "dataset.yaml", path / "labels.csv"]
    for files in layout.samples.values():
        parts += files.all()
    return content_key([(str(p.relative_to(path)), file_hash(p)) for p in parts if p.exists()])


def told_briefly(findings: Iterable[Finding], ask: str) -> list[str]:
    """A line for each finding; of those of one sort the first two, and how many more there are.

    >>> told_briefly([Finding("warning", f"{n}.tif", "odd") for n in "abcd"], "look")
    ['odd (a.tif)', 'odd (b.tif)', 'and 2 more like it: look']
    """
    sorts: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        sorts[finding.what].append(finding)
    lines = []
    for alike in sorts.values():
        lines += [str(finding.as_error()) for finding in alike[:TOLD]]
        if len(alike) > TOLD:
            lines.append(f"and {len(alike) - TOLD} more like it: {ask}")
    return lines


def _counted(dataset: Dataset, advance: Callable[[], None]) -> Dataset:
    """The same dataset, telling of each sample that is read."""

    def load(name: str) -> Sample:
        sample = dataset[name]
        advance()
        return sample

    return dataset.with_load(load)


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
    pages: bool = True,
) -> dict[str, Any]:
    """Run a recipe, or what of it is not done yet.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        The run folder. Holds `recipe.yaml`, the model folder `model`, label images in
        `predict`, `result.json` and `report/report.html` when done.
    command : str
        What the report shows as the command that made it.
    report : callable
        Called as (what, done, total, note).
    pages : bool
        Write `report/`; False for one run out of many.

    Returns
    -------
    dict
        What `result.json` holds: recipe and its hash of data, mean_dice and its kin from the
        pooled contingency table, per class and per image; baselines; environment. Of the
        training: `steps`, `batch`, `patch`, `schedule` ("real" where nothing is made),
        `training_images` (labelled, as they are), `made_images` and `skipped_copies` (of all
        folds; None online), `training_samples` (all on disk that batches are dealt from).

    Raises
    ------
    BrodmannError
        On bad input; everything finished stays and the next call goes on from it.
    """
    import yaml

    began = time.monotonic()
    folder = make_folder(folder)
    write_text(
        folder / "recipe.yaml", yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True)
    )
    run = Run(recipe, folder, Stages(folder), report)
    dataset, content, warnings = run.data()
    labelled = dataset.split(recipe.split.train)
    dataset, input_key = run.priors(dataset, content)
    test = dataset.split(recipe.split.test)
    if not len(test):
        raise DataError(
            "no test samples", dataset.name, fix="name some under splits in dataset.yaml"
        )
    axes = test[0].image.spatial_axes
    if not set(recipe.predict.mirror) <= set(axes):
        raise RecipeError(
            "no such axis to mirror", "predict.mirror", recipe.predict.mirror, f"axes are {axes}"
        )
    folds, train_key = run.augment(
        make_folds(dataset, recipe.split, recipe.seed), dataset, input_key
    )
    model, model_key, curves = run.train(folds, train_key)
    predict_key = run.predict(model, test, model_key)
    # Copies may have brought an ignore id; the truth is read by the dataset's own labels.
    model = replace(model, label_map=dataset.label_map)
    scores = run.score(model, labelled, test, predict_key)
    result = {
        "name": recipe.name,
        "title": recipe.title or recipe.name,
        "seed": recipe.seed,
        **{key: scores["pooled"][key] for key in HEADLINES},
        "baselines": scores["baselines"],
        "folds": scores["folds"],
        "per_class": scores["pooled"]["per_class"],
        "per_image": scores["per_image"],
        "primary": scores["primary"],
        "surface": scores["surface"],
        "notes": [*recipe.notes, *warnings],
        "steps": recipe.train.steps,
        "batch": model.plan.batch,
        "patch": list(model.plan.patch),
        "plan": model.plan.to_dict(),
        "training_images": len(labelled),
        **learned_from(recipe.augment, folds),
        "test_images": len(test),
        "data_hash": content,
        **facts_of_call(recipe, command, began),
    }
    write_json(folder / "result.json", result)
    if pages:
        from brodmann.pipeline.view import write_run_report

        write_run_report(recipe, folder, model, test, scores, curves, result)
    return result
