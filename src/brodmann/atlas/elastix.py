"""Transforms that elastix and itk-elastix write as text, worked out here without them.

Source: the elastix manual, chapter 4 and appendix (TransformParameters files); ITK's Euler3D,
Similarity3D and BSpline transforms. Points are (x, y, z) in physical units, as in ITK.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.atlas.grid import Grid
from brodmann.atlas.transform import UNITS_UM, read_text
from brodmann.core import DataError

Fields = dict[str, list[str]]
Map = Callable[[np.ndarray], np.ndarray]
LONGEST_CHAIN = 20
ROUNDS = 60
CLOSE = 1e-4
"""Share of a voxel to which an inverse is found."""


@dataclass(frozen=True, eq=False)
class Elastix:
    """A chain of elastix transforms, from the fixed image to the moving one.

    Where cells were found in the fixed image it leads to the atlas; where the atlas was fixed,
    `inverse` turns it round: by fixed-point iteration, with NaN where that does not settle
    within a ten-thousandth of a voxel. The moving image is taken to have its origin at the
    centre of its first voxel and no rotation in its header, as arrays have.

    Parameters
    ----------
    steps : tuple of (fields, how)
        From the first that is applied.
    unit_um : float
        Micrometres in one unit of the file.
    inverse : bool
    name : str
        For errors.
    """

    steps: tuple[tuple[Map, str], ...]
    spacing: np.ndarray
    origin: np.ndarray
    direction: np.ndarray
    size: tuple[int, ...]
    unit_um: float = 1.0
    inverse: bool = False
    name: str = "transform"
    image_grid: Grid | None = None

    @classmethod
    def from_file(cls, path: str | Path, unit: str = "um", inverse: bool = False) -> Elastix:
        """Read a TransformParameters file and those it begins with.

        Raises
        ------
        DataError
            On a damaged file, a chain that does not end, or a kind of transform that is not
            worked out here.
        """
        path = Path(path)
        chain: list[tuple[Map, str]] = []
        seen: set[Path] = set()
        here: Path | None = path
        last: Fields | None = None
        while here is not None:
            if here.resolve() in seen or len(seen) >= LONGEST_CHAIN:
                raise DataError("the chain of initial transforms does not end", here)
            seen.add(here.resolve())
            fields = parse(read_text(here), here)
            last = last or fields
            how = _word(fields, "HowToCombineTransforms", "Compose")
            if how not in ("Compose", "Add"):
                raise DataError("unknown way to combine transforms", here, how)
            chain.append((_map(fields, here), how))
            first = _word(fields, "InitialTransformParametersFileName", "NoInitialTransform")
            first = _word(fields, "InitialTransformParameterFileName", first)
            here = None if first == "NoInitialTransform" else _beside(here, first)
        assert last is not None
        spacing = np.array(_numbers(last, "Spacing", path, 3))
        return cls(
            tuple(chain[::-1]),
            spacing,
            np.array(_numbers(last, "Origin", path, 3, [0.0] * 3)),
            np.array(_numbers(last, "Direction", path, 9, np.eye(3).reshape(-1).tolist()))
            .reshape(3, 3),
            tuple(int(n) for n in _numbers(last, "Size", path, 3)),
            UNITS_UM[unit],
            inverse,
            path.name,
        )  # fmt: skip

    def apply(self, points: np.ndarray, image: Grid, atlas: Grid) -> np.ndarray:
        fixed, moving = (atlas, image) if self.inverse else (image, atlas)
        self._check(fixed)
        start = np.asarray(points, np.float64).reshape(-1, 3)
        if self.inverse:
            target = start[:, ::-1] * np.array(moving.spacing[::-1]) / self.unit_um
            found = self._solve(target)
            index = np.linalg.solve(self.direction, (found - self.origin).T).T / self.spacing
            ratio = self.spacing[::-1] * self.unit_um / np.array(fixed.spacing)
            return (index[:, ::-1] + 0.5) * ratio - 0.5
        ratio = np.array(fixed.spacing) / (self.spacing[::-1] * self.unit_um)
        index = ((start + 0.5) * ratio - 0.5)[:, ::-1]
        physical = self.origin + (index * self.spacing) @ self.direction.T
        return (self.physical(physical) * self.unit_um)[:, ::-1] / np.array(moving.spacing)

    def physical(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) points (x, y, z) in the file's unit, from the fixed to the moving image."""
        return through(self.steps, points)

    def _solve(self, target: np.ndarray) -> np.ndarray:
        """Points of the fixed image that come to lie at `target`."""
        guess = np.array(target)
        tolerance = CLOSE * float(self.spacing.min())
        # The linear part first: what is left then is small and smooth.
        corner = self.origin + (np.array(self.size) / 2 * self.spacing) @ self.direction.T
        frame = np.concatenate([corner[None], corner + np.diag(self.spacing)])
        seen = self.physical(frame)
        matrix = ((seen[1:] - seen[0]) / self.spacing[:, None]).T
        if abs(np.linalg.det(matrix)) < 1e-9:
            matrix = np.eye(3)
        back = np.linalg.inv(matrix)
        guess = corner + (target - seen[0]) @ back.T
        for _ in range(ROUNDS):
            off = self.physical(guess) - target
            if not (np.abs(off) > tolerance).any():
                return guess
            guess = guess - off @ back.T
        off = np.abs(self.physical(guess) - target).max(axis=1)
        return np.where((off <= tolerance)[:, None], guess, np.nan)

    def _check(self, fixed: Grid) -> None:
        """Refuse a unit or grid that cannot be the fixed image's."""
        if fixed.shape is None:
            return
        own = np.array(self.size[::-1]) * self.spacing[::-1] * self.unit_um
        ratio = own / np.array(fixed.extent_um)
        if (np.abs(ratio - 1) > 0.1).any():
            role = "atlas" if self.inverse else "image"
            said = " x ".join(f"{size:,.0f}" for size in own)
            raise DataError(
                f"the fixed image of this transform is not of the {role}'s size",
                self.name,
                f"{said} um (z, y, x)",
                "check the transform's unit (um or mm), which image was fixed, and the spacing",
            )


