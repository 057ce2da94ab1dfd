"""SNEMI3D: the challenge's labelled volume of mouse cortex (AC4), cut into three."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Volume
from brodmann.datasets.em.layouts import Found, Pair, below, find_pair
from brodmann.datasets.em.stacks import Opener, checked, cut

SPACING_UM = (0.03, 0.006, 0.006)
PARTS = {"train": (0, 67), "tune": (70, 82), "test": (85, 100)}
ENDS = (".tif", ".tiff", ".h5", ".hdf5")
LAYOUTS = (
    Pair(tuple(f"train-input{end}" for end in ENDS), tuple(f"train-labels{end}" for end in ENDS)),
    Pair(tuple(f"train_input{end}" for end in ENDS), tuple(f"train_labels{end}" for end in ENDS)),
)
ARCHIVES = ("snemi.zip", "snemi3d.zip")
FIX = "fetch it: brodmann data get snemi3d FOLDER"


def snemi3d(root: str | Path, ratio: float | None = None) -> Dataset:
    """Train, tune and test on one labelled volume of 100 x 1024 x 1024.

    The challenge's test labels are not public, so that its labelled volume is cut along z:
    slices 0 to 66 train, 70 to 81 tune thresholds, 85 to 99 test. A score here is not one of
    the challenge's board. The volume is AC4 of `ac34`: do not train on one and test on the other.

    Parameters
    ----------
    root : str or Path
        Holds train-input and train-labels (.tif or .h5), at most four folders below, or
        snemi.zip as it was published (that is read into memory).
    ratio : float, optional
        Percent of the training voxels to keep, in the middle of the training part.

    Returns
    -------
    Dataset
        "snemi3d-train", "snemi3d-tune", "snemi3d-test"; 0.03 x 0.006 x 0.006 um.

    Raises
    ------
    DataError, RecipeError
        If the layout is another (the error says what was looked for), or see `em_files`.

    Source: Kasthuri et al. 2015; doi:10.5281/zenodo.7142003, CC BY 4.0.

    Example
    -------
    >>> snemi3d("data/snemi3d")["snemi3d-test"].labels.shape  # doctest: +SKIP
    (15, 1024, 1024)
    """
    return cut(
        "snemi3d",
        {"snemi3d": _opener(Path(root))},
        {f"snemi3d-{split}": ("snemi3d", split, part) for split, part in PARTS.items()},
        ratio=ratio,
        subjects={"snemi3d": "mouse"},
        licence="CC BY 4.0",
        citation="Kasthuri et al. 2015, Cell 162, 648; SNEMI3D, doi:10.5281/zenodo.7142003",
        description="the labelled volume of SNEMI3D (AC4) in three parts: its test labels are "
        "not public",
    )


def _opener(root: Path) -> Opener:
    try:
        image, labels, pair = find_pair(root, LAYOUTS, "SNEMI3D", FIX)
    except DataError:
        found = below(root, FIX)
        archive = next((found[name] for name in ARCHIVES if name in found), None)
        if archive is None:
            raise
        return _Zipped(str(archive))
    return Found(image, labels, SPACING_UM, pair.reversed_)


@dataclass(frozen=True)
class _Zipped:
    archive: str

    def __call__(self) -> tuple[Volume, Volume]:
        image, labels = (Volume(a, "zyx", SPACING_UM) for a in _unzipped(self.archive))
        return checked(image, labels, self.archive)


@lru_cache(maxsize=1)
def _unzipped(archive: str) -> list[np.ndarray]:
    """The two volumes of an archive, in memory."""
    import tifffile

    out = []
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = {Path(info.filename).name.lower(): info for info in opened.infolist()}
            for wanted in (LAYOUTS[0].image[0], LAYOUTS[0].labels[0]):
                if wanted not in inside:
                    raise DataError("not in the archive", archive, fix=f"looked for {wanted}")
                out.append(tifffile.imread(io.BytesIO(opened.read(inside[wanted]))))
    except (zipfile.BadZipFile, tifffile.TiffFileError, OSError) as error:
        raise DataError("the archive is damaged", archive, error, "fetch it again") from error
    for array in out:
        array.setflags(write=False)
    return out
