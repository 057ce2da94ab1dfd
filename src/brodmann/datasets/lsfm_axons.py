"""Axons in light-sheet microscopy of a cleared brain: one place, of which three planes are known.

The set's ten crops of 64 x 64 x 64 are windows of one volume, and each two of them overlap. A
split by crop would test on what it trained on. Here the crops are put back where they were cut
(their common voxels are equal, which is checked), and the volume is divided anew, by depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Sample, Volume, nearest
from brodmann.datasets.em.stacks import need_file
from brodmann.datasets.held_out import held_out
from brodmann.io import read_volume

FILES = ("volumes.tif", "labels.tif")
SIDE = 64
CORNERS = (
    (0, 7, 46),
    (2, 0, 9),
    (10, 14, 0),
    (7, 0, 17),
    (31, 42, 4),
    (11, 20, 40),
    (4, 41, 21),
    (31, 40, 4),
    (1, 55, 15),
    (5, 7, 45),
)
"""Where each crop begins in the volume (z, y, x), found by correlating them."""
BLOCKS = {
    "z13": ((2, 28), (7, 119), (15, 79)),
    "z44": ((31, 58), (0, 119), (15, 79)),
    "z73": ((61, 94), (40, 106), (4, 68)),
}
"""Boxes about the annotated planes, as wide as crops cover; three slices between two of them."""
UNKNOWN, BACKGROUND, AXON, ARTEFACT, EDGE = 0, 1, 2, 3, 4
"""The ids of the set's files."""
IGNORE = 255
EDGES = ("ignore", "axon", "background", "class")


def lsfm_axons(
    root: str | Path,
    test: Sequence[str] = ("z73",),
    train: Sequence[str] | None = None,
    edge: str = "ignore",
    spacing_um: Sequence[float] = (1.0, 1.0, 1.0),
) -> Dataset:
    """Three blocks of one volume, a single annotated plane in the middle of each.

    All blocks are of one place of one brain, one below the other: a score measures another
    depth, not another brain. What is not annotated is ignored, in losses and in scores.

    Parameters
    ----------
    root : str or Path
        Holds cells/lsfm_axons/volumes.tif and labels.tif, or these files: (10, 64, 64, 64).
    test, train : sequence of "z13", "z44" or "z73"
        Blocks by the depth of their annotated plane; all that do not test train by default.
    edge : "ignore", "axon", "background" or "class"
        What the rim about each axon counts as, which the set's authors drew by program, one
        voxel wide, so that a loss may forgive it. Ignored by default: it is half an axon's
        area, and neither answer is wrong.
    spacing_um : (z, y, x)
        The release does not say how large voxels are; 1 stands for that, and lengths in voxels.

    Returns
    -------
    Dataset
        Names "axons-z13", ...; image uint16 "zyx", labels uint8 (0 background, 1 axon, 2 edge
        where it is a class, 255 unknown). `meta` holds the block's box and the plane's depth
        in it.

    Raises
    ------
    DataError
        If a file is missing, of another shape, its crops do not agree where they overlap, or
        its labels are not those of the set.
    RecipeError
        If an option does not fit.

    Source: Friedmann et al. 2020 (TrailMap); MIT.

    Example
    -------
    >>> lsfm_axons("data")["axons-z44"].image.spatial_shape  # doctest: +SKIP
    (27, 119, 64)
    """
    if edge not in EDGES:
        raise RecipeError(
            "an edge is ignored or counted", "data.edge", repr(edge), nearest(str(edge), EDGES)
        )
    if len(spacing_um) != 3 or not all(step > 0 for step in spacing_um):
        raise RecipeError("spacing is three lengths in um", "data.spacing_um", list(spacing_um))
    splits = held_out(list(BLOCKS), test, train)
    folder = need_file(Path(root), "cells/lsfm_axons", *FILES)
    for file in FILES:
        shape = read_volume(folder / file, axes="czyx", spacing="unit").shape
        if shape != (len(CORNERS), *(SIDE,) * 3):
            raise DataError(
                f"the set is {len(CORNERS)} crops of {SIDE} x {SIDE} x {SIDE}",
                folder / file,
                shape,
            )
    classes = [Label(1, "axon", "axon", None, "E8B04A")]
    if edge == "class":
        classes.append(Label(2, "edge of an axon", "edge", None, "8A6FBF"))
    return Dataset(
        "lsfm-axons",
        [f"axons-{block}" for members in splits.values() for block in members],
        _Blocks(str(folder), edge, tuple(float(step) for step in spacing_um)),
        LabelMap(classes, ignore=IGNORE),
        {f"axons-{block}": "brain" for block in BLOCKS},
        {side: [f"axons-{block}" for block in members] for side, members in splits.items()},
        "MIT",
        "Friedmann et al. 2020, PNAS 117:11068 (TrailMap)",
        "Axons in light-sheet microscopy of a cleared mouse brain",
    )


