"""From the image in which cells were found to the space of an annotation."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from brodmann.atlas.grid import Grid, reorient
from brodmann.core import DataError, RecipeError

MAX_BYTES = 1 << 20
UNITS_UM = {"um": 1.0, "mm": 1000.0}


class Transform(Protocol):
    """Takes points of an image to an atlas.

    `image_grid` is what the transform knows of the image itself (its orientation, say), or
    None; it serves where the caller does not say.
    """

    image_grid: Grid | None

    def apply(self, points: np.ndarray, image: Grid, atlas: Grid) -> np.ndarray:
        """(n, 3) voxels of the image -> (n, 3) voxels of the atlas, NaN where it has no answer.

        Both as (z, y, x), voxel centres whole numbers.
        """
        ...


@dataclass(frozen=True)
class SameSpace:
    """The image lies in the atlas's space already, at whatever spacing and orientation.

    `fit`: both boxes hold the same thing, so they are of one extent; see `reorient`.

    >>> here = SameSpace()
    >>> here.apply(np.array([[0.0, 3.0, 3.5]]), Grid((50, 10, 10)), Grid((25, 20, 20))).tolist()
    [[0.5, 1.25, 1.5]]
    """

    image_grid: Grid | None = None
    fit: bool = False

    def apply(self, points: np.ndarray, image: Grid, atlas: Grid) -> np.ndarray:
        return reorient(points, image, atlas, self.fit)


@dataclass(frozen=True, eq=False)
class Affine:
    """A 4 x 4 matrix from positions in the image to positions in the atlas.

    Positions are column vectors (z, y, x, 1) in micrometres from the centre of the first
    voxel along the axes as stored: index times spacing. Orientations play no part, since the
    matrix turns axes itself.

    Raises
    ------
    DataError
        If it is no 4 x 4 matrix of finite numbers with last row 0 0 0 1, or is singular.

    Example
    -------
    >>> shift = np.eye(4)
    >>> shift[0, 3] = 100  # um along z
    >>> Affine(shift).apply(np.zeros((1, 3)), Grid((5, 2, 2)), Grid((25, 25, 25))).tolist()
    [[4.0, 0.0, 0.0]]
    """

    matrix: np.ndarray
    image_grid: Grid | None = None

    def __post_init__(self) -> None:
        try:
            matrix = np.array(self.matrix, np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise DataError(
                "an affine is a 4 x 4 matrix of finite numbers", found=f"shape {matrix.shape}"
            )
        if not np.allclose(matrix[3], (0, 0, 0, 1)):
            raise DataError("the last row of an affine is 0 0 0 1", found=matrix[3].tolist())
        if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise DataError("this affine cannot be inverted", found=matrix.tolist())
        object.__setattr__(self, "matrix", matrix)

    def apply(self, points: np.ndarray, image: Grid, atlas: Grid) -> np.ndarray:
        um = np.asarray(points, np.float64).reshape(-1, 3) * image.spacing
        return (um @ self.matrix[:3, :3].T + self.matrix[:3, 3]) / atlas.spacing


def read_transform(path: str | Path, *, unit: str = "um", inverse: bool = False) -> Transform:
    """Open a transform, of the kind that the file is.

    Parameters
    ----------
    path : str or Path
        - a folder that brainreg wrote: its deformation fields;
        - a TransformParameters file of elastix or itk-elastix (.txt), with those that it
          names as initial ones: Translation, Euler, Similarity, Affine and BSpline;
        - a 4 x 4 matrix: a CSV or text of four rows, or JSON as a list of rows or
          {"matrix": [...]}; see `Affine`.
    unit : "um" or "mm"
        Of lengths in an elastix file or matrix.
    inverse : bool
        The transform leads from the atlas to the image, as elastix's does where the atlas
        was the fixed image. Not for brainreg.

    Raises
    ------
    DataError
        If the file is missing or not one of these.
    RecipeError
        On another unit.
    """
    path = Path(path)
    if unit not in UNITS_UM:
        raise RecipeError("a unit is um or mm", found=repr(unit))
    if path.is_dir():
        from brodmann.atlas.brainreg import Brainreg

        if inverse:
            raise RecipeError("fields of brainreg lead to the atlas and are not inverted", path)
        return Brainreg.from_folder(path)
    text = read_text(path)
    if text.lstrip().startswith(("(", "//")):
        from brodmann.atlas.elastix import Elastix

        return Elastix.from_file(path, unit=unit, inverse=inverse)
    matrix = _matrix(text, path)
    affine = Affine(matrix)
    matrix = affine.matrix.copy()
    matrix[:3, 3] *= UNITS_UM[unit]
    return Affine(np.linalg.inv(matrix) if inverse else matrix)


def read_text(path: Path) -> str:
    """A short text file, or why not."""
    try:
        if path.stat().st_size > MAX_BYTES * 256:
            raise ValueError("the file is longer than 256 MiB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError("cannot read this transform", path, str(error)[:200]) from error


def _matrix(text: str, path: Path) -> Any:
    fix = "give a 4 x 4 matrix, a TransformParameters file or a brainreg folder"
    if len(text) > MAX_BYTES:
        raise DataError("this is no transform", path, f"{len(text):,} characters", fix)
    try:
        if path.suffix.lower() == ".json":
            found = json.loads(text)
            return found["matrix"] if isinstance(found, dict) else found
        rows = csv.reader(line.replace("\t", ",").strip() for line in text.splitlines())
        parts = [[float(part) for cell in row for part in cell.split()] for row in rows if any(row)]
        if {len(row) for row in parts} != {4}:
            raise ValueError(f"rows of {sorted({len(row) for row in parts})} numbers")
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise DataError("this is no transform", path, str(error)[:120], fix) from None
    return parts
