"""Small cubes about candidates, by which a person or a classifier tells cells from others.

The folder is that of cellfinder's training data: a TIFF for each cube and channel, named by
the place of its candidate, and a training.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, Points, RecipeError, Volume
from brodmann.core.files import make_folder
from brodmann.io.ngff import folder_beside
from brodmann.io.points import outside, read_points, write_points
from brodmann.io.points.cellfinder import CELL, types_of
from brodmann.io.raw import check_file, reading
from brodmann.io.sampling import sample_about

CROP_SHAPE = (8, 32, 32)
"""As the CANVAS paper shows candidates to annotators."""
YAML, TABLE = "training.yaml", "crops.csv"
FOLDERS = {1: "cells", 0: "non_cells", -1: "candidates"}
"""Label -> folder; -1 stands for candidates that nobody has judged."""
TYPES = {1: "cell", 0: "no_cell"}
NAME = re.compile(r"z(\d+)_?y(\d+)_?x(\d+)_?ch(\d)\.tif$", re.IGNORECASE)
Section = tuple[Path, int, list[int] | None, set[tuple[int, ...]] | None]
"""Folder, label, channels (None: all there are), places (None: all there are)."""
MAX_YAML_BYTES = 2**22
MOST_CHANNELS = 10
"""cellfinder's names have one digit for the channel."""


def cut_crops(
    points: Points,
    volumes: Sequence[Volume],
    *,
    shape: Sequence[int] = CROP_SHAPE,
    spacing: Sequence[float] | None = None,
) -> Iterator[np.ndarray]:
    """Cut a cube about each point, from each volume, in the order of the points.

    Parameters
    ----------
    points : Points
        In voxels of the volumes, z, y, x; a point lies at voxel n // 2 of its cube.
    volumes : sequence of Volume
        Channels on one grid: signal first, then background. Only what cubes need is read.
    shape : (z, y, x)
        Voxels of a cube.
    spacing : (z, y, x), optional
        Micrometres of a cube's voxels; the volumes' own by default, so that nothing is
        interpolated. Otherwise values are averaged where a cube is coarser and interpolated
        linearly. Beyond its borders a volume is continued by reflection.

    Yields
    ------
    (channels, z, y, x) array
        Of the volumes' type.

    Raises
    ------
    DataError
        If volumes differ in grid or type, or a point lies outside them.
    RecipeError
        If shape or spacing are no three positive numbers.
    """
    first, size, steps = _checked(points, volumes, shape, spacing)
    for at in points.coordinates:
        cube = [
            sample_about(volume, at, size, steps / np.array(first.spacing)) for volume in volumes
        ]
        yield np.stack(cube).astype(first.dtype, copy=False)


