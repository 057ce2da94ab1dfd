"""What all mixing methods share: a partner, one grid, one stain, and a last clean-up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from brodmann.augment.base import Augmentation, CannotDraw, Params
from brodmann.augment.opening import opened, seams
from brodmann.augment.regions import Box
from brodmann.core import BACKGROUND, DataError, Dataset, RecipeError, Sample
from brodmann.preprocess.intensity import CLIPPED
from brodmann.preprocess.resample import at_spacing, nearest

Stain = list[list[float]]
"""Gain and offset of each channel."""
MOST_PIXELS = 1 << 22
"""Moments of larger images come from a regular grid of so many of their pixels."""
OPENING_VOX = 2.0


@dataclass(frozen=True)
class Mixing(Augmentation):
    """A method that takes parts of other samples of the pool.

    Parameters
    ----------
    opening_um : float, optional
        Radius of the morphological opening that smooths the label map where parts of different
        origin meet, in micrometres; two voxels of the finest axis by default, 0 for none.
        Within a part nothing is opened: thin layers and tracts are anatomy.
    match_stain : bool
        Bring each channel of a source to the target's mean and deviation over annotated
        tissue before it is mixed.
    """

    opening_um: float | None = None
    match_stain: bool = True

    def __post_init__(self) -> None:
        radius = self.opening_um
        if radius is not None and not (is_number(radius) and radius >= 0):
            raise RecipeError("a radius is a number from 0", f"{self.name}.opening_um", radius)

    def partners(
        self, rng: np.random.Generator, target: Sample, pool: Dataset | None, count: int = 1
    ) -> list[str]:
        """Names of other samples of the pool, drawn alike and without repetition."""
        others = others_of(target, pool)
        return [others[i] for i in rng.permutation(len(others))[:count]]

    def stain(self, source: Sample, target: Sample) -> Stain:
        """Gains and offsets that give a source the target's stain; (1, 0) where not wanted."""
        if not self.match_stain:
            return [[1.0, 0.0] for _ in range(target.image.num_channels)]
        pairs = zip(moments_of(source), moments_of(target))
        gains = [(b[1] / a[1], b[0] - a[0] * b[1] / a[1]) for a, b in pairs]
        return [[round(gain, 6), round(offset, 6)] for gain, offset in gains]

    def finished(self, target: Sample, canvas: Canvas, **changes: Any) -> Sample:
        """The mixed sample, its label map opened along the seams."""
        labels = canvas.labels
        box = canvas.box
        if box is not None:
            step = np.asarray(target.image.spacing)
            radius = OPENING_VOX * step.min() if self.opening_um is None else self.opening_um
            margin = np.ceil(radius / step).astype(int) + 1
            near = grown(box, margin, labels.shape)
            where = seams(canvas.origin[near], radius / step)
            labels[near] = opened(labels[near], where, radius / step)
        image = canvas.image if target.image.axes.startswith("c") else canvas.image[0]
        # Points and measures of the target no longer hold where tissue was exchanged.
        kept = {"points": None, "attributes": {}, **changes}
        return target.with_(
            image=target.image.like(image), labels=target.labels.like(labels), **kept
        )


class Canvas:
    """A target in the making: `image` (c, *spatial), `labels`, and each pixel's `origin`."""

    def __init__(self, target: Sample) -> None:
        self.image = np.array(target.image.read())
        self.labels = np.array(target.labels.numpy())
        self.origin = np.zeros(self.labels.shape, np.uint8)
        self.parts = 0
        self.box: Box | None = None

    def hold(self, top: int) -> None:
        """Make the labels' type wide enough for `top`."""
        if top > np.iinfo(self.labels.dtype).max:
            self.labels = self.labels.astype(np.uint16 if top < 2**16 else np.uint32)

    def touch(self, box: Box, mask: np.ndarray) -> None:
        """Note that pixels of a box are of a new origin."""
        self.parts += 1
        self.origin[box][mask] = self.parts
        if self.box is None:
            self.box = box
        else:
            self.box = tuple(
                slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(self.box, box)
            )

    def paste(self, box: Box, mask: np.ndarray, image: np.ndarray, labels: np.ndarray) -> None:
        """Put (c, *box) values and (*box) labels where `mask` is true."""
        self.hold(int(labels.max(initial=0)))
        np.copyto(self.labels[box], labels.astype(self.labels.dtype), where=mask)
        for channel, values in zip(self.image, image):
            np.copyto(channel[box], rounded(values, self.image.dtype), where=mask)
        self.touch(box, mask)