def through(steps: tuple[tuple[Map, str], ...], points: np.ndarray) -> np.ndarray:
    """A chain: each step on top of those before, composed or added."""
    start = np.asarray(points, np.float64)
    now = start
    for number, (step, how) in enumerate(steps):
        if how == "Add" and number:
            now = now + step(start) - start
        else:
            now = step(now)
    return now


def parse(text: str, path: str | Path = "transform") -> Fields:
    """The fields of a TransformParameters file.

    >>> parse('(Transform "AffineTransform")\\n(Spacing 1 2.5 3) // um')
    {'Transform': ['AffineTransform'], 'Spacing': ['1', '2.5', '3']}
    """
    fields: Fields = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = re.sub(r"//.*", "", line).strip()
        if not line:
            continue
        if not re.fullmatch(r"\(.*\)", line):
            raise DataError(
                "this line is no field of a transform", f"{path} line {number}", line[:60]
            )
        parts = re.findall(r'"[^"]*"|\S+', line[1:-1])
        if parts:
            fields[parts[0]] = [part.strip('"') for part in parts[1:]]
    if "Transform" not in fields:
        raise DataError("this file names no transform", path)
    return fields


def _map(fields: Fields, path: Path) -> Map:
    kind = _word(fields, "Transform", "").removesuffix("Stack")
    if _word(fields, "UseBinaryFormatForTransformationParameters", "false") == "true":
        raise DataError("parameters in binary files are not read", path, fix="write them as text")
    if kind == "BSplineTransform":
        return _bspline(fields, path)
    values = np.array(_numbers(fields, "TransformParameters", path))
    wanted = {"TranslationTransform": 3, "EulerTransform": 6, "SimilarityTransform": 7,
              "AffineTransform": 12}  # fmt: skip
    if kind not in wanted:
        raise DataError(
            "this kind of transform is not worked out here",
            path,
            kind,
            "use " + ", ".join([*wanted, "BSplineTransform"]) + ", or count with the atlas laid "
            "over the image: transformix (pip install itk-elastix) on the annotation, with "
            "FinalBSplineInterpolationOrder 0",
        )
    if len(values) != wanted[kind]:
        raise DataError(f"a 3D {kind} has {wanted[kind]} parameters", path, len(values))
    if kind == "TranslationTransform":
        return lambda points: points + values
    centre = np.array(_numbers(fields, "CenterOfRotationPoint", path, 3, [0.0] * 3))
    if kind == "AffineTransform":
        matrix, shift = values[:9].reshape(3, 3), values[9:]
    elif kind == "EulerTransform":
        matrix = _euler(values[:3], _word(fields, "ComputeZYX", "false") == "true")
        shift = values[3:]
    else:
        matrix, shift = values[6] * _versor(values[:3], path), values[3:6]
    return lambda points: (points - centre) @ matrix.T + centre + shift


