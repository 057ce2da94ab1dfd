"""What a BossDB volume is: its channels, the cubes to be cut, and what their ids mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from brodmann.core import Label, LabelMap, RecipeError
from brodmann.datasets.bossdb_client import Ranges, split_uri

KINDS = ("image", "regions", "microstructure")
LARGEST_YAML_BYTES = 1 << 20


def _span(span: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= span[0] < span[1]:
        raise ValueError("a range is [first, end), with at least one voxel")
    return span


def _uri(uri: str) -> str:
    try:
        split_uri(uri)
    except RecipeError as error:
        raise ValueError(error.what) from None
    return uri


Span = Annotated[tuple[int, int], AfterValidator(_span)]
Uri = Annotated[str, AfterValidator(_uri)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelRecord(_Record):
    """One id of a vocabulary."""

    name: str
    acronym: str = ""
    color: Annotated[str, Field(pattern="^[0-9A-Fa-f]{6}$")] = "808080"


class Annotation(_Record):
    """A channel of ids, and what each stands for; 0 is always allowed."""

    channel: Uri
    labels: dict[Annotated[int, Field(ge=0)], str | LabelRecord]

    @property
    def ids(self) -> tuple[int, ...]:
        """Every id that the channel may hold."""
        return tuple(sorted({0, *self.labels}))

    @property
    def label_map(self) -> LabelMap:
        """The vocabulary without 0, in the order of the file."""
        return LabelMap(
            [
                Label(id_, told, told)
                if isinstance(told, str)
                else Label(id_, told.name, told.acronym or told.name, None, told.color.upper())
                for id_, told in self.labels.items()
                if id_
            ]
        )

    @property
    def dtype(self) -> np.dtype:
        """The smallest type for these ids: servers keep them in 64 bits."""
        return np.min_scalar_type(max(self.ids))


class CutOut(_Record):
    """One cube: its region, its box, and which annotations there are of it."""

    region: str
    z: Span
    y: Span
    x: Span
    annotations: tuple[str, ...] | None = None

    @property
    def box(self) -> Ranges:
        return self.z, self.y, self.x

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(stop - start for start, stop in self.box)  # type: ignore[return-value]


class BossVolume(_Record):
    """A volume in BossDB and the cubes to be cut from it.

    `spacing_um` and `extent` are (z, y, x), at `resolution` (0 is the finest). The extent is
    asked of the server too; stated here, a cube past the edge is refused without a network.
    """

    name: Name
    title: str = ""
    licence: str = ""
    citation: str = ""
    spacing_um: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    extent: tuple[int, int, int] | None = None
    resolution: Annotated[int, Field(ge=0, le=16)] = 0
    image: Uri
    regions: Annotation | None = None
    microstructure: Annotation | None = None
    cubes: dict[Name, CutOut]

    @model_validator(mode="after")
    def _fits(self) -> BossVolume:
        if not self.cubes:
            raise ValueError("a volume needs a cube")
        for name, cube in self.cubes.items():
            for kind in cube.annotations or ():
                if self.annotation(kind) is None:
                    raise ValueError(f"cube {name} names an annotation that is not there: {kind}")
            if self.extent is not None and any(
                stop > size for (_, stop), size in zip(cube.box, self.extent)
            ):
                raise ValueError(
                    f"cube {name} lies past the edge of the volume: {in_words(cube.box)} of "
                    f"{list(self.extent)}"
                )
        return self

    def annotation(self, kind: str) -> Annotation | None:
        return {"regions": self.regions, "microstructure": self.microstructure}.get(kind)

    def kinds(self, cube: str) -> tuple[str, ...]:
        """What there is of a cube: "image", and its annotations."""
        told = self.cubes[cube].annotations
        return tuple(
            kind
            for kind in KINDS
            if kind == "image"
            or (self.annotation(kind) is not None and (told is None or kind in told))
        )

    def channel(self, kind: str) -> str:
        """The address of a kind's channel."""
        annotation = self.annotation(kind)
        return self.image if annotation is None else annotation.channel


def read_boss_volume(source: str | Path | Mapping[str, Any]) -> BossVolume:
    """Read the description of a volume: a YAML file, or what it would hold.

    Raises
    ------
    RecipeError
        If it cannot be read, or names the key at fault.

    Example
    -------
    >>> volume = read_boss_volume(
    ...     {
    ...         "name": "mine",
    ...         "spacing_um": [1.17, 1.17, 1.17],
    ...         "image": "bossdb://prasad/prasad2020/image",
    ...         "cubes": {"a": {"region": "CTX", "z": [110, 120], "y": [0, 64], "x": [0, 64]}},
    ...     }
    ... )
    >>> volume.cubes["a"].shape, volume.kinds("a")
    ((10, 64, 64), ('image',))
    """
    where, tree = "volume", source
    if not isinstance(source, Mapping):
        where = str(source)
        try:
            if Path(source).stat().st_size > LARGEST_YAML_BYTES:
                raise RecipeError("this file is too long for a description", where)
            tree = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError("cannot read the description of a volume", where, error) from error
    try:
        return BossVolume.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            first["msg"].removeprefix("Value error, "),
            f"{where}: {place}" if place else where,
            None if isinstance(first["input"], Mapping) else repr(first["input"])[:80],
        ) from None


def in_words(box: Ranges) -> str:
    """A box for people to read.

    >>> in_words(((110, 120), (0, 64), (0, 64)))
    'z 110:120 y 0:64 x 0:64'
    """
    return " ".join(f"{axis} {start}:{stop}" for axis, (start, stop) in zip("zyx", box))
