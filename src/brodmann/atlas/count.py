"""Cells per structure of an atlas: counts, volumes, densities, on each side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brodmann.atlas.annotation import LEFT, RIGHT, SIDES, Annotation
from brodmann.atlas.brainreg import Brainreg
from brodmann.atlas.grid import Grid, with_extent
from brodmann.atlas.passes import look_up
from brodmann.atlas.transform import SameSpace, Transform
from brodmann.core import BACKGROUND, DataError, Points, RecipeError

if TYPE_CHECKING:
    import pandas as pd

HALVES = ("auto", "both", "left", "right")
ONE_SIDED, FEW = 0.02, 50
"""A brain with fewer than this share of its cells on one side, of at least so many, is a half."""
MOST_OUTSIDE = 0.5


@dataclass(frozen=True, eq=False)
class CellCounts:
    """What `count_cells` finds.

    Attributes
    ----------
    table : DataFrame
        A row for each structure that has voxels, itself or below it, in the order of the
        tree: id, acronym, name, parent (acronym), depth, color; cells, volume_mm3 and
        density_per_mm3 of the structure with all below it, and again for each side
        (cells_left, volume_left_mm3, density_left_per_mm3, ... _right ...); and cells_direct,
        volume_direct_mm3 (with sides) of voxels that hold its own id. Values of a side that
        was not counted are NaN.
    cells : DataFrame
        A row for each point, in the points' order: their own columns, the place in the
        annotation (atlas_z, atlas_y, atlas_x, in voxels), id, region (acronym), hemisphere
        ("left", "right" or ""), and place: "region", "background", "other half" or "outside".
    half : str
        "both", "left" or "right": what the counts, volumes and densities are of.
    notes : tuple of str
        What a reader should know.
    """

    table: pd.DataFrame
    cells: pd.DataFrame
    half: str
    notes: tuple[str, ...]

    @property
    def summary(self) -> dict[str, int]:
        """Points by where they lie: all, region, background, other half, outside."""
        where = self.cells["place"].value_counts()
        keys = ("region", "background", "other half", "outside")
        return {"all": len(self.cells)} | {key: int(where.get(key, 0)) for key in keys}

    def region(self, acronym: str) -> pd.Series:
        """The row of a structure."""
        rows = self.table[self.table["acronym"] == acronym]
        if not len(rows):
            raise DataError("no such structure in the table", found=repr(acronym))
        return rows.iloc[0]


def count_cells(
    points: Points,
    spacing: Sequence[float],
    annotation: Annotation,
    transform: Transform | None = None,
    *,
    orientation: str | None = None,
    shape: Sequence[int] | None = None,
    half: str = "auto",
    allow_outside: bool = False,
) -> CellCounts:
    """Count points in the structures of an annotation.

    A point belongs to the voxel [i - 0.5, i + 0.5) in which it lies, on each axis, so on a
    border to exactly one structure, and to the side of that voxel.

    Parameters
    ----------
    points : Points
        (z, y, x) in voxels of the image.
    spacing : sequence of float
        Micrometres a voxel of those coordinates, along (z, y, x).
    annotation : Annotation
    transform : Transform, optional
        From the image to the annotation (`read_transform`). None: both lie in one space,
        corner on corner, whatever their spacings and orientations.
    orientation : str, optional
        Of the image, as in `Grid`. Default: what the transform or the annotation knows of the
        image, else the annotation's.
    shape : sequence of int, optional
        Voxels of the image along (z, y, x). Needed to turn an axis round.
    half : {"auto", "both", "left", "right"}
        Which half brain there is tissue of. "auto": the half that brainreg registered, the one
        that the annotation has, or one where under 2 % of at least 50 cells lie on the other side.
    allow_outside : bool
        Count even when most points lie outside the annotation's box.

    Returns
    -------
    CellCounts

    Raises
    ------
    DataError
        If points are 2D, ids are missing from the table of structures, or more than half of
        the points lie outside the annotation, as they do in a wrong unit.
    RecipeError
        On an unknown half, or one that cannot be told.

    Example
    -------
    >>> import pandas as pd
    >>> from brodmann.core import Label, LabelMap, Volume
    >>> tree = LabelMap([Label(1, "Thalamus", "TH"), Label(2, "Ventral posterior", "VP", 1)])
    >>> ids = np.array([[[1, 2], [2, 1]]] * 2, np.uint32)
    >>> atlas = Annotation(Volume(ids, "zyx", (100, 100, 100)), tree, "asl")
    >>> cells = Points(pd.DataFrame({"z": [0, 1], "y": [0, 5], "x": [9.4, 9.6]}))
    >>> found = count_cells(cells, (100, 10, 10), atlas)
    >>> found.table[["acronym", "cells", "cells_left", "cells_right"]].values.tolist()
    [['TH', 2, 1, 1], ['VP', 1, 0, 1]]
    """
    if points.axes != "zyx":
        raise DataError("cells of a brain have the columns z, y and x", found=points.axes)
    if half not in HALVES:
        raise RecipeError(f"a half is one of {', '.join(HALVES)}", found=repr(half))
    if half in SIDES and not annotation.has_sides:
        raise RecipeError(
            "left and right cannot be told apart in this annotation", annotation.name,
            fix="give its orientation, as asr, or a volume of hemispheres",
        )  # fmt: skip
    image = image_grid(spacing, annotation, transform, orientation, shape)
    way = transform or SameSpace(fit=annotation.image is not None)
    voxels = way.apply(points.coordinates, image, annotation.grid)
    ids, sides = look_up(annotation, voxels)
    if not allow_outside:
        _check_inside(ids, points, image, annotation)
    tree = annotation.tree
    inside = ids >= 0
    positions = np.full(len(ids), -1, np.int64)
    positions[inside] = tree.positions(ids[inside], annotation.name)
    counted = np.zeros((3, len(tree)), np.int64)
    for side in (0, LEFT, RIGHT):
        kept = (positions >= 0) & (sides == side)
        counted[side] = np.bincount(positions[kept], minlength=len(tree))
    registered = transform.half if isinstance(transform, Brainreg) else annotation.half
    chosen, notes = _half(half, annotation, counted, registered)
    if not annotation.has_sides:
        notes.append(
            "Left and right are not told apart: the orientation of the annotation is not known."
        )
    table = _table(annotation, counted, chosen)
    cells = _cells(points, voxels, ids, positions, sides, annotation, chosen)
    return CellCounts(table, cells, chosen, tuple(notes))


def count_markers(
    points: Points, spacing: Sequence[float], annotation: Annotation,
    transform: Transform | None = None, **options,
) -> dict[str, CellCounts]:  # fmt: skip
    """`count_cells` for each marker, in the order of first sight; "cells" without markers."""
    if "marker" not in points.table.columns:
        return {"cells": count_cells(points, spacing, annotation, transform, **options)}
    nameless = int(points.table["marker"].isna().sum())
    if nameless:
        raise DataError(
            "cells without a marker", "column 'marker'", f"{nameless:,} of {len(points):,}"
        )
    found = {}
    for marker in dict.fromkeys(points.table["marker"]):
        own = Points(points.table[points.table["marker"] == marker], f"marker {marker}")
        found[str(marker)] = count_cells(own, spacing, annotation, transform, **options)
    return found


def image_grid(
    spacing: Sequence[float],
    annotation: Annotation,
    transform: Transform | None = None,
    orientation: str | None = None,
    shape: Sequence[int] | None = None,
) -> Grid:
    """The grid that points' coordinates are voxels of, from all that is known of it."""
    known = annotation.image
    if transform is not None and transform.image_grid is not None:
        known = transform.image_grid
    if orientation is None:
        orientation = known.orientation if known is not None else annotation.orientation
    grid = Grid(tuple(spacing), orientation, None if shape is None else tuple(shape))
    if grid.shape is None and annotation.image is not None and transform is None:
        # The annotation was laid over the whole image, so both are of one extent.
        return with_extent(grid, annotation.grid)
    return grid


