"""Cells in light-sheet microscopy of cleared mouse brains: patches with masks drawn by experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import (
    DataError,
    Dataset,
    Label,
    LabelMap,
    Points,
    RecipeError,
    Sample,
    Volume,
    nearest,
)
from brodmann.datasets.em.stacks import need_file
from brodmann.datasets.splits import grouped_folds
from brodmann.io import read_volume
from brodmann.io.points import outside, read_points

MARKERS = ("cFos", "microglia")
SPACING_UM = (6.0, 1.62, 1.62)
TABLE = "centres.csv"
CLASSES = LabelMap([Label(1, "cell", "cell", None, "F2A93B")])


def delivr(
    root: str | Path,
    marker: str = "cFos",
    split: str | None = None,
    folds: int = 3,
    seed: int = 0,
    spacing_um: Sequence[float] = SPACING_UM,
) -> Dataset:
    """Patches of 100 x 100 x 100 voxels, the mask and the centre of every cell.

    Brightness differs from brain to brain by more than cells do from what is around them, so
    that a patch of a brain that was trained on says little: every split is by brain.

    Parameters
    ----------
    root : str or Path
        Holds cells/delivr/MARKER, or the folder of a marker, or is that: BRAIN_NUMBER.tif,
        BRAIN_NUMBER_mask.tif and centres.csv (volume, z, y, x).
    marker : "cFos" or "microglia"
        12 patches of three brains, 12 of six.
    split : str, optional
        "brain-969" tests on one brain and trains on the others; "fold-0" on the first of
        `folds` groups of brains. By default the first brain tests (cFos) or the first fold.
        `split_names` lists them.
    folds : int
        Groups of brains.
    seed : int
        Deals brains out to folds.
    spacing_um : (z, y, x)
        As the publication states it; the files do not say.

    Returns
    -------
    Dataset
        Image uint16 and mask uint8 (1 cell) "zyx"; points in voxels of the patch; `subject` is
        the brain, `meta` holds the marker. A patch without cells has an empty table of points.

    Raises
    ------
    DataError
        If a file is missing or damaged, mask and image differ, or a centre is outside its patch.
    RecipeError
        If an option does not fit.

    Source: Kaltenecker et al. 2024 (DELiVR).

    Example
    -------
    >>> data = delivr("data", "microglia", "fold-1")  # doctest: +SKIP
    >>> len(data["1874_0"].points), data["1874_0"].subject  # doctest: +SKIP
    (41, '1874')
    """
    data = _patches(root, marker, spacing_um)
    sides = _splits(data, folds, seed)
    if split is None:
        split = next(iter(sides)) if marker == "cFos" else "fold-0"
    if split not in sides:
        raise RecipeError(
            "no such split by brain", "data.split", repr(split), nearest(str(split), sides)
        )
    return data.with_splits(sides[split])


def split_names(root: str | Path, marker: str = "cFos", folds: int = 3) -> list[str]:
    """Every value that `split` takes: "brain-..." for each brain, "fold-..." for each fold."""
    return list(_splits(_patches(root, marker, SPACING_UM), folds, 0))


def _splits(data: Dataset, folds: int, seed: int) -> dict[str, Mapping[str, list[str]]]:
    sides: dict[str, Mapping[str, list[str]]] = {}
    for brain in sorted(set(data.subjects.values()), key=int):
        test = [name for name in data.names if data.subjects[name] == brain]
        sides[f"brain-{brain}"] = {
            "train": [name for name in data.names if name not in test],
            "test": test,
        }
    if len(sides) < 2:
        raise DataError("one brain alone cannot be split", data.name, list(sides))
    for number, (train, test) in enumerate(grouped_folds(data, folds, seed)):
        sides[f"fold-{number}"] = {"train": train, "test": test}
    return sides


def _patches(root: str | Path, marker: str, spacing_um: Sequence[float]) -> Dataset:
    if marker not in MARKERS:
        raise RecipeError(
            "no such marker in this set", "data.marker", repr(marker), nearest(marker, MARKERS)
        )
    steps = tuple(float(step) for step in spacing_um)
    if len(steps) != 3 or not all(0 < step < float("inf") for step in steps):
        raise RecipeError("spacing is three lengths in um", "data.spacing_um", list(spacing_um))
    inside = Path(root) / marker
    folder = need_file(inside if inside.is_dir() else Path(root), f"cells/delivr/{marker}", TABLE)
    names = sorted(
        (
            file.stem
            for file in folder.glob("*.tif")
            if not file.name.startswith(".") and not file.stem.endswith("_mask")
        ),
        key=_place,
    )
    if not names:
        raise DataError("there are no patches", folder, fix="they are named BRAIN_NUMBER.tif")
    for name in names:
        need_file(folder, "", f"{name}_mask.tif")
    table = read_points(folder / TABLE).table
    if "volume" not in table or "z" not in table:
        raise DataError(
            "the centres need columns volume, z, y, x", folder / TABLE, ", ".join(table.columns)
        )
    table["volume"] = table["volume"].astype(str)
    unknown = sorted(set(table["volume"]) - set(names))
    if unknown:
        raise DataError("centres of patches that are not there", folder / TABLE, unknown[:4])
    centres = {
        name: group.drop(columns="volume").reset_index(drop=True)
        for name, group in table.groupby("volume")
    }
    nothing = table.iloc[:0].drop(columns="volume")
    return Dataset(
        f"delivr-{marker}",
        names,
        _Patches(str(folder), marker, steps, {name: centres.get(name, nothing) for name in names}),
        CLASSES,
        {name: name.partition("_")[0] for name in names},
        None,
        "MIT (repository); CC BY-NC for the same data elsewhere",
        "Kaltenecker et al. 2024, Nat Methods 21:1306 (DELiVR)",
        f"{marker} in light-sheet patches of cleared mouse brains, masks by experts",
    )


def _place(name: str) -> tuple[int, int]:
    brain, _, number = name.partition("_")
    if not (brain.isdigit() and number.isdigit()):
        raise DataError("patches are named BRAIN_NUMBER.tif", f"{name}.tif")
    return int(brain), int(number)


@dataclass(frozen=True)
class _Patches:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str
    marker: str
    spacing_um: tuple[float, ...]
    centres: Mapping[str, object]

    def __call__(self, name: str) -> Sample:
        image, mask = (
            read_volume(f"{self.folder}/{name}{part}.tif", axes="zyx", spacing="unit").numpy()
            for part in ("", "_mask")
        )
        where = f"{self.folder}/{name}_mask.tif"
        if image.shape != mask.shape:
            raise DataError(
                "image and mask differ in shape", where, f"image {image.shape}, mask {mask.shape}"
            )
        if not set(np.unique(mask)) <= {0, 1}:
            raise DataError("cells are 1, all else 0", where, np.unique(mask)[:6].tolist())
        points = Points(self.centres[name], f"{self.folder}/{TABLE}, {name}")  # type: ignore[arg-type]
        beyond = outside(points, image.shape)
        if beyond.any():
            raise DataError(
                f"a centre is outside its patch {image.shape}",
                f"{self.folder}/{TABLE}, {name}",
                points.coordinates[beyond][0].tolist(),
            )
        return Sample(
            name,
            Volume(image, "zyx", self.spacing_um),
            Volume(mask.astype(np.uint8), "zyx", self.spacing_um),
            points=points,
            meta={"marker": self.marker},
        )
