"""CANVAS: whole mouse brains in light-sheet microscopy, six markers, cells of some regions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, Dataset, Points, RecipeError, Sample, Volume, nearest
from brodmann.datasets.em.windows import Box, Lazy
from brodmann.io.planes import read_planes
from brodmann.io.points import outside, read_points

MARKERS = ("NeuN", "cFos", "PV", "TH", "Iba1", "GFAP")
SPACING_UM = (4.0, 1.8, 1.8)
REGION = re.compile(r"(.+)_region(\d+)_gt\.csv$", re.IGNORECASE)
BOXES = "regions.csv"
CORNERS = tuple(f"{axis}{side}" for axis in "zyx" for side in (0, 1))
MARGIN_UM = 32.0
"""About a crop of the annotators beyond the outermost cells."""
MOST_REGIONS = 10_000


@dataclass(frozen=True)
class Brain:
    """One folder MARKER_BRAIN of the tree."""

    name: str
    marker: str
    folder: Path
    image: Path


@dataclass(frozen=True)
class Region:
    """One table of cells: its brain, its number and the folder (TRAIN or TEST) it is in."""

    name: str
    brain: str
    number: int
    side: str
    file: Path


def canvas(
    root: str | Path,
    markers: Sequence[str] | None = None,
    test: Sequence[int] = (3,),
    unit: str = "voxel",
    origin: str = "brain",
    boxes: str | Path | None = None,
    brains: bool = False,
    spacing_um: Sequence[float] = SPACING_UM,
    channel: str | None = None,
) -> Dataset:
    """The annotated regions of one or more brains, cut out of planes that are read by window.

    ::

        MARKER_BRAIN/image/*.tiff                                  planes, numbered by depth
        MARKER_BRAIN/label/TRAIN/MARKER_BRAIN_region1_gt.csv       header; z,y,x in any order
        MARKER_BRAIN/label/TEST/...                                not public; read if there
        regions.csv                                                brain,region,z0,z1,y0,y1,x0,x1

    The tables' header and the regions' boxes are not published. A table needs a header. A box
    is [z0, z1) and so on in voxels of the brain; without regions.csv (in `root`, or `boxes`) a
    region's box reaches 32 um beyond its outermost cells, `meta` says "box_from": "cells", and
    such boxes miss what is found further out.

    Parameters
    ----------
    root : str or Path
        Holds folders MARKER_BRAIN, or is one. `label` may lie in the brain's folder or in `root`.
    markers : sequence of str, optional
        NeuN, cFos, PV, TH, Iba1, GFAP; all that are there by default.
    test : sequence of int
        Numbers of the public regions that test; the others train. If label/TEST is there, its
        regions are the test, and those named here stand in the split "tune".
    unit : "voxel" or "um"
        Of the tables.
    origin : "brain" or "box"
        Where the tables count from; "box" needs regions.csv.
    boxes : path, optional
        Another place of regions.csv.
    brains : bool
        Whole brains too, without points, in the split "brains".
    spacing_um : (z, y, x)
        As the paper states it.
    channel : str, optional
        Takes the planes with this word in their name, such as "ch2".

    Returns
    -------
    Dataset
        Names "IBA1_brain_11_region1" (and "IBA1_brain_11"); image "zyx", points in voxels of the
        region's box; `subject` is the brain; `meta` holds marker, region, box and box_from.

    Raises
    ------
    DataError
        If the tree is another, a plane is missing or of another size, or a table has no header;
        names the lines of rows that are no numbers, not finite or outside.
    RecipeError
        If an option does not fit.

    Source: CANVAS, arXiv:2603.29842, section 6.4.

    Example
    -------
    >>> data = canvas("data/canvas", ["Iba1"])  # doctest: +SKIP
    >>> data.splits["test"]  # doctest: +SKIP
    ['IBA1_brain_11_region3']
    """
    steps = tuple(float(step) for step in spacing_um)
    if len(steps) != 3 or not all(0 < step < float("inf") for step in steps):
        raise RecipeError("spacing is three lengths in um", "data.spacing_um", list(spacing_um))
    if origin not in ("brain", "box"):
        raise RecipeError("tables count from the brain or the box", "data.origin", repr(origin))
    if not isinstance(test, list | tuple) or not all(type(n) is int for n in test):
        raise RecipeError("regions are a list of numbers", "data.test", test)
    root = Path(root)
    found = find_brains(root, markers)
    regions = [region for brain in found for region in find_regions(root, brain)]
    place = Path(boxes) if boxes is not None else root / BOXES
    table = read_boxes(place) if boxes is not None or place.is_file() else {}
    if origin == "box" and not table:
        raise RecipeError(
            "tables that count from the box need to know the boxes",
            "data.origin",
            fix=f"write {BOXES}: brain,region,{','.join(CORNERS)}",
        )
    shapes = {}
    loaders: dict[str, Any] = {}
    for brain in found:
        volume = read_planes(brain.image, steps, channel=channel)
        shapes[brain.name] = volume.shape
        if brains:
            loaders[brain.name] = (brain, volume, None, None, "")
    by_name = {brain.name: brain for brain in found}
    splits = _splits(regions, test)
    kept = {name for members in splits.values() for name in members}
    for region in regions:
        if region.name not in kept:
            continue
        brain, shape = by_name[region.brain], shapes[region.brain]
        volume = read_planes(brain.image, steps, channel=channel, look=False)
        box, points, said = _region(region, table, shape, steps, unit, origin)
        loaders[region.name] = (brain, volume, box, points, said)
    if brains:
        splits["brains"] = [brain.name for brain in found]
    return Dataset(
        "canvas",
        list(loaders),
        _Regions(loaders, {region.name: region.number for region in regions}),
        None,
        {name: made[0].name for name, made in loaders.items()},
        splits,
        "see LICENSE.md of the set",
        "CANVAS, arXiv:2603.29842",
        "Cells in regions of whole mouse brains, light-sheet microscopy",
    )


def find_brains(root: Path, markers: Sequence[str] | None = None) -> list[Brain]:
    """The folders MARKER_BRAIN with planes, of some or all markers.

    Raises
    ------
    DataError
        If there are none, or one has no folder `image`.
    RecipeError
        On an unknown marker.
    """
    known = {marker.lower(): marker for marker in MARKERS}
    if markers is not None:
        if not isinstance(markers, list | tuple) or not markers:
            raise RecipeError("markers are a list of names", "data.markers", markers)
        for marker in markers:
            if str(marker).lower() not in known:
                raise RecipeError(
                    "no such marker", "data.markers", repr(marker), nearest(str(marker), MARKERS)
                )
    wanted = set(known) if markers is None else {str(marker).lower() for marker in markers}
    if not root.is_dir():
        raise DataError("no such folder", root, fix="check data.root")
    inside = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    places = [root] if (root / "image").is_dir() else inside
    brains = []
    for folder in places:
        marker, _, rest = folder.resolve().name.partition("_")
        if marker.lower() not in known or not rest:
            continue
        if not (folder / "image").is_dir():
            raise DataError("a brain has no folder of planes", folder / "image", fix="unpack it")
        if marker.lower() in wanted:
            name = folder.resolve().name
            brains.append(Brain(name, known[marker.lower()], folder, folder / "image"))
    if not brains:
        raise DataError(
            "there are no brains of these markers",
            root,
            ", ".join(folder.name for folder in inside[:5]) or "an empty folder",
            "folders are named MARKER_BRAIN, such as IBA1_brain_11, and hold image/",
        )
    return brains


def find_regions(root: Path, brain: Brain) -> list[Region]:
    """The tables of a brain, in label/TRAIN and label/TEST of its folder or of `root`."""
    regions = []
    for side in ("TRAIN", "TEST"):
        for place in dict.fromkeys((brain.folder / "label" / side, root / "label" / side)):
            for file in sorted(place.glob("*.csv")) if place.is_dir() else ():
                match = REGION.match(file.name)
                if match is None:
                    raise DataError(
                        "tables are named MARKER_BRAIN_region1_gt.csv", file, fix="rename it"
                    )
                # In the brain's own folder the name may be shorter; elsewhere it must tell.
                own = place.is_relative_to(brain.folder)
                if own or match.group(1).lower() == brain.name.lower():
                    number = int(match.group(2))
                    name = f"{brain.name}_region{number}"
                    regions.append(Region(name, brain.name, number, side, file))
    names = [region.name for region in regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError("a region has two tables", brain.folder, ", ".join(twice))
    if not regions:
        raise DataError(
            "a brain has no tables of cells",
            brain.folder / "label" / "TRAIN",
            fix=f"they are named {brain.name}_region1_gt.csv",
        )
    return regions


def read_boxes(path: Path) -> dict[tuple[str, int], Box]:
    """Boxes of regions: (brain in lower case, number) -> ((z0, z1), (y0, y1), (x0, x1)).

    Raises
    ------
    DataError
        Names the line of the first row that is no box.
    """
    import csv

    boxes: dict[tuple[str, int], Box] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            missing = {"brain", "region", *CORNERS} - set(reader.fieldnames)
            if missing:
                raise DataError(
                    f"boxes need columns {', '.join(sorted(missing))}", path, reader.fieldnames
                )
            for row in reader:
                if len(boxes) >= MOST_REGIONS:
                    raise DataError("there are too many boxes", path, len(boxes))
                where = f"{path} line {reader.line_num}"
                try:
                    ends = [int(row[corner]) for corner in CORNERS]
                    number = int(str(row["region"]).lower().removeprefix("region"))
                except (TypeError, ValueError):
                    raise DataError(
                        "a box is whole numbers", where, list(row.values())[:8]
                    ) from None
                box: Box = ((ends[0], ends[1]), (ends[2], ends[3]), (ends[4], ends[5]))
                if any(not 0 <= low < high for low, high in box):
                    raise DataError("a box is empty", where, box)
                boxes[str(row["brain"]).strip().lower(), number] = box
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("cannot read the boxes", path, error) from None
    return boxes


def _region(
    region: Region,
    table: Mapping[tuple[str, int], Box],
    shape: tuple[int, ...],
    steps: tuple[float, ...],
    unit: str,
    origin: str,
) -> tuple[Box, Points, str]:
    """The box of a region, its cells counted from there, and where the box is from."""
    box = table.get((region.brain.lower(), region.number))
    if box is None and table:
        raise DataError("a region has no box", region.file, fix=f"add it to {BOXES}")
    if box is not None and any(high > n for (_, high), n in zip(box, shape)):
        raise DataError("a box is outside its brain", region.name, box, f"its shape is {shape}")
    bounds = shape if box is None or origin == "brain" else tuple(b - a for a, b in box)
    points = read_points(region.file, unit=unit, spacing=steps, shape=bounds)
    said = "table"
    if box is None:
        box, said = _around(points.coordinates, shape, steps), "cells"
    if origin == "brain":
        moved = points.coordinates - [low for low, _ in box]
        cells = points.table.assign(**{axis: moved[:, i] for i, axis in enumerate("zyx")})
        points = Points(cells, str(region.file))
        beyond = outside(points, [high - low for low, high in box])
        if beyond.any():
            raise DataError(
                f"{int(beyond.sum())} of {len(points)} cells are outside their region's box",
                region.file,
                f"{(points.coordinates[beyond][0] + [low for low, _ in box]).tolist()}, box {box}",
                "set data.origin=box if the table counts from there",
            )
    return box, points, said


def _around(at: np.ndarray, shape: tuple[int, ...], steps: tuple[float, ...]) -> Box:
    if not len(at):
        return tuple((0, n) for n in shape)  # type: ignore[return-value]
    margin = MARGIN_UM / np.array(steps)
    low = np.floor(at.min(axis=0) - margin).clip(0).astype(int)
    high = np.minimum(np.ceil(at.max(axis=0) + margin).astype(int) + 1, shape)
    return tuple((int(a), int(b)) for a, b in zip(low, high))  # type: ignore[return-value]


def _splits(regions: Sequence[Region], test: Sequence[int]) -> dict[str, list[str]]:
    numbers = sorted({region.number for region in regions if region.side == "TRAIN"})
    unknown = sorted(set(test) - set(numbers))
    if unknown:
        raise RecipeError("no such public region", "data.test", unknown, f"known: {numbers}")
    hidden = [region.name for region in regions if region.side == "TEST"]
    public = [region for region in regions if region.side == "TRAIN"]
    train = [region.name for region in public if region.number not in test]
    held = [region.name for region in public if region.number in test]
    if hidden:
        return {"train": train, **({"tune": held} if held else {}), "test": hidden}
    return {"train": train, "test": held}


@dataclass(frozen=True)
class _Regions:
    """Name -> Sample; a plain object, so that worker processes can be handed it."""

    made: Mapping[str, Any]
    numbers: Mapping[str, int]

    def __call__(self, name: str) -> Sample:
        brain, volume, box, points, said = self.made[name]
        meta: dict[str, Any] = {"marker": brain.marker}
        if box is None:
            return Sample(name, volume, meta=meta)
        meta |= {
            "region": self.numbers[name],
            "box": {axis: list(span) for axis, span in zip("zyx", box)},
            "box_from": said,
        }
        image = Volume(Lazy(volume.data, box), "zyx", volume.spacing)
        return Sample(name, image, points=points, meta=meta)
