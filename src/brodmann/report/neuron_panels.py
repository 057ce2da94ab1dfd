"""One section: image, affinities, truth, segments in the truth's colours, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from brodmann.core import DataError
from brodmann.core.files import written_beside
from brodmann.metrics.clusters import ClusterTable, cluster_table
from brodmann.metrics.clusters.scores import marginal
from brodmann.report.lettering import bar_text, font
from brodmann.report.palette import colors_of
from brodmann.report.panels import scale_bar

PANEL = 560
"""Pixels along the longer side of a panel."""
GAP, HEAD, FOOT = 16, 40, 44
PAPER, INK, SOFT = (250, 249, 246), (40, 46, 50), (110, 118, 124)
SPLIT, MERGE = (20, 132, 214), (222, 48, 56)
OPACITY = 0.6
SHARED = 0.2


def neuron_panel(
    image: np.ndarray,
    truth: np.ndarray,
    segments: np.ndarray,
    *,
    affinities: np.ndarray | None = None,
    z: int,
    spacing: Sequence[float],
    path: Path,
) -> Path:
    """Draw a row of panels of one section.

    Segments take the colour of the neuron that they cover most, in the whole volume; of several
    segments of one neuron all but the largest are lighter or darker. Borders of segments within a
    true neuron are splits; borders of the truth within a segment are merges.

    Parameters
    ----------
    image, truth, segments : (z, y, x)
    affinities : (c, z, y, x) uint8, optional
        Drawn as the mean of the channels.
    z : int
        The section.
    spacing : (z, y, x)
        Micrometres.
    path : Path
        A PNG file.

    Raises
    ------
    DataError
        If shapes differ, or there is no such section.
    """
    if image.ndim != 3 or not image.shape == truth.shape == segments.shape:
        raise DataError(
            "image, truth and segments are volumes of one shape",
            path,
            f"{image.shape}, {truth.shape}, {segments.shape}",
        )
    if affinities is not None and affinities.shape[1:] != image.shape:
        raise DataError("affinities and image differ in shape", path, affinities.shape)
    if not 0 <= z < len(image):
        raise DataError("no such section", path, z, f"sections: {len(image)}")
    longest = max(image.shape[1:])
    thin, zoom = max(1, longest // PANEL), max(1, round(PANEL / longest))
    section = (z, slice(None, None, thin), slice(None, None, thin))
    gray = _gray(image[section])
    true, made = truth[section], segments[section]
    true_colors = dict(zip(np.unique(true).tolist(), colors_of(np.unique(true))))
    panels = [("image", _enlarged(_rgb(gray), zoom))]
    if affinities is not None:
        mean = affinities[(slice(None), *section)].mean(axis=0) / 255
        panels.append(("affinities, mean", _enlarged(_rgb(mean.astype(np.float32)), zoom)))
    panels.append(("truth", _overlay(gray, true, true_colors, zoom)))
    table = cluster_table(truth, segments)
    panels.append(("segments", _overlay(gray, made, _matched(table), zoom)))
    panels.append(("errors", _errors(gray, true, made, table, zoom)))
    um_per_pixel = spacing[2] * thin / zoom
    _save(panels, um_per_pixel, path)
    return Path(path)


def _gray(plane: np.ndarray) -> np.ndarray:
    low, high = np.percentile(plane, (0.5, 99.5))
    return np.clip((plane - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)


def _rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


def _enlarged(picture: np.ndarray, zoom: int) -> np.ndarray:
    return np.repeat(np.repeat(picture, zoom, axis=0), zoom, axis=1)


def _borders(ids: np.ndarray) -> np.ndarray:
    """Pixels of an enlarged map whose right or lower neighbour is another id."""
    out = np.zeros(ids.shape, bool)
    out[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    out[:-1] |= ids[:-1] != ids[1:]
    return out


def _overlay(gray: np.ndarray, ids: np.ndarray, colors: dict, zoom: int) -> np.ndarray:
    present, place = np.unique(ids, return_inverse=True)
    table = np.array([colors.get(int(i), (0.5, 0.5, 0.5)) for i in present], np.float32)
    tint = table[place].reshape(*ids.shape, 3)
    mixed = _rgb(gray) * (1 - OPACITY) + tint * OPACITY
    mixed[ids == 0] = _rgb(gray)[ids == 0]
    big = _enlarged(mixed, zoom)
    big[_borders(_enlarged(ids, zoom))] = 0.05
    return big


def _matched(table: ClusterTable) -> dict:
    """Segment -> colour: the neuron's that it covers most, varied where it is not the largest."""
    order = np.lexsort((table.truth_ids, -table.counts))
    covers: dict[int, int] = {}
    for i in order:
        covers.setdefault(int(table.segment_ids[i]), int(table.truth_ids[i]))
    ranks: dict[int, int] = {}
    colors = {}
    for segment, neuron in covers.items():
        rank = ranks.get(neuron, 0)
        ranks[neuron] = rank + 1
        base = colors_of(np.array([neuron]))[0]
        toward = 1.0 if rank % 2 else 0.0
        share = 0.0 if not rank else 0.25 + 0.15 * min(2, (rank - 1) // 2)
        colors[segment] = base * (1 - share) + toward * share
    return colors


def _errors(
    gray: np.ndarray, truth: np.ndarray, segments: np.ndarray, table: ClusterTable, zoom: int
) -> np.ndarray:
    """Splits and merges over a pale image.

    A border that lies a pixel or two beside the true one is neither: both sides must share at
    least SHARED of the smaller of neuron and segment, in the whole volume. Where the truth leaves
    membranes 0, a merge is drawn along their middle.
    """
    big = _enlarged(0.55 + 0.4 * _rgb(gray), zoom)
    met = truth
    if (truth > 0).any() and (truth == 0).any():
        nearest = distance_transform_edt(truth == 0, return_distances=False, return_indices=True)
        met = truth[tuple(nearest)]
    for color, line, within, neurons in (
        (SPLIT, segments, truth, truth),
        (MERGE, met, segments, met),
    ):
        real = _shares(neurons, segments, table)
        mark = np.zeros(truth.shape, bool)
        for axis in (0, 1):
            low = tuple(slice(None, -1) if a == axis else slice(None) for a in (0, 1))
            high = tuple(slice(1, None) if a == axis else slice(None) for a in (0, 1))
            wrong = (line[low] != line[high]) & (within[low] == within[high])
            wrong &= real[low] & real[high]
            mark[low] |= wrong
            mark[high] |= wrong
        big[_enlarged(mark, zoom)] = np.array(color, np.float32) / 255
    return big


def _shares(truth: np.ndarray, segments: np.ndarray, table: ClusterTable) -> np.ndarray:
    """Pixels whose neuron and segment share SHARED of the smaller one; never those of id 0."""
    _, row, neurons = marginal(table.truth_ids, table.counts)
    _, column, bodies = marginal(table.segment_ids, table.counts)
    enough = table.counts >= SHARED * np.minimum(neurons[row], bodies[column])
    enough &= (table.truth_ids > 0) & (table.segment_ids > 0)
    pairs = set(zip(table.truth_ids[enough].tolist(), table.segment_ids[enough].tolist()))
    ids, place = np.unique(
        np.stack([truth.ravel(), segments.ravel()]).astype(np.uint64), axis=1, return_inverse=True
    )
    known = np.array([(int(a), int(b)) in pairs for a, b in ids.T], bool)
    return known[place].reshape(truth.shape)


def _save(panels: list[tuple[str, np.ndarray]], um_per_pixel: float, path: Path) -> None:
    from PIL import Image, ImageDraw

    height, width = panels[0][1].shape[:2]
    total = len(panels) * width + (len(panels) + 1) * GAP
    sheet = Image.new("RGB", (total, HEAD + height + FOOT), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (title, picture) in enumerate(panels):
        left = GAP + number * (width + GAP)
        pixels = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
        sheet.paste(Image.fromarray(pixels), (left, HEAD))
        draw.text((left, HEAD - 12), title, INK, font=font(22, bold=True), anchor="ls")
    length_um, _ = scale_bar(width * um_per_pixel)
    y = HEAD + height + 16
    draw.rectangle([GAP, y, GAP + round(length_um / um_per_pixel), y + 5], INK)
    right = GAP + round(length_um / um_per_pixel) + 10
    draw.text((right, y + 3), bar_text(length_um), INK, font=font(20), anchor="lm")
    left = GAP + (len(panels) - 1) * (width + GAP)
    for color, word in ((SPLIT, "split"), (MERGE, "merged")):
        draw.rectangle([left, y - 2, left + 26, y + 8], color)
        draw.text((left + 36, y + 3), word, SOFT, font=font(20), anchor="lm")
        left += 150
    with written_beside(path) as beside:
        sheet.save(beside, format="PNG")
