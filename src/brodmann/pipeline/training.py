"""One fold: prepare, plan, learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from brodmann.augment.base import PatchAugmentation, make_augmentation
from brodmann.core import DataError, Dataset, RecipeError, key_seed
from brodmann.pipeline.model import Model, build_net, seeded_net
from brodmann.pipeline.recipe import Recipe
from brodmann.preprocess import Normalisation, measure
from brodmann.problems.base import PROBLEMS
from brodmann.problems.semantic.cases import prepare_cases
from brodmann.problems.semantic.patches import Batches
from brodmann.problems.semantic.plan import Plan, plan_unet


def train_fold(
    recipe: Recipe,
    number: int,
    train: Dataset,
    held: Dataset,
    folder: Path,
    report: Callable[[int, int, str], None],
) -> tuple[Model, list[dict]]:
    """Train the net of one fold, or go on training it.

    Parameters
    ----------
    recipe : Recipe
    number : int
        The fold's number, part of its seed.
    train, held : Dataset
        Training samples, and those held out for the learning curve (may be empty).
    folder : Path
        For prepared cases, checkpoint and curve.
    report : callable
        Called with (steps done, steps, note).

    Returns
    -------
    model : Model
        With one net.
    curve : list of dict
    """
    from brodmann.problems.learner import Schedule, fit

    section = recipe.train
    seed = key_seed(recipe.seed, "fold", number)
    augmentation = _augmentation(recipe)
    normalisation = _normalisation(section.normalisation, train)
    channels, spacing = _form(train)

    def preparing(done: int, total: int) -> None:
        report(0, section.steps, f"preparing {done} of {total}")

    cases = prepare_cases(train, normalisation, seed, folder / "cases", spacing, preparing)
    plan = plan_for(recipe, train, [case.image.shape for case in cases], spacing)
    options = {
        "kind": recipe.net.kind,
        "convs_per_stage": recipe.net.convs_per_stage,
        "dropout": recipe.net.dropout,
    }
    if recipe.net.kind == "prior-unet":
        options["trust"] = recipe.net.trust
    label_map = train.label_map
    net = seeded_net(
        key_seed(seed, "net"),
        lambda: build_net(options, plan, len(channels), label_map.num_classes),
    )
    problem = PROBLEMS[recipe.problem](label_map, plan)
    validation = None
    if len(held) and section.validate_every:
        held_cases = prepare_cases(held, normalisation, seed, folder / "held", spacing)
        validation = Batches(
            held_cases, plan.patch, plan.batch, make_augmentation("none"), seed,
            foreground=section.foreground, purpose="validate",
        )  # fmt: skip
    batches = Batches(
        cases, plan.patch, plan.batch, augmentation, seed,
        foreground=section.foreground, spacing=plan.spacing,
    )  # fmt: skip
    fields = Schedule.__dataclass_fields__
    schedule = Schedule(**{k: v for k, v in section.model_dump().items() if k in fields})
    net, curve = fit(
        net,
        problem,
        batches,
        schedule,
        seed,
        folder,
        validation=validation,
        workers=section.workers,
        on_step=lambda done, loss: report(done, section.steps, f"loss {loss:.3f}"),
    )
    model = Model(
        recipe.problem, [net], options, plan, normalisation, label_map, channels, facts={}
    )
    return model, curve


def plan_for(
    recipe: Recipe, train: Dataset, shapes: list[tuple[int, ...]], spacing: tuple[float, ...]
) -> Plan:
    """The plan of a training set from its channel-first shapes, with what the recipe sets."""
    section = recipe.net
    spatial = np.array([shape[1:] for shape in shapes])
    return plan_unet(
        np.median(spatial, axis=0).astype(int),
        spacing,
        train.label_map.num_classes,
        shapes[0][0],
        memory_gb=section.memory_gb,
        dataset_voxels=float(spatial.prod(axis=1).sum()),
        base_features=section.base_features,
        max_features=section.max_features,
        patch=section.patch,
        batch=section.batch,
    )


def _augmentation(recipe: Recipe) -> PatchAugmentation:
    options = dict(recipe.train.augmentation)
    method = make_augmentation(options.pop("method", "classical"), options)
    if not isinstance(method, PatchAugmentation):
        raise RecipeError(
            "this augmentation needs whole samples",
            "train.augmentation",
            method.name,
            "use it under augment",
        )
    return method


def _normalisation(kind: str, train: Dataset) -> Normalisation:
    if kind == "image":
        return Normalisation("image")
    return Normalisation("dataset", measure((train[n].image for n in train.names), train.name))


def _form(train: Dataset) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The channels that all training images share, and the median of their spacings in um."""
    first, spacings = train[0].image, []
    for name in train.names:
        image = train[name].image
        spacings.append(image.spacing)
        if image.channels != first.channels or image.ndim != first.ndim:
            raise DataError(
                "training images differ in channels or dimensions",
                name,
                f"{image.channels}, {image.ndim}D",
                f"{train.names[0]} has {first.channels}, {first.ndim}D",
            )
    return first.channels, tuple(float(step) for step in np.median(spacings, axis=0))
