"""What a benchmark is made of: the data, how they are divided, and what is asked of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat, PositiveFloat, field_validator, model_validator

from brodmann.bench.building import Record
from brodmann.core import DataError, nearest

Answer = Literal["category", "labels", "attributes"]
Part = Literal["train", "validation", "test"]
NAME = re.compile(r"^[a-z0-9]+([-_.+][a-z0-9]+)*$")
Name = Annotated[str, Field(pattern=NAME.pattern, max_length=80)]
"""Small letters, digits and single -, _, . or + between them: fit for a file's name."""
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9 _.+()/-]{1,60}$")]
Span = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
"""Half-open: first, end."""
TASK_ID = re.compile(r"^([a-z0-9-]+)/([a-z0-9-]+)@(v[1-9][0-9]*)$")


class CubeRecord(Record):
    """Where a cube lies in its volume: y and x, half-open, in pixels, and its region."""

    region: str
    y: Span
    x: Span

    @model_validator(mode="after")
    def _spans(self) -> CubeRecord:
        for name, (first, end) in (("y", self.y), ("x", self.x)):
            if first >= end:
                raise ValueError(f"{name} is [first, end) with at least one pixel")
        return self


class DataRecord(Record):
    """The data that tasks are cut from.

    `labels` name the ids of the dense labels, `regions` those of the region channel,
    `labelled_slices` are the slices (half-open) at which that channel says anything, and
    `cubes` the blocks that tasks use.
    """

    name: Name
    version: str
    title: str
    licence: str
    citation: str
    spacing_um: tuple[PositiveFloat, ...]
    axes: Literal["yx", "zyx"]
    labels: dict[int, str] = Field(default_factory=dict)
    source: str
    checksum: str | None = None
    shape: tuple[int, ...] | None = None
    regions: dict[int, str] = Field(default_factory=dict)
    labelled_slices: Span | None = None
    cubes: dict[str, CubeRecord] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> DataRecord:
        if len(self.spacing_um) != len(self.axes):
            raise ValueError(f"axes {self.axes!r} need {len(self.axes)} spacings")
        if self.shape is not None and len(self.shape) != len(self.axes):
            raise ValueError(f"axes {self.axes!r} need {len(self.axes)} sizes")
        for name, cube in self.cubes.items():
            if self.shape is not None and (
                cube.y[1] > self.shape[-2] or cube.x[1] > self.shape[-1]
            ):
                raise ValueError(f"cube {name} reaches past the volume's edge")
        return self


class Box(Record):
    """Slices of one cube, half-open.

    >>> Box(cube="ctx-A", z=(110, 379)).slices
    269
    """

    cube: str
    z: Span

    @field_validator("z")
    @classmethod
    def _not_empty(cls, z: tuple[int, int]) -> tuple[int, int]:
        if z[0] >= z[1]:
            raise ValueError("z is [first, end) with at least one slice")
        return z

    @property
    def slices(self) -> int:
        """How many."""
        return self.z[1] - self.z[0]