def _checked(
    points: Points, volumes: Sequence[Volume], shape: Sequence[int], spacing: Sequence[float] | None
) -> tuple[Volume, tuple[int, ...], np.ndarray]:
    size = tuple(int(n) for n in shape)
    if len(size) != 3 or min(size) < 1 or any(int(n) != n for n in shape):
        raise RecipeError("a cube's shape is three whole numbers (z, y, x)", "shape", tuple(shape))
    if not 1 <= len(volumes) <= MOST_CHANNELS:
        raise RecipeError(f"cubes have 1 to {MOST_CHANNELS} channels", "volumes", len(volumes))
    first = volumes[0]
    for number, volume in enumerate(volumes):
        if volume.axes != "zyx":
            raise DataError("cubes are cut from volumes 'zyx'", f"channel {number}", volume.axes)
        same = volume.shape == first.shape and volume.dtype == first.dtype
        if not same or not np.allclose(volume.spacing, first.spacing, rtol=0.01):
            raise DataError(
                "signal and background differ in grid or type",
                f"channel {number}",
                f"{volume.shape} {volume.dtype} {volume.spacing} um, "
                f"channel 0 {first.shape} {first.dtype} {first.spacing} um",
            )
    steps = np.array(first.spacing if spacing is None else tuple(spacing), float)
    if steps.shape != (3,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise RecipeError("a cube's spacing is three positive numbers", "spacing", spacing)
    if points.axes != "zyx":
        raise DataError("cubes need points with z, y and x", found=repr(points.axes))
    beyond = outside(points, first.shape)
    if beyond.any():
        row = int(np.argmax(beyond))
        raise DataError(
            f"{int(beyond.sum())} of {len(points)} points lie outside the volume {first.shape}",
            f"point {row + 1}",
            points.coordinates[row].tolist(),
        )
    return first, size, steps


def write_crops(
    folder: str | Path,
    points: Points,
    volumes: Sequence[Volume],
    *,
    shape: Sequence[int] = CROP_SHAPE,
    spacing: Sequence[float] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write cubes as cellfinder's training data, whole or not at all.

    ::

        cells/pCellz10y522x392Ch0.tif      (z, y, x): Ch0 signal, Ch1 background
        non_cells/...
        training.yaml                      what cellfinder_train takes
        crops.csv                          every point with its digits, label and other columns

    Candidates without a column `label` (1 cell, 0 none) or `type` (2, 1) go to candidates/,
    and there is no training.yaml. Points that share a voxel share a cube.

    Parameters
    ----------
    folder : str or Path
        New, empty, or crops written before, which are replaced.
    points, volumes, shape, spacing
        As for `cut_crops`. cellfinder's own network wants 20 x 50 x 50 voxels of 5 x 1 x 1 um.
    report : callable
        Called with cubes done and all cubes.

    Raises
    ------
    OutputError
        If something else is in the folder, one place is both cell and none, or the disk is full.
    DataError, RecipeError
        As for `cut_crops`.

    Source: cellfinder, napari/curation and core/train.
    """
    import tifffile

    folder = Path(folder)
    _checked(points, volumes, shape, spacing)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TABLE).is_file():
        raise OutputError("something else is in this folder", folder, fix="choose a new one")
    labels = _labels(points, folder)
    most = np.array(volumes[0].shape) - 1
    places = np.floor(points.coordinates + 0.5).astype(np.int64).clip(0, most)
    kept: dict[tuple[int, ...], int] = {}
    for row, place in enumerate(map(tuple, places.tolist())):
        before = kept.setdefault(place, row)
        if labels[before] != labels[row]:
            raise OutputError(
                "one place is both a cell and none", folder, place, "keep one of the two"
            )
    rows = sorted(kept.values())
    make_folder(folder.parent)
    with folder_beside(folder) as beside:
        for label in sorted(set(labels.tolist()) | ({0, 1} if (labels >= 0).all() else set())):
            (beside / FOLDERS[label]).mkdir(parents=True)
        chosen = Points(points.table.iloc[rows])
        cubes = cut_crops(chosen, volumes, shape=shape, spacing=spacing)
        for done, (row, cube) in enumerate(zip(rows, cubes), start=1):
            z, y, x = places[row]
            for channel, values in enumerate(cube):
                name = f"pCellz{z}y{y}x{x}Ch{channel}.tif"
                path = beside / FOLDERS[int(labels[row])] / name
                tifffile.imwrite(path, values, photometric="minisblack")
            report(done, len(rows))
        table = points.table.drop(columns=["type"], errors="ignore")
        if (labels >= 0).all():
            table = table.assign(label=labels)
            text = _yaml(folder.resolve(), len(volumes))
            (beside / YAML).write_text(text, encoding="utf-8")
        write_points(Points(table), beside / TABLE)
    return folder


def _labels(points: Points, where: Path) -> np.ndarray:
    if not {"label", "type"} & set(points.table.columns):
        return np.full(len(points), -1)
    types = types_of(points, where)
    if not np.isin(types, (1, CELL)).all():
        raise OutputError(
            "types are 2 (cell) and 1 (none)", where, sorted(set(types.tolist()) - {1, CELL})
        )
    return (types == CELL).astype(np.int64)


def _yaml(folder: Path, channels: int) -> str:
    import yaml

    sections = [
        {
            "cube_dir": str(folder / FOLDERS[label]),
            "cell_def": "",
            "type": kind,
            "signal_channel": 0,
            "bg_channel": 1 if channels > 1 else -1,
        }
        for label, kind in TYPES.items()
    ]
    return yaml.safe_dump({"data": sections}, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True, eq=False)
class Crops:
    """Cubes on disk, read one at a time.

    Attributes
    ----------
    points : Points
        z, y, x in whole voxels as the names say, `label` 1 cell, 0 none, -1 unknown.
    files : tuple of tuples of Path
        One for each channel of each cube.
    """

    points: Points
    files: tuple[tuple[Path, ...], ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64: 1 cell, 0 none, -1 unknown."""
        return self.points.table["label"].to_numpy(dtype=np.int64)

    def __getitem__(self, number: int) -> np.ndarray:
        """The cube (channels, z, y, x) with this number."""
        import tifffile

        channels: list[np.ndarray] = []
        for file in self.files[number]:
            with reading(check_file(file)):
                values = np.asarray(tifffile.imread(file))
            if values.ndim != 3 or (channels and values.shape != channels[0].shape):
                raise DataError(
                    "cubes have three axes, and one shape in all channels", file, values.shape
                )
            channels.append(values)
        return np.stack(channels)


def read_crops(path: str | Path) -> Crops:
    """Open cubes that cellfinder or `write_crops` wrote; pixels are read when cubes are.

    Parameters
    ----------
    path : str or Path
        A training.yaml, a folder that holds one, a folder with cells/ and non_cells/ or
        candidates/, or a folder of cubes. A `cube_dir` that is not there any more is looked
        for beside the yaml.

    Raises
    ------
    DataError
        If there are no cubes, a channel of one is missing, or the yaml is not what cellfinder
        takes.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("no such file", path, fix="check the path")
    if path.is_dir() and (path / YAML).is_file():
        path = path / YAML
    parts: list[Section]
    if path.is_file():
        parts = [_section(path, number, one) for number, one in enumerate(_sections(path))]
    else:
        parts = [
            (path / name, label, None, None)
            for label, name in FOLDERS.items()
            if (path / name).is_dir()
        ] or [(path, -1, None, None)]
    found: list[tuple[tuple[int, ...], int, tuple[Path, ...]]] = []
    for folder, label, channels, only in parts:
        for place, files in _cubes(folder, channels).items():
            if only is None or place in only:
                found.append((place, label, files))
    if not found:
        raise DataError("there are no cubes", path, fix="they are named pCellz1y2x3Ch0.tif")
    import pandas as pd

    found.sort(key=lambda one: (one[0], one[1]))
    table = pd.DataFrame([place for place, _, _ in found], columns=list("zyx"), dtype=np.float64)
    table["label"] = [label for _, label, _ in found]
    return Crops(Points(table, str(path)), tuple(files for _, _, files in found))


def _cubes(folder: Path, channels: Sequence[int] | None) -> dict[tuple[int, ...], tuple[Path, ...]]:
    """Place -> the files of its channels, all there."""
    names: dict[tuple[int, ...], dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        match = NAME.search(file.name)
        if match and not file.name.startswith("."):
            z, y, x, channel = map(int, match.groups())
            names.setdefault((z, y, x), {})[channel] = file
    if channels is None:
        channels = sorted({channel for files in names.values() for channel in files})
    for place, files in names.items():
        for channel in channels:
            if channel not in files:
                raise DataError(
                    f"channel {channel} of a cube is missing",
                    folder,
                    f"z, y, x = {place}",
                    "export it again, or take the others of its cube away",
                )
    return {place: tuple(files[c] for c in channels) for place, files in names.items()}


def _sections(path: Path) -> list[Any]:
    import yaml

    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ValueError("the file is longer than 4 MiB")
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict) or not isinstance(given.get("data"), list):
            raise ValueError("a key 'data' with a list is expected")
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())[:160]
        raise DataError("this is no training.yaml of cellfinder", path, found) from None
    return given["data"]


def _section(path: Path, number: int, given: Any) -> Section:
    where = f"{path}, data[{number}]"
    if not isinstance(given, dict) or not isinstance(given.get("cube_dir"), str):
        raise DataError("a section needs a cube_dir", where, given)
    label = {kind: label for label, kind in TYPES.items()}.get(given.get("type", ""))
    if label is None:
        raise DataError("type is cell or no_cell", where, given.get("type"))
    channels = [given.get("signal_channel"), given.get("bg_channel", -1)]
    if not all(isinstance(c, int) and not isinstance(c, bool) and c < 10 for c in channels):
        raise DataError("signal_channel and bg_channel are single digits", where, channels)
    folder = _beside(path, given["cube_dir"])
    if not folder.is_dir():
        raise DataError("cube_dir is not there", where, given["cube_dir"])
    only = None
    if given.get("cell_def"):
        place = _beside(path, str(given["cell_def"]))
        if place.is_dir():
            only = set(_cubes(place, ()))
        else:
            only = {tuple(p) for p in read_points(place).coordinates.astype(int).tolist()}
    return folder, label, [c for c in channels if c >= 0], only


def _beside(path: Path, given: str) -> Path:
    place = path.parent / given
    return place if place.exists() else path.parent / Path(given).name
