"""Brains as cellfinder takes them: signal, background, and cells in its XML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Points, RecipeError, Sample, Volume
from brodmann.io import read_volume, with_spacing
from brodmann.io.planes import read_planes
from brodmann.io.points import outside, read_points
from brodmann.io.points.cellfinder import CELL
from brodmann.io.raw import LazyArray

CHANNELS = ("signal", "background")
CELLS = ("cell_classification.xml", "cells.xml")
PLACES = ("", "cells/stp")
SPACING_UM = (5.0, 2.0, 2.0)


def cellfinder(
    root: str | Path,
    spacing_um: Sequence[float] = SPACING_UM,
    cells: str | Path | None = None,
    first_plane: int = 0,
    background: bool = True,
    only_cells: bool = True,
) -> Dataset:
    """One brain, or a part of one, in two channels that are read by window.

    Parameters
    ----------
    root : str or Path
        Holds signal and background, each a folder of TIFF planes or one file (.tif, .zarr,
        ...), and cell_classification.xml or cells.xml; or holds such a folder, or cells/stp.
    spacing_um : (z, y, x)
        cellfinder's files do not say; 5 x 2 x 2 is that of its own example.
    cells : path, optional
        Another file of cells, of any format of `brodmann.io.points`; a name within the folder or
        a path.
    first_plane : int
        Number in the cells' own count of the volume's first plane, where it was cut out of a
        larger one: 4 for cells/stp.
    background : bool
        Read the second channel too.
    only_cells : bool
        Leave out what cellfinder holds for no cell (type 1), if the file has both kinds.

    Returns
    -------
    Dataset
        One sample, "czyx" (signal, background) or "zyx", in the split "test"; points have the
        column `type` (2 cell, 1 none). Without a file of cells it has no points.

    Raises
    ------
    DataError
        If a channel is missing, planes are missing or differ, or a cell is outside the volume.
    RecipeError
        If an option does not fit.

    Source: Tyson et al. 2021 (cellfinder).

    Example
    -------
    >>> brain = cellfinder("data", first_plane=4)["stp"]  # doctest: +SKIP
    >>> brain.image.channels, len(brain.points)  # doctest: +SKIP
    (('signal', 'background'), 56)
    """
    steps = tuple(float(step) for step in spacing_um)
    if len(steps) != 3 or not all(0 < step < float("inf") for step in steps):
        raise RecipeError("spacing is three lengths in um", "data.spacing_um", list(spacing_um))
    if isinstance(first_plane, bool) or not isinstance(first_plane, int):
        raise RecipeError("a plane has a whole number", "data.first_plane", first_plane)
    wanted = CHANNELS if background else CHANNELS[:1]
    folder, paths = _find(Path(root), wanted)
    opened = [_open(path, steps) for path in paths]
    shapes = {f"{v.shape} {v.dtype}" for v in opened}
    if len(shapes) > 1:
        raise DataError("signal and background differ in shape or type", folder, sorted(shapes))
    table = _cells(folder, cells)
    name = folder.resolve().name
    return Dataset(
        "cellfinder",
        [name],
        _Brain(tuple(map(str, paths)), steps, table, first_plane, only_cells),
        None,
        {name: name},
        {"test": [name]},
        "BSD-3 (its example)",
        "Tyson et al. 2021, PLoS Comput Biol 17:e1009074 (cellfinder)",
        "Cells in whole-brain microscopy, signal and background",
    )


def _find(root: Path, wanted: Sequence[str]) -> tuple[Path, list[Path]]:
    places = [root / place for place in PLACES]
    if root.is_dir():
        places += sorted(folder for folder in root.iterdir() if folder.is_dir())
    for folder in places:
        found = [_channel(folder, channel) for channel in wanted]
        if all(path is not None for path in found):
            return folder, [path for path in found if path is not None]
        if any(path is not None for path in found):
            lost = wanted[found.index(None)]
            raise DataError(
                f"the channel {lost!r} is missing",
                folder,
                fix="add it, or set data.background=false" if lost == CHANNELS[1] else "add it",
            )
    raise DataError(
        "no such file",
        root / "signal",
        fix="set data.root to the folder that holds signal (planes or a file) and background",
    )


def _channel(folder: Path, name: str) -> Path | None:
    if (folder / name).is_dir():
        return folder / name
    files = sorted(file for file in folder.glob(f"{name}.*") if not file.name.endswith(".xml"))
    return files[0] if files else None


def _open(path: Path, steps: tuple[float, ...], look: bool = True) -> Volume:
    if path.is_dir() and path.suffix != ".zarr":
        return read_planes(path, steps, look=look)
    return with_spacing(read_volume(path, axes="zyx", spacing=steps), steps)


def _cells(folder: Path, given: str | Path | None) -> str:
    if given is not None:
        for path in (folder / given, Path(given)):
            if path.exists():
                return str(path)
        raise DataError("no such file of cells", folder / given, fix="check data.cells")
    return next((str(folder / name) for name in CELLS if (folder / name).is_file()), "")


@dataclass(frozen=True)
class _Brain:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    paths: tuple[str, ...]
    steps: tuple[float, ...]
    cells: str
    first_plane: int
    only_cells: bool

    def __call__(self, name: str) -> Sample:
        image = _open(Path(self.paths[0]), self.steps, False)
        if len(self.paths) > 1:
            data = LazyArray(
                partial(_Together, self.paths, self.steps),
                Path(self.paths[0]).parent,
                (len(self.paths), *image.shape),
                image.dtype,
                keep_open=False,
            )
            image = Volume(data, "czyx", self.steps, CHANNELS)
        points = self._points(image.spatial_shape) if self.cells else None
        meta = {"marker": "signal", "first_plane": self.first_plane}
        return Sample(name, image, points=points, meta=meta)

    def _points(self, shape: tuple[int, ...]) -> Points:
        table = read_points(self.cells).table
        if self.only_cells and "type" in table and (table["type"] == CELL).any():
            table = table[table["type"] == CELL]
        points = Points(table.assign(z=table["z"] - self.first_plane), self.cells)
        beyond = outside(points, shape)
        if beyond.any():
            raise DataError(
                f"{int(beyond.sum())} of {len(points)} cells are outside the volume {shape}",
                self.cells,
                points.coordinates[beyond][0].tolist(),
                "set data.first_plane if the volume was cut out of a larger one",
            )
        return points


@dataclass(frozen=True)
class _Together:
    """Channels as one array that takes four slices; each is read when asked for."""

    paths: tuple[str, ...]
    steps: tuple[float, ...]

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        channels, *space = window
        parts = [_open(Path(path), self.steps, False) for path in self.paths[channels]]
        return np.stack([np.asarray(part.data[tuple(space)]) for part in parts])
