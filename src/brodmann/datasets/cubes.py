"""Cubes cut from a larger volume, and datasets of their slices: region, microstructure, measures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.core import (
    DataError,
    Dataset,
    Label,
    LabelMap,
    RecipeError,
    Volume,
    check_same_grid,
)
from brodmann.datasets.cube_slices import Piece, Slices

ANSWERS = ("category", "labels", "attributes")
TRUTHS = ("cube", "channel")
MICROSTRUCTURE = LabelMap(
    [
        Label(1, "Blood vessel", "vessel", None, "D7301F"),
        Label(2, "Cell", "cell", None, "E8C547"),
        Label(3, "Myelinated axon", "axon", None, "35B7C6"),
    ]
)
"""Section 3.2 of the MTNeuro paper; the colours are those of its Figure 3."""


@dataclass(frozen=True, eq=False)
class Cube:
    """A block of a volume with whatever is known of it, all on one grid.

    Parameters
    ----------
    name : str
        Such as "ctx-A".
    region : str
        Where it was cut from, such as "CTX".
    image : Volume
        "zyx", any array-like; read slice by slice.
    regions : Volume, optional
        Ids of the volume's region channel, 0 where it says nothing.
    microstructure : Volume, optional
        Ids of the microstructure LabelMap.
    origin : tuple of int
        First voxel (z, y, x) in the whole volume.

    Raises
    ------
    DataError
        On other axes, a label volume on another grid, or a negative origin.

    Example
    -------
    >>> image = Volume(np.zeros((6, 8, 8), np.uint8), "zyx", (1.17, 1.17, 1.17))
    >>> Cube("ctx-A", "CTX", image, origin=(110, 900, 4600)).z_range
    (110, 116)
    """

    name: str
    region: str
    image: Volume
    regions: Volume | None = None
    microstructure: Volume | None = None
    origin: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        for volume in (self.image, self.regions, self.microstructure):
            if volume is not None and volume.axes != "zyx":
                raise DataError("a cube has axes zyx", self.name, repr(volume.axes))
        for labels in (self.regions, self.microstructure):
            if labels is not None:
                check_same_grid(self.image, labels, self.name)
        if len(self.origin) != 3 or min(self.origin) < 0:
            raise DataError("a cube's origin is (z, y, x) from 0", self.name, self.origin)

    @property
    def z_range(self) -> tuple[int, int]:
        """Its slices in the whole volume, half-open."""
        return self.origin[0], self.origin[0] + self.image.shape[0]

    def read(self, volume: Volume, start: int, stop: int) -> np.ndarray:
        """Slices of one of its volumes, by their place in the whole volume; (z, y, x).

        Raises
        ------
        DataError
            If the cube does not hold them all.
        """
        first, end = self.z_range
        if not first <= start < stop <= end:
            raise DataError(
                "slices past the end of the cube",
                self.name,
                f"[{start}, {stop})",
                f"it holds [{first}, {end})",
            )
        return volume.read((slice(start - first, stop - first), slice(None), slice(None)))[0]


@dataclass(frozen=True)
class Box:
    """Slices of one cube: half-open, in the whole volume's z.

    Example
    -------
    >>> Box("ctx-A", (110, 379)).slices
    269
    """

    cube: str
    z: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "z", tuple(self.z))
        whole = len(self.z) == 2 and all(
            isinstance(v, int | np.integer) and not isinstance(v, bool) for v in self.z
        )
        if not whole or not 0 <= self.z[0] < self.z[1]:
            raise RecipeError(
                "a box is [first slice, end), with at least one slice", self.cube, list(self.z)
            )

    @property
    def slices(self) -> int:
        return self.z[1] - self.z[0]


def as_parts(parts: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Box, ...]]:
    """Parts as a recipe writes them, ``{part: [{cube: ctx-A, z: [110, 379]}, ...]}``, as boxes.

    Raises
    ------
    RecipeError
        If a box is not written so.

    Example
    -------
    >>> as_parts({"train": [{"cube": "ctx-A", "z": [110, 379]}]})
    {'train': (Box(cube='ctx-A', z=(110, 379)),)}
    """
    found: dict[str, tuple[Box, ...]] = {}
    if not isinstance(parts, Mapping) or not parts:
        raise RecipeError("parts are {part: [{cube, z}, ...]}", "parts", repr(parts)[:80])
    for part, boxes in parts.items():
        if isinstance(boxes, str | Mapping) or not isinstance(boxes, Sequence) or not boxes:
            raise RecipeError("a part is a list of boxes", f"parts.{part}", repr(boxes)[:80])
        read = []
        for box in boxes:
            if isinstance(box, Box):
                read.append(box)
            elif (
                isinstance(box, Mapping)
                and set(box) == {"cube", "z"}
                and isinstance(box["z"], Sequence)
                and not isinstance(box["z"], str)
            ):
                read.append(Box(str(box["cube"]), tuple(box["z"])))
            else:
                raise RecipeError(
                    "a box is {cube: NAME, z: [first, end]}", f"parts.{part}", repr(box)[:80]
                )
        found[str(part)] = tuple(read)
    return found


def check_apart(
    parts: Mapping[str, Sequence[Box]], guard: int, between: Sequence[tuple[str, str]] | None = None
) -> None:
    """Prove that no two parts share a slice of a cube, nor come nearer than `guard` slices.

    `between` names the pairs of parts to look at; all pairs unless given.

    Raises
    ------
    RecipeError
        Names the two boxes.

    Example
    -------
    >>> parts = {"train": [Box("a", (0, 10))], "test": [Box("a", (15, 20))]}
    >>> check_apart(parts, 5)
    """
    for one, other in between if between is not None else itertools.combinations(parts, 2):
        for a, b in itertools.product(parts[one], parts[other]):
            gap = max(a.z[0], b.z[0]) - min(a.z[1], b.z[1])
            if a.cube == b.cube and gap < guard:
                raise RecipeError(
                    f"parts {one!r} and {other!r} are fewer than {guard} slices apart",
                    a.cube,
                    f"{list(a.z)} and {list(b.z)}",
                    "leave a gap, since neighbouring slices look alike",
                )


def microstructure_classes(classes: int) -> tuple[LabelMap, dict[int, int]]:
    """The label map of the 3- or 4-class task, and what becomes of an id (others stay).

    Four classes are background, vessel, cell and axon. Three are vessel, cell and the rest:
    axons are background.

    Raises
    ------
    RecipeError
        On another number.

    Source: MTNeuro, section 3.3.2.

    Example
    -------
    >>> label_map, mapping = microstructure_classes(3)
    >>> label_map.class_names, mapping
    (['background', 'vessel', 'cell'], {3: 0})
    """
    if classes not in (3, 4):
        raise RecipeError("microstructure has 3 or 4 classes", "classes", classes)
    if classes == 4:
        return MICROSTRUCTURE, {}
    return LabelMap([label for label in MICROSTRUCTURE if label.acronym != "axon"]), {3: 0}


def cube_dataset(
    name: str,
    cubes: Mapping[str, Callable[[], Cube]],
    parts: Mapping[str, Sequence[Box]],
    *,
    answer: str,
    label_map: LabelMap | None = None,
    mapping: Mapping[int, int] | None = None,
    depth: int = 1,
    across: bool = False,
    truth: str = "cube",
    codes: Mapping[int, str] | None = None,
    attributes_version: str = "v2",
    size: int | None = None,
    downsample: int = 1,
    licence: str = "",
    citation: str = "",
    description: str = "",
) -> Dataset:
    """Slices (or stacks of slices) of cubes, with the region, the labels or the measures of each.

    Samples are named "ctx-A-z0110", stacks "ctx-A-z0110-0117" (first and last slice). Their
    subject is the cube, `meta` holds cube, region and z (the first slice). `category` is always
    there; `labels` with `answer="labels"`, `attributes` with `answer="attributes"`. Pixels are
    read when a sample is asked for, and only its slices.

    Parameters
    ----------
    name : str
    cubes : mapping of str to callable
        Name -> what opens the cube; called when first needed, once in a process. Must be
        picklable where worker processes load samples.
    parts : mapping of str to sequence of Box
        Become the splits. A slice may stand in several parts (see `check_apart`).
    answer : str
        "category", "labels" or "attributes".
    label_map : LabelMap, optional
        Of the microstructure; needed unless `answer` is "category". Attributes find vessels,
        cells and axons by the acronyms "vessel", "cell" and "axon".
    mapping : mapping of int to int, optional
        Stored id -> id of the label map, such as {3: 0} (`microstructure_classes`).
    depth : int
        Slices a sample; with 1 it is "yx", else "zyx". Stacks do not overlap, and the slices
        left over at the end of a box are left out.
    across : bool
        The release's fault: the slices left over at the end of a box are filled up with the
        first of the part's next box, so that a stack ends in another cube (version 1 only).
    truth : str
        "cube": the region that the cube was cut from. "channel": the release's way, what the
        most frequent code of the region channel in the slice stands for (version 1 only).
    codes : mapping of int to str, optional
        Code of the region channel -> category, for "channel". The release's has a 0 in it.
    attributes_version : str
        "v2": true distances in um. "v1": the release's, see `metrics.attributes`.
    size : int, optional
        The middle size x size pixels of every slice, at full resolution; all by default.
    downsample : int
        Image pixels are means of so many squared, in y and x; z keeps its step. Labels then
        take the most frequent id (the lowest of equals), since they lie on the image's grid;
        attributes are always measured at full resolution.
    licence, citation, description : str

    Raises
    ------
    RecipeError
        On an unknown option, cube or part, or a box too short for one stack.
    DataError
        When a sample is asked for: if its slices lie past the cube's end, labels are missing
        or outside the label map, or a cube names no region.

    Source: Quesada et al. 2022 (MTNeuro), sections 3.2 and 3.3.

    Example
    -------
    >>> image = Volume(np.arange(384, dtype=np.uint16).reshape(6, 8, 8), "zyx", (1, 1, 1))
    >>> cube = Cube("ctx-A", "CTX", image, origin=(110, 0, 0))
    >>> data = cube_dataset(
    ...     "demo", {"ctx-A": lambda: cube}, {"train": [Box("ctx-A", (110, 114))]},
    ...     answer="category", downsample=2,
    ... )
    >>> data.names[0], data[0].category, data[0].image.shape, data[0].image.spacing
    ('ctx-A-z0110', 'CTX', (4, 4), (2.0, 2.0))
    """
    if answer not in ANSWERS:
        raise RecipeError("unknown answer", "answer", repr(answer), f"use one of {ANSWERS}")
    if truth not in TRUTHS:
        raise RecipeError("unknown truth", "truth", repr(truth), f"use one of {TRUTHS}")
    if attributes_version not in ("v1", "v2"):
        raise RecipeError("versions are v1 and v2", "attributes_version", attributes_version)
    if answer != "category" and label_map is None:
        raise RecipeError(f"{answer} need a label map", name)
    if truth == "channel" and not codes:
        raise RecipeError("the region channel needs to know its codes", name, fix="give codes")
    for key, value in (("depth", depth), ("downsample", downsample), ("size", size)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise RecipeError(f"{key} is a whole number from 1", key, repr(value))
    unknown = sorted({b.cube for boxes in parts.values() for b in boxes} - set(cubes))
    if unknown:
        raise RecipeError("no such cube", name, unknown[:4], "known: " + ", ".join(sorted(cubes)))
    pieces: dict[str, tuple[Piece, ...]] = {}
    splits: dict[str, list[str]] = {}
    for part, boxes in parts.items():
        cut = _stacks(part, boxes, depth, across)
        pieces |= cut
        splits[part] = list(cut)
    return Dataset(
        name,
        list(pieces),
        Slices(
            dict(cubes),
            pieces,
            answer,
            label_map,
            dict(mapping or {}),
            depth,
            truth,
            dict(codes or {}),
            attributes_version == "v1",
            size,
            downsample,
        ),
        label_map if answer == "labels" else None,
        {sample: cut[0][0] for sample, cut in pieces.items()},
        splits,
        licence,
        citation,
        description,
    )


def _stacks(
    part: str, boxes: Sequence[Box], depth: int, across: bool
) -> dict[str, tuple[Piece, ...]]:
    """Sample name -> what it is made of, in order."""
    line = [(box.cube, z) for box in boxes for z in range(*box.z)]
    chunks, begun = [], 0
    for box in boxes:
        end = len(line) if across else begun + box.slices
        for first in range(begun, begun + box.slices, depth):
            if first + depth <= end:
                chunks.append(line[first : first + depth])
        begun += box.slices
    short = [box for box in boxes if box.slices < depth]
    if not chunks or (short and not across):
        where = short[0] if short else boxes[0]
        raise RecipeError(
            f"a box holds no stack of {depth} slices", f"part {part!r}", f"{where.cube} {where.z}"
        )
    found: dict[str, tuple[Piece, ...]] = {}
    for chunk in chunks:
        cut: list[Piece] = []
        for cube, z in chunk:
            if cut and cut[-1][0] == cube and cut[-1][2] == z:
                cut[-1] = (cube, cut[-1][1], z + 1)
            else:
                cut.append((cube, z, z + 1))
        label = "+".join(
            f"{cube}-z{a:04d}" + (f"-{b - 1:04d}" if depth > 1 else "") for cube, a, b in cut
        )
        if label in found:
            raise RecipeError("a slice stands twice in one part", f"part {part!r}", label)
        found[label] = tuple(cut)
    return found