def _check_inside(ids: np.ndarray, points: Points, image: Grid, annotation: Annotation) -> None:
    outside = int((ids < 0).sum())
    if not len(ids) or outside <= MOST_OUTSIDE * len(ids):
        return
    reach = (points.coordinates.max(axis=0) + 0.5) * image.spacing
    spans = " x ".join(f"{size:,.0f}" for size in reach)
    box = " x ".join(f"{size:,.0f}" for size in annotation.grid.extent_um)
    raise DataError(
        "most points lie outside the annotation",
        annotation.name,
        f"{outside:,} of {len(ids):,}; points reach to {spans} um (z, y, x), the annotation "
        f"to {box} um",
        "check the unit of the points (voxel or um), spacing, orientation and transform",
    )


def _half(
    half: str, annotation: Annotation, counted: np.ndarray, registered: str
) -> tuple[str, list[str]]:
    """Which half is counted, and what to say about it."""
    if not annotation.has_sides or half == "both":
        return "both", []
    if half in SIDES:
        return half, [f"Only the {half} hemisphere is counted, as asked."]
    if registered:
        note = f"Only the {registered} hemisphere was registered, so only it is counted."
        return registered, [note]
    sizes = annotation.sizes
    for side, voxels, other in (
        ("left", sizes.left, sizes.right),
        ("right", sizes.right, sizes.left),
    ):
        if voxels.any() and not other.any():
            return side, [f"Only the {side} hemisphere is annotated, so only it is counted."]
    left, right = int(counted[LEFT].sum()), int(counted[RIGHT].sum())
    less, side = (right, "left") if left >= right else (left, "right")
    if left + right >= FEW and less < ONE_SIDED * (left + right):
        note = (
            f"{less:,} of {left + right:,} cells lie outside the {side} hemisphere, so this is "
            f"taken for a half brain: counts, volumes and densities are of the {side} half."
        )
        return side, [note]
    return "both", []


