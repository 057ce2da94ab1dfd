"""A neuron recipe from start to end: learn, predict, tune, segment, score, report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, RecipeError
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.datasets.registry import DATASETS
from brodmann.io import write_volume
from brodmann.io.raw import blocks
from brodmann.pipeline.counting import Report, counter
from brodmann.pipeline.environment import facts_of_call, versions
from brodmann.pipeline.model import Model, kept_model
from brodmann.pipeline.neurons.membranes import membrane_scores
from brodmann.pipeline.neurons.recipe import NeuronRecipe
from brodmann.pipeline.neurons.segmenting import (
    choose,
    mean_scores,
    read_affinities,
    scores_of,
    segmented,
    trivial_rows,
)
from brodmann.pipeline.neurons.table import neuron_table
from brodmann.pipeline.stages import Stages, content_key

PARTS = ("train", "tune", "test")
HASH_BLOCK_VOXELS = 1 << 24


@dataclass
class NeuronRun:
    """One seed of a recipe in a folder of its own; each stage is a method."""

    recipe: NeuronRecipe
    parts: dict[str, Dataset]
    content: str
    seed: int
    folder: Path
    report: Report

    def __post_init__(self) -> None:
        self.stages = Stages(self.folder)

    def train(self) -> tuple[Model, str, list[dict]]:
        """One net, kept in DIR/model."""
        recipe, folder = self.recipe, self.folder / "model"
        depends = {
            "data": self.content,
            "affinities": recipe.affinities.model_dump(),
            "net": recipe.net.model_dump(),
            "train": recipe.train.model_dump(exclude={"workers", "checkpoint_every"}),
            "seed": self.seed,
        }

        def work(stage: Path) -> dict[str, Any]:
            from brodmann.pipeline.neurons.training import train_affinities

            began = time.monotonic()
            train = self.parts["train"]
            model, curve = train_affinities(
                recipe, train, self.seed, stage,
                lambda done, total, note: self.report("train", done, total, note),
            )  # fmt: skip
            model.facts = {
                "title": recipe.title or recipe.name,
                "data": train.name,
                "training voxels": sum(int(np.prod(s.image.spatial_shape)) for s in train),
                "licence of the data": train.licence or "not stated",
                "citation": train.citation or "not stated",
                "steps": recipe.train.steps,
                "seed": self.seed,
                "brodmann": versions()["brodmann"],
            }
            model.save(folder)
            return {"curve": curve, "seconds": round(time.monotonic() - began, 1)}

        outcome, key = self.stages.run("train", depends, work)
        return kept_model(folder), key, outcome["curve"]

    def predict(self, model: Model, key: str) -> str:
        """Affinities of the tuning and the test part, each a Zarr of its own."""
        section = self.recipe.predict
        mirror = [model.spatial_axes.index(axis) for axis in section.mirror]

        def work(stage: Path) -> dict[str, Any]:
            began = time.monotonic()
            for sample in (*self.parts["tune"], *self.parts["test"]):
                model.map(
                    sample.image,
                    stage / sample.name,
                    sample.name,
                    step=section.step,
                    mirror=mirror,
                    bf16=section.bf16,
                    key=key,
                    report=lambda done, total, name=sample.name: self.report(
                        f"predict {name}", done, total, ""
                    ),
                )
            return {"seconds": round(time.monotonic() - began, 1)}

        _, key = self.stages.run("predict", {"model": key, "predict": section.model_dump()}, work)
        return key

    def segment(self, model: Model, key: str) -> dict[str, Any]:
        """Settings from the tuning part, segments and scores of the test part."""
        recipe = self.recipe
        tune, test = self.parts["tune"], self.parts["test"]
        convention = model.asked().convention

        def read(part: Dataset) -> dict[str, Any]:
            return {
                name: read_affinities(
                    self.folder / "predict" / name / "affinities.zarr", part[name], convention
                )
                for name in part.names
            }

        def work(stage: Path) -> dict[str, Any]:
            fragments = recipe.segment.fragments
            total = len(fragments.thresholds) * len(fragments.sigmas) * len(recipe.segment.methods)
            tuning = read(tune)
            choices, trials = choose(
                recipe, tuning, tune, counter(self.report, "tune post-processing", total)
            )
            write_json(stage / "trials.json", trials)
            affinities = read(test)
            rows = {}
            count = counter(self.report, "segment", len(choices) * len(test))
            for choice in choices:
                scores = []
                for sample in test:
                    labels = segmented(affinities[sample.name], choice)
                    path = make_folder(stage / choice.method) / f"{sample.name}.zarr"
                    write_volume(path, sample.image.like(labels), labels=True)
                    scores.append(scores_of(labels, sample, recipe.score))
                    count()
                rows[choice.method] = {**choice.to_dict(), "test": mean_scores(scores)}
            outcome = {"methods": rows, "trivial": trivial_rows(recipe, affinities, tune, test)}
            if not recipe.affinities.widen:
                # The truth has borders of its own, as voxels that belong to no neuron.
                outcome["membranes"] = membrane_scores(tuning | affinities, tune, test)
            return outcome

        depends = {
            "predict": key,
            "segment": recipe.segment.model_dump(),
            "score": recipe.score.model_dump(),
        }
        outcome, _ = self.stages.run("segment", depends, work)
        return outcome


def open_parts(recipe: NeuronRecipe) -> dict[str, Dataset]:
    """The recipe's volumes by part.

    Raises
    ------
    DataError
        If a part is missing or unlabelled.
    RecipeError
        If an axis that is mirrored is none.
    """
    params = dict(recipe.data)
    dataset = DATASETS[params.pop("kind")](**params)
    missing = [part for part in PARTS if not dataset.splits.get(part)]
    if missing:
        raise DataError(
            f"neurons need volumes to {', '.join(PARTS)}",
            dataset.name,
            f"none to {missing[0]}",
            "thresholds are tuned on a labelled volume that is neither trained on nor scored",
        )
    # Each is looked at many times, and some are rendered when they are asked for.
    dataset = dataset.with_load(cache(dataset.__getitem__))
    parts = {part: dataset.split(part) for part in PARTS}
    for part, samples in parts.items():
        for sample in samples:
            if sample.labels is None:
                raise DataError(f"a volume of split {part!r} has no labels", sample.name)
            if sample.image.ndim != 3:
                raise DataError("neurons need volumes", sample.name, sample.image.axes)
    if recipe.net.patch[0] == 1 and "z" in recipe.predict.mirror:
        raise RecipeError("a patch of one section has no z to mirror", "predict.mirror")
    return parts


def content_of(parts: dict[str, Dataset]) -> str:
    """A hash of all voxels and ids, read by window."""
    digest = blake2b(digest_size=16)
    for part, samples in parts.items():
        for sample in samples:
            for volume in (sample.image, sample.labels):
                digest.update(repr((part, sample.name, volume.shape, volume.spacing)).encode())
                rows = max(1, HASH_BLOCK_VOXELS // int(np.prod(volume.shape[1:])))
                for window in blocks(volume.shape, (rows, *volume.shape[1:])):
                    digest.update(np.ascontiguousarray(volume.data[window]))
    return digest.hexdigest()


def run_neurons(
    recipe: NeuronRecipe,
    folder: Path,
    *,
    command: str = "",
    report: Report = lambda what, done, total, note: None,
    pages: bool = True,
) -> dict[str, Any]:
    """Run a neuron recipe with each of its seeds, or what of it is not done yet.

    Parameters
    ----------
    recipe : NeuronRecipe
    folder : Path
        Gets `recipe.yaml`; for each seed `seedN/model`, `seedN/predict` (affinities) and
        `seedN/segment` (segments of the test part by method, all trials of the tuning); and
        `result.json`, `table.csv`, `table.md` and `report/report.html`.
    command : str
        What the report shows as the command that made it.
    report : callable
        Called as (what, done, total, note).
    pages : bool
        Write `report/`.

    Returns
    -------
    dict
        What `result.json` holds: `rows` (a method each: mean, std and every seed's numbers),
        `trivial` (rows without agglomeration, of the first seed), recipe, environment.

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
    parts = open_parts(recipe)
    content = content_of(parts)
    seeds, curves = {}, {}
    for seed in recipe.seeds:

        def tell(what: str, done: int, total: int, note: str, seed: int = seed) -> None:
            report(f"seed {seed}: {what}", done, total, note)

        run = NeuronRun(recipe, parts, content, seed, folder / f"seed{seed}", tell)
        model, key, curves[seed] = run.train()
        seeds[seed] = run.segment(model, run.predict(model, key))
    result = {
        "name": recipe.name,
        "title": recipe.title or recipe.name,
        "problem": "neurons",
        "seeds": recipe.seeds,
        **neuron_table(seeds),
        "published": recipe.published,
        "notes": recipe.notes,
        "steps": recipe.train.steps,
        "batch": recipe.net.batch,
        "patch": recipe.net.patch,
        "parameters": sum(p.numel() for p in model.nets[0].parameters()),
        "volumes": {
            part: {s.name: list(s.image.spatial_shape) for s in samples}
            for part, samples in parts.items()
        },
        "data_hash": content_key(content),
        **facts_of_call(recipe, command, began),
    }
    write_json(folder / "result.json", result)
    if pages:
        from brodmann.pipeline.neurons.view import write_neuron_report

        write_neuron_report(recipe, folder, parts, curves, result)
    return result
