"""Labelled neurons in sections of macaque brain, in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brodmann.core import DataError, Dataset, Points, RecipeError, Sample, Volume, nearest
from brodmann.datasets.em.stacks import need_file
from brodmann.io import read_volume
from brodmann.io.points import outside, read_points
from brodmann.io.raw import RGB

TABLE = "centres.csv"
GAP = 32
"""Numbers between one picture and the next; where more are missing a new group begins."""


def macaque_cells(
    root: str | Path, split: str = "group-0", spacing_um: Sequence[float] = (1.0, 1.0)
) -> Dataset:
    """Pictures of 256 x 256 pixels, and the centre of every labelled neuron.

    Neurons are red or green, after the tracer that they took up; yellow specks are none. The set
    does not say which pictures are of one animal. They are numbered in the order of recording,
    in five groups with gaps between; neighbours look alike, groups less so. A split is by group,
    which is the nearest to one by animal that can be told.

    Parameters
    ----------
    root : str or Path
        Holds cells/macaque_2d/*.png and centres.csv (image, x, y, channel), or these files.
    split : "group-0" to "group-4"
        The group that tests; the others train.
    spacing_um : (y, x)
        The set does not say how large pixels are; 1 stands for that, and lengths in pixels.

    Returns
    -------
    Dataset
        Names "0001", ...; image uint8 "cyx" (red, green, blue), points with the column `marker`
        ("red" or "green"); `subject` is the group.

    Raises
    ------
    DataError
        If a file is missing or damaged, or a centre is outside its picture.
    RecipeError
        If an option does not fit.

    Example
    -------
    >>> data = macaque_cells("data", "group-2")  # doctest: +SKIP
    >>> len(data.splits["train"]), len(data.splits["test"])  # doctest: +SKIP
    (28, 7)
    """
    steps = tuple(float(step) for step in spacing_um)
    if len(steps) != 2 or not all(0 < step < float("inf") for step in steps):
        raise RecipeError("spacing is two lengths in um", "data.spacing_um", list(spacing_um))
    folder = need_file(Path(root), "cells/macaque_2d", TABLE)
    names = sorted(file.stem for file in folder.glob("*.png") if not file.name.startswith("."))
    if not names or not all(name.isdigit() for name in names):
        odd = [name for name in names if not name.isdigit()]
        raise DataError("pictures are numbered, as 0001.png", folder, odd[:4] or "no pictures")
    table = read_points(folder / TABLE).table
    missing = {"image", "channel"} - set(table.columns)
    if missing:
        raise DataError(f"the centres need columns {sorted(missing)}", folder / TABLE)
    table["image"] = table["image"].astype(str).str.removesuffix(".png").str.zfill(len(names[0]))
    unknown = sorted(set(table["image"]) - set(names))
    if unknown:
        raise DataError("centres of pictures that are not there", folder / TABLE, unknown[:4])
    table = table.rename(columns={"channel": "marker"})
    nothing = table.iloc[:0].drop(columns="image")
    centres = {name: group.drop(columns="image") for name, group in table.groupby("image")}
    groups = _groups(names)
    known = sorted(set(groups.values()))
    if split not in known:
        raise RecipeError("no such group", "data.split", repr(split), nearest(str(split), known))
    return Dataset(
        "macaque-cells",
        names,
        _Pictures(str(folder), steps, {name: centres.get(name, nothing) for name in names}),
        None,
        groups,
        {
            "train": [name for name in names if groups[name] != split],
            "test": [name for name in names if groups[name] == split],
        },
        "not stated",
        "",
        "Neurons labelled by tracers in sections of macaque brain",
    )


def _groups(names: Sequence[str]) -> dict[str, str]:
    """Runs of pictures whose numbers follow each other.

    >>> _groups(["0001", "0033", "0321"])
    {'0001': 'group-0', '0033': 'group-0', '0321': 'group-1'}
    """
    groups, number = {}, 0
    for before, name in zip([names[0], *names], names):
        number += int(name) - int(before) > GAP
        groups[name] = f"group-{number}"
    return groups


@dataclass(frozen=True)
class _Pictures:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str
    spacing_um: tuple[float, ...]
    centres: Mapping[str, object]

    def __call__(self, name: str) -> Sample:
        file = f"{self.folder}/{name}.png"
        image = read_volume(file, spacing="unit")
        if image.channels != RGB:
            raise DataError("pictures are in colour", file, f"channels {image.channels}")
        points = Points(self.centres[name], f"{self.folder}/{TABLE}, {name}")  # type: ignore[arg-type]
        shape = image.spatial_shape
        beyond = outside(points, shape)
        if beyond.any():
            raise DataError(
                f"a centre is outside its picture {shape}",
                f"{self.folder}/{TABLE}, {name}",
                points.coordinates[beyond][0].tolist(),
            )
        return Sample(
            name,
            Volume(image.numpy(), "cyx", self.spacing_um, RGB),
            points=points,
            meta={"marker": "tracer"},
        )
