"""One phantom volume: the picture and everything that is true of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.core import RecipeError, Volume, keyed_rng
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.em.artefacts import artefact_rates, finish, shifts
from brodmann.datasets.phantoms.em.locate import GAP_STEP_UM, locate, unwarped
from brodmann.datasets.phantoms.em.pieces import keep_apart, number_mitochondria, split_neurons
from brodmann.datasets.phantoms.em.render import (
    draw_style,
    grain_tile,
    membrane_table,
    mito_table,
    paint,
    vesicles,
)
from brodmann.datasets.phantoms.em.world import World, make_world

LARGEST = 2**31 - 1
SLAB = 8
"""Slices rendered at a time."""
SPACING_UM = (0.030, 0.008, 0.008)


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The middle lines of all neurites in a volume.

    nodes: (n, 3) float64, z, y, x in um from the volume's corner (voxel index = um / spacing
    - 0.5); radius_um: (n,); parent: (n,) node before it, -1 at a root; neuron: (n,) its id in
    the labels, 0 where the node lies outside or in no labelled piece.
    """

    nodes: np.ndarray
    radius_um: np.ndarray
    parent: np.ndarray
    neuron: np.ndarray


@dataclass(frozen=True, eq=False)
class PhantomEM:
    """A volume and its exact truth, all on one grid, axes "zyx".

    image: uint8. neurons, mitochondria, synapses: uint32 ids, 0 elsewhere. hosts: mitochondrion
    -> neuron. partners: synapse -> neuron before, neuron after. artefacts: slice -> what it has.
    """

    image: Volume
    neurons: Volume
    mitochondria: Volume
    synapses: Volume
    skeleton: Skeleton
    hosts: Mapping[int, int]
    partners: Mapping[int, tuple[int, int]]
    artefacts: Mapping[int, list[str]]


def phantom_em_volume(
    shape: Sequence[int] = (64, 256, 256),
    spacing_um: Sequence[float] = SPACING_UM,
    *,
    subject: int = 0,
    seed: int = 0,
    calibre: float = 1.0,
    boundary_um: float = 0.0,
    damage: float | Mapping[str, float] = 1.0,
) -> PhantomEM:
    """Render a block of made-up neuropil as serial-section electron microscopy shows it.

    Neurites are tubes of varied calibre, thick dendrites with spines first and thin axons last,
    grown side by side until there is no room. A point belongs to the neuron whose tube is
    nearest, so that they fill space; a smooth one-to-one bend makes them irregular. All of it
    is worked out in micrometres: the same extent, seed and subject give the same tissue at any
    spacing, which only samples it. Membranes have a thickness and are seen through the
    thickness of the section (the z spacing), so that those which lie in it blur.

    Parameters
    ----------
    shape : (z, y, x) in voxels
    spacing_um : (z, y, x)
    subject, seed : int
        Another subject is another tissue and staining; another seed, other subjects.
    calibre : float
        Multiplies all calibres: 0.3 to 3.
    boundary_um : float
        Voxels so near to another neuron are 0 in `neurons`, as where annotators leave the
        membrane out; 0 labels every voxel.
    damage : float or mapping
        Times the usual artefacts, or amounts by kind, see `artefact_rates`.

    Returns
    -------
    PhantomEM
        Each id is one 6-connected piece: a neuron that the faces of the volume cut into pieces
        has an id for each, and specks that the sampling cut off (below 0.0002 um3) are 0. A
        mitochondrion lies within one neuron's piece and touches no other (26 neighbours).
        Truth is not changed by folds, scratches or lost slices.

    Raises
    ------
    RecipeError
        If an argument is out of range.

    Notes
    -----
    Made for issue 4, item 6. About 20 bytes a voxel while it works.

    Example
    -------
    >>> block = phantom_em_volume((4, 40, 40), (0.04, 0.012, 0.012), seed=3)
    >>> block.image.dtype, block.neurons.shape, bool(block.neurons.data.any())
    (dtype('uint8'), (4, 40, 40), True)
    """
    shape, spacing = check_volume(shape, spacing_um, subject, seed, calibre, boundary_um)
    rates = artefact_rates(damage)
    extent = tuple(round(n * step, 6) for n, step in zip(shape, spacing))
    world = make_world(extent, seed, subject, float(calibre))
    shift = shifts(shape[0], rates["shift"], seed, subject)
    found = [np.zeros(shape, kind) for kind in ("u4", "u4", "u4", "u1", "u1")]
    found.append(np.full(shape, 127, np.int8))
    neurons, mitochondria, contacts, gap, tilt, depth = found
    steps = np.array(spacing)
    by_rows(
        locate, shape[0], shape, steps, shift, world.neurites, world.mitochondria, world.hosts,
        world.synapses, world.sides, world.warp, *found,
    )  # fmt: skip
    keep_apart(mitochondria)
    image, artefacts = _picture(world, found, spacing, shift, rates, seed, subject)
    del found, tilt, depth
    if boundary_um:
        neurons[gap < boundary_um / GAP_STEP_UM] = 0
    del gap
    neuron_of = split_neurons(neurons, spacing)
    mitochondria[neurons == 0] = 0
    contacts[neurons == 0] = 0
    hosts = number_mitochondria(mitochondria, neurons, spacing)
    partners = _partners(contacts, neurons, neuron_of, world.sides)
    skeleton = _skeleton(world, neurons, neuron_of, spacing, shift)
    volumes = [Volume(a, "zyx", spacing) for a in (image, neurons, mitochondria, contacts)]
    return PhantomEM(*volumes, skeleton, hosts, partners, artefacts)