class OnGrid:
    """A source seen on a target's grid: at its spacing, with the images' centres together.

    `box` is the part of the target's frame that the source covers.
    """

    def __init__(self, source: Sample, target: Sample) -> None:
        if source.image.num_channels != target.image.num_channels:
            raise CannotDraw(
                "samples of a pool differ in channels",
                source.name,
                f"{source.image.num_channels}, {target.name} has {target.image.num_channels}",
            )
        if source.image.ndim != target.image.ndim:
            raise CannotDraw("sections and volumes cannot be mixed", source.name)
        self.source = source
        self.image = at_spacing(source.image, target.image.spacing)
        self.shape = self.image.spatial_shape
        frame = target.image.spatial_shape
        self.offset = tuple((n - m) // 2 for n, m in zip(frame, self.shape))
        self.box: Box = tuple(
            slice(max(0, o), min(n, o + m)) for o, n, m in zip(self.offset, frame, self.shape)
        )

    @cached_property
    def labels(self) -> np.ndarray:
        """Ids on the source's own frame, at the target's spacing."""
        labels = self.source.labels.numpy()
        return labels if labels.shape == self.shape else nearest(labels, self.shape)

    def own(self, box: Box) -> Box:
        """A box of the target's frame in the source's."""
        return tuple(slice(b.start - o, b.stop - o) for b, o in zip(box, self.offset))

    def read(self, box: Box, stain: Stain) -> np.ndarray:
        """(c, *box) float32 values in a box of the source's frame, in the target's stain."""
        values = self.image.read(box).astype(np.float32)
        for channel, (gain, offset) in zip(values, stain):
            channel *= np.float32(gain)
            channel += np.float32(offset)
        return values


def others_of(target: Sample, pool: Dataset | None) -> list[str]:
    """Names of the samples that a target can be mixed with."""
    others = [] if pool is None else [name for name in pool.names if name != target.name]
    if not others:
        raise CannotDraw(
            "there is no other sample to mix with",
            target.name,
            f"a pool of {0 if pool is None else len(pool)}",
            "label a second one",
        )
    return others


def labelled(sample: Sample) -> Sample:
    """The sample, if it has labels to be mixed."""
    if sample.labels is None:
        raise CannotDraw("a sample without labels cannot be mixed", sample.name)
    return sample


def moments_of(sample: Sample) -> list[tuple[float, float]]:
    """Mean and deviation of each channel over annotated tissue (everything, where there is none).

    Cut at the CLIPPED percentiles, so that a speck does not stand for the stain.
    """
    step = 1
    while np.prod([-(-n // step) for n in sample.image.spatial_shape]) > MOST_PIXELS:
        step += 1
    grid = (slice(None, None, step),) * sample.image.ndim
    values = sample.image.read(grid)
    tissue = sample.labels.read(grid)[0] != BACKGROUND if sample.labels is not None else None
    found = []
    for channel in values:
        picked = channel[tissue] if tissue is not None and tissue.any() else channel
        picked = np.clip(picked, *np.percentile(picked, CLIPPED))
        found.append((float(picked.mean()), max(float(picked.std()), 1e-6)))
    return found


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats as an image type: whole numbers are rounded and cut to the type's range.

    Changes `values`.
    """
    if dtype.kind == "f":
        return values.astype(dtype)
    if dtype.kind == "b":
        return values >= 0.5
    limits = np.iinfo(dtype)
    np.rint(values, out=values)
    # In float32 the largest int32 rounds up, past the limit.
    high = np.nextafter(np.float32(limits.max), 0) if limits.bits > 24 else limits.max
    return np.clip(values, limits.min, high, out=values).astype(dtype)


def grown(box: Box, margin: Any, shape: tuple[int, ...]) -> Box:
    """A box with a margin on every side, cut to the frame."""
    margins = np.broadcast_to(np.asarray(margin, int), len(shape))
    return tuple(
        slice(max(0, b.start - int(m)), min(n, b.stop + int(m)))
        for b, m, n in zip(box, margins, shape)
    )


def as_lists(box: Box) -> list[list[int]]:
    """A box as plain data, for parameters."""
    return [[int(side.start), int(side.stop)] for side in box]


def as_box(lists: list[list[int]]) -> Box:
    """The box that `as_lists` wrote."""
    return tuple(slice(start, stop) for start, stop in lists)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def check_shape(params: Params, target: Sample) -> None:
    """Refuse parameters that were drawn for an image of another shape."""
    if tuple(params["shape"]) != target.image.spatial_shape:
        raise DataError(
            "these parameters were drawn for another shape",
            target.name,
            f"{target.image.spatial_shape}, drawn for {tuple(params['shape'])}",
        )