def _euler(angles: np.ndarray, zyx: bool) -> np.ndarray:
    """Rz Rx Ry as ITK composes Euler angles, or Rz Ry Rx; radians about x, y and z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return z @ y @ x if zyx else z @ x @ y


def _versor(vector: np.ndarray, path: Path) -> np.ndarray:
    """The rotation of a unit quaternion of which the vector part is given."""
    rest = 1 - float(vector @ vector)
    if rest < 0:
        raise DataError("the rotation of this transform is none", path, vector.tolist())
    x, y, z = vector
    w = np.sqrt(rest)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _bspline(fields: Fields, path: Path) -> Map:
    """Cubic (or of the order given) B-splines on a grid; no shift where the grid ends."""
    from scipy.ndimage import map_coordinates

    size = [int(n) for n in _numbers(fields, "GridSize", path, 3)]
    spacing = np.array(_numbers(fields, "GridSpacing", path, 3))
    origin = np.array(_numbers(fields, "GridOrigin", path, 3))
    direction = np.array(
        _numbers(fields, "GridDirection", path, 9, np.eye(3).reshape(-1).tolist())
    ).reshape(3, 3)
    first = np.array(_numbers(fields, "GridIndex", path, 3, [0.0] * 3))
    order = int(_numbers(fields, "BSplineTransformSplineOrder", path, 1, [3.0])[0])
    values = np.array(_numbers(fields, "TransformParameters", path))
    count = int(np.prod(size))
    if order not in (1, 2, 3):
        raise DataError("splines of order 1, 2 or 3 are worked out here", path, order)
    if len(values) != 3 * count or min(size) <= order:
        raise DataError("the parameters do not fill the grid", path, f"{len(values)} for {size}")
    # x runs fastest, so the array stands as (z, y, x).
    coefficients = values.reshape(3, *size[::-1])
    edge = (order - 1) / 2
    back = np.linalg.inv(direction)

    def move(points: np.ndarray) -> np.ndarray:
        index = ((points - origin) @ back.T) / spacing - first
        inside = ((index >= edge) & (index < np.array(size) - 1 - edge)).all(axis=1)
        shift = np.zeros_like(points)
        at = index[inside][:, ::-1].T
        for axis in range(3):
            shift[inside, axis] = map_coordinates(
                coefficients[axis], at, order=order, prefilter=False, mode="nearest"
            )
        return points + shift

    return move


def _word(fields: Fields, key: str, default: str) -> str:
    found = fields.get(key)
    return found[0] if found else default


def _numbers(
    fields: Fields, key: str, path: Path, count: int | None = None, default: list | None = None
) -> list[float]:
    if key not in fields and default is not None:
        return default
    try:
        numbers = [float(part) for part in fields[key]]
    except (KeyError, ValueError) as error:
        raise DataError(f"this transform has no numbers {key}", path, error) from None
    if (count is not None and len(numbers) != count) or not np.isfinite(numbers).all():
        raise DataError(f"{key} of this transform is wrong", path, f"{len(numbers)} numbers")
    return numbers


def _beside(path: Path, named: str) -> Path:
    """The initial transform: where it is said to be, or of the same name in this folder."""
    said = Path(named)
    for candidate in (said if said.is_absolute() else path.parent / said, path.parent / said.name):
        if candidate.is_file():
            return candidate
    raise DataError("the initial transform of this file is missing", path, named)