def _picture(world: World, found, spacing, shift, rates, seed, subject):
    neurons, mitochondria, contacts, gap, tilt, depth = found
    style = draw_style(seed, subject)
    rng = keyed_rng(seed, "phantom em light", subject)
    light = style.cytoplasm + style.spread * rng.standard_normal(int(world.sites.count[2]) + 2)
    # Some processes are dark all over.
    light -= np.where(rng.random(len(light)) < 0.07, rng.uniform(0.08, 0.2, len(light)), 0)
    light = light.astype(np.float32)
    balls = world.vesicles.copy()
    balls[:, :3] = unwarped(balls[:, :3].astype(np.float64), world.warp)
    order = np.argsort(balls[:, 0], kind="stable")
    balls, within = balls[order], world.within[order]
    reach = 0.06 + spacing[0]
    steps, membrane, mito = np.array(spacing), membrane_table(spacing), mito_table(style)
    grain = grain_tile(seed, subject)
    image = np.empty(neurons.shape, np.uint8)
    artefacts: dict[int, list[str]] = {}
    for a in range(0, len(image), SLAB):
        b = min(a + SLAB, len(image))
        out = np.empty((b - a, *image.shape[1:]), np.float32)
        paint(
            a, b, steps, shift, neurons, mitochondria, contacts, gap, tilt, depth,
            light, world.sides, world.axes, membrane, mito, style, grain, out,
        )  # fmt: skip
        low, high = np.searchsorted(balls[:, 0], (a * spacing[0] - reach, b * spacing[0] + reach))
        vesicles(
            a, b, steps, shift, neurons, gap, mitochondria, balls[low:high], within[low:high],
            light, style, out,
        )  # fmt: skip
        for i in range(a, b):
            image[i], had = finish(out[i - a], i, spacing, style, rates, seed, subject)
            if had:
                artefacts[i] = had
    return image, artefacts


def _partners(
    contacts: np.ndarray, neurons: np.ndarray, neuron_of: np.ndarray, sides: np.ndarray
) -> dict[int, tuple[int, int]]:
    """Synapse -> the ids in `neurons` before and after it; 0 where the volume does not hold it."""
    at = np.flatnonzero(contacts)
    pairs = np.column_stack([contacts.flat[at], neurons.flat[at]])
    found: dict[int, tuple[int, int]] = {}
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    for synapse in np.unique(pairs[:, 0]):
        mine = np.flatnonzero(pairs[:, 0] == synapse)
        ids = []
        for neuron in sides[synapse]:
            of = mine[neuron_of[pairs[mine, 1]] == neuron]
            ids.append(int(pairs[of[counts[of].argmax()], 1]) if len(of) else 0)
        found[int(synapse)] = (ids[0], ids[1])
    return found


def _skeleton(world: World, neurons, neuron_of, spacing, shift) -> Skeleton:
    """The world's chains as they lie in the volume."""
    sites, n = world.sites, int(world.sites.count[0])
    keep = np.flatnonzero(sites.path[:n] >= 0)
    number = np.full(n + 1, -1)
    number[keep] = np.arange(len(keep))
    nodes = unwarped(sites.at[keep, :3].astype(np.float64), world.warp)
    row = np.floor(nodes[:, 0] / spacing[0]).astype(int)
    inside = (row >= 0) & (row < len(shift))
    nodes[:, 1:] -= shift[row.clip(0, len(shift) - 1)]
    at = np.floor(nodes / spacing).astype(int)
    inside &= ((at >= 0) & (at < neurons.shape)).all(1)
    ids = np.zeros(len(keep), np.int64)
    ids[inside] = neurons[tuple(at[inside].T)]
    ids[neuron_of[ids] != sites.owner[keep]] = 0
    return Skeleton(nodes, sites.at[keep, 3].astype(float), number[sites.parent[keep]], ids)


def check_volume(
    shape: Any, spacing_um: Any, subject: Any, seed: Any, calibre: Any, boundary_um: Any
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing of a volume, or a RecipeError that says which argument is wrong."""
    if not isinstance(shape, Sequence) or len(shape) != 3 or not all(map(_whole, shape)):
        raise RecipeError("shape must be three whole numbers, (z, y, x)", found=repr(shape))
    if min(shape) < 1 or float(np.prod(np.asarray(shape, float))) > LARGEST:
        raise RecipeError(f"a volume has 1 to {LARGEST:,} voxels", found=tuple(shape))
    steps = tuple(spacing_um) if isinstance(spacing_um, Sequence) else ()
    if len(steps) != 3 or not all(isinstance(s, int | float) and 0.001 <= s <= 0.2 for s in steps):
        raise RecipeError(
            "spacing_um must be three numbers (z, y, x) from 0.001 to 0.2", found=repr(spacing_um)
        )
    for what, value in (("subject", subject), ("seed", seed)):
        if not _whole(value) or value < 0:
            raise RecipeError(f"{what} must be a whole number from 0", found=repr(value))
    for what, value, low, high in (
        ("calibre", calibre, 0.3, 3.0),
        ("boundary_um", boundary_um, 0.0, 0.1),
    ):
        if not isinstance(value, int | float) or not low <= value <= high:
            raise RecipeError(f"{what} must be a number from {low} to {high}", found=repr(value))
    return tuple(map(int, shape)), tuple(map(float, steps))


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