def _table(annotation: Annotation, counted: np.ndarray, half: str) -> pd.DataFrame:
    import pandas as pd

    tree, sizes, voxel = annotation.tree, annotation.sizes, annotation.voxel_mm3
    voxels = np.stack([sizes.neither, sizes.left, sizes.right])
    sides = annotation.has_sides
    wanted = (LEFT, RIGHT) if half == "both" else (SIDES[half],)
    rows = (0, LEFT, RIGHT) if half == "both" else wanted
    columns: dict[str, np.ndarray] = {
        "id": tree.ids,
        "acronym": np.array([label.acronym for label in tree.labels], object),
        "name": np.array([label.name for label in tree.labels], object),
        "parent": np.array(
            ["" if label.parent is None else tree.label_map[label.parent].acronym
             for label in tree.labels], object,
        ),
        "depth": tree.depth,
        "color": np.array([label.color for label in tree.labels], object),
    }  # fmt: skip
    parts = {"": rows, "_left": (LEFT,), "_right": (RIGHT,)}
    direct: dict[str, np.ndarray] = {}
    known = np.full(len(tree), True)
    for end, of in parts.items():
        missing = bool(end) and (not sides or of[0] not in wanted)
        own_cells = counted[list(of)].sum(axis=0)
        own_voxels = voxels[list(of)].sum(axis=0)
        cells, total = tree.roll_up(own_cells), tree.roll_up(own_voxels)
        if not end:
            known = (total > 0) | (cells > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.where(total > 0, cells / (total * voxel), np.nan)
        blank = np.full(len(tree), np.nan)
        columns[f"cells{end}"] = blank if missing else cells
        columns[f"volume{end}_mm3"] = blank if missing else total * voxel
        columns[f"density{end}_per_mm3"] = blank if missing else density
        direct[f"cells_direct{end}"] = blank if missing else own_cells
        direct[f"volume_direct{end}_mm3"] = blank if missing else own_voxels * voxel
    return pd.DataFrame(columns | direct)[known].reset_index(drop=True)


def _cells(
    points: Points,
    voxels: np.ndarray,
    ids: np.ndarray,
    positions: np.ndarray,
    sides: np.ndarray,
    annotation: Annotation,
    half: str,
) -> pd.DataFrame:
    acronyms = np.array([*(label.acronym for label in annotation.tree.labels), ""], object)
    place = np.where(positions >= 0, "region", np.where(ids < 0, "outside", "background"))
    if half in SIDES:
        place = np.where((positions >= 0) & (sides != SIDES[half]), "other half", place)
    table = points.table.copy()
    for axis, letter in enumerate("zyx"):
        table[f"atlas_{letter}"] = voxels[:, axis]
    table["id"] = np.where(positions >= 0, ids, BACKGROUND)
    table["region"] = acronyms[positions]
    table["hemisphere"] = np.array(["", "left", "right"], object)[
        np.where((sides == LEFT) | (sides == RIGHT), sides, 0)
    ]
    table["place"] = place
    return table
