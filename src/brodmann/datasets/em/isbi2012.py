"""ISBI 2012: serial sections of a fly larva's nerve cord, membranes by hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Volume
from brodmann.datasets.em.stacks import cut, need_file
from brodmann.io import read_volume

SPACING_UM = (0.05, 0.004, 0.004)
PARTS = {"train": (0, 12), "tune": (12, 15), "test": (16, 20)}


def isbi2012(root: str | Path, ratio: float | None = None) -> Dataset:
    """20 sections of 512 x 512, with an id for each cell profile of each section.

    The truth is of the sections, not of the volume: interior or membrane. Ids are the
    components of the interior in one section, and no id is in two sections, so that scores
    are those of 2D segmentation. Components are 4-connected: the membrane is drawn as a wall
    that is closed for 8-connected steps, and such a wall parts 4-connected insides. (The
    walls are two pixels thick nearly everywhere: of 2,350 profiles 8 would merge 10.)

    Parameters
    ----------
    root : str or Path
        Holds em/isbi2012/{image,interior}.tif, or these files; interior 255, membrane 0.
    ratio : float, optional
        Percent of the training voxels to keep.

    Returns
    -------
    Dataset
        Slices 0 to 11 train, 12 to 14 tune thresholds, 16 to 19 test; 0.05 x 0.004 x 0.004 um.
        Membranes are 0.

    Raises
    ------
    DataError
        If a file is missing or is not what it should be.

    Source: Cardona et al. 2010; Arganda-Carreras et al. 2015; for research.

    Example
    -------
    >>> isbi2012("data")["isbi2012-test"].labels.shape  # doctest: +SKIP
    (4, 512, 512)
    """
    folder = need_file(Path(root), "em/isbi2012", "image.tif", "interior.tif")
    return cut(
        "isbi2012",
        {"isbi2012": _Sections(str(folder))},
        {f"isbi2012-{split}": ("isbi2012", split, part) for split, part in PARTS.items()},
        ratio=ratio,
        subjects={"isbi2012": "larva"},
        licence="research use (ISBI 2012 challenge)",
        citation="Cardona et al. 2010, PLoS Biol 8, e1000502; "
        "Arganda-Carreras et al. 2015, Front. Neuroanat. 9, 142",
        description="20 serial sections; ids are profiles of single sections, not of the volume",
    )


@dataclass(frozen=True)
class _Sections:
    folder: str

    def __call__(self) -> tuple[Volume, Volume]:
        image = read_volume(f"{self.folder}/image.tif", axes="zyx", spacing=SPACING_UM)
        ids = profiles(f"{self.folder}/interior.tif")
        if ids.shape != image.shape:
            raise DataError(
                "image and labels differ in shape",
                self.folder,
                f"image {image.shape}, interior {ids.shape}",
            )
        return Volume(image.data, "zyx", SPACING_UM), Volume(ids, "zyx", SPACING_UM)


@lru_cache(maxsize=2)
def profiles(file: str) -> np.ndarray:
    """4-connected components of each section of an interior mask, uint32, ids never used twice.

    Raises
    ------
    DataError
        If the mask has other values than 0 and one more.
    """
    from scipy.ndimage import label

    inside = read_volume(file, axes="zyx", spacing="unit").numpy()
    values = np.unique(inside)
    if len(values) != 2 or values[0] != 0:
        raise DataError(
            "the interior is 0 on membranes and one other value within cells",
            file,
            values[:6].tolist(),
        )
    out, last = np.zeros(inside.shape, np.uint32), 0
    for z, section in enumerate(inside):
        parts, count = label(section > 0)
        out[z] = np.where(parts > 0, parts + last, 0)
        last += count
    out.setflags(write=False)
    return out