class Split(Record):
    """What trains and what tests.

    Parameters
    ----------
    name : str
    parts : dict
        train, test and perhaps validation -> boxes; or names: of the data's own splits, of
        samples, or of subjects.
    guard_slices, guard_px : int
        Two parts lie so many slices apart in z, or so many pixels in y or x, at least.
    guard_within : "all" or "category"
        "category": patches of different categories need only be disjoint.
    in_sample : bool
        The test part is the training part (a published fault).
    options : dict
        Of the data, for this split alone.
    """

    name: Name
    parts: dict[Part, tuple[Box, ...] | tuple[str, ...]]
    guard_slices: int = Field(0, ge=0)
    guard_px: int = Field(0, ge=0)
    guard_within: Literal["all", "category"] = "all"
    in_sample: bool = False
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Split:
        for part in ("train", "test"):
            if not self.parts.get(part):
                raise ValueError(f"a split needs the part {part!r}")
        if len({isinstance(one, Box) for members in self.parts.values() for one in members}) > 1:
            raise ValueError("parts are all boxes or all names")
        if self.boxed and self.guard_within == "category":
            raise ValueError("guard_within: category is for parts that are names")
        return self

    @property
    def boxed(self) -> bool:
        """Whether the parts are boxes, not names."""
        return isinstance(self.parts["train"][0], Box)

    def boxes(self, part: Part) -> tuple[Box, ...]:
        """The boxes of a part; none where the parts are names."""
        return tuple(one for one in self.parts.get(part, ()) if isinstance(one, Box))

    def data_parts(self) -> dict[str, list[dict[str, Any]]]:
        """The boxes as data kinds take them."""
        return {
            part: [{"cube": box.cube, "z": list(box.z)} for box in self.boxes(part)]
            for part in self.parts
        }

    def prove(self, cubes: Mapping[str, CubeRecord] | None = None) -> None:
        """Prove that parts are disjoint and as far apart as the split says.

        Parameters
        ----------
        cubes : mapping, optional
            Where the cubes lie. With it, boxes of different cubes are held apart too; without
            it, every cube is a volume of its own.

        Raises
        ------
        DataError
            Names the two boxes, or the names that two parts share.

        Example
        -------
        >>> boxes = {"train": [Box(cube="a", z=(0, 9))], "test": [Box(cube="a", z=(12, 20))]}
        >>> Split(name="s", parts=boxes, guard_slices=3).prove()
        >>> Split(name="s", parts=boxes, guard_slices=4).prove()
        Traceback (most recent call last):
        ...
        brodmann.core.errors.DataError: parts come nearer than the guard (s: train and test): \
found a [0, 9) and a [12, 20), 3 slices apart; the split promises 4
        """
        self._prove_inside(cubes)
        if self.in_sample:
            if self.parts["train"] != self.parts["test"]:
                raise DataError(
                    "a split that is in_sample tests on what trains", self.name, "two parts"
                )
            return
        for one, other in itertools.combinations(self.parts, 2):
            where = f"{self.name}: {one} and {other}"
            for a, b in itertools.product(self.boxes(one), self.boxes(other)):
                self._prove_pair(a, b, cubes or {}, where)
            if not self.boxed:
                shared = sorted(set(self.parts[one]) & set(self.parts[other]))  # type: ignore[type-var]
                if shared:
                    raise DataError("two parts share what they name", where, shared[:4])

    def _prove_inside(self, cubes: Mapping[str, CubeRecord] | None) -> None:
        for part in self.parts:
            where = f"{self.name}: {part}"
            boxes = self.boxes(part)
            for box in boxes:
                if cubes and box.cube not in cubes:
                    raise DataError("no such cube", where, box.cube, nearest(box.cube, cubes))
            for a, b in itertools.combinations(boxes, 2):
                if max(gaps(a, b, cubes or {})) < 0:
                    raise DataError("two boxes of a part overlap", where, f"{told(a)}, {told(b)}")
            names = self.parts[part] if not self.boxed else ()
            if len(set(names)) < len(names):
                raise DataError("a part names something twice", where)

    def _prove_pair(self, a: Box, b: Box, cubes: Mapping[str, CubeRecord], where: str) -> None:
        found = gaps(a, b, cubes)
        if max(found) < 0:
            raise DataError("two parts share voxels", where, f"{told(a)} and {told(b)}")
        if found[0] >= self.guard_slices or any(gap >= self.guard_px for gap in found[1:]):
            return
        slices = f"{found[0]} slices" if found[0] >= 0 else f"y {found[1]:g}, x {found[2]:g} pixels"
        limit = self.guard_slices if found[0] >= 0 else f"{self.guard_px} pixels"
        raise DataError(
            "parts come nearer than the guard",
            where,
            f"{told(a)} and {told(b)}, {slices} apart",
            f"the split promises {limit}",
        )


def gaps(a: Box, b: Box, cubes: Mapping[str, CubeRecord]) -> tuple[float, float, float]:
    """Free slices and pixels between two boxes along z, y and x; below 0 where they overlap.

    Boxes of one cube overlap wholly in y and x; cubes that lie nowhere are infinitely far.

    >>> place = {"a": CubeRecord(region="R", y=(0, 9), x=(0, 9)),
    ...          "b": CubeRecord(region="R", y=(9, 18), x=(5, 14))}
    >>> gaps(Box(cube="a", z=(0, 5)), Box(cube="b", z=(7, 9)), place)
    (2, 0, -4)
    """

    def gap(one: tuple[int, int], other: tuple[int, int]) -> int:
        return max(one[0], other[0]) - min(one[1], other[1])

    if a.cube == b.cube:
        return gap(a.z, b.z), -np.inf, -np.inf
    if a.cube not in cubes or b.cube not in cubes:
        return np.inf, np.inf, np.inf
    here, there = cubes[a.cube], cubes[b.cube]
    return gap(a.z, b.z), gap(here.y, there.y), gap(here.x, there.x)


def told(box: Box) -> str:
    """A box in a few letters."""
    return f"{box.cube} [{box.z[0]}, {box.z[1]})"


