"""A light-sheet brain of any size: every block and its truth from seed and place alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from brodmann.core import LabelMap, Points, RecipeError, Volume, keyed_rng
from brodmann.datasets.phantoms.lightsheet.brain import draw_wobble
from brodmann.datasets.phantoms.lightsheet.cells import Cells, cells_of_marker
from brodmann.datasets.phantoms.lightsheet.fields import Grid, ellipsoid_ids, stored_ids
from brodmann.datasets.phantoms.lightsheet.markers import (
    REGIONS,
    marker_of,
    tissue_table,
)
from brodmann.datasets.phantoms.lightsheet.render import Look, render

SPACING_UM = (4.0, 1.8, 1.8)
BLUR_UM = (5.0, 1.3, 1.3)
ANNOTATION_UM = (25.0, 25.0, 25.0)
FINEST_UM, COARSEST_UM = 0.9, 25.0
LONGEST = 1 << 20
LEFT, RIGHT = 1, 2
"""Values of `LightSheet.hemispheres`."""

Window = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class LightSheet:
    """One made-up brain, stained for six markers and imaged by a light sheet.

    Nothing is rendered before it is asked for, and what a block holds depends on the seed and
    on its place alone: blocks of any size put together are the whole, byte by byte. Cells that
    carry two markers lie at the same place in both channels and have the same `cell`.

    Parameters
    ----------
    shape : (z, y, x) in voxels
        The brain fills it: z is depth, from superior; y from anterior; x from left, which is
        also how the light comes ("sal" in BrainGlobe's letters).
    spacing : (z, y, x) in um
        0.9 to 25.
    seed : int
        Another seed is another brain.
    blur_um : (z, y, x)
        Standard deviation of the microscope's core blur; axial blur is the wider.
    density, brightness : float
        Times the usual number of cells (0.05 to 1.2), and times the usual counts (0.05 to 5).
    stripes, halo : float
        Times the usual strength of stripes and of halos, 0 to 5.
    annotation : Volume, optional
        Region ids, "zyx", over the same extent as the volume; 0 is no tissue. Default: nested
        ellipsoids in 25 um voxels (`markers.REGIONS`).
    regions : LabelMap, optional
        Of a given annotation. A region is drawn as the tissue of `markers.TISSUES` with its
        acronym or that of its nearest ancestor.
    hemispheres : Volume, optional
        1 left, 2 right, on the grid of a given annotation. Default: the half of x.

    Raises
    ------
    RecipeError
        If an argument is out of range, or annotation, regions and hemispheres do not fit.

    Notes
    -----
    Made for issue 6 after section 3 of the CANVAS paper (six markers, 4 x 1.8 x 1.8 um). The
    annotation voxel of a point is ``floor((point + 0.5) * spacing / annotation spacing)``.

    Example
    -------
    >>> brain = LightSheet((400, 900, 800), (16, 8, 8), seed=3)
    >>> window = (slice(100, 110), slice(300, 340), slice(300, 350))
    >>> block = brain.block("NeuN", window)
    >>> block.shape, block.dtype, len(brain.points("NeuN", window)) > 100
    ((10, 40, 50), dtype('uint16'), True)
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = SPACING_UM
    seed: int = 0
    blur_um: tuple[float, float, float] = BLUR_UM
    density: float = 1.0
    brightness: float = 1.0
    stripes: float = 1.0
    halo: float = 1.0
    annotation: Volume | None = field(default=None, repr=False)
    regions: LabelMap | None = field(default=None, repr=False)
    hemispheres: Volume | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        whole = isinstance(self.shape, Sequence) and len(self.shape) == 3
        if not whole or not all(
            isinstance(n, int | np.integer) and not isinstance(n, bool) and 1 <= n <= LONGEST
            for n in self.shape
        ):
            raise RecipeError("shape is (z, y, x) in voxels", "shape", repr(self.shape))
        ranges = {
            "spacing": (self.spacing, FINEST_UM, COARSEST_UM),
            "blur_um": (self.blur_um, 0.3, 30.0),
            "density": ((self.density,), 0.05, 1.2),
            "brightness": ((self.brightness,), 0.05, 5.0),
            "stripes": ((self.stripes,), 0.0, 5.0),
            "halo": ((self.halo,), 0.0, 5.0),
        }
        for name, (values, low, high) in ranges.items():
            values = tuple(values) if isinstance(values, Sequence) else (values,)
            right = len(values) == (3 if name in ("spacing", "blur_um") else 1)
            if not right or not all(
                isinstance(v, int | float | np.floating | np.integer) and low <= v <= high
                for v in values
            ):
                raise RecipeError(
                    f"{name} is from {low:g} to {high:g}", name, repr(getattr(self, name))
                )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise RecipeError("the seed is a whole number", "seed", repr(self.seed))
        for name, kind in (("shape", int), ("spacing", float), ("blur_um", float)):
            object.__setattr__(self, name, tuple(kind(v) for v in getattr(self, name)))
        if self.annotation is None:
            if self.hemispheres is not None or self.regions is not None:
                raise RecipeError(
                    "regions and hemispheres belong to an annotation", "annotation", None
                )
            return
        self._check_annotation(self.annotation)

    def _check_annotation(self, volume: Volume) -> None:
        if self.regions is None:
            raise RecipeError("an annotation needs the names of its regions", "regions", None)
        if volume.axes != "zyx" or volume.dtype.kind not in "iu":
            raise RecipeError(
                "an annotation holds region ids over z, y, x", "annotation",
                f"{volume.axes} {volume.dtype}",
            )  # fmt: skip
        for axis, n, step, extent in zip("zyx", volume.shape, volume.spacing, self.extent_um):
            if abs(n * step - extent) > 1.5 * step:
                raise RecipeError(
                    "annotation and volume differ in extent", f"annotation, {axis}",
                    f"{n * step:g} um and {extent:g} um",
                    "crop or resample one of them, or correct its spacing",
                )  # fmt: skip
        half = self.hemispheres
        if half is not None and (half.shape != volume.shape or half.spacing != volume.spacing):
            raise RecipeError(
                "hemispheres are on the annotation's grid", "hemispheres",
                f"{half.shape} instead of {volume.shape}",
            )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        # What is worked out once in a process stays in it.
        kept = ("grid", "_plane_gains")
        return {key: value for key, value in self.__dict__.items() if key not in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def extent_um(self) -> tuple[float, float, float]:
        """Edges of the volume (z, y, x)."""
        z, y, x = (round(n * s, 6) for n, s in zip(self.shape, self.spacing))
        return z, y, x

    @property
    def label_map(self) -> LabelMap:
        """Names of the regions."""
        return self.regions or REGIONS

    @cached_property
    def grid(self) -> Grid:
        """Labels and what follows from them, by place."""
        if self.annotation is not None:
            ids = stored_ids(self.annotation.data)
            return Grid(self.annotation.spacing, ids, tissue_table(self.label_map))
        ids = ellipsoid_ids(ANNOTATION_UM, self.extent_um, draw_wobble(self.seed))
        return Grid(ANNOTATION_UM, ids, tissue_table(self.label_map))

    @property
    def annotation_shape(self) -> tuple[int, int, int]:
        """Shape of what `region_ids` gives."""
        if self.annotation is not None:
            z, y, x = self.annotation.shape
        else:
            z, y, x = (max(1, int(np.ceil(e / s - 1e-9))) for e, s in
                       zip(self.extent_um, ANNOTATION_UM))  # fmt: skip
        return z, y, x

    def region_ids(self, window: Window | None = None) -> Volume:
        """The annotation (or a window of it, in its own voxels), uint32."""
        spans = _bounds(window, self.annotation_shape)
        first, size = tuple(a for a, _ in spans), tuple(b - a for a, b in spans)
        return Volume(self.grid.ids_at(first, size), "zyx", self.grid.step)

    def hemisphere_ids(self, window: Window | None = None) -> Volume:
        """1 left, 2 right, on the annotation's grid, uint8."""
        spans = _bounds(window, self.annotation_shape)
        if self.hemispheres is not None:
            data = np.asarray(self.hemispheres.data[tuple(slice(a, b) for a, b in spans)])
            return Volume(data.astype(np.uint8), "zyx", self.grid.step)
        middle = (np.arange(*spans[2]) + 0.5) * self.grid.step[2] < self.extent_um[2] / 2
        row = np.where(middle, LEFT, RIGHT).astype(np.uint8)
        shape = tuple(b - a for a, b in spans)
        return Volume(np.broadcast_to(row, shape).copy(), "zyx", self.grid.step)

    def block(self, marker: str, window: Window | None = None) -> np.ndarray:
        """Camera counts of one marker's channel, (z, y, x) uint16.

        Parameters
        ----------
        marker : str
            A name in `markers.MARKERS`.
        window : tuple of slice, optional
            In voxels, without a step, within the volume; all of it when not given.

        Raises
        ------
        RecipeError
            On an unknown marker, or a window that is empty or leaves the volume.
        """
        spans = _bounds(window, self.shape)
        z, y, x = (b - a for a, b in spans)
        return render(self, marker_of(marker), np.array([a for a, _ in spans]), (z, y, x))

    def cells(self, marker: str, window: Window | None = None) -> Cells:
        """Cells that carry a marker with centres in a window, as arrays; see `points`."""
        spans = np.array(_bounds(window, self.shape), float)
        return cells_of_marker(self, marker_of(marker), spans[:, 0] - 0.5, spans[:, 1] - 0.5)

    def points(self, marker: str, window: Window | None = None) -> Points:
        """Exact centres of the cells that carry a marker.

        Parameters
        ----------
        marker, window
            See `block`.

        Returns
        -------
        Points
            z, y, x of the whole volume in voxels; region (acronym),
            hemisphere ("left" or "right"), marker, and cell, a number that is the same in all
            channels. A point belongs to the window that holds its voxel, that is to
            ``start - 0.5 <= z < stop - 0.5``. In order of z, y, x.
        """
        import pandas as pd

        found = self.cells(marker, window)
        centre = np.round(found.centre, 4)
        order = np.lexsort(centre.T[::-1])
        centre = centre[order]
        acronyms = {label.id: label.acronym for label in self.label_map}
        regions = [acronyms.get(int(id_), "") for id_ in found.region[order]]
        table = pd.DataFrame(
            {
                "z": centre[:, 0],
                "y": centre[:, 1],
                "x": centre[:, 2],
                "region": pd.Series(regions, dtype=str),
                "hemisphere": pd.Series(self._sides(centre), dtype=str),
                "marker": pd.Series([marker] * len(centre), dtype=str),
                "cell": found.id[order],
            }
        )
        return Points(table, f"{marker} of a phantom")

    def _sides(self, centre: np.ndarray) -> np.ndarray:
        at = np.floor((centre + 0.5) * self.spacing / self.grid.step).astype(int)
        if self.hemispheres is None:
            left = (at[:, 2] + 0.5) * self.grid.step[2] < self.extent_um[2] / 2
        elif len(at):
            at = np.clip(at, 0, np.array(self.annotation_shape) - 1)
            low = at.min(0)
            box = tuple(slice(int(a), int(b) + 1) for a, b in zip(low, at.max(0)))
            left = self.hemisphere_ids(box).data[tuple((at - low).T)] == LEFT
        else:
            left = np.zeros(0, bool)
        return np.where(left, "left", "right").astype(object)

    def look(self, marker: str) -> Look:
        """How this brain was imaged in one channel."""
        rng = keyed_rng(self.seed, "light-sheet look", marker)
        return Look(
            gain=self.brightness * float(np.exp(rng.normal(0, 0.2))),
            stripes=self.stripes * float(rng.uniform(0.045, 0.075)),
            planes=self.stripes * float(rng.uniform(0.01, 0.02)),
            rim=self.halo * float(rng.uniform(0.25, 0.45)),
            glow=self.halo * float(rng.uniform(0.12, 0.22)),
        )

    def plane_gains(self, marker: str) -> np.ndarray:
        """Brightness of each plane of a channel, about 1, float64."""
        if marker not in self._plane_gains:
            rng = keyed_rng(self.seed, "light-sheet planes", marker)
            drift = rng.standard_normal(self.shape[0]) * self.look(marker).planes
            self._plane_gains[marker] = np.maximum(1 + drift, 0.1)
        return self._plane_gains[marker]

    @cached_property
    def _plane_gains(self) -> dict[str, np.ndarray]:
        return {}


def _bounds(window: Window | None, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    if window is None:
        return [(0, n) for n in shape]
    if len(window) != 3 or not all(isinstance(part, slice) for part in window):
        raise RecipeError("a window is three slices", "window", repr(window))
    spans = []
    for axis, part, n in zip("zyx", window, shape):
        first = 0 if part.start is None else int(part.start)
        last = n if part.stop is None else int(part.stop)
        if part.step not in (None, 1) or not 0 <= first < last <= n:
            raise RecipeError(
                f"a window lies within the {n} voxels of {axis} and is not empty", "window",
                f"{first}:{last}",
            )  # fmt: skip
        spans.append((first, last))
    return spans
