"""Affinities: how likely two voxels, a fixed offset apart, belong to the same neuron.

Programs store them in many ways, and the wrong reading gives a bad segmentation without a word
(specs/neurons.md: ARAND 0.945 in place of 0.019). So the reading is a type here, written into
every file, and there is one form that everything else in the package works with: `canonical`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from brodmann.core.errors import DataError
from brodmann.core.volume import Volume, Window

Offset = tuple[int, int, int]
Kind = Literal["affinity", "boundary"]
Anchor = Literal["source", "destination"]
NEAREST: tuple[Offset, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
IN_PLANE: tuple[Offset, ...] = ((0, -1, 0), (0, 0, -1))
LONG_RANGE: tuple[Offset, ...] = (
    *NEAREST,
    (-2, 0, 0),
    (0, -3, 0),
    (0, 0, -3),
    (-3, 0, 0),
    (0, -9, 0),
    (0, 0, -9),
    (-4, 0, 0),
    (0, -27, 0),
    (0, 0, -27),
)
"""Twelve offsets (z, y, x) for anisotropic stacks, as superhuman-accuracy nets learn them."""
NEIGHBOURHOODS = {"nearest": NEAREST, "in-plane": IN_PLANE, "long-range": LONG_RANGE}
LOOKS_INVERTED = 0.5
"""A mean of nearest-neighbour affinities below this is that of a boundary map: most voxels of
tissue lie inside a neuron."""


@dataclass(frozen=True)
class Convention:
    """How a stack of affinity channels is to be read.

    Attributes
    ----------
    offsets : tuple of (z, y, x)
        One for each channel, in voxels.
    kind : "affinity" or "boundary"
        Whether high values join or part.
    anchor : "source" or "destination"
        With "source" the value at voxel v is that of the pair (v, v + offset), with
        "destination" that of (v - offset, v).

    Example
    -------
    >>> Convention(NEAREST).canonical == Convention(NEAREST)
    True
    >>> Convention(((1, 0, 0),), "boundary", "destination").canonical.offsets
    ((-1, 0, 0),)
    """

    offsets: tuple[Offset, ...] = NEAREST
    kind: Kind = "affinity"
    anchor: Anchor = "source"

    def __post_init__(self) -> None:
        try:
            offsets = tuple(tuple(int(n) for n in offset) for offset in self.offsets)
        except (TypeError, ValueError) as error:
            raise DataError(
                "offsets are triples (z, y, x) of voxels", found=self.offsets
            ) from error
        if not offsets or any(len(offset) != 3 or not any(offset) for offset in offsets):
            raise DataError(
                "offsets are triples (z, y, x) of voxels, none of them 0, 0, 0", found=offsets
            )
        if self.kind not in ("affinity", "boundary"):
            raise DataError("kind is affinity or boundary", found=repr(self.kind))
        if self.anchor not in ("source", "destination"):
            raise DataError("anchor is source or destination", found=repr(self.anchor))
        if len({_undirected(offset) for offset in offsets}) != len(offsets):
            raise DataError("two channels have the same offset", found=offsets)
        object.__setattr__(self, "offsets", offsets)

    @property
    def canonical(self) -> Convention:
        """Affinity, source, and the first number of each offset that is not 0 negative."""
        return Convention(tuple(_undirected(offset) for offset in self.offsets))

    @property
    def is_canonical(self) -> bool:
        return self == self.canonical

    @property
    def reach(self) -> Offset:
        """The longest offset along each axis, in voxels: the halo that pairs need."""
        z, y, x = np.abs(np.array(self.offsets)).max(axis=0)
        return int(z), int(y), int(x)

    def channels_of(self, offsets: Sequence[Offset]) -> list[int]:
        """Where the given offsets are among the channels; those that are not are left out."""
        own = [_undirected(offset) for offset in self.offsets]
        return [own.index(o) for o in map(_undirected, offsets) if o in own]

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it; the attribute "affinities" of our Zarr arrays."""
        return {
            "offsets": [list(offset) for offset in self.offsets],
            "kind": self.kind,
            "anchor": self.anchor,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Convention:
        """What `to_dict` wrote."""
        try:
            return cls(tuple(facts["offsets"]), facts["kind"], facts["anchor"])
        except (KeyError, TypeError) as error:
            raise DataError("these attributes describe no affinities", found=facts) from error


@dataclass(frozen=True, eq=False)
class Affinities:
    """A volume of affinities and how to read it.

    Parameters
    ----------
    volume : Volume
        Axes "czyx", a channel an offset; uint8 (255 stands for 1) or floats in 0..1.
    convention : Convention

    Raises
    ------
    DataError
        If channels and offsets differ in number, or the values are of another kind.

    Example
    -------
    >>> values = np.full((3, 2, 4, 4), 255, np.uint8)
    >>> found = Affinities(Volume(values, "czyx", (0.04, 0.004, 0.004)))
    >>> found.shape, found.convention.anchor
    ((2, 4, 4), 'source')
    """

    volume: Volume
    convention: Convention = field(default_factory=Convention)

    def __post_init__(self) -> None:
        if self.volume.axes != "czyx":
            raise DataError("affinities have axes czyx", found=repr(self.volume.axes))
        offsets = self.convention.offsets
        if self.volume.num_channels != len(offsets):
            raise DataError(
                f"{len(offsets)} offsets need {len(offsets)} channels",
                found=f"{self.volume.num_channels} channels",
                fix="name the offset of each channel",
            )
        if self.volume.dtype != np.uint8 and self.volume.dtype.kind != "f":
            raise DataError("affinities are uint8 or floats in 0..1", found=self.volume.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the volume: (z, y, x)."""
        return self.volume.spatial_shape

    def canonical(self, window: Window | None = None, where: str = "affinities") -> Affinities:
        """The affinities of a window in memory, uint8, in the canonical convention.

        Whatever the windows, a voxel gets the same values. Pairs that a shift would take from
        beyond the volume's edge become 0. Floats are rounded to 255ths.

        Raises
        ------
        DataError
            On values out of 0..1 or NaN.
        """
        window = window or (slice(None),) * 3
        spans = [part.indices(n)[:2] for part, n in zip(window, self.shape)]
        convention = self.convention
        moves = [_moves(offset, convention.anchor) for offset in convention.offsets]
        # What moves comes from so far away, in either direction.
        reach = [
            max((abs(o[i]) for o, m in zip(convention.offsets, moves) if m), default=0)
            for i in range(3)
        ]
        wide = [(max(0, a - r), min(n, b + r)) for (a, b), r, n in zip(spans, reach, self.shape)]
        values = as_uint8(self.volume.read(tuple(slice(a, b) for a, b in wide)), where)
        if convention.kind == "boundary":
            values = 255 - values
        if any(moves):
            values = np.stack(
                [
                    _shifted(channel, offset) if move else channel
                    for channel, offset, move in zip(values, convention.offsets, moves)
                ]
            )
        inner = tuple(slice(a - w, b - w) for (a, b), (w, _) in zip(spans, wide))
        data = np.ascontiguousarray(values[(slice(None), *inner)])
        return Affinities(replace(self.volume, data=data), convention.canonical)


def as_uint8(values: np.ndarray, where: str = "affinities") -> np.ndarray:
    """Affinities 0..1 of any float type as uint8, rounded to 255ths; uint8 as it is.

    Raises
    ------
    DataError
        On NaN, or values out of 0..1.
    """
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 1):  # NaN too
        raise DataError(
            "affinities lie in 0..1",
            where,
            f"{low:g} to {high:g}",
            "apply the sigmoid, or divide by the largest value",
        )
    return np.rint(values * np.float32(255)).astype(np.uint8)


def check_not_inverted(nearest: np.ndarray, where: str = "affinities") -> None:
    """Refuse what looks like a boundary map: uint8 or 0..1 nearest-neighbour affinities.

    Raises
    ------
    DataError
        If the mean is below LOOKS_INVERTED.
    """
    top = 255 if nearest.dtype == np.uint8 else 1
    mean = float(nearest.mean(dtype=np.float64)) / top
    if mean < LOOKS_INVERTED:
        raise DataError(
            "this looks like a boundary map, read as affinities",
            where,
            f"a mean of {mean:.2f}",
            "say --kind boundary if it is one, or --kind affinity to insist",
        )


def check_against(affinities: Affinities, truth: np.ndarray, where: str = "affinities") -> None:
    """Refuse affinities that fit the truth better when inverted or read from the other anchor.

    Parameters
    ----------
    affinities : Affinities
    truth : (z, y, x) integers
        Ids of neurons; 0 is not known or between neurons.

    Raises
    ------
    DataError
        Says which reading fits best.
    """
    if truth.shape != affinities.shape:
        raise DataError(
            "affinities and truth differ in shape", where, f"{affinities.shape}, {truth.shape}"
        )
    convention = affinities.convention
    anchor: Anchor = "destination" if convention.anchor == "source" else "source"
    kind: Kind = "boundary" if convention.kind == "affinity" else "affinity"
    values = as_uint8(affinities.volume.read(), where)
    readings = {
        "as given": convention,
        f"kind {kind}": replace(convention, kind=kind),
        f"anchor {anchor}": replace(convention, anchor=anchor),
        f"kind {kind} and anchor {anchor}": replace(convention, kind=kind, anchor=anchor),
    }
    gaps = {name: _gap(values, reading, truth) for name, reading in readings.items()}
    best = max(gaps, key=lambda name: gaps[name])
    if gaps[best] > gaps["as given"] + MARGIN:
        raise DataError(
            "these affinities fit the truth better when read otherwise",
            where,
            f"pairs within and between neurons differ by {gaps['as given']:.2f} as given, by "
            f"{gaps[best]:.2f} with {best}",
            f"set {best}",
        )


MARGIN = 0.02
"""By how much another reading must part pairs better before the one given is refused."""


def _gap(values: np.ndarray, convention: Convention, truth: np.ndarray) -> float:
    """Mean affinity of pairs within neurons less that of pairs between them."""
    sums, counts = np.zeros(2), np.zeros(2)
    for channel, offset in zip(values, convention.offsets):
        step = offset if convention.anchor == "source" else tuple(-n for n in offset)
        here, there = pair_windows(truth.shape, step)
        a, b = truth[here], truth[there]
        value = channel[here]
        within = (a == b) & (a != 0)
        for i, mask in enumerate((within, ~within & ((a != 0) | (b != 0)))):
            sums[i] += value[mask].sum(dtype=np.float64)
            counts[i] += mask.sum()
    means = sums / np.maximum(counts, 1) / 255
    gap = float(means[0] - means[1]) if counts.all() else 0.0
    return -gap if convention.kind == "boundary" else gap


def pair_windows(
    shape: Sequence[int], offset: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Windows over voxels v, and over v + offset, for all pairs that lie within a volume.

    >>> pair_windows((4, 5), (0, -2))
    ((slice(0, 4, None), slice(2, 5, None)), (slice(0, 4, None), slice(0, 3, None)))
    """
    here = tuple(slice(max(0, -o), max(0, -o, n - max(0, o))) for n, o in zip(shape, offset))
    there = tuple(slice(h.start + o, h.stop + o) for h, o in zip(here, offset))
    return here, there


def _undirected(offset: Sequence[int]) -> Offset:
    first = next((n for n in offset if n), 0)
    z, y, x = (-n if first > 0 else n for n in offset)
    return z, y, x


def _moves(offset: Sequence[int], anchor: str) -> bool:
    """Whether a value lies at the other voxel of its pair than in the canonical form."""
    return (tuple(offset) != _undirected(offset)) == (anchor == "source")


def _shifted(channel: np.ndarray, offset: Sequence[int]) -> np.ndarray:
    """The pair's value moved from one of its voxels to the other, whose first offset is less 0.

    With anchor source and a positive offset o the value of (v, v + o) lies at v and belongs
    at v + o; with anchor destination and a negative one that of (v - o, v) lies at v and
    belongs at v - o. Either way it moves by |o|.
    """
    step = tuple(-n for n in _undirected(offset))
    out = np.zeros_like(channel)
    here, there = pair_windows(channel.shape, step)
    out[there] = channel[here]
    return out
