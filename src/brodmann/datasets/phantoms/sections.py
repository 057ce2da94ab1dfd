"""Phantom sections: procedural parasagittal brain sections whose truth is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from brodmann.core import (
    DataError,
    Dataset,
    LabelMap,
    RecipeError,
    Sample,
    Volume,
    keyed_rng,
)
from brodmann.datasets.phantoms.damage import (
    FRAME_GRID,
    NO_CUTS,
    NO_FOLDS,
    NO_HOLES,
    Damage,
    damage_rates,
    draw_damage,
    frame_fields,
)
from brodmann.datasets.phantoms.kernel import locate_nodes, paint_labels
from brodmann.datasets.phantoms.plan import Plan, make_plan
from brodmann.datasets.phantoms.render import overlay, render
from brodmann.datasets.phantoms.tree import MAX_SUBREGIONS, phantom_tree

UNIT_UM = 7200.0
"""Micrometres to one canonical unit: the drawn brain is 13.3 mm long."""
NODES_PER_UNIT = 650
SMALLEST, LARGEST, MOST_CHANNELS = 16, 30_000, 16
LICENCE = "CC0 (synthetic)"


def phantom_section(
    shape: tuple[int, int] = (256, 512),
    tree: LabelMap | None = None,
    *,
    subject: int = 0,
    plane: float = 0.5,
    channels: int = 2,
    seed: int = 0,
    spacing_um: float | Sequence[float] | None = None,
    damage: float | Mapping[str, float] = 1.0,
    name: str | None = None,
) -> Sample:
    """Render one parasagittal section of a made-up mouse-like brain, with exact labels.

    The anatomy is worked out in coordinates of its own, so that the same subject, plane and
    seed give the same section at any size; only grain and camera noise belong to the pixels.
    The brain fills about half of a frame of 1:2, and is centred in any other.

    Parameters
    ----------
    shape : (height, width) in pixels
    tree : LabelMap, optional
        Regions: `phantom_tree()` when not given, or any other. Primary regions with the
        acronym of a mouse brain's (`ZONES`) lie where theirs does; others share the rest.
    subject : int
        Which animal: its sizes, proportions and stain.
    plane : float
        Mediolateral position, 0 (midline) to 1. Some regions are seen in few planes.
    channels : int
        Fluorescent markers, 1 to 16.
    seed : int
        Another seed is another colony of animals.
    spacing_um : float or (y, x), optional
        Pixel spacing to state; by default a brain 13.3 mm long.
    damage : float or mapping
        Times the usual damage, or expected numbers by kind, see `damage_rates`.
    name : str, optional

    Returns
    -------
    Sample
        image: "cyx" uint16 (channels, height, width). labels: "yx" uint16 ids of `tree`.
        Fibre tracts, ventricles, tears and missing tissue are background (0) in the labels:
        nothing there can be named. Folds keep the label of what lies on top; under bubbles
        and dust the labels stay. meta: subject, plane, seed, and the number of each damage.

    Raises
    ------
    RecipeError, DataError
        If an argument is out of range; if the tree does not fit into uint16 labels.

    Notes
    -----
    Made for issue 2, item 4, after the sections of PRMix (118 subregions in 11 primary
    regions, about 6383 x 12531 pixels, two synaptic markers).

    Example
    -------
    >>> section = phantom_section((64, 128), phantom_tree(5, 2), plane=0.3, channels=1)
    >>> section.image.shape, section.labels.dtype, sorted(set(section.labels.data.ravel().tolist()))
    ((1, 64, 128), dtype('uint16'), [0, 1, 2, 3, 4, 5])
    """
    tree = phantom_tree() if tree is None else tree
    height, width = _check(shape, tree, subject, plane, channels, seed)
    rates = damage_rates(damage)
    scale = min(height, width / 2)
    spacing = _spacing(spacing_um, UNIT_UM / scale)
    section = f"{plane:.6f}"
    plan = make_plan(tree, subject, plane, seed)
    frame = frame_fields(seed, subject, section)
    harm = _damage(plan, frame, rates, seed, subject, section)
    origin = (0.5 + (0.5 - height / 2) / scale, 1.0 + (0.5 - width / 2) / scale)
    block = max(1, round(scale / NODES_PER_UNIT))
    nodes = (-(-height // block) + 1, -(-width // block) + 1)
    geometry = (plan, frame, FRAME_GRID, harm.folds, harm.cuts, harm.holes)
    classes, about = locate_nodes(origin, block / scale, nodes, geometry)
    ids = np.zeros(plan.count + 3, np.uint16)
    ids[1 : plan.count + 1] = tree.classes
    labels = paint_labels((height, width), ids, classes, block, origin, 1 / scale, geometry)
    image = render(
        (channels, height, width),
        tree,
        classes,
        about,
        block,
        origin,
        scale,
        seed,
        subject,
        section,
    )
    overlay(image, harm, origin, scale, seed, subject, section)
    animal = f"brain-{subject:03d}"
    return Sample(
        name or f"{animal}-plane-{plane:.3f}",
        Volume(image, "cyx", spacing, tuple(f"marker {c + 1}" for c in range(channels))),
        Volume(labels, "yx", spacing),
        subject=animal,
        meta={"plane": float(plane), "seed": seed, "damage": harm.counts},
    )


def phantom_sections(
    subjects: int = 12,
    sections_per_subject: int = 1,
    shape: Sequence[int] = (256, 512),
    channels: int = 2,
    *,
    subregions: int = 118,
    primary: int = 11,
    tree: LabelMap | None = None,
    markers: Sequence[int] | None = None,
    planes: Sequence[float] = (0.0, 1.0),
    test_subjects: int | None = None,
    damage: float | Mapping[str, float] = 1.0,
    spacing_um: float | Sequence[float] | None = None,
    seed: int = 0,
) -> Dataset:
    """A dataset of phantom sections, rendered when they are asked for.

    Parameters
    ----------
    subjects, sections_per_subject : int
        Animals, and sections of each in planes drawn from the range `planes`.
    shape, channels, damage, spacing_um, seed
        See `phantom_section`.
    subregions, primary : int
        The tree, see `phantom_tree`; or give a LabelMap as `tree`.
    markers : sequence of int, optional
        The channels to keep, numbered from 1; all when not given.
    planes : (lowest, highest)
    test_subjects : int, optional
        The last so many animals are the split "test", the others "train"; a fifth of them,
        at least one, when not given and there are two or more.

    Returns
    -------
    Dataset
        Splits never share an animal. Licence CC0.

    Raises
    ------
    RecipeError, DataError
        If an argument is out of range.

    Example
    -------
    >>> data = phantom_sections(3, 2, (64, 128), test_subjects=1)
    >>> data.splits["test"], data["brain-002-section-01"].image.shape
    (['brain-002-section-00', 'brain-002-section-01'], (2, 64, 128))
    """
    tree = phantom_tree(subregions, primary) if tree is None else tree
    for what, value in (("subjects", subjects), ("sections_per_subject", sections_per_subject)):
        if not _whole(value) or value < 1:
            raise RecipeError(f"{what} must be a whole number from 1", found=repr(value))
    if test_subjects is None:
        test_subjects = max(1, round(subjects / 5)) if subjects > 1 else 0
    if not _whole(test_subjects) or not 0 <= test_subjects < subjects:
        raise RecipeError(
            "test_subjects must leave at least one of the subjects for training",
            found=f"{test_subjects!r} of {subjects}",
        )
    planes = tuple(planes) if isinstance(planes, Sequence) else (planes,)
    if (
        len(planes) != 2
        or not all(isinstance(p, int | float) for p in planes)
        or not 0 <= planes[0] <= planes[1] <= 1
    ):
        raise RecipeError("planes must be two numbers, 0 <= lowest <= highest <= 1", found=planes)
    _check(shape, tree, 0, planes[0], channels, seed)
    _spacing(spacing_um, 1.0)
    damage_rates(damage)
    kept = tuple(markers) if markers is not None else tuple(range(1, channels + 1))
    if not kept or len(set(kept)) != len(kept) or not set(kept) <= set(range(1, channels + 1)):
        raise RecipeError(f"markers are different numbers from 1 to {channels}", found=markers)
    where = {}
    for animal in range(subjects):
        for k in range(sections_per_subject):
            drawn = keyed_rng(seed, "phantom plane", animal, k).uniform(*planes)
            where[f"brain-{animal:03d}-section-{k:02d}"] = (animal, float(round(drawn, 6)))
    train = [name for name, (animal, _) in where.items() if animal < subjects - test_subjects]
    splits = {"train": train}
    if test_subjects:
        splits["test"] = [name for name in where if name not in set(train)]
    return Dataset(
        "phantom-sections",
        list(where),
        partial(_load, where, tuple(shape), tree, channels, kept, seed, spacing_um, damage),
        tree,
        {name: f"brain-{animal:03d}" for name, (animal, _) in where.items()},
        splits,
        licence=LICENCE,
        citation="Brodmann, datasets/phantoms",
        description=f"{len(where)} procedural parasagittal sections of {subjects} brains, "
        f"{len(tree.classes)} regions, seed {seed}",
    )


def _load(where, shape, tree, channels, kept, seed, spacing_um, damage, name: str) -> Sample:
    animal, plane = where[name]
    section = phantom_section(
        shape, tree, subject=animal, plane=plane, channels=channels, seed=seed,
        spacing_um=spacing_um, damage=damage, name=name,
    )  # fmt: skip
    if kept == tuple(range(1, channels + 1)):
        return section
    image = section.image
    picks = [marker - 1 for marker in kept]
    names = tuple(image.channels[i] for i in picks)
    return section.with_(image=Volume(image.data[picks], image.axes, image.spacing, names))


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check(shape, tree, subject, plane, channels, seed) -> tuple[int, int]:
    if not isinstance(shape, Sequence) or len(shape) != 2 or not all(map(_whole, shape)):
        raise RecipeError("shape must be two whole numbers, (height, width)", found=repr(shape))
    if not all(SMALLEST <= size <= LARGEST for size in shape):
        raise RecipeError(
            f"a section is {SMALLEST} to {LARGEST} pixels high and wide", found=tuple(shape)
        )
    if not isinstance(tree, LabelMap):
        raise RecipeError(
            "tree must be a LabelMap", found=type(tree).__name__, fix="see phantom_tree"
        )
    if not tree.classes:
        raise DataError("the label tree has no classes", fix="give it at least one region")
    if max(tree.classes) >= 2**16:
        raise DataError(
            "phantom labels are uint16", found=f"id {max(tree.classes)}", fix="use ids below 65536"
        )
    if len(tree.classes) > MAX_SUBREGIONS:
        raise DataError(f"a phantom has at most {MAX_SUBREGIONS} regions", found=len(tree.classes))
    if not _whole(channels) or not 1 <= channels <= MOST_CHANNELS:
        raise RecipeError(f"channels must be 1 to {MOST_CHANNELS}", found=repr(channels))
    if not isinstance(plane, int | float | np.floating) or not 0 <= plane <= 1:
        raise RecipeError(
            "plane must be a number from 0 (medial) to 1 (lateral)", found=repr(plane)
        )
    for what, value in (("subject", subject), ("seed", seed)):
        if not _whole(value) or value < 0:
            raise RecipeError(f"{what} must be a whole number from 0", found=repr(value))
    return int(shape[0]), int(shape[1])


def _spacing(spacing_um, usual: float) -> tuple[float, float]:
    if spacing_um is None:
        return usual, usual
    pair = tuple(spacing_um) if isinstance(spacing_um, Sequence) else (spacing_um, spacing_um)
    if len(pair) != 2 or not all(
        isinstance(s, int | float) and np.isfinite(s) and s > 0 for s in pair
    ):
        raise RecipeError("spacing_um must be one or two positive numbers", found=repr(spacing_um))
    return float(pair[0]), float(pair[1])


def _damage(plan: Plan, frame: np.ndarray, rates, seed: int, subject: int, section: str) -> Damage:
    """Draw damage on a coarse grid that is the same for every size of image."""
    geometry = (plan, frame, FRAME_GRID, NO_FOLDS, NO_CUTS, NO_HOLES)
    whole = locate_nodes((0.0, 0.0), 1 / 100, (101, 201), geometry)[0]
    return draw_damage(rates, whole > 0, (0.0, 0.0), 1 / 100, seed, subject, section)
