"""A picture of neurons in 3D, drawn without a graphics card or a window.

Surfaces are marching cubes of each neuron's smoothed mask, drawn into a depth buffer with normals
from the same smooth field; creases are darkened by the depth around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit
from scipy import ndimage

from brodmann.core import DataError
from brodmann.core.files import written_beside
from brodmann.report.lettering import bar_text, font
from brodmann.report.palette import color_of
from brodmann.report.panels import scale_bar

MOST_VOXELS = 12_000_000
"""Of the grid that surfaces are made on; larger volumes are thinned to it."""
LARGEST = 24
OVERSAMPLING = 2
SMOOTHING = 0.9
"""Gaussian on the masks, in voxels of that grid."""
TALLEST = 1.6
"""Height of the drawn volume, at most, in widths of the picture."""
AZIMUTH_DEG, ELEVATION_DEG = 32.0, -24.0
PAPER, LINE, INK = (250, 249, 246), (176, 178, 180), (40, 46, 50)
LIGHT = np.array([-0.42, -0.62, -0.66])
"""From the eye's left, above and behind it: (right, down, away)."""


def render_neurons(
    labels: np.ndarray,
    spacing: Sequence[float],
    *,
    ids: Sequence[int] | None = None,
    colors: Sequence[tuple[float, float, float]] | None = None,
    path: Path,
    pixels: int = 1100,
) -> Path:
    """Draw chosen neurons of a label volume, and the volume's edges.

    Parameters
    ----------
    labels : (z, y, x) integers
    spacing : (z, y, x)
        Micrometres.
    ids : sequence of int, optional
        By default the LARGEST ones; colours go by their order. 0 leaves a colour out.
    colors : sequence of (red, green, blue), optional
        In 0..1, one for each id; by default those of `color_of`.
    path : Path
        A PNG file.
    pixels : int
        Width of the picture.

    Raises
    ------
    DataError
        If an id is not there, there is none to draw, or ids and colours differ in number.
    """
    if labels.ndim != 3 or len(spacing) != 3 or not min(spacing) > 0:
        raise DataError("a picture in 3D needs a volume (z, y, x) and its spacing", path)
    thin, steps = _thinned(labels, np.asarray(spacing, float))
    chosen = _chosen(labels, ids, path)
    shades = [color_of(rank) for rank in range(len(chosen))] if colors is None else list(colors)
    if len(shades) != len(chosen):
        raise DataError("each id needs one colour", path, f"{len(chosen)} and {len(shades)}")
    size = np.array(labels.shape) * spacing
    turn = _turn()
    corners = _corners(size)
    seen = (corners - size / 2) @ turn.T
    low, high = seen[:, :2].min(0), seen[:, :2].max(0)
    wide, tall = high - low
    # A tall volume is drawn narrower, so that no shape of it makes a picture without end.
    scale = pixels * OVERSAMPLING * min(0.92 / wide, TALLEST / tall)
    width = pixels * OVERSAMPLING
    height = int(tall * scale + 0.16 * width)
    origin = np.array([0.04 * width, 0.05 * width]) - low * scale
    depth = np.full((height, width), np.inf, np.float32)
    owner = np.full((height, width), -1, np.int32)
    normal = np.zeros((height, width, 3), np.float32)
    for rank, id_ in enumerate(chosen):
        found = _surface(thin, id_, steps, size) if id_ else None
        if found is None:
            continue
        points, faces, outward = found
        eye = (points - size / 2) @ turn.T
        screen = np.column_stack([eye[:, :2] * scale + origin, eye[:, 2]])
        _fill(screen.astype(np.float32), faces, (outward @ turn.T).astype(np.float32),
              rank, depth, owner, normal)  # fmt: skip
    shown = _shaded(depth, owner, normal, shades, scale)
    _edges(shown, depth, seen, scale, origin)
    _save(shown, path, pixels, scale / OVERSAMPLING)
    return Path(path)


def _chosen(labels: np.ndarray, ids: Sequence[int] | None, path: Path) -> list[int]:
    present, counts = np.unique(labels, return_counts=True)
    if ids is None:
        order = np.argsort(counts, kind="stable")[::-1]
        ids = [int(present[i]) for i in order if present[i] > 0][:LARGEST]
    missing = [id_ for id_ in ids if id_ and id_ not in present]
    if missing or not any(ids):
        found = f"ids {missing[:5]}" if missing else "no id above 0"
        raise DataError("no such neuron to draw", path, found)
    return [int(id_) for id_ in ids]


def _thinned(labels: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The volume with voxels left out, finest axes first, until MOST_VOXELS are left."""
    step = np.ones(3, int)
    while np.prod(-(-np.array(labels.shape) // step)) > MOST_VOXELS:
        step[np.argmin(spacing * step)] += 1
    return labels[tuple(slice(None, None, n) for n in step)], spacing * step


def _surface(
    labels: np.ndarray, id_: int, steps: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Points (z, y, x) in um, faces and outward normals; closed at the volume's faces."""
    from skimage.measure import marching_cubes

    mask = labels == id_
    where = ndimage.find_objects(mask.view(np.uint8))
    if not where or where[0] is None:
        return None
    box = where[0]
    # The edge is repeated before smoothing, so that a cut neurite keeps its calibre there.
    sigma = SMOOTHING * steps.min() / steps
    field = ndimage.gaussian_filter(np.pad(mask[box], 3).astype(np.float32), sigma)
    points, faces, _, _ = marching_cubes(field, 0.5 if field.max() > 0.5 else field.max() / 2)
    slopes = [ndimage.sobel(field, axis) / step for axis, step in enumerate(steps)]
    outward = -np.stack(
        [ndimage.map_coordinates(slope, points.T, order=1) for slope in slopes], axis=1
    )
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    start = np.array([part.start for part in box])
    points = (points - 3 + start + 0.5) * steps
    return np.clip(points, 0, size), faces.astype(np.int64), outward


def _turn() -> np.ndarray:
    """(z, y, x) -> (right, down, away)."""
    a, e = np.deg2rad(AZIMUTH_DEG), np.deg2rad(ELEVATION_DEG)
    about = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(e), np.sin(e)], [0, -np.sin(e), np.cos(e)]])
    return tilt @ about @ np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)