RULES: dict[str, tuple[Answer, str, tuple[str, ...]]] = {
    "accuracy": ("category", "samples", ("none",)),
    "balanced_accuracy": ("category", "classes", ("skip", "zero")),
    "f1": ("labels", "pooled", ("skip", "zero")),
    "iou": ("labels", "pooled", ("skip", "zero")),
    "r2": ("attributes", "samples", ("skip",)),
}
"""Metric -> the answer it scores, its aggregation, and the rules it has for absent classes."""


class Metric(Record):
    """A score with how it is made.

    `aggregation`: "samples" (each counts the same), "classes" (the mean over classes of the
    share of each that was found), "pooled" (one contingency table of all pixels, then the mean
    over classes). `absent`, a class without a true sample ("balanced_accuracy"), one in neither
    truth nor prediction ("f1", "iou"), or an attribute whose truth is unknown or constant ("r2"):
    "skip" leaves it out of the mean, "zero" counts it 0, "none" is for metrics without classes.
    """

    name: Literal["accuracy", "balanced_accuracy", "f1", "iou", "r2"]
    aggregation: str
    absent: str = "none"

    @model_validator(mode="after")
    def _known(self) -> Metric:
        _, aggregation, absents = RULES[self.name]
        if self.aggregation != aggregation:
            raise ValueError(f"{self.name} is aggregated over {aggregation!r}")
        if self.absent not in absents:
            raise ValueError(f"{self.name} knows for absent classes: {', '.join(absents)}")
        return self


class Task(Record):
    """One question with its data, its splits, its scores and its known faults.

    Several splits are fitted one by one and their scores averaged. `oracle_data` are options
    with which the oracle opens the same samples, to read what is true of them; `truth` says
    that categories follow from the boxes alone: "cube" (the region that a cube was cut from) or
    "channel" (what the region channel says; 0 beyond its slices, read as the first category).
    `encoder` is the id of the task whose training part a frozen encoder may learn from.
    `counts_tolerance` is the share of a part by which counts may differ from those committed:
    made-up data come out a few pixels otherwise on another processor.
    """

    benchmark: Name
    name: Name
    version: str = Field(pattern=r"^v[1-9][0-9]*$")
    title: str
    description: str = ""
    answer: Answer
    categories: tuple[ClassName, ...] = ()
    labels: tuple[ClassName, ...] = ()
    attributes: tuple[ClassName, ...] = ()
    data: dict[str, Any]
    oracle_data: dict[str, Any] = Field(default_factory=dict)
    truth: Literal["cube", "channel"] | None = None
    splits: tuple[Split, ...] = Field(min_length=1)
    metrics: tuple[Metric, ...] = Field(min_length=1)
    main: str
    maximum: FiniteFloat = 1.0
    counts: dict[str, dict[str, dict[str, int]]] = Field(default_factory=dict)
    counts_tolerance: float = Field(0.0, ge=0, lt=0.1)
    faults: tuple[str, ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    encoder: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Task:
        lists = {"category": "categories", "labels": "labels", "attributes": "attributes"}
        for answer, key in lists.items():
            values = getattr(self, key)
            if bool(values) != (answer == self.answer):
                raise ValueError(f"the answer {self.answer!r} goes with {lists[self.answer]}")
            if len(set(values)) < len(values):
                raise ValueError(f"{key} differ from one another")
        if not isinstance(self.data.get("kind"), str):
            raise ValueError("data.kind names a kind of data")
        names = [metric.name for metric in self.metrics]
        for name in names:
            if RULES[name][0] != self.answer:
                raise ValueError(f"{name} scores no {self.answer}")
        if self.main not in names or len(set(names)) < len(names):
            raise ValueError(f"main is one of the metrics: {', '.join(names)}")
        if len({split.name for split in self.splits}) < len(self.splits):
            raise ValueError("splits have different names")
        if any(split.in_sample for split in self.splits) and not self.faults:
            raise ValueError("a test on what trained is a fault: list it under faults")
        if self.truth is not None and not all(split.boxed for split in self.splits):
            raise ValueError("truth follows from boxes only")
        if self.encoder is not None and not TASK_ID.match(self.encoder):
            raise ValueError("encoder is the id of a task, such as mtneuro/roi-c1@v2")
        return self

    @property
    def id(self) -> str:
        """Such as "mtneuro/roi-c1@v2"."""
        return f"{self.benchmark}/{self.name}@{self.version}"

    @property
    def classes(self) -> tuple[str, ...]:
        """What answers are made of: categories, names of labels, or attributes."""
        return self.categories or self.labels or self.attributes
