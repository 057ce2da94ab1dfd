"""Four small planes of the tomography volume: axons, vessels and cells at a region's border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Label, LabelMap, Sample, Volume
from brodmann.datasets.em.stacks import need_file
from brodmann.datasets.held_out import held_out
from brodmann.io import read_volume

SPACING_UM = (1.17, 1.17)
PLANES = 4
FILES = ("vp_images.tif", "vp_microstructure.tif")
CLASSES = LabelMap(
    [
        Label(1, "axon", "axon", None, "E8B04A"),
        Label(2, "blood vessel", "vessel", None, "D2495F"),
        Label(3, "cell body", "cell", None, "4C8BD0"),
    ]
)
"""The ids of these files. The release's code has others (1 vessel, 2 cell, 3 axon)."""


def vp_microstructure(
    root: str | Path, test: Sequence[int] = (3,), train: Sequence[int] | None = None
) -> Dataset:
    """Planes of 75 x 128 pixels with three classes and background, for semantic segmentation.

    They lie at the border of the ventral posterior nucleus with the reticular one; the release
    calls the images VP and their labels TRN. The planes do not continue one another (their
    correlation is below 0.2), but all are of one mouse: a score measures another place, not
    another animal. Vessels and cells are 2 % of the pixels each and alike dark; a plane has
    few of them, so that scores vary much with the plane that tests.

    Parameters
    ----------
    root : str or Path
        Holds xray/vp_images.tif and xray/vp_microstructure.tif, or these files.
    test, train : sequence of int
        Planes, 0 to 3; all that do not test train by default.

    Returns
    -------
    Dataset
        Names "vp-0" to "vp-3"; image uint8 "yx", labels uint8 (0 background, 1 axon, 2 vessel,
        3 cell); 1.17 um. `meta` holds the plane's number.

    Raises
    ------
    DataError
        If a file is missing or is not what it should be.
    RecipeError
        If the planes named are not there or stand on both sides.

    Source: Prasad et al. 2020; MTNeuro, section 3; CC BY 4.0.

    Example
    -------
    >>> vp_microstructure("data", test=[2]).splits  # doctest: +SKIP
    {'train': ['vp-0', 'vp-1', 'vp-3'], 'test': ['vp-2']}
    """
    splits = held_out(range(PLANES), test, train)
    folder = need_file(Path(root), "xray", *FILES)
    shapes = [read_volume(folder / name, axes="zyx", spacing="unit").shape for name in FILES]
    if shapes[0] != shapes[1] or shapes[0][0] != PLANES:
        raise DataError(f"images and labels are {PLANES} planes of one size", folder, shapes)
    return Dataset(
        "vp-microstructure",
        [_name(k) for members in splits.values() for k in members],
        _Planes(str(folder)),
        CLASSES,
        {_name(k): "mouse" for k in range(PLANES)},
        {split: [_name(k) for k in members] for split, members in splits.items()},
        "CC BY 4.0",
        "Prasad et al. 2020, Scientific Data 7:358; Quesada et al. 2022 (MTNeuro)",
        "Axons, vessels and cells in X-ray tomography of a mouse's thalamus",
    )


def _name(k: int) -> str:
    return f"vp-{k}"


@dataclass(frozen=True)
class _Planes:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str

    def __call__(self, name: str) -> Sample:
        k = int(name.removeprefix("vp-"))
        image, labels = (
            np.asarray(read_volume(f"{self.folder}/{file}", axes="zyx", spacing="unit").data[k])
            for file in FILES
        )
        # Named here, where the plane is known.
        CLASSES.to_classes(labels, f"{self.folder}/{FILES[1]}, plane {k}")
        return Sample(
            name,
            Volume(image, "yx", SPACING_UM),
            Volume(labels.astype(np.uint8), "yx", SPACING_UM),
            meta={"plane": k},
        )