def _corners(size: np.ndarray) -> np.ndarray:
    return np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * size


def _shaded(
    depth: np.ndarray,
    owner: np.ndarray,
    normal: np.ndarray,
    colors: list[tuple[float, float, float]],
    scale: float,
) -> np.ndarray:
    """Light from above, a soft fill, a rim, and darker creases; RGB float32 in 0..255."""
    picture = np.empty((*depth.shape, 3), np.float32)
    picture[:] = PAPER
    body = owner >= 0
    if not body.any():
        return picture
    facing = normal[body]
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
    light = LIGHT / np.linalg.norm(LIGHT)
    direct = np.clip(facing @ light, 0, 1)
    toward_eye = np.clip(-facing[:, 2], 0, 1)
    half = light + np.array([0, 0, -1.0])
    shine = np.clip(facing @ (half / np.linalg.norm(half)), 0, 1) ** 40
    # How far the surroundings stand before a pixel: deep clefts are dark.
    far = depth[body].max()
    filled = np.where(body, depth, far)
    shade = np.zeros(depth.shape, np.float32)
    for radius in (6, 18):
        around = ndimage.gaussian_filter(filled, radius * OVERSAMPLING)
        shade += np.clip((filled - around) * scale / (radius * OVERSAMPLING), 0, 1.4)
    open_ = 1 - 0.36 * np.clip(shade[body], 0, 2) / 2 * 1.4
    near = depth[body].min()
    air = 0.10 * (depth[body] - near) / max(far - near, 1e-9)
    base = np.array(colors, np.float32)[owner[body]]
    amount = (0.56 + 0.46 * direct + 0.16 * toward_eye) * open_
    lit = base * amount[:, None] + 0.16 * shine[:, None]
    lit = lit * (1 - air[:, None]) + air[:, None] * np.array(PAPER) / 255
    picture[body] = np.clip(lit, 0, 1) * 255
    # A thin dark line where one body ends and another begins.
    step = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        other = np.roll(owner, 1, axis)
        step |= owner != other
    picture[step & body] *= 0.62
    return picture


def _edges(
    picture: np.ndarray, depth: np.ndarray, seen: np.ndarray, scale: float, origin: np.ndarray
) -> None:
    """The volume's twelve edges, where no neuron stands before them."""
    for a in range(8):
        for bit in (1, 2, 4):
            b = a | bit
            if a == b:
                continue
            count = int(np.linalg.norm((seen[a] - seen[b])[:2]) * scale) + 2
            line = seen[a] + np.linspace(0, 1, count)[:, None] * (seen[b] - seen[a])
            xy = np.rint(line[:, :2] * scale + origin).astype(int)
            for dx in range(OVERSAMPLING):
                x = np.clip(xy[:, 0] + dx, 0, depth.shape[1] - 1)
                y = np.clip(xy[:, 1], 0, depth.shape[0] - 1)
                free = line[:, 2] <= depth[y, x] + 1e-6
                picture[y[free], x[free]] = LINE


def _save(picture: np.ndarray, path: Path, pixels: int, pixels_per_um: float) -> None:
    from PIL import Image, ImageDraw

    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    height = round(image.height * pixels / image.width)
    image = image.resize((pixels, height), Image.Resampling.LANCZOS)
    length_um, _ = scale_bar(0.92 * pixels / pixels_per_um)
    text = bar_text(length_um)
    draw = ImageDraw.Draw(image)
    left, bottom = round(0.04 * pixels), height - round(0.03 * pixels)
    draw.rectangle([left, bottom - 5, left + round(length_um * pixels_per_um), bottom], INK)
    draw.text((left, bottom - 10), text, INK, font=font(max(12, pixels // 55)), anchor="lb")
    with written_beside(path) as beside:
        image.save(beside, format="PNG")


@njit(cache=True)
def _fill(points, faces, normals, rank, depth, owner, facing):
    """Draw triangles into the buffers: what is nearer to the eye stays."""
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        x0 = max(0, int(np.floor(min(ax, bx, cx))))
        x1 = min(width - 1, int(np.ceil(max(ax, bx, cx))))
        y0 = max(0, int(np.floor(min(ay, by, cy))))
        y1 = min(height - 1, int(np.ceil(max(ay, by, cy))))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1 - u - v
                if u < -1e-4 or v < -1e-4 or w < -1e-4:
                    continue
                z = u * points[a, 2] + v * points[b, 2] + w * points[c, 2]
                if z < depth[y, x]:
                    depth[y, x] = z
                    owner[y, x] = rank
                    for i in range(3):
                        facing[y, x, i] = u * normals[a, i] + v * normals[b, i] + w * normals[c, i]
