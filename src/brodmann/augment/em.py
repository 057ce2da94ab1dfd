"""Augmentation for electron microscopy: what cutting, staining and imaging do to sections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Any, ClassVar

import numpy as np

from brodmann.augment.base import Params, PatchAugmentation
from brodmann.augment.em_effects import FILLS, change, forget
from brodmann.augment.em_options import Counts, Range, check_option
from brodmann.augment.em_place import (
    AXES,
    moved,
    outside_id,
    place,
    source_window,
    still,
    three_axes,
    turned,
)
from brodmann.augment.warp import rotation
from brodmann.augment.whole import (
    changed,
    draw_whole,
    normalised,
    refuse_another_shape,
    restored,
    rim_medians,
)
from brodmann.core import IGNORE_CLASS, Dataset, RecipeError, Sample

SECTIONED = 2.0
"""From this ratio of spacings on a volume is a stack of sections, and z is no axis like others."""


@dataclass(frozen=True)
class EM(PatchAugmentation):
    """Turns, elastic bending, misaligned, missing and blurred sections, boxes cut out, contrast.

    For images (c, z, y, x) and instance ids, which move with the image and are never mixed. A
    name ending in `_p` is the probability of an effect in each patch; several may come together.
    Spacing decides what z is: where it is at least twice as coarse as the plane, or unknown, or
    where there is one section, nothing is mixed across sections. Else the volume is isotropic
    (FIB-SEM): it bends and scales in 3D, is turned among z, y and x, and faults of single
    sections are rare. Effects are those of EM segmentation since Ronneberger et al. 2015 and Lee
    et al. 2017 (arXiv 1706.00120: misaligned, missing and out-of-focus sections); ranges are
    ours.

    Parameters
    ----------
    flip_p
        Probability of a flip along each of z, y and x, drawn one by one.
    transpose_p
        Probability that axes of equal size are put in a random order, the old one among them.
        Only y and x of equal spacing in sections; with flips these are the quarter turns.
    rotation_p, rotation_deg
        Largest angle in the plane, either way.
    scale_p, scale
        Source size over patch size: above 1 objects shrink.
    elastic_p
        Probability of a smooth displacement.
    elastic_knot_px
        Distance between knots of the displacement, in pixels of the plane.
    elastic_px
        Largest displacement along each axis, in pixels of the plane; below 0.4 knots, so that
        tissue never folds.
    slip_p
        Probability that one section is displaced in the plane.
    translation_p
        Probability that all sections from one on are displaced in the plane.
    misalignment_px
        Length of a slip or translation, rounded to whole pixels along y and x.
    missing_p
        Probability that sections are blank in the image.
    missing_sections
        How many sections are blank, never all.
    missing_fill
        What blank sections hold, any out of "black" (the darkest value), "mean" and "noise".
    missing_ignore
        Whether labels of missing sections become ignore (0 where ids are unsigned).
    blur_p
        Probability that sections are out of focus.
    blur_sections
        How many sections in a row are out of focus.
    blur_box_p
        Probability that a blur covers a box only, not whole sections.
    blur_sigma_px
        Gaussian sigma in the plane.
    cutout_p
        Probability that boxes of the image are blank.
    cutout_boxes
        How many boxes are blank.
    cutout_px
        Sides of boxes in pixels of the plane, along z by the spacing; at most half a patch.
    cutout_fill
        What boxes hold, any out of "black", "mean" and "noise".
    contrast_p, contrast
        Factor about the mean of the patch, cut to the range that was there.
    brightness_p, brightness_std
        Shift of the patch, in deviations of the volume.
    gamma_p, gamma
        Exponent for the patch, on the image or its negative, either as often.
    section_contrast_p, section_contrast
        Factor about its mean for each section of a patch.
    section_brightness_p, section_brightness_std
        Shift for each section of a patch, in deviations of the volume.
    section_gamma_p, section_gamma
        Exponent for each section of a patch.
    noise_p, noise_std
        Deviation of Gaussian noise, in deviations of the volume.
    isotropic_sections
        Factor on the probabilities of slip, translation, missing, blur and section_* in isotropic
        volumes; 0 turns them off.

    Raises
    ------
    RecipeError
        If a probability or range makes no sense.

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> method, shape = EM(rotation_p=1.0, slip_p=1.0), (4, 32, 32)
    >>> params = method.draw_patch(keyed_rng(0, "patch"), shape, 1, spacing=(0.04, 0.004, 0.004))
    >>> window = method.source_shape(params, shape)
    >>> image, ids = np.zeros((1, *window), np.float32), np.ones(window, np.int32)
    >>> image, ids = method.apply_patch(params, image, ids, shape)
    >>> image.shape, window[0], window[1] > 32, int(ids.min())
    ((1, 4, 32, 32), 4, True, 1)
    """

    name: ClassVar[str] = "em"

    flip_p: float = 0.5
    transpose_p: float = 1.0
    rotation_p: float = 0.3
    rotation_deg: float = 45.0
    scale_p: float = 0.3
    scale: Range = (0.9, 1.1)
    elastic_p: float = 0.3
    elastic_knot_px: Range = (24.0, 64.0)
    elastic_px: Range = (1.0, 6.0)
    slip_p: float = 0.1
    translation_p: float = 0.1
    misalignment_px: Range = (1.0, 16.0)
    missing_p: float = 0.1
    missing_sections: Counts = (1, 2)
    missing_fill: tuple[str, ...] = FILLS
    missing_ignore: bool = False
    blur_p: float = 0.1
    blur_sections: Counts = (1, 3)
    blur_box_p: float = 0.5
    blur_sigma_px: Range = (1.0, 3.0)
    cutout_p: float = 0.1
    cutout_boxes: Counts = (1, 4)
    cutout_px: Range = (8.0, 32.0)
    cutout_fill: tuple[str, ...] = ("mean", "noise")
    contrast_p: float = 0.3
    contrast: Range = (0.7, 1.3)
    brightness_p: float = 0.3
    brightness_std: Range = (-0.4, 0.4)
    gamma_p: float = 0.3
    gamma: Range = (0.7, 1.5)
    section_contrast_p: float = 0.15
    section_contrast: Range = (0.8, 1.2)
    section_brightness_p: float = 0.15
    section_brightness_std: Range = (-0.3, 0.3)
    section_gamma_p: float = 0.05
    section_gamma: Range = (0.8, 1.25)
    noise_p: float = 0.2
    noise_std: Range = (0.0, 0.25)
    isotropic_sections: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            check_option(field.name, str(field.type), getattr(self, field.name))
        if self.elastic_px[1] >= 0.4 * self.elastic_knot_px[0]:
            raise RecipeError(
                "tissue would fold",
                "em.elastic_px",
                list(self.elastic_px),
                f"stay below 0.4 of the least knot distance, {0.4 * self.elastic_knot_px[0]:g}",
            )

    def draw_patch(
        self,
        rng: np.random.Generator,
        patch_shape: tuple[int, ...],
        num_channels: int,
        spacing: tuple[float, ...] | None = None,
    ) -> Params:
        """Parameters for one patch (z, y, x), or (y, x), which is one section.

        The first `num_channels` channels change in intensity, further ones only move. `spacing`
        in um; without one the patch counts as sections.
        """
        shape = three_axes(patch_shape)
        step = np.ones(3)
        if spacing is not None:
            step[-len(spacing) :] = spacing
        solid = len(patch_shape) == 3 and spacing is not None and shape[0] > 1
        solid = solid and bool(step.max() / step.min() < SECTIONED)
        rare = self.isotropic_sections if solid else 1.0
        return {
            "shape": list(patch_shape),
            "channels": num_channels,
            **self._draw_turn(rng, shape, step, solid),
            **self._draw_warp(rng, shape, step, solid),
            "misalignment": self._draw_misalignment(rng, shape, rare),
            "image": [
                *self._draw_intensity(rng, shape, rare),
                *self._draw_faults(rng, shape, step, rare),
            ],
        }

    def _draw_turn(
        self, rng: np.random.Generator, shape: Sequence[int], step: np.ndarray, solid: bool
    ) -> Params:
        order = AXES
        if rng.random() < self.transpose_p:
            square = math.isclose(step[1], step[2], rel_tol=0.01)
            allowed = [
                axes
                for axes in permutations(range(3))
                if all(shape[a] == n for a, n in zip(axes, shape))
                and (solid or (axes[0] == 0 and (square or axes[1] == 1)))
            ]
            order = "".join(AXES[axis] for axis in allowed[rng.integers(len(allowed))])
        flips = rng.random(3) < self.flip_p
        return {"order": order, "flip": "".join(a for a, turn in zip(AXES, flips) if turn)}

    def _draw_warp(
        self, rng: np.random.Generator, shape: Sequence[int], step: np.ndarray, solid: bool
    ) -> Params:
        angle, scale, matrix, elastic = 0.0, 1.0, None, None
        if rng.random() < self.rotation_p:
            angle = float(rng.uniform(-self.rotation_deg, self.rotation_deg))
        if rng.random() < self.scale_p:
            scale = float(rng.uniform(*self.scale))
        if angle or scale != 1.0:
            turn = rotation([angle], 3) * scale
            if not solid:
                turn[0, 0] = 1.0
            matrix = (turn * step / step[:, None]).tolist()
        if rng.random() < self.elastic_p:
            pixel = step[1:].min()
            knots = rng.uniform(*self.elastic_knot_px) * pixel / step
            sizes = rng.uniform(*self.elastic_px) * pixel / step
            elastic = {"knot_px": knots.tolist(), "magnitude_px": sizes.tolist()}
            elastic["seed"] = _seed(rng)
            if not solid:
                elastic["knot_px"][0], elastic["magnitude_px"][0] = None, 0.0
        return {"rotation_deg": angle, "scale": scale, "matrix": matrix, "elastic": elastic}

    def _draw_misalignment(
        self, rng: np.random.Generator, shape: Sequence[int], rare: float
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        for op, probability in (("slip", self.slip_p), ("translation", self.translation_p)):
            if rng.random() < probability * rare and shape[0] > 1:
                section = int(rng.integers(1 if op == "translation" else 0, shape[0]))
                length, angle = rng.uniform(*self.misalignment_px), rng.uniform(0, 2 * math.pi)
                shift = [round(length * math.sin(angle)), round(length * math.cos(angle))]
                steps.append({"op": op, "section": section, "shift_px": shift})
        return steps

    def _draw_intensity(
        self, rng: np.random.Generator, shape: Sequence[int], rare: float
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        for op, key in (("contrast", "factor"), ("brightness", "shift_std"), ("gamma", "exponent")):
            tail = "_std" if op == "brightness" else ""
            for prefix, size, share in (("", None, 1.0), ("section_", shape[0], rare)):
                if rng.random() < getattr(self, f"{prefix}{op}_p") * share:
                    drawn = rng.uniform(*getattr(self, f"{prefix}{op}{tail}"), size)
                    steps.append({"op": op, key: float(drawn) if size is None else drawn.tolist()})
                    if op == "gamma":
                        steps[-1]["invert"] = bool(rng.random() < 0.5)
        return steps

    def _draw_faults(
        self, rng: np.random.Generator, shape: Sequence[int], step: np.ndarray, rare: float
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        depth = shape[0]
        if rng.random() < self.blur_p * rare:
            count = min(_count(rng, self.blur_sections), depth)
            first = int(rng.integers(depth - count + 1))
            part = rng.random() < self.blur_box_p
            sides = [_side(rng, n, rng.uniform(0.25, 0.75) * n) if part else [0, n] for n in shape]
            sigma = float(rng.uniform(*self.blur_sigma_px))
            box = [[first, first + count], *sides[1:]]
            steps.append({"op": "blur", "box": box, "sigma_px": [sigma, sigma]})
        if rng.random() < self.noise_p:
            std = float(rng.uniform(*self.noise_std))
            steps.append({"op": "noise", "std": std, "seed": _seed(rng)})
        if rng.random() < self.cutout_p:
            count, pixel = _count(rng, self.cutout_boxes), step[1:].min()
            sizes = rng.uniform(*self.cutout_px, (count, 3)) * pixel / step
            boxes = [
                [_side(rng, n, min(size, n / 2)) for n, size in zip(shape, box)] for box in sizes
            ]
            steps.append(
                {"op": "cutout", "boxes": boxes, "fill": _some(rng, self.cutout_fill, count)}
            )
            steps[-1]["seed"] = _seed(rng)
        if rng.random() < self.missing_p * rare and depth > 1:
            count = min(_count(rng, self.missing_sections), depth - 1)
            sections = sorted(int(z) for z in rng.choice(depth, count, replace=False))
            fill = _some(rng, self.missing_fill, count)
            steps.append({"op": "missing", "sections": sections, "fill": fill, "seed": _seed(rng)})
            steps[-1]["forget"] = self.missing_ignore
        return steps

    def source_shape(self, params: Params, patch_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Voxels to read around the patch's centre; just the patch when nothing moves."""
        return source_window(params, three_axes(patch_shape))[-len(patch_shape) :]

    def apply_patch(
        self,
        params: Params,
        image: np.ndarray,
        labels: np.ndarray | None,
        patch_shape: tuple[int, ...],
        outside_value: float | np.ndarray = 0.0,
        outside_label: int = IGNORE_CLASS,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The patch that `params` make of a window; see `PatchAugmentation`.

        Without rotation, scale and bending nothing is interpolated. The input is never written
        to. Unsigned ids hold no -1: they get 0 (boundary or unknown) in its place.
        """
        shape = three_axes(patch_shape)
        source = image
        if image.ndim == 3 and len(patch_shape) == 2:
            image = image[:, None]
            labels = None if labels is None else labels[None]
        if labels is not None:
            outside_label = outside_id(outside_label, labels.dtype)
        image, labels = place(params, image, labels, shape, outside_value, outside_label)
        if params["image"]:
            if np.may_share_memory(image, source) or image.dtype != np.float32:
                image = image.astype(np.float32, order="C")
            change(image[: params["channels"]], params["image"])
            labels = None if labels is None else forget(labels, params["image"], outside_label)
        image = turned(image, params).reshape(len(image), *patch_shape)
        return image, None if labels is None else turned(labels, params).reshape(patch_shape)

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """Parameters for a whole image, taken as one patch; see `draw_whole`."""
        return draw_whole(self, rng, target, pool)

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The whole image changed, in its own dtype, with labels, second labels and points.

        Channels are brought to zero mean and unit deviation, changed, and brought back; whole
        numbers are rounded and cut to their dtype's range. Corners get the median of the
        image's outermost voxels. Points that leave the image are dropped.
        """
        shape = target.image.spatial_shape
        refuse_another_shape(params, target)
        if still(params) and not params["image"]:
            return target
        raw = target.image.read()
        first, second = (
            None if v is None else v.read()[0] for v in (target.labels, target.labels2)
        )
        image, stats = normalised(raw)
        label = params["outside_label"]
        image, first = self.apply_patch(params, image, first, shape, rim_medians(image), label)
        if second is not None:
            bare = np.empty((0, *shape), np.float32)
            _, second = self.apply_patch(params, bare, second, shape, 0.0, label)
        data = restored(image, stats, raw.dtype)
        points = None if target.points is None else moved(target.points, params, shape)
        return changed(target, data, first, second, points)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63, dtype=np.uint64))


def _count(rng: np.random.Generator, bounds: Counts) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))


def _side(rng: np.random.Generator, size: int, length: float) -> list[int]:
    """[start, stop) of a side of about `length` voxels, at least one, anywhere within `size`."""
    count = min(max(round(length), 1), size)
    start = int(rng.integers(size - count + 1))
    return [start, start + count]


def _some(rng: np.random.Generator, fills: Sequence[str], count: int) -> list[str]:
    return [fills[i] for i in rng.integers(len(fills), size=count)]
