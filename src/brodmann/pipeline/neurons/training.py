"""One affinity net: volumes in memory, patches drawn anywhere in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from brodmann.augment.base import PatchAugmentation, make_augmentation
from brodmann.core import IGNORE_CLASS, DataError, Dataset, RecipeError, Sample, key_seed
from brodmann.pipeline.model import Model, build_net, seeded_net
from brodmann.pipeline.neurons.recipe import NeuronRecipe
from brodmann.pipeline.training import normalisation_of
from brodmann.preprocess import Normalisation, image_channels
from brodmann.problems.neurons import Neurons
from brodmann.problems.semantic.cases import Case
from brodmann.problems.semantic.patches import Batches


def train_affinities(
    recipe: NeuronRecipe,
    train: Dataset,
    seed: int,
    folder: Path,
    report: Callable[[int, int, str], None],
) -> tuple[Model, list[dict]]:
    """Train the net of one seed, or go on training it.

    Parameters
    ----------
    recipe : NeuronRecipe
    train : Dataset
        Labelled volumes "zyx" or "czyx" of one spacing.
    seed : int
    folder : Path
        For checkpoint and curve.
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
    normalisation = normalisation_of(section.normalisation, train)
    cases = [volume_case(sample, normalisation) for sample in train]
    first = train[0].image
    plan = recipe.net.plan(first.spacing)
    problem = Neurons(None, plan, **recipe.problem_options)
    options = {"kind": recipe.net.kind, **recipe.net.options}
    if recipe.net.kind == "plain-unet":
        options.setdefault("deep_supervision", False)
    net = seeded_net(
        key_seed(seed, "net"),
        lambda: build_net(options, plan, first.num_channels, problem.outputs),
    )
    settings = dict(section.augmentation)
    augmentation = make_augmentation(settings.pop("method", "em"), settings)
    if not isinstance(augmentation, PatchAugmentation):
        raise RecipeError(
            "this augmentation needs whole samples", "train.augmentation", augmentation.name
        )
    batches = Batches(
        cases, plan.patch, plan.batch, augmentation, seed, foreground=0, spacing=plan.spacing
    )
    fields = Schedule.__dataclass_fields__
    schedule = Schedule(**{k: v for k, v in section.model_dump().items() if k in fields})
    net, curve = fit(
        net,
        problem,
        batches,
        schedule,
        seed,
        folder,
        workers=section.workers,
        on_step=lambda done, loss: report(done, section.steps, f"loss {loss:.3f}"),
    )
    model = Model(
        "neurons",
        [net],
        options,
        plan,
        normalisation,
        None,
        first.channels,
        facts={},
        problem_options=recipe.problem_options,
    )
    return model, curve


def volume_case(sample: Sample, normalisation: Normalisation) -> Case:
    """A labelled volume as its patches are cut from it, in memory.

    Raises
    ------
    DataError
        If it has no labels, or fewer than two neurons: no border could be learnt from it.
    """
    if sample.labels is None:
        raise DataError("a training volume has no labels", sample.name)
    labels = compact_ids(sample.labels.numpy())
    if labels.max(initial=0) < 2:
        raise DataError(
            "a training volume needs at least two neurons", sample.name, int(labels.max(initial=0))
        )
    return Case(
        sample.name,
        (sample.image.num_channels, *sample.image.spatial_shape),
        normalisation.of(sample.image, sample.name),
        image_channels(sample.image.channels),
        (),
        (0,),
        None,
        {"image": sample.image.read(), "labels": labels},
    )


def compact_ids(ids: np.ndarray) -> np.ndarray:
    """Ids of any size as 1..n in int32; 0 stays, and negative ones become ignore.

    >>> compact_ids(np.array([0, 7, 2**40, -1])).tolist()
    [0, 1, 2, -1]
    """
    present, inverse = np.unique(ids, return_inverse=True)
    lookup = np.zeros(len(present), np.int32)
    known = present > 0
    lookup[known] = np.arange(1, known.sum() + 1)
    if present.dtype.kind == "i":
        lookup[present < 0] = IGNORE_CLASS
    return lookup[inverse].reshape(ids.shape)
