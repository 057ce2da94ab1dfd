"""Phantom volumes as a dataset: some to train on, one to tune, one to test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from brodmann.core import Dataset, RecipeError, Sample, nearest
from brodmann.datasets.phantoms.em.artefacts import artefact_rates
from brodmann.datasets.phantoms.em.volume import (
    SPACING_UM,
    PhantomEM,
    check_volume,
    phantom_em_volume,
)

TRUTHS = ("neurons", "mitochondria", "synapses")
LICENCE = "CC0 (synthetic)"
KEPT_VOXELS = 2**23
"""Volumes of at most so many voxels are kept for a while, in 13 bytes a voxel."""


def phantom_em(
    shape: Sequence[int] = (64, 256, 256),
    spacing_um: Sequence[float] = SPACING_UM,
    train: int = 2,
    tune: int = 1,
    test: int = 1,
    *,
    truth: str = "neurons",
    calibre: float = 1.0,
    boundary_um: float = 0.0,
    damage: float | Mapping[str, float] = 1.0,
    seed: int = 0,
) -> Dataset:
    """Volumes of made-up neuropil, rendered when they are asked for; every one is an animal.

    Parameters
    ----------
    shape, spacing_um, calibre, boundary_um, damage, seed
        See `phantom_em_volume`.
    train, tune, test : int
        Volumes in each split.
    truth : "neurons", "mitochondria" or "synapses"
        Which ids the labels hold. The images are the same, so that two datasets that differ in
        `truth` alone are two truths of the same volumes.

    Returns
    -------
    Dataset
        Names "phantom-000", ...; image uint8 and labels uint32, "zyx"; meta holds seed, number,
        artefacts (slice -> kinds) and, by truth, "hosts" (mitochondrion -> neuron) or "partners"
        (synapse -> neurons before and after).

    Raises
    ------
    RecipeError
        If an argument is out of range.

    Example
    -------
    >>> data = phantom_em((4, 32, 32), (0.04, 0.012, 0.012), train=1)
    >>> data.splits
    {'train': ['phantom-000'], 'tune': ['phantom-001'], 'test': ['phantom-002']}
    >>> data["phantom-001"].labels.shape
    (4, 32, 32)
    """
    counts = {"train": train, "tune": tune, "test": test}
    for split, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise RecipeError(f"{split} is a number of volumes from 0", found=repr(count))
    if not sum(counts.values()):
        raise RecipeError("no volume at all", "train, tune, test", found=counts)
    if truth not in TRUTHS:
        raise RecipeError("no such truth", "truth", repr(truth), nearest(str(truth), TRUTHS))
    shape, spacing = check_volume(shape, spacing_um, 0, seed, calibre, boundary_um)
    artefact_rates(damage)
    names = [f"phantom-{i:03d}" for i in range(sum(counts.values()))]
    splits, first = {}, 0
    for split, count in counts.items():
        if count:
            splits[split] = names[first : first + count]
        first += count
    options = {"calibre": calibre, "boundary_um": boundary_um, "damage": damage, "seed": seed}
    return Dataset(
        f"phantom-em-{truth}",
        names,
        partial(_load, shape, spacing, truth, options),
        None,
        {name: name for name in names},
        splits,
        LICENCE,
        "Brodmann, datasets/phantoms/em",
        f"{len(names)} procedural volumes of neuropil, {' x '.join(map(str, shape))} voxels of "
        f"{' x '.join(f'{1000 * s:g}' for s in spacing)} nm, ids of {truth}, seed {seed}",
    )


@lru_cache(maxsize=3)
def _rendered(shape, spacing, number: int, options: tuple) -> PhantomEM:
    """The last few small volumes, since thresholds are tuned on one again and again."""
    given = dict(options)
    if isinstance(given["damage"], tuple):
        given["damage"] = dict(given["damage"])
    block = phantom_em_volume(shape, spacing, subject=number, **given)
    for volume in (block.image, block.neurons, block.mitochondria, block.synapses):
        volume.data.setflags(write=False)
    return block


def _load(shape, spacing, truth: str, options: dict[str, Any], name: str) -> Sample:
    number = int(name.rsplit("-", 1)[1])
    damage = options["damage"]
    frozen = tuple(sorted(damage.items())) if isinstance(damage, Mapping) else damage
    plain = tuple(sorted((options | {"damage": frozen}).items()))
    small = shape[0] * shape[1] * shape[2] <= KEPT_VOXELS
    block = (_rendered if small else _rendered.__wrapped__)(shape, spacing, number, plain)
    meta: dict[str, Any] = {"seed": options["seed"], "number": number}
    # Keys of JSON objects are text.
    if block.artefacts:
        meta["artefacts"] = {str(i): had for i, had in block.artefacts.items()}
    if truth == "mitochondria":
        meta["hosts"] = {str(m): n for m, n in block.hosts.items()}
    if truth == "synapses":
        meta["partners"] = {str(s): list(pair) for s, pair in block.partners.items()}
    return Sample(name, block.image, getattr(block, truth), subject=name, meta=meta)
