"""Whole images in their own dtype: to and from the scale that patches are changed in."""

from __future__ import annotations

import numpy as np

from brodmann.augment.base import Params, PatchAugmentation
from brodmann.augment.intensity import moments
from brodmann.augment.warp import Elastic, moved_points
from brodmann.core import BACKGROUND, DataError, Dataset, Points, Sample


def draw_whole(
    method: PatchAugmentation,
    rng: np.random.Generator,
    target: Sample,
    pool: Dataset | None,
) -> Params:
    """Parameters for a whole image, taken as one patch.

    Where the moved image leaves corners, labels become the tree's ignore id if `pool` has one,
    else background: `outside_label`.
    """
    image = target.image
    params = method.draw_patch(rng, image.spatial_shape, image.num_channels, image.spacing)
    tree = pool.label_map if pool is not None else None
    has_ignore = tree is not None and tree.ignore is not None
    params["outside_label"] = tree.ignore if has_ignore else BACKGROUND
    return params


def refuse_another_shape(params: Params, target: Sample) -> None:
    """Refuse parameters that were drawn for an image of another shape."""
    shape = target.image.spatial_shape
    if tuple(params["shape"]) != shape:
        raise DataError(
            "these parameters were drawn for another shape",
            target.name,
            f"{shape}, drawn for {tuple(params['shape'])}",
        )


def changed(
    target: Sample,
    data: np.ndarray,
    labels: np.ndarray | None,
    labels2: np.ndarray | None,
    points: Points | None,
) -> Sample:
    """The target with other pixels (c, *spatial), labels and points on its own grid."""
    return target.with_(
        image=target.image.like(data if target.image.axes.startswith("c") else data[0]),
        labels=None if target.labels is None else target.labels.like(labels),
        labels2=None if target.labels2 is None else target.labels2.like(labels2),
        points=points,
    )


def normalised(raw: np.ndarray) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """(c, *spatial) float32 at zero mean and unit deviation, and each channel's mean and std."""
    image, stats = np.empty(raw.shape, np.float32), []
    raw = raw.astype(np.uint8) if raw.dtype == bool else raw
    for channel, out in zip(raw, image):
        mean, std = moments(channel.reshape(-1))
        std = max(std, 1e-8)
        np.subtract(channel, np.float32(mean), out=out, casting="unsafe", dtype=np.float32)
        out /= np.float32(std)
        stats.append((mean, std))
    return image, stats


def restored(image: np.ndarray, stats: list[tuple[float, float]], dtype: np.dtype) -> np.ndarray:
    """Back to the intensities it came from; changes `image`."""
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype) if dtype.kind in "iub" else None
    result = np.empty(image.shape, dtype)
    for channel, out, (mean, std) in zip(image, result, stats):
        channel *= np.float32(std)
        channel += np.float32(mean)
        if limits is not None:
            np.rint(channel, out=channel)
            # In float32 the largest int32 rounds up, past the limit.
            high = (
                np.nextafter(np.float32(limits.max), np.float32(0))
                if limits.bits > 24
                else limits.max
            )
            np.clip(channel, limits.min, 1 if dtype.kind == "b" else high, out=channel)
        out[...] = channel.astype(dtype)
    return result


def rim_medians(image: np.ndarray) -> np.ndarray:
    """Per channel the median of the outermost voxels in y and x, where a slide is bare."""
    sides = image[..., 0, :], image[..., -1, :], image[..., :, 0], image[..., :, -1]
    rim = np.concatenate([side.reshape(len(image), -1) for side in sides], axis=1)
    return np.median(rim, axis=1)


def moved(
    points: Points,
    params: Params,
    matrix: np.ndarray | None,
    elastic: Elastic | None,
    shape: tuple[int, ...],
) -> Points:
    """The points that are still in the image after the warp and the flips of `params`."""
    axes, place = "zyx"[-len(shape) :], points.coordinates
    if points.axes != axes:
        raise DataError(f"points of this image need columns {list(axes)}", found=list(points.axes))
    if matrix is not None:
        place = moved_points(place, matrix, shape, shape, elastic)
    for axis in params["mirror"]:
        column = axes.index(axis)
        place[:, column] = shape[column] - 1 - place[:, column]
    table = points.table.copy()
    table[list(axes)] = place
    inside = np.all((place >= -0.5) & (place < np.asarray(shape) - 0.5), axis=1)
    return Points(table[inside])
