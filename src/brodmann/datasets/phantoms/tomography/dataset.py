"""Phantom tomography as a dataset of slices: region, microstructure or measures of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from brodmann.core import Dataset, RecipeError, nearest
from brodmann.datasets.cubes import (
    Box,
    Cube,
    as_parts,
    check_apart,
    cube_dataset,
    microstructure_classes,
)
from brodmann.datasets.phantoms.tomography.tissue import SETS, TISSUES, tissue_of
from brodmann.datasets.phantoms.tomography.volume import SPACING_UM, check_grid, tomography_cube

TASKS = {"roi": "category", "microstructure": "labels", "attributes": "attributes"}
GUARD = 10
"""Slices between parts of one cube: about the diameter of a cell."""
SHARES = {"validation": 0.12, "test": 0.28}
KEPT = 32
KEPT_VOXELS = 2**22
"""Up to `KEPT` cubes of at most so many voxels each are kept, in 2 bytes a voxel."""


def phantom_tomography(
    task: str = "roi",
    seed: int = 0,
    shape: Sequence[int] = (64, 128, 128),
    parts: str | Mapping[str, Sequence[Any]] | None = None,
    classes: int = 4,
    depth: int = 1,
    downsample: int = 1,
    *,
    regions: Sequence[str] = tuple(TISSUES),
    size: int | None = None,
    shift: float = 1.0,
    spacing_um: Sequence[float] = SPACING_UM,
) -> Dataset:
    """Slices of made-up cubes, rendered when they are asked for, with exact truth.

    Parameters
    ----------
    task : "roi", "microstructure" or "attributes"
        What is asked of a slice: its region, every pixel's microstructure, or its measures
        (`metrics.attributes`).
    seed : int
        Another seed is another brain.
    shape : (z, y, x) of every cube in voxels
    parts : "z", "sets" or mapping, optional
        "z" (the default): train, validation and test are slices of the cubes of set A, from
        low z to high, with `GUARD` slices between them. "sets": whole cubes, of set A to train,
        B to validate, C and D to test. A mapping
        ``{part: [{cube: ctx-A, z: [0, 30]}, ...]}`` says it all; a cube's z starts at 0.
    classes : 4 or 3
        Background, vessel, cell, axon; or vessel, cell and the rest.
    depth : int
        Slices a sample.
    downsample, size
        See `cube_dataset`.
    regions : sequence of str
        Whose cubes "z" and "sets" take.
    shift, spacing_um
        See `tomography_cube`.

    Returns
    -------
    Dataset
        Samples named "ctx-A-z0010"; splits are the parts.

    Raises
    ------
    RecipeError
        If an option is out of range, or parts come nearer than `GUARD` slices to each other.

    Notes
    -----
    "z" is like ROI-C1 of the MTNeuro paper, "sets" like ROI-C2; cubes are separate blocks, so
    that no gap between sets is needed.

    Example
    -------
    >>> data = phantom_tomography("microstructure", shape=(40, 24, 24), regions=("CTX", "VP"))
    >>> {part: len(names) for part, names in data.splits.items()}
    {'train': 24, 'validation': 4, 'test': 12}
    >>> data["vp-A-z0003"].labels.shape, data["vp-A-z0003"].category
    ((24, 24), 'VP')
    """
    if task not in TASKS:
        raise RecipeError("no such task", "task", repr(task), nearest(str(task), TASKS))
    grid, spacing = check_grid(shape, spacing_um, seed, shift)
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise RecipeError("depth is a whole number from 1", "depth", repr(depth))
    if isinstance(regions, str) or not regions or len({*regions}) < len(regions):
        raise RecipeError("regions are different acronyms", "regions", repr(regions))
    for region in regions:
        tissue_of(region)
    boxes = _boxes(parts, regions, grid[0], depth)
    check_apart(boxes, GUARD)
    options = {"seed": seed, "shape": grid, "spacing_um": spacing, "shift": float(shift)}
    cubes = {
        f"{region.lower()}-{set_}": partial(_open, region, set_, tuple(options.items()))
        for region in TISSUES
        for set_ in SETS
    }
    for part, members in boxes.items():
        for box in members:
            if box.cube in cubes and box.z[1] > grid[0]:
                raise RecipeError(
                    f"a cube has {grid[0]} slices", f"part {part!r}, {box.cube}", list(box.z)
                )
    label_map, mapping = microstructure_classes(classes)
    return cube_dataset(
        f"phantom-tomography-{task}",
        cubes,
        boxes,
        answer=TASKS[task],
        label_map=label_map,
        mapping=mapping,
        depth=depth,
        size=size,
        downsample=downsample,
        licence="CC0 (synthetic)",
        citation="Brodmann, datasets/phantoms/tomography",
        description=f"slices of procedural cubes of {' x '.join(map(str, grid))} voxels of "
        f"{' x '.join(f'{step:g}' for step in spacing)} um, seed {seed}",
    )


def _boxes(
    parts: str | Mapping[str, Sequence[Any]] | None, regions: Sequence[str], slices: int, depth: int
) -> dict[str, tuple[Box, ...]]:
    if isinstance(parts, Mapping):
        return as_parts(parts)
    if parts not in (None, "z", "sets"):
        raise RecipeError("parts are 'z', 'sets' or {part: [{cube, z}, ...]}", "parts", repr(parts))
    names = [region.lower() for region in regions]
    if parts == "sets":
        sets = {"train": "A", "validation": "B", "test": "CD"}
        return {
            part: tuple(Box(f"{name}-{s}", (0, slices)) for s in members for name in names)
            for part, members in sets.items()
        }
    stacks = (slices - 2 * GUARD) // depth
    if stacks < 3:
        raise RecipeError(
            f"{slices} slices hold no three parts of {depth} and two gaps of {GUARD}", "shape",
            slices, f"use at least {3 * depth + 2 * GUARD} slices, or parts='sets'",
        )  # fmt: skip
    counts = {part: max(1, round(share * stacks)) for part, share in SHARES.items()}
    counts = {"train": stacks - sum(counts.values())} | counts
    found, first = {}, 0
    for part, count in counts.items():
        last = first + count * depth
        found[part] = tuple(Box(f"{name}-A", (first, last)) for name in names)
        first = last + GUARD
    return found


def _open(region: str, set_: str, options: tuple[tuple[str, Any], ...]) -> Cube:
    z, y, x = dict(options)["shape"]
    make = _kept if z * y * x <= KEPT_VOXELS else _kept.__wrapped__
    return make(region, set_, options)


@lru_cache(maxsize=KEPT)
def _kept(region: str, set_: str, options: tuple[tuple[str, Any], ...]) -> Cube:
    """Cubes are shared by the datasets of one seed, so nobody may write into them."""
    cube = tomography_cube(region, set_, **dict(options))
    for volume in (cube.image, cube.microstructure):
        volume.data.setflags(write=False)
    return cube
