"""Pictures: channel composites, label images, differences and confidence, small enough to show."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brodmann.core import BACKGROUND, LabelMap, Volume
from brodmann.core.labels import unique_inverse
from brodmann.report.counts import label_of
from brodmann.report.view import MappedSection

LONGEST = 1600
"""Pixels on the longer side of a picture of a section."""
STRIP_VOXELS = 1 << 23
CHANNEL_COLORS = ((1, 0, 1), (0, 1, 0), (0.2, 0.6, 1), (1, 0.75, 0), (1, 0.3, 0.2), (0.6, 0.3, 1))
"""Magenta and green first: told apart by nearly everybody."""
DIFFERENCES = (
    ("right", (0, 0, 0, 0)),
    ("another region", (255, 140, 0, 235)),
    ("region missed", (60, 170, 255, 235)),
    ("tissue invented", (255, 85, 190, 235)),
    ("not annotated", (128, 128, 128, 120)),
)


@dataclass(frozen=True)
class Plane:
    """One picture's worth of a section, at display size.

    `image` is (h, w, 3) uint8; `prediction` and `truth` are (h, w) ids, `confidence` (h, w)
    uint8; `pixel_um` is the (y, x) size of a displayed pixel.
    """

    caption: str
    image: np.ndarray
    prediction: np.ndarray
    truth: np.ndarray | None
    confidence: np.ndarray | None
    pixel_um: tuple[float, float]


def planes_of(
    section: MappedSection, longest: int = LONGEST, ignore: int | None = None
) -> list[Plane]:
    """The section itself, or a volume's three middle slices, at most `longest` pixels long.

    Where the truth leaves voxels out (id `ignore`), a slice is the one nearest the middle that
    holds at least half as many annotated voxels as the best. Images are averaged over blocks,
    label images take each block's central pixel. Only the planes shown are read, strip by
    strip, and a truth with an ignore id, a slice at a time.
    """
    grid = section.image
    if grid.ndim == 2:
        return [_plane(section, "", None, 0, longest)]
    places = [size // 2 for size in grid.spatial_shape]
    if section.truth is not None and ignore is not None:
        places = _annotated(section.truth, ignore)
    return [
        _plane(section, f"{name} = {place} of {size}", axis, place, longest)
        for axis, (name, place, size) in enumerate(
            zip(grid.spatial_axes, places, grid.spatial_shape)
        )
    ]


def _annotated(truth: Volume, ignore: int) -> list[int]:
    """For each axis the slice nearest the middle of those with many annotated voxels."""
    counts = [np.zeros(size, np.int64) for size in truth.spatial_shape]
    for z in range(truth.spatial_shape[0]):
        known = truth.read((slice(z, z + 1), slice(None), slice(None)))[0, 0] != ignore
        counts[0][z] = known.sum()
        counts[1] += known.sum(1)
        counts[2] += known.sum(0)
    places = []
    for count in counts:
        many = np.flatnonzero(2 * count >= count.max())
        places.append(int(many[np.argmin(np.abs(many - len(count) // 2))]))
    return places


def composite(channels: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
    """One RGB picture of all channels: grey, RGB, or magenta, green and on, added up.

    Parameters
    ----------
    channels : (c, h, w) array
        Each channel is stretched between its 0.5 and 99.7 percentiles; pixels that are not
        finite are black. Channels named red, green and blue keep their balance: 8-bit ones
        are shown as they are, others are stretched together.
    names : sequence of str, optional

    Returns
    -------
    (h, w, 3) array of uint8

    Example
    -------
    >>> composite(np.array([[[0, 1]], [[1, 0]]])).tolist()
    [[[0, 255, 0], [255, 0, 255]]]
    """
    if [name.lower() for name in names] == ["red", "green", "blue"]:
        if channels.dtype == np.uint8:
            return np.ascontiguousarray(np.moveaxis(channels, 0, -1))
        return (np.moveaxis(_stretch(channels), 0, -1) * 255 + 0.5).astype(np.uint8)
    stretched = [_stretch(channel) for channel in channels]
    if len(stretched) == 1:
        return np.repeat((stretched[0][..., None] * 255 + 0.5).astype(np.uint8), 3, axis=-1)
    picture = np.zeros((*channels.shape[1:], 3), np.float32)
    for index, channel in enumerate(stretched):
        color = np.array(CHANNEL_COLORS[index % len(CHANNEL_COLORS)], np.float32)
        picture += channel[..., None] * color
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def color_labels(labels: np.ndarray, label_map: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """A label image as (h, w) palette indices and the (n, 3) uint8 palette: one look-up."""
    present, place = unique_inverse(labels)
    palette = np.array([_color(label_map, int(id_)) for id_ in present], np.uint8)
    return place.reshape(labels.shape), palette.reshape(-1, 3)


def differences(prediction: np.ndarray, truth: np.ndarray, ignore: int | None) -> np.ndarray:
    """Index into DIFFERENCES for each pixel, (h, w) uint8.

    >>> differences(np.array([1, 2, 0, 1, 5]), np.array([1, 1, 1, 0, 9]), 9).tolist()
    [0, 1, 2, 3, 4]
    """
    wrong = prediction != truth
    kinds = wrong.astype(np.uint8)
    kinds[wrong & (prediction == BACKGROUND)] = 2
    kinds[wrong & (truth == BACKGROUND)] = 3
    if ignore is not None:
        kinds[truth == ignore] = 4
    return kinds


def labels_uri(labels: np.ndarray, label_map: LabelMap) -> str:
    """A label image in its colours, as an inline PNG."""
    indices, palette = color_labels(labels, label_map)
    if len(palette) > 256:
        return _png(palette[indices])
    return _png(indices.astype(np.uint8), palette)


def differences_uri(kinds: np.ndarray) -> str:
    """The differences as an inline PNG, clear where the prediction is right."""
    rgba = np.array([color for _, color in DIFFERENCES], np.uint8)
    return _png(kinds, rgba[:, :3], rgba[:, 3])


def confidence_uri(confidence: np.ndarray, tissue: np.ndarray) -> str:
    """Confidence in the colours of `confidence_colors`, black outside the tissue, inline."""
    lut = (np.array(confidence_colors(256)) * 255 + 0.5).astype(np.uint8)
    return image_uri(lut[confidence] * tissue[..., None].astype(np.uint8))


def confidence_colors(count: int) -> list[tuple[float, float, float]]:
    """`count` colours from unsure to sure, RGB in 0..1 (matplotlib's cividis)."""
    from matplotlib import colormaps

    return [tuple(row[:3]) for row in colormaps["cividis"](np.linspace(0, 1, count))]


def image_uri(rgb: np.ndarray, quality: int = 82) -> str:
    """An RGB picture as an inline WebP."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def thumbnail_uri(section: MappedSection, label_map: LabelMap, longest: int = 320) -> str:
    """The first plane with the prediction's colours over it, as an inline WebP."""
    plane = planes_of(section, longest)[0]
    indices, palette = color_labels(plane.prediction, label_map)
    image = plane.image.astype(np.float32)
    blend = np.where((plane.prediction == BACKGROUND)[..., None], 0, 0.5)
    return image_uri((image * (1 - blend) + palette[indices] * blend).astype(np.uint8), 78)


def _color(label_map: LabelMap, id_: int) -> tuple[int, int, int]:
    if id_ == BACKGROUND:
        return (0, 0, 0)
    return (90, 90, 90) if id_ == label_map.ignore else label_of(label_map, id_).rgb


def _png(indices: np.ndarray, palette: np.ndarray | None = None, alpha=None) -> str:
    from PIL import Image

    picture = Image.fromarray(indices)
    options = {}
    if palette is not None:
        picture.putpalette(palette.tobytes())
    if alpha is not None:
        options["transparency"] = alpha.tobytes()
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _stretch(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros_like(values)
    low, high = np.percentile(values[finite], (0.5, 99.7))
    if high <= low:
        low, high = values[finite].min(), values[finite].max()
    scaled = (values - low) / (high - low if high > low else 1)
    return np.clip(np.where(finite, scaled, 0), 0, 1)


def _plane(
    section: MappedSection, caption: str, axis: int | None, place: int, longest: int
) -> Plane:
    grid = section.image
    shape, spacing = list(grid.spatial_shape), list(grid.spacing)
    if axis is not None:
        del shape[axis], spacing[axis]
    step = max(1, -(-max(shape) // longest))
    image = composite(shrink(grid, axis, step, place, mean=True), grid.channels)
    prediction = shrink(section.prediction, axis, step, place)[0]
    truth = None if section.truth is None else shrink(section.truth, axis, step, place)[0]
    sure = None if section.confidence is None else shrink(section.confidence, axis, step, place)[0]
    pixel_um = (spacing[0] * step, spacing[1] * step)
    return Plane(caption, image, prediction, truth, sure, pixel_um)


def shrink(
    grid: Volume, axis: int | None, step: int, place: int | None = None, mean: bool = False
) -> np.ndarray:
    """One plane as (c, h, w), every `step`-th pixel or means over blocks of step x step.

    The plane is slice `place` along `axis`, by default the middle.
    """
    shape = list(grid.spatial_shape)
    window = [slice(None)] * grid.ndim
    if axis is not None:
        place = shape[axis] // 2 if place is None else place
        window[axis] = slice(place, place + 1)
        rows_axis = 1 if axis == 0 else 0
    else:
        rows_axis = 0
    height = shape[rows_axis]
    width = next(size for i, size in enumerate(shape) if i not in (axis, rows_axis))
    rows = max(1, STRIP_VOXELS // (step * width)) * step
    strips = []
    for start in range(0, height, rows):
        window[rows_axis] = slice(start, min(start + rows, height))
        strip = grid.read(tuple(window))
        if axis is not None:
            strip = strip.squeeze(axis + 1)
        strips.append(_block_means(strip, step) if mean else _block_centres(strip, step))
    return np.concatenate(strips, axis=1)


def _block_centres(strip: np.ndarray, step: int) -> np.ndarray:
    """The pixel in the middle of each block; of a block cut short, the nearest to it."""
    y, x = (np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in strip.shape[1:])
    return strip[:, y[:, None], x]


def _block_means(strip: np.ndarray, step: int) -> np.ndarray:
    """Means over blocks, those at the edge over what there is; the dtype is kept for step 1."""
    if step == 1:
        return strip
    total = strip.astype(np.float32)
    for axis in (1, 2):
        size = total.shape[axis]
        starts = np.arange(0, size, step)
        counts = np.minimum(starts + step, size) - starts
        total = np.add.reduceat(total, starts, axis=axis)
        total /= counts[:, None] if axis == 1 else counts
    return np.round(total).astype(strip.dtype) if strip.dtype.kind in "iub" else total
