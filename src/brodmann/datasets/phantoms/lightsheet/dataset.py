"""Phantom light-sheet patches as a dataset: made-up animals to train on, to tune and to test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from brodmann.core import Dataset, Points, RecipeError, Sample, Volume, keyed_rng
from brodmann.datasets.phantoms.lightsheet.brain import BRAIN_UM, draw_wobble
from brodmann.datasets.phantoms.lightsheet.fields import ellipsoid_ids
from brodmann.datasets.phantoms.lightsheet.markers import (
    MARKERS,
    TISSUES,
    Marker,
    marker_of,
    tissue_table,
)
from brodmann.datasets.phantoms.lightsheet.volume import SPACING_UM, LightSheet

LICENCE = "CC0 (synthetic)"
KEPT = 64
KEPT_VOXELS = 2**22
SURVEY_UM = 150.0
DENSE, BORDER = 0.65, 0.1
"""Shares of patches amid many cells, and at the border of tissue; others lie anywhere in it."""


def phantom_lightsheet(
    markers: Sequence[str] | str = tuple(MARKERS),
    shape: Sequence[int] = (64, 160, 160),
    train: int = 3,
    tune: int = 1,
    test: int = 2,
    *,
    patches: int = 4,
    spacing_um: Sequence[float] = SPACING_UM,
    variation: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """Patches of made-up whole brains with the exact centres of their cells.

    Parameters
    ----------
    markers : sequence of str
        Names in `MARKERS`; each has patches of its own.
    shape : (z, y, x) of a patch in voxels
    train, tune, test : int
        Animals in each split. They differ in their regions, number and brightness of cells,
        stripes and halos.
    patches : int
        Of each marker in each animal: most amid cells, some anywhere, some at the border.
    spacing_um : (z, y, x)
    variation : float
        0 to 2: how far animals differ.
    seed : int

    Returns
    -------
    Dataset
        Samples "a00-NeuN-0"; image uint16 "zyx"; points in voxels of the patch, with region,
        hemisphere, marker and cell; subject is the animal; meta holds marker, origin (z, y, x in
        the brain's voxels) and animal. The brain itself is `animal(...)`.

    Raises
    ------
    RecipeError
        If an argument is out of range.

    Example
    -------
    >>> data = phantom_lightsheet(["NeuN", "Iba1"], (16, 48, 48), 1, 0, 1, patches=1)
    >>> data.splits
    {'train': ['a00-NeuN-0', 'a00-Iba1-0'], 'test': ['a01-NeuN-0', 'a01-Iba1-0']}
    >>> patch = data["a00-NeuN-0"]
    >>> patch.image.shape, patch.image.dtype, patch.subject, len(patch.points) > 5
    ((16, 48, 48), dtype('uint16'), 'a00', True)
    """
    names = [markers] if isinstance(markers, str) else list(markers)
    if not names or len({*names}) < len(names):
        raise RecipeError("markers are different names", "markers", repr(markers))
    for name in names:
        marker_of(name)
    counts = {"train": train, "tune": tune, "test": test}
    for what, count in (counts | {"patches": patches}).items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 1000:
            raise RecipeError(f"{what} is a number from 0 to 999", found=repr(count))
    if not sum(counts.values()) or not patches:
        raise RecipeError("no patch at all", "train, tune, test, patches", counts)
    if not isinstance(variation, int | float) or not 0 <= variation <= 2:
        raise RecipeError("variation is from 0 to 2", "variation", repr(variation))
    brain = animal(0, seed=seed, spacing_um=spacing_um, variation=variation)
    size = _patch_size(shape, brain.shape)
    members: dict[str, list[str]] = {}
    number = 0
    for split, count in counts.items():
        members[split] = [
            f"a{number + a:02d}-{name}-{p}"
            for a in range(count)
            for name in names
            for p in range(patches)
        ]
        number += count
    members = {split: found for split, found in members.items() if found}
    every = [name for found in members.values() for name in found]
    options = (seed, brain.spacing, float(variation))
    return Dataset(
        "phantom-lightsheet",
        every,
        partial(_load, size, options),
        brain.label_map,
        {name: name.split("-")[0] for name in every},
        members,
        LICENCE,
        "Brodmann, datasets/phantoms/lightsheet",
        f"{len(every)} patches of {' x '.join(map(str, size))} voxels of "
        f"{' x '.join(f'{s:g}' for s in brain.spacing)} um from {number} procedural brains, "
        f"{', '.join(names)}, seed {seed}",
    )


def animal(
    number: int,
    *,
    seed: int = 0,
    spacing_um: Sequence[float] = SPACING_UM,
    variation: float = 1.0,
) -> LightSheet:
    """One animal of `phantom_lightsheet`: a whole brain of about 7 x 13 x 11 mm.

    Example
    -------
    >>> animal(1).shape, animal(1).seed != animal(2).seed
    ((1750, 7222, 6111), True)
    """
    if len(spacing_um) != 3:
        raise RecipeError("spacing is (z, y, x) in um", "spacing_um", repr(spacing_um))
    rng = keyed_rng(seed, "light-sheet animal", number)
    density, brightness, stripes, halo = np.exp(
        variation * rng.normal(0, 1, 4) * (0.15, 0.35, 0.35, 0.35)
    )
    z, y, x = (max(1, int(edge / step)) for edge, step in zip(BRAIN_UM, spacing_um))
    return LightSheet(
        (z, y, x),
        tuple(spacing_um),
        int(rng.integers(1 << 62)),
        density=float(np.clip(density, 0.5, 1.2)),
        brightness=float(np.clip(brightness, 0.2, 4)),
        stripes=float(np.clip(stripes, 0.2, 4)),
        halo=float(np.clip(halo, 0.2, 4)),
    )


def _patch_size(shape: Sequence[int], brain: tuple[int, ...]) -> tuple[int, int, int]:
    whole = isinstance(shape, Sequence) and len(shape) == 3
    if not whole or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and 4 <= n <= limit // 2
        for n, limit in zip(shape, brain)
    ):
        raise RecipeError(
            f"shape is (z, y, x), each from 4 to half the brain's {brain}", "shape", repr(shape)
        )
    z, y, x = (int(n) for n in shape)
    return z, y, x


def place_patch(
    sheet: LightSheet, marker: Marker, size: tuple[int, int, int], rng: np.random.Generator
) -> tuple[slice, slice, slice]:
    """A window of a made-up brain: amid many cells, anywhere in tissue, or at its border."""
    tissue = _survey(sheet)
    solid = tissue > 0
    many = np.array([0.0, *(t.density(marker.name) for t in TISSUES.values())])[tissue]
    kind = rng.random()
    if kind < DENSE:
        # For a marker of one small region this is that region.
        fit = many >= many.max() / 5
    elif kind < DENSE + BORDER:
        inner = np.pad(solid, 1)
        for axis in range(3):
            inner = inner & np.roll(inner, 1, axis) & np.roll(inner, -1, axis)
        fit = solid & ~inner[1:-1, 1:-1, 1:-1]
    else:
        fit = solid
    nodes = np.argwhere(fit & solid)
    node = nodes[rng.integers(len(nodes))]
    middle = (node + 0.5 + rng.uniform(-0.3, 0.3, 3)) * SURVEY_UM / sheet.spacing
    low = [int(np.clip(round(m - s / 2), 0, n - s)) for m, s, n in zip(middle, size, sheet.shape)]
    z, y, x = (slice(a, a + s) for a, s in zip(low, size))
    return z, y, x


@lru_cache(maxsize=8)
def _survey(sheet: LightSheet) -> np.ndarray:
    """Tissue of the made-up brain every `SURVEY_UM`."""
    shape = tuple(max(1, int(edge / SURVEY_UM)) for edge in sheet.extent_um)
    ids = ellipsoid_ids((SURVEY_UM,) * 3, sheet.extent_um, draw_wobble(sheet.seed))
    known, tissue = tissue_table(sheet.label_map)
    return tissue[np.searchsorted(known, ids((0, 0, 0), shape))]


def _load(size: tuple[int, int, int], options: tuple, name: str) -> Sample:
    small = size[0] * size[1] * size[2] <= KEPT_VOXELS
    return (_rendered if small else _rendered.__wrapped__)(size, options, name)


@lru_cache(maxsize=8)
def _animal(number: int, options: tuple) -> LightSheet:
    seed, spacing, variation = options
    return animal(number, seed=seed, spacing_um=spacing, variation=variation)


@lru_cache(maxsize=KEPT)
def _rendered(size: tuple[int, int, int], options: tuple, name: str) -> Sample:
    """Small patches are kept, since a training comes back to each; nobody may write into them."""
    number, marker, _ = name.split("-")
    sheet = _animal(int(number[1:]), options)
    rng = keyed_rng(options[0], "light-sheet patch", name)
    window = place_patch(sheet, marker_of(marker), size, rng)
    data = sheet.block(marker, window)
    data.setflags(write=False)
    table = sheet.points(marker, window).table
    for axis, part in zip("zyx", window):
        table[axis] = table[axis] - part.start
    return Sample(
        name,
        Volume(data, "zyx", sheet.spacing),
        points=Points(table, name),
        subject=number,
        meta={
            "marker": marker,
            "animal": int(number[1:]),
            "origin": [part.start for part in window],
        },
    )