@dataclass(frozen=True)
class _Blocks:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str
    edge: str
    spacing_um: tuple[float, ...]

    def __call__(self, name: str) -> Sample:
        box = BLOCKS[name.removeprefix("axons-")]
        window = tuple(slice(*span) for span in box)
        image, ids = (part[window] for part in mosaic(self.folder))
        planes = np.flatnonzero((ids != UNKNOWN).any(axis=(1, 2)))
        if len(planes) != 1:
            raise DataError(
                "a block holds one annotated plane", f"{self.folder}, {name}", planes.tolist()
            )
        return Sample(
            name,
            Volume(image.copy(), "zyx", self.spacing_um),
            Volume(self._classes(ids), "zyx", self.spacing_um),
            meta={
                "window": {axis: list(span) for axis, span in zip("zyx", box)},
                "plane": int(planes[0]),
            },
        )

    def _classes(self, ids: np.ndarray) -> np.ndarray:
        rim = {"ignore": IGNORE, "axon": 1, "background": 0, "class": 2}[self.edge]
        lut = np.zeros(5, np.uint8)
        lut[[UNKNOWN, BACKGROUND, AXON, ARTEFACT, EDGE]] = IGNORE, 0, 1, 0, rim
        return lut[ids]


@lru_cache(maxsize=1)
def mosaic(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume that the crops were cut from and its labels; 0 where no crop was.

    Returns
    -------
    image, ids : ndarray
        (95, 119, 110), uint16 and uint8.

    Raises
    ------
    DataError
        If crops differ where they overlap, or hold an unknown id.
    """
    crops, labels = (
        np.asarray(read_volume(f"{folder}/{file}", axes="czyx", spacing="unit").data)
        for file in FILES
    )
    unknown = sorted(set(np.unique(labels).tolist()) - {UNKNOWN, BACKGROUND, AXON, ARTEFACT, EDGE})
    if unknown:
        raise DataError(
            "labels are 0 unknown, 1 background, 2 axon, 3 artefact, 4 edge",
            f"{folder}/{FILES[1]}",
            unknown[:6],
        )
    shape = tuple(np.max(CORNERS, axis=0) + SIDE)
    whole, ids, seen = (
        np.zeros(shape, crops.dtype),
        np.zeros(shape, np.uint8),
        np.zeros(shape, bool),
    )
    for number, corner in enumerate(CORNERS):
        window = tuple(slice(start, start + SIDE) for start in corner)
        known = seen[window]
        for file, found, own in ((FILES[0], whole, crops), (FILES[1], ids, labels)):
            if (found[window][known] != own[number][known]).any():
                raise DataError(
                    "the crops do not agree where they overlap",
                    f"{folder}/{file}, crop {number}",
                    fix="these are other crops than the ten that this reader knows",
                )
            found[window] = own[number]
        seen[window] = True
    whole.setflags(write=False)
    ids.setflags(write=False)
    return whole, ids
