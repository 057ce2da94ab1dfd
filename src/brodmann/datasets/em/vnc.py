"""A fly larva's nerve cord in serial sections: membranes and mitochondria, to be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Label, LabelMap, RecipeError, Sample, Volume
from brodmann.datasets.em.stacks import need_file
from brodmann.io import read_volume

SPACING_UM = (0.0046, 0.0046)
SECTIONS = 14
TRAIN, TEST = range(0, 9), range(10, 14)
"""Section 9, between them, is in no split."""
FILES = ("image.tif", "membranes.tif", "mitochondria.tif")
CLASSES = LabelMap(
    [
        Label(1, "membrane", "membrane", None, "E0507A"),
        Label(2, "mitochondrion", "mitochondrion", None, "4FB0A5"),
    ]
)


def vnc(root: str | Path, context: int = 0) -> Dataset:
    """Sections of 1024 x 1024 with two classes, for semantic segmentation.

    Membrane is 1, mitochondrion 2, all else background. The set's file of membranes is 255 on
    them. Where both are marked (0.01 % of the membrane's pixels) it is membrane, as in the
    set's own map of nine classes. Sections 0 to 8 train, 10 to 13 test; they are of one animal,
    so that a score measures other sections, not a new animal.

    Parameters
    ----------
    root : str or Path
        Holds em/vnc/{image,membranes,mitochondria}.tif, or these files.
    context : int
        So many sections on each side are further channels, first to last; at the ends the last
        section stands in. Images of neighbours may lie in another split or in none, their
        labels are never seen.

    Returns
    -------
    Dataset
        Names "vnc-00", ...; image uint8 "yx", or "cyx" with context; labels uint8;
        0.0046 um. `meta` holds the section's number.

    Raises
    ------
    DataError
        If a file is missing or is not what it should be.
    RecipeError
        If context is not a number of sections from 0 to 13.

    Source: Gerhard et al. 2013; CC BY-NC-SA 3.0.

    Example
    -------
    >>> vnc("data", context=1)["vnc-00"].image.channels  # doctest: +SKIP
    ('section -1', 'section', 'section +1')
    """
    whole = isinstance(context, int) and not isinstance(context, bool)
    if not whole or not 0 <= context < SECTIONS:
        raise RecipeError(
            f"context is a number of sections, 0 to {SECTIONS - 1}", "context", context
        )
    folder = need_file(Path(root), "em/vnc", *FILES)
    shapes = [read_volume(folder / name, axes="zyx", spacing="unit").shape for name in FILES]
    if len(set(shapes)) > 1 or shapes[0][0] != SECTIONS:
        raise DataError(
            f"image, membranes and mitochondria are {SECTIONS} sections of one size", folder, shapes
        )
    splits = {"train": TRAIN, "test": TEST}
    return Dataset(
        "vnc",
        [_name(k) for members in splits.values() for k in members],
        _Sections(str(folder), context),
        CLASSES,
        {_name(k): "larva" for k in range(SECTIONS)},
        {split: [_name(k) for k in members] for split, members in splits.items()},
        "CC BY-NC-SA 3.0",
        "Gerhard et al. 2013, figshare, doi:10.6084/m9.figshare.856713",
        "Sections of a fly larva's ventral nerve cord, membranes and mitochondria",
    )


def _name(k: int) -> str:
    return f"vnc-{k:02d}"


@dataclass(frozen=True)
class _Sections:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    folder: str
    context: int

    def __call__(self, name: str) -> Sample:
        k = int(name.removeprefix("vnc-"))
        image, membranes, mitochondria = (
            read_volume(f"{self.folder}/{file}", axes="zyx", spacing="unit").data for file in FILES
        )
        lines = np.asarray(membranes[k])
        if not set(np.unique(lines)) <= {0, 255}:
            raise DataError("membranes are 255, all else 0", f"{self.folder}/{FILES[1]}")
        labels = np.where(np.asarray(mitochondria[k]) > 0, 2, 0).astype(np.uint8)
        labels[lines > 0] = 1
        if not self.context:
            section = Volume(np.asarray(image[k]), "yx", SPACING_UM)
        else:
            steps = range(-self.context, self.context + 1)
            planes = [np.asarray(image[min(max(k + d, 0), SECTIONS - 1)]) for d in steps]
            names = tuple(f"section {d:+d}" if d else "section" for d in steps)
            section = Volume(np.stack(planes), "cyx", SPACING_UM, names)
        return Sample(name, section, Volume(labels, "yx", SPACING_UM), meta={"section": k})
