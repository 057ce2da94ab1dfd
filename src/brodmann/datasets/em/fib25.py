"""FIB-25: a block of fly medulla with dense neuron ids, 10 nm in every direction."""

from __future__ import annotations

from pathlib import Path

from brodmann.core import Dataset
from brodmann.datasets.em.files import em_files
from brodmann.datasets.em.stacks import need_file

SPACING_UM = (0.01, 0.01, 0.01)
PARTS = {"train": (0, 104), "tune": (107, 127), "test": (130, 150)}
"""Slices; the three between two parts are in none."""


def fib25(root: str | Path, ratio: float | None = None) -> Dataset:
    """A 150 x 250 x 250 block of the FlyEM FIB-25 medulla, cut along z.

    Slices 0 to 103 train, 107 to 126 tune thresholds, 130 to 149 test. Every voxel has an id,
    so that neurons touch: widen borders by a voxel before affinities are trained.

    Parameters
    ----------
    root : str or Path
        Holds em/fib25/{image,neurons}.tif, or these files.
    ratio : float, optional
        Percent of the training voxels to keep, in the middle of the training part.

    Returns
    -------
    Dataset
        "fib25-train", "fib25-tune", "fib25-test": uint8 and uint32, 0.01 um.

    Raises
    ------
    DataError, RecipeError
        See `em_files`.

    Source: Takemura et al. 2015; CC BY 3.0.

    Example
    -------
    >>> fib25("data")["fib25-tune"].image.shape  # doctest: +SKIP
    (20, 250, 250)
    """
    folder = need_file(Path(root), "em/fib25", "image.tif", "neurons.tif")
    return em_files(
        folder / "image.tif",
        folder / "neurons.tif",
        SPACING_UM,
        PARTS,
        ratio,
        name="fib25",
        subject="fly",
        licence="CC BY 3.0 (FlyEM FIB-25)",
        citation="Takemura et al. 2015, PNAS 112, 13711",
    )
