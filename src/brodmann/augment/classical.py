"""The classical augmentations, in nnU-Net's manner: one warp, then changes of intensity."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from brodmann.augment import intensity
from brodmann.augment.base import Params, PatchAugmentation, crop_centre
from brodmann.augment.warp import Elastic, rotation, warp, window_shape
from brodmann.augment.whole import (
    changed,
    draw_whole,
    moved,
    normalised,
    refuse_another_shape,
    restored,
    rim_medians,
)
from brodmann.core import IGNORE_CLASS, Dataset, RecipeError, Sample

Range = tuple[float, float]
ANISOTROPY = 3.0
"""nnU-Net's limit: patches this much longer than deep are turned and bent in the plane only."""


@dataclass(frozen=True)
class Classical(PatchAugmentation):
    """Rotation, scale, elastic deformation, mirroring, noise, blur and changes of intensity.

    Figures are those of nnU-Net v2's default trainer (Isensee et al. 2021 and its
    batchgeneratorsv2; specs/regions.md part A), where a name ending in `_p` is a
    probability for each patch, and `_channel_p` for each channel of a patch that was chosen.
    Mirroring is off unless asked for: flips make sections that cannot exist and cost left
    and right.

    Parameters
    ----------
    rotation_p, rotation_deg
        Largest angle. None takes nnU-Net's rule: 2D +-15 where the patch's sides differ by
        more than 1.5, else +-180; 3D +-30 about every axis, or, in a patch over 3 times
        longer than deep, +-180 in the plane of the last two axes.
    scale_p, scale
        Source size over patch size: above 1 objects shrink.
    elastic_p, elastic_knot, elastic_magnitude
        Off by default, as in nnU-Net. Distance between knots as a share of the patch's
        shortest side, and largest displacement as a share of that distance (below 0.4, so
        that tissue never folds).
    mirror_axes
        Letters out of "zyx"; each is flipped with probability 0.5.
    noise_p, noise_std
        Gaussian, the same deviation in all channels. nnU-Net calls this range a variance
        and uses it as a deviation; so do we.
    blur_p, blur_channel_p, blur_sigma_px
        Gaussian, one sigma for each channel and axis.
    brightness_p, brightness
        Factor. This and the next three ranges give values below and above 1 equally often.
    contrast_p, contrast
        Factor about the mean, cut to the range that was there.
    low_res_p, low_res_channel_p, low_res_zoom
        Shrunk to the nearest voxel and grown linearly.
    gamma_p, gamma_invert_p, gamma
        Exponent, on the image and on its negative; mean and deviation are kept.

    Raises
    ------
    RecipeError
        If a probability or range makes no sense.

    Example
    -------
    >>> from brodmann.core import keyed_rng
    >>> method = Classical(rotation_p=1.0, mirror_axes="x")
    >>> params = method.draw_patch(keyed_rng(0, "patch"), (32, 64), num_channels=2)
    >>> window = method.source_shape(params, (32, 64))
    >>> image, labels = np.zeros((2, *window), np.float32), np.ones(window, np.int16)
    >>> image, labels = method.apply_patch(params, image, labels, (32, 64))
    >>> image.shape, labels.shape, params["mirror"] in ("", "x")
    ((2, 32, 64), (32, 64), True)
    """

    name: ClassVar[str] = "classical"

    rotation_p: float = 0.2
    rotation_deg: float | None = None
    scale_p: float = 0.2
    scale: Range = (0.7, 1.4)
    elastic_p: float = 0.0
    elastic_knot: Range = (0.15, 0.4)
    elastic_magnitude: Range = (0.0, 0.3)
    mirror_axes: str = ""
    noise_p: float = 0.1
    noise_std: Range = (0.0, 0.1)
    blur_p: float = 0.2
    blur_channel_p: float = 0.5
    blur_sigma_px: Range = (0.5, 1.0)
    brightness_p: float = 0.15
    brightness: Range = (0.75, 1.25)
    contrast_p: float = 0.15
    contrast: Range = (0.75, 1.25)
    low_res_p: float = 0.25
    low_res_channel_p: float = 0.5
    low_res_zoom: Range = (0.5, 1.0)
    gamma_p: float = 0.3
    gamma_invert_p: float = 0.1
    gamma: Range = (0.7, 1.5)

    def __post_init__(self) -> None:
        for field in fields(self):
            value, where = getattr(self, field.name), f"classical.{field.name}"
            if field.name.endswith("_p") and not (_is_number(value) and 0 <= value <= 1):
                raise RecipeError("a probability lies in 0..1", where, value)
            if field.type == "Range":
                low, high = LIMITS[field.name]
                if not (
                    isinstance(value, tuple)
                    and len(value) == 2
                    and all(_is_number(bound) for bound in value)
                    and low <= value[0] <= value[1] <= high
                ):
                    raise RecipeError(
                        f"a range is [low, high] within {low:g}..{high:g}", where, value
                    )
        angle = self.rotation_deg
        if angle is not None and not (_is_number(angle) and 0 <= angle <= 180):
            raise RecipeError("an angle lies in 0..180 degrees", "classical.rotation_deg", angle)
        if not isinstance(self.mirror_axes, str) or not set(self.mirror_axes) <= set("zyx"):
            raise RecipeError(
                "axes to mirror are letters out of 'zyx'",
                "classical.mirror_axes",
                repr(self.mirror_axes),
                "write 'yx' for both axes of a section, '' for none",
            )

    def draw_patch(
        self,
        rng: np.random.Generator,
        patch_shape: tuple[int, ...],
        num_channels: int,
        spacing: tuple[float, ...] | None = None,
    ) -> Params:
        """Parameters for one patch; see `PatchAugmentation`.

        The first `num_channels` channels change in intensity, further ones only move.

        With `spacing` (um) rotations are rigid in space also where voxels are not cubes.
        """
        ndim = len(patch_shape)
        step = np.ones(ndim) if spacing is None else np.asarray(spacing, float)
        flat = ndim == 3 and max(patch_shape) / patch_shape[0] > ANISOTROPY
        angles: list[float] = []
        if rng.random() < self.rotation_p:
            limit = self._angle_limit(patch_shape, flat)
            angles = rng.uniform(-limit, limit, 1 if ndim == 2 or flat else 3).tolist()
        scale = float(rng.uniform(*self.scale)) if rng.random() < self.scale_p else 1.0
        params: Params = {
            "shape": list(patch_shape),
            "channels": num_channels,
            "rotation_deg": angles,
            "scale": scale,
        }
        params["matrix"] = None
        if angles or scale != 1.0:
            matrix = rotation(angles, ndim) * scale
            if flat:
                matrix[0, 0] = 1.0
            params["matrix"] = (matrix * step / step[:, None]).tolist()
        params["elastic"] = None
        if rng.random() < self.elastic_p:
            plane = slice(1 if flat else 0, None)
            side = float((np.asarray(patch_shape) * step)[plane].min())
            share, size = rng.uniform(*self.elastic_knot), rng.uniform(*self.elastic_magnitude)
            # At least two voxels between knots, or the spline is noise.
            knots = np.maximum(side * share / step, 2.0)
            params["elastic"] = {
                "knot_px": knots.tolist(),
                "magnitude_px": (knots * size).tolist(),
                "seed": _seed(rng),
            }
            if flat:
                params["elastic"]["knot_px"][0], params["elastic"]["magnitude_px"][0] = None, 0.0
        axes = [axis for axis in "zyx"[-ndim:] if axis in self.mirror_axes]
        params["mirror"] = "".join(axis for axis in axes if rng.random() < 0.5)
        params["intensity"] = self._draw_intensity(rng, ndim, num_channels, flat)
        return params

    def _angle_limit(self, patch_shape: tuple[int, ...], flat: bool) -> float:
        if self.rotation_deg is not None:
            return self.rotation_deg
        if len(patch_shape) == 2:
            return 15.0 if max(patch_shape) / min(patch_shape) > 1.5 else 180.0
        return 180.0 if flat else 30.0

    def _draw_intensity(
        self, rng: np.random.Generator, ndim: int, count: int, flat: bool
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []

        def some(probability: float, draw: Any) -> list[Any]:
            return [draw() if rng.random() < probability else None for _ in range(count)]

        if rng.random() < self.noise_p:
            std = float(rng.uniform(*self.noise_std))
            steps.append({"op": "noise", "std": std, "seed": _seed(rng)})
        if rng.random() < self.blur_p:
            sigma = some(
                self.blur_channel_p, lambda: rng.uniform(*self.blur_sigma_px, ndim).tolist()
            )
            steps.append({"op": "blur", "sigma_px": sigma})
        if rng.random() < self.brightness_p:
            factor = [_about_one(rng, self.brightness) for _ in range(count)]
            steps.append({"op": "brightness", "factor": factor})
        if rng.random() < self.contrast_p:
            factor = [_about_one(rng, self.contrast) for _ in range(count)]
            steps.append({"op": "contrast", "factor": factor})
        if rng.random() < self.low_res_p:

            def zoom() -> list[float]:
                step = float(rng.uniform(*self.low_res_zoom))
                return [1.0 if flat and axis == 0 else step for axis in range(ndim)]

            steps.append({"op": "low_res", "zoom": some(self.low_res_channel_p, zoom)})
        for probability, invert in ((self.gamma_invert_p, True), (self.gamma_p, False)):
            if rng.random() < probability:
                exponent = [_about_one(rng, self.gamma) for _ in range(count)]
                steps.append({"op": "gamma", "exponent": exponent, "invert": invert})
        return steps

    def source_shape(self, params: Params, patch_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Voxels to read around the patch's centre; just the patch when nothing moves."""
        matrix, elastic = _geometry(params, len(patch_shape))
        if matrix is None:
            return tuple(patch_shape)
        return window_shape(patch_shape, matrix, elastic)

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

        When nothing moves, nothing is interpolated: the middle of the window is cut out as
        it is. The input is never written to.
        """
        ndim = len(patch_shape)
        matrix, elastic = _geometry(params, ndim)
        fresh = matrix is not None
        if matrix is None:
            image = crop_centre(image, patch_shape)
            labels = None if labels is None else crop_centre(labels, patch_shape)
        else:
            image, labels = warp(
                image, labels, matrix, patch_shape, elastic, outside_value, outside_label
            )
        if params["mirror"]:
            axes = ["zyx"[-ndim:].index(axis) for axis in params["mirror"]]
            image = np.flip(image, [axis + 1 for axis in axes]).copy()
            labels = None if labels is None else np.flip(labels, axes).copy()
            fresh = True
        if params["intensity"]:
            if not fresh or image.dtype != np.float32:
                image = image.astype(np.float32, order="C")
            _change_intensity(image[: params["channels"]], params["intensity"])
        return image, labels

    def draw(self, rng: np.random.Generator, target: Sample, pool: Dataset | None = None) -> Params:
        """Parameters for a whole image, taken as one patch; see `draw_whole`."""
        return draw_whole(self, rng, target, pool)

    def apply(self, params: Params, target: Sample, pool: Dataset | None = None) -> Sample:
        """The whole image changed, in its own dtype, with labels, second labels and points.

        Each channel is brought to zero mean and unit deviation, changed, and brought back;
        whole numbers are rounded and cut to their dtype's range. Corners get the median of
        the image's outermost voxels. Points that leave the image are dropped. Category and
        attributes are kept: a scaled image no longer has the volumes it was measured with.
        """
        shape = target.image.spatial_shape
        refuse_another_shape(params, target)
        matrix, elastic = _geometry(params, len(shape))
        if matrix is None and not params["mirror"] and not params["intensity"]:
            return target
        raw = target.image.read()
        labels = [None if v is None else v.read()[0] for v in (target.labels, target.labels2)]
        image, stats = normalised(raw)
        outside = rim_medians(image)
        label = params["outside_label"]
        image, first = self.apply_patch(params, image, labels[0], shape, outside, label)
        second = labels[1]
        if second is not None:
            still, bare = {**params, "intensity": []}, np.empty((0, *shape), np.float32)
            _, second = self.apply_patch(still, bare, second, shape, 0.0, label)
        points = target.points
        if points is not None:
            points = moved(points, params, matrix, elastic, shape)
        data = restored(image, stats, raw.dtype)
        return changed(target, data, first, second, points)


LIMITS: dict[str, Range] = {
    "scale": (0.1, 10.0),
    "elastic_knot": (0.02, 1.0),
    "elastic_magnitude": (0.0, 0.4),
    "noise_std": (0.0, 10.0),
    "blur_sigma_px": (0.0, 50.0),
    "brightness": (0.0, 10.0),
    "contrast": (0.0, 10.0),
    "low_res_zoom": (0.05, 1.0),
    "gamma": (0.1, 10.0),
}
"""What each range must lie within."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63, dtype=np.uint64))


def _about_one(rng: np.random.Generator, bounds: Range) -> float:
    """Below and above 1 equally often, whatever the widths; batchgenerators' BGContrast."""
    low, high = bounds
    below = rng.random() < 0.5
    if low < 1 and (below or high <= 1):
        return float(rng.uniform(low, min(high, 1.0)))
    return float(rng.uniform(max(low, 1.0), high))


def _geometry(params: Params, ndim: int) -> tuple[np.ndarray | None, Elastic | None]:
    """The matrix and the displacement that were drawn; both None when nothing is resampled."""
    bend = params["elastic"]
    if bend is None and params["matrix"] is None:
        return None, None
    matrix = np.eye(ndim) if params["matrix"] is None else np.array(params["matrix"], float)
    if bend is None:
        return matrix, None
    return matrix, Elastic(tuple(bend["knot_px"]), tuple(bend["magnitude_px"]), bend["seed"])


def _change_intensity(image: np.ndarray, steps: list[dict[str, Any]]) -> None:
    for step in steps:
        op = step["op"]
        noise = np.random.Generator(np.random.PCG64(step["seed"])) if op == "noise" else None
        for i, channel in enumerate(image):
            if noise is not None:
                intensity.add_noise(channel, step["std"], noise)
            elif op == "blur" and step["sigma_px"][i] is not None:
                intensity.blur(channel, step["sigma_px"][i])
            elif op == "brightness":
                intensity.brightness(channel, step["factor"][i])
            elif op == "contrast":
                intensity.contrast(channel, step["factor"][i])
            elif op == "low_res" and step["zoom"][i] is not None:
                intensity.low_resolution(channel, step["zoom"][i])
            elif op == "gamma":
                intensity.gamma(channel, step["exponent"][i], step["invert"])
