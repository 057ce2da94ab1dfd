"""Two-photon stacks of the vessels of mouse brains, from five experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Sample, Volume
from brodmann.datasets.em.stacks import need_file
from brodmann.datasets.held_out import held_out
from brodmann.io import read_volume


@dataclass(frozen=True)
class Stack:
    """One recording.

    Attributes
    ----------
    spacing_um : tuple of float
        z, y, x.
    source : str
        "recorded" where the release has the stack's own record of the microscope; "sibling"
        where that is missing, and the record of another stack of the same study stands in.
    """

    spacing_um: tuple[float, float, float]
    source: str = "recorded"


STACKS: Mapping[str, Stack] = {
    "burgess2014_bbbDisruption": Stack((5.0, 0.994, 0.994)),
    "burgess2014_noisySparseVessels": Stack((5.0, 0.994, 0.994)),
    "poon2015_BBB_Leakage": Stack((5.0, 0.994, 0.994), "sibling"),
    "poon2015_plaqueVessels": Stack((5.0, 2.485, 2.485)),
    "santos2015_mixedSizelowContrastVessels": Stack((5.0, 0.621, 0.621), "sibling"),
}
VESSEL = 255
CLASSES = LabelMap([Label(1, "blood vessel", "vessel", None, "D2495F")])


def vessels(
    root: str | Path,
    test: Sequence[str] = ("poon2015_BBB_Leakage", "santos2015_mixedSizelowContrastVessels"),
    train: Sequence[str] | None = None,
    ndim: int = 2,
) -> Dataset:
    """Five stacks of 10 to 25 slices of 512 x 512, as slices or whole.

    Slices of a stack never stand on both sides. All stacks are 5 um from slice to slice, by
    the records of the microscope that the release has for three of them (PhysicalSizeZ);
    pixels are 0.6 to 2.5 um. The release says that the record of the Santos stack is missing
    and like that of its study's other stack; that of poon2015_BBB_Leakage is missing without
    a word. Both are marked "sibling" in `meta`. Labels are manual or a corrected first guess,
    and differ in care: where they are wide they hold out-of-focus light.

    Parameters
    ----------
    root : str or Path
        Holds vessels/STACK_image.tif and vessels/STACK_labels.tif of the stacks named.
    test, train : sequence of str
        Stacks; all that do not test train by default.
    ndim : 2 or 3
        Slices ("yx"), or stacks ("zyx").

    Returns
    -------
    Dataset
        Names "STACK" or "STACK-z00"; `subject` is the stack; image uint8, labels uint8 (0, and
        1 where the file has 255). `meta` holds stack, slice and where the spacing is from.

    Raises
    ------
    DataError
        If a file is missing or is not what it should be.
    RecipeError
        If an option does not fit.

    Source: Teikari et al. 2016; its repository states no licence.

    Example
    -------
    >>> vessels("data", ndim=3).splits["test"][0]  # doctest: +SKIP
    'poon2015_BBB_Leakage'
    """
    if ndim not in (2, 3) or isinstance(ndim, bool):
        raise RecipeError("slices are 2D, stacks 3D", "data.ndim", ndim, "give 2 or 3")
    splits = held_out(list(STACKS), test, train)
    names: dict[str, list[str]] = {}
    folder = Path(root)
    for stack in [*splits["train"], *splits["test"]]:
        files = (f"{stack}_image.tif", f"{stack}_labels.tif")
        folder = need_file(Path(root), "vessels", *files)
        image, labels = (read_volume(folder / f, axes="zyx", spacing="unit") for f in files)
        if image.shape != labels.shape:
            raise DataError(
                "image and labels differ in shape",
                folder / files[1],
                f"image {image.shape}, labels {labels.shape}",
                "fetch both again from the same release",
            )
        slices = range(image.shape[0])
        names[stack] = [stack] if ndim == 3 else [f"{stack}-z{z:02d}" for z in slices]
    return Dataset(
        "vessels",
        [name for members in names.values() for name in members],
        _Stacks(str(folder)),
        CLASSES,
        {name: stack for stack, members in names.items() for name in members},
        {side: [n for stack in stacks for n in names[stack]] for side, stacks in splits.items()},
        "not stated (shared by its authors for research)",
        "Teikari et al. 2016, arXiv:1606.02382",
        "Vessels in two-photon stacks of mouse brains",
    )


@dataclass(frozen=True)
class _Stacks:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str

    def __call__(self, name: str) -> Sample:
        stack, _, place = name.partition("-z")
        image, labels = (
            read_volume(f"{self.folder}/{stack}_{part}.tif", axes="zyx", spacing="unit").data
            for part in ("image", "labels")
        )
        where = (int(place),) if place else ()
        values, mask = (np.asarray(array[(*where, ...)]) for array in (image, labels))
        if not set(np.unique(mask)) <= {0, VESSEL}:
            raise DataError(
                f"vessels are {VESSEL}, all else 0",
                f"{self.folder}/{stack}_labels.tif",
                np.unique(mask)[:6].tolist(),
            )
        axes, known = "zyx"[-values.ndim :], STACKS[stack]
        spacing = known.spacing_um[-values.ndim :]
        return Sample(
            name,
            Volume(values, axes, spacing),
            Volume((mask == VESSEL).astype(np.uint8), axes, spacing),
            meta={
                "stack": stack,
                **({"slice": int(place)} if place else {}),
                "spacing": known.source,
            },
        )
