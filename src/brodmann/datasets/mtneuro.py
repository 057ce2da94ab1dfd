"""MTNeuro: regions, microstructure and attributes of one X-ray volume, by version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from brodmann.core import Dataset, RecipeError
from brodmann.datasets.bossdb import check_boxes, open_cubes
from brodmann.datasets.bossdb_client import HOST
from brodmann.datasets.bossdb_fetch import Report, fetch_cubes
from brodmann.datasets.bossdb_store import counts_of, read_record
from brodmann.datasets.bossdb_volume import BossVolume, read_boss_volume
from brodmann.datasets.cubes import (
    MICROSTRUCTURE,
    Box,
    as_parts,
    cube_dataset,
    microstructure_classes,
)
from brodmann.datasets.mtneuro_checks import (
    CLASSES,
    RELEASED,
    check_classes,
    check_guards,
    check_regions,
)

TASKS = {"roi": "category", "microstructure": "labels", "attributes": "attributes"}
VERSIONS = ("v1", "v2")
GUARD = 10
"""Voxels between parts in version 2; slices look alike up to 5 to 7 apart (Appendix 1.1)."""
REGIONS = ("ctx", "str", "vp", "zi")
SLICES = {
    "v1": {"train": (110, 379), "validation": (380, 409), "test": (420, 470)},
    "v2": {"train": (110, 370), "validation": (380, 410), "test": (420, 470)},
}
"""Of the cubes A, half-open. v1: Table A1, whose validation lies one slice from training."""


@lru_cache
def mtneuro_volume() -> BossVolume:
    """Channels, codes and cubes A to D of the four regions.

    Example
    -------
    >>> volume = mtneuro_volume()
    >>> len(volume.cubes), volume.cubes["ctx-A"].box
    (16, ((110, 470), (900, 1156), (4600, 4856)))
    """
    text = (resources.files("brodmann.datasets") / "mtneuro.yaml").read_text(encoding="utf-8")
    return read_boss_volume(yaml.safe_load(text))


def mtneuro(
    root: str | Path,
    task: str = "roi",
    version: str = "v2",
    parts: Mapping[str, Sequence[Any]] | None = None,
    classes: int = 4,
    depth: int = 1,
    size: int | None = None,
    downsample: int = 1,
    guard: int | None = GUARD,
) -> Dataset:
    """Slices of MTNeuro's cubes for one of its tasks, from a folder on this machine.

    Version 1 is as published, faults included: the region of a slice is read from the region
    channel, which says nothing from slice 460 on and is then taken for cortex; stacks run on
    into the next cube; the distance to the nearest cell counts the cell itself, in pixels.
    Version 2 labels a slice by the cube it was cut from, keeps stacks within cubes, measures
    true distances, and refuses parts that lie too near each other, also from cube to cube.

    What the channels mean is checked before anything else, with every voxel of the annotations
    in use: each slice in 109 to 459 must be of its cube's region by most of its codes, and the
    classes of the cubes A must have the fractions that the paper states.

    Parameters
    ----------
    root : str or Path
        Where `fetch_mtneuro` put the cubes.
    task : str
        "roi" (category), "microstructure" (labels) or "attributes".
    version : str
        "v1" or "v2".
    parts : mapping, optional
        ``{part: [{cube: ctx-A, z: [110, 379]}, ...]}``, z half-open in the volume's own
        slices. By default train, validation and test of the cubes A (`SLICES`), with four
        classes without zona incerta.
    classes : int
        Of the microstructure: 4, or 3 with axons as background.
    depth, size, downsample
        As of `cube_dataset`; 8 slices in the paper's 3D tasks.
    guard : int, optional
        Version 2 refuses parts with fewer voxels between them; None lets them overlap, as when
        a published split is looked at with the labels of version 2.

    Returns
    -------
    Dataset
        uint8 images of 256 x 256 pixels of 1.17 um, named such as "ctx-A-z0110".

    Raises
    ------
    DataError
        If a cube was not fetched or is damaged, or codes or regions are not as published.
    RecipeError
        On an unknown option, cube or version, or (v2) parts that are too near.

    Source: Quesada et al. 2022, sections 3.2 and 3.3, Tables A1 and A2, Appendices 1 and 4.2.3.

    Example
    -------
    >>> data = mtneuro("data/mtneuro", "microstructure", classes=3)  # doctest: +SKIP
    >>> {part: len(names) for part, names in data.splits.items()}  # doctest: +SKIP
    {'train': 1040, 'validation': 120, 'test': 200}
    """
    if task not in TASKS:
        raise RecipeError("no such task", "task", repr(task), "use " + " or ".join(TASKS))
    if version not in VERSIONS:
        raise RecipeError("no such version", "version", repr(version), "use v1 or v2")
    label_map, mapping = microstructure_classes(classes)
    volume = mtneuro_volume()
    boxes = published(version, task == "microstructure" and classes == 4)
    if parts is not None:
        boxes = as_parts(parts)
    names = check_boxes(volume, boxes)
    if version == "v2" and guard is not None:
        check_guards(volume, boxes, guard)
    openers = open_cubes(volume, root, names)
    check_meaning(root, names, microstructure=task != "roi")
    return cube_dataset(
        f"mtneuro-{task}-{version}",
        openers,
        boxes,
        answer=TASKS[task],
        label_map=label_map if task == "microstructure" else MICROSTRUCTURE,
        mapping=mapping if task == "microstructure" else None,
        depth=depth,
        across=version == "v1",
        truth="channel" if version == "v1" else "cube",
        codes=RELEASED,
        attributes_version=version,
        size=size,
        downsample=downsample,
        licence=volume.licence,
        citation=volume.citation,
        description=f"{volume.title}; {task}, {version}",
    )


def published(version: str, without_zi: bool = False) -> dict[str, tuple[Box, ...]]:
    """The parts of ROI-C1 and of the microstructure tasks: slices of the cubes A.

    Example
    -------
    >>> {part: sum(b.slices for b in boxes) for part, boxes in published("v1").items()}
    {'train': 1076, 'validation': 116, 'test': 200}
    """
    regions = REGIONS[:3] if without_zi else REGIONS
    return {
        part: tuple(Box(f"{region}-A", z) for region in regions)
        for part, z in SLICES[version].items()
    }


def check_meaning(root: str | Path, names: Sequence[str], microstructure: bool = True) -> None:
    """Hold the annotations of fetched cubes against the paper; each cube once in a process.

    Raises
    ------
    DataError
        See `check_regions` and `check_classes`.
    """
    volume, root = mtneuro_volume(), Path(root)
    record = read_record(root, volume)
    dense: dict[str, tuple[int, ...]] = {}
    for name in names:
        for kind in volume.kinds(name)[1:]:
            if kind == "microstructure" and not microstructure:
                continue
            kept = record["arrays"].get(f"{name}/{kind}", {})
            counts = _counts(str(root), name, kind, str(kept.get("sha256")))
            if kind == "microstructure":
                dense[volume.cubes[name].region] = counts
    if dense:
        check_classes(dense)


@lru_cache(maxsize=64)
def _counts(root: str, name: str, kind: str, sha256: str) -> tuple[int, ...]:
    """Voxels of each microstructure id; of regions, checked slice by slice, none are needed."""
    volume = mtneuro_volume()
    cube, counts = volume.cubes[name], counts_of(volume, Path(root), name, kind)
    if kind == "regions":
        check_regions(name, cube.region, cube.z[0], counts)
        return ()
    return tuple(map(int, counts.sum(axis=0)[: len(CLASSES)]))


def fetch_mtneuro(
    root: str | Path,
    report: Report | None = None,
    host: str = HOST,
    cubes: Sequence[str] | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Fetch the cubes A to D of all regions (or some) and check what their channels mean.

    16 cubes of 360 x 256 x 256 voxels; stopped work goes on where it was, and whole work is
    only checked. Needs the `intern` package: pip install "brodmann[bossdb]".

    Returns
    -------
    dict
        As of `fetch_cubes`.

    Raises
    ------
    DataError, OutputError, RecipeError
        As of `fetch_cubes`; and if the channels do not mean what the paper says.

    Example
    -------
    >>> fetch_mtneuro("data/mtneuro", cubes=["ctx-A"])["arrays"]  # doctest: +SKIP
    3
    """
    volume = mtneuro_volume()
    result = fetch_cubes(volume, root, cubes=cubes, host=host, token=token, report=report)
    check_meaning(root, result["cubes"])
    return result
