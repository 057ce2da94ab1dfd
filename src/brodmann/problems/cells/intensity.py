"""Recorded grey levels as what a detector sees: background removed, and a scale.

Which scale is right is no detail: brains differ in brightness by more than cells differ from
their surround (docs/results/cells.md compares the choices).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from brodmann.core import DataError, RecipeError, Volume, keyed_rng, nearest
from brodmann.core.volume import Window
from brodmann.inference.tissue import TissueMask
from brodmann.problems.cells.blobness import blobness, gaussian_reach
from brodmann.problems.cells.box_filter import box_contrast, box_mean

SAMPLED_VOXELS = 1 << 22
"""At most about this many voxels of small volumes together are measured."""
CUBE = 64
"""Side of the pieces in which they are read."""
FEW_CUBES = 64
"""Of a volume of more pieces, this many are drawn among those with tissue."""
Scale = Literal["fixed", "root", "background", "volume", "patch"]


@dataclass(frozen=True)
class Intensity:
    """Brightness of a whole brain: `level`, its median, and `deviation`, its texture.

    The deviation is robust (1.4826 x median of magnitudes) and of what is left when the local
    mean is taken off: shading and stripes do not count, nor do the cells, which are few.
    """

    level: float
    deviation: float


def measure_intensity(
    volume: Volume | Sequence[Volume],
    tissue: TissueMask | None = None,
    *,
    ground_um: float = 50.0,
    dark: float = 0.25,
) -> Intensity:
    """Level and deviation of a brain's tissue, from pieces of it.

    Of a small volume the pieces lie on a regular grid; of a large one they are drawn, always
    the same, among those that hold tissue, so that none is spent on the dark rim.

    Parameters
    ----------
    volume : Volume or sequence of Volume
        Of any size; several are pieces of one brain. Channels are measured together.
    tissue : TissueMask, optional
        Of a single volume: voxels outside it do not count.
    ground_um : float
        Side of the box whose mean is the local one.
    dark : float
        Without a mask, voxels darker than this share of the upper quartile count as empty.

    Returns
    -------
    Intensity
        (0, 0) where no voxel counts.

    Raises
    ------
    DataError
        On NaN or infinite values.

    Example
    -------
    >>> noise = np.random.default_rng(0).normal(1000, 30, (20, 40, 40))
    >>> found = measure_intensity(Volume(noise, "zyx", (5.0, 2.0, 2.0)))
    >>> round(found.level, -1), round(found.deviation)
    (1000.0, 30)
    """
    volumes = [volume] if isinstance(volume, Volume) else list(volume)
    share = max(1, SAMPLED_VOXELS // max(1, len(volumes)))
    places = [
        (one, window) for one in volumes for window in _sampled(one.spatial_shape, share, tissue)
    ]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        pieces = []
        for (one, window), values in zip(places, pool.map(lambda place: _finite(*place), places)):
            sides = [2 * max(1, round(ground_um / step / 2)) + 1 for step in one.spacing]
            kept = None if tissue is None else tissue.window(window)
            pieces += [(channel, kept, sides) for channel in values]
        if not pieces:
            return Intensity(0.0, 0.0)
        if tissue is None:
            cut = dark * np.quantile(
                np.concatenate([values.ravel() for values, *_ in pieces]), 0.75
            )
            pieces = [(values, values >= cut, sides) for values, _, sides in pieces]
        level = np.concatenate([values[kept] for values, kept, _ in pieces])
        apart = np.concatenate(list(pool.map(lambda piece: _texture(*piece), pieces)))
    if not level.size:
        return Intensity(0.0, 0.0)
    return Intensity(float(np.median(level)), 1.4826 * float(np.median(np.abs(apart))))


def _finite(volume: Volume, window: Window) -> np.ndarray:
    values = volume.read(window)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            "the volume holds NaN or infinite voxels",
            f"window {[(s.start, s.stop) for s in window]}",
            fix="replace them by numbers",
        )
    return values


def _texture(values: np.ndarray, kept: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """Tissue less the local mean of tissue, so that what is beside it changes nothing."""
    if kept.all():
        return box_contrast(values, sides, 1.0).ravel()
    share = box_mean(kept, sides)
    ground = box_mean(np.where(kept, values, values.dtype.type(0)), sides)
    return (values - ground / np.maximum(share, 1e-6))[kept]


def _sampled(
    shape: Sequence[int], voxels: int, tissue: TissueMask | None
) -> list[tuple[slice, ...]]:
    """Cubes of a volume that hold tissue: all where it is small, else some."""
    sides = [min(CUBE, n) for n in shape]
    counts = [math.ceil(n / side) for n, side in zip(shape, sides)]
    large = math.prod(counts) > FEW_CUBES
    most = max(1, voxels // math.prod(sides))
    while not large and math.prod(counts) > most:
        counts[int(np.argmax(counts))] -= 1
    starts = [
        [side * i for i in range(count)]
        if count == math.ceil(n / side)
        else [round(i * (n - side) / max(1, count - 1)) for i in range(count)]
        for n, side, count in zip(shape, sides, counts)
    ]
    grid = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, len(shape))
    windows = [
        tuple(slice(int(a), min(int(a) + side, n)) for a, side, n in zip(corner, sides, shape))
        for corner in grid
    ]
    if tissue is not None:
        windows = [window for window in windows if tissue.any(window)]
    if large and len(windows) > FEW_CUBES:
        drawn = keyed_rng(0, "intensity", *shape).choice(len(windows), FEW_CUBES, replace=False)
        windows = [windows[i] for i in sorted(drawn)]
    return windows


@dataclass(frozen=True)
class Contrast:
    """How grey levels become what a net sees: (value - background) / scale, then asinh.

    Attributes
    ----------
    background_um : tuple of float
        Sides of the box whose mean is the local background, one for each axis (z, y, x). Empty
        for none; then the level of the whole volume is taken off.
    scale : str
        `fixed`: `unit` grey levels, for all volumes the same; `root`: `unit` times the root of
        the local background, as shot noise grows; `background`: `unit` times the local
        background; `volume`: `unit` times the deviation of the whole volume; `patch`: mean and
        deviation of what is given, so that an answer depends on where a block ends (for
        comparison alone).
    unit : float
    floor : float
        The least background for `root` and `background`, in grey levels.
    compress : bool
        Take asinh at the end: linear to about the unit, logarithmic beyond.
    blobs_um : tuple of tuple of float
        For each deviation (z, y, x) of a Gaussian a further channel for each that there is: the
        negated Laplacian of Gaussian of the contrast, which says how like a blob it is.

    Example
    -------
    >>> flat = np.full((1, 3, 5, 5), 900, np.uint16)
    >>> flat[0, 1, 2, 2] += 100
    >>> look = Contrast((3.0, 9.0, 9.0), "fixed", 10.0, compress=False)
    >>> round(float(look.apply(flat, (3.0, 3.0, 3.0), Intensity(900, 1))[0, 1, 2, 2]), 2)
    8.89
    >>> look.halo((3.0, 3.0, 3.0))
    (0, 1, 1)
    """

    background_um: tuple[float, ...] = ()
    scale: Scale = "fixed"
    unit: float = 1.0
    floor: float = 300.0
    compress: bool = True
    blobs_um: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if any(not (math.isfinite(n) and n > 0) for sigma in self.blobs_um for n in sigma):
            raise RecipeError("deviations are above 0", "contrast.blobs_um", self.blobs_um)
        if self.scale not in get_args(Scale):
            raise RecipeError(
                "unknown scale",
                "contrast.scale",
                repr(self.scale),
                nearest(str(self.scale), get_args(Scale)),
            )
        if not (math.isfinite(self.unit) and self.unit > 0):
            raise RecipeError("the unit is above 0", "contrast.unit", self.unit)
        if not (math.isfinite(self.floor) and self.floor > 0):
            raise RecipeError("the floor is above 0", "contrast.floor", self.floor)
        if self.scale in ("root", "background") and not self.background_um:
            raise RecipeError(
                "this scale needs a local background", "contrast.background_um", self.scale
            )
        if any(not (math.isfinite(n) and n > 0) for n in self.background_um):
            raise RecipeError(
                "sides of the background are above 0", "contrast.background_um", self.background_um
            )

    @property
    def exact(self) -> bool:
        """Whether a voxel's contrast depends on its surround alone, not on where a block ends."""
        return self.scale != "patch"

    def with_(self, **changes: Any) -> Contrast:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def halo(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Voxels to each side that the contrast of a voxel is made of."""
        ground = self._ground(spacing)
        return tuple(a + b for a, b in zip(self._blob_reach(spacing), ground))

    def _blob_reach(self, spacing: Sequence[float]) -> tuple[int, ...]:
        widest = [0] * len(spacing)
        for sigma in self.blobs_um:
            if len(sigma) != len(spacing):
                raise RecipeError(
                    f"a blob has {len(spacing)} deviations here", "contrast.blobs_um", list(sigma)
                )
            reach = [gaussian_reach(um / step) for um, step in zip(sigma, spacing)]
            widest = [max(pair) for pair in zip(widest, reach)]
        return tuple(widest)

    def channels(self, recorded: int) -> int:
        """Channels that it makes of those recorded."""
        return recorded * (1 + len(self.blobs_um))

    def _ground(self, spacing: Sequence[float]) -> tuple[int, ...]:
        if not self.background_um:
            return (0,) * len(spacing)
        if len(self.background_um) != len(spacing):
            raise RecipeError(
                f"the background has {len(spacing)} sides here",
                "contrast.background_um",
                list(self.background_um),
            )
        # The nearest odd side, at least one voxel.
        return tuple(round((um / step - 1) / 2) if um > step else 0
                     for um, step in zip(self.background_um, spacing))  # fmt: skip

    def apply(
        self,
        values: np.ndarray,
        spacing: Sequence[float],
        intensity: Intensity,
        trim: Sequence[int] = (),
    ) -> np.ndarray:
        """(c, *spatial) of any dtype -> float32 (`channels(c)`, *spatial less 2 trim).

        `intensity` is that of the whole volume. Within `halo` of the array's border the
        background is that of a mirrored image. `trim` says how many voxels of each side are
        there for their surround alone.
        """
        values = np.asarray(values)
        trim = tuple(trim) or (0,) * (values.ndim - 1)
        # Blobs look so far beyond what is wanted.
        room = tuple(min(pair) for pair in zip(trim, self._blob_reach(spacing)))
        outer = within(trim, room)
        inner = within(room)
        size = [n - 2 * t for n, t in zip(values.shape[1:], trim)]
        seen = np.empty((self.channels(len(values)), *size), np.float32)
        for number, channel in enumerate(values):
            contrast = self._contrast(channel, spacing, intensity, outer)
            seen[number] = contrast[inner]
            for blob, sigma in enumerate(self.blobs_um, 1):
                steps = [um / step for um, step in zip(sigma, spacing)]
                blobness(contrast, steps, inner, seen[blob * len(values) + number])
        return np.arcsinh(seen, out=seen) if self.compress else seen

    def _contrast(
        self,
        channel: np.ndarray,
        spacing: Sequence[float],
        intensity: Intensity,
        outer: tuple[slice, ...],
    ) -> np.ndarray:
        if self.scale == "patch":
            contrast = channel.astype(np.float32)
            contrast -= contrast.mean()
            contrast /= self.unit * (contrast.std() or 1.0)
            return contrast[outer]
        unit = self.unit * intensity.deviation or 1.0 if self.scale == "volume" else self.unit
        sides = [2 * r + 1 for r in self._ground(spacing)]
        if self.scale in ("fixed", "volume"):
            if self.background_um:
                return box_contrast(channel, sides, unit, outer)
            level = np.float32(intensity.level)
            return np.subtract(channel[outer], level, dtype=np.float32) / np.float32(unit)
        ground = box_mean(channel, sides)[outer]
        base = np.maximum(ground, np.float32(self.floor))
        contrast = np.subtract(channel[outer], ground, dtype=np.float32)
        contrast /= np.float32(unit) * (np.sqrt(base) if self.scale == "root" else base)
        return contrast


def within(trim: Sequence[int], room: Sequence[int] = ()) -> tuple[slice, ...]:
    """What is left of an array without its rim, and with some of it."""
    return tuple(
        slice(t - r, None if t == r else r - t)
        for t, r in zip(trim, room or (0,) * len(trim), strict=True)
    )


def contrast_from(tree: dict[str, Any]) -> Contrast:
    """A contrast as YAML holds it: lists for tuples."""
    sides = tuple(map(float, tree["background_um"]))
    blobs = tuple(tuple(map(float, sigma)) for sigma in tree.get("blobs_um", ()))
    return Contrast(**tree | {"background_um": sides, "blobs_um": blobs})


def contrast_tree(contrast: Contrast) -> dict[str, Any]:
    """A contrast as YAML can hold it."""
    lists = {
        "background_um": list(contrast.background_um),
        "blobs_um": [list(sigma) for sigma in contrast.blobs_um],
    }
    return asdict(contrast) | lists
