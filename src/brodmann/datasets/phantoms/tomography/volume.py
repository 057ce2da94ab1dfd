"""Phantom cubes of one region, and slabs where regions meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brodmann.core import RecipeError, Volume
from brodmann.datasets.cubes import Cube
from brodmann.datasets.phantoms.bands import by_rows
from brodmann.datasets.phantoms.tomography.borders import (
    curved_borders,
    fill_tissues,
    one_region,
)
from brodmann.datasets.phantoms.tomography.locate import locate
from brodmann.datasets.phantoms.tomography.render import develop, draw
from brodmann.datasets.phantoms.tomography.tissue import (
    SETS,
    TISSUES,
    shifted,
    tissue_of,
)
from brodmann.datasets.phantoms.tomography.world import World, make_world

SPACING_UM = (1.17, 1.17, 1.17)
COARSEST_UM = 1.2
"""Between voxels further apart than this, two cells could touch."""


@dataclass(frozen=True, eq=False)
class Slab:
    """A block in which regions meet; image, regions and microstructure on one grid, "zyx".

    image: uint8. regions: uint8 ids of `REGIONS`, none is 0. microstructure: uint8 ids of
    `MICROSTRUCTURE`, 0 is background. world: the shapes themselves, in um.
    """

    image: Volume
    regions: Volume
    microstructure: Volume
    world: World


def tomography_cube(
    region: str,
    set: str = "A",
    *,
    seed: int = 0,
    shape: Sequence[int] = (64, 128, 128),
    spacing_um: Sequence[float] = SPACING_UM,
    shift: float = 1.0,
) -> Cube:
    """Render one block of made-up tissue as X-ray microtomography of a stained brain shows it.

    Vessels are branching tubes, cells are ellipsoids that touch neither each other (26
    neighbours) nor vessels, axons are bundles and single fibres around a main direction. A
    voxel has the id of what its centre lies in; the picture blends over the voxels of an edge.

    Parameters
    ----------
    region : "CTX", "STR", "VP" or "ZI"
    set : "A", "B", "C" or "D"
        Each is another place of the region: other shapes, and slightly other tissue and
        imaging.
    seed : int
        Another seed is another brain.
    shape : (z, y, x) in voxels
    spacing_um : (z, y, x)
        At most 1.2; the shapes do not depend on it, given the extent.
    shift : float
        How far cubes differ in tissue, 0 to 2: see `shifted`.

    Returns
    -------
    Cube
        Named "ctx-A", ...; image, regions and microstructure uint8; origin 0.

    Raises
    ------
    RecipeError
        If an argument is out of range.

    Notes
    -----
    Made for issue 5. Shares of vessels, cells and axons are those of Appendix 4.2.3 of
    Quesada et al. 2022. About 60 bytes a voxel while it works.

    Example
    -------
    >>> cube = tomography_cube("STR", "B", shape=(6, 24, 24))
    >>> cube.name, cube.image.dtype, cube.microstructure.shape
    ('str-B', dtype('uint8'), (6, 24, 24))
    """
    tissue = tissue_of(region)
    if set not in SETS:
        raise RecipeError("no such set of cubes", "set", repr(set), f"use one of {SETS}")
    shape, spacing = check_grid(shape, spacing_um, seed, shift)
    name = f"{region.lower()}-{set}"
    tissues = (shifted(tissue, seed, name, shift),)
    world = make_world(_extent(shape, spacing), tissues, one_region(), seed, name)
    truth, found = locate(world, shape, spacing)
    image = develop(draw(world, found, shape, spacing, seed, name), seed, name)
    regions = np.broadcast_to(np.uint8(tissue.id), shape)
    volumes = [Volume(data, "zyx", spacing) for data in (image, regions, truth)]
    return Cube(name, region, *volumes)


def tomography_slab(
    seed: int = 0,
    shape: Sequence[int] = (32, 256, 768),
    *,
    regions: Sequence[str] = tuple(TISSUES),
    spacing_um: Sequence[float] = SPACING_UM,
    shift: float = 1.0,
) -> Slab:
    """Render a block in which regions lie side by side along x and meet at curved borders.

    Parameters
    ----------
    seed : int
    shape : (z, y, x) in voxels
    regions : sequence of str
        In this order along x.
    spacing_um, shift
        See `tomography_cube`.

    Returns
    -------
    Slab
        A voxel has the region of its centre. Bundles of axons end at their region's border;
        vessels cross it.

    Raises
    ------
    RecipeError
        If an argument is out of range.

    Example
    -------
    >>> slab = tomography_slab(3, (4, 32, 96))
    >>> sorted(np.unique(slab.regions.data).tolist()), slab.image.dtype
    ([1, 2, 4, 5], dtype('uint8'))
    """
    shape, spacing = check_grid(shape, spacing_um, seed, shift)
    if isinstance(regions, str) or not regions or len({*regions}) < len(regions):
        raise RecipeError("regions are different acronyms", "regions", repr(regions))
    tissues = tuple(shifted(tissue_of(r), seed, f"{r.lower()}-slab", shift) for r in regions)
    extent = _extent(shape, spacing)
    borders = curved_borders(extent, len(tissues), seed)
    world = make_world(extent, tissues, borders, seed, "slab")
    truth, found = locate(world, shape, spacing)
    image = develop(draw(world, found, shape, spacing, seed, "slab"), seed, "slab", None)
    where = np.empty(shape, np.uint8)
    steps = np.array(spacing)
    by_rows(fill_tissues, shape[0], 0.5 * steps, steps, borders, where)
    ids = np.array([t.id for t in tissues], np.uint8)[where]
    return Slab(*(Volume(data, "zyx", spacing) for data in (image, ids, truth)), world)


def check_grid(
    shape: Sequence[int], spacing_um: Sequence[float], seed: int, shift: float
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing as tuples.

    Raises
    ------
    RecipeError
        If one of them is out of range.
    """
    whole = isinstance(shape, Sequence) and len(shape) == 3
    if not whole or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and 4 <= n <= 4096
        for n in shape
    ):
        raise RecipeError("shape is (z, y, x), each 4 to 4096 voxels", "shape", repr(shape))
    if not isinstance(spacing_um, Sequence) or len(spacing_um) != 3:
        raise RecipeError("spacing is (z, y, x) in um", "spacing_um", repr(spacing_um))
    for step in spacing_um:
        if not isinstance(step, int | float) or not 0.2 <= step <= COARSEST_UM:
            raise RecipeError(
                f"spacing is from 0.2 to {COARSEST_UM} um", "spacing_um", repr(step),
                "average the volume for coarser voxels (downsample)",
            )  # fmt: skip
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise RecipeError("the seed is a whole number", "seed", repr(seed))
    if not isinstance(shift, int | float) or not 0 <= shift <= 2:
        raise RecipeError("shift is from 0 to 2", "shift", repr(shift))
    z, y, x = (int(n) for n in shape)
    a, b, c = (float(s) for s in spacing_um)
    return (z, y, x), (a, b, c)


def _extent(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Edges in um, rounded so that the same extent in other voxels is the same number."""
    a, b, c = (round(n * step, 6) for n, step in zip(shape, spacing))
    return a, b, c
