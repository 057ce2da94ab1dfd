"""One fold: prepare, plan, learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from brodmann.augment.base import PatchAugmentation, make_augmentation
from brodmann.core import DataError, Dataset, RecipeError, key_seed
from brodmann.pipeline.folds import Fold
from brodmann.pipeline.model import Model, build_net, seeded_net, settled
from brodmann.pipeline.recipe import Recipe
from brodmann.preprocess import Normalisation, measure
from brodmann.preprocess.resample import at_spacing
from brodmann.problems.base import PROBLEMS
from brodmann.problems.semantic.cases import Case, prepare_cases
from brodmann.problems.semantic.dealing import Dealer, Deck, Maker, Online, Phases, Turns
from brodmann.problems.semantic.patches import Batches
from brodmann.problems.semantic.plan import Plan, plan_unet


def train_fold(
    recipe: Recipe,
    fold: Fold,
    folder: Path,
    report: Callable[[int, int, str], None],
) -> tuple[Model, list[dict]]:
    """Train the net of one fold, or go on training it.

    Plan, spacing and normalisation are those of the real samples, whatever is made of them,
    so that methods that are compared share net, patch and batch.

    Parameters
    ----------
    recipe : Recipe
    fold : Fold
        Its number is part of the seed.
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
    seed = key_seed(recipe.seed, "fold", fold.number)
    augmentation = _augmentation(recipe)
    normalisation = normalisation_of(section.normalisation, fold.real)
    channels, spacing, shapes = _form(fold.real)
    label_map = fold.label_map
    plan = plan_for(recipe, label_map.num_classes, shapes, spacing)
    dealer = _dealer(recipe, fold, plan, normalisation, seed, folder, report)
    options = recipe.net.arguments
    net = seeded_net(
        key_seed(seed, "net"),
        lambda: build_net(options, plan, len(channels), label_map.num_classes),
    )
    problem = PROBLEMS[recipe.problem](label_map, plan)
    validation = None
    if len(fold.held) and section.validate_every:
        held_cases = prepare_cases(fold.held, normalisation, seed, folder / "held", spacing)
        validation = Batches(
            held_cases, plan.patch, plan.batch, make_augmentation("none"), seed,
            foreground=section.foreground, purpose="validate",
        )  # fmt: skip
    batches = Batches(
        dealer, plan.patch, plan.batch, augmentation, seed,
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
        recipe.problem, [net], settled(options), plan, normalisation, label_map, channels, facts={}
    )
    return model, curve


def _dealer(
    recipe: Recipe,
    fold: Fold,
    plan: Plan,
    normalisation: Normalisation,
    seed: int,
    folder: Path,
    report: Callable[[int, int, str], None],
) -> Dealer:
    """Which samples the steps train on, as the recipe schedules them."""
    section = recipe.augment

    def prepared(samples: Dataset, part: str) -> list[Case]:
        def preparing(done: int, total: int) -> None:
            report(0, recipe.train.steps, f"preparing {part} {done} of {total}")

        return prepare_cases(samples, normalisation, seed, folder / part, plan.spacing, preparing)

    copies: list[Case] = []
    made: Dealer | None = None
    if isinstance(fold.made, Maker):
        made = Online(fold.made, normalisation, plan.spacing, seed, "made")
    elif fold.made is not None:
        copies = prepared(fold.made, "copies")
        made = Deck(copies, seed, "made")
    if made is not None and section.schedule == "synthetic":
        return made
    cases = prepared(fold.real, "cases")
    real = Deck(cases, seed, "train")
    if made is None:
        return real
    if section.schedule == "hybrid":
        change = round(section.synthetic_share * recipe.train.steps)
        return Phases(made, real, change * plan.batch)
    return Deck([*cases, *copies], seed, "train") if copies else Turns(real, made, len(real))


def plan_for(
    recipe: Recipe, num_classes: int, shapes: list[tuple[int, ...]], spacing: tuple[float, ...]
) -> Plan:
    """The plan of a training set from its channel-first shapes, with what the recipe sets."""
    section = recipe.net
    spatial = np.array([shape[1:] for shape in shapes])
    return plan_unet(
        np.median(spatial, axis=0).astype(int),
        spacing,
        num_classes,
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


def normalisation_of(kind: str, train: Dataset) -> Normalisation:
    """What a recipe's `train.normalisation` stands for, measured on the training set if need be."""
    if kind != "dataset":
        return Normalisation(kind)
    return Normalisation("dataset", measure((train[n].image for n in train.names), train.name))


def _form(
    train: Dataset,
) -> tuple[tuple[str, ...], tuple[float, ...], list[tuple[int, ...]]]:
    """What training images share: channels, the median spacing in um, channel-first shapes at it."""
    if not len(train):
        raise DataError("no training samples", train.name, fix="check the splits in dataset.yaml")
    first, hollow = train[0].image, []
    for name in train.names:
        image = train[name].image
        # Shape and spacing without the pixels.
        hollow.append(image.like(np.broadcast_to(np.zeros((), image.dtype), image.shape)))
        if image.channels != first.channels or image.ndim != first.ndim:
            raise DataError(
                "training images differ in channels or dimensions",
                name,
                f"{image.channels}, {image.ndim}D",
                f"{train.names[0]} has {first.channels}, {first.ndim}D",
            )
    spacing = tuple(float(step) for step in np.median([i.spacing for i in hollow], axis=0))
    shapes = [(image.num_channels, *at_spacing(image, spacing).spatial_shape) for image in hollow]
    return first.channels, spacing, shapes
